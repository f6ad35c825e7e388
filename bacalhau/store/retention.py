"""Retention: what ended long ago goes, in small transactions. Receipts and the books stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

BATCH: Final = 50
"""Jobs, or executions of work, that go in one transaction: some milliseconds without another commit."""

_OF_JOBS: Final = ("happenings", "executions", "answers", "clearings", "offers", "job_labels")


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many jobs, and executions of work, went."""

    jobs: int
    work: int


def prune_jobs(database: sqlite3.Connection, before_us: int) -> int:
    """One batch of jobs that ended before `before_us`, with all their rows; how many went."""
    found = database.execute(
        "SELECT id FROM jobs WHERE created_us < ?1 AND state >= 4 AND updated_us < ?1 "
        "ORDER BY created_us LIMIT ?2",
        (before_us, BATCH),
    ).fetchall()
    for table in _OF_JOBS:
        database.executemany(f"DELETE FROM {table} WHERE job_id = ?", found)
    database.executemany("DELETE FROM jobs WHERE id = ?", found)
    return len(found)


def prune_work(database: sqlite3.Connection, before_us: int) -> int:
    """One batch of work that was settled before `before_us`; how much went. What is disputed stays: a receipt for it
    may still come."""
    found = database.execute(
        "SELECT id FROM work WHERE accepted_us < ?1 AND state = 3 AND updated_us < ?1 "
        "ORDER BY accepted_us LIMIT ?2",
        (before_us, BATCH),
    ).fetchall()
    database.executemany("DELETE FROM work WHERE id = ?", found)
    return len(found)


def prune_own_bids(database: sqlite3.Connection, before_us: int) -> int:
    """One batch of bids that were sent before `before_us`; how many went."""
    found = database.execute(
        "SELECT offer_id, bid_id FROM own_bids WHERE sent_us < ? ORDER BY sent_us LIMIT ?", (before_us, BATCH)
    ).fetchall()
    database.executemany("DELETE FROM own_bids WHERE offer_id = ? AND bid_id = ?", found)
    return len(found)
