"""The executions of a requester: awards, leases, reports and results, until each has ended.

    AWARDED --confirmed--> RUNNING --report--> REPORTED --result fetched--> COMPLETED (paid)
       |                      |                    '--fault, no result--> FAILED
       |                      '--lease ended: lapsed, FAILED once the work is awarded again
       '--refused, unanswered--> REFUSED

Owns which open job an execution belongs to; its money is moved in payables.py. Methods that answer an event return
a Step, as in auctions.py: the machine then does what the job's new state allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.reputation import conduct_of
from bacalhau.model.execution import ExecutionState, Fault, FaultKind
from bacalhau.model.frozen import replace
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.market import Award
from bacalhau.model.refusals import TAKES_BID_BACK, Refusal, RefusalReason
from bacalhau.model.reputation import Conduct
from bacalhau.scheduler.effects import Effects, FetchResult, SendAward, SendCancellation, refuse
from bacalhau.scheduler.records import ExecutionRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.market.clearing import Winner
    from bacalhau.market.reputation import ReputationBook
    from bacalhau.scheduler import events as ev
    from bacalhau.scheduler.auctions import Step
    from bacalhau.scheduler.config import RequesterConfig
    from bacalhau.scheduler.deadlines import Deadlines
    from bacalhau.scheduler.jobs import Auction, Job
    from bacalhau.scheduler.payables import Payables


class Executions:
    """See the module. Shares the machine's deadlines: "confirm" and "lease", each with the execution's id."""

    def __init__(
        self,
        config: RequesterConfig,
        ids: Callable[[str], str],
        deadlines: Deadlines[tuple[str, str]],
        book: ReputationBook,
        payables: Payables,
    ) -> None:
        self._config = config
        self._ids = ids
        self._deadlines = deadlines
        self._book = book
        self._payables = payables
        self._jobs: dict[str, Job] = {}
        """By execution id: the open job that it belongs to."""

    def find(self, execution_id: str) -> tuple[Job | None, ExecutionRecord | None]:
        job = self._jobs.get(execution_id)
        return job, job.executions[execution_id] if job else None

    def restore(self, job: Job, execution: ExecutionRecord) -> None:
        job.executions[execution.id] = execution
        self._jobs[execution.id] = job
        if execution.failure is not None:
            self._learn(job, execution.node_id, execution.failure)

    def resume(self, job: Job, execution: ExecutionRecord, now: int) -> Effects:
        """After a restart: unconfirmed awards are sent again, and a full lease of grace is granted, for the
        node cannot know which renewals it missed."""
        match execution.state:
            case ExecutionState.AWARDED:
                return Effects(sends=[self._send_award(job, execution, now)])
            case ExecutionState.RUNNING:
                self._deadlines.set(("lease", execution.id), now + self._config.lease_us)
            case ExecutionState.REPORTED:
                return self._fetch_or_fail(job, execution, now)
        return Effects()

    # --- awards ---

    def award(self, job: Job, auction: Auction, winner: Winner, digest: bytes, now: int) -> Effects:
        """`digest` is over the bids that were compared."""
        effects = Effects()
        if not job.vacant():
            effects.add(self._close_lapsed(job, job.executions[next(iter(job.lapsed))], now))
        sealed = auction.bids.pop(winner.sealed.node_id)
        execution = ExecutionRecord(
            id=self._ids("e"),
            job_id=job.id,
            offer_id=auction.offer.id,
            bid_id=sealed.bid.id,
            node_id=sealed.node_id,
            state=ExecutionState.AWARDED,
            price_microcredits=winner.price_microcredits,
            charged_microcredits=0,
            created_us=now,
            updated_us=now,
            bid_set_digest=digest,
            payment=auction.offer.payment,
            bond_microcredits=sealed.bid.bond_microcredits,
        )
        self._jobs[execution.id] = job
        effects.add(self.changed(job, execution))
        if job.state is not JobState.RUNNING:
            job.state = JobState.RUNNING
            effects.writes.append(job.changed(now))
        price = execution.price_microcredits
        effects.writes.append(
            job.happened(JobEventType.AWARDED, now, execution=execution, price_microcredits=price)
        )
        effects.sends.append(self._send_award(job, execution, now))
        return effects

    def _send_award(self, job: Job, execution: ExecutionRecord, now: int) -> SendAward:
        self._deadlines.set(("confirm", execution.id), now + self._config.award_timeout_us)
        award = Award(
            execution.id,
            job.id,
            execution.offer_id,
            execution.bid_id,
            execution.price_microcredits,
            job.spec.auction.rule,
            execution.bid_set_digest,
            job.spec,
            self._config.lease_us,
            execution.payment,
            execution.bond_microcredits,
        )
        return SendAward(execution.node_id, award)

    def confirmed(self, execution_id: str, now: int) -> Step:
        job, execution = self._awarded(execution_id)
        if job is None or execution is None:
            return None, Effects()
        self._deadlines.clear(("confirm", execution_id))
        self._deadlines.set(("lease", execution_id), now + self._config.lease_us)
        effects = self.changed(job, replace(execution, state=ExecutionState.RUNNING, updated_us=now))
        effects.writes.append(job.happened(JobEventType.AWARD_CONFIRMED, now, execution=execution))
        return job, effects

    def refused(self, execution_id: str, refusal: Refusal, now: int) -> Step:
        job, execution = self._awarded(execution_id)
        if job is None or execution is None:
            return None, Effects()
        self._deadlines.clear(("confirm", execution_id))
        effects = self.changed(job, replace(execution, state=ExecutionState.REFUSED, updated_us=now))
        happened = job.happened(
            JobEventType.AWARD_REFUSED, now, refusal.message, execution=execution, refusal=refusal
        )
        effects.writes.append(happened)
        if refusal.reason not in TAKES_BID_BACK:
            effects.writes.append(self._book.note(execution.node_id, Conduct.REFUSED, now))
        return job, effects

    def unanswered(self, execution_id: str, now: int) -> Step:
        """The node may have the award all the same: it is told to stop, and gets no lease."""
        job, execution = self._awarded(execution_id)
        if job is None or execution is None:
            return None, Effects()
        self._deadlines.clear(("confirm", execution_id))
        message = "the node did not answer the award in time"
        failure = Fault(FaultKind.NODE_LOST, message)
        refused = replace(execution, state=ExecutionState.REFUSED, updated_us=now, failure=failure)
        effects = self.changed(job, refused)
        effects.writes.append(
            job.happened(JobEventType.AWARD_REFUSED, now, message, execution=execution, fault=failure)
        )
        effects.sends.append(SendCancellation(execution.node_id, execution_id, "the award was not confirmed"))
        return job, effects

    def _awarded(self, execution_id: str) -> tuple[Job | None, ExecutionRecord | None]:
        job, execution = self.find(execution_id)
        if execution is None or execution.state is not ExecutionState.AWARDED:
            return None, None
        return job, execution

    # --- leases ---

    def renewed(self, event: ev.RenewalReceived, now: int) -> Step:
        """A renewal also confirms the award whose confirmation was lost. One that was overtaken by a later
        phase extends the lease and tells nothing new."""
        renewal = event.renewal
        job, execution = self.find(renewal.execution_id)
        if job is None or execution is None or execution.node_id != event.node_id or execution.state.ended:
            message = f"{renewal.execution_id} has no lease any more"
            return None, refuse(Refusal(RefusalReason.LEASE_ENDED, message))
        effects = Effects()
        if execution.state is ExecutionState.AWARDED:
            effects.add(self.confirmed(execution.id, now)[1])
            execution = job.executions[execution.id]
        if execution.state is not ExecutionState.RUNNING:
            return None, effects
        job.lapsed.pop(execution.id, None)
        self._deadlines.set(("lease", execution.id), now + self._config.lease_us)
        known = (execution.attempt, execution.phase.value if execution.phase else 0)
        if (renewal.attempt, renewal.phase.value) > known:
            message = f"attempt {renewal.attempt}" if renewal.attempt != execution.attempt else ""
            execution = replace(execution, phase=renewal.phase, attempt=renewal.attempt, updated_us=now)
            effects.add(self.changed(job, execution))
            happened = job.happened(
                JobEventType.PHASE_CHANGED, now, message, execution=execution, phase=renewal.phase
            )
            effects.writes.append(happened)
        return job, effects

    def lease_ended(self, execution_id: str) -> Step:
        job, execution = self.find(execution_id)
        if job is None or execution is None or execution.state is not ExecutionState.RUNNING:
            return None, Effects()
        job.lapsed[execution_id] = None
        return job, Effects()

    def close_lapsed(self, job: Job, now: int) -> Effects:
        """Nobody waits for the lapsed executions of the job any more."""
        effects = Effects()
        for execution_id in tuple(job.lapsed):
            effects.add(self._close_lapsed(job, job.executions[execution_id], now))
        return effects

    def _close_lapsed(self, job: Job, execution: ExecutionRecord, now: int) -> Effects:
        """The work is about to be awarded again: from here on a report of the first node comes too late."""
        del job.lapsed[execution.id]
        message = "the node was not heard from until its lease ended"
        failure = Fault(FaultKind.NODE_LOST, message)
        failed = replace(execution, state=ExecutionState.FAILED, updated_us=now, failure=failure)
        effects = self.changed(job, failed)
        effects.writes.append(
            job.happened(JobEventType.EXECUTION_FAILED, now, message, execution=failed, fault=failure)
        )
        effects.sends.append(SendCancellation(execution.node_id, execution.id, message))
        return effects

    # --- reports and results ---

    def reported(self, event: ev.ReportReceived, now: int) -> Step:
        report = event.report
        if report.fault is not None and not report.fault.kind.in_reports:
            message = f"{report.fault.kind.name} is not for a report to say: only a requester finds it"
            return None, refuse(Refusal(RefusalReason.MALFORMED, message))
        job, execution = self.find(report.execution_id)
        if job is None or execution is None or execution.report is not None or execution.state.ended:
            late = answer_late_report(execution, event)
            if job is not None:
                job.executions.update(
                    (kept.id, kept) for kept in late.writes if isinstance(kept, ExecutionRecord)
                )
            return None, late
        if execution.node_id != event.node_id:
            return None, refuse(_not_yours(report.execution_id))
        execution = replace(
            execution, state=ExecutionState.REPORTED, updated_us=now, report=report, attempt=report.attempt
        )
        effects = self.work_ended(job, execution, now)
        effects.writes.append(job.happened(JobEventType.REPORTED, now, execution=execution))
        effects.add(self._fetch_or_fail(job, execution, now))
        return job, effects

    def work_ended(self, job: Job, execution: ExecutionRecord, now: int) -> Effects:
        """The execution in the state that follows its work: no lease and no question to its node runs any more. Where
        this is the node's first word of it, the award is confirmed as well."""
        _, effects = self.confirmed(execution.id, now)
        self._clear_deadlines(execution.id)
        job.lapsed.pop(execution.id, None)
        effects.add(self.changed(job, execution))
        return effects

    def _fetch_or_fail(self, job: Job, execution: ExecutionRecord, now: int) -> Effects:
        """A result is fetched before anything is accepted, that of a failed execution too."""
        report = execution.report
        if report is None:
            raise AssertionError(f"{execution.id} is REPORTED without a report")
        if report.result is not None:
            verification = job.spec.verification if execution.commitment else None
            disk_bytes = job.spec.resources.disk_bytes
            fetch = FetchResult(execution.id, execution.node_id, report.result, disk_bytes, verification)
            return Effects(starts=[fetch])
        return self.failed(job, execution, _fault_of(execution), now)

    def result_fetched(self, execution_id: str, now: int) -> Step:
        job, execution = self._reported(execution_id)
        if job is None or execution is None or execution.report is None:
            return None, Effects()
        if execution.report.fault is not None or execution.report.cancelled:
            return job, self.failed(job, execution, _fault_of(execution), now)
        return job, self.accept(job, execution, now)

    def accept(self, job: Job, execution: ExecutionRecord, now: int) -> Effects:
        """The result counts, and is charged."""
        due = self._payables.due(job.spec, execution)
        completed = replace(
            execution, state=ExecutionState.COMPLETED, updated_us=now, charged_microcredits=due
        )
        effects = self.changed(job, completed)
        job.charged_microcredits += due
        effects.writes.append(job.changed(now))
        effects.writes.append(
            job.happened(JobEventType.EXECUTION_COMPLETED, now, execution=completed, price_microcredits=due)
        )
        return effects

    def result_unavailable(self, execution_id: str, message: str, now: int) -> Step:
        job, execution = self._reported(execution_id)
        if job is None or execution is None or execution.report is None:
            return None, Effects()
        fault = execution.report.fault or Fault(FaultKind.RESULT_UNAVAILABLE, message)
        return job, self.failed(job, execution, fault, now)

    def _reported(self, execution_id: str) -> tuple[Job | None, ExecutionRecord | None]:
        job, execution = self.find(execution_id)
        if execution is None or execution.state is not ExecutionState.REPORTED:
            return None, None
        return job, execution

    def failed(
        self, job: Job, execution: ExecutionRecord, fault: Fault, now: int, *, penalty_microcredits: int = 0
    ) -> Effects:
        """It ends without a charge. Only who compares results finds a penalty due."""
        self._clear_deadlines(execution.id)
        failed = replace(
            execution,
            state=ExecutionState.FAILED,
            updated_us=now,
            failure=fault,
            penalty_microcredits=penalty_microcredits,
        )
        effects = self.changed(job, failed)
        effects.writes.append(
            job.happened(JobEventType.EXECUTION_FAILED, now, fault.message, execution=failed, fault=fault)
        )
        self._learn(job, execution.node_id, fault)
        return effects

    def _learn(self, job: Job, node_id: str, fault: Fault) -> None:
        """What a fault means for the next try: none, another node, or (the node was only lost) any."""
        blaming = [e for e in job.executions.values() if e.failure is not None and e.failure.kind.blames_job]
        # Where results are compared, one node's word does not end the job either.
        if fault.kind.blames_job and len(blaming) >= job.spec.verification.confidence:
            job.fatal = fault
        elif fault.kind is not FaultKind.NODE_LOST:
            job.faulted[node_id] = fault

    # --- the end ---

    def cancel_active(self, job: Job, message: str, now: int) -> Effects:
        """Whatever still runs for the job is stopped."""
        effects = Effects()
        for execution in job.active():
            self._clear_deadlines(execution.id)
            job.lapsed.pop(execution.id, None)
            stopped = replace(execution, state=ExecutionState.CANCELLED, updated_us=now)
            effects.add(self.changed(job, stopped))
            effects.writes.append(job.happened(JobEventType.EXECUTION_CANCELLED, now, execution=stopped))
            effects.sends.append(SendCancellation(execution.node_id, execution.id, message))
        return effects

    def forget(self, job: Job) -> None:
        for execution_id in job.executions:
            del self._jobs[execution_id]

    def changed(self, job: Job, execution: ExecutionRecord) -> Effects:
        """The execution in its new state; an end tells of its node, and moves its money."""
        was = job.executions.get(execution.id)
        job.executions[execution.id] = execution
        effects = Effects(writes=[execution])
        if was is None or execution.state.ended:
            effects.add(self._payables.moved(job.spec, was, execution))
        conduct = conduct_of(execution.state, execution.failure) if execution.state.ended else None
        if conduct is not None:
            effects.writes.append(self._book.note(execution.node_id, conduct, execution.updated_us))
        return effects

    def _clear_deadlines(self, execution_id: str) -> None:
        self._deadlines.clear(("confirm", execution_id))
        self._deadlines.clear(("lease", execution_id))
        self._deadlines.clear(("reveal", execution_id))

    def check(self) -> None:
        for execution_id, job in self._jobs.items():
            assert not job.state.ended, job
            execution, ceiling = job.executions[execution_id], job.spec.max_price_microcredits
            assert ceiling is None or execution.price_microcredits <= ceiling, execution
            payable = execution.price_microcredits if execution.state is ExecutionState.COMPLETED else 0
            assert 0 <= execution.charged_microcredits <= payable, execution
            confirm, lease = ("confirm", execution_id), ("lease", execution_id)
            awarded = execution.state is ExecutionState.AWARDED
            assert (self._deadlines.get(confirm) is not None) is awarded, execution
            leased = execution.state is ExecutionState.RUNNING and execution_id not in job.lapsed
            assert (self._deadlines.get(lease) is not None) is leased, execution
            assert execution_id not in job.lapsed or execution.state is ExecutionState.RUNNING, execution


