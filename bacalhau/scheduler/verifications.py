"""Verification at the requester: commitments, reveals, and what becomes of results that were compared.

    RUNNING --commitment--> COMMITTED --all have: asked--> REPORTED --fetched, fits--> REVEALED --verdict--> COMPLETED
                                |                              '--fits not--> FAILED        '--refuted--> FAILED
                                '--not revealed in time--> FAILED

Only for jobs that compare results; the rest of an execution's life is executions.py's. Nobody is asked to reveal before
as many have committed as the job wants. An execution that fails on the way is awarded again to another node, which
commits in its turn; what was revealed until then only the requester knows the CID of.

An adaptive job wants one result. When its node has committed, and cannot know, it is decided whether a second node
checks it; where these two differ a third one is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.verification import (
    ADAPTIVE_REPLICAS_MAX,
    commitment_digest,
    draw_of,
    is_checked,
    judge,
)
from bacalhau.model.execution import ExecutionState, Fault, FaultKind
from bacalhau.model.frozen import replace
from bacalhau.model.job import JobEventType
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.units import SECOND_US
from bacalhau.model.verification import VerificationPolicy
from bacalhau.scheduler.effects import Effects, SendRevealRequest, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.market.reputation import ReputationBook
    from bacalhau.market.verification import Verdict
    from bacalhau.model.verification import Compared
    from bacalhau.scheduler import events as ev
    from bacalhau.scheduler.auctions import Step
    from bacalhau.scheduler.config import RequesterConfig
    from bacalhau.scheduler.deadlines import Deadlines
    from bacalhau.scheduler.executions import Executions
    from bacalhau.scheduler.jobs import Job
    from bacalhau.scheduler.records import ExecutionRecord

_BOUND = (ExecutionState.COMMITTED, ExecutionState.REPORTED, ExecutionState.REVEALED)
"""The node can change its result no more."""


class Verifications:
    """See the module. Shares the machine's deadlines: "reveal", with the execution's id."""

    def __init__(
        self,
        config: RequesterConfig,
        ids: Callable[[str], str],
        deadlines: Deadlines[tuple[str, str]],
        executions: Executions,
        book: ReputationBook,
    ) -> None:
        self._config = config
        self._ids = ids
        self._deadlines = deadlines
        self._executions = executions
        self._book = book

    # --- commitments ---

    def committed(self, event: ev.CommitmentReceived, now: int) -> Step:
        commitment = event.commitment
        job, execution = self._executions.find(commitment.execution_id)
        if job is None or execution is None or execution.node_id != event.node_id:
            message = f"no open execution {commitment.execution_id} of yours"
            return None, refuse(Refusal(RefusalReason.NOT_FOUND, message))
        if not job.spec.verification.compares:
            message = f"the results of {job.id} are not compared: report them as they are"
            return None, refuse(Refusal(RefusalReason.MALFORMED, message))
        if execution.commitment and not execution.state.ended:
            if execution.commitment == commitment.digest:
                return None, Effects()
            message = f"{execution.id} was committed to another result before"
            return None, refuse(Refusal(RefusalReason.ID_REUSED, message))
        if execution.state not in (ExecutionState.AWARDED, ExecutionState.RUNNING):
            message = f"{execution.id} came too late: its lease had ended, or it was reported"
            return None, refuse(Refusal(RefusalReason.LEASE_ENDED, message))
        execution = replace(
            execution,
            state=ExecutionState.COMMITTED,
            updated_us=now,
            attempt=commitment.attempt,
            commitment=commitment.digest,
            committed_us=now,
        )
        effects = self._executions.work_ended(job, execution, now)
        effects.writes.append(job.happened(JobEventType.COMMITTED, now, execution=execution))
        return job, effects

    def reported(self, event: ev.ReportReceived, now: int) -> Step:
        """A result that was not committed to is not taken: who sends it may have seen those of others."""
        report = event.report
        job, execution = self._executions.find(report.execution_id)
        if (
            job is not None
            and execution is not None
            and job.spec.verification.compares
            and execution.state in (ExecutionState.AWARDED, ExecutionState.RUNNING)
            and execution.node_id == event.node_id
            and report.fault is None
            and not report.cancelled
        ):
            message = f"the result of {execution.id} has to be committed to before it is reported"
            return None, refuse(Refusal(RefusalReason.MALFORMED, message))
        return self._executions.reported(event, now)

    # --- reveals ---

    def _ask(self, job: Job, execution: ExecutionRecord, now: int) -> SendRevealRequest:
        job.asked.setdefault(execution.id, now)
        self._deadlines.set(("reveal", execution.id), now + self._config.reveal_retry_us)
        return SendRevealRequest(execution.node_id, execution.id)

    def reveal_due(self, execution_id: str, now: int) -> Step:
        """Asks again, or gives up."""
        job, execution = self._committed(execution_id)
        if job is None or execution is None:
            return None, Effects()
        timeout_us = self._config.reveal_timeout_us
        if now < job.asked[execution_id] + timeout_us:
            return job, Effects(sends=[self._ask(job, execution, now)])
        message = f"the node did not reveal its result within {timeout_us // SECOND_US} seconds"
        return job, self._executions.failed(job, execution, Fault(FaultKind.NOT_REVEALED, message), now)

    def reveal_refused(self, event: ev.RevealRefused, now: int) -> Step:
        job, execution = self._committed(event.execution_id)
        if job is None or execution is None or event.refusal.reason is not RefusalReason.NOT_FOUND:
            return None, Effects()
        message = f"the node has lost the result that it committed to: {event.refusal.message}"
        return job, self._executions.failed(job, execution, Fault(FaultKind.NOT_REVEALED, message), now)

    def _committed(self, execution_id: str) -> tuple[Job | None, ExecutionRecord | None]:
        job, execution = self._executions.find(execution_id)
        if execution is None or execution.state is not ExecutionState.COMMITTED:
            return None, None
        return job, execution

    def result_fetched(self, event: ev.ResultFetched, now: int) -> Step:
        """The result is here whole: is it what its node had committed to?"""
        job, execution = self._executions.find(event.execution_id)
        if job is None or execution is None or execution.state is not ExecutionState.REPORTED:
            return None, Effects()
        report = execution.report
        if not execution.commitment or report is None or report.fault is not None or report.cancelled:
            return self._executions.result_fetched(event.execution_id, now)
        wrong = _breach(execution, event.compared)
        if wrong is not None or event.compared is None:
            return job, self._refuted(job, execution, wrong or "", now)
        revealed = replace(
            execution, state=ExecutionState.REVEALED, updated_us=now, compared=event.compared.digest
        )
        return job, self._executions.changed(job, revealed)

    # --- verdicts ---

    def advance(self, job: Job, now: int) -> Effects:
        """What can be done once every execution that the job wants is bound to its result."""
        effects = Effects()
        held = job.held()
        if job.missing() or any(execution.state not in _BOUND for execution in held):
            return effects
        if self._wants_check(job):
            job.replicas += 1
            message = "the result is checked by another node before it is shown"
            checked = job.happened(JobEventType.VERIFYING, now, message, execution=held[0])
            effects.writes += [job.changed(now), checked]
            return effects
        unasked = [
            execution
            for execution in held
            if execution.state is ExecutionState.COMMITTED and execution.id not in job.asked
        ]
        if unasked:
            nodes = "1 node" if len(unasked) == 1 else f"{len(unasked)} nodes"
            message = f"{nodes} committed, and are asked for their results"
            effects.writes.append(job.happened(JobEventType.VERIFYING, now, message))
            effects.sends += [self._ask(job, execution, now) for execution in unasked]
        elif all(execution.state is ExecutionState.REVEALED for execution in held):
            effects.add(self._decide(job, held, now))
        return effects

    def go_on_with_fewer(self, job: Job) -> bool:
        """Where no other node can be had: goes on with the executions that there are, if they can still agree."""
        verification = job.spec.verification
        if verification.policy is not VerificationPolicy.REPLICATED or not job.missing():
            return False
        if len(job.held()) < verification.confidence:
            return False
        job.replicas = len(job.held())
        return True

    def _wants_check(self, job: Job) -> bool:
        """Decided once, when the only result is bound; anew after a restart, for nobody has seen the first draw."""
        if job.spec.verification.policy is not VerificationPolicy.ADAPTIVE or job.replicas > 1:
            return False
        (only,) = job.held()
        if job.trusting == only.id:
            return False
        if is_checked(self._book.consecutive_valid(only.node_id), draw_of(self._ids("v"))):
            return True
        job.trusting = only.id
        return False

    def _decide(self, job: Job, revealed: list[ExecutionRecord], now: int) -> Effects:
        verification = job.spec.verification
        confidence = verification.confidence if job.replicas > 1 else 1
        verdict = judge({execution.id: execution.compared for execution in revealed}, confidence)
        if verdict.agreed:
            return self._agreed(job, verdict, now)
        groups = " | ".join(", ".join(job.executions[id].node_id for id in group) for group in verdict.groups)
        if verification.policy is VerificationPolicy.ADAPTIVE and job.replicas < ADAPTIVE_REPLICAS_MAX:
            job.replicas += 1
            message = f"the results differ ({groups}): another node is asked"
            return Effects(writes=[job.changed(now), job.happened(JobEventType.VERIFYING, now, message)])
        message = (
            f"of {len(revealed)} results no {confidence} agree, or as many as others do; by node: {groups}"
        )
        fault = Fault(FaultKind.NO_AGREEMENT, message)
        effects = Effects()
        for execution in revealed:
            effects.add(self._executions.failed(job, execution, fault, now))
        job.fatal = fault
        return effects

    def _agreed(self, job: Job, verdict: Verdict, now: int) -> Effects:
        effects = Effects()
        count = len(verdict.winners)
        for id in verdict.losers:
            message = f"{count} other nodes agree on another result than this node's"
            effects.add(self._refuted(job, job.executions[id], message, now))
        for id in verdict.winners:
            execution = job.executions[id]
            if count > 1:
                effects.writes.append(self._book.note_valid(execution.node_id, now))
            effects.add(self._executions.accept(job, execution, now))
        job.decided = True
        return effects

    def _refuted(self, job: Job, execution: ExecutionRecord, message: str, now: int) -> Effects:
        """The node is proven to have cheated, and forfeits the bond of its bid."""
        fault = Fault(FaultKind.RESULT_REFUTED, message)
        bond = execution.bond_microcredits
        return self._executions.failed(job, execution, fault, now, penalty_microcredits=bond)

    def restore(self, job: Job) -> None:
        """How many results the job wants by now, where its record does not say it, as in journals of before version
        8: an adaptive one as many as were ever bound or are being made."""
        if job.replicas:
            return
        job.replicas = job.spec.count
        if job.spec.verification.policy is VerificationPolicy.ADAPTIVE:
            begun = sum(1 for e in job.executions.values() if e.commitment or not e.state.ended)
            job.replicas = max(1, min(begun, ADAPTIVE_REPLICAS_MAX))

    def check(self, job: Job) -> None:
        for execution in job.executions.values():
            waits = execution.state is ExecutionState.COMMITTED and execution.id in job.asked
            assert (self._deadlines.get(("reveal", execution.id)) is not None) is waits, execution
            if execution.state in (ExecutionState.COMMITTED, ExecutionState.REVEALED):
                assert job.spec.verification.compares, execution
                assert execution.commitment, execution
            if job.spec.verification.compares and execution.state is ExecutionState.COMPLETED:
                raise AssertionError(f"{execution} was accepted while its job goes on")


def _breach(execution: ExecutionRecord, compared: Compared | None) -> str | None:
    """Why what was revealed is not what was committed to; None where it is."""
    report = execution.report
    if report is None or compared is None:
        return "what the node revealed is no result folder"
    if compared.exit_code != report.exit_code:
        return f"the node reported exit code {report.exit_code}, and its result says {compared.exit_code}"
    digest = commitment_digest(report.salt, compared.digest, execution.id, execution.node_id)
    if digest != execution.commitment:
        return "the node revealed another result than the one that it had committed to"
    return None
