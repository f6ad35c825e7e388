"""What a simulated node has on disk: its committed records, and checks of every commit.

A crash leaves nothing but this. What has ended is forgotten, for memory must not grow with the jobs of a run;
`keep_ended` keeps it, for checks that look back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.verification import ADAPTIVE_REPLICAS_MAX
from bacalhau.model.execution import ExecutionState
from bacalhau.model.frozen import replace
from bacalhau.model.job import JobState
from bacalhau.model.ledger import Transaction
from bacalhau.model.reputation import Reputation, Role
from bacalhau.model.verification import VerificationPolicy
from bacalhau.scheduler.jobs import Job
from bacalhau.scheduler.records import (
    AnswerReceived,
    AuctionCleared,
    BidKept,
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
from bacalhau.simulation.books import SimulatedBooks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from bacalhau.scheduler.records import Write

_WORK_ENDED = (WorkState.SETTLED, WorkState.DISPUTED)
_ENDED_WORKS_KEPT = 4
"""Ended work that a node still knows: for receipts and awards that are repeated."""
_ENDED_KEPT = 1_000
"""Ended jobs whose executions a node still knows: for reports that are repeated because an answer was lost."""


class Journal:
    """By id: the latest record of each kind. `histories` are only kept with `keep_ended`."""

    __slots__ = (
        "_ended",
        "_ended_works",
        "_executions_of",
        "_keep_ended",
        "_sequences",
        "_takes",
        "books",
        "changes",
        "executions",
        "histories",
        "jobs",
        "reputations",
        "works",
    )

    def __init__(self, *, keep_ended: bool = False) -> None:
        self.jobs: dict[str, JobAccepted] = {}
        self.changes: dict[str, JobChanged] = {}
        self.executions: dict[str, ExecutionRecord] = {}
        self.works: dict[str, WorkRecord] = {}
        self.reputations: dict[tuple[str, Role], Reputation] = {}
        self.histories: dict[str, list[JobHappening]] = {}
        self._sequences: dict[str, int] = {}
        self._executions_of: dict[str, list[str]] = {}
        self._keep_ended = keep_ended
        self._takes = _TAKES if keep_ended else _TAKES_BRIEFLY
        self.books = SimulatedBooks(audit=keep_ended)
        self._ended_works: list[str] = []
        self._ended: list[str] = []

    def commit(self, writes: Sequence[Write]) -> None:
        """All of the writes at once; raises AssertionError where they break what holds for every job: with
        `keep_ended` for those that have not ended too."""
        touched: dict[str, None] = {}
        takes = self._takes
        for write in writes:
            take = takes[type(write)]
            if take is not None:
                job_id = take(self, write)
                if job_id is not None:
                    touched[job_id] = None
        if self._keep_ended:
            for id in touched:
                self.check_job(id)
            self.books.check(self.executions.values())
        elif touched:
            for id in touched:
                if self.state(id).ended:
                    self.check_job(id)
                    self._forget(id)

    # --- records ---

    def _take_job(self, new: JobAccepted) -> str:
        assert new.id not in self.jobs, f"{new.id} is accepted twice"
        self.jobs[new.id] = new
        return new.id

    def _take_change(self, new: JobChanged) -> str:
        self._check_open(new.id)
        self.changes[new.id] = new
        return new.id

    def _take_happening(self, new: JobHappening) -> None:
        """The last entries follow the change that ends the job, in the same transaction."""
        sequence = self._sequences.get(new.job_id, 0) + 1
        assert new.sequence == sequence, f"a gap in the history of {new.job_id}: {new}"
        self._sequences[new.job_id] = sequence
        if self._keep_ended:
            history = self.histories.setdefault(new.job_id, [])
            assert not history or not history[-1].ends_job, (
                f"{new.job_id} had ended, and was written to again"
            )
            history.append(new)

    def _take_reputation(self, new: Reputation) -> None:
        self.reputations[new.node_id, new.role] = new

    def _take_money(self, new: Write) -> None:
        self.books.take(new)

    def _take_execution(self, new: ExecutionRecord) -> str | None:
        old = self.executions.get(new.id)
        if new.late and old is not None:
            assert new == replace(old, report=new.report, late=True), f"{old} became {new}"
            # Two copies may come before the first is on disk.
            assert old.report in (None, new.report), f"{old} had another report, and became {new}"
            self.executions[new.id] = new
            return None
        self._check_open(new.job_id)
        if old is None:
            self._executions_of.setdefault(new.job_id, []).append(new.id)
        else:
            assert not old.state.ended, f"{old} had ended, and became {new}"
            assert old.charged_microcredits == 0, f"{new.id} is charged twice"
            assert old.commitment in (b"", new.commitment), f"{old} is bound, and became {new}"
            assert (old.node_id, old.price_microcredits) == (new.node_id, new.price_microcredits), new
        self.executions[new.id] = new
        return new.job_id

    def _take_work(self, new: WorkRecord) -> None:
        old = self.works.get(new.id)
        if old is not None:
            again = old.state is WorkState.SETTLED and (old.receipt_sequence or not new.receipt_sequence)
            assert not again, f"{old} was settled, and became {new}"
            assert old.award == new.award, new
            assert old.commitment in (b"", new.commitment), f"{old} is bound, and became {new}"
            assert not old.revealed or new.revealed, new
        self.works[new.id] = new
        if new.state in _WORK_ENDED and not self._keep_ended:
            self._ended_works.append(new.id)
            if len(self._ended_works) > _ENDED_WORKS_KEPT:
                self.works.pop(self._ended_works.pop(0), None)

    def _check_open(self, job_id: str) -> None:
        assert not self.state(job_id).ended, f"{job_id} had ended, and was written to again"

    def _forget(self, job_id: str) -> None:
        """The job has ended: of it only its executions are known for a while."""
        for known in (self.jobs, self.changes, self._sequences):
            known.pop(job_id, None)
        self._ended.append(job_id)
        if len(self._ended) > _ENDED_KEPT:
            for execution_id in self._executions_of.pop(self._ended.pop(0), ()):
                del self.executions[execution_id]

    # --- views ---

    @property
    def empty(self) -> bool:
        """Nothing was ever written that a restart could take up."""
        return not (self.jobs or self.works or self.books.receivables)

    def state(self, job_id: str) -> JobState:
        change = self.changes.get(job_id)
        return change.state if change is not None else JobState.PENDING

    def executions_of(self, job_id: str) -> list[ExecutionRecord]:
        return [self.executions[id] for id in self._executions_of.get(job_id, ())]

    def check_job(self, job_id: str) -> JobState:
        """Never more slots than were asked for, each completed one charged once, at most the ceiling. The job's
        state."""
        spec = self.jobs[job_id].spec
        executions = self.executions_of(job_id)
        adaptive = spec.verification.policy is VerificationPolicy.ADAPTIVE
        most = ADAPTIVE_REPLICAS_MAX if adaptive else spec.count
        ceiling = spec.max_price_microcredits
        held = charged = 0
        completed: list[ExecutionRecord] = []
        for execution in executions:
            payable = 0
            if execution.state is ExecutionState.COMPLETED:
                assert execution.report is not None, execution
                payable = execution.price_microcredits
                completed.append(execution)
            elif not execution.state.ended:
                held += 1
            assert 0 <= execution.charged_microcredits <= payable, execution
            assert ceiling is None or execution.price_microcredits <= ceiling, execution
            charged += execution.charged_microcredits
        taken = held + len(completed)
        assert taken <= most, f"{job_id} has {taken} executions of {most}: {executions}"
        change = self.changes.get(job_id)
        if change is None:
            return JobState.PENDING
        assert change.charged_microcredits == charged, change
        if change.state is JobState.COMPLETED:
            least = 1 if adaptive else spec.verification.confidence or spec.count
            assert least <= len(completed) <= most, executions
            assert len({e.compared for e in completed}) == 1, f"winners that differ: {executions}"
        if change.state.ended:
            assert not held, executions
            assert (change.failure is not None) is (change.state is JobState.FAILED), change
        return change.state

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
                sequence=self._sequences.get(job.id, 0),
                charged_microcredits=self.changes[job.id].charged_microcredits
                if job.id in self.changes
                else 0,
                replicas=self.changes[job.id].replicas if job.id in self.changes else 0,
            )
            for job in self.jobs.values()
            if not self.state(job.id).ended
        ]

    def executions_of_open_jobs(self) -> list[ExecutionRecord]:
        return [
            execution
            for job in self.jobs.values()
            if not self.state(job.id).ended
            for execution in self.executions_of(job.id)
        ]

    def unsettled_works(self) -> list[WorkRecord]:
        return [work for work in self.works.values() if work.state not in _WORK_ENDED]


_TAKES: dict[type, Callable[[Journal, Any], str | None] | None] = {
    AnswerReceived: None,
    OfferMade: None,
    JobAccepted: Journal._take_job,
    Reputation: Journal._take_reputation,
    AuctionCleared: None,
    BidKept: None,
    JobChanged: Journal._take_change,
    JobHappening: Journal._take_happening,
    ExecutionRecord: Journal._take_execution,
    WorkRecord: Journal._take_work,
    ReceiptRecord: Journal._take_money,
    Transaction: Journal._take_money,
    ReceivableRecord: Journal._take_money,
    PayableRecord: Journal._take_money,
    NoteRecord: Journal._take_money,
}
"""By kind; None is evidence that no check reads. A job's id is given by what the job is to be checked after."""

_TAKES_BRIEFLY = {**_TAKES, Transaction: None}
"""Where what has ended is forgotten, history is not kept: the latest records say all that a restart needs."""