def answer_late_report(execution: ExecutionRecord | None, event: ev.ReportReceived) -> Effects:
    """What a report gets that changes nothing for its job: nothing (it is known) where this node's report was taken
    before, else a refusal. One that comes after the execution had ended is kept all the same, and unpaid. For the
    machine; and for the driver, with the execution out of the store, where the machine refused the report as NOT_FOUND
    because the job is open no longer: the node then repeats a report whose answer it lost."""
    if execution is None or execution.node_id != event.node_id:
        return refuse(_not_yours(event.report.execution_id))
    if execution.report is not None and not execution.late:
        return Effects()
    if not execution.state.ended:
        # Out of a store that its end has not reached yet: what is written from this would undo it.
        return refuse(Refusal(RefusalReason.WRONG_STATE, f"{execution.id} is just ending: report it again"))
    message = (
        f"{execution.id} came too late: its lease had ended, or the job was stopped. It is kept, and not paid"
    )
    effects = refuse(Refusal(RefusalReason.LEASE_ENDED, message))
    if execution.report is None:
        effects.writes.append(replace(execution, report=event.report, late=True))
    return effects


def _not_yours(execution_id: str) -> Refusal:
    return Refusal(RefusalReason.NOT_FOUND, f"no open execution {execution_id} of yours")


def _fault_of(execution: ExecutionRecord) -> Fault:
    """Why the report of a failed execution does not count as a result."""
    report = execution.report
    if report is not None and report.fault is not None:
        return report.fault
    if report is not None and report.cancelled:
        return Fault(FaultKind.NODE_RESTARTED, "the node stopped the work")
    return Fault(FaultKind.RESULT_UNAVAILABLE, "the node reported no result")
