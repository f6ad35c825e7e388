"""What a compute node is owed: credit for its requesters, and receipts for its work, until they are settled.

    award: price on credit --reported--> taken --receipt of both--> owed --settlement note--> paid
                     |                    '--no receipt in time--> disputed --receipt, late--> owed
                     |                    '--receipt of less than award and report come to--> owed, the rest disputed
                     '--failed, called off, refused, receipt of 0--> nothing

Owns the compute node's half of the books and the credit of each peer. Work that is not settled counts with its whole
price, what is disputed with its pay. Own work takes no credit.

A receipt that is refused holds up all that come after it, and a debt that is signed is worth more than none. So
whatever the next receipt says of its work, it is taken as it is, if its own sums are right and it takes nothing away
that the award does not let it.

A node that was restored from a backup has forgotten receipts and notes. It takes them again from whoever has its own
signature under them, and judges them no second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bacalhau.market import ledger as books
from bacalhau.market.credit import Credit
from bacalhau.market.ledger import Ledger
from bacalhau.market.payment import (
    counted_usage,
    follows,
    is_payable,
    moved_microcredits,
    pay_microcredits,
    receipt_problem,
    shortfall_microcredits,
)
from bacalhau.model.execution import FaultKind
from bacalhau.model.frozen import replace
from bacalhau.model.ledger import Balance, SettlementNote, TradeSide
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.reputation import Conduct
from bacalhau.scheduler.effects import Effects, SendNote, refuse
from bacalhau.scheduler.records import NoteRecord, ReceiptRecord, ReceivableRecord, WorkRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.model.ledger import Receipt
    from bacalhau.scheduler import events as ev
    from bacalhau.scheduler.config import ComputeConfig
    from bacalhau.scheduler.deadlines import Deadlines
    from bacalhau.scheduler.records import Books

_OF_COMPARISON: Final = (FaultKind.RESULT_REFUTED, FaultKind.NO_AGREEMENT)
"""Rejections that a requester comes to by comparing results."""


class Receivables:
    """See the module. Shares the machine's deadlines: "note", with the peer's id."""

    __slots__ = ("_config", "_deadlines", "_records", "_retries", "credit", "ledger")

    def __init__(self, config: ComputeConfig, deadlines: Deadlines[tuple[str, str]]) -> None:
        self._config = config
        self._deadlines = deadlines
        self.ledger = Ledger()
        self.credit = Credit(config.credit)
        self._records: dict[str, ReceivableRecord] = {}
        self._retries: dict[str, int] = {}

    # --- credit ---

    def refusal(self, requester_id: str, price_microcredits: int) -> Refusal | None:
        """Why work of that price is not taken on credit."""
        if requester_id == self._config.node_id:
            return None
        return self.credit.refusal(requester_id, price_microcredits)

    def promise(self, requester_id: str, price_microcredits: int) -> None:
        """A bid stands: what its award may come to is on credit. With a negative price: it stands no more."""
        if requester_id != self._config.node_id:
            self.credit.commit(requester_id, price_microcredits)

    def commit(self, work: WorkRecord) -> None:
        """The work was awarded: until it is settled its price is on credit."""
        self._change(work.requester_id, committed=work.award.price_microcredits)

    def release(self, work: WorkRecord) -> None:
        """The work is settled, or disputed."""
        self._change(work.requester_id, committed=-work.award.price_microcredits)

    def dispute(self, work: WorkRecord) -> Effects:
        """What the work earned was not paid in time."""
        return self._disputed(work, due_microcredits(work))

    def _disputed(self, work: WorkRecord, amount: int) -> Effects:
        record = self._record(work.requester_id)
        record = replace(record, disputed_microcredits=record.disputed_microcredits + amount)
        self._records[record.peer_id] = record
        self._change(record.peer_id, disputed=amount)
        return Effects([record])

    def _change(self, peer_id: str, **amounts: int) -> None:
        if peer_id != self._config.node_id:
            self.credit.change(peer_id, **amounts)

    def trust(self, event: ev.PeerTrusted) -> Effects:
        record = replace(self._record(event.peer_id), limit_microcredits=event.limit_microcredits)
        self._records[event.peer_id] = record
        self.credit.trust(event.peer_id, event.limit_microcredits)
        return Effects([record])

    # --- receipts ---

    def next_sequence(self, requester_id: str) -> int:
        """Of the receipt of that requester that this node takes next."""
        return self._record(requester_id).balance.sequence + 1

    def knows(self, receipt: Receipt) -> bool:
        """A receipt of that number came before."""
        return receipt.sequence <= self._record(receipt.requester_id).balance.sequence

    def take(self, event: ev.ReceiptReceived, work: WorkRecord | None, now: int) -> Effects:
        """The next receipt of a requester: what it says is owed, or a refusal. `work` is the execution's."""
        receipt = event.receipt
        record = self._record(receipt.requester_id)
        refusal = self._refusal(event, record.balance, work)
        if refusal is not None:
            return refuse(refusal)
        amount, unearned = moved_microcredits(receipt), _unearned(event, work)
        promised, limit = record.unearned_microcredits + unearned, self.credit.limit(record.peer_id)
        if unearned and promised > limit:
            return refuse(_too_much_unearned(promised, limit))
        balance = replace(
            record.balance, sequence=receipt.sequence, charged_microcredits=receipt.balance_microcredits
        )
        record = replace(record, balance=balance, unearned_microcredits=promised)
        self._records[record.peer_id] = record
        self._change(record.peer_id, owed=amount - unearned)
        effects = Effects([record])
        if record.peer_id != self._config.node_id:  # of its own work the node keeps one receipt, the buyer's
            effects.writes.append(ReceiptRecord(TradeSide.SELLING, receipt, event.evidence))
        if amount:
            transaction = books.earn(record.peer_id, receipt.execution_id, amount, now)
            self.ledger.post(transaction)
            effects.writes.append(transaction)
        if work is not None and (short := _shortfall(event, work)):
            effects.add(self._disputed(work, short))
        return effects

    def settled_late(self, work: WorkRecord) -> Effects:
        """A receipt came for disputed work."""
        return self._disputed(work, -due_microcredits(work))

    def _refusal(
        self, event: ev.ReceiptReceived, balance: Balance, work: WorkRecord | None
    ) -> Refusal | None:
        receipt, sequence = event.receipt, event.receipt.sequence
        if sequence > balance.sequence + 1:
            message = f"the receipt {sequence} comes before {balance.sequence + 1} has"
            figures = (("sequence", sequence), ("next_sequence", balance.sequence + 1))
            return Refusal(RefusalReason.WRONG_STATE, message, figures)
        problem = receipt_problem(receipt) or follows(receipt, balance.sequence, balance.charged_microcredits)
        if problem is None and receipt.node_id != self._config.node_id:
            problem = f"it is for {receipt.node_id}"
        if problem is None and not event.signed_before and receipt.penalty_microcredits > _may_forfeit(work):
            problem = f"no award of {receipt.execution_id} lets it take such a penalty"
        if problem is not None:
            return Refusal(RefusalReason.MALFORMED, f"the receipt {sequence} is wrong: {problem}")
        if work is not None and work.requester_id != receipt.requester_id:
            return Refusal(RefusalReason.NOT_FOUND, f"this node did no work {work.id} of yours")
        if work is not None and work.report is None:
            return Refusal(RefusalReason.WRONG_STATE, f"{work.id} has not ended here yet")
        if work is not None and work.receipt_sequence:
            message = f"{work.id} is in the receipt {work.receipt_sequence} already"
            return Refusal(RefusalReason.MALFORMED, message)
        return None

    # --- settlement notes ---

    def settle(self, event: ev.SettlementRecorded, now: int) -> Effects:
        """The peer paid outside the system: a note says so until the peer has it."""
        peer_id, amount = event.peer_id, event.amount_microcredits
        record = self._record(peer_id)
        if not record.balance.sequence:
            return refuse(Refusal(RefusalReason.NOT_FOUND, f"{peer_id} never owed this node anything"))
        balance = replace(
            record.balance,
            note_sequence=record.balance.note_sequence + 1,
            settled_microcredits=record.balance.settled_microcredits + amount,
        )
        return self._settled(record, balance, now, event.request_id)

    def _settled(self, record: ReceivableRecord, balance: Balance, now: int, request_id: str = "") -> Effects:
        """The peer has paid what the balance says; a note tells it so until it has signed that."""
        peer_id, amount = record.peer_id, balance.settled_microcredits - record.balance.settled_microcredits
        record = replace(record, balance=balance)
        self._records[peer_id] = record
        self._change(peer_id, owed=-amount)
        effects = Effects()
        if amount:
            transaction = books.settlement_received(peer_id, amount, now, request_id)
            self.ledger.post(transaction)
            effects.writes.append(transaction)
        effects.writes.append(record)
        self._retries.pop(peer_id, None)
        effects.add(self.send_note(peer_id, now))
        return effects

    def last_note(self, peer_id: str, now: int) -> SettlementNote | None:
        """What the peer has paid in all, to be signed anew; None where it was never paid."""
        balance = self._record(peer_id).balance
        if not balance.note_sequence:
            return None
        return SettlementNote(
            self._config.node_id, peer_id, balance.note_sequence, balance.settled_microcredits, now
        )

    def send_note(self, peer_id: str, now: int) -> Effects:
        """The last note to the peer, which replaces those before it."""
        config, note = self._config, self.last_note(peer_id, now)
        if note is None:
            raise AssertionError(f"{peer_id} has paid nothing")
        retries = self._retries.get(peer_id, 0)
        self._retries[peer_id] = retries + 1
        pause_us = min(config.note_retry_us << min(retries, 20), config.note_retry_max_us)
        self._deadlines.set(("note", peer_id), now + pause_us)
        return Effects(sends=[SendNote(peer_id, note)])

    def note_returned(self, event: ev.NoteReturned, now: int) -> Effects:
        """The debtor has a note that replaces this node's last one: what that says counts, and the debtor signs it once
        more. What was recorded here since the backup, and is in no note that the debtor has, is undone with it."""
        note = event.note
        record = self._record(note.debtor_id)
        balance = record.balance
        known = (balance.note_sequence, balance.settled_microcredits)
        if note.sequence <= record.signed_note or (note.sequence, note.settled_microcredits) <= known:
            return Effects()
        balance = replace(
            balance, note_sequence=note.sequence, settled_microcredits=note.settled_microcredits
        )
        return self._settled(record, balance, now)

    def note_signed(self, event: ev.NoteSigned) -> Effects:
        note = event.note
        record = self._record(note.debtor_id)
        if not record.signed_note < note.sequence <= record.balance.note_sequence:
            return Effects()
        record = replace(record, signed_note=note.sequence)
        self._records[record.peer_id] = record
        if record.signed_note == record.balance.note_sequence:
            self._deadlines.clear(("note", record.peer_id))
            self._retries.pop(record.peer_id, None)
        return Effects([record, NoteRecord(TradeSide.SELLING, note, event.evidence)])

    # --- views, restart ---

    @property
    def records(self) -> dict[str, ReceivableRecord]:
        """By peer that ever owed this node anything, or was given a limit."""
        return self._records

    def _record(self, peer_id: str) -> ReceivableRecord:
        return self._records.get(peer_id) or ReceivableRecord(peer_id, Balance())

    def restore(self, kept: Books, now: int) -> Effects:
        """Notes that were not signed are sent again. The work that is not settled is committed by its machine."""
        effects = Effects()
        for record in kept.receivables:
            self._records[record.peer_id] = record
            self.credit.trust(record.peer_id, record.limit_microcredits)
            self._change(
                record.peer_id,
                owed=record.on_credit_microcredits,
                disputed=record.disputed_microcredits,
            )
            if record.signed_note < record.balance.note_sequence:
                effects.add(self.send_note(record.peer_id, now))
        balances = [(record.peer_id, record.balance) for record in kept.receivables]
        self.ledger = books.opening((), balances, ())
        return effects

    def check(self, works: Iterable[WorkRecord], promised: Iterable[tuple[str, int]] = ()) -> None:
        """The books are what the balances come to; credit counts what is owed, open, promised and disputed; notes are
        sent."""
        self.ledger.check()
        self.credit.check()
        balances = [(record.peer_id, record.balance) for record in self._records.values()]
        assert self.ledger.balances == books.opening((), balances, ()).balances
        exposures = {
            record.peer_id: record.on_credit_microcredits + record.disputed_microcredits
            for record in self._records.values()
        }
        open_prices = [(work.requester_id, work.award.price_microcredits) for work in works]
        for requester_id, price in (*open_prices, *promised):
            exposures[requester_id] = exposures.get(requester_id, 0) + price
        exposures.pop(self._config.node_id, None)
        for peer_id, exposure in exposures.items():
            assert self.credit.exposure(peer_id) == exposure, (peer_id, exposure)
        for record in self._records.values():
            assert record.unearned_microcredits >= 0, record
            told = record.signed_note == record.balance.note_sequence
            assert (self._deadlines.get(("note", record.peer_id)) is None) is told, record


