"""What nodes as processes owe each other, as they say it themselves, and whether their books are in order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc

from bacalhau.v1.ledger_pb2 import DirectedBalance
from bacalhau.v1.ledger_service_pb2 import GetBalanceRequest, ListBalancesRequest
from tests.e2e.nodes import wait_until

if TYPE_CHECKING:
    from tests.e2e.nodes import NodeProcess

ALL = 1_000_000
"""More than any test moves: the command line asks for page after page."""


def balance(node: NodeProcess, peer: NodeProcess, direction: str) -> DirectedBalance:
    """What stands between the two, as `node` has it; nothing where it does not answer."""
    try:
        balances = node.ledger.ListBalances(ListBalancesRequest(), timeout=5).balances
    except grpc.RpcError:
        return DirectedBalance(sequence=-1)
    found: list[DirectedBalance] = [
        getattr(one, direction)
        for one in balances
        if one.peer_id == peer.node_id and not one.unsigned_receipts
    ]
    return found[0] if found else DirectedBalance(sequence=-1)


def wait_agreed(requester: NodeProcess, worker: NodeProcess, receipts: int) -> DirectedBalance:
    """Until both sides have the same balance, of so many receipts at least, and all of them signed by both."""

    def agreed() -> bool:
        owed = balance(requester, worker, "payable")
        return owed.sequence >= receipts and owed == balance(worker, requester, "receivable")

    wait_until(agreed, f"the two agree on {receipts} receipts:\n{requester.log}\n{worker.log}")
    return balance(requester, worker, "payable")


def check_books(node: NodeProcess) -> None:
    """All accounts come to zero, by what the node says of itself and by what its history replays to."""
    history = node.cli("ledger", "history", "-n", str(ALL), "--output", "json")
    assert history.returncode == 0, history.stderr
    replayed: dict[str, int] = {}
    for transaction in json.loads(history.stdout):
        assert sum(one["amount_microcredits"] for one in transaction["postings"]) == 0
        for one in transaction["postings"]:
            replayed[one["account"]] = replayed.get(one["account"], 0) + one["amount_microcredits"]
    own = node.ledger.GetBalance(GetBalanceRequest(), timeout=5).balance
    accounts = {
        "spent": own.spent_microcredits,
        "escrow": own.escrow_microcredits,
        "payable": own.payable_microcredits,
        "paid": own.paid_microcredits,
        "earned": own.earned_microcredits,
        "receivable": -own.receivable_microcredits,
        "received": -own.received_microcredits,
    }
    assert sum(accounts.values()) == 0
    for name, amount in accounts.items():
        assert sum(one for account, one in replayed.items() if account.partition(":")[0] == name) == amount
