"""Jobs as clients see them: submission, reading, watching, cancelling. The port of JobService."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from bacalhau.model.job import JobState
from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.node.ipfs import refusing
from bacalhau.rpc.job_service import ProgressSeen
from bacalhau.scheduler.events import JobCancelled, JobSubmitted
from bacalhau.scheduler.records import JobAccepted, JobHappening
from bacalhau.wire.job import spec_digest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from bacalhau.model.cid import Cid
    from bacalhau.model.job import JobSpec
    from bacalhau.node.contents import Contents
    from bacalhau.node.driver import Driver
    from bacalhau.node.happenings import Happenings
    from bacalhau.node.joblogs import JobLogs
    from bacalhau.node.quotes import Quotes
    from bacalhau.node.recent import RecentJobs
    from bacalhau.node.room import DiskRoom
    from bacalhau.rpc.job_service import Estimate
    from bacalhau.scheduler.history import JobQuery, StoredAnswer, StoredJob
    from bacalhau.scheduler.records import ExecutionRecord
    from bacalhau.store.store import Store

_HISTORY_PAGE = 500


class Jobs:
    """See the module."""

    def __init__(
        self,
        node_id: str,
        driver: Driver,
        store: Store,
        contents: Contents,
        happenings: Happenings,
        recent: RecentJobs,
        logs: JobLogs,
        quotes: Quotes,
        ids: Callable[[str], str],
        room: DiskRoom,
    ) -> None:
        self.node_id = node_id
        self._driver = driver
        self._store = store
        self._contents = contents
        self._happenings = happenings
        self._recent = recent
        self._logs = logs
        self._quotes = quotes
        self._ids = ids
        self._room = room
        self._submitting: dict[str, asyncio.Future[JobAccepted]] = {}
        """By request id: submissions that are not answered yet, so that a hasty repeat joins the first."""

    def store_inline(self, data: bytes) -> Cid:
        self._room.check()
        with refusing():
            return self._contents.store_inline(data)

    async def submit(self, spec: JobSpec, request_id: str) -> JobAccepted:
        """Accepts a job; answers when it is on disk. Idempotent by request id."""
        digest = spec_digest(spec)
        if not request_id:
            return await self._submit(spec, digest, "")
        known = self._store.job_by_request_id(request_id, "")
        if known is None and request_id in self._submitting:
            known_accepted = await asyncio.shield(self._submitting[request_id])
        elif known is not None:
            known_accepted = known.accepted
        else:
            submission = asyncio.ensure_future(self._submit(spec, digest, request_id))
            self._submitting[request_id] = submission
            try:
                return await asyncio.shield(submission)
            finally:
                submission.add_done_callback(lambda done: self._submitted(request_id, done))
        if known_accepted.spec_digest != digest:
            raise refused(
                RefusalReason.ID_REUSED,
                f"request_id {request_id} came before with another job: use a new one",
            )
        return known_accepted

    def _submitted(self, request_id: str, submission: asyncio.Future[JobAccepted]) -> None:
        del self._submitting[request_id]
        if not submission.cancelled():
            submission.exception()  # seen, also where the client has gone and nobody awaits it

    async def _submit(self, spec: JobSpec, digest: bytes, request_id: str) -> JobAccepted:
        self._room.check()
        contents = dict.fromkeys(spec.contents())
        inputs = tuple([await self._contents.claim(cid) for cid in contents])
        job_id = self._ids("j")
        refusal = self._driver.tell_requester(JobSubmitted(job_id, spec, inputs, digest, request_id, ""))
        if refusal is not None:
            raise Refused(refusal)
        accepted_us = self._driver.requester.accepted_us(job_id)
        await self._driver.committed()
        if accepted_us is None:  # it has ended at once
            return self.job(job_id).accepted
        return JobAccepted(job_id, spec, inputs, digest, accepted_us, request_id, "")

    async def estimate(self, spec: JobSpec) -> Estimate:
        return await self._quotes.estimate(spec)

    def resolve(self, job_id: str) -> str:
        """The one job whose id begins so. Raises Refused: MALFORMED, NOT_FOUND, AMBIGUOUS_ID."""
        if not job_id:
            raise refused(RefusalReason.MALFORMED, "job_id is empty")
        if self._driver.requester.holds(job_id) or self._recent.holds(job_id):
            return job_id
        found = self._store.match_job_ids(job_id, limit=3)
        if not found:
            raise refused(
                RefusalReason.NOT_FOUND, f"no job {job_id} here: `bacalhau list` shows those that are"
            )
        if len(found) > 1 and job_id not in found:
            shown = ", ".join(found)
            raise refused(
                RefusalReason.AMBIGUOUS_ID, f"{job_id} could be any of {shown} …: give more of the id"
            )
        return job_id if job_id in found else found[0]

    def job(self, job_id: str) -> StoredJob:
        stored = self._recent.job(job_id) or self._store.job(job_id) or self._store.job(self.resolve(job_id))
        if stored is None:
            raise refused(RefusalReason.NOT_FOUND, f"job {job_id} is gone")
        return stored

    def list_jobs(self, query: JobQuery) -> tuple[list[StoredJob], str]:
        return self._store.list_jobs(query)

    async def watch(
        self, job_id: str, after_sequence: int, *, history_only: bool
    ) -> AsyncGenerator[list[JobHappening | ProgressSeen], None]:
        """History, then what happens, to the event that ends the job; what is known together comes together."""
        resolved = self.resolve(job_id)
        last = after_sequence
        with self._happenings.watch(resolved) as watched:
            # Asked first: what a job that is on disk as ended has in its history is then on disk as well.
            ended = self.job(resolved).state.ended
            if not (ended or history_only):
                await watched.moment()
            while page := self._history(resolved, last):
                last, ended = page[-1].sequence, ended or page[-1].ends_job
                yield [*page]
            while not (ended or history_only):
                fresh: list[JobHappening | ProgressSeen] = []
                for seen in await watched.gathered():
                    if isinstance(seen, ProgressSeen):
                        fresh.append(seen)
                    elif seen.sequence > last:
                        last = seen.sequence
                        fresh.append(seen)
                        ended = seen.ends_job
                if fresh:
                    yield fresh

    def _history(self, job_id: str, after_sequence: int) -> list[JobHappening]:
        recent = self._recent.happenings(job_id, after_sequence)
        return self._store.happenings(job_id, after_sequence, _HISTORY_PAGE) if recent is None else recent

    async def logs(
        self, job_id: str, *, execution_id: str, follow: bool, tail: int
    ) -> AsyncGenerator[tuple[str, int, bytes], None]:
        resolved = self.resolve(job_id)
        pieces = self._logs.stream(resolved, execution_id=execution_id, follow=follow, tail=tail)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def cancel(self, job_id: str, message: str) -> StoredJob:
        resolved = self.resolve(job_id)
        refusal = self._driver.tell_requester(JobCancelled(resolved, message))
        await self._driver.committed()
        job = self.job(resolved)
        if refusal is not None and job.state is not JobState.CANCELLED:
            raise refused(
                RefusalReason.WRONG_STATE,
                f"job {resolved} cannot be cancelled: it is {job.state.name.lower()}",
            )
        return job

    def executions(self, job_id: str, page_size: int, page_token: str) -> tuple[list[ExecutionRecord], str]:
        return self._store.executions(self.resolve(job_id), page_size=page_size, page_token=page_token)

    def answers(self, job_id: str, page_size: int, page_token: str) -> tuple[list[StoredAnswer], str]:
        return self._store.answers(self.resolve(job_id), page_size=page_size, page_token=page_token)
