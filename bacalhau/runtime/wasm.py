"""The WASM engine: runs programs with WASI preview 1 in warm worker processes.

Owns what an execution of a WASM task asks of a worker and how its answer becomes an outcome. The node's
process never imports wasmtime: what can crash or be slow happens in a worker, which is killed where it must
be. A program that traps has completed, with exit code 134 (see wasm_program); one stopped at a limit has exit
code 137 and a fault. A WASM execution does not outlive its node: it runs again as a new attempt.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import signal
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from bacalhau.model.execution import Fault, FaultKind, Usage
from bacalhau.model.job import Engine, NetworkMode, WasmTask
from bacalhau.runtime.executor import EngineFault, EngineStatus, Outcome
from bacalhau.runtime.limits import timeout_fault
from bacalhau.runtime.wasm_pool import Worker, WorkerLost, WorkerPool
from bacalhau.runtime.wasm_protocol import Answer, ModuleFile, Request

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from bacalhau.runtime.executor import Progress, Run

COMPILE_TIMEOUT_S = 60.0
# A worker stops a run within a second of its limit; one that has not by then is beyond asking.
BACKSTOP_S = 5.0
MAX_KNOWN_TASKS = 4096

# A module, its entry point and its imports: what `prepare` has to check.
_Program = tuple[str, str, tuple[tuple[str, str], ...]]

# How a process dies of what it compiles, as against SIGKILL from the operator or a machine out of memory.
_CRASHES: Final = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)


class WasmExecutor:
    """Implements Executor. `worker_count` processes are kept warm, up to `max_worker_count` run at once."""

    engine = Engine.WASM

    def __init__(self, worker_count: int, cache_dir: Path | None, max_worker_count: int = 0) -> None:
        """`cache_dir` holds compiled modules and is made with mode 0700; None: they are kept in memory
        only.
        """
        self._pool = WorkerPool(worker_count, max_worker_count, cache_dir and cache_dir.absolute())
        self._known: OrderedDict[_Program, None] = OrderedDict()
        self._checks: dict[_Program, asyncio.Task[None]] = {}
        self._version = ""

    async def start(self) -> None:
        """Starts the warm workers; without it the first runs do. Does nothing where wasmtime is not
        installed.
        """
        if (await self.status()).available:
            await self._pool.start()

    async def status(self) -> EngineStatus:
        try:
            # Once: it is read from files, and this is asked for all the time.
            self._version = self._version or importlib.metadata.version("wasmtime")
            return EngineStatus(True, self._version)
        except importlib.metadata.PackageNotFoundError:
            return EngineStatus(
                False,
                message="the Python package wasmtime is not installed; install it with: pip install wasmtime",
            )

    async def prepare(self, run: Run, progress: Progress) -> None:
        """Compiles the modules and checks their exports and imports; costs nothing for a program known to be
        good.

        Raises EngineFault.
        """
        program = _program(run)
        if program in self._known:
            self._known.move_to_end(program)
            return
        # Executions of one new module share its check, which goes on when one of them is cancelled.
        if (check := self._checks.get(program)) is None:
            check = asyncio.ensure_future(self._check(program, run))
            self._checks[program] = check
            check.add_done_callback(lambda done: self._checked(program, done))
        await asyncio.shield(check)

    def _checked(self, program: _Program, check: asyncio.Task[None]) -> None:
        del self._checks[program]
        # Asking for the exception marks it as seen: every caller may have been cancelled meanwhile.
        if check.cancelled() or check.exception() is not None:
            return
        self._known[program] = None
        while len(self._known) > MAX_KNOWN_TASKS:
            self._known.popitem(last=False)

    async def _check(self, program: _Program, run: Run) -> None:
        request = Request(False, _modules(run), _task(run).entry_point)
        try:
            answer = await self._ask(request, COMPILE_TIMEOUT_S)
        except TimeoutError:
            raise _fault(
                FaultKind.INVALID_MODULE, f"compiling the module took more than {COMPILE_TIMEOUT_S:g} s"
            ) from None
        except WorkerLost as lost:
            if lost.signal_number in _CRASHES:
                raise _fault(
                    FaultKind.INVALID_MODULE,
                    "the module cannot be compiled: it takes too much memory or too deep a stack",
                ) from None
            raise _died(lost) from None
        if answer.fault is not None:
            raise EngineFault(answer.fault)

    async def run(self, run: Run) -> Outcome:
        """Raises EngineFault where the program could not begin. A cancelled run's process is gone at
        return.
        """
        request = _run_request(run)
        try:
            # The time limit counts from the program's start; a cold worker may have to compile before.
            answer = await self._ask(request, request.timeout_us / 1_000_000 + COMPILE_TIMEOUT_S + BACKSTOP_S)
        except TimeoutError:
            fault = timeout_fault(request.timeout_us, request.timeout_us)
            return Outcome(128 + signal.SIGKILL, Usage(wall_us=request.timeout_us), fault)
        except WorkerLost as lost:
            raise _died(lost) from None
        if not answer.started and answer.fault is not None:
            raise EngineFault(answer.fault)
        usage = Usage(answer.wall_us, answer.cpu_us, answer.peak_memory_bytes)
        return Outcome(answer.exit_code, usage, answer.fault)

    async def _ask(self, request: Request, timeout_s: float) -> Answer:
        """Raises TimeoutError, WorkerLost, EngineFault; on these and on cancellation the worker is gone."""
        try:
            worker = await self._pool.acquire()
        except (OSError, RuntimeError) as error:
            raise _fault(
                FaultKind.ENGINE_FAILED, f"no WASM worker process can be started: {error}"
            ) from error
        usable = False
        try:
            async with asyncio.timeout(timeout_s):
                answer = await worker.ask(request)
            usable = not answer.leaving
            return answer
        finally:
            await self._give_back(worker, usable)

    async def _give_back(self, worker: Worker, usable: bool) -> None:
        if usable:
            self._pool.release(worker)
        else:
            await self._pool.discard(worker)

    async def resume(self, run: Run) -> Outcome | None:
        """None: a WASM program ends with its node."""
        return None

    async def reap(self, keep: Collection[str]) -> list[str]:
        """Nothing: workers see that their node is gone and end by themselves."""
        return []

    async def close(self) -> None:
        for check in list(self._checks.values()):
            check.cancel()
        await self._pool.close()


def _task(run: Run) -> WasmTask:
    assert isinstance(run.spec.task, WasmTask), "the node gives this engine WASM tasks only"
    return run.spec.task


def _program(run: Run) -> _Program:
    task = _task(run)
    return (
        str(task.module),
        task.entry_point,
        tuple((module.name, str(module.cid)) for module in task.imports),
    )


def _modules(run: Run) -> tuple[ModuleFile, ...]:
    module, _, imports = _program(run)
    named = (("", module), *((name or cid, cid) for name, cid in imports))
    return tuple(
        ModuleFile(cid, os.path.abspath(path), name)
        for (name, cid), path in zip(named, run.workspace.modules, strict=True)
    )


def _run_request(run: Run) -> Request:
    spec, workspace, task = run.spec, run.workspace, _task(run)
    if spec.network is not NetworkMode.NONE:
        raise _fault(
            FaultKind.INVALID_TASK, "a WASM program has no network here; leave out --network, or use Docker"
        )
    for what, text in (
        *(("an argument", text) for text in task.arguments),
        *(("an environment variable", text) for pair in spec.env for text in pair),
        *(("a path", place.target) for place in spec.inputs),
        *(("a path", place.path) for place in spec.outputs),
    ):
        if "\0" in text:
            raise _fault(FaultKind.INVALID_TASK, f"{what} holds a NUL byte, which no program can be given")
    return Request(
        True,
        _modules(run),
        task.entry_point,
        task.arguments,
        spec.env,
        os.path.abspath(workspace.root),
        tuple(
            (os.path.abspath(path), to.target) for path, to in zip(workspace.inputs, spec.inputs, strict=True)
        ),
        tuple(
            (os.path.abspath(path), to.path) for path, to in zip(workspace.outputs, spec.outputs, strict=True)
        ),
        os.path.abspath(workspace.stdout),
        os.path.abspath(workspace.stderr),
        spec.timeouts.execution_us,
        spec.resources.memory_bytes,
        spec.resources.disk_bytes,
    )


def _fault(kind: FaultKind, message: str) -> EngineFault:
    return EngineFault(Fault(kind, message))


def _died(lost: WorkerLost) -> EngineFault:
    how = f"killed by signal {lost.signal_number}" if lost.signal_number else "it ended by itself"
    return _fault(FaultKind.ENGINE_FAILED, f"the WASM worker process died ({how})")
