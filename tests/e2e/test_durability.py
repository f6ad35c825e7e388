"""kill -9 at any moment: nothing accepted is lost, nothing runs twice unseen, nothing is left over."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from bacalhau.runtime.docker_request import EXECUTION_LABEL, NODE_LABEL
from bacalhau.v1.job_pb2 import JobState
from tests.e2e import soak
from tests.e2e.nodes import containers_of, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import docker
    from docker.models.containers import Container

    from tests.e2e.nodes import Network, NodeProcess
    from tests.parts.wasm import WasmProgram

QUICK = ("--heartbeat", "500ms")


@pytest.fixture
def node(network: Network) -> NodeProcess:
    return network.start("node", *QUICK)


def test_a_running_container_is_found_again_by_the_next_life_and_not_run_twice(
    docker_engine: docker.DockerClient, node: NodeProcess
) -> None:
    script = "echo run >> /outputs/runs; echo started; sleep 4; echo ended; exit 3"
    job_id = node.submit("docker", "ubuntu", "sh", "-c", script)
    execution_id = node.wait_running(job_id).execution_id
    assert node.wait_output(job_id) == b"started\n"
    (container,) = containers_of(docker_engine, execution_id)
    node.restart()
    assert [found.id for found in containers_of(docker_engine, execution_id)] == [container.id]
    (execution,) = node.wait_completed(job_id).executions
    assert (execution.report.attempt, execution.report.exit_code) == (1, 3)
    cid = execution.report.result_cid
    assert node.cli("ipfs", "cat", f"{cid}/outputs/runs").stdout == "run\n"
    assert node.cli("logs", job_id).stdout == "started\nended\n"
    wait_until(lambda: containers_of(docker_engine, execution_id) == [], "the container is removed")
    node.wait_idle()


def test_a_container_that_ended_while_the_node_was_dead_is_reported_with_its_output(
    docker_engine: docker.DockerClient, node: NodeProcess
) -> None:
    job_id = node.submit("docker", "busybox", "sh", "-c", "echo started; sleep 1; echo ended; exit 4")
    execution_id = node.wait_running(job_id).execution_id
    assert node.wait_output(job_id) == b"started\n"
    (container,) = containers_of(docker_engine, execution_id)
    node.kill()
    container.wait(timeout=30)
    node.start()
    (execution,) = node.wait_completed(job_id).executions
    assert (execution.report.attempt, execution.report.exit_code) == (1, 4)
    assert node.cli("logs", job_id).stdout == "started\nended\n"


def test_a_wasm_program_runs_again_as_a_visible_new_attempt(
    wasm_program: WasmProgram, node: NodeProcess
) -> None:
    job_id = node.submit("wasm", str(wasm_program("logtest")), "2")
    assert node.wait_output(job_id) == b"before the sleep\n"
    node.restart()
    (execution,) = node.wait_completed(job_id).executions
    assert execution.report.attempt == 2
    assert "attempt 2" in [
        event["Message"] for event in node.describe(job_id)["Events"] if "Message" in event
    ]
    assert node.cli("logs", job_id).stdout == "before the sleep\nafter the sleep\n"
    node.wait_idle()


def test_a_compute_node_that_comes_back_within_its_lease_goes_on_with_the_same_container(
    docker_engine: docker.DockerClient, network: Network
) -> None:
    requester = network.start("requester", *QUICK, "--node-type", "requester")
    compute = network.node("compute", *QUICK, "--node-type", "compute")
    network.join(requester, compute)
    job_id = requester.submit("docker", "busybox", "sh", "-c", "echo started; sleep 4; echo ended")
    assert requester.wait_output(job_id) == b"started\n"
    compute.restart()
    (execution,) = requester.wait_completed(job_id).executions
    assert (execution.node_id, execution.report.attempt) == (compute.node_id, 1)
    assert requester.cli("logs", job_id).stdout == "started\nended\n"
    compute.wait_idle()


def test_a_job_that_waits_in_the_queue_survives_its_node(
    docker_engine: docker.DockerClient, node: NodeProcess
) -> None:
    cpus = str(node.view().record.capacity.cpu_millicores // 1000)
    first = node.submit("docker", "--cpu", cpus, "busybox", "sleep", "600")
    node.wait_running(first)
    second = node.submit("docker", "--cpu", cpus, "busybox", "echo", "at last")
    node.wait_for(second, "QUEUED")
    node.restart()
    assert node.cli("cancel", first).returncode == 0
    node.wait_completed(second)
    assert node.cli("logs", second).stdout == "at last\n"


def test_a_finished_result_stays_fetchable_and_its_submission_repeatable(
    docker_engine: docker.DockerClient, node: NodeProcess, tmp_path: Path
) -> None:
    words = ("docker", "run", "--request-id", "once", "busybox", "echo", "kept")
    job_id = node.cli(*words[:2], "--id-only", *words[2:]).stdout.strip()
    node.wait_completed(job_id)
    node.restart()
    done = node.cli("get", "--output-dir", str(tmp_path / "result"), job_id)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result" / "stdout").read_text() == "kept\n"
    assert node.cli(*words[:2], "--id-only", *words[2:]).stdout.strip() == job_id
    node.wait_idle()


def test_orphans_are_reaped_and_only_the_nodes_own(
    docker_engine: docker.DockerClient, node: NodeProcess
) -> None:
    def begin(node_id: str) -> Container:
        labels = {NODE_LABEL: node_id, EXECUTION_LABEL: "e-forgotten"}
        return docker_engine.containers.run(
            "busybox", ["sleep", "600"], detach=True, network_mode="none", labels=labels
        )

    node.kill()
    own, others = begin(node.node_id), begin(f"not-{node.node_id}")
    try:
        node.start()

        def left() -> list[str | None]:
            found = containers_of(docker_engine, "e-forgotten")
            return [container.id for container in found if container.id in (own.id, others.id)]

        wait_until(lambda: left() == [others.id], "its own orphan is gone, another node's is there")
    finally:
        others.remove(force=True)


def test_a_clean_stop_leaves_the_container_running_for_the_next_life(
    docker_engine: docker.DockerClient, node: NodeProcess
) -> None:
    job_id = node.submit("docker", "busybox", "sh", "-c", "echo started; sleep 5; echo ended")
    assert node.wait_output(job_id) == b"started\n"
    assert node.stop() == 0
    node.start()
    (execution,) = node.wait_completed(job_id).executions
    assert execution.report.attempt == 1
    assert node.cli("logs", job_id).stdout == "started\nended\n"


def test_a_clean_stop_of_a_wasm_program_is_no_failure_of_the_job(
    wasm_program: WasmProgram, node: NodeProcess
) -> None:
    job_id = node.submit("wasm", str(wasm_program("logtest")), "2")
    assert node.wait_output(job_id) == b"before the sleep\n"
    assert node.stop() == 0
    node.start()
    (execution,) = node.wait_completed(job_id).executions
    assert execution.report.attempt == 2


def test_of_twenty_jobs_with_kills_at_random_moments_all_but_one_complete(
    docker_engine: docker.DockerClient, network: Network
) -> None:
    figures = soak.run(network.node("node", *QUICK), jobs=20, kills=4, random=random.Random(1))
    assert figures.kills >= 3
    assert figures.completed >= 19, figures.unfinished
    assert figures.wrong == []
    assert figures.states.keys() <= {JobState.JOB_STATE_COMPLETED, JobState.JOB_STATE_FAILED}
