"""Real processes: one is killed in the middle of commits, two write at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bacalhau.scheduler.history import JobQuery
from bacalhau.store.store import Store
from tests.store.histories import History, history

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]


def start_writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.writer", str(path), name, str(count)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    return iter(process.stdout)


def contents(store: Store, job: History) -> list[object]:
    return [
        store.job(job.id),
        store.happenings(job.id),
        store.offer(job.offer.id),
        store.answers(job.id),
        store.clearings(job.id),
        store.work(job.work.id),
    ]


def contents_after(tmp_path: Path, job: History, steps: int) -> list[object]:
    """What a store says of a job of which just these steps were written, without any kill."""
    store = Store(tmp_path / f"{job.id}-{steps}.db", durable=False)
    store.commit(job.writes(steps))
    found = contents(store, job)
    store.close()
    return found


@pytest.mark.parametrize("commits", [1, 10, 43, 128])
def test_a_killed_writer_loses_nothing_it_committed_and_leaves_nothing_half(
    tmp_path: Path, commits: int
) -> None:
    path = tmp_path / "node.db"
    process = start_writer(path, "x", 100_000)
    output = lines(process)
    assert next(output) == "open\n"
    last = ""
    for _ in range(commits):
        last = next(output)
    process.kill()
    for line in output:  # what it had said before the kill came
        if line.endswith("\n"):
            last = line
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    told = tuple(int(word) for word in last.split())

    store = Store(path)
    meta = store.get_meta("last-x")
    assert meta is not None
    number, step = (int(word) for word in meta.split())
    # Nothing that it told of is lost; at most one commit was on disk and not told of.
    assert (number, step) in (told, (told[0], told[1] + 1) if told[1] < 4 else (told[0] + 1, 1))
    newest = history(f"x-{number}", number)
    assert contents(store, newest) == contents_after(tmp_path, newest, step)
    if number:
        before = history(f"x-{number - 1}", number - 1)
        assert contents(store, before) == contents_after(tmp_path, before, 4)
    assert store.job(f"j-x-{number + 1}") is None
    ended = [job for job in store.list_jobs(JobQuery(page_size=1000))[0] if job.state.ended]
    assert len(ended) == (number + 1 if step == 4 else number)
    store.commit(history("after", 1).writes())
    assert store.job("j-after") is not None
    store.close()


def test_two_processes_write_the_same_file_in_turns(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    processes = [start_writer(path, name, 25) for name in ("a", "b")]
    for process in processes:
        assert len(list(lines(process))) == 101
        assert process.wait() == 0
        assert process.stdout is not None
        process.stdout.close()
    store = Store(path)
    jobs, _ = store.list_jobs(JobQuery(page_size=1000))
    assert len(jobs) == 50
    assert all(job.state.ended and len(store.happenings(job.id)) == 5 for job in jobs)
    store.close()
