"""A job's output for clients, wherever it is: running here, running on another node, or in a result.

Whatever way it comes, each stream of an execution is sent once, from its start: after a broken connection, a restart
or the end of the program, what was sent already is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from bacalhau.ipfs import reader
from bacalhau.ipfs.errors import IpfsError
from bacalhau.model.execution import ExecutionState
from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.node.works import STDERR, STDOUT
from bacalhau.rpc.peer_client import PeerUnreachable
from bacalhau.wire.statements import LogRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from bacalhau.model.cid import Cid
    from bacalhau.node.contents import Contents
    from bacalhau.node.driver import Driver
    from bacalhau.node.happenings import Happenings
    from bacalhau.node.membership import Membership
    from bacalhau.node.signer import Signer
    from bacalhau.node.works import Works
    from bacalhau.scheduler.records import ExecutionRecord
    from bacalhau.store.store import Store

_RETRY_S = 0.5
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}


class JobLogs:
    """See the module."""

    def __init__(
        self,
        signer: Signer,
        driver: Driver,
        store: Store,
        contents: Contents,
        membership: Membership,
        works: Works,
        happenings: Happenings,
    ) -> None:
        self._signer = signer
        self._driver = driver
        self._store = store
        self._contents = contents
        self._blocks = contents.store
        self._membership = membership
        self._works = works
        self._happenings = happenings

    async def stream(
        self, job_id: str, *, execution_id: str, follow: bool, tail: int
    ) -> AsyncGenerator[tuple[str, int, bytes], None]:
        """Pieces as (execution id, STDOUT or STDERR, bytes). Without an execution id it is the newest; with
        `follow`, when that fails and the job goes on, the next one too."""
        if execution_id:
            execution_id = self._resolve(job_id, execution_id)
        done: set[str] = set()
        with self._happenings.watch(job_id) as changed:
            while True:
                execution = self._choose(job_id, execution_id, done)
                if execution is None:
                    job = self._store.job(job_id)
                    if not follow or job is None or job.state.ended:
                        return
                    await changed.queue.get()
                    continue
                async with contextlib.aclosing(self._one(execution, follow, tail, changed.queue)) as pieces:
                    async for piece in pieces:
                        yield execution.id, *piece
                done.add(execution.id)
                if not follow or execution_id:
                    return

    def _resolve(self, job_id: str, execution_id: str) -> str:
        found = [
            execution.id
            for execution in self._executions(job_id)
            if execution.id == execution_id or execution.id.startswith((execution_id, f"e-{execution_id}"))
        ]
        if len(found) != 1:
            reason = RefusalReason.NOT_FOUND if not found else RefusalReason.AMBIGUOUS_ID
            raise refused(
                reason, f"job {job_id} has {len(found)} executions whose id begins with {execution_id}"
            )
        return found[0]

    def _executions(self, job_id: str) -> tuple[ExecutionRecord, ...]:
        job = self._store.job(job_id)
        return job.executions if job is not None else ()

    def _choose(self, job_id: str, execution_id: str, done: set[str]) -> ExecutionRecord | None:
        """The execution to show: the one asked for, or the newest that was confirmed and not shown yet."""
        candidates = [
            execution
            for execution in self._executions(job_id)
            if execution.id not in done
            and execution.state not in (ExecutionState.AWARDED, ExecutionState.REFUSED)
            and execution_id in ("", execution.id)
        ]
        if done or not candidates:
            return candidates[-1] if candidates else None
        running = [execution for execution in candidates if not execution.state.ended]
        return running[0] if running else candidates[-1]

    async def _one(
        self, execution: ExecutionRecord, follow: bool, tail: int, changed: asyncio.Queue[Any]
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        sent = _Sent(tail)
        while True:
            current = self._store.execution(execution.id) or execution
            result = current.report.result if current.report is not None else None
            if result is not None and await self._contents.at_hand(result):
                async for piece in self._stored(result, sent):
                    yield piece
                return
            if current.state is ExecutionState.RUNNING:
                try:
                    async for piece in self._running(current, follow, sent):
                        yield piece
                except (PeerUnreachable, Refused) as failure:
                    if not follow:
                        raise refused(
                            RefusalReason.CONTENT_UNAVAILABLE,
                            f"the output of {execution.id} cannot be read from its node now: {failure}",
                        ) from failure
                if not follow:
                    return
            elif current.state not in (ExecutionState.COMMITTED, ExecutionState.REPORTED) or not follow:
                if result is not None and not sent.anything:
                    raise refused(
                        RefusalReason.CONTENT_UNAVAILABLE,
                        f"the result {result} of {execution.id} is not here (any more): results are kept for a time",
                    )
                return
            # The stream has ended or broken; the next thing to know is how the execution went on.
            try:
                async with asyncio.timeout(_RETRY_S):
                    await changed.get()
            except TimeoutError:
                continue

    async def _running(
        self, execution: ExecutionRecord, follow: bool, sent: _Sent
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """What a program has written so far, or the last lines of it; then, with `follow`, what it goes on to write."""
        for follow_now in (False, True) if sent.has_tail and follow else (follow,):
            sent.restart()
            async with contextlib.aclosing(self._live(execution, follow_now)) as pieces:
                async for stream, data in pieces:
                    for piece in sent.new(stream, data):
                        yield piece
            if not follow_now:
                for piece in sent.rest():
                    yield piece

    async def _live(
        self, execution: ExecutionRecord, follow: bool
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        if execution.node_id == self._membership.node_id:
            async with contextlib.aclosing(self._works.output(execution.id, follow=follow)) as output:
                async for piece in output:
                    yield piece
            return
        link = await self._membership.link(execution.node_id)
        request = self._signer.seal_message(LogRequest(execution.id, follow), execution.node_id)
        async for piece in link.stream_execution_logs(request):
            yield piece

    async def _stored(self, result: Cid, sent: _Sent) -> AsyncGenerator[tuple[int, bytes], None]:
        sent.restart()
        for stream, name in _NAMES.items():
            try:
                chunks = reader.read_file(self._blocks, reader.resolve(self._blocks, result, name))
                while chunk := await asyncio.to_thread(next, chunks, b""):
                    for piece in sent.new(stream, chunk):
                        yield piece
            except IpfsError as error:
                raise refused(RefusalReason.CONTENT_UNAVAILABLE, f"the result {result}: {error}") from error
        for piece in sent.rest():
            yield piece


class _Sent:
    """How much of each stream was sent, so that a second reading from the start goes on where the first ended.

    With `tail` what comes is held back, and of that only the last lines are sent, by `rest`; from then on all is.
    """

    def __init__(self, tail: int) -> None:
        self._sent = {STDOUT: 0, STDERR: 0}
        self._read = {STDOUT: 0, STDERR: 0}
        self._held = {STDOUT: _LastLines(tail), STDERR: _LastLines(tail)} if tail else {}

    @property
    def has_tail(self) -> bool:
        return bool(self._held)

    @property
    def anything(self) -> bool:
        return any(self._sent.values())

    def restart(self) -> None:
        self._read = {STDOUT: 0, STDERR: 0}

    def new(self, stream: int, data: bytes) -> list[tuple[int, bytes]]:
        start = self._read[stream]
        self._read[stream] = start + len(data)
        fresh = data[max(0, self._sent[stream] - start) :]
        if not fresh:
            return []
        self._sent[stream] = self._read[stream]
        if self._held:
            self._held[stream].add(fresh)
            return []
        return [(stream, fresh)]

    def rest(self) -> list[tuple[int, bytes]]:
        held, self._held = self._held, {}
        return [(stream, data) for stream, lines in sorted(held.items()) if (data := lines.joined())]


class _LastLines:
    """The last `count` lines of a stream, in memory of their size and a piece."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pieces: deque[tuple[bytes, int]] = deque()
        self._newlines = 0

    def add(self, data: bytes) -> None:
        newlines = data.count(b"\n")
        self._pieces.append((data, newlines))
        self._newlines += newlines
        # The last line may have no end yet: one newline more than lines is kept.
        while self._newlines - self._pieces[0][1] > self._count:
            self._newlines -= self._pieces.popleft()[1]

    def joined(self) -> bytes:
        data = b"".join(piece for piece, _ in self._pieces)
        lines = data.split(b"\n")
        ended = lines[-1] == b""
        return b"\n".join(lines[-self._count - ended :])
