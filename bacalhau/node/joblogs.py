"""A job's output for clients, wherever it is: running here, running on another node, or in a result.

Whatever way it comes, each stream of an execution is sent once, from its start: after a broken connection, a restart
or the end of the program, what was sent already is skipped.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bacalhau.ipfs import reader
from bacalhau.ipfs.errors import IpfsError
from bacalhau.model.execution import ExecutionState
from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.node.works import STDERR, STDOUT
from bacalhau.rpc.peer_client import PeerUnreachable
from bacalhau.wire.envelope import seal_message
from bacalhau.wire.statements import LogRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bacalhau.ipfs.blockstore import BlockStore
    from bacalhau.model.cid import Cid
    from bacalhau.node.driver import Driver
    from bacalhau.node.happenings import Happenings
    from bacalhau.node.membership import Membership
    from bacalhau.node.works import Works
    from bacalhau.scheduler.records import ExecutionRecord
    from bacalhau.store.store import Store
    from bacalhau.wire.identity import NodeKey

_RETRY_S = 0.5
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}


class JobLogs:
    """See the module."""

    def __init__(
        self,
        key: NodeKey,
        driver: Driver,
        store: Store,
        blocks: BlockStore,
        membership: Membership,
        works: Works,
        happenings: Happenings,
        ids: Callable[[str], str],
    ) -> None:
        self._key = key
        self._driver = driver
        self._store = store
        self._blocks = blocks
        self._membership = membership
        self._works = works
        self._happenings = happenings
        self._ids = ids

    async def stream(
        self, job_id: str, *, execution_id: str, follow: bool, tail: int
    ) -> AsyncIterator[tuple[str, int, bytes]]:
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
                    await changed.get()
                    continue
                async for piece in self._one(execution, follow, tail, changed):
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
        self, execution: ExecutionRecord, follow: bool, tail: int, changed: asyncio.Queue[object]
    ) -> AsyncIterator[tuple[int, bytes]]:
        sent = _Sent(tail)
        while True:
            current = self._store.execution(execution.id) or execution
            result = current.report.result if current.report is not None else None
            if result is not None and self._blocks.has(result):
                async for piece in self._stored(result, sent):
                    yield piece
                return
            if current.state is not ExecutionState.RUNNING:
                if current.state is not ExecutionState.REPORTED or not follow:
                    return
            else:
                sent.restart()
                try:
                    async for stream, data in self._live(current, follow):
                        for piece in sent.new(stream, data):
                            yield piece
                except (PeerUnreachable, Refused):
                    pass
                if not follow:
                    for piece in sent.rest():
                        yield piece
                    return
            # The stream has ended or broken; the next thing to know is how the execution went on.
            try:
                async with asyncio.timeout(_RETRY_S):
                    await changed.get()
            except TimeoutError:
                continue

    async def _live(self, execution: ExecutionRecord, follow: bool) -> AsyncIterator[tuple[int, bytes]]:
        if execution.node_id == self._membership.node_id:
            async for piece in self._works.output(execution.id, follow=follow):
                yield piece
            return
        link = await self._membership.link(execution.node_id)
        request = seal_message(
            self._key,
            LogRequest(execution.id, follow),
            id=self._ids("s"),
            issued_at_us=self._driver.clock.now(),
            valid_for_us=60_000_000,
            recipient=execution.node_id,
        )
        async for piece in link.stream_execution_logs(request):
            yield piece

    async def _stored(self, result: Cid, sent: _Sent) -> AsyncIterator[tuple[int, bytes]]:
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

    With `tail` the first reading is held back, and only its last lines are sent.
    """

    def __init__(self, tail: int) -> None:
        self._sent = {STDOUT: 0, STDERR: 0}
        self._read = {STDOUT: 0, STDERR: 0}
        self._tail = tail
        self._held: dict[int, bytes] = {}

    def restart(self) -> None:
        self._read = {STDOUT: 0, STDERR: 0}

    def new(self, stream: int, data: bytes) -> list[tuple[int, bytes]]:
        start = self._read[stream]
        self._read[stream] = start + len(data)
        fresh = data[max(0, self._sent[stream] - start) :]
        if not fresh:
            return []
        self._sent[stream] = self._read[stream]
        if self._tail:
            held = self._held.get(stream, b"") + fresh
            self._held[stream] = b"".join(held.splitlines(keepends=True)[-self._tail :])
            return []
        return [(stream, fresh)]

    def rest(self) -> list[tuple[int, bytes]]:
        held, self._held = self._held, {}
        return sorted(held.items())
