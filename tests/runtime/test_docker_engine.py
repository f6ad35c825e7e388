"""The Docker executor and its engine: images, restarts of the node, leftovers, and no engine at all."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.model.execution import FaultKind
from bacalhau.runtime.docker import DockerExecutor
from bacalhau.runtime.docker_images import check_reference
from bacalhau.runtime.docker_output import Demultiplexer, OutputFiles
from bacalhau.runtime.executor import EngineFault
from tests.runtime.docker_runs import Node, make_node, no_progress, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import docker

    from tests.parts.containers import RemoveContainersOf

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def start_node(
    docker_engine: docker.DockerClient, remove_containers_of: RemoveContainersOf, tmp_path: Path
) -> AsyncIterator[Callable[[str], Node]]:
    """Starts the runtime of a node with this id; again: as after a restart."""
    nodes: list[Node] = []

    def start(node_id: str) -> Node:
        remove_containers_of(node_id)
        nodes.append(make_node(docker_engine, tmp_path / node_id, node_id))
        return nodes[-1]

    yield start
    for node in nodes:
        await node.executor.close()


@pytest.fixture
def node_id() -> str:
    return "node-" + secrets.token_hex(6)


@pytest.fixture
def pushed_image(docker_engine: docker.DockerClient, registry: str) -> Iterator[str]:
    """An image of some MiB that is in the registry and not on this machine."""
    image = f"{registry}/test-{secrets.token_hex(6)}"
    container = docker_engine.containers.create(
        "busybox", ["dd", "if=/dev/urandom", "of=/f", "bs=1M", "count=8"]
    )
    container.start()
    container.wait()
    container.commit(image, "latest")
    container.remove(force=True)
    docker_engine.images.push(image, "latest")
    docker_engine.images.remove(f"{image}:latest", force=True)
    yield image
    docker_engine.images.remove(f"{image}:latest", force=True)


async def test_a_running_engine_says_its_version(docker_engine: docker.DockerClient) -> None:
    executor = DockerExecutor("node")
    status = await executor.status()
    assert (status.available, status.version) == (True, docker_engine.version()["Version"])
    await executor.close()


async def test_a_missing_engine_is_told_with_what_to_do(tmp_path: Path) -> None:
    executor = DockerExecutor("node", host=f"unix://{tmp_path}/docker.sock")
    status = await asyncio.wait_for(executor.status(), 2)
    assert not status.available
    assert "no Docker engine" in status.message
    assert "install" in status.message
    await executor.close()


async def test_an_engine_that_has_died_is_told_apart_from_one_not_installed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "docker.sock"))
    executor = DockerExecutor("node", host=f"unix://{tmp_path}/docker.sock")
    status = await asyncio.wait_for(executor.status(), 2)
    assert not status.available
    assert "is not running" in status.message
    await executor.close()


async def test_every_call_without_an_engine_is_an_engine_fault(tmp_path: Path) -> None:
    from bacalhau.ipfs.blockstore import MemoryBlockStore
    from bacalhau.model.job import DockerTask, JobSpec
    from bacalhau.runtime.executor import Run
    from bacalhau.runtime.workspace import Workspaces

    executor = DockerExecutor("node", host=f"unix://{tmp_path}/docker.sock")
    spec = JobSpec(DockerTask("busybox", command=("true",)))
    run = Run("e-1", 1, spec, Workspaces(tmp_path).materialise(MemoryBlockStore(), "e-1", 1, spec))
    for call in (
        executor.prepare(run, no_progress),
        executor.run(run),
        executor.resume(run),
        executor.reap(()),
    ):
        with pytest.raises(EngineFault, match="no Docker engine") as error:
            await call
        assert error.value.fault.kind is FaultKind.ENGINE_FAILED
    await executor.close()


async def test_an_image_that_is_not_here_is_pulled_once_with_progress(
    start_node: Callable[[str], Node], node_id: str, pushed_image: str
) -> None:
    node = start_node(node_id)
    seen: list[tuple[int, int]] = []
    runs = [node.make_run("echo", "pulled", image=pushed_image) for _ in range(3)]
    await asyncio.gather(
        *(node.executor.prepare(run, lambda done, total: seen.append((done, total))) for run in runs)
    )
    outcome = await node.do(runs[0])
    assert outcome.exit_code == 0
    done, total = seen[-1]
    assert done == total >= 8 * 1024 * 1024
    assert all(done <= total for done, total in seen)


async def test_an_image_that_was_removed_since_it_was_prepared_is_pulled_again(
    start_node: Callable[[str], Node], node_id: str, pushed_image: str
) -> None:
    node = start_node(node_id)
    run = node.make_run("echo", "again", image=pushed_image)
    await node.executor.prepare(run, no_progress)
    await asyncio.to_thread(node.client.images.remove, f"{pushed_image}:latest", force=True)
    assert (await node.executor.run(run)).exit_code == 0


async def test_an_image_that_no_registry_has_is_unavailable_in_the_registrys_words(
    start_node: Callable[[str], Node], node_id: str, registry: str
) -> None:
    node = start_node(node_id)
    image = f"{registry}/no-such-image:1.0"
    with pytest.raises(EngineFault) as error:
        await node.executor.prepare(node.make_run("true", image=image), no_progress)
    assert error.value.fault.kind is FaultKind.IMAGE_UNAVAILABLE
    assert image in error.value.fault.message
    assert "not found" in error.value.fault.message


async def test_a_registry_that_cannot_be_reached_makes_the_image_unavailable(
    start_node: Callable[[str], Node], node_id: str
) -> None:
    node = start_node(node_id)
    with pytest.raises(EngineFault) as error:
        await node.executor.prepare(node.make_run("true", image="127.0.0.1:1/x"), no_progress)
    assert error.value.fault.kind is FaultKind.IMAGE_UNAVAILABLE
    assert "refused" in error.value.fault.message


@pytest.mark.parametrize(
    "image", ["ubuntu", "ubuntu:22.04", "127.0.0.1:5000/a/b:tag", "ghcr.io/a/b@sha256:" + "a" * 64]
)
def test_names_of_images_are_accepted(image: str) -> None:
    check_reference(image)


@pytest.mark.parametrize("image", ["", "Upper", "a b", "../containers/x", "a:b:c", "a/../b", "-a", "a" * 600])
def test_what_is_no_name_of_an_image_is_the_jobs_fault(image: str) -> None:
    with pytest.raises(EngineFault) as error:
        check_reference(image)
    assert error.value.fault.kind is FaultKind.INVALID_TASK


async def test_a_node_that_closed_finds_its_program_again_and_all_of_its_output(
    start_node: Callable[[str], Node], node_id: str
) -> None:
    first = start_node(node_id)
    run = first.make_run("sh", "-c", "echo one; echo err >&2; sleep 2; echo two; exit 7")
    running = asyncio.create_task(first.do(run))
    await first.printed(run, "one")
    await first.executor.close()
    with pytest.raises(asyncio.CancelledError):
        await running
    outcome = await start_node(node_id).executor.resume(run)
    assert outcome is not None
    assert (outcome.exit_code, outcome.fault) == (7, None)
    assert run.workspace.stdout.read_bytes() == b"one\ntwo\n"
    assert run.workspace.stderr.read_bytes() == b"err\n"
    assert 1_900_000 <= outcome.usage.wall_us < 10_000_000
    await first.gone()


CHILD = """
import asyncio, json, sys
from pathlib import Path
from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.model.job import DockerTask, JobSpec
from bacalhau.runtime.docker import DockerExecutor
from bacalhau.runtime.executor import Run
from bacalhau.runtime.workspace import Workspaces

