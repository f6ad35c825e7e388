"""Retention: what ended long ago goes, in small transactions, and the results that nothing names any more.

A result may belong to several executions, of this node's jobs or its work, for equal output has an equal CID.
It is released once the last of them is gone, and stays on the list of released ones until its pin is: a node
that dies between the two finds it there again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.model.cid import Cid

if TYPE_CHECKING:
    import sqlite3

BATCH: Final = 50
"""Jobs, or executions of work, that go in one transaction: some milliseconds without another commit."""

_OF_JOBS: Final = ("happenings", "executions", "answers", "offers", "job_labels")


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much went, and the results whose pins may go (those of earlier times, too, until
    `forget_released`)."""

    jobs: int
    work: int
    results: tuple[Cid, ...]


def prune_jobs(database: sqlite3.Connection, before_us: int) -> int:
    """One batch of jobs that ended before `before_us`, with all their rows; how many went."""
    found = database.execute(
        "SELECT id FROM jobs WHERE created_us < ?1 AND state >= 4 AND updated_us < ?1 "
        "ORDER BY created_us LIMIT ?2",
        (before_us, BATCH),
    ).fetchall()
    database.executemany(
        "INSERT OR IGNORE INTO released_results "
        "SELECT result FROM executions WHERE job_id = ? AND result IS NOT NULL",
        found,
    )
    for table in _OF_JOBS:
        database.executemany(f"DELETE FROM {table} WHERE job_id = ?", found)
    database.executemany("DELETE FROM jobs WHERE id = ?", found)
    return len(found)


def prune_work(database: sqlite3.Connection, before_us: int) -> int:
    """One batch of work that was settled before `before_us`; how much went."""
    found = database.execute(
        "SELECT id FROM work WHERE accepted_us < ?1 AND state >= 3 AND updated_us < ?1 "
        "ORDER BY accepted_us LIMIT ?2",
        (before_us, BATCH),
    ).fetchall()
    database.executemany(
        "INSERT OR IGNORE INTO released_results SELECT result FROM work WHERE id = ? AND result IS NOT NULL",
        found,
    )
    database.executemany("DELETE FROM work WHERE id = ?", found)
    return len(found)


def released(database: sqlite3.Connection) -> tuple[Cid, ...]:
    """Released results that no execution and no work names, in order of their CIDs; the others leave the
    list."""
    database.execute(
        "DELETE FROM released_results "
        "WHERE EXISTS (SELECT 1 FROM executions WHERE executions.result = released_results.result) "
        "OR EXISTS (SELECT 1 FROM work WHERE work.result = released_results.result)"
    )
    found = database.execute("SELECT result FROM released_results ORDER BY result")
    return tuple(Cid.from_raw(raw) for (raw,) in found.fetchall())
