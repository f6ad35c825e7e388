"""What other nodes say, as events: the port of the peer API."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from bacalhau.model.ledger import Receipt, SettlementNote, TradeSide
from bacalhau.model.market import Award
from bacalhau.model.refusals import Refusal, RefusalReason, Refused, refused
from bacalhau.node.membership import PEERS_MAX
from bacalhau.node.prompt_awards import PromptAwards
from bacalhau.node.receipts import note_between, signed_before
from bacalhau.p2p.bans import Bucket
from bacalhau.rpc.limits import RECEIPTS_RETURNED_MAX
from bacalhau.rpc.peer_api import ClearingPage
from bacalhau.rpc.receipts import ReceiptsAnswer
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.executions import answer_late_report
from bacalhau.wire.envelope import Opened, SignedEnvelope, open_message
from bacalhau.wire.job import spec_digest
from bacalhau.wire.statements import Acknowledgement, Cancellation, LogRequest, OfferClosed, RevealRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from bacalhau.market.bidding import Quote
    from bacalhau.market.clearing import SealedBid
    from bacalhau.model.cid import Cid
    from bacalhau.model.execution import ExecutionReport
    from bacalhau.model.market import Bid, Decline, JobOffer, LeaseRenewal
    from bacalhau.model.node import NodeRecord
    from bacalhau.model.verification import ResultCommitment
    from bacalhau.node.driver import Driver
    from bacalhau.node.happenings import Happenings
    from bacalhau.node.membership import Membership
    from bacalhau.node.quotes import Quotes
    from bacalhau.node.serving import Serving
    from bacalhau.node.signer import Signer
    from bacalhau.node.small_results import SmallResults
    from bacalhau.node.works import Works
    from bacalhau.store.store import Store

log = logging.getLogger(__name__)

OFFERS_PER_S, OFFERS_BURST = 200.0, 1000
"""Gossiped offers of one requester that are answered."""
ANSWER_HOLDS_S = 4.0
"""So long an offer that is gossiped again was answered already: it is repeated for the sake of those who have not, and
asks the others again by gRPC where their answer was lost, or after five seconds."""
ANSWERED_MAX = 10_000
STEPS_TO_BID = 3
"""Of the event loop until a bid has left: the turn's end, the delivery, and gRPC's own. The answer to the offer, for
which no job waits, would hold up the bid for as long as it takes to send."""


class Inbound:
    """See the module. `lease_us` is the term that this requester grants."""

    def __init__(
        self,
        signer: Signer,
        driver: Driver,
        store: Store,
        membership: Membership,
        works: Works,
        small_results: SmallResults,
        serving: Serving,
        happenings: Happenings,
        quotes: Quotes,
        lease_us: int,
    ) -> None:
        self.node_id = signer.node_id
        self.envelopes_refused: Counter[str] = Counter()
        """By reason."""
        self.prompt_awards = PromptAwards()
        self.offers_passed_over = 0
        """Gossiped ones that were too many of one requester."""
        self._allowances: dict[str, Bucket] = {}
        self._answered: dict[tuple[str, str], float] = {}
        """By requester and offer: when a gossiped one was answered, oldest first."""
        self._signer = signer
        self._driver = driver
        self._store = store
        self._membership = membership
        self._works = works
        self._small_results = small_results
        self._serving = serving
        self._happenings = happenings
        self._quotes = quotes
        self._lease_us = lease_us

    def envelope_refused(self, refusal: Refusal) -> None:
        self.envelopes_refused[refusal.reason.name] += 1

    def now_us(self) -> int:
        return self._driver.clock.now()

    # --- PeerService ---

    def own_record(self) -> SignedEnvelope:
        return self._membership.own_envelope()

    def live_records(self) -> Sequence[SignedEnvelope]:
        return self._membership.live_envelopes()

    async def record_announced(self, opened: Opened[NodeRecord], envelope: SignedEnvelope) -> None:
        self._membership.announced(opened, envelope, "announced")

    # --- RequesterService ---

    async def bid_received(self, opened: Opened[Bid]) -> tuple[SignedEnvelope, SignedEnvelope | None]:
        event = ev.BidReceived(opened.sender, opened.body, opened.digest, opened.raw, opened.issued_at_us)
        with self.prompt_awards.answering(opened.sender, opened.body.offer_id) as slot:
            refusal = self._driver.tell_requester(event)
            # Looked up in the same step: the auction may have ended by the time that it is on disk.
            sealed = self._driver.requester.acknowledged(opened.body.offer_id, opened.sender)
            if refusal is not None:
                return self._answer_to_bid(opened, sealed, refusal), None
            on_disk = self._driver.commit()
            await asyncio.sleep(0)  # it goes there while this is signed
            acknowledgement = self._answer_to_bid(opened, sealed, None)
            await on_disk
        if slot.award is None:
            return acknowledgement, None
        return acknowledgement, slot.envelope or self._signer.seal_message(slot.award, opened.sender)

    def _answer_to_bid(
        self, opened: Opened[Bid], sealed: SealedBid | None, refusal: Refusal | None
    ) -> SignedEnvelope:
        if refusal is not None or sealed is None or sealed.bid.id != opened.body.id:
            return self._acknowledge(opened, Acknowledgement(opened.statement_id, opened.digest, refusal))
        taken = Acknowledgement(
            opened.statement_id,
            sealed.digest,
            None,
            sealed.received_us,
            sealed.position,
            sealed.reputation_permille,
        )
        return self._acknowledge(opened, taken)

    async def decline_received(self, opened: Opened[Decline]) -> SignedEnvelope:
        event = ev.DeclineReceived(opened.sender, opened.body, opened.raw, opened.issued_at_us)
        refusal = await self._driver.ask_requester(event)
        return self._acknowledge(opened, Acknowledgement(opened.statement_id, opened.digest, refusal))

    def _acknowledge(self, opened: Opened[Any], acknowledgement: Acknowledgement) -> SignedEnvelope:
        return self._signer.seal_message(acknowledgement, opened.sender)

    async def report_received(
        self, opened: Opened[ExecutionReport], blocks: Sequence[tuple[Cid, bytes]]
    ) -> None:
        event = ev.ReportReceived(opened.sender, opened.body)
        result = opened.body.result
        if blocks and result is not None and self._driver.requester.awaits(result_of=event):
            whole = self._small_results.accepted(result, blocks)
            if whole:
                self._driver.keep(whole)
                self._small_results.remember(result)
        refusal = await self._driver.ask_requester(event)
        if refusal is not None and refusal.reason is RefusalReason.NOT_FOUND:
            # The machine only holds open jobs: the answer to the first copy may have been lost.
            stored = await asyncio.to_thread(self._store.execution, opened.body.execution_id)
            late = answer_late_report(stored, event)
            self._driver.write(late.writes)
            refusal = late.refusal
        if refusal is not None:
            # What is kept of a late report is on disk before its node hears that it is not paid.
            await self._driver.committed()
            raise Refused(refusal)

    async def note_received(self, opened: Opened[SettlementNote]) -> SignedEnvelope:
        note = note_between(opened, opened.sender, self.node_id)
        refusal = await self._driver.ask_requester(ev.NoteReceived(note, opened.raw))
        if refusal is not None:
            raise Refused(refusal)
        known = self._driver.requester.payables.balances[note.creditor_id]
        if (note.sequence, note.settled_microcredits) != (known.note_sequence, known.settled_microcredits):
            raise refused(
                RefusalReason.WRONG_STATE, f"this node knows the note {known.note_sequence}, and what it says"
            )
        return self._signer.seal_message(note, opened.sender)

    async def commitment_received(self, opened: Opened[ResultCommitment]) -> None:
        refusal = await self._driver.ask_requester(ev.CommitmentReceived(opened.sender, opened.body))
        if refusal is not None:
            raise Refused(refusal)

    async def renewal_received(self, opened: Opened[LeaseRenewal]) -> int:
        renewal = opened.body
        refusal = await self._driver.ask_requester(ev.RenewalReceived(opened.sender, renewal))
        if refusal is not None:
            raise Refused(refusal)
        job_id = self._driver.requester.job_of(renewal.execution_id)
        self._happenings.renewed(job_id, opened.sender, renewal, self.now_us())
        return self._lease_us

    def clearing(self, offer_id: str, sequence: int, page_size: int, page_token: str) -> ClearingPage:
        offer = self._store.offer(offer_id)
        if offer is None:
            raise refused(RefusalReason.NOT_FOUND, f"no offer {offer_id} of this node")
        clearings = [c for c in self._store.clearings(offer.job_id) if c.clearing.offer_id == offer_id]
        if not clearings:
            raise refused(
                RefusalReason.WRONG_STATE, f"no award was made from the bids on {offer_id}: they stay sealed"
            )
        if not 0 <= sequence <= len(clearings):
            raise refused(
                RefusalReason.NOT_FOUND, f"offer {offer_id} has {len(clearings)} clearings, none {sequence}"
            )
        chosen = clearings[sequence - 1]  # 0 is the last
        bids, token = self._store.cleared_bids(chosen, page_size=page_size, page_token=page_token)
        sealed = self._signer.seal_message(chosen.clearing, "")
        return ClearingPage(chosen.clearing, sealed, len(clearings), bids, token)

    # --- gossip ---

    def record_gossiped(self, opened: Opened[NodeRecord], envelope: SignedEnvelope) -> None:
        self._membership.record_gossiped(opened, envelope)

    def offers_gossiped(self, offers: Sequence[Opened[JobOffer]]) -> None:
        """Offers, all of one node. Where its record has not come yet, or nothing answers where that says, they wait for
        their repetition: no bid would get there, and what it holds would be held for nobody."""
        self._membership.when_linked(offers[0].sender, functools.partial(self._answer_offers, offers))

    def _answer_offers(self, offers: Sequence[Opened[JobOffer]]) -> None:
        """Those above what one requester may ask of this node's processor wait for their repetition, too: a message
        holds many, and each is answered."""
        now = time.monotonic()
        allowance = self._allowance(offers[0].sender, now)
        self._forget_answered(now)
        for opened in offers:
            key = (opened.sender, opened.body.id)
            if key in self._answered:
                continue
            if not allowance.take(now):
                self.offers_passed_over += 1
                continue
            self._answered[key] = now
            with contextlib.suppress(Refused):  # the node stops
                self._driver.tell_compute(ev.OfferReceived(opened.sender, opened.body))

    def _forget_answered(self, now: float) -> None:
        while self._answered:
            oldest, answered = next(iter(self._answered.items()))
            if answered + ANSWER_HOLDS_S > now and len(self._answered) <= ANSWERED_MAX:
                return
            del self._answered[oldest]

    def _allowance(self, requester_id: str, now: float) -> Bucket:
        bucket = self._allowances.get(requester_id)
        if bucket is None:
            if len(self._allowances) >= PEERS_MAX:
                del self._allowances[next(iter(self._allowances))]
            bucket = self._allowances[requester_id] = Bucket(OFFERS_PER_S, OFFERS_BURST, now)
        return bucket

    def peer_met(self, node_id: str, found_by: str) -> None:
        self._membership.peer_met(node_id, found_by)

    # --- ComputeService ---

    async def offers_received(self, offers: Sequence[Opened[JobOffer]]) -> None:
        for opened in offers:
            refusal = self._driver.tell_compute(ev.OfferReceived(opened.sender, opened.body, opened.raw))
            if refusal is not None and len(offers) == 1:
                raise Refused(refusal)
        for _ in range(STEPS_TO_BID):
            await asyncio.sleep(0)

    async def quote(self, opened: Opened[JobOffer]) -> Refusal | Quote:
        return await self._quotes.quote(opened.sender, opened.body)

    async def award_received(self, opened: Opened[Award]) -> None:
        refusal = self._awarded(opened)
        if refusal is not None:
            raise Refused(refusal)
        await self._driver.committed()

    def prompt_award_received(self, requester_id: str, envelope: SignedEnvelope) -> None:
        """An award that came with the answer to a bid. Nobody waits for a word on it: it is on disk before its report
        leaves, and one that is refused comes again by a call."""
        try:
            opened = open_message(envelope, Award, now_us=self.now_us(), self_id=self.node_id)
        except Refused as error:
            self.envelope_refused(error.refusal)
            return
        if opened.sender != requester_id:
            log.warning("%s handed over an award of %s, which is left alone", requester_id, opened.sender)
        elif (refusal := self._awarded(opened)) is not None:
            log.info("an award of %s is refused: %s", requester_id, refusal.message)

    def _awarded(self, opened: Opened[Award]) -> Refusal | None:
        award = opened.body
        # A look-up by key, which takes less time than a hop to a thread.
        ended = self._store.work(award.execution_id) if self._unheld(award.execution_id) else None
        event = ev.AwardReceived(opened.sender, award, spec_digest(award.spec), ended)
        return self._driver.tell_compute(event)

    def _unheld(self, execution_id: str) -> bool:
        return self._driver.compute.work(execution_id) is None

    async def receipts_received(
        self,
        receipts: Sequence[Opened[Receipt]],
        signed: Sequence[SignedEnvelope],
        note: SignedEnvelope | None,
    ) -> ReceiptsAnswer:
        """In order, up to the first that is refused; what is signed is on disk."""
        taken: list[Receipt] = []
        refusal = None
        for place, opened in enumerate(receipts):
            if signed and signed_before(signed[place], Receipt, self_id=self.node_id) != opened.body:
                raise refused(RefusalReason.MALFORMED, "this node signed another receipt than that")
            refusal = await self._receipt_received(opened, signed_before=bool(signed))
            if refusal is not None:
                break
            taken.append(opened.body)
        if not receipts:
            return ReceiptsAnswer(())
        requester_id, receivables = receipts[0].sender, self._driver.compute.receivables
        known = self._note_returned(note, requester_id)
        await self._driver.committed()
        answers = tuple(self._signer.seal_message(receipt, receipt.requester_id) for receipt in taken)
        both: tuple[tuple[SignedEnvelope, SignedEnvelope], ...] = ()
        if refusal is not None and refusal.reason is RefusalReason.ID_REUSED:
            both = await self._signed_from(receipts[len(taken)].body)
        last = receivables.last_note(requester_id, self.now_us())
        newer = (
            self._signer.seal_message(last, requester_id)
            if last is not None and last.sequence > known
            else None
        )
        next_sequence = receivables.next_sequence(requester_id) if refusal is not None else 0
        return ReceiptsAnswer(answers, refusal, next_sequence, both, newer)

    def _note_returned(self, envelope: SignedEnvelope | None, debtor_id: str) -> int:
        """The debtor says which of this node's settlement notes it has; its sequence, 0 where that is none."""
        if envelope is None:
            return 0
        note = signed_before(envelope, SettlementNote, self_id=self.node_id)
        if (note.creditor_id, note.debtor_id) != (self.node_id, debtor_id):
            raise refused(RefusalReason.MALFORMED, "the note is between other nodes")
        self._driver.tell_compute(ev.NoteReturned(note))
        return note.sequence

    async def _signed_from(self, receipt: Receipt) -> tuple[tuple[SignedEnvelope, SignedEnvelope], ...]:
        """Another has the receipt's number, and its requester has forgotten it: what both have signed from there on."""
        requester_id, sequence = receipt.requester_id, receipt.sequence
        kept = await asyncio.to_thread(
            self._store.signed_receipts, TradeSide.SELLING, requester_id, sequence, RECEIPTS_RETURNED_MAX
        )
        return tuple(
            (
                SignedEnvelope.FromString(record.evidence or b""),
                self._signer.seal_message(record.receipt, requester_id),
            )
            for record in kept
        )

    async def _receipt_received(self, opened: Opened[Receipt], *, signed_before: bool) -> Refusal | None:
        receipt, execution_id = opened.body, opened.body.execution_id
        if (opened.sender, self.node_id) != (receipt.requester_id, receipt.node_id):
            return Refusal(RefusalReason.MALFORMED, "the receipt is not of its sender, or not for this node")
        if self._driver.compute.receivables.knows(receipt):
            await self._driver.committed()
            kept = await asyncio.to_thread(
                self._store.receipt, TradeSide.SELLING, opened.sender, receipt.sequence
            )
            if kept is not None and kept.receipt == receipt:
                return None
            return Refusal(RefusalReason.ID_REUSED, f"the receipt {receipt.sequence} was another before")
        ended = None
        if self._unheld(execution_id):
            ended = await asyncio.to_thread(self._store.work, execution_id)
        event = ev.ReceiptReceived(receipt, opened.raw, ended, signed_before)
        return self._driver.tell_compute(event)

    async def offer_closed(self, opened: Opened[OfferClosed]) -> None:
        self._driver.tell_compute(ev.OfferClosedReceived(opened.sender, opened.body.offer_id))

    async def reveal_requested(self, opened: Opened[RevealRequest]) -> None:
        event = ev.RevealRequested(opened.sender, opened.body.execution_id)
        refusal = await self._driver.ask_compute(event)
        if refusal is not None:
            raise Refused(refusal)

    async def cancellation_received(self, opened: Opened[Cancellation]) -> None:
        refusal = self._driver.tell_compute(ev.CancellationReceived(opened.sender, opened.body.execution_id))
        if refusal is not None:
            raise Refused(refusal)

    async def execution_logs(self, opened: Opened[LogRequest]) -> AsyncGenerator[tuple[int, bytes], None]:
        execution_id = opened.body.execution_id
        record = self._driver.compute.work(execution_id) or await asyncio.to_thread(
            self._store.work, execution_id
        )
        if record is None or record.requester_id != opened.sender:
            raise refused(RefusalReason.NOT_FOUND, f"no execution {execution_id} of yours here")
        output = self._works.output(execution_id, follow=opened.body.follow)
        async with contextlib.aclosing(output):
            async for piece in output:
                yield piece

    # --- BlockService ---

    def blocks(
        self, cids: Sequence[Cid], *, recursive: bool
    ) -> AsyncGenerator[list[tuple[Cid, bytes]], None]:
        return self._serving.blocks(cids, recursive=recursive)
