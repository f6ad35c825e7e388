"""Five nodes, of which one reports results that it never computed: it is caught by replication, is not paid, and gets
no more work. Its id is random and nobody is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bacalhau.v1.ledger_service_pb2 import ListBalancesRequest
from tests.e2e.nodes import wait_until
from tests.node.live import program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.nodes import Network, NodeProcess

FLAGS = ("--heartbeat", "500ms", "--disable-engine", "docker", "--bid-window", "3s")
SAID = "the sum is 42\n"


@pytest.fixture
def module(tmp_path: Path) -> str:
    path = tmp_path / "sum.wat"
    path.write_bytes(program(SAID))
    return str(path)


@pytest.fixture(scope="module")
def five(shared_network: Network) -> tuple[list[NodeProcess], NodeProcess]:
    """Four honest nodes, and one that is cheaper than all of them, for it has no costs."""
    picky = ("--min-reputation", "0.2")
    honest = [
        shared_network.node(f"honest-{index}", *FLAGS, *picky, "--price-flat", str(200 + index))
        for index in range(4)
    ]
    bad = ("--price-flat", "100", "--bond", "200", "--misbehave", "wrong-result")
    cheater = shared_network.node("other", *FLAGS, *bad)
    honest[0].start()
    shared_network.join(honest[0], *honest[1:], cheater)
    return honest, cheater


def run(node: NodeProcess, *words: str) -> tuple[list[str], dict[str, Any]]:
    """A job to its end: the lines that its accepted results say, and what `describe` shows."""
    job_id = node.submit("wasm", *words)
    node.wait_completed(job_id)
    described = node.describe(job_id)
    completed = [e for e in described["Executions"] if e["State"] == "Completed"]
    said = [node.cli("ipfs", "cat", f"{e['ResultCID']}/stdout").stdout for e in completed]
    return said, described


def conduct(node: NodeProcess, other: NodeProcess) -> dict[str, int]:
    """What a node has seen of another as compute node, as `node describe` shows it."""
    import json

    done = node.cli("node", "describe", "--output", "json", other.node_id)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout).get("compute_reputation")
    return {one["conduct"]: int(one["count"]) for one in seen["counts"]} if seen else {}


def owed(debtor: NodeProcess, creditor: NodeProcess) -> list[int]:
    """What receipts say in all that the one owes the other, by the books of both."""
    amounts = []
    for node, peer, direction in ((debtor, creditor, "payable"), (creditor, debtor, "receivable")):
        balances = node.ledger.ListBalances(ListBalancesRequest(), timeout=5).balances
        amounts += [
            getattr(one, direction).charged_microcredits for one in balances if one.peer_id == peer.node_id
        ]
    return amounts


def by_node(described: dict[str, Any]) -> dict[str, Any]:
    return {execution["Node"]: execution for execution in described["Executions"]}


def test_a_cheater_is_caught_by_replication_and_loses_its_business(
    five: tuple[list[NodeProcess], NodeProcess], module: str
) -> None:
    honest, cheater = five
    requester = honest[0]
    # Unchecked, the cheapest wins, and nobody sees that it ran nothing.
    said, described = run(requester, module)
    assert list(by_node(described)) == [cheater.node_id]
    assert said != [SAID]
    assert described["ChargedMicrocredits"] == 10  # a tenth of its price, for a moment of its time

    said, described = run(requester, "--count", "3", "--confidence", "2", module)
    assert said == [SAID, SAID]
    caught = by_node(described)[cheater.node_id]
    assert (caught["State"], caught["ChargedMicrocredits"]) == ("Failed", 0)
    assert caught["Failure"]["Kind"] == "ResultRefuted"
    # Its bids named a bond of twice their price, which is gone: it owes the requester more than it ever earned.
    assert (caught["BondMicrocredits"], caught["PenaltyMicrocredits"]) == (200, 200)
    (bid,) = [bid for bid in described["Bids"] if bid["Node"] == cheater.node_id]
    assert (bid["PriceMicrocredits"], bid["BondMicrocredits"]) == (100, 200)
    wait_until(lambda: owed(requester, cheater) == [10 - 200, 10 - 200], "both books say what the bond took")
    receipt = cheater.cli("receipt", "get", caught["ID"])
    (cheater.folder / "receipt.json").write_text(receipt.stdout)
    verified = cheater.cli("receipt", "verify", str(cheater.folder / "receipt.json"))
    assert "penalty 0.0002 credits" in verified.stdout, verified.stdout + verified.stderr
    paid = [e["ChargedMicrocredits"] for node, e in by_node(described).items() if node != cheater.node_id]
    assert described["ChargedMicrocredits"] == sum(paid) > 0
    assert conduct(requester, cheater) == {"Completed": 1, "Cheated": 1}

    # From here on this requester has no work for it, though it is the cheapest still.
    for _ in range(5):
        said, described = run(requester, module)
        assert said == [SAID]
        assert cheater.node_id not in by_node(described)
        assert cheater.node_id not in {bid["Node"] for bid in described["Bids"]}


def test_an_adaptive_job_checks_a_node_that_nobody_knows_and_a_third_one_decides(
    five: tuple[list[NodeProcess], NodeProcess], module: str
) -> None:
    honest, cheater = five
    # Reputations are local: this one has seen nothing yet.
    requester = honest[3]
    said, described = run(requester, "--verification", "adaptive", module)
    assert said == [SAID, SAID]
    assert len(described["Executions"]) == 3
    assert by_node(described)[cheater.node_id]["Failure"]["Kind"] == "ResultRefuted"
    assert conduct(requester, cheater) == {"Cheated": 1}


def test_a_job_survives_that_its_nodes_and_its_requester_are_killed_between_commitment_and_verdict(
    network: Network, tmp_path: Path
) -> None:
    path = tmp_path / "slow.wat"
    path.write_bytes(program("before\n", sleep_s=2, then="after\n"))
    a, b, c = (network.node(name, *FLAGS) for name in "abc")
    a.start()
    network.join(a, b, c)
    job_id = a.submit("wasm", "--count", "3", "--confidence", "3", str(path))
    a.wait_for(job_id, "PHASE_CHANGED", node_id=c.node_id)
    c.pause()  # the last to commit: until it goes on, the others wait under seal
    a.wait_for(job_id, "COMMITTED", node_id=b.node_id)
    b.restart()
    a.restart()
    c.resume()
    job = a.wait_completed(job_id)
    completed = [e for e in job.executions if e.charged_microcredits]
    assert sorted(e.node_id for e in completed) == sorted([a.node_id, b.node_id, c.node_id])
    assert len({e.report.result_cid for e in completed}) == 1
