"""What a requester owes: escrow at the award, pay when a result is accepted, and receipts until their nodes sign them.

    award: price in escrow --result accepted--> pay owed, receipt signed --> receipt signed by both
                       |    '--result rejected--> price back, receipt of 0 signed --> receipt signed by both
                       '--no result: failed, refused, called off--> price back

Owns the requester's half of the node's books. A receipt is written in the transaction that ends its execution, so
that a job waits for no settlement; it is sent until its node has signed it. Receipts to one node are numbered
without gaps, and each carries the balance after it, so neither a repeat nor a late one can count twice.

A node that was restored from a backup has forgotten receipts, and gives out their numbers a second time. It takes up
again those that both have signed, and puts what it has written since behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market import ledger as books
from bacalhau.market.ledger import Ledger
from bacalhau.market.payment import (
    counted_usage,
    follows,
    is_payable,
    moved_microcredits,
    pay_microcredits,
    receipt_problem,
)
from bacalhau.model.execution import ExecutionState, Fault, FaultKind
from bacalhau.model.frozen import replace
from bacalhau.model.ledger import Balance, Receipt, TradeSide
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.scheduler.effects import Effects, SendReceipts, refuse
from bacalhau.scheduler.records import NoteRecord, PayableRecord, ReceiptRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.model.job import JobSpec
    from bacalhau.scheduler import events as ev
    from bacalhau.scheduler.config import RequesterConfig
    from bacalhau.scheduler.deadlines import Deadlines
    from bacalhau.scheduler.records import Books, ExecutionRecord


class Payables:
    """See the module. Shares the machine's deadlines: "receipts", with the peer's id."""

    def __init__(self, config: RequesterConfig, deadlines: Deadlines[tuple[str, str]]) -> None:
        self._config = config
        self._deadlines = deadlines
        self.ledger = Ledger()
        self._balances: dict[str, Balance] = {}
        self._unsigned: dict[str, dict[int, ReceiptRecord]] = {}
        """By peer and sequence, oldest first: receipts that the peer has not signed."""
        self._retries: dict[str, int] = {}
        self._receipted: set[str] = set()
        """Executions that a receipt of before a restore has paid, or rejected. Where the backup has one of them as
        open, its end pays nothing more."""

    # --- executions ---

    def due(self, spec: JobSpec, execution: ExecutionRecord) -> int:
        """What is owed for a reported execution, if its result is accepted."""
        report = execution.report
        if report is None:
            raise AssertionError(f"{execution.id} is paid for without a report")
        usage = counted_usage(report.usage, _passed_us(execution))
        return pay_microcredits(
            execution.price_microcredits, execution.payment, usage, spec.timeouts.execution_us
        )

    def moved(self, spec: JobSpec, was: ExecutionRecord | None, execution: ExecutionRecord) -> Effects:
        """An execution was awarded, or ended: its money moves with it."""
        now, peer_id = execution.updated_us, execution.node_id
        price = execution.price_microcredits
        effects = Effects()
        if was is None:
            transaction = books.set_aside(peer_id, execution.id, price, now)
        elif was.state.ended or not execution.state.ended:
            return effects
        elif execution.id in self._receipted:
            transaction = books.refund(peer_id, execution.id, price, 0, now)
        elif execution.state is ExecutionState.COMPLETED:
            transaction = books.pay(peer_id, execution.id, price, execution.charged_microcredits, now)
        else:
            transaction = books.refund(peer_id, execution.id, price, execution.penalty_microcredits, now)
        if transaction.postings:
            self.ledger.post(transaction)
            effects.writes.append(transaction)
        if execution.id in self._receipted:
            return effects
        if was is not None and was.report is not None and is_payable(was.report):
            effects.add(self._receipt(spec, was, execution, now))
        return effects

    def _receipt(
        self, spec: JobSpec, reported: ExecutionRecord, execution: ExecutionRecord, now: int
    ) -> Effects:
        """Says what is paid for work that was reported as done, or why nothing is."""
        report, peer_id = reported.report, execution.node_id
        if report is None or report.result is None:
            raise AssertionError(f"{execution.id} claims no pay")
        rejection = execution.failure
        if rejection is None and execution.state is not ExecutionState.COMPLETED:
            rejection = Fault(FaultKind.CALLED_OFF, "its requester called the work off")
        pay, penalty = execution.charged_microcredits, execution.penalty_microcredits
        balance = self._balances.get(peer_id, Balance())
        balance = replace(
            balance,
            sequence=balance.sequence + 1,
            charged_microcredits=balance.charged_microcredits + pay - penalty,
        )
        receipt = Receipt(
            requester_id=self._config.node_id,
            node_id=peer_id,
            sequence=balance.sequence,
            balance_microcredits=balance.charged_microcredits,
            execution_id=execution.id,
            job_id=execution.job_id,
            offer_id=execution.offer_id,
            bid_id=execution.bid_id,
            price_microcredits=execution.price_microcredits,
            clearing_rule=spec.auction.rule,
            bid_set_digest=execution.bid_set_digest,
            payment=execution.payment,
            execution_timeout_us=spec.timeouts.execution_us,
            usage=counted_usage(report.usage, _passed_us(reported)),
            result=report.result,
            exit_code=report.exit_code,
            pay_microcredits=pay,
            rejection=rejection,
            time_us=now,
            bond_microcredits=execution.bond_microcredits,
            penalty_microcredits=penalty,
        )
        record = ReceiptRecord(TradeSide.BUYING, receipt, None)
        self._balances[peer_id] = balance
        self._unsigned.setdefault(peer_id, {})[receipt.sequence] = record
        self._retry_later(peer_id, now)
        return Effects([PayableRecord(peer_id, balance), record], [SendReceipts(peer_id, (receipt,))])

    # --- receipts ---

    def send_again(self, peer_id: str, now: int) -> Effects:
        """The oldest receipts that the peer has not signed, in order."""
        unsigned = tuple(self._unsigned[peer_id].values())[: self._config.receipts_per_send_max]
        self._retries[peer_id] = self._retries.get(peer_id, 0) + 1
        self._retry_later(peer_id, now)
        return Effects(sends=[SendReceipts(peer_id, tuple(record.receipt for record in unsigned))])

    def _retry_later(self, peer_id: str, now: int) -> None:
        config, key = self._config, ("receipts", peer_id)
        if self._deadlines.get(key) is None:
            retries = min(self._retries.get(peer_id, 0), 20)
            pause_us = min(config.receipt_retry_us << retries, config.receipt_retry_max_us)
            self._deadlines.set(key, now + pause_us)

    def answered(self, event: ev.ReceiptsAnswered, now: int) -> Effects:
        """What the peer has signed is done; a refusal is kept with the receipt that it is of."""
        unsigned, effects = self._unsigned.get(event.node_id, {}), Effects()
        for sequence, evidence in event.signed:
            record = unsigned.pop(sequence, None)
            if record is not None:
                effects.writes.append(replace(record, evidence=evidence, refusal=None))
        key = ("receipts", event.node_id)
        if not unsigned:
            self._unsigned.pop(event.node_id, None)
            self._retries.pop(event.node_id, None)
            self._deadlines.clear(key)
        elif effects.writes:
            self._retries.pop(event.node_id, None)
            self._deadlines.clear(key)
            self._retry_later(event.node_id, now)
        elif event.refusal is not None and event.refusal.reason is not RefusalReason.WRONG_STATE:
            first = next(iter(unsigned.values()))
            if first.refusal != event.refusal:
                unsigned[first.receipt.sequence] = replace(first, refusal=event.refusal)
                effects.writes.append(unsigned[first.receipt.sequence])
        return effects

    def returned(self, event: ev.ReceiptsReturned, now: int) -> Effects:
        """Takes up receipts that this node has forgotten, one by one, each as the next after what both have signed. Of
        its own that wait for a signature, those of the same executions are replaced by them, and the rest get the
        numbers behind them. An execution has one receipt, whatever else this node may have signed for it in a life that
        it has forgotten; whoever sends the event knows those of all its lives."""
        peer_id = event.node_id
        waiting = [record.receipt for record in self._unsigned.get(peer_id, {}).values()]
        common = self._last_common(peer_id, waiting)
        taken = self._next_in_order(event, *common) if common is not None else []
        if not taken:
            return Effects()
        replaced = {receipt.execution_id: receipt for receipt in waiting}
        effects = Effects(list(taken))
        for record in taken:
            own = replaced.pop(record.receipt.execution_id, None)
            amount = moved_microcredits(record.receipt) - (moved_microcredits(own) if own else 0)
            if amount:
                transaction = books.owe(peer_id, record.receipt.execution_id, amount, now)
                self.ledger.post(transaction)
                effects.writes.append(transaction)
        effects.add(self._renumber(peer_id, taken[-1].receipt, replaced.values(), now))
        return effects

    def _last_common(self, peer_id: str, waiting: list[Receipt]) -> tuple[int, int] | None:
        """Sequence and balance of the last receipt that both have signed; None where the peer has signed a later one
        than one of those that wait, and so has signed none between."""
        balance = self._balances.get(peer_id, Balance())
        if not waiting:
            return balance.sequence, balance.charged_microcredits
        sequence = waiting[0].sequence - 1
        if waiting[-1].sequence != balance.sequence or len(waiting) != balance.sequence - sequence:
            return None
        return sequence, waiting[0].balance_microcredits - moved_microcredits(waiting[0])

    def _next_in_order(
        self, event: ev.ReceiptsReturned, sequence: int, charged_microcredits: int
    ) -> list[ReceiptRecord]:
        """Of what came back, up to the first that does not follow or is of an execution that has its receipt."""
        taken: list[ReceiptRecord] = []
        for receipt, evidence in event.receipts:
            if (receipt.requester_id, receipt.node_id) != (self._config.node_id, event.node_id):
                break
            if receipt_problem(receipt) or follows(receipt, sequence, charged_microcredits):
                break
            if receipt.execution_id in self._receipted:
                break
            sequence, charged_microcredits = receipt.sequence, receipt.balance_microcredits
            self._receipted.add(receipt.execution_id)
            taken.append(ReceiptRecord(TradeSide.BUYING, receipt, evidence))
        return taken

    def _renumber(self, peer_id: str, last: Receipt, receipts: Iterable[Receipt], now: int) -> Effects:
        """Puts the receipts that wait behind the last one that was taken, and sends them."""
        sequence, charged = last.sequence, last.balance_microcredits
        unsigned: dict[int, ReceiptRecord] = {}
        for receipt in receipts:
            sequence, charged = sequence + 1, charged + moved_microcredits(receipt)
            renumbered = replace(receipt, sequence=sequence, balance_microcredits=charged)
            unsigned[sequence] = ReceiptRecord(TradeSide.BUYING, renumbered, None)
        was = self._balances.get(peer_id, Balance())
        self._balances[peer_id] = replace(was, sequence=sequence, charged_microcredits=charged)
        effects = Effects([*unsigned.values(), PayableRecord(peer_id, self._balances[peer_id])])
        self._retries.pop(peer_id, None)
        self._deadlines.clear(("receipts", peer_id))
        self._unsigned.pop(peer_id, None)
        if unsigned:
            self._unsigned[peer_id] = unsigned
            effects.add(self.send_again(peer_id, now))
        return effects

    def unsigned(self, peer_id: str) -> int:
        """How many receipts the peer has still to sign."""
        return len(self._unsigned.get(peer_id, {}))

    # --- settlement notes ---

    def note_received(self, event: ev.NoteReceived, now: int) -> Effects:
        """A creditor was paid. Notes say what was paid in all, so an older one, or the same again, changes nothing."""
        note, creditor_id = event.note, event.note.creditor_id
        balance = self._balances.get(creditor_id, Balance())
        if note.sequence <= balance.note_sequence:
            return Effects()
        amount = note.settled_microcredits - balance.settled_microcredits
        if not balance.sequence or amount <= 0:
            message = f"the note is of {amount} microcredits, and there were {balance.sequence} receipts"
            return refuse(Refusal(RefusalReason.MALFORMED, message))
        balance = replace(
            balance, note_sequence=note.sequence, settled_microcredits=note.settled_microcredits
        )
        transaction = books.settlement_paid(creditor_id, amount, now)
        self.ledger.post(transaction)
        self._balances[creditor_id] = balance
        kept = NoteRecord(TradeSide.BUYING, note, event.evidence)
        return Effects([transaction, PayableRecord(creditor_id, balance), kept])

    # --- views, restart ---

    @property
    def balances(self) -> dict[str, Balance]:
        """By peer that this node ever owed anything."""
        return self._balances

    def restore(self, kept: Books, executions: Iterable[ExecutionRecord], now: int) -> Effects:
        """Receipts that were not signed are sent again; escrows are those of the executions that have not ended."""
        self._balances = {record.peer_id: record.balance for record in kept.payables}
        escrows = [(one.id, one.price_microcredits) for one in executions if not one.state.ended]
        self.ledger = books.opening(self._balances.items(), (), escrows)
        self._receipted.update(kept.receipted)
        for record in kept.unsigned:
            self._unsigned.setdefault(record.peer_id, {})[record.receipt.sequence] = record
        effects = Effects()
        for peer_id in self._unsigned:
            effects.add(self.send_again(peer_id, now))
        return effects

    def check(self, executions: Iterable[ExecutionRecord]) -> None:
        """The books are what balances and open executions come to; every receipt that is not signed is sent again."""
        self.ledger.check()
        escrows = [(one.id, one.price_microcredits) for one in executions if not one.state.ended]
        assert self.ledger.balances == books.opening(self._balances.items(), (), escrows).balances
        for peer_id, unsigned in self._unsigned.items():
            last = self._balances[peer_id].sequence
            assert list(unsigned) == sorted(unsigned), unsigned
            assert 0 < max(unsigned) <= last, (peer_id, last)
            assert self._deadlines.get(("receipts", peer_id)) is not None, peer_id


def _passed_us(reported: ExecutionRecord) -> int:
    """From the award to the report, or to the commitment where there was one, by this node's clock."""
    return max(0, (reported.committed_us or reported.updated_us) - reported.created_us)
