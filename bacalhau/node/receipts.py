"""Receipts to other nodes: sent together, signed by them; and what both had signed before one of them was restored.

A node that was restored from a backup has forgotten receipts that its peers have with its own signature. As compute
node it says which number it takes next, and gets those from there on with the envelopes that it signed. As requester it
gives out numbers a second time, and gets the receipts that have them. Whoever takes something back verifies its own
signature under it: nobody else's word is taken for what a node has signed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

from bacalhau.model.ledger import Receipt, SettlementNote, TradeSide
from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.rpc.limits import RECEIPTS_PER_CALL_MAX, RECEIPTS_RETURNED_MAX
from bacalhau.rpc.peer_client import PeerUnreachable
from bacalhau.scheduler import events as ev
from bacalhau.wire.envelope import open_message, open_stored
from bacalhau.wire.signed_receipt import open_signed_receipt

if TYPE_CHECKING:
    from bacalhau.node.driver import Driver
    from bacalhau.node.membership import Membership
    from bacalhau.node.signer import Signer
    from bacalhau.rpc.peer_client import PeerLink
    from bacalhau.rpc.receipts import ReceiptsAnswer
    from bacalhau.scheduler.effects import SendReceipts
    from bacalhau.store.store import Store
    from bacalhau.wire.envelope import Body, Opened, SignedEnvelope

log = logging.getLogger(__name__)

S = TypeVar("S", Receipt, SettlementNote)

RECEIPTS_WAIT_S = 0.25
"""Receipts hold nobody up, so that those of one moment travel together."""


def signed_again(answer: SignedEnvelope, body: Body, *, sender: str, now_us: int, self_id: str) -> bytes:
    """The envelope in which the other side signs the same. Raises Refused where it does not."""
    opened = open_message(answer, type(body), now_us=now_us, self_id=self_id)
    if opened.sender != sender or opened.body != body:
        raise refused(RefusalReason.MALFORMED, f"{sender} signed something else")
    return opened.raw


def signed_before(envelope: SignedEnvelope, kind: type[S], *, self_id: str) -> S:
    """What this node once signed, however long ago. Raises Refused(BAD_SIGNATURE) where another did."""
    opened = open_stored(envelope.SerializeToString(), kind)
    if opened.sender != self_id:
        raise refused(RefusalReason.BAD_SIGNATURE, f"{opened.sender} signed it, and not this node")
    return opened.body


def note_between(opened: Opened[SettlementNote], creditor_id: str, debtor_id: str) -> SettlementNote:
    """The note that a creditor signed. Raises Refused(MALFORMED) where it is another's, or for another."""
    note = opened.body
    if not (opened.sender == note.creditor_id == creditor_id and note.debtor_id == debtor_id):
        raise refused(RefusalReason.MALFORMED, "the note is not of its sender, or not for this node")
    return note


