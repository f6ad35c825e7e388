"""A network of strangers, from one address: it outlives its bootstrap node, and calls whoever nobody can dial."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e import churn, strangers
from tests.e2e.nodes import wait_until
from tests.node.live import HELLO
from tests.parts import missing_part

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.nodes import Network


@pytest.fixture(autouse=True)
def _libp2p() -> None:
    if importlib.util.find_spec("libp2p") is None:
        missing_part("libp2p", "pip install 'bacalhau[p2p]'")


@pytest.mark.timeout(300)
def test_five_strangers_see_each_other_outlive_their_bootstrap_node_and_hear_every_offer(
    network: Network,
) -> None:
    figures = strangers.run(network, nodes=5, offers=10)
    assert figures.received == figures.expected == 40
    # By gRPC and once by gossip; then all have answered, and it is not repeated.
    assert figures.repeated <= figures.expected


@pytest.mark.timeout(300)
def test_jobs_end_and_none_is_paid_twice_while_half_the_nodes_are_killed_and_start_again(
    network: Network,
) -> None:
    figures = churn.run(network, nodes=6, killed=3, jobs=20, per_second=2.0, seed=1)
    assert (figures.unended, figures.paid_twice, figures.wrongly_charged) == (0, 0, 0), figures.jobs
    assert figures.receipted_twice == 0
    charged = figures.charged_microcredits
    assert (figures.bought_microcredits, figures.sold_microcredits) == (charged, charged), figures.receipts
    # Those that ran where nobody was killed, and those that were tried again elsewhere.
    assert figures.in_state("COMPLETED") >= 15, [job.failure for job in figures.jobs]


@pytest.mark.timeout(300)
def test_a_node_that_nobody_can_dial_runs_a_job_over_the_connection_that_it_opened(
    network: Network, tmp_path: Path
) -> None:
    plain = (*strangers.LISTEN, "--disable-engine", "docker")
    requester = network.start("requester", *plain, "--node-type", "requester")
    hidden = network.start("hidden", *plain, "--no-advertise", "--peer", requester.p2p_address)
    wait_until(lambda: hidden.node_id in requester.live_ids(), "the requester sees it")
    program = tmp_path / "hello.wat"
    program.write_bytes(HELLO)
    done = requester.cli("wasm", "run", str(program))
    assert (done.returncode, done.stdout) == (0, "Hello World\n"), done.stderr
    nodes = json.loads(requester.cli("node", "list", "--output", "json").stdout)
    listed = {node["record"]["node_id"]: node for node in nodes}
    assert not listed[hidden.node_id]["record"].get("addresses")
    assert listed[hidden.node_id]["found_by"] in ("announced", "gossip")
    [self_view] = json.loads(hidden.cli("node", "list", "--output", "json").stdout)[:1]
    assert self_view["found_by"] == "self"


def test_a_multiaddr_that_libp2p_is_needed_for_is_refused_where_it_is_off(network: Network) -> None:
    node = network.node(
        "a", "--no-p2p", "--p2p-listen", "/ip4/127.0.0.1/tcp/0", "--peer", "/ip4/127.0.0.1/tcp/1/p2p/x"
    )
    with pytest.raises(AssertionError, match="can only be joined over libp2p: it was turned off"):
        node.start()
