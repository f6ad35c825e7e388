"""Results of the test world that are compared, what cheaters make of them, and what must have become of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from bacalhau.market.verification import commitment_digest
from bacalhau.model.cid import DAG_PB, Cid
from bacalhau.model.execution import ExecutionReport, ExecutionState, FaultKind
from bacalhau.model.reputation import Conduct, Role
from bacalhau.model.verification import Compared, ResultCommitment
from tests.scheduler.nodes import Honesty, Node

if TYPE_CHECKING:
    from bacalhau.scheduler.records import WorkRecord
    from tests.scheduler.world import World


def result_to_compare(world: World, node: Node, report: ExecutionReport) -> ExecutionReport:
    """What the node will reveal: an honest one its result, and a copycat that of a node that has committed."""
    salt = hashlib.sha256(report.execution_id.encode()).digest()
    match node.honesty:
        case Honesty.INVENTS:
            return replace(report, result=Cid.of(DAG_PB, f"invented by {node.id}".encode()), salt=salt)
        case Honesty.COPIES:
            copied = _to_copy(world, node, report.execution_id)
            if copied is not None and copied.report is not None:
                return replace(report, result=copied.report.result, salt=copied.report.salt)
    return replace(report, salt=salt)


def commitment_of(world: World, node: Node, report: ExecutionReport) -> ResultCommitment | None:
    if not report.salt or report.result is None:
        return None
    result = report.result
    match node.honesty:
        case Honesty.COPIES if (copied := _to_copy(world, node, report.execution_id)) is not None:
            return ResultCommitment(report.execution_id, report.attempt, copied.commitment)
        case Honesty.COPIES:  # there is nothing to copy yet
            result = Cid.of(DAG_PB, f"guessed by {node.id}".encode())
        case Honesty.SWITCHES:
            result = Cid.of(DAG_PB, f"switched by {node.id}".encode())
    digest = compared_of(result).digest
    bound = commitment_digest(report.salt, digest, report.execution_id, node.id)
    return ResultCommitment(report.execution_id, report.attempt, bound)


def _to_copy(world: World, node: Node, execution_id: str) -> WorkRecord | None:
    """Work of an honest node at the same job, which has committed."""
    own = node.compute.work(execution_id)
    for other in world.nodes.values():
        for work in other.journal.works.values():
            same = own is not None and work.award.job_id == own.award.job_id
            if same and work.commitment and other.honesty is Honesty.HONEST:
                return work
    return None


def check_verdicts(world: World, node: Node) -> None:
    """No cheater was paid where results were compared, and no honest node was taken for one."""
    for execution in node.journal.executions.values():
        honest = world.nodes[execution.node_id].honesty is Honesty.HONEST
        compares = node.journal.jobs[execution.job_id].spec.verification.compares
        if compares and execution.state is ExecutionState.COMPLETED:
            assert honest, f"{execution} is that of a cheater, and was paid"
        if execution.failure is not None and execution.failure.kind is FaultKind.RESULT_REFUTED:
            assert not honest, f"{execution} is honest, and was refuted"
    for (node_id, role), reputation in node.journal.reputations.items():
        if role is Role.COMPUTE and world.nodes[node_id].honesty is Honesty.HONEST:
            assert not reputation.count(Conduct.CHEATED), reputation


def compared_of(result: Cid) -> Compared:
    """What is compared of a result of the world: all that there is to it is its CID."""
    return Compared(hashlib.sha256(result.raw).digest(), 0)
