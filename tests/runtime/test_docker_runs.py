"""The Docker executor on a real engine: what programs see, what they leave, and how their end is told."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs import reader
from bacalhau.ipfs.importer import import_files, import_stream
from bacalhau.model.execution import FaultKind
from bacalhau.model.job import InputSource, NetworkMode, OutputPath
from bacalhau.model.units import MIB
from bacalhau.runtime.executor import EngineFault
from tests.runtime.docker_runs import Node, make_node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import docker

    from tests.parts.containers import RemoveContainersOf

OUTPUTS = (OutputPath("outputs", "/outputs"),)


@pytest.fixture
async def node(
    docker_engine: docker.DockerClient, remove_containers_of: RemoveContainersOf, tmp_path: Path
) -> AsyncIterator[Node]:
    node_id = "node-" + secrets.token_hex(6)
    remove_containers_of(node_id)
    node = make_node(docker_engine, tmp_path / "work", node_id, output_limit_bytes=MIB)
    yield node
    await node.executor.close()


async def test_hello_world_of_the_seed_prints_and_exits_zero(node: Node) -> None:
    run = node.make_run("echo", "Hello", "World", image="ubuntu")
    outcome = await node.do(run)
    assert (outcome.exit_code, outcome.fault) == (0, None)
    assert run.workspace.stdout.read_bytes() == b"Hello World\n"
    assert run.workspace.stderr.read_bytes() == b""
    assert outcome.usage.wall_us > 0
    await node.gone()


async def test_a_non_zero_exit_is_an_outcome_with_its_output(node: Node) -> None:
    run = node.make_run("sh", "-c", "echo out; echo err >&2; exit 42")
    outcome = await node.do(run)
    assert (outcome.exit_code, outcome.fault) == (42, None)
    assert run.workspace.stdout.read_bytes() == b"out\n"
    assert run.workspace.stderr.read_bytes() == b"err\n"


async def test_environment_working_directory_and_entrypoint_reach_the_program(node: Node) -> None:
    run = node.make_run(
        'echo "$GREETING|$BACALHAU_EXECUTION_ID|$PWD"',
        entrypoint=("sh", "-c"),
        working_directory="/new/folder",
        env=(("GREETING", "héllo wörld"), ("BACALHAU_EXECUTION_ID", "forged")),
    )
    await node.do(run)
    assert run.workspace.stdout.read_text() == f"héllo wörld|{run.execution_id}|/new/folder\n"


async def test_an_input_and_an_output_can_be_inside_another_input(node: Node) -> None:
    outer = import_files(node.store, {"a.txt": b"A"}).cid
    inner = import_files(node.store, {"b.txt": b"B"}).cid
    file = import_stream(node.store, [b"C"]).cid
    run = node.make_run(
        "sh",
        "-c",
        "cat /in/a.txt /in/sub/b.txt /in/c.txt; touch /in/x || touch /in/sub/x || echo D >/in/out/d.txt",
        inputs=(InputSource(outer, "/in"), InputSource(inner, "/in/sub"), InputSource(file, "/in/c.txt")),
        outputs=(OutputPath("out", "/in/out"),),
    )
    outcome = await node.do(run)
    assert (outcome.exit_code, run.workspace.stdout.read_text()) == (0, "ABC")
    assert (run.workspace.outputs[0] / "d.txt").read_text() == "D\n"


async def test_inputs_are_there_and_cannot_be_written(node: Node) -> None:
    folder = import_files(node.store, {"a.txt": b"alpha"}).cid
    file = reader.resolve(node.store, folder, "a.txt")
    run = node.make_run(
        "sh", "-c", "cat /in/a.txt /data.txt; touch /in/x || echo refused; echo > /data.txt || echo refused",
        inputs=(InputSource(folder, "/in"), InputSource(file, "/data.txt")),
    )  # fmt: skip
    await node.do(run)
    assert run.workspace.stdout.read_bytes() == b"alphaalpharefused\nrefused\n"


async def test_outputs_are_published_beside_the_streams_and_the_exit_code(node: Node) -> None:
    script = "echo hi; mkdir /outputs/d; echo content > /outputs/d/f; chmod 700 /outputs/d; exit 3"
    run = node.make_run("sh", "-c", script, outputs=OUTPUTS)
    outcome = await node.do(run)
    result = await asyncio.to_thread(node.workspaces.publish, node.store, run, outcome.exit_code)
    read = {
        path: b"".join(reader.read_file(node.store, reader.resolve(node.store, result.cid, path)))
        for path in ("stdout", "stderr", "exitCode", "outputs/d/f")
    }
    assert read == {"stdout": b"hi\n", "stderr": b"", "exitCode": b"3", "outputs/d/f": b"content\n"}


async def test_without_network_there_is_only_loopback_and_with_it_there_is_a_route(node: Node) -> None:
    alone = node.make_run("sh", "-c", "ls /sys/class/net; tail -n +2 /proc/net/route | wc -l")
    routed = node.make_run("sh", "-c", "tail -n +2 /proc/net/route | wc -l", network=NetworkMode.FULL)
    await asyncio.gather(node.do(alone), node.do(routed))
    assert alone.workspace.stdout.read_text() == "lo\n0\n"
    assert int(routed.workspace.stdout.read_text()) > 0


async def test_the_container_has_the_limits_and_no_way_to_more_privileges(node: Node) -> None:
    run = node.make_run(
        "sh", "-c", "echo up; sleep 60", resources={"cpu_millicores": 250, "memory_bytes": 64 * MIB}
    )
    task = asyncio.create_task(node.do(run))
    await node.printed(run, "up")
    (container,) = await asyncio.to_thread(node.containers)
    config = container.attrs["HostConfig"]
    assert config["Memory"] == config["MemorySwap"] == 64 * MIB
    assert config["CpuQuota"] * 1000 // config["CpuPeriod"] == 250
    assert config["PidsLimit"] == 1024
    assert config["SecurityOpt"] == ["no-new-privileges"]
    assert {name.removeprefix("CAP_") for name in config["CapDrop"]} == {"MKNOD", "NET_RAW", "SETFCAP"}
    assert not config["Privileged"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_program_beyond_its_memory_is_told_so_with_the_flag(node: Node) -> None:
    run = node.make_run(
        "sh", "-c", "echo start; x=a; while :; do x=$x$x; done", resources={"memory_bytes": 32 * MIB}
    )
    outcome = await node.do(run)
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.OUT_OF_MEMORY
    assert "32 MiB of 32 MiB" in outcome.fault.message
    assert "--memory" in outcome.fault.message
    assert outcome.exit_code == 137
    assert run.workspace.stdout.read_bytes() == b"start\n"


async def test_a_program_beyond_its_time_is_killed_and_told_so_with_the_flag(node: Node) -> None:
    run = node.make_run("sh", "-c", "echo start; sleep 60", timeout_s=1)
    outcome = await asyncio.wait_for(node.do(run), 15)
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.EXECUTION_TIMEOUT
    assert "of 1 s" in outcome.fault.message
    assert "--timeout" in outcome.fault.message
    assert run.workspace.stdout.read_bytes() == b"start\n"
    await node.gone()


@pytest.mark.parametrize("place", ["/outputs/f", "/tmp-in-the-layer"])
async def test_a_program_beyond_its_disk_is_killed_and_told_so_with_the_flag(node: Node, place: str) -> None:
    run = node.make_run(
        "sh", "-c", f"dd if=/dev/zero of={place} bs=1M count=40 2>/dev/null; sleep 60",
        outputs=OUTPUTS,
        resources={"disk_bytes": 10 * MIB},
    )  # fmt: skip
    outcome = await asyncio.wait_for(node.do(run), 20)
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.OUT_OF_DISK
    assert "of 10 MiB" in outcome.fault.message
    assert "--disk" in outcome.fault.message


async def test_output_beyond_the_limit_is_cut_off_with_a_note_and_the_program_goes_on(node: Node) -> None:
    run = node.make_run("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo done >&2; exit 5")
    outcome = await node.do(run)
    content = run.workspace.stdout.read_bytes()
    assert content[:MIB] == b"x" * MIB
    assert content[MIB:].decode() == "\n… truncated: the first 1 MiB of stdout are kept\n"
    assert run.workspace.stderr.read_bytes() == b"done\n"
    assert outcome.exit_code == 5


@pytest.mark.parametrize(
    ("command", "words"), [("no-such-program", "is not there"), ("/etc/passwd", "cannot be executed")]
)
async def test_a_command_that_is_no_program_is_the_jobs_fault(node: Node, command: str, words: str) -> None:
    with pytest.raises(EngineFault) as error:
        await node.do(node.make_run(command, image="ubuntu"))
    assert error.value.fault.kind is FaultKind.INVALID_TASK
    assert words in error.value.fault.message
    assert command in error.value.fault.message
    await node.gone()


@pytest.mark.parametrize("folder", ["/etc/passwd", "relative"])
async def test_a_working_directory_that_is_no_folder_is_the_jobs_fault(node: Node, folder: str) -> None:
    with pytest.raises(EngineFault) as error:
        await node.do(node.make_run("pwd", image="ubuntu", working_directory=folder))
    assert error.value.fault.kind is FaultKind.INVALID_TASK
    assert folder in error.value.fault.message
    await node.gone()


async def test_two_mounts_in_one_place_are_the_jobs_fault(node: Node) -> None:
    outputs = (OutputPath("a", "/same"), OutputPath("b", "/same"))
    with pytest.raises(EngineFault) as error:
        await node.do(node.make_run("true", outputs=outputs))
    assert error.value.fault.kind is FaultKind.INVALID_TASK


async def test_the_first_line_is_there_while_the_program_still_sleeps(node: Node) -> None:
    run = node.make_run("sh", "-c", "echo first; sleep 60")
    task = asyncio.create_task(node.do(run))
    await node.printed(run, "first\n")
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_run_has_ended_when_it_returns(node: Node) -> None:
    run = node.make_run("sh", "-c", "echo up; sleep 60")
    task = asyncio.create_task(node.do(run))
    await node.printed(run, "up")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert [container for container in node.containers() if container.status == "running"] == []
    await node.gone()


async def test_cancelling_while_containers_start_leaves_none(node: Node) -> None:
    tasks = [asyncio.create_task(node.do(node.make_run("sleep", "60"))) for _ in range(8)]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0.03 * (number % 4))  # so that the moments differ: none of them is special
        task.cancel()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert all(isinstance(error, asyncio.CancelledError) for error in ended)
    await node.gone()


async def test_a_program_that_closes_its_output_is_followed_to_its_end(node: Node) -> None:
    outcome = await node.do(node.make_run("sh", "-c", "exec >&- 2>&-; sleep 1; exit 9"))
    assert outcome.exit_code == 9
    assert outcome.usage.wall_us >= 900_000


async def test_where_many_come_at_once_all_have_started_before_the_first_is_cleaned_away(
    docker_engine: docker.DockerClient, remove_containers_of: RemoveContainersOf, tmp_path: Path
) -> None:
    node_id = "node-" + secrets.token_hex(6)
    remove_containers_of(node_id)
    node = make_node(docker_engine, tmp_path / "work", node_id, starts_at_once=1)
    since = int(time.time())
    await asyncio.gather(*(node.do(node.make_run("true")) for _ in range(6)))
    await node.gone()
    told = docker_engine.events(
        since=since, until=int(time.time()) + 1, decode=True, filters={"label": f"bacalhau.node={node_id}"}
    )
    steps = [event["Action"] for event in told if event["Action"] in ("start", "destroy")]
    assert steps == ["start"] * 6 + ["destroy"] * 6
    await node.executor.close()


async def test_thirty_at_once_each_keep_their_own_output(node: Node) -> None:
    runs = [node.make_run("echo", str(number)) for number in range(30)]
    outcomes = await asyncio.gather(*(node.do(run) for run in runs))
    assert {outcome.exit_code for outcome in outcomes} == {0}
    assert [run.workspace.stdout.read_text() for run in runs] == [f"{number}\n" for number in range(30)]
    await node.gone()
