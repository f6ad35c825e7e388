"""The worker processes: reused, replaced, ended with the run that is cancelled and with the node."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from bacalhau.model.execution import FaultKind
from bacalhau.runtime import wasm, wasm_pool
from bacalhau.runtime.executor import EngineFault
from tests.runtime.wasm_runs import (
    HELLO,
    LOOP,
    NOOP,
    SLEEP,
    a_run,
    an_executor,
    command,
    complete,
    no_progress,
    prints,
    sleeps,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path


def workers(parent: int | None = None) -> list[psutil.Process]:
    """The worker processes of this test process, or of another."""
    found = []
    for child in psutil.Process(parent or os.getpid()).children():
        try:
            if "bacalhau.runtime.wasm_worker" in child.cmdline():
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


async def until_printed(file: Path, text: str) -> None:
    await until(lambda: file.exists() and file.read_text() == text)


async def test_status_names_the_version_and_imports_no_wasmtime(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from bacalhau.runtime.wasm import WasmExecutor\n"
        "async def main():\n"
        "    executor = WasmExecutor(1, Path(sys.argv[1]))\n"
        "    await executor.start(); print(await executor.status()); await executor.close()\n"
        "asyncio.run(main()); print('wasmtime' in sys.modules)\n"
    )
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await done.communicate()
    assert err == b""
    assert b"available=True, version='" in out
    assert out.endswith(b"False\n")


async def test_a_worker_is_reused(tmp_path: Path) -> None:
    async with an_executor(worker_count=2) as executor:
        await executor.start()
        before = {worker.pid for worker in workers()}
        assert len(before) == 2
        for _ in range(20):
            await complete(executor, a_run(tmp_path, NOOP))
        assert {worker.pid for worker in workers()} == before
    assert workers() == []


async def test_output_is_there_while_the_program_still_runs_and_cancelling_ends_it(tmp_path: Path) -> None:
    talks = command(prints("first") + "(loop br 0)", wasi=("fd_write",), data="first")
    sleeps = a_run(tmp_path, SLEEP)
    async with an_executor(worker_count=1) as executor:
        for run in (a_run(tmp_path, talks), sleeps):
            await executor.prepare(run, no_progress)
            task = asyncio.create_task(executor.run(run))
            await until_printed(run.workspace.stdout, "" if run is sleeps else "first")
            (worker,) = workers()
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 1
            assert not worker.is_running()
            assert (await complete(executor, a_run(tmp_path, HELLO))).exit_code == 0


async def test_a_run_cancelled_while_it_waits_for_a_worker_takes_none(tmp_path: Path) -> None:
    async with an_executor(worker_count=1) as executor:
        await complete(executor, a_run(tmp_path, NOOP))
        await executor.prepare(busy_run := a_run(tmp_path, LOOP), no_progress)
        busy = asyncio.create_task(executor.run(busy_run))
        waiting = asyncio.create_task(executor.run(a_run(tmp_path, NOOP)))
        await until_printed(busy_run.workspace.stdout, "")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        busy.cancel()
        with pytest.raises(asyncio.CancelledError):
            await busy
        assert (await complete(executor, a_run(tmp_path, NOOP))).exit_code == 0


async def test_a_run_whose_worker_is_killed_is_a_fault_of_the_engine_and_the_next_one_works(
    tmp_path: Path,
) -> None:
    async with an_executor(worker_count=1) as executor:
        run = a_run(tmp_path, LOOP)
        await executor.prepare(run, no_progress)
        task = asyncio.create_task(executor.run(run))
        await until_printed(run.workspace.stdout, "")
        (worker,) = workers()
        worker.send_signal(signal.SIGKILL)
        with pytest.raises(EngineFault) as caught:
            await task
        assert caught.value.fault.kind is FaultKind.ENGINE_FAILED
        assert "signal 9" in caught.value.fault.message
        assert (await complete(executor, a_run(tmp_path, HELLO))).exit_code == 0


async def test_a_worker_that_no_longer_answers_is_killed_when_the_run_is_over_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with an_executor(worker_count=1) as executor:
        run = a_run(tmp_path, LOOP, timeout_s=0.3)
        await executor.prepare(run, no_progress)
        (worker,) = workers()
        worker.suspend()
        monkeypatch.setattr(wasm, "COMPILE_TIMEOUT_S", 0.0)
        monkeypatch.setattr(wasm, "BACKSTOP_S", 0.1)
        outcome = await executor.run(run)
        assert outcome.fault is not None
        assert outcome.fault.kind is FaultKind.EXECUTION_TIMEOUT
        assert not worker.is_running()


async def test_an_idle_worker_that_dies_is_replaced_by_the_next_run(tmp_path: Path) -> None:
    async with an_executor(worker_count=1) as executor:
        await complete(executor, a_run(tmp_path, NOOP))
        (worker,) = workers()
        worker.send_signal(signal.SIGKILL)
        await until(lambda: not worker.is_running())
        assert (await complete(executor, a_run(tmp_path, NOOP))).exit_code == 0


async def test_workers_grow_to_what_is_asked_and_shrink_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wasm_pool, "GROW_AFTER_S", 0.01)
    async with an_executor(worker_count=1, max_worker_count=3) as executor:
        await executor.prepare(a_run(tmp_path, SLEEP), no_progress)
        runs = [a_run(tmp_path, SLEEP) for _ in range(4)]
        tasks = [asyncio.create_task(executor.run(run)) for run in runs]
        await until(lambda: sum(run.workspace.stdout.exists() for run in runs) >= 3)
        assert len(workers()) == 3
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (await complete(executor, a_run(tmp_path, NOOP))).exit_code == 0
        assert len(workers()) == 1


async def test_no_worker_is_started_for_runs_that_wait_while_others_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for longer than the pool does before it grows, all together, and none gets stuck."""
    monkeypatch.setattr(wasm_pool, "GROW_AFTER_S", 1.0)
    short = sleeps(100)
    async with an_executor(worker_count=1, max_worker_count=8) as executor:
        await complete(executor, a_run(tmp_path, short))
        runs = [asyncio.create_task(executor.run(a_run(tmp_path, short))) for _ in range(20)]
        most = 0
        while not all(run.done() for run in runs):
            most = max(most, len(workers()))
            await asyncio.wait(runs, timeout=0.1)
        assert [run.result().exit_code for run in runs] == [0] * 20
        assert most == 1