def due_microcredits(work: WorkRecord) -> int:
    """What the work earned, by its own report."""
    award, report = work.award, work.report
    if report is None or not is_payable(report):
        return 0
    timeout_us = award.spec.timeouts.execution_us
    return pay_microcredits(award.price_microcredits, award.payment, report.usage, timeout_us)


def conduct_by(event: ev.ReceiptReceived, work: WorkRecord) -> Conduct | None:
    """What the receipt says of its requester: whether it pays what award and report come to, and says so. Nothing
    where it was judged before, or rejects what claims no pay or what a comparison refuted. A result that is rejected
    otherwise is not paid either, and whoever rejects it may have seen it."""
    if event.signed_before:
        return None
    if not _agrees(event.receipt, work) or _shortfall(event, work):
        return Conduct.DISPUTED
    rejection, report = event.receipt.rejection, work.report
    if rejection is None:
        return Conduct.PAID
    if report is None or not is_payable(report) or work.sealed:
        return None
    refuted = work.award.spec.verification.compares and rejection.kind in _OF_COMPARISON
    return None if refuted else Conduct.DISPUTED


def _shortfall(event: ev.ReceiptReceived, work: WorkRecord) -> int:
    """What of the work's pay the receipt of its accepted result leaves out; 0 where it rejects the result."""
    if event.receipt.rejection is not None or event.signed_before:
        return 0
    return shortfall_microcredits(due_microcredits(work), event.receipt.pay_microcredits)


