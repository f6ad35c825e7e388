"""Three nodes: who bids and who wins, where content travels, what waits and what fails at once."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from bacalhau.v1.execution_pb2 import FaultKind
from bacalhau.v1.job_pb2 import JobState
from bacalhau.v1.refusal_pb2 import RefusalReason

if TYPE_CHECKING:
    from pathlib import Path

    import docker

    from tests.e2e.nodes import Network, NodeProcess
    from tests.parts.wasm import WasmProgram

Three = tuple["NodeProcess", "NodeProcess", "NodeProcess"]


@pytest.fixture(scope="module")
def three(shared_network: Network) -> Three:
    """A requester that computes too, at 300; a node without Docker at 200; one with everything at 100."""
    quick = ("--heartbeat", "500ms")
    a = shared_network.start("a", *quick, "--price-flat", "300", "--labels", "name=a")
    b = shared_network.node(
        "b", *quick, "--price-flat", "200", "--labels", "name=b", "--disable-engine", "docker"
    )
    c = shared_network.node("c", *quick, "--price-flat", "100", "--labels", "name=c")
    shared_network.join(a, b, c)
    return a, b, c


def test_every_node_bids_and_the_cheapest_wins_fetches_the_input_and_gives_the_result_back(
    wasm_program: WasmProgram, three: Three, tmp_path: Path
) -> None:
    a, b, c = three
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text(f"known to {a.node_id} only\n" * 50_000)
    words = ("wasm", "run", "-i", f"{tmp_path / 'data'}:/inputs", str(wasm_program("cat")))
    done = a.cli(*words)
    assert (done.returncode, done.stdout) == (0, (tmp_path / "data" / "a.txt").read_text()), done.stderr
    newest = json.loads(a.cli("list", "-n", "1", "--output", "json").stdout)[0]["id"]
    job = a.describe(newest)
    bids = {bid["Node"]: (bid["PriceMicrocredits"], bid["Won"]) for bid in job["Bids"]}
    assert bids == {a.node_id: (300, False), b.node_id: (200, False), c.node_id: (100, True)}
    (execution,) = job["Executions"]
    assert (execution["Node"], execution["ChargedMicrocredits"]) == (c.node_id, 10)
    assert execution["Usage"]["fetched_bytes"] > 1_000_000
    # The result has been brought to the requester: it needs the winner no more.
    held = a.cli("ipfs", "ls", execution["ResultCID"])
    assert "stdout" in held.stdout


def test_count_three_runs_once_on_each_of_three_nodes(wasm_program: WasmProgram, three: Three) -> None:
    a = three[0]
    job_id = a.submit("wasm", "--count", "3", str(wasm_program("hello")))
    job = a.wait_completed(job_id)
    assert {execution.node_id for execution in job.executions} == {node.node_id for node in three}
    assert job.charged_microcredits == 60


def test_a_count_above_the_number_of_nodes_fails_at_once_and_says_so(
    wasm_program: WasmProgram, three: Three
) -> None:
    a = three[0]
    begun = time.monotonic()
    done = a.cli("wasm", "run", "--count", "4", str(wasm_program("hello")))
    assert done.returncode == 125
    assert "the job wants 4 nodes, only 3 are live" in done.stderr
    assert time.monotonic() - begun < 10


def test_a_node_without_docker_declines_and_the_user_sees_it(
    docker_engine: docker.DockerClient, three: Three
) -> None:
    a, b, _ = three
    done = a.cli("docker", "run", "--node-details", "busybox", "echo", "done")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "ENGINE_MISSING" in next(line for line in done.stderr.splitlines() if b.node_id in line)
    refused = a.cli("docker", "run", "-s", "name=b", "busybox", "true")
    assert refused.returncode == 125
    assert "ENGINE_MISSING" in refused.stderr
    assert "NO_NODE" in refused.stderr


def test_a_job_waits_for_a_busy_node_and_runs_when_it_is_free(
    docker_engine: docker.DockerClient, three: Three
) -> None:
    a, _, c = three
    cpus = str(c.view().record.capacity.cpu_millicores // 1000)
    only_c = ("docker", "-s", "name=c", "--cpu", cpus, "busybox")
    first = a.submit(*only_c, "sleep", "600")
    a.wait_running(first)
    second = a.submit(*only_c, "true")
    declined = a.wait_for(second, "DECLINED", node_id=c.node_id)
    assert declined.refusal.reason == RefusalReason.REFUSAL_REASON_BUSY
    assert {figure.name for figure in declined.refusal.figures}
    a.wait_for(second, "QUEUED")
    assert a.job(second).state == JobState.JOB_STATE_QUEUED
    impatient = a.submit("docker", "--queue-timeout", "1s", *only_c[1:], "true")
    failed = a.wait_ended(impatient)
    assert failed.failure.kind == FaultKind.FAULT_KIND_QUEUE_TIMEOUT, failed.failure
    assert "within its queue timeout of 1 seconds" in failed.failure.message
    assert a.cli("cancel", first).returncode == 0
    a.wait_completed(second)


@pytest.mark.parametrize(
    ("flag", "kind", "remedy"),
    [
        ("--timeout", FaultKind.FAULT_KIND_EXECUTION_TIMEOUT, "--timeout"),
        ("--total-timeout", FaultKind.FAULT_KIND_TOTAL_TIMEOUT, "total timeout"),
    ],
)
@pytest.mark.parametrize("engine", ["docker", "wasm"])
def test_a_job_that_takes_too_long_is_ended_and_says_which_limit_it_hit(
    docker_engine: docker.DockerClient,
    wasm_program: WasmProgram,
    three: Three,
    engine: str,
    flag: str,
    kind: FaultKind,
    remedy: str,
) -> None:
    a, _, c = three
    task = ("busybox", "sleep", "600") if engine == "docker" else (str(wasm_program("loop")),)
    job = a.wait_ended(a.submit(engine, "-s", "name=c", flag, "1s", *task))
    assert job.state == JobState.JOB_STATE_FAILED
    assert (job.failure.kind, remedy in job.failure.message) == (kind, True), job.failure
    c.wait_idle()