folder, node_id, execution_id, script = sys.argv[1:]

async def main():
    spec = JobSpec(DockerTask("busybox", command=("sh", "-c", script)))
    workspace = Workspaces(Path(folder)).materialise(MemoryBlockStore(), execution_id, 1, spec)
    await DockerExecutor(node_id).run(Run(execution_id, 1, spec, workspace))

asyncio.run(main())
"""


@pytest.mark.parametrize("ended_meanwhile", [False, True])
async def test_after_kill_9_of_the_node_its_program_is_found_again(
    start_node: Callable[[str], Node], node_id: str, ended_meanwhile: bool
) -> None:
    node = start_node(node_id)
    script = f"echo one; sleep {0.5 if ended_meanwhile else 3}; echo two; exit 7"
    run = node.make_run("sh", "-c", script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    folder = str(run.workspace.root.parent.parent)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, folder, node_id, run.execution_id, script, env=environment
    )
    await node.printed(run, "one")
    child.kill()
    await child.wait()
    if ended_meanwhile:
        await until(lambda: [found.status for found in node.containers()] == ["exited"])
    outcome = await node.executor.resume(run)
    assert outcome is not None
    assert (outcome.exit_code, outcome.fault) == (7, None)
    assert run.workspace.stdout.read_bytes() == b"one\ntwo\n"
    await node.gone()


async def test_a_resumed_program_keeps_the_time_limit_it_started_with(
    start_node: Callable[[str], Node], node_id: str
) -> None:
    first = start_node(node_id)
    run = first.make_run("sh", "-c", "echo up; sleep 60", timeout_s=2)
    running = asyncio.create_task(first.do(run))
    await first.printed(run, "up")
    await first.executor.close()
    with pytest.raises(asyncio.CancelledError):
        await running
    outcome = await asyncio.wait_for(start_node(node_id).executor.resume(run), 15)
    assert outcome is not None
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.EXECUTION_TIMEOUT


async def test_there_is_nothing_to_resume_without_a_container_or_with_one_that_never_started(
    start_node: Callable[[str], Node], node_id: str
) -> None:
    node = start_node(node_id)
    run = node.make_run("true")
    assert await node.executor.resume(run) is None
    labels = {"bacalhau.node": node_id, "bacalhau.execution": run.execution_id, "bacalhau.attempt": "1"}
    await asyncio.to_thread(node.client.containers.create, "busybox", "true", labels=labels)
    assert await node.executor.resume(run) is None
    assert node.containers() == []


async def test_reaping_removes_own_leftovers_only(start_node: Callable[[str], Node], node_id: str) -> None:
    other_id = node_id + "-other"
    node, other = start_node(node_id), start_node(other_id)

    def leave(node_id: str, execution_id: str) -> None:
        labels = {"bacalhau.node": node_id, "bacalhau.execution": execution_id, "bacalhau.attempt": "1"}
        node.client.containers.run(
            "busybox", ["sleep", "60"], labels=labels, detach=True, network_mode="none"
        )

    for left in ((node_id, "e-kept"), (node_id, "e-orphan"), (other_id, "e-theirs")):
        await asyncio.to_thread(leave, *left)
    active = node.make_run("sh", "-c", "echo up; sleep 60")
    running = asyncio.create_task(node.do(active))
    await node.printed(active, "up")
    assert await node.executor.reap({"e-kept"}) == ["e-orphan"]
    assert {found.labels["bacalhau.execution"] for found in node.containers()} == {
        "e-kept",
        active.execution_id,
    }
    assert [found.status for found in other.containers()] == ["running"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@given(
    frames=st.lists(st.tuples(st.sampled_from([0, 1, 2, 7]), st.binary(max_size=40)), max_size=12),
    cuts=st.lists(st.integers(1, 60), max_size=20),
)
def test_frames_are_read_however_the_stream_is_cut(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("frames")
    received = b"".join(
        bytes([stream, 0, 0, 0]) + len(part).to_bytes(4, "big") + part for stream, part in frames
    )
    with OutputFiles(folder / "stdout", folder / "stderr", 100) as files:
        demultiplexer = Demultiplexer(files)
        for cut in [*cuts, len(received)]:
            demultiplexer.feed(received[:cut])
            received = received[cut:]
    for name, stream in (("stdout", 1), ("stderr", 2)):
        whole = b"".join(part for number, part in frames if number == stream)
        kept = (folder / name).read_bytes()
        assert kept[:100] == whole[:100]
        assert (b"truncated" in kept) == (len(whole) > 100)


def test_neither_the_sdk_nor_its_transport_is_imported_before_it_is_used() -> None:
    code = "import bacalhau.runtime.docker, sys, json; print(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert not {"docker", "requests", "urllib3"} & set(json.loads(printed.stdout))
