"""Delivers what the machines send: signed, to other nodes by gRPC, to this one directly; answers become events.

Offers are gossiped where libp2p runs, again while many stay silent, and go by gRPC to those whom gossip does not reach,
or who are the last to stay silent.

What is for this node skips signature and network, but for bids, whose envelopes are evidence. Nothing is retried
here: the machines send again what must arrive.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from bacalhau.background import Background
from bacalhau.model.frozen import replace
from bacalhau.model.refusals import Refusal, Refused
from bacalhau.node.prompt_awards import CALL_AFTER_S
from bacalhau.node.receipts import ReceiptSender, signed_again
from bacalhau.rpc.limits import OFFERS_PER_CALL_MAX
from bacalhau.rpc.peer_client import PeerLink, PeerUnreachable
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.wire.envelope import Body, Opened, SignedEnvelope, open_message
from bacalhau.wire.job import spec_digest
from bacalhau.wire.statements import Acknowledgement, Cancellation, OfferClosed, RevealRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable
    from typing import Any

    from bacalhau.model.execution import ExecutionReport
    from bacalhau.model.ledger import Receipt, SettlementNote
    from bacalhau.model.market import Award, JobOffer, LeaseRenewal
    from bacalhau.node.driver import Driver
    from bacalhau.node.happenings import Happenings
    from bacalhau.node.inbound import Inbound
    from bacalhau.node.membership import Membership
    from bacalhau.node.signer import Signer
    from bacalhau.node.small_results import SmallResults
    from bacalhau.store.store import Store

log = logging.getLogger(__name__)

REPEAT_FIRST_S, REPEAT_LAST_S = 0.5, 5.0
"""Between two gossips of an offer: twice as long each time."""
DIRECT_MAX = 8
"""So many nodes are offered a job by gRPC, which is quicker and is not lost; others hear of it by gossip if it is still
open when that is due."""
AWARD_FIRST_S = 0.01
"""An award comes right behind the acknowledgement of its bid, for which nobody waits."""


class Outbox:
    """See the module. `lease_us` is the term that this node grants to itself; `store` has what the machines do not
    hold."""

    def __init__(
        self,
        signer: Signer,
        driver: Driver,
        membership: Membership,
        small_results: SmallResults,
        happenings: Happenings,
        lease_us: int,
        store: Store,
        inbound: Inbound,
        *,
        gossips_offers: bool,
    ) -> None:
        self._signer = signer
        self._self_id = signer.node_id
        self._driver = driver
        self._membership = membership
        self._lease_us = lease_us
        self._small_results = small_results
        self._happenings = happenings
        self._store = store
        self._inbound = inbound
        self._gossips_offers = gossips_offers
        """Gossip reaches everybody, so no offer that is for some nodes goes by it."""
        self._offers: defaultdict[str, list[SignedEnvelope]] = defaultdict(list)
        """By node: offers that wait for the call that carries them together."""
        self._offering: set[str] = set()
        self._ready: dict[str, SignedEnvelope] = {}
        """By execution: reports that are signed, and wait until they are on disk."""
        self._repeating: set[str] = set()
        """Offers that are gossiped again and again."""
        self._receipts = ReceiptSender(signer, driver, membership, store)
        self._background = Background()
        self._closed = False

    def deliver_here(self, send: fx.Send) -> fx.Send | None:
        """Hands over what is for this node; what is left for others."""
        if isinstance(send, (fx.SendOffer, fx.SendOfferClosed)):
            if self._self_id not in send.to:
                return send
            self._deliver_here(send)
            others = tuple(node_id for node_id in send.to if node_id != self._self_id)
            return replace(send, to=others) if others else None
        if send.to != self._self_id:
            return send
        self._deliver_here(send)
        return None

    def make_ready(self, send: fx.Send) -> None:
        """Signs what is to leave when it is on disk, and is waited for by a job."""
        match send:
            case fx.SendReport(to=to, report=report):
                self._ready[report.execution_id] = self._signer.seal_message(report, to)
            case fx.SendAward():
                self._inbound.prompt_awards.make_ready(send, self._signer)

    def send(self, send: fx.Send) -> None:
        """Sends to other nodes; nothing any more once it is closed."""
        if self._closed:
            return
        if isinstance(send, fx.SendOffer):
            self._send_offer(send)
        elif isinstance(send, fx.SendReceipts):
            if self._receipts.add(send):
                self._spawn(self._receipts.deliver(send.to))
        elif isinstance(send, fx.SendAward) and self._inbound.prompt_awards.take(send):
            asyncio.get_running_loop().call_later(CALL_AFTER_S, self._call_if_unconfirmed, send)
        else:
            self._spawn(self._deliver(send))

    async def close(self) -> None:
        self._closed = True
        await self._background.close()

    # --- to this node ---

    def _deliver_here(self, send: fx.Send) -> None:
        driver = self._driver
        match send:
            case fx.SendOffer(offer=offer):
                driver.tell_compute(ev.OfferReceived(self._self_id, offer))
            case fx.SendBid(bid=bid):
                issued_us = driver.clock.now()
                raw = self._signer.seal(bid, self._self_id, issued_us=issued_us)
                digest = hashlib.sha256(raw).digest()
                refusal = driver.tell_requester(ev.BidReceived(self._self_id, bid, digest, raw, issued_us))
                if refusal is not None:
                    driver.tell_compute(ev.BidRefused(bid.offer_id, refusal))
            case fx.SendDecline(decline=decline):
                declined = ev.DeclineReceived(self._self_id, decline, issued_us=driver.clock.now())
                driver.tell_requester(declined)
            case fx.SendAward(award=award):
                refusal = driver.tell_compute(ev.AwardReceived(self._self_id, award, spec_digest(award.spec)))
                driver.tell_requester(
                    ev.AwardConfirmed(award.execution_id)
                    if refusal is None
                    else ev.AwardRefused(award.execution_id, refusal)
                )
            case fx.SendReport(report=report):
                refusal = driver.tell_requester(ev.ReportReceived(self._self_id, report))
                driver.tell_compute(ev.ReportAnswered(report.execution_id, refusal))
            case fx.SendCommitment(commitment=commitment):
                refusal = driver.tell_requester(ev.CommitmentReceived(self._self_id, commitment))
                driver.tell_compute(ev.CommitmentAnswered(commitment.execution_id, refusal))
            case fx.SendRevealRequest(execution_id=execution_id):
                refusal = driver.tell_compute(ev.RevealRequested(self._self_id, execution_id))
                if refusal is not None:
                    driver.tell_requester(ev.RevealRefused(execution_id, refusal))
            case fx.SendRenewal(renewal=renewal):
                sent_us = driver.clock.now()
                refusal = driver.tell_requester(ev.RenewalReceived(self._self_id, renewal))
                job_id = driver.requester.job_of(renewal.execution_id)
                self._happenings.renewed(job_id, self._self_id, renewal, sent_us)
                driver.tell_compute(
                    ev.LeaseRenewed(renewal.execution_id, sent_us, self._lease_us)
                    if refusal is None
                    else ev.RenewalRefused(renewal.execution_id, refusal)
                )
            case fx.SendReceipts(receipts=receipts):
                self._sign_here(receipts)
            case fx.SendNote(note=note):
                if driver.tell_requester(ev.NoteReceived(note)) is None:
                    driver.tell_compute(ev.NoteSigned(note))
            case fx.SendOfferClosed(offer_id=offer_id):
                driver.tell_compute(ev.OfferClosedReceived(self._self_id, offer_id))
            case fx.SendCancellation(execution_id=execution_id):
                driver.tell_compute(ev.CancellationReceived(self._self_id, execution_id))

    def _sign_here(self, receipts: tuple[Receipt, ...]) -> None:
        """Own work: nothing is signed until somebody asks for the receipt."""
        signed: list[tuple[int, bytes]] = []
        refusal = None
        for receipt in receipts:
            held = self._driver.compute.work(receipt.execution_id) is not None
            ended = None if held else self._store.work(receipt.execution_id)
            refusal = self._driver.tell_compute(ev.ReceiptReceived(receipt, b"", ended))
            if refusal is not None:
                break
            signed.append((receipt.sequence, b""))
        self._driver.tell_requester(ev.ReceiptsAnswered(self._self_id, tuple(signed), refusal))

    # --- to other nodes ---

    async def _send_note(self, to: str, note: SettlementNote) -> None:
        async def sign(link: PeerLink, envelope: SignedEnvelope) -> None:
            answer, now_us = await link.sign_settlement(envelope), self._driver.clock.now()
            evidence = signed_again(answer, note, sender=to, now_us=now_us, self_id=self._self_id)
            self._driver.tell_compute(ev.NoteSigned(note, evidence))

        await self._call(to, note, sign)

    def _send_offer(self, send: fx.SendOffer) -> None:
        sealed = self._signer.seal_message(send.offer, "")
        network, offer_id = self._membership.network if self._gossips_offers else None, send.offer.id
        direct = send.to
        if network is not None:
            gossiped = len(send.to) > DIRECT_MAX
            if gossiped:
                network.publish_offers((sealed,))
                direct = tuple(node_id for node_id in send.to if not self._membership.hears_gossip(node_id))
            if offer_id not in self._repeating:
                self._repeating.add(offer_id)
                unsure = set(send.to).difference(direct)
                self._spawn(self._repeat(send.offer, unsure, gossiped=gossiped))
        self._offer_directly(sealed, direct)

    async def _repeat(self, offer: JobOffer, unsure: set[str], *, gossiped: bool) -> None:
        """Gossips an offer once, and again while many do not answer, for it may be lost; a few get it again by gRPC.
        Of many, those that should have heard it and do not answer get it so once. Each repetition costs an answer of
        everybody who hears it."""
        wait_s = REPEAT_FIRST_S
        try:
            while True:
                await asyncio.sleep(wait_s)
                awaited = self._driver.requester.awaited(offer.id)
                network = self._membership.network
                if awaited is None or network is None or (gossiped and not awaited):
                    return
                sealed = self._signer.seal_message(offer, "")
                few = len(awaited) <= DIRECT_MAX
                if not (gossiped and few):
                    network.publish_offers((sealed,))
                    gossiped = True
                self._offer_directly(sealed, awaited if few else unsure.intersection(awaited))
                unsure.clear()
                wait_s = min(2 * wait_s, REPEAT_LAST_S)
        finally:
            self._repeating.discard(offer.id)

    def _offer_directly(self, sealed: SignedEnvelope, to: Iterable[str]) -> None:
        for node_id in to:
            self._offers[node_id].append(sealed)
            if node_id not in self._offering:
                self._offering.add(node_id)
                self._spawn(self._offer_to(node_id))

    async def _offer_to(self, node_id: str) -> None:
        """One message carries as many offers as wait."""
        try:
            while waiting := self._offers[node_id]:
                batch = waiting[:OFFERS_PER_CALL_MAX]
                del waiting[: len(batch)]
                link = await self._membership.link(node_id)
                await link.consider_offers(batch)
        except (PeerUnreachable, Refused) as failure:
            log.info("offers to %s: %s", node_id, failure)
        finally:
            self._offering.discard(node_id)
            self._offers.pop(node_id, None)

    async def _deliver(self, send: fx.Send) -> None:
        driver = self._driver
        match send:
            case fx.SendBid():
                await self._send_bid(send)
            case fx.SendDecline(to=to, decline=decline):
                await self._call(to, decline, PeerLink.submit_decline)
            case fx.SendAward(to=to, award=award):
                await self._send_award(to, award)
            case fx.SendReport(to=to, report=report):
                refusal = await self._send_report(to, report)
                if not isinstance(refusal, PeerUnreachable):
                    driver.tell_compute(ev.ReportAnswered(report.execution_id, refusal))
            case fx.SendCommitment(to=to, commitment=commitment):
                refusal = await self._call(to, commitment, PeerLink.commit_result)
                if not isinstance(refusal, PeerUnreachable):
                    driver.tell_compute(ev.CommitmentAnswered(commitment.execution_id, refusal))
            case fx.SendRevealRequest(to=to, execution_id=execution_id):
                refusal = await self._call(to, RevealRequest(execution_id), PeerLink.reveal_result)
                if isinstance(refusal, Refusal):
                    driver.tell_requester(ev.RevealRefused(execution_id, refusal))
            case fx.SendRenewal(to=to, renewal=renewal):
                await self._send_renewal(to, renewal)
            case fx.SendNote(to=to, note=note):
                await self._send_note(to, note)
            case fx.SendOfferClosed(to=nodes, offer_id=offer_id):
                closed = OfferClosed(offer_id)
                await asyncio.gather(*[self._call(to, closed, PeerLink.close_offer) for to in nodes])
            case fx.SendCancellation(to=to, execution_id=execution_id, message=message):
                await self._call(to, Cancellation(execution_id, message), PeerLink.cancel_execution)

    async def _send_bid(self, send: fx.SendBid) -> None:
        """The acknowledgement, signed, says whether the bid counts; it is kept, for it proves that it must. A bid that
        there is nobody to send to gives back what it holds; when the offer is heard again there is another."""
        bid, sent_us = send.bid, self._driver.clock.now()
        try:
            await self._membership.link(send.to)
        except PeerUnreachable as failure:
            log.info("a bid to %s: %s", send.to, failure)
            self._driver.tell_compute(ev.OfferClosedReceived(send.to, bid.offer_id))
            return
        answers: list[tuple[SignedEnvelope, Opened[Acknowledgement]]] = []

        async def submit(link: PeerLink, envelope: SignedEnvelope) -> None:
            answer, award = await link.submit_bid(envelope)
            if award is not None:
                self._inbound.prompt_award_received(send.to, award)
            await asyncio.sleep(AWARD_FIRST_S)
            now_us = self._driver.clock.now()
            opened = open_message(answer, Acknowledgement, now_us=now_us, self_id=self._self_id)
            answers.append((envelope, opened))

        refusal = await self._call(send.to, bid, submit)
        for envelope, opened in answers:
            if opened.sender != send.to:
                log.warning("the bid %s to %s was acknowledged by %s", bid.id, send.to, opened.sender)
                continue
            refusal = opened.body.refusal
            self._driver.tell_compute(
                ev.BidAcknowledged(
                    send.to,
                    send.job_id,
                    bid,
                    sent_us,
                    send.offer_envelope,
                    envelope.SerializeToString(),
                    opened.raw,
                    refusal,
                )
            )
        if isinstance(refusal, Refusal):
            self._driver.tell_compute(ev.BidRefused(bid.offer_id, refusal))

    def _call_if_unconfirmed(self, send: fx.SendAward) -> None:
        if not self._closed and self._driver.requester.is_unconfirmed(send.award.execution_id):
            self._spawn(self._deliver(send))

    async def _send_award(self, to: str, award: Award) -> None:
        refusal = await self._call(to, award, PeerLink.award)
        if refusal is None:
            event: ev.RequesterEvent = ev.AwardConfirmed(award.execution_id)
        elif isinstance(refusal, Refusal):
            event = ev.AwardRefused(award.execution_id, refusal)
        else:
            event = ev.AwardUnanswered(award.execution_id)
        self._driver.tell_requester(event)

    async def _send_report(self, to: str, report: ExecutionReport) -> Refusal | PeerUnreachable | None:
        """With a small result along, which saves the requester from asking for it."""
        blocks = self._small_results.blocks_of(report.result) if report.result is not None else []

        async def send(link: PeerLink, envelope: SignedEnvelope) -> None:
            await link.report_execution(envelope, blocks)

        return await self._call(to, self._ready.pop(report.execution_id, report), send)

    async def _send_renewal(self, to: str, renewal: LeaseRenewal) -> None:
        sent_us = self._driver.clock.now()
        terms: list[int] = []

        async def renew(link: PeerLink, envelope: SignedEnvelope) -> None:
            terms.append(await link.renew_lease(envelope))

        refusal = await self._call(to, renewal, renew)
        if terms:
            self._driver.tell_compute(ev.LeaseRenewed(renewal.execution_id, sent_us, terms[0]))
        elif isinstance(refusal, Refusal):
            self._driver.tell_compute(ev.RenewalRefused(renewal.execution_id, refusal))

    async def _call(
        self,
        to: str,
        body: Body | SignedEnvelope,
        call: Callable[[PeerLink, SignedEnvelope], Awaitable[object]],
    ) -> Refusal | PeerUnreachable | None:
        """None where the node took it; else its refusal, or why it could not be reached."""
        try:
            link = await self._membership.link(to)
            await call(
                link, body if isinstance(body, SignedEnvelope) else self._signer.seal_message(body, to)
            )
        except Refused as error:
            log.info("%s to %s was refused: %s", type(body).__name__, to, error)
            return error.refusal
        except PeerUnreachable as failure:
            log.info("%s to %s: %s", type(body).__name__, to, failure)
            return failure
        return None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._background.start("a delivery", work)
