"""What a node of the test world has on disk: the committed records, with checks of every commit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bacalhau.market import ledger as books
from bacalhau.market.audit import (
    AuditedClearing,
    Auditor,
    Disclosed,
    SignedBid,
    SignedDecline,
    audit,
    entry_of,
)
from bacalhau.market.ledger import Ledger
from bacalhau.market.verification import ADAPTIVE_REPLICAS_MAX
from bacalhau.model.execution import ExecutionState
from bacalhau.model.job import JobState
from bacalhau.model.ledger import TradeSide, Transaction
from bacalhau.model.reputation import Reputation, Role
from bacalhau.model.verification import VerificationPolicy
from bacalhau.scheduler.jobs import Job
from bacalhau.scheduler.records import (
    AnswerReceived,
    AuctionCleared,
    BidKept,
    Books,
    ExecutionRecord,
    JobAccepted,
    JobChanged,
    JobHappening,
    NoteRecord,
    OfferMade,
    PayableRecord,
    ReceiptRecord,
    ReceivableRecord,
    WorkRecord,
    WorkState,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bacalhau.model.market import JobOffer
    from bacalhau.scheduler.records import Write


@dataclass(slots=True)
class Journal:
    """By id: the latest record of each kind, and each job's history."""

    jobs: dict[str, JobAccepted] = field(default_factory=dict)
    changes: dict[str, JobChanged] = field(default_factory=dict)
    history: dict[str, list[JobHappening]] = field(default_factory=dict)
    executions: dict[str, ExecutionRecord] = field(default_factory=dict)
    works: dict[str, WorkRecord] = field(default_factory=dict)
    offers: dict[str, JobOffer] = field(default_factory=dict)
    declines: dict[tuple[str, str], int] = field(default_factory=dict)
    """By offer and node: when it declined last."""
    clearings: dict[str, list[AuditedClearing]] = field(default_factory=dict)
    """By offer, in order."""
    reputations: dict[tuple[str, Role], Reputation] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)
    payables: dict[str, PayableRecord] = field(default_factory=dict)
    receivables: dict[str, ReceivableRecord] = field(default_factory=dict)
    receipts: dict[tuple[TradeSide, str, int], ReceiptRecord] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger, compare=False)
    """What the transactions come to."""

    def commit(self, writes: Sequence[Write]) -> None:
        """All of the writes at once; raises AssertionError where they break what holds for every job."""
        ended = [id for id in self.jobs if self.state(id).ended]
        touched: dict[str, None] = {}
        for write in writes:
            match write:
                case JobAccepted():
                    assert write.id not in self.jobs, f"{write.id} is accepted twice"
                    self.jobs[write.id] = write
                case JobChanged():
                    self.changes[write.id] = write
                    touched[write.id] = None
                case JobHappening():
                    entries = self.history.setdefault(write.job_id, [])
                    assert write.sequence == len(entries) + 1, (
                        f"a gap in the history of {write.job_id}: {write}"
                    )
                    entries.append(write)
                    touched[write.job_id] = None
                case ExecutionRecord():
                    self._take_execution(write)
                    if not write.late:
                        touched[write.job_id] = None
                case WorkRecord():
                    self._take_work(write)
                case OfferMade():
                    self.offers[write.offer.id] = write.offer
                case AnswerReceived():
                    if write.refusal is not None:
                        self.declines[write.offer_id, write.node_id] = write.received_us
                case AuctionCleared():
                    self._take_clearing(write)
                case Reputation():
                    self.reputations[write.node_id, write.role] = write
                case Transaction():
                    self.transactions.append(write)
                    self.ledger.post(write)
                case PayableRecord():
                    self.payables[write.peer_id] = write
                case ReceivableRecord():
                    self.receivables[write.peer_id] = write
                case ReceiptRecord():
                    self._take_receipt(write)
                case BidKept() | NoteRecord():
                    pass
        for id in touched:
            assert id not in ended, f"{id} had ended, and was written to again"
            self.check_job(id)
        self.check_books()

    def check_books(self) -> None:
        """Nothing is made or lost, and history comes to what the balances and open executions say."""
        self.ledger.check()
        opened = books.opening(
            [(id, record.balance) for id, record in self.payables.items()],
            [(id, record.balance) for id, record in self.receivables.items()],
            [(e.id, e.price_microcredits) for e in self.executions.values() if not e.state.ended],
        )
        history, records = self.ledger.balances, opened.balances
        assert history == records, f"history comes to {history}, and the records to {records}"

    def _take_receipt(self, new: ReceiptRecord) -> None:
        key = (new.side, new.peer_id, new.receipt.sequence)
        old = self.receipts.get(key)
        assert old is None or old.receipt == new.receipt, f"{key} was {old}, and became {new}"
        assert old is None or old.evidence is None, f"{key} was signed, and is written again"
        twice = [
            other
            for other in self.receipts.values()
            if other.side is new.side
            and other.receipt.execution_id == new.receipt.execution_id
            and other.receipt.sequence != new.receipt.sequence
        ]
        assert not twice, f"{new.receipt.execution_id} is paid twice: {twice}"
        self.receipts[key] = new

    def _take_clearing(self, new: AuctionCleared) -> None:
        """Each clearing follows from what it discloses; a decline proves what it does in the world's one time."""
        offer = self.offers[new.clearing.offer_id]
        disclosed = tuple(
            Disclosed(
                entry_of(sealed, standing),
                SignedBid(sealed.node_id, sealed.bid, sealed.issued_us, sealed.digest),
                SignedDecline(sealed.node_id, offer.id, sealed.issued_us)
                if (offer.id, sealed.node_id) in self.declines
                else None,
            )
            for sealed, standing in new.bid_set
        )
        clearings = self.clearings.setdefault(offer.id, [])
        clearings.append(AuditedClearing(new.clearing, disclosed))
        assert new.sequence == len(clearings), new
        findings = audit(offer, "nobody", clearings, Auditor("nobody"))
        assert findings == [[] for _ in clearings], findings

    def _take_execution(self, new: ExecutionRecord) -> None:
        old = self.executions.get(new.id)
        if old is not None and new.late:
            assert new == replace(old, report=new.report, late=True), f"{old} became {new}"
            assert old.report is None, f"{old} had a report, and became {new}"
        elif old is not None:
            assert not old.state.ended, f"{old} had ended, and became {new}"
            assert old.charged_microcredits == 0, f"{new.id} is charged twice"
            assert (old.node_id, old.price_microcredits) == (new.node_id, new.price_microcredits), new
            assert old.commitment in (b"", new.commitment), f"{old} is bound, and became {new}"
        self.executions[new.id] = new

    def _take_work(self, new: WorkRecord) -> None:
        old = self.works.get(new.id)
        if old is not None:
            again = old.state is WorkState.SETTLED and (old.receipt_sequence or not new.receipt_sequence)
            assert not again, f"{old} was settled, and became {new}"
            assert old.award == new.award, new
            assert old.commitment in (b"", new.commitment), f"{old} is bound, and became {new}"
            assert not old.revealed or new.revealed, new
        self.works[new.id] = new

    def state(self, job_id: str) -> JobState:
        change = self.changes.get(job_id)
        return change.state if change is not None else JobState.PENDING

    def executions_of(self, job_id: str) -> list[ExecutionRecord]:
        return [execution for execution in self.executions.values() if execution.job_id == job_id]

    def check_job(self, job_id: str) -> None:
        """Never more slots than were asked for, each completed one charged once, at most the ceiling."""
        spec = self.jobs[job_id].spec
        executions = self.executions_of(job_id)
        held = [e for e in executions if not e.state.ended or e.state is ExecutionState.COMPLETED]
        adaptive = spec.verification.policy is VerificationPolicy.ADAPTIVE
        most = ADAPTIVE_REPLICAS_MAX if adaptive else spec.count
        assert len(held) <= most, f"{job_id} has {len(held)} executions of {most}: {held}"
        for execution in executions:
            completed = execution.state is ExecutionState.COMPLETED
            payable = execution.price_microcredits if completed else 0
            assert 0 <= execution.charged_microcredits <= payable, execution
            assert not completed or execution.charged_microcredits > 0, execution
            ceiling = spec.max_price_microcredits
            assert ceiling is None or execution.charged_microcredits <= ceiling, execution
            assert not completed or execution.report is not None, execution
        change = self.changes.get(job_id)
        if change is not None:
            assert change.charged_microcredits == sum(e.charged_microcredits for e in executions), change
            if change.state is JobState.COMPLETED:
                accepted = [e for e in executions if e.state is ExecutionState.COMPLETED]
                least = 1 if adaptive else spec.verification.confidence or spec.count
                assert least <= len(accepted) <= most, executions
                assert len({e.compared for e in accepted}) == 1, f"winners that differ: {executions}"
            if change.state.ended:
                assert all(e.state.ended for e in executions), executions
                assert (change.failure is not None) is (change.state is JobState.FAILED), change

    # --- restart ---

    def open_jobs(self) -> list[Job]:
        return [
            Job(
                job.id,
                job.spec,
                job.inputs,
                job.spec_digest,
                job.created_us,
                state=self.state(job.id),
                sequence=len(self.history[job.id]),
                charged_microcredits=self.changes[job.id].charged_microcredits
                if job.id in self.changes
                else 0,
            )
            for job in self.jobs.values()
            if not self.state(job.id).ended
        ]

    def executions_of_open_jobs(self) -> list[ExecutionRecord]:
        return [e for e in self.executions.values() if not self.state(e.job_id).ended]

    def unsettled_works(self) -> list[WorkRecord]:
        ended = (WorkState.SETTLED, WorkState.DISPUTED)
        return [work for work in self.works.values() if work.state not in ended]

    def unsigned_receipts(self) -> list[ReceiptRecord]:
        unsigned = [
            record
            for record in self.receipts.values()
            if record.side is TradeSide.BUYING and record.evidence is None
        ]
        return sorted(unsigned, key=lambda record: record.receipt.sequence)

    def books(self) -> Books:
        return Books(
            tuple(self.payables.values()), tuple(self.unsigned_receipts()), tuple(self.receivables.values())
        )
