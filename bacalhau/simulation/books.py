"""The money of one simulated node as it is on disk: transactions, balances with peers, receipts.

With `audit` every transaction and receipt is kept, and after every commit history has to come to what the records
say. Without, only what a restart needs is kept: memory must not grow with the jobs of a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market import ledger as books
from bacalhau.market.ledger import Ledger
from bacalhau.model.ledger import SettlementNote, TradeSide, Transaction
from bacalhau.scheduler.records import Books, NoteRecord, PayableRecord, ReceiptRecord, ReceivableRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.scheduler.records import ExecutionRecord, Write


class SimulatedBooks:
    """See the module."""

    __slots__ = ("_audit", "ledger", "payables", "receipts", "receivables", "restored")

    def __init__(self, *, audit: bool) -> None:
        self.payables: dict[str, PayableRecord] = {}
        self.receivables: dict[str, ReceivableRecord] = {}
        self.receipts: dict[tuple[TradeSide, str, int], ReceiptRecord] = {}
        self.ledger = Ledger()
        """What the transactions come to."""
        self._audit = audit
        self.restored = False
        """It is, or was once, an older copy that was put back."""

    def take(self, write: Write) -> None:
        """A committed record."""
        match write:
            case ReceiptRecord():
                self._take_receipt(write)
            case Transaction():
                self._take_transaction(write)
            case ReceivableRecord():
                self.receivables[write.peer_id] = write
            case PayableRecord():
                self.payables[write.peer_id] = write
            case NoteRecord():
                pass
            case _:
                raise AssertionError(f"{write} is not about money")

    def _take_transaction(self, new: Transaction) -> None:
        if self._audit:
            self.ledger.post(new)

    def _take_receipt(self, new: ReceiptRecord) -> None:
        """A number is given out a second time only by a restored node, and never one that both have signed."""
        key = (new.side, new.peer_id, new.receipt.sequence)
        old = self.receipts.get(key)
        assert old is None or old.evidence is None, f"{key} was signed, and is written again"
        same = old is None or old.receipt == new.receipt
        assert same or self.restored, f"{key} was {old}, and became {new}"
        if not self._audit and (new.side is TradeSide.SELLING or new.evidence is not None):
            self.receipts.pop(key, None)
            return
        self.receipts[key] = new
        if self._audit and not self.restored:  # else an execution may have two until the commit is whole
            self._check_paid_once()

    def unsigned(self) -> list[ReceiptRecord]:
        """Receipts that the other side has still to sign, in order."""
        found = [
            record
            for record in self.receipts.values()
            if record.side is TradeSide.BUYING and record.evidence is None
        ]
        return sorted(found, key=lambda record: record.receipt.sequence)

    def signed_receipts(self, side: TradeSide, peer_id: str, sequence: int) -> list[ReceiptRecord]:
        """Those that both have signed from that sequence on, in its order; only with `audit`."""
        found = [
            record
            for record in self.receipts.values()
            if (record.side, record.peer_id) == (side, peer_id)
            and record.receipt.sequence >= sequence
            and record.evidence is not None
        ]
        return sorted(found, key=lambda record: record.receipt.sequence)

    def signed_sequences(self) -> dict[str, int]:
        """By execution that this node has bought: the number of its receipt that both have signed."""
        return {
            record.receipt.execution_id: record.receipt.sequence
            for record in self.receipts.values()
            if record.side is TradeSide.BUYING and record.evidence is not None
        }

    def last_note(self, debtor_id: str, creditor_id: str) -> SettlementNote | None:
        """What the creditor has signed that this node has paid it in all."""
        record = self.payables.get(creditor_id)
        if record is None or not record.balance.note_sequence:
            return None
        balance = record.balance
        return SettlementNote(creditor_id, debtor_id, balance.note_sequence, balance.settled_microcredits, 0)

    def as_restored(self, open_executions: Iterable[ExecutionRecord]) -> Books:
        """`open_executions`: those of open jobs that have not ended."""
        bought = {
            record.receipt.execution_id
            for record in self.receipts.values()
            if record.side is TradeSide.BUYING
        }
        receipted = tuple(execution.id for execution in open_executions if execution.id in bought)
        payables, receivables = tuple(self.payables.values()), tuple(self.receivables.values())
        return Books(payables, tuple(self.unsigned()), receivables, receipted)

    def check(self, executions: Iterable[ExecutionRecord]) -> None:
        """Nothing is made or lost, and history comes to what the balances and open executions say."""
        self.ledger.check()
        opened = books.opening(
            [(id, record.balance) for id, record in self.payables.items()],
            [(id, record.balance) for id, record in self.receivables.items()],
            [(e.id, e.price_microcredits) for e in executions if not e.state.ended],
        )
        history, records = self.ledger.balances, opened.balances
        assert history == records, f"history comes to {history}, and the records to {records}"
        self._check_paid_once()

    def _check_paid_once(self) -> None:
        paid: dict[tuple[TradeSide, str], ReceiptRecord] = {}
        for new in self.receipts.values():
            old = paid.setdefault((new.side, new.receipt.execution_id), new)
            assert old is new, f"{new.receipt.execution_id} is paid twice: {old} and {new}"