def _unearned(event: ev.ReceiptReceived, work: WorkRecord | None) -> int:
    """What the receipt says beyond what the work came to, by the node's own report."""
    if event.signed_before:
        return 0
    return max(0, event.receipt.pay_microcredits - (due_microcredits(work) if work is not None else 0))


def _may_forfeit(work: WorkRecord | None) -> int:
    """The most that a receipt of the work can take off what is owed."""
    if work is None or not work.award.spec.verification.compares:
        return 0
    return work.award.bond_microcredits


def _agrees(receipt: Receipt, work: WorkRecord) -> bool:
    """It says what the award promised and the report reported. Of the time only the requester's own clock can say how
    much it counts, so less of it than was reported is no contradiction."""
    award, report = work.award, work.report
    if report is None:
        return False
    promised = (
        award.job_id,
        award.offer_id,
        award.bid_id,
        award.price_microcredits,
        award.clearing_rule,
        award.bid_set_digest,
        award.payment,
        award.spec.timeouts.execution_us,
        award.bond_microcredits,
    )
    said = (
        receipt.job_id,
        receipt.offer_id,
        receipt.bid_id,
        receipt.price_microcredits,
        receipt.clearing_rule,
        receipt.bid_set_digest,
        receipt.payment,
        receipt.execution_timeout_us,
        receipt.bond_microcredits,
    )
    if said != promised or (receipt.result, receipt.exit_code) != (report.result, report.exit_code):
        return False
    return receipt.usage == counted_usage(report.usage, receipt.usage.wall_us)


def _too_much_unearned(unearned: int, limit: int) -> Refusal:
    message = (
        f"your receipts come to {unearned} microcredits more than your work here, as far as this node knows, and it "
        f"takes promises of {limit}: let its operator raise the limit (bacalhau ledger trust)"
    )
    figures = (("unearned_microcredits", unearned), ("limit_microcredits", limit))
    return Refusal(RefusalReason.CREDIT_LIMIT, message, figures)
