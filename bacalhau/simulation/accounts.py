"""What the nodes of a world owe each other: the same on both sides in the end, with a receipt for every payment, and
no more credit on the way than a node may give.

Of nodes that were restored from a backup it excepts what docs/operations.md and docs/market.md say is lost, no more:

    gone        executions, and work, that the backup has not, or has as it was (backups.py)
    not met     no receipt went between the two since: each goes on from what it has
    held up     the next receipt takes a bond for work that its node has forgotten, which that does not sign
    more owed   what comes back is owed beside what was promised meanwhile
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.payment import moved_microcredits
from bacalhau.model.ledger import Balance, TradeSide
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.records import WorkState

if TYPE_CHECKING:
    from bacalhau.model.ledger import Receipt
    from bacalhau.scheduler.effects import Effects
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.scheduler.records import ReceiptRecord, WorkRecord
    from bacalhau.simulation.node import SimulatedNode
    from bacalhau.simulation.world import World


class Accounts:
    """See the module."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._met: dict[tuple[str, str], tuple[int, int]] = {}
        """By buyer and seller: how often each had been restored when the last receipt was signed by both."""
        self._came_back: dict[str, int] = {}
        """By node: what receipts that came back have added to what is owed to it."""

    # --- after every step ---

    def stepped(
        self, node: SimulatedNode, event: RequesterEvent | ComputeEvent | None, effects: Effects
    ) -> None:
        """Before the step is committed."""
        match event:
            case ev.ReceiptsAnswered(node_id=seller_id) if event.signed:
                restored = (node.restored, self._world.nodes[seller_id].restored)
                self._met[node.id, seller_id] = restored
            case ev.ReceiptReceived(receipt=receipt) if event.signed_before and effects.writes:
                more = max(0, moved_microcredits(receipt))
                self._came_back[node.id] = self._came_back.get(node.id, 0) + more
            case _:
                pass
        if node.compute is not None:
            credit = node.compute.receivables.credit
            limit = credit.unproven_limit + self._came_back.get(node.id, 0)
            assert credit.unproven_exposure <= limit, f"{node.id} gives more credit than it may"

    # --- at the end ---

    def have_met(self, buyer: SimulatedNode, seller: SimulatedNode) -> bool:
        """A receipt went between the two since one of them was last restored, if it ever was."""
        restored = (buyer.restored, seller.restored)
        return restored == (0, 0) or self._met.get((buyer.id, seller.id)) == restored

    def settled(self, node: SimulatedNode) -> bool:
        """Every receipt and note is signed by both, but for what is held up."""
        for record in node.journal.books.receivables.values():
            debtor = self._world.nodes[record.peer_id]
            if record.signed_note != record.balance.note_sequence and self.have_met(debtor, node):
                return False
        unsigned = {record.peer_id for record in node.journal.books.unsigned()}
        return all(self._held_up(node, self._world.nodes[peer_id]) for peer_id in unsigned)

    def holds_receipts_up(self, node: SimulatedNode) -> bool:
        return any(self._held_up(node, other) for other in self._world.nodes.values())

    def _held_up(self, buyer: SimulatedNode, seller: SimulatedNode) -> bool:
        """The seller signs no penalty for work that it has forgotten."""
        first = self._first_unsigned(buyer, seller)
        return (
            first is not None
            and first.penalty_microcredits > 0
            and first.execution_id in seller.forgotten.works
            and first.execution_id not in seller.journal.works
        )

    def _first_unsigned(self, buyer: SimulatedNode, seller: SimulatedNode) -> Receipt | None:
        unsigned = (
            record.receipt for record in buyer.journal.books.unsigned() if record.peer_id == seller.id
        )
        return next(unsigned, None)

    def check_settled(self, node: SimulatedNode) -> None:
        """The node as a buyer; and its books are what its journal replays to."""
        books = node.journal.books
        assert books.ledger.total("escrow:") == 0, books.ledger.balances
        for seller in self._world.nodes.values():
            self._check_pair(node, seller)
            self._check_receipts(node, seller)
        if node.requester is None or node.compute is None:
            return
        receivables = node.compute.receivables
        held = {**node.requester.payables.ledger.balances, **receivables.ledger.balances}
        assert held == books.ledger.balances, f"{node.id} replays to other books"
        for peer_id in receivables.records:
            assert receivables.credit.committed(peer_id) == 0, f"{node.id} keeps credit in use"

    def _check_pair(self, buyer: SimulatedNode, seller: SimulatedNode) -> None:
        """Both sides have the same balance, and every work of the seller is paid what its receipt says."""
        owed = buyer.journal.books.payables.get(seller.id)
        due = seller.journal.books.receivables.get(buyer.id)
        ours, theirs = owed.balance if owed else Balance(), due.balance if due else Balance()
        if not self.have_met(buyer, seller):
            return
        if self._held_up(buyer, seller):
            first = self._first_unsigned(buyer, seller)
            assert first is not None
            assert theirs.sequence == first.sequence - 1, f"{seller.id} has not signed what it may: {theirs}"
            return
        assert ours == theirs, f"{buyer.id} owes {seller.id} {ours}, and {seller.id} says {theirs}"
        receipts = _bought(buyer, seller)
        for work in seller.journal.works.values():
            if work.requester_id == buyer.id:
                self._check_work(buyer, seller, work, receipts.get(work.id))

    def _check_work(
        self, buyer: SimulatedNode, seller: SimulatedNode, work: WorkRecord, record: ReceiptRecord | None
    ) -> None:
        """It is settled, and disputed only where the buyer has forgotten what it owed."""
        forgotten = work.id in buyer.forgotten.executions or work.id in seller.forgotten.works
        paid = record.receipt.pay_microcredits if record is not None else 0
        assert work.paid_microcredits == paid, f"{work} was paid {paid}"
        lost = forgotten and record is None and work.state is WorkState.DISPUTED
        assert lost or work.state is WorkState.SETTLED, work

    def _check_receipts(self, buyer: SimulatedNode, seller: SimulatedNode) -> None:
        """A receipt stands for every payment, and they come to the balance."""
        receipts = _bought(buyer, seller)
        for execution in buyer.journal.executions.values():
            if execution.node_id != seller.id or execution.id in buyer.forgotten.executions:
                continue
            charged = execution.charged_microcredits - execution.penalty_microcredits
            record = receipts.get(execution.id)
            said = moved_microcredits(record.receipt) if record is not None else 0
            assert charged == said, f"{execution} has the receipt {record}"
        for execution_id in receipts.keys() - buyer.journal.executions.keys():
            assert execution_id in buyer.forgotten.executions, f"{buyer.id} does not know {execution_id}"
        paid = sum(moved_microcredits(record.receipt) for record in receipts.values())
        owed = buyer.journal.books.payables.get(seller.id)
        charged = owed.balance.charged_microcredits if owed else 0
        assert charged == paid, f"{buyer.id} paid {seller.id} {paid}, and owes {charged}"


def _bought(buyer: SimulatedNode, seller: SimulatedNode) -> dict[str, ReceiptRecord]:
    """By execution: the receipts of the buyer to the seller."""
    records = buyer.journal.books.receipts.values()
    return {
        record.receipt.execution_id: record
        for record in records
        if record.side is TradeSide.BUYING and record.peer_id == seller.id
    }
