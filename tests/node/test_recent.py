"""Recent jobs in memory: word for word what the journal says of them, bounded, and forgotten when jobs are removed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from bacalhau.model.execution import ExecutionPhase, ExecutionReport, ExecutionState, Usage
from bacalhau.model.job import JobEventType, JobState
from bacalhau.node import recent as recent_module
from bacalhau.node.recent import RecentJobs
from bacalhau.scheduler.records import ExecutionRecord, JobAccepted, JobChanged, JobHappening
from bacalhau.store.store import Store
from bacalhau.v1 import job_pb2, job_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.node.live import all_of, client_of, running, wasm_job
from tests.store.histories import DIGEST, accepted, history
from tests.wire import strategies as wire

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from bacalhau.scheduler.records import Write

NAMES = ("a", "b")


class Writer:
    """Draws what the machines may write: keys in any order, each record as one that the machine changed."""

    def __init__(self, data: st.DataObject) -> None:
        self._draw = data.draw
        self._now_us = 1_000
        self._jobs: dict[str, int] = {}
        """By name: the last sequence of the history."""
        self._executions: dict[str, ExecutionRecord] = {}

    def write(self) -> Write:
        self._now_us += self._draw(st.integers(0, 1))
        fresh = [name for name in NAMES if name not in self._jobs]
        kinds = ["accept"] if fresh else []
        if self._jobs:
            kinds += ["change", "happen", "award"]
        if self._executions:
            kinds += ["report"]
        kind = self._draw(st.sampled_from(kinds))
        if kind == "accept":
            self._jobs[fresh[0]] = 0
            return accepted(fresh[0], self._now_us)
        if kind == "report":
            return self._change_of_an_execution()
        name = self._draw(st.sampled_from(sorted(self._jobs)))
        state = self._draw(st.sampled_from(JobState))
        if kind == "change":
            failure = self._draw(st.none() | wire.faults)
            return JobChanged(f"j-{name}", state, self._now_us, failure, self._draw(wire.prices))
        if kind == "happen":
            self._jobs[name] += 1
            type = self._draw(st.sampled_from(JobEventType))
            return JobHappening(f"j-{name}", self._jobs[name], type, self._now_us, state, "said", "n1")
        return self._award(name)

    def _award(self, name: str) -> ExecutionRecord:
        # Ids are random in the node: the one that came first may not sort first.
        number = self._draw(st.integers(0, 999).filter(lambda n: f"e-{n}" not in self._executions))
        record = ExecutionRecord(
            f"e-{number}", f"j-{name}", f"o-{name}", "b", "n1", ExecutionState.AWARDED, 7, 0,
            self._now_us, self._now_us, DIGEST,
        )  # fmt: skip
        self._executions[record.id] = record
        return record

    def _change_of_an_execution(self) -> ExecutionRecord:
        before = self._executions[self._draw(st.sampled_from(sorted(self._executions)))]
        report = ExecutionReport(before.id, 2, self._draw(wire.cids), 3, Usage(1, 2, 3, 4, 5))
        after = replace(
            before,
            state=self._draw(st.sampled_from(ExecutionState)),
            phase=self._draw(st.none() | st.sampled_from(ExecutionPhase)),
            attempt=before.attempt + 1,
            charged_microcredits=self._draw(wire.prices),
            updated_us=self._now_us,
            report=self._draw(st.none() | st.just(report)),
            failure=self._draw(st.none() | wire.faults),
        )
        self._executions[after.id] = after
        return after


def assert_same(recent: RecentJobs, store: Store, job_id: str) -> None:
    assert recent.job(job_id) == store.job(job_id)
    for after in (0, 1, 2, 50):
        assert recent.happenings(job_id, after) == store.happenings(job_id, after)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), transactions=st.lists(st.integers(1, 4), min_size=1, max_size=8))
def test_after_every_commit_the_memory_says_what_the_journal_says(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, transactions: list[int]
) -> None:
    recent, writer = RecentJobs(), Writer(data)
    store = Store(tmp_path_factory.mktemp("journal") / "journal.sqlite", durable=False)
    try:
        for size in transactions:
            writes = [writer.write() for _ in range(size)]
            store.commit(writes)
            for write in writes:
                recent.committed(write)
            for name in NAMES:
                if store.job(f"j-{name}") is None:
                    assert recent.job(f"j-{name}") is None
                    assert recent.happenings(f"j-{name}", 0) is None
                else:
                    assert_same(recent, store, f"j-{name}")
    finally:
        store.close()


async def test_a_job_that_ran_is_the_same_in_memory_and_in_the_journal_until_upkeep(tmp_path: Path) -> None:
    async with running(tmp_path) as node, client_of(node) as channel:
        jobs = JobServiceStub(channel)
        request = job_service_pb2.SubmitJobRequest(spec=wasm_job(node))
        job_id = (await jobs.SubmitJob(request)).job.id
        answers = await all_of(jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id), timeout=30))
        assert answers[-1].job.state == job_pb2.JOB_STATE_COMPLETED
        assert_same(node._recent, node.store, job_id)
        in_memory = node.jobs.job(job_id)
        await node.upkeep()
        assert node._recent.job(job_id) is None
        assert node.jobs.job(job_id) == in_memory
        watched = await all_of(jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id), timeout=30))
        history = [event for answer in watched for event in answer.events]
        assert [event.sequence for event in history] == list(range(1, len(history) + 1))
        assert history == [event for answer in answers for event in answer.events if event.sequence]


def test_an_entry_that_comes_later_does_not_change_a_job_that_was_read_before() -> None:
    recent, past = RecentJobs(), history("a")
    for write in past.writes(2):
        recent.committed(write)
    job, happenings = recent.job(past.id), recent.happenings(past.id, 0)
    assert job is not None
    assert happenings is not None
    said = (job.state, job.executions, list(happenings))
    for write in past.writes()[len(past.writes(2)) :]:
        recent.committed(write)
    assert (job.state, job.executions, happenings) == said
    assert recent.job(past.id) != job


def test_the_oldest_jobs_are_forgotten_beyond_the_limit_and_left_to_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent_module, "JOBS_MAX", 3)
    recent = RecentJobs()
    for number in range(10):
        recent.committed(accepted(str(number), number))
    assert [number for number in range(10) if recent.job(f"j-{number}") is not None] == [7, 8, 9]
    assert len(recent._jobs) == 3


def test_a_job_with_a_long_history_is_left_to_the_journal_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_module, "HAPPENINGS_MAX", 3)
    recent = RecentJobs()
    recent.committed(accepted("a", 1))
    for sequence in range(1, 10):
        recent.committed(JobHappening("j-a", sequence, JobEventType.QUEUED, sequence, JobState.PENDING))
        assert (recent.job("j-a") is not None) == (sequence <= 3)
    assert recent.happenings("j-a", 0) is None


def test_a_job_of_an_earlier_life_or_from_before_a_clearing_is_left_to_the_journal() -> None:
    past = history("a")
    recent = RecentJobs()
    for write in past.writes(1):
        recent.committed(write)
    recent.clear()
    # Only a part of its history comes now: to tell that as the whole would be wrong.
    for write in past.writes()[len(past.writes(1)) :]:
        assert not isinstance(write, JobAccepted)
        recent.committed(write)
    assert recent.job(past.id) is None
    assert recent.happenings(past.id, 0) is None
