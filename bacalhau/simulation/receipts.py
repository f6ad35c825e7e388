"""Receipts and settlement notes between simulated nodes: what node/receipts.py and node/inbound.py are to live ones.

Nothing is signed here, so that both sides have signed what a node has taken. In worlds whose nodes are restored from
backups (backups.py) each call also gives back what the other side has forgotten, as it does between live nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from bacalhau.model.ledger import SettlementNote, TradeSide
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.scheduler import events as ev

if TYPE_CHECKING:
    from bacalhau.model.ledger import Receipt
    from bacalhau.scheduler import effects as fx
    from bacalhau.scheduler.records import ReceiptRecord
    from bacalhau.simulation.node import SimulatedNode
    from bacalhau.simulation.world import World


@dataclass(frozen=True, slots=True)
class _Call:
    """A node is asked to sign receipts: by whom, in which of its lives, and with which note of its own."""

    sender: SimulatedNode
    life: int
    receipts: tuple[Receipt, ...]
    note: SettlementNote | None = None
    reminds: bool = False
    """The node has signed these before, and forgotten them."""


# --- receipts ---


def send_receipts(world: World, node: SimulatedNode, send: fx.SendReceipts) -> None:
    world.sent["receipts"] += 1
    note = node.journal.books.last_note(node.id, send.to) if world.restores else None
    call = _Call(node, node.life, send.receipts, note)
    world.post(node, _take_receipts, world.nodes[send.to], call, 0, ())


def _take_receipts(
    receiver: SimulatedNode, call: _Call, place: int, signed: tuple[tuple[int, bytes], ...]
) -> None:
    """One after the other, each once the last is on disk; the answer names those that were signed."""
    compute = receiver.compute
    if not receiver.up or compute is None:
        return
    if place == len(call.receipts):
        _answer_receipts(receiver, call, signed, None)
        return
    receipt = call.receipts[place]
    known = compute.receivables.knows(receipt)

    def answer(refusal: Refusal | None) -> None:
        if known and refusal is None:
            refusal = _other_before(receiver, receipt)
        if refusal is not None:
            _answer_receipts(receiver, call, signed, refusal)
        else:
            _take_receipts(receiver, call, place + 1, (*signed, (receipt.sequence, b"signed")))

    ended = receiver.ended_work(receipt.execution_id)
    receiver.tell_compute(ev.ReceiptReceived(receipt, b"evidence", ended, call.reminds), answer)


def _other_before(receiver: SimulatedNode, receipt: Receipt) -> Refusal | None:
    """Of its own work, and of what has ended in long runs, a node keeps no such receipts."""
    key = (TradeSide.SELLING, receipt.requester_id, receipt.sequence)
    kept = receiver.journal.books.receipts.get(key)
    if kept is None or kept.receipt == receipt:
        return None
    return Refusal(RefusalReason.ID_REUSED, f"the receipt {receipt.sequence} was another before")


def _answer_receipts(
    receiver: SimulatedNode, call: _Call, signed: tuple[tuple[int, bytes], ...], refusal: Refusal | None
) -> None:
    world, answer = receiver.world, ev.ReceiptsAnswered(receiver.id, signed, refusal)
    if world.restores:
        world.loop.after(0, _take_note_back, receiver, receiver.life, call, answer)
    else:
        world.post(receiver, _answered, call.sender, call.life, answer)


def _answered(sender: SimulatedNode, life: int, answer: ev.ReceiptsAnswered) -> None:
    if sender.lives(life):
        sender.tell_requester(answer)


# --- what one of the two has forgotten ---


def _take_note_back(receiver: SimulatedNode, life: int, call: _Call, answer: ev.ReceiptsAnswered) -> None:
    if not receiver.lives(life):
        return
    if call.note is None:
        _give_back(receiver, call, answer)
    else:
        receiver.tell_compute(ev.NoteReturned(call.note), lambda _: _give_back(receiver, call, answer))


def _give_back(receiver: SimulatedNode, call: _Call, answer: ev.ReceiptsAnswered) -> None:
    """The answer, with what both have signed where a number is given out again, and a note that is later."""
    compute, refusal, sender_id = receiver.compute, answer.refusal, call.sender.id
    if compute is None:
        return
    next_sequence, both = 0, []
    if refusal is not None:
        next_sequence = compute.receivables.next_sequence(sender_id)
        if refusal.reason is RefusalReason.ID_REUSED:
            first = call.receipts[len(answer.signed)].sequence
            both = receiver.journal.books.signed_receipts(TradeSide.SELLING, sender_id, first)
    note = compute.receivables.last_note(sender_id, receiver.world.loop.now)
    known = call.note.sequence if call.note is not None else 0
    later = note if note is not None and note.sequence > known else None
    world = receiver.world
    world.post(receiver, _answered_with, call.sender, receiver, call, answer, next_sequence, both, later)


def _answered_with(
    sender: SimulatedNode,
    receiver: SimulatedNode,
    call: _Call,
    answer: ev.ReceiptsAnswered,
    next_sequence: int,
    both: list[ReceiptRecord],
    note: SettlementNote | None,
) -> None:
    if not sender.lives(call.life):
        return
    if call.reminds:
        # Where all are signed again, what they come before is sent once more, as after any pause.
        return
    kept = sender.journal.books.signed_receipts(TradeSide.BUYING, receiver.id, next_sequence)
    if 0 < next_sequence < call.receipts[0].sequence and kept and kept[0].receipt.sequence == next_sequence:
        reminder = replace(call, receipts=tuple(record.receipt for record in kept), reminds=True)
        sender.world.post(sender, _take_receipts, receiver, reminder, 0, ())

    def take_back(_: Refusal | None) -> None:
        """The answer is on disk; what it gave back is the next step."""
        if both or note is not None:
            sender.world.loop.after(0, _take_back, sender, call.life, receiver.id, both, note)

    sender.tell_requester(answer, take_back)


def _take_back(
    sender: SimulatedNode,
    life: int,
    node_id: str,
    both: list[ReceiptRecord],
    note: SettlementNote | None,
) -> None:
    """Nothing, where an execution has another receipt that both have signed, as in a live node."""
    if not sender.lives(life):
        return
    if both:
        sequences = sender.journal.books.signed_sequences()
        for record in both:
            receipt = record.receipt
            if sequences.get(receipt.execution_id, receipt.sequence) != receipt.sequence:
                return
        returned = tuple((record.receipt, b"signed") for record in both)
        sender.tell_requester(ev.ReceiptsReturned(node_id, returned))
    if note is not None and sender.lives(life):
        sender.tell_requester(ev.NoteReceived(note))


# --- settlement notes ---


def send_note(world: World, node: SimulatedNode, send: fx.SendNote) -> None:
    world.sent["note"] += 1
    world.post(node, _take_note, world.nodes[send.to], node, node.life, ev.NoteReceived(send.note))


def _take_note(receiver: SimulatedNode, sender: SimulatedNode, life: int, event: ev.NoteReceived) -> None:
    receiver.tell_requester(event, partial(_answer_note, receiver, sender, life, event.note))


def _answer_note(
    receiver: SimulatedNode, sender: SimulatedNode, life: int, note: SettlementNote, refusal: Refusal | None
) -> None:
    """Signed where it is the last that the node knows, and says the same."""
    if refusal is not None or receiver.requester is None:
        return
    known = receiver.requester.payables.balances[note.creditor_id]
    if (note.sequence, note.settled_microcredits) == (known.note_sequence, known.settled_microcredits):
        receiver.world.post(receiver, _note_signed, sender, life, ev.NoteSigned(note))


def _note_signed(sender: SimulatedNode, life: int, event: ev.NoteSigned) -> None:
    if sender.lives(life):
        sender.tell_compute(event)
