"""What is old and ended goes with all its rows; which contents are needed, the rows say."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bacalhau.model.auction import Clearing, ClearingRule
from bacalhau.model.job import JobState
from bacalhau.scheduler.records import AuctionCleared, BidKept, JobChanged, WorkState
from bacalhau.store import queries, retention
from bacalhau.store.store import Store
from tests.store import histories as h

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "node.db", durable=False)
    yield store
    store.close()


def rows_left(path: Path) -> dict[str, int]:
    database = sqlite3.connect(path)
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    counts = {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
    database.close()
    return {name: count for name, count in counts.items() if count}


def test_what_is_older_than_it_is_kept_goes_with_all_its_rows(store: Store, tmp_path: Path) -> None:
    old, new = h.history("old", 1_000), h.history("new", 2_000)
    store.commit([*old.writes(), *new.writes()])
    before = rows_left(tmp_path / "node.db")
    pruned = store.prune(2_500, keep_jobs_us=1_000, keep_work_us=1_000)
    assert pruned == retention.Pruned(1, 1)
    assert store.job(old.id) is None
    assert store.job(new.id) is not None
    assert rows_left(tmp_path / "node.db") == {name: count // 2 for name, count in before.items()}
    store.prune(10_000, keep_jobs_us=0, keep_work_us=0)
    assert rows_left(tmp_path / "node.db") == {}


def test_clearings_go_with_their_job_and_own_bids_when_they_are_as_old(store: Store, tmp_path: Path) -> None:
    job = h.history("a", 1_000)
    clearing = Clearing(job.offer.id, job.id, ClearingRule.FIRST_PRICE, 1_001, 1, 0, h.DIGEST, ())
    bids = [BidKept(f"b-{at}", "o-x", "j-x", "r1", at, 5, b"", b"", b"") for at in (1_000, 3_000)]
    store.commit([*job.writes(), AuctionCleared(1, clearing, ()), *bids])
    assert len(store.clearings(job.id)) == 1
    store.prune(3_500, keep_jobs_us=1_000, keep_work_us=9_000)
    assert store.clearings(job.id) == []
    assert [bid.bid_id for bid in store.own_bids()[0]] == ["b-3000"]


def test_jobs_and_work_are_kept_for_times_of_their_own(store: Store) -> None:
    job = h.history("a", 1_000)
    store.commit(job.writes())
    assert store.prune(5_000, keep_jobs_us=100, keep_work_us=9_000) == retention.Pruned(1, 0)
    assert store.job(job.id) is None
    assert store.work(job.work.id) is not None
    assert store.prune(5_000, keep_jobs_us=9_000, keep_work_us=100) == retention.Pruned(0, 1)


def test_what_is_open_stays_however_old(store: Store) -> None:
    job = h.history("a", 0)
    store.commit(job.writes(3))
    store.commit([replace(job.work, state=WorkState.REPORTED)])
    assert store.prune(10**15, 0, 0) == retention.Pruned(0, 0)
    assert len(store.open_jobs()) == len(store.unsettled_work()) == 1


def test_an_old_job_that_ended_late_is_kept_from_its_end(store: Store) -> None:
    job = h.history("a", 0)
    store.commit([*job.writes(3), JobChanged(job.id, JobState.CANCELLED, 1_000, None, 0)])
    assert store.prune(1_500, 600, 0).jobs == 0
    assert store.prune(1_700, 600, 0).jobs == 1


def test_a_result_is_needed_for_its_time_and_as_long_as_one_that_names_it(store: Store) -> None:
    first, second = h.history("a", 1_000, result=b"same"), h.history("b", 2_000, result=b"same")
    store.commit([*first.writes(), *second.writes()])
    assert store.needed_contents(1_500) == {first.result}
    assert store.needed_contents(3_000) == set()
    store.prune(2_500, 1_000, 1_000)
    assert store.needed_contents(0) == {first.result}
    store.prune(9_000, 0, 0)
    assert store.needed_contents(0) == set()


def test_what_open_jobs_and_unsettled_work_run_from_is_needed_however_old(store: Store) -> None:
    job = h.history("a", 0)
    store.commit(job.writes(3))
    needed = store.needed_contents(10**15)
    assert needed >= set(job.accepted.spec.contents())
    store.commit([JobChanged(job.id, JobState.CANCELLED, 1_000, None, 0)])
    store.commit([replace(job.work, state=WorkState.REPORTED)])
    assert store.needed_contents(10**15) == set(job.work.award.spec.contents())
    store.commit([replace(job.work, state=WorkState.SETTLED)])
    assert store.needed_contents(10**15) == set()


def test_while_the_needed_contents_are_read_other_reads_go_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(database: sqlite3.Connection) -> list[object]:
        other = threading.Thread(target=store.get_meta, args=("key",))
        other.start()
        other.join(5)
        assert not other.is_alive()
        return []

    monkeypatch.setattr(queries, "open_jobs", slow)
    store.needed_contents(0)


def test_more_than_a_batch_goes_in_one_pruning(store: Store) -> None:
    count = 2 * retention.BATCH + 1
    store.commit([write for n in range(count) for write in h.history(f"{n}", n).writes()])
    pruned = store.prune(10_000, 0, 0)
    assert (pruned.jobs, pruned.work) == (count, count)
