"""Worker processes for WASM, as the node holds them: started ahead, reused, replaced, ended with the node.

Owns the processes and the sockets to them; knows requests and answers only as messages. A worker is handed to
one caller at a time, who gives it back or discards it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

from bacalhau.background import Background
from bacalhau.runtime.wasm_protocol import Answer, Request, decode_answer, encode

# A burst of short runs is over before a new process is up, and on a machine without a free core each new one makes the
# others slower: the pool grows by one where for so long no worker came free, and none was started.
GROW_AFTER_S = 0.1
MAX_ANSWER_BYTES = 1024 * 1024

_PACKAGE_PARENT: Final = str(Path(__file__).resolve().parents[2])


class WorkerLost(Exception):
    """The process ended without an answer; `signal_number` is what killed it, 0 where it ended otherwise."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"the worker process died (signal {signal_number})")
        self.signal_number = signal_number


class Worker(asyncio.Protocol):
    """One process and the socket to it."""

    def __init__(self, pool: WorkerPool, process: subprocess.Popen[bytes]) -> None:
        self._pool = pool
        self.process = process
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[bytes] | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._answer is None or len(self._received) > MAX_ANSWER_BYTES:
            # Nobody asked, or no answer is that long: whatever runs there is not our worker any more.
            self.kill()
        elif self._received.endswith(b"\n"):
            answer, self._answer = self._answer, None
            if not answer.done():
                answer.set_result(bytes(self._received))
            self._received.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())
        self._pool.forget(self)

    async def ask(self, request: Request) -> Answer:
        """Raises WorkerLost. Whoever gives up waiting must discard the worker."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        if self.lost:
            self._answer.set_exception(ConnectionResetError())
        else:
            self._transport.write(encode(request))
        try:
            return decode_answer(await self._answer)
        except (ConnectionResetError, ValueError, TypeError):
            await self.end()
            raise WorkerLost(max(0, -(self.process.returncode or 0))) from None

    def kill(self) -> None:
        """Ends the process at once; `end` waits for it."""
        self.process.kill()
        if self._transport is not None:
            self._transport.abort()

    async def end(self) -> None:
        """Returns when the process has ended, killing it where it has not closed its socket itself."""
        if not self.lost:
            self.kill()
        try:
            # One that has closed its socket ends by itself, and its exit status says how.
            await asyncio.to_thread(self.process.wait, 5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)


class WorkerPool:
    """`idle_count` workers are kept; up to `max_count` run at the same time."""

    def __init__(self, idle_count: int, max_count: int, cache: Path | None) -> None:
        self._idle_count = idle_count
        self._max_count = max(idle_count, max_count)
        self._cache = cache
        self._workers: set[Worker] = set()
        self._starting = 0
        self._moved_s = 0.0
        """When a worker last came free, or was last started."""
        self._growing: asyncio.TimerHandle | None = None
        self._idle: list[Worker] = []
        self._waiting: deque[asyncio.Future[Worker | None]] = deque()
        self._background = Background()
        self._closing = False

    @property
    def size(self) -> int:
        return len(self._workers) + self._starting

    async def start(self) -> None:
        """Starts the workers that are kept, without waiting until they are ready."""
        while self.size < self._idle_count:
            self.release(await self._start_worker())

    async def _start_worker(self) -> Worker:
        """Raises OSError where the machine starts no process, RuntimeError once the pool is closing."""
        if self._closing:
            raise RuntimeError("the WASM engine is closing")
        ours, theirs = socket.socketpair()
        self._starting += 1
        self._moved_s = time.monotonic()
        process = None
        try:
            with theirs:
                process = _start_process(theirs, self._cache)
            worker = Worker(self, process)
            await asyncio.get_running_loop().create_unix_connection(lambda: worker, sock=ours)
        except BaseException:  # also a caller that is cancelled: its process must not stay
            ours.close()
            if process is not None:
                process.kill()
                process.wait()
            raise
        finally:
            self._starting -= 1
        self._workers.add(worker)
        return worker

    async def acquire(self) -> Worker:
        """A worker of the caller's own, who must `release` or `discard` it."""
        while not self._closing:
            while self._idle:
                # The last one used has the warmest caches.
                worker = self._idle.pop()
                if not worker.lost:
                    return worker
            if self.size < self._idle_count:
                return await self._start_worker()
            if (given := await self._wait()) is not None:
                return given
        raise RuntimeError("the WASM engine is closing")

    async def _wait(self) -> Worker | None:
        """The next worker that comes free; None where it is time to look again."""
        turn: asyncio.Future[Worker | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._watch()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and (given := turn.result()) is not None:
                self.release(given)
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _watch(self) -> None:
        """Looks after a while whether those that wait get any further, as long as some do."""
        if self._growing is None and self._waiting and self.size < self._max_count:
            self._growing = asyncio.get_running_loop().call_later(GROW_AFTER_S, self._look)

    def _look(self) -> None:
        self._growing = None
        is_stuck = time.monotonic() >= self._moved_s + GROW_AFTER_S
        if self._waiting and is_stuck and self.size < self._max_count:
            self._background.start("one more WASM worker", self._grow())
        self._watch()

    async def _grow(self) -> None:
        if self._closing:
            return
        # Where no process can be started, those that wait get the workers that there are.
        with contextlib.suppress(OSError):
            self.release(await self._start_worker())

    def release(self, worker: Worker) -> None:
        """Takes back a worker that can take another request."""
        self._moved_s = time.monotonic()
        is_usable = not (worker.lost or self._closing)
        if is_usable and self._hand_over(worker):
            return
        if is_usable and len(self._idle) < self._idle_count:
            self._idle.append(worker)
        else:
            self._background.start("discarding a WASM worker", self.discard(worker))

    def _hand_over(self, worker: Worker | None) -> bool:
        while self._waiting:
            if _give(self._waiting.popleft(), worker):
                return True
        return False

    async def discard(self, worker: Worker) -> None:
        """Ends a worker and returns when its process is gone; starts another where too few are left."""
        await asyncio.shield(self._end(worker))
        if not self._closing and self.size < self._idle_count:
            self._background.start("replacing a WASM worker", self._replace())

    def _end(self, worker: Worker) -> asyncio.Task[None]:
        return self._background.start("ending a WASM worker", worker.end())

    async def _replace(self) -> None:
        if self.size < self._idle_count:
            await self._grow()

    def forget(self, worker: Worker) -> None:
        """Called when a worker's socket has closed."""
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
            self._end(worker)
        # Somebody may wait for a worker that is not coming back.
        self._hand_over(None)

    async def close(self) -> None:
        """Ends every worker, at once."""
        self._closing = True
        if self._growing is not None:
            self._growing.cancel()
        while self._waiting:
            self._hand_over(None)
        workers = list(self._workers)
        await asyncio.gather(*(worker.end() for worker in workers))
        self._idle.clear()
        await self._background.ended()


def _give(turn: asyncio.Future[Worker | None], worker: Worker | None) -> bool:
    if turn.done():
        return False
    turn.set_result(worker)
    return True


def _start_process(theirs: socket.socket, cache: Path | None) -> subprocess.Popen[bytes]:
    """Takes a few milliseconds."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "bacalhau.runtime.wasm_worker", str(cache or "")],
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
        cwd="/",
        env=_worker_environment(),
        # Ctrl-C in the node's terminal is for the node, which then ends its workers.
        start_new_session=True,
    )


def _worker_environment() -> dict[str, str]:
    """The node's, and where to find this package: the node may know it by the current folder or by
    PYTHONPATH.
    """
    # A worker that crashes says so in a few lines on the node's stderr.
    quiet = {"RUST_BACKTRACE": "0"}
    searched = [_PACKAGE_PARENT, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return (
        os.environ
        | quiet
        | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in searched if path)}
    )
