"""What happens to jobs, for those who watch: history from the journal, then events as they are committed."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bacalhau.model.refusals import RefusalReason, refused
from bacalhau.rpc.job_service import ProgressSeen
from bacalhau.scheduler.records import JobHappening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bacalhau.model.market import LeaseRenewal
    from bacalhau.scheduler.records import Write

WATCHERS_MAX = 10_000
_QUEUE_MAX = 10_000
GATHER_S = 0.05
"""What happens within this time is told together; the end of a job is told at once."""


@dataclass(eq=False, slots=True)
class Watch:
    """One watcher's queue, and whether its job has ended."""

    queue: asyncio.Queue[JobHappening | ProgressSeen] = field(default_factory=asyncio.Queue)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def moment(self) -> None:
        """Waits so long as what happens is told together, or until the job ends."""
        if not self.ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self.ended.wait()

    async def gathered(self) -> list[JobHappening | ProgressSeen]:
        """Everything that happens within a moment, at least one."""
        waiting = [await self.queue.get()]
        await self.moment()
        while not self.queue.empty():
            waiting.append(self.queue.get_nowait())
        return waiting


class Happenings:
    """Hands committed happenings, and progress, to the watchers of each job."""

    def __init__(self) -> None:
        self._watchers: dict[str, list[Watch]] = {}
        self._count = 0

    def committed(self, write: Write) -> None:
        if isinstance(write, JobHappening):
            for watch in self._watchers.get(write.job_id, ()):
                watch.queue.put_nowait(write)
                if write.ends_job:
                    watch.ended.set()

    def renewed(self, job_id: str | None, node_id: str, renewal: LeaseRenewal, now_us: int) -> None:
        """A lease was renewed: what the renewal says of a long phase goes to watchers, and is kept nowhere."""
        watchers = self._watchers.get(job_id, ()) if job_id is not None and renewal.done_bytes else ()
        for watch in watchers:
            if watch.queue.qsize() < _QUEUE_MAX:
                watch.queue.put_nowait(
                    ProgressSeen(
                        now_us,
                        node_id,
                        renewal.execution_id,
                        renewal.phase,
                        renewal.done_bytes,
                        renewal.total_bytes,
                    )
                )

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Watch]:
        """What happens to the job from now on. Raises Refused(LIMIT_REACHED)."""
        if self._count >= WATCHERS_MAX:
            raise refused(
                RefusalReason.LIMIT_REACHED, f"{WATCHERS_MAX} streams watch jobs already; try later"
            )
        watch = Watch()
        self._watchers.setdefault(job_id, []).append(watch)
        self._count += 1
        try:
            yield watch
        finally:
            self._count -= 1
            watchers = self._watchers[job_id]
            watchers.remove(watch)
            if not watchers:
                del self._watchers[job_id]
