"""What the nodes of a settled test world must agree on: who owes whom what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.model.ledger import Balance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.scheduler.nodes import Node


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