class ReceiptSender:
    """See the module."""

    def __init__(
        self,
        signer: Signer,
        driver: Driver,
        membership: Membership,
        store: Store,
    ) -> None:
        self._signer = signer
        self._self_id = signer.node_id
        self._driver = driver
        self._membership = membership
        self._store = store
        self._waiting: defaultdict[str, dict[int, Receipt]] = defaultdict(dict)
        """By node and sequence: receipts that wait for the call that carries them together."""
        self._sending: set[str] = set()

    def add(self, send: SendReceipts) -> bool:
        """Whether a delivery has to be begun: none is under way to that node."""
        self._waiting[send.to].update((receipt.sequence, receipt) for receipt in send.receipts)
        if send.to in self._sending:
            return False
        self._sending.add(send.to)
        return True

    async def deliver(self, node_id: str) -> None:
        """One call carries as many as wait, in the order of their sequence; they wait for each other."""
        try:
            await asyncio.sleep(RECEIPTS_WAIT_S)
            while waiting := self._waiting[node_id]:
                batch = [waiting.pop(sequence) for sequence in sorted(waiting)[:RECEIPTS_PER_CALL_MAX]]
                link = await self._membership.link(node_id)
                answer = await self._sign(link, batch, node_id)
                if await self._remind(link, node_id, answer.next_sequence, batch[0].sequence):
                    answer = await self._sign(link, batch, node_id)
                self._answered(node_id, batch, answer)
                if answer.signed_before:
                    await self._take_back(node_id, answer)
                if answer.note is not None:
                    self._note_received(node_id, answer.note)
        except (PeerUnreachable, Refused) as failure:
            log.info("receipts to %s: %s", node_id, failure)
        finally:
            self._sending.discard(node_id)
            self._waiting.pop(node_id, None)

    async def _sign(
        self, link: PeerLink, batch: list[Receipt], node_id: str, before: tuple[bytes, ...] = ()
    ) -> ReceiptsAnswer:
        """With the last note of the node that this one has, so that each hears where the other knows of a later one."""
        note = await asyncio.to_thread(self._store.last_note, TradeSide.BUYING, node_id)
        envelopes = [self._signer.seal_message(receipt, node_id) for receipt in batch]
        return await link.sign_receipts(envelopes, before, note.evidence if note is not None else b"")

    def _answered(self, node_id: str, batch: list[Receipt], answer: ReceiptsAnswer) -> None:
        signed = []
        for envelope, receipt in zip(answer.signed, batch, strict=False):
            now_us = self._driver.clock.now()
            raw = signed_again(envelope, receipt, sender=node_id, now_us=now_us, self_id=self._self_id)
            signed.append((receipt.sequence, raw))
        refusal = answer.refusal
        self._driver.tell_requester(ev.ReceiptsAnswered(node_id, tuple(signed), refusal))
        if refusal is not None and refusal.reason is not RefusalReason.WRONG_STATE:
            last = batch[-1].sequence
            log.warning("%s does not sign all receipts up to %d: %s", node_id, last, refusal.message)

    async def _take_back(self, node_id: str, answer: ReceiptsAnswer) -> None:
        """What this node has signed and forgotten. Raises Refused where it did not sign it, or has the execution in
        another receipt that both have signed: it may have been under way at two restores."""
        returned = tuple(
            self._returned(node_id, *pair) for pair in answer.signed_before[:RECEIPTS_RETURNED_MAX]
        )
        await self._driver.committed()
        known = await asyncio.to_thread(
            self._store.signed_sequences, TradeSide.BUYING, [receipt.execution_id for receipt, _ in returned]
        )
        for receipt, _ in returned:
            sequence = known.get(receipt.execution_id, receipt.sequence)
            if sequence != receipt.sequence:
                message = f"{receipt.execution_id} is in the receipt {sequence} already"
                raise refused(RefusalReason.MALFORMED, message)
        log.warning("%s has %d receipts that this node has signed, and forgotten", node_id, len(returned))
        # They have the numbers of those that wait, which come again under new ones.
        self._waiting[node_id].clear()
        self._driver.tell_requester(ev.ReceiptsReturned(node_id, returned))

    def _note_received(self, node_id: str, envelope: SignedEnvelope) -> None:
        now_us = self._driver.clock.now()
        opened = open_message(envelope, SettlementNote, now_us=now_us, self_id=self._self_id)
        note = note_between(opened, node_id, self._self_id)
        self._driver.tell_requester(ev.NoteReceived(note, opened.raw))

    def _returned(
        self, node_id: str, requester: SignedEnvelope, node: SignedEnvelope
    ) -> tuple[Receipt, bytes]:
        raw = node.SerializeToString()
        receipt = open_signed_receipt(requester.SerializeToString(), raw)
        if (receipt.requester_id, receipt.node_id) != (self._self_id, node_id):
            raise refused(RefusalReason.BAD_SIGNATURE, f"{node_id} has a receipt between other nodes")
        return receipt, raw

    async def _remind(self, link: PeerLink, node_id: str, sequence: int, before: int) -> bool:
        """Gives the node the receipts from `sequence` on that it has signed and forgotten, each with its own signature.
        Whether there were any, and it has taken all that come before `before`."""
        if not 0 < sequence < before:
            return False
        while sequence < before:
            kept = await asyncio.to_thread(
                self._store.signed_receipts, TradeSide.BUYING, node_id, sequence, RECEIPTS_RETURNED_MAX
            )
            if not kept or kept[0].receipt.sequence != sequence:
                return False
            log.warning("%s has forgotten receipts from %d on", node_id, sequence)
            receipts = [record.receipt for record in kept]
            own = tuple(record.evidence or b"" for record in kept)
            answer = await self._sign(link, receipts, node_id, own)
            if len(answer.signed) < len(kept):
                return False
            sequence += len(kept)
        return True
