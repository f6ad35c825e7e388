"""Readings of the journal: each takes an open connection inside a read transaction and gives records.

Owns the SQL of every read and the few types that join records. Lists are paged by sort key, the next page's
token is empty at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bacalhau.model.cid import Cid
from bacalhau.scheduler.history import JobOrder, JobQuery, StoredJob
from bacalhau.scheduler.jobs import Job
from bacalhau.store import rows
from bacalhau.store.paging import page_key, page_size, page_token

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from bacalhau.model.reputation import Reputation
    from bacalhau.scheduler.records import ExecutionRecord, JobHappening, WorkRecord
    from bacalhau.store.paging import Key

JOBS_PAGE_DEFAULT: Final = 10
PAGE_DEFAULT: Final = 100
LAST_CHARACTER: Final = "\U0010ffff"
_VARIABLES_MAX: Final = 500
"""Of one statement; older SQLite takes 999."""


def prefixed(prefix: str, letter: str) -> str:
    """The beginning of an id as it is stored: `j-` (or `e-`) may be left out."""
    start = f"{letter}-"
    if start.startswith(prefix):
        return start
    return prefix if prefix.startswith(start) else start + prefix


def _matching_ids(database: sqlite3.Connection, table: str, start: str, limit: int) -> list[str]:
    found = database.execute(
        f"SELECT id FROM {table} WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (start, start + LAST_CHARACTER, limit),
    )
    return [id for (id,) in found.fetchall()]


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _page(listing: str, found: list[rows.Row], size: int, key: tuple[int, ...]) -> tuple[list[rows.Row], str]:
    """At most `size` of the rows, of which one more was read; `key` are the columns of their order."""
    if len(found) <= size:
        return found, ""
    last = found[size - 1]
    return found[:size], page_token(listing, tuple(last[column] for column in key))


# --- jobs ---


def match_job_ids(database: sqlite3.Connection, prefix: str, limit: int) -> list[str]:
    return _matching_ids(database, "jobs", prefixed(prefix, "j"), limit)


def job(database: sqlite3.Connection, id: str) -> StoredJob | None:
    return _one_job(database, "id = ?", (id,))


def job_by_request_id(database: sqlite3.Connection, request_id: str, client: str) -> StoredJob | None:
    if not request_id:
        return None
    # The condition is repeated as the partial index states it, or the index is not used.
    return _one_job(
        database,
        "request_id <> '' AND request_id = ? AND client = ? ORDER BY created_us, id LIMIT 1",
        (request_id, client),
    )


def _one_job(database: sqlite3.Connection, condition: str, values: tuple[str, ...]) -> StoredJob | None:
    found = database.execute(f"SELECT {rows.JOB_COLUMNS} FROM jobs WHERE {condition}", values).fetchall()
    jobs = _with_executions(database, found)
    return jobs[0] if jobs else None


def _with_executions(database: sqlite3.Connection, found: Sequence[rows.Row]) -> list[StoredJob]:
    executions: dict[str, list[ExecutionRecord]] = {row[0]: [] for row in found}
    for record in _executions_of(database, tuple(executions)):
        executions[record.job_id].append(record)
    return [
        StoredJob(rows.accepted_of(row), rows.changed_of(row), tuple(executions[row[0]])) for row in found
    ]


def _executions_of(database: sqlite3.Connection, job_ids: tuple[str, ...]) -> Iterable[ExecutionRecord]:
    for start in range(0, len(job_ids), _VARIABLES_MAX):
        some = job_ids[start : start + _VARIABLES_MAX]
        found = database.execute(
            f"SELECT {rows.EXECUTION_COLUMNS} FROM executions WHERE job_id IN ({_marks(some)}) "
            "ORDER BY job_id, created_us, id",
            some,
        )
        for row in found.fetchall():
            yield rows.execution_of(row)


class JobListing:
    """A JobQuery as SQL. Built before the database is touched, for it refuses a bad page token."""

    def __init__(self, query: JobQuery) -> None:
        self._by_time = query.order is JobOrder.CREATE_TIME
        direction = "ASC" if query.ascending else "DESC"
        self._listing = f"jobs-{query.order.value}-{direction}"
        self._size = page_size(query.page_size, JOBS_PAGE_DEFAULT)
        self._conditions: list[str] = []
        self._values: list[int | str] = []
        if query.id_filter:
            start = prefixed(query.id_filter, "j")
            self._add("id >= ? AND id < ?", start, start + LAST_CHARACTER)
        if query.states:
            self._add(f"state IN ({_marks(query.states)})", *(state.value for state in query.states))
        for labels, word in ((query.include_labels, "EXISTS"), (query.exclude_labels, "NOT EXISTS")):
            if labels:
                self._add(
                    f"{word} (SELECT 1 FROM job_labels WHERE job_id = jobs.id AND key IN ({_marks(labels)}))",
                    *labels,
                )
        types: tuple[type, ...] = (int, str) if self._by_time else (str,)
        after = page_key(self._listing, query.page_token, types)
        columns = "created_us, id" if self._by_time else "id"
        if after is not None:
            self._add(f"({columns}) {'>' if query.ascending else '<'} ({_marks(after)})", *after)
        order = ", ".join(f"{column} {direction}" for column in columns.split(", "))
        where = f"WHERE {' AND '.join(self._conditions)} " if self._conditions else ""
        self._sql = f"SELECT {rows.JOB_COLUMNS} FROM jobs {where}ORDER BY {order} LIMIT ?"

    def _add(self, condition: str, *values: int | str) -> None:
        self._conditions.append(condition)
        self._values += values

    def read(self, database: sqlite3.Connection) -> tuple[list[StoredJob], str]:
        found = database.execute(self._sql, (*self._values, self._size + 1)).fetchall()
        # Columns of JOB_COLUMNS: 0 is id, 4 created_us.
        found, token = _page(self._listing, found, self._size, (4, 0) if self._by_time else (0,))
        return _with_executions(database, found), token


def open_jobs(database: sqlite3.Connection) -> list[Job]:
    """As the requester machine takes them up: what was charged is counted from the executions, for a
    JobChanged that says it is written only at the end."""
    found = database.execute(
        f"SELECT {rows.JOB_COLUMNS}, "
        "(SELECT max(sequence) FROM happenings WHERE job_id = jobs.id), "
        "(SELECT sum(charged_microcredits) FROM executions WHERE job_id = jobs.id) "
        "FROM jobs WHERE state < 4 ORDER BY created_us, id"
    )
    jobs = []
    for row in found.fetchall():
        accepted, changed = rows.accepted_of(row), rows.changed_of(row)
        jobs.append(
            Job(
                accepted.id,
                accepted.spec,
                accepted.inputs,
                accepted.spec_digest,
                accepted.created_us,
                changed.state,
                row[-2] or 0,
                row[-1] or 0,
                replicas=changed.replicas,
            )
        )
    return jobs


def happenings(
    database: sqlite3.Connection, job_id: str, after_sequence: int, limit: int
) -> list[JobHappening]:
    found = database.execute(
        f"SELECT {rows.HAPPENING_COLUMNS} FROM happenings "
        "WHERE job_id = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        (job_id, after_sequence, limit),
    )
    return [rows.happening_of(row) for row in found.fetchall()]


# --- executions ---


def results_since(database: sqlite3.Connection, since_us: int) -> set[Cid]:
    found = database.execute(
        "SELECT result FROM executions JOIN jobs ON jobs.id = executions.job_id "
        "WHERE result IS NOT NULL AND (jobs.state < 4 OR jobs.updated_us >= ?1) "
        "UNION SELECT result FROM work WHERE result IS NOT NULL AND (state IN (1, 2, 4) OR updated_us >= ?1)",
        (since_us,),
    )
    return {Cid.from_raw(raw) for (raw,) in found.fetchall()}


def match_execution_ids(database: sqlite3.Connection, prefix: str, limit: int) -> list[str]:
    return _matching_ids(database, "executions", prefixed(prefix, "e"), limit)


def execution(database: sqlite3.Connection, id: str) -> ExecutionRecord | None:
    row = database.execute(f"SELECT {rows.EXECUTION_COLUMNS} FROM executions WHERE id = ?", (id,)).fetchone()
    return None if row is None else rows.execution_of(row)


def executions(
    database: sqlite3.Connection, job_id: str, size: int, after: Key | None
) -> tuple[list[ExecutionRecord], str]:
    found = database.execute(
        f"SELECT {rows.EXECUTION_COLUMNS} FROM executions "
        "WHERE job_id = ? AND (created_us, id) > (?, ?) ORDER BY created_us, id LIMIT ?",
        (job_id, *(after or (-1, "")), size + 1),
    ).fetchall()
    # Columns of EXECUTION_COLUMNS: 0 is id, 8 created_us.
    found, token = _page("executions", found, size, (8, 0))
    return [rows.execution_of(row) for row in found], token


def open_executions(database: sqlite3.Connection) -> list[ExecutionRecord]:
    found = database.execute(
        f"SELECT {rows.EXECUTION_COLUMNS} FROM executions "
        "WHERE job_id IN (SELECT id FROM jobs WHERE state < 4) ORDER BY created_us, id"
    )
    return [rows.execution_of(row) for row in found.fetchall()]


# --- work ---


def work(database: sqlite3.Connection, execution_id: str) -> WorkRecord | None:
    row = database.execute(f"SELECT {rows.WORK_COLUMNS} FROM work WHERE id = ?", (execution_id,)).fetchone()
    return None if row is None else rows.work_of(row)


def unsettled_work(database: sqlite3.Connection) -> list[WorkRecord]:
    found = database.execute(
        f"SELECT {rows.WORK_COLUMNS} FROM work WHERE state IN (1, 2, 4) ORDER BY accepted_us, id"
    )
    return [rows.work_of(row) for row in found.fetchall()]


def reputations(database: sqlite3.Connection) -> list[Reputation]:
    found = database.execute("SELECT node_id, role, updated_us, reputation FROM reputations")
    return [rows.reputation_of(row) for row in found.fetchall()]
