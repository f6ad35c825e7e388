"""How nodes treat work that they are paid for: honest ones and the kinds of cheats, and what a cheat makes of a
result that is compared with those of others. The names are those of scenario files."""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING

from bacalhau.market.verification import commitment_digest
from bacalhau.model.cid import RAW, Cid
from bacalhau.model.frozen import replace
from bacalhau.model.verification import Compared, ResultCommitment
from bacalhau.scheduler.records import WorkState

if TYPE_CHECKING:
    from bacalhau.model.execution import ExecutionReport, Usage
    from bacalhau.scheduler.records import WorkRecord
    from bacalhau.simulation.node import SimulatedNode


class Honesty(Enum):
    """What a node does with its work."""

    HONEST = "honest"
    NEVER_COMPUTES = "never_computes"
    """It waits for as long as the job would take, and reports a result that it made up."""
    MANY_KEYS = "many_keys"
    """The same, and all nodes of its group are keys of one owner: they make up the same result."""
    INFLATES_USAGE = "inflates_usage"
    """It reports twice what it used."""
    UNDERCUTS_AND_FAILS = "undercuts_and_fails"
    """It bids half the cost, and then reports a fault."""
    COPIES = "copies"
    """Where results are compared it repeats the commitment of another node, and opens it as that one does."""
    CONCEALS = "conceals"
    """Where results are compared it commits, and does not reveal."""
    SWITCHES = "switches"
    """Where results are compared it commits to one, and reveals another."""

    INVENTS_VERDICTS = "invents_verdicts"
    """It reports that its own result was refuted, which is its requester's to find."""

    @property
    def computes(self) -> bool:
        return self not in (Honesty.NEVER_COMPUTES, Honesty.MANY_KEYS)


def honest_result(job_id: str) -> Cid:
    """What the job's program really gives: programs are deterministic."""
    return Cid.of(RAW, job_id.encode())


def result_of(node: SimulatedNode, job_id: str) -> Cid:
    """The result that the node publishes."""
    match node.profile.honesty:
        case Honesty.NEVER_COMPUTES:
            return Cid.of(RAW, f"{job_id} made up by {node.id}".encode())
        case Honesty.MANY_KEYS:
            return Cid.of(RAW, f"{job_id} made up by {node.profile.group}".encode())
    return honest_result(job_id)


def reported_usage(node: SimulatedNode, used: Usage) -> Usage:
    if node.profile.honesty is not Honesty.INFLATES_USAGE:
        return used
    return replace(used, wall_us=2 * used.wall_us, cpu_us=2 * used.cpu_us)


def used_of(node: SimulatedNode, reported: Usage) -> Usage:
    """What the node really used, where it has reported this."""
    if node.profile.honesty is not Honesty.INFLATES_USAGE:
        return reported
    return replace(reported, wall_us=reported.wall_us // 2, cpu_us=reported.cpu_us // 2)


def compared_of(result: Cid) -> Compared:
    """What is compared of a simulated result: all that there is to it is its CID."""
    return Compared(hashlib.sha256(result.raw).digest(), 0)


def sealed(node: SimulatedNode, report: ExecutionReport, job_id: str) -> ExecutionReport:
    """The report as the node will reveal it, with the salt that opens its commitment."""
    if node.profile.honesty is Honesty.COPIES:
        copied = _to_copy(node, job_id)
        if copied is not None and copied.report is not None:
            return replace(report, result=copied.report.result, salt=copied.report.salt)
    return replace(report, salt=hashlib.sha256(report.execution_id.encode()).digest())


def commitment_of(node: SimulatedNode, report: ExecutionReport, job_id: str) -> ResultCommitment | None:
    """What the node says before it reveals; None where the job compares nothing, or the work failed."""
    if not report.salt or report.result is None:
        return None
    result = report.result
    match node.profile.honesty:
        case Honesty.COPIES if (copied := _to_copy(node, job_id)) is not None:
            return ResultCommitment(report.execution_id, report.attempt, copied.commitment)
        case Honesty.COPIES:  # there is nothing to copy yet
            result = Cid.of(RAW, f"guessed by {node.id}".encode())
        case Honesty.SWITCHES:
            result = Cid.of(RAW, f"switched by {node.id}".encode())
    bound = commitment_digest(report.salt, compared_of(result).digest, report.execution_id, node.id)
    return ResultCommitment(report.execution_id, report.attempt, bound)


def _to_copy(node: SimulatedNode, job_id: str) -> WorkRecord | None:
    """Work of an honest node at the same job, which has committed."""
    for other in node.world.nodes.values():
        for work in other.journal.works.values():
            if (
                work.award.job_id == job_id
                and work.commitment
                and work.state is not WorkState.ACCEPTED
                and other.profile.honesty is Honesty.HONEST
            ):
                return work
    return None
