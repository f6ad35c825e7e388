"""What the nodes of a settled test world must agree on: what was accepted, and who owes whom what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.model.execution import ExecutionState
from bacalhau.model.ledger import Balance
from bacalhau.model.resources import Resources

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.scheduler.records import ExecutionRecord, WorkRecord
    from tests.scheduler.nodes import Node


def at_rest(node: Node) -> bool:
    """Its jobs have ended, its reports were answered, and its receipts and notes are signed by both."""
    return (
        node.up
        and not node.requester.open_jobs
        and not node.journal.unsettled_works()
        and not node.journal.unsigned_receipts()
        and all(kept.signed_note == kept.balance.note_sequence for kept in node.journal.receivables.values())
    )


def check_room(node: Node) -> None:
    used = Resources()
    for program in node.programs.values():
        used = used.plus(program.resources)
    assert used.fits_in(node.capacity), f"{node.id} runs more than it has room for: {node.programs}"


def check_heard(work: WorkRecord, execution: ExecutionRecord) -> None:
    """What a node takes for accepted its requester knows of; what the requester paid for was accepted."""
    accepted = work.refusal is None and work.report is not None and not work.report.cancelled
    if accepted:
        assert execution.report == work.report, f"the report of {work.id} was lost: {execution}"
    if execution.state is ExecutionState.COMPLETED:
        assert accepted, f"{work.id} was paid for, and its node does not know it: {work}"
    assert work.paid_microcredits == execution.charged_microcredits, (work, execution)


def check_books(node: Node, others: Iterable[Node]) -> None:
    """Both sides of every pair have the same balance; and the node's books are what its journal replays to."""
    assert node.journal.ledger.total("escrow:") == 0, node.journal.ledger.balances
    for other in others:
        owed, due = node.journal.payables.get(other.id), other.journal.receivables.get(node.id)
        ours, theirs = owed.balance if owed else Balance(), due.balance if due else Balance()
        assert ours == theirs, f"{node.id} owes {other.id} {ours}, and {other.id} says {theirs}"
        paid = sum(
            execution.charged_microcredits
            for execution in node.journal.executions.values()
            if execution.node_id == other.id
        )
        assert ours.charged_microcredits == paid, f"{node.id} paid {other.id} {paid}, and owes {ours}"
    held = {**node.requester.payables.ledger.balances, **node.compute.receivables.ledger.balances}
    assert held == node.journal.ledger.balances, f"{node.id} replays to other books"
    for peer_id in node.compute.receivables.records:
        assert node.compute.receivables.credit.committed(peer_id) == 0, f"{node.id} keeps credit in use"
