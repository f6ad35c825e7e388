"""What happens to jobs, for those who watch: history from the journal, then events as they are committed."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
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


class Happenings:
    """Hands committed happenings, and progress, to the watchers of each job."""

    def __init__(self) -> None:
        self._watchers: dict[str, list[asyncio.Queue[JobHappening | ProgressSeen]]] = {}
        self._count = 0

    def committed(self, write: Write) -> None:
        if isinstance(write, JobHappening):
            for queue in self._watchers.get(write.job_id, ()):
                queue.put_nowait(write)

    def renewed(self, job_id: str | None, node_id: str, renewal: LeaseRenewal, now_us: int) -> None:
        """A lease was renewed: what the renewal says of a long phase goes to watchers, and is kept nowhere."""
        watchers = self._watchers.get(job_id, ()) if job_id is not None and renewal.done_bytes else ()
        for queue in watchers:
            if queue.qsize() < _QUEUE_MAX:
                queue.put_nowait(
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
    def watch(self, job_id: str) -> Iterator[asyncio.Queue[JobHappening | ProgressSeen]]:
        """A queue of what happens to the job from now on. Raises Refused(LIMIT_REACHED)."""
        if self._count >= WATCHERS_MAX:
            raise refused(
                RefusalReason.LIMIT_REACHED, f"{WATCHERS_MAX} streams watch jobs already; try later"
            )
        queue: asyncio.Queue[JobHappening | ProgressSeen] = asyncio.Queue()
        self._watchers.setdefault(job_id, []).append(queue)
        self._count += 1
        try:
            yield queue
        finally:
            self._count -= 1
            watchers = self._watchers[job_id]
            watchers.remove(queue)
            if not watchers:
                del self._watchers[job_id]
