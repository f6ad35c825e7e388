"""The money of one simulated node as it is on disk: transactions, balances with peers, receipts.

With `audit` every transaction and receipt is kept, and after every commit history has to come to what the records
say. Without, only what a restart needs is kept: memory must not grow with the jobs of a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market import ledger as books
from bacalhau.market.ledger import Ledger
from bacalhau.model.ledger import TradeSide, Transaction
from bacalhau.scheduler.records import Books, NoteRecord, PayableRecord, ReceiptRecord, ReceivableRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.scheduler.records import ExecutionRecord, Write


class SimulatedBooks:
    """See the module."""

    __slots__ = ("_audit", "_paid", "ledger", "payables", "receipts", "receivables")

    def __init__(self, *, audit: bool) -> None:
        self.payables: dict[str, PayableRecord] = {}
        self.receivables: dict[str, ReceivableRecord] = {}
        self.receipts: dict[tuple[TradeSide, str, int], ReceiptRecord] = {}
        self.ledger = Ledger()
        """What the transactions come to."""
        self._audit = audit
        self._paid: dict[tuple[TradeSide, str], int] = {}
        """By side and execution: the sequence of its receipt."""

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
        key = (new.side, new.peer_id, new.receipt.sequence)
        old = self.receipts.get(key)
        assert old is None or old.receipt == new.receipt, f"{key} was {old}, and became {new}"
        assert old is None or old.evidence is None, f"{key} was signed, and is written again"
        if self._audit:
            paid = self._paid.setdefault((new.side, new.receipt.execution_id), new.receipt.sequence)
            assert paid == new.receipt.sequence, f"{new.receipt.execution_id} is paid twice: {paid} and {new}"
        elif new.side is TradeSide.SELLING or new.evidence is not None:
            self.receipts.pop(key, None)
            return
        self.receipts[key] = new

    def unsigned(self) -> list[ReceiptRecord]:
        """Receipts that the other side has still to sign, in order."""
        found = [
            record
            for record in self.receipts.values()
            if record.side is TradeSide.BUYING and record.evidence is None
        ]
        return sorted(found, key=lambda record: record.receipt.sequence)

    def settled(self) -> bool:
        """Every receipt and note is signed by both."""
        notes = all(kept.signed_note == kept.balance.note_sequence for kept in self.receivables.values())
        return notes and not self.unsigned()

    def as_restored(self) -> Books:
        return Books(tuple(self.payables.values()), tuple(self.unsigned()), tuple(self.receivables.values()))

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
