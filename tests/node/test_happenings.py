"""Those who watch a job: told in order, each from when it began, bounded, and forgotten when they go."""

from __future__ import annotations

import asyncio

import pytest

from bacalhau.model.execution import ExecutionPhase
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.market import LeaseRenewal
from bacalhau.model.refusals import RefusalReason, Refused
from bacalhau.node import happenings
from bacalhau.node.happenings import Happenings, Watch
from bacalhau.rpc.job_service import ProgressSeen
from bacalhau.scheduler.records import JobHappening


def happening(sequence: int, job_id: str = "j-1") -> JobHappening:
    return JobHappening(job_id, sequence, JobEventType.QUEUED, sequence, JobState.PENDING)


def taken(watch: Watch) -> list[JobHappening | ProgressSeen]:
    queue = watch.queue
    return [queue.get_nowait() for _ in range(queue.qsize())]


async def test_each_watcher_is_told_of_its_job_from_when_it_began() -> None:
    told = Happenings()
    with told.watch("j-1") as first:
        told.committed(happening(1))
        with told.watch("j-1") as second, told.watch("j-2") as other:
            told.committed(happening(2))
            assert taken(second) == [happening(2)]
            assert taken(other) == []
        told.committed(happening(3))
        assert taken(first) == [happening(1), happening(2), happening(3)]
    assert told._watchers == {}
    told.committed(happening(4))


async def test_what_happens_within_a_moment_is_told_together_and_the_end_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = Happenings()
    with told.watch("j-1") as watch:
        gathering = asyncio.create_task(watch.gathered())
        for sequence in (1, 2):
            told.committed(happening(sequence))
            await asyncio.sleep(0)
        assert await gathering == [happening(1), happening(2)]
        monkeypatch.setattr(happenings, "GATHER_S", 3600)
        ended = JobHappening("j-1", 4, JobEventType.COMPLETED, 4, JobState.COMPLETED)
        gathering = asyncio.create_task(watch.gathered())
        told.committed(happening(3))
        await asyncio.sleep(0)
        told.committed(ended)
        assert await gathering == [happening(3), ended]


async def test_progress_that_nobody_reads_is_bounded_and_what_is_kept_is_not_lost_for_it() -> None:
    told = Happenings()
    renewal = LeaseRenewal("e-1", ExecutionPhase.FETCHING_INPUTS, 1, 1, 2)
    with told.watch("j-1") as watch:
        queue = watch.queue
        for _ in range(happenings._QUEUE_MAX + 10):
            told.renewed("j-1", "n1", renewal, now_us=1)
        assert queue.qsize() == happenings._QUEUE_MAX
        assert queue.get_nowait() == ProgressSeen(1, "n1", "e-1", ExecutionPhase.FETCHING_INPUTS, 1, 2)
        told.committed(happening(1))
        assert taken(watch)[-1] == happening(1)


async def test_watchers_beyond_the_limit_are_refused_until_one_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "WATCHERS_MAX", 1)
    told = Happenings()
    with told.watch("j-1"):
        with pytest.raises(Refused) as caught, told.watch("j-2"):
            pass
        assert caught.value.refusal.reason is RefusalReason.LIMIT_REACHED
    with told.watch("j-2"):
        pass