async def test_close_ends_running_programs_and_every_worker(tmp_path: Path) -> None:
    async with an_executor(worker_count=2) as executor:
        await executor.start()
        run = a_run(tmp_path, LOOP)
        await executor.prepare(run, no_progress)
        task = asyncio.create_task(executor.run(run))
        await until_printed(run.workspace.stdout, "")
        await executor.close()
        assert workers() == []
        with pytest.raises(EngineFault):
            await task


async def test_nothing_is_resumed_or_reaped(tmp_path: Path) -> None:
    async with an_executor() as executor:
        assert await executor.resume(a_run(tmp_path, NOOP)) is None
        assert await executor.reap([]) == []


async def test_workers_end_when_the_node_is_killed_also_in_mid_run(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from tests.runtime.wasm_runs import LOOP, a_run, an_executor, complete\n"
        "async def main():\n"
        "    async with an_executor(worker_count=2) as executor:\n"
        "        await executor.start()\n"
        "        await complete(executor, a_run(Path(sys.argv[1]), LOOP, timeout_s=600))\n"
        "asyncio.run(main())\n"
    )
    node = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path))
    try:
        await until(lambda: any(tmp_path.glob("run-*/stdout")))
        left = workers(node.pid)
        assert len(left) == 2
    finally:
        node.kill()
        await node.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, left, 5)
    assert alive == []
