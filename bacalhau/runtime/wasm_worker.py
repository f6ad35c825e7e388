"""A worker process that runs WASM programs one after another: `python -m bacalhau.runtime.wasm_worker CACHE`.

Its stdin is a socket to the node that started it: a request a line, an answer a line (wasm_protocol). The
main thread runs the program; a watchdog thread stops it at its limits and ends the process when the node is
gone. The node kills the process where that is not enough, or where a run is cancelled.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bacalhau.model.execution import Fault, FaultKind
from bacalhau.model.units import GIB, MIB
from bacalhau.runtime.limits import (
    SAMPLE_INTERVAL_S,
    disk_fault,
    disk_used_bytes,
    memory_fault,
    timeout_fault,
)
from bacalhau.runtime.wasm_memory import LinearMemories
from bacalhau.runtime.wasm_modules import ModuleCache, new_engine
from bacalhau.runtime.wasm_program import NotStarted, Program, Programs
from bacalhau.runtime.wasm_protocol import Answer, Request, decode_request, encode, refusal

if TYPE_CHECKING:
    import wasmtime

TICK_S = 0.1
# How long a program may go on after the epoch has stopped it: only one that waits in a host call does.
STUCK_S = 0.5
# What this process may allocate beside a program's memory: interpreter, code, the compiler's working set.
OVERHEAD_BYTES = GIB
MAX_OPEN_FILES = 1024
STACK_BYTES = 8 * MIB
KILLED_EXIT_CODE = 137


@dataclass(slots=True)
class Watch:
    """A run that the watchdog looks after."""

    request: Request
    started_s: float
    sampled_s: float = 0.0
    cpu_s: float = field(default_factory=time.process_time)
    fault: Fault | None = None
    stopped_s: float = 0.0


class Watchdog(threading.Thread):
    """Stops the program of the run in progress at its limits; answers for it where it cannot be stopped."""

    def __init__(self, node: socket.socket, engine: wasmtime.Engine, memories: LinearMemories) -> None:
        super().__init__(daemon=True)
        self._node = node
        self._engine = engine
        self._memories = memories
        self._parent = os.getppid()
        # Held where `_watch` changes and where the epoch moves, so that what ends a run never hits the next.
        self._lock = threading.Lock()
        self._watch: Watch | None = None

    def begin(self, watch: Watch) -> None:
        with self._lock:
            self._watch = watch

    def end(self) -> None:
        with self._lock:
            self._watch = None

    def run(self) -> None:
        # Without a watchdog nothing would hold a program to its limits: whatever happens to this thread, such
        # as a socket that the node has closed, ends the process.
        try:
            while os.getppid() == self._parent:
                time.sleep(TICK_S)
                if (watch := self._watch) is not None:
                    self._tick(watch, time.monotonic())
        finally:
            os._exit(1)

    def _tick(self, watch: Watch, now_s: float) -> None:
        if watch.fault is None:
            fault = self._broken_limit(watch, now_s)
            with self._lock:
                if fault is not None and self._watch is watch:
                    watch.fault, watch.stopped_s = fault, now_s
                    self._engine.increment_epoch()
        elif now_s - watch.stopped_s > STUCK_S:
            with self._lock:
                if self._watch is watch:
                    answer = ended(watch, KILLED_EXIT_CODE, now_s, self._memories.peak_bytes, watch.fault)
                    self._node.sendall(encode(answer._replace(leaving=True)))
                    os._exit(0)

    def _broken_limit(self, watch: Watch, now_s: float) -> Fault | None:
        request = watch.request
        ran_us = int((now_s - watch.started_s) * 1_000_000)
        if ran_us >= request.timeout_us:
            return timeout_fault(ran_us, request.timeout_us)
        if now_s - max(watch.sampled_s, watch.started_s) >= SAMPLE_INTERVAL_S:
            watch.sampled_s = now_s
            return _disk_fault(request)
        return None


class Worker:
    """Answers requests until the node closes the socket."""

    def __init__(self, node: socket.socket, cache: Path | None) -> None:
        self._node = node
        self._memories = LinearMemories()
        engine = new_engine(self._memories)
        self._programs = Programs(engine, ModuleCache(engine, cache))
        self._watchdog = Watchdog(node, engine, self._memories)

    def serve(self) -> None:
        self._watchdog.start()
        with self._node.makefile("rb") as lines:
            for line in lines:
                self._node.sendall(encode(self._answer(decode_request(line))))

    def _answer(self, request: Request) -> Answer:
        try:
            if request.run:
                return self._run(request)
            _limit_process(None, 0)
            self._programs.check(request)
            return Answer(True)
        except NotStarted as error:
            return refusal(error.kind, str(error))
        # A bug here or a fault of the machine: the job's user and the node's log hear it, the worker goes on.
        except Exception as error:
            traceback.print_exc()
            what = str(error) or type(error).__name__
            return refusal(FaultKind.ENGINE_FAILED, f"the WASM engine could not run the program: {what}")

    def _run(self, request: Request) -> Answer:
        _limit_process(None, request.memory_bytes)
        self._memories.begin(request.memory_bytes)
        program = self._programs.start(request)
        try:
            return self._watched(request, program)
        finally:
            program.close()
            _limit_process(None, 0)

    def _watched(self, request: Request, program: Program) -> Answer:
        _limit_process(request.disk_bytes, request.memory_bytes)
        watch = Watch(request, time.monotonic())
        program.arm()
        self._watchdog.begin(watch)
        not_started: NotStarted | None = None
        exit_code = KILLED_EXIT_CODE
        try:
            exit_code = program.run()
        except NotStarted as error:
            not_started = error
        finally:
            self._watchdog.end()
        fault = watch.fault
        if fault is None:
            program.report_crash()
        if fault is None and self._memories.refused and (exit_code or not_started):
            fault = memory_fault(self._memories.peak_bytes, request.memory_bytes)
        if fault is None and not_started is not None:
            raise not_started
        if fault is None:
            fault = _disk_fault(request)
        code = exit_code if fault is None else KILLED_EXIT_CODE
        return ended(watch, code, time.monotonic(), self._memories.peak_bytes, fault)


def ended(watch: Watch, exit_code: int, now_s: float, peak_memory_bytes: int, fault: Fault | None) -> Answer:
    return Answer(
        True,
        exit_code,
        wall_us=int((now_s - watch.started_s) * 1_000_000),
        cpu_us=int((time.process_time() - watch.cpu_s) * 1_000_000),
        peak_memory_bytes=peak_memory_bytes,
        fault_kind=fault.kind.value if fault else 0,
        fault_message=fault.message if fault else "",
    )


def _disk_fault(request: Request) -> Fault | None:
    written = (request.stdout, request.stderr, *(folder for folder, _ in request.outputs))
    used_bytes = disk_used_bytes(written, stop_above_bytes=request.disk_bytes)
    return disk_fault(used_bytes, request.disk_bytes) if used_bytes > request.disk_bytes else None


def _limit_process(file_bytes: int | None, memory_bytes: int) -> None:
    """Limits each file to one byte more than a run may write in all, and what this process may allocate."""
    _set_limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY if file_bytes is None else file_bytes + 1)
    _set_limit(resource.RLIMIT_DATA, memory_bytes + OVERHEAD_BYTES)


def _set_limit(which: int, soft: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(which, (soft, hard))


def main() -> None:
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    # A program's stack (wasm_modules.MAX_STACK_BYTES) is part of this thread's.
    _set_limit(resource.RLIMIT_STACK, STACK_BYTES)
    node = socket.socket(fileno=0)
    cache = Path(sys.argv[1]) if sys.argv[1] else None
    # A closed socket is the ordinary end: the node is gone or has let this worker go.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        Worker(node, cache).serve()


if __name__ == "__main__":
    main()
