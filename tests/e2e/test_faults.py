"""Nodes that die, hang or come back in the middle of an auction or an execution: the job still ends."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from bacalhau.v1.job_pb2 import JobState
from tests.e2e.nodes import containers_of, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import docker

    from bacalhau.v1.job_pb2 import Job
    from tests.e2e.nodes import Network, NodeProcess
    from tests.parts.wasm import WasmProgram

QUICK = ("--heartbeat", "500ms")
Three = tuple["NodeProcess", "NodeProcess", "NodeProcess"]


@pytest.fixture
def three(network: Network) -> Three:
    """A requester, and two compute nodes of which the first asks for less. Leases are short."""
    market = ("--lease", "2s", "--bid-window", "3s")
    requester = network.start("requester", *QUICK, *market, "--node-type", "requester")
    cheap = network.node("cheap", *QUICK, "--node-type", "compute", "--price-flat", "100")
    dear = network.node("dear", *QUICK, "--node-type", "compute", "--price-flat", "200")
    network.join(requester, cheap, dear)
    return requester, cheap, dear


def paid_once(job: Job) -> bool:
    charged = [e.charged_microcredits for e in job.executions if e.charged_microcredits]
    return len(charged) == 1 and job.charged_microcredits == charged[0]


def test_a_bidder_that_hangs_holds_an_auction_up_no_longer_than_its_window(
    docker_engine: docker.DockerClient, three: Three
) -> None:
    requester, cheap, dear = three
    cheap.pause()
    job_id = requester.submit("docker", "busybox", "echo", "done")
    assert requester.wait_for(job_id, "AWARDED").node_id == dear.node_id
    cheap.kill()
    requester.wait_completed(job_id)
    assert requester.cli("logs", job_id).stdout == "done\n"


def test_a_winner_that_is_killed_in_mid_auction_is_passed_over(
    docker_engine: docker.DockerClient, three: Three
) -> None:
    requester, cheap, dear = three
    dear.pause()  # the auction waits for it, so that there is a time between the bid and the award
    job_id = requester.submit("docker", "busybox", "echo", "done")
    requester.wait_for(job_id, "BID_RECEIVED", node_id=cheap.node_id)
    cheap.kill()
    dear.resume()
    job = requester.wait_completed(job_id)
    assert [e.node_id for e in job.executions if e.charged_microcredits] == [dear.node_id]
    assert paid_once(job)


@pytest.mark.parametrize("engine", ["docker", "wasm"])
def test_a_node_that_is_killed_in_mid_execution_is_replaced_after_its_lease(
    docker_engine: docker.DockerClient, wasm_program: WasmProgram, three: Three, engine: str
) -> None:
    requester, cheap, dear = three
    task = ("busybox", "sleep", "2") if engine == "docker" else (str(wasm_program("sleep")), "2")
    job_id = requester.submit(engine, *task)
    assert requester.wait_running(job_id).node_id == cheap.node_id
    cheap.kill()
    job = requester.wait_completed(job_id)
    assert [e.node_id for e in job.executions] == [cheap.node_id, dear.node_id]
    assert "lease ended" in job.executions[0].failure.message
    assert paid_once(job)


def test_a_node_that_was_cut_off_beyond_its_lease_stops_its_work_and_is_not_paid(
    docker_engine: docker.DockerClient, three: Three
) -> None:
    requester, cheap, dear = three
    job_id = requester.submit("docker", "busybox", "sleep", "4")
    running = requester.wait_running(job_id)
    cheap.pause()
    requester.wait_for(job_id, "AWARDED", node_id=dear.node_id)
    cheap.resume()
    job = requester.wait_completed(job_id)
    assert paid_once(job)
    assert [e.node_id for e in job.executions if e.charged_microcredits] == [dear.node_id]
    cheap.wait_idle()
    wait_until(lambda: containers_of(docker_engine, running.execution_id) == [], "its container is removed")


def test_the_requester_is_killed_and_its_next_life_gets_the_result(
    docker_engine: docker.DockerClient, three: Three
) -> None:
    requester = three[0]
    job_id = requester.submit("docker", "busybox", "sh", "-c", "sleep 1; echo done")
    requester.wait_running(job_id)
    requester.restart()
    job = requester.wait_completed(job_id)
    assert job.state == JobState.JOB_STATE_COMPLETED
    assert paid_once(job)
    assert requester.cli("logs", job_id).stdout == "done\n"


def test_a_requester_that_dies_while_its_input_is_fetched_is_waited_for(
    network: Network, wasm_program: WasmProgram, tmp_path: Path
) -> None:
    requester = network.node("requester", *QUICK, "--node-type", "requester")
    worker = network.node("worker", *QUICK, "--node-type", "compute")
    requester.variables["DIE_AT"] = "after:requester:started"
    requester.start()
    network.join(requester, worker)
    source = tmp_path / "input"
    source.write_bytes(random.Random(3).randbytes(50_000_000))
    added = requester.cli("ipfs", "add", "--quieter", str(source)).stdout.strip()
    job_id = requester.submit("wasm", "-i", f"{added}:/inputs/data", str(wasm_program("hello")))
    requester.wait_killed()
    worker.cli("job", "list")  # time in which nobody answers the worker
    requester.start()
    job = requester.wait_completed(job_id)
    assert [e.node_id for e in job.executions] == [worker.node_id]


def test_the_requester_is_killed_in_mid_auction_and_its_next_life_holds_it_anew(
    docker_engine: docker.DockerClient, three: Three
) -> None:
    requester, cheap, dear = three
    dear.pause()  # the auction waits for it
    job_id = requester.submit("docker", "busybox", "echo", "done")
    requester.wait_for(job_id, "BID_RECEIVED", node_id=cheap.node_id)
    requester.restart()
    dear.resume()
    job = requester.wait_completed(job_id)
    assert paid_once(job)
    assert requester.cli("logs", job_id).stdout == "done\n"
    cheap.wait_idle()
    dear.wait_idle()
