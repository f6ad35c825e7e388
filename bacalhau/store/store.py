"""Store: one SQLite file in WAL mode, one connection that writes and one that reads, for any number of
threads.

A commit is on disk when it returns, whole. Writers take turns and so do readers, but no reader waits for a
writer. Which node may use the file is not decided here: the node locks its data directory.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from bacalhau.model.cid import Cid
from bacalhau.model.refusals import Refused
from bacalhau.store import auctions, ledger_queries, paging, queries, retention, rows
from bacalhau.store.errors import StoreFailed, damaged, explained
from bacalhau.store.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bacalhau.market.pricehistory import TradedPrice
    from bacalhau.model.ledger import TradeSide
    from bacalhau.model.market import JobOffer
    from bacalhau.model.reputation import Reputation
    from bacalhau.scheduler.history import (
        ClearedBid,
        JobQuery,
        OfferSummary,
        StoredAnswer,
        StoredClearing,
        StoredJob,
        StoredTransaction,
    )
    from bacalhau.scheduler.jobs import Job
    from bacalhau.scheduler.records import (
        BidKept,
        Books,
        ExecutionRecord,
        JobHappening,
        NoteRecord,
        ReceiptRecord,
        WorkRecord,
        Write,
    )
    from bacalhau.store.retention import Pruned

_BUSY_TIMEOUT_S: Final = 5.0
_SET_META: Final = (
    "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_INSERT_BLOCK: Final = "INSERT INTO small_blocks (cid, block) VALUES (?, ?)"
_FORGET_BLOCKS: Final = "DELETE FROM small_blocks"
# Between two batches of a pruning, so that a commit that waits for the lock gets it.
_BREATH_S: Final = 0.001
# A checkpoint syncs twice and writes each page once, however often it was changed, so it gathers more than
# SQLite's 1,000 pages; 4,000 are a WAL of 16 MB.
_CHECKPOINT_PAGES: Final = 4000
# What a node's memory grows by with its jobs; with four times as much they take the same time.
_CACHE_KIB: Final = 4096


class Store:
    """The journal in the file `path`, which is made, readable by its owner alone (specs hold environments).

    `durable=False` trades the last commits before a power cut for speed; a kill of the process loses nothing
    either way. Every method may be called from any thread and raises StoreError where the file or its disk
    fails.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._path = path
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._long_read_lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise StoreFailed(f"cannot open {path}: {error.strerror}") from error
        opened: list[sqlite3.Connection] = []
        try:
            with self._explained():
                opened.append(self._connect())
                self._writer = opened[0]
                # First, for it refuses a file that is not ours, and the journal mode is kept in the file.
                migrate(self._writer, path)
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
                self._writer.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                opened += [self._connect(), self._connect()]
                _, self._reader, self._long_reader = opened
                for reader in (self._reader, self._long_reader):
                    reader.execute("PRAGMA query_only = ON")
        except BaseException:  # whatever it was, the file is let go before it goes on
            for connection in opened:
                connection.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )

    def close(self) -> None:
        """Waits for what is under way."""
        with self._write_lock, self._read_lock, self._long_read_lock:
            self._long_reader.close()
            self._reader.close()
            self._writer.close()

    # --- transactions ---

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            reason = explained(error, self._path)
            if reason is error:
                raise
            raise reason from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all that is done in it, or nothing."""
        database = self._writer
        with self._write_lock, self._explained():
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            finally:
                # SQLite itself rolls back after some errors, a full disk among them.
                if database.in_transaction:
                    database.execute("ROLLBACK")

    @contextmanager
    def _reading(self, *, long: bool = False) -> Iterator[sqlite3.Connection]:
        """A read transaction: all reads in it see the same state. For one that takes `long` no other waits."""
        database = self._long_reader if long else self._reader
        lock = self._long_read_lock if long else self._read_lock
        with lock, self._explained():
            database.execute("BEGIN")
            try:
                yield database
            except (Refused, DecodeError, ValueError) as error:
                # What was written here is valid; anything else was damaged since.
                raise damaged(self._path, f"a record cannot be read: {error}") from error
            finally:
                database.execute("ROLLBACK")

    # --- writes ---

    def commit(self, writes: Sequence[Write], *, meta: Mapping[str, str] | None = None) -> None:
        """Writes the records, and sets `meta`, in one transaction. A record replaces the earlier one of its
        key.

        Keys: an execution's and work's id, a job's id and sequence, an answer's offer, node and bid (all bids
        are kept, of declines a node's last). Of an execution, only what its machine changes is replaced:
        state, phase, attempt, report, failure, charge and time of change; likewise of work. A receipt's key is
        side, peer and sequence, a balance's the peer; a transaction has none, each is one more. Raises StoreFull
        when there is no room: then nothing was written. sqlite3.IntegrityError and LookupError are bugs of
        the caller: a job or offer accepted twice, a change of a job that is not there.
        """
        if self.stage(writes, meta=meta):
            self.commit_staged()

    def stage(
        self,
        writes: Sequence[Write],
        *,
        meta: Mapping[str, str] | None = None,
        blocks: Sequence[tuple[Cid, bytes]] = (),
        forget_blocks: bool = False,
    ) -> bool:
        """The first half of `commit`, without waiting for the disk: False where there is nothing to commit.

        `blocks` are kept for `small_blocks`, so that a result is on disk with the record that names it, and not by a
        sync of its own; with `forget_blocks` those of earlier calls go. After True the caller must call
        `commit_staged`, from whatever thread; until then no other write begins.
        """
        batches = rows.batches(writes)
        if not (batches or meta or blocks or forget_blocks):
            return False
        database = self._writer
        self._write_lock.acquire()
        try:
            with self._explained():
                database.execute("BEGIN IMMEDIATE")
                for batch in batches:
                    done = database.executemany(batch.statement, batch.rows)
                    if batch.updates and done.rowcount != len(batch.rows):
                        raise LookupError(
                            f"a job is not there that was changed: one of {[row[-1] for row in batch.rows]}"
                        )
                if meta:
                    database.executemany(_SET_META, meta.items())
                if forget_blocks:
                    database.execute(_FORGET_BLOCKS)
                if blocks:
                    database.executemany(_INSERT_BLOCK, [(cid.raw, block) for cid, block in blocks])
        except BaseException:  # whatever it was, nothing of it stays
            self._end_staged()
            raise
        return True

    def commit_staged(self) -> None:
        """The second half of `commit`: waits for the disk. Raises StoreError; then nothing was written."""
        try:
            with self._explained():
                self._writer.execute("COMMIT")
        finally:
            self._end_staged()

    def roll_back_staged(self) -> None:
        """In place of `commit_staged`: nothing of it is written."""
        self._end_staged()

    def _end_staged(self) -> None:
        # SQLite itself rolls back after some errors, a full disk among them.
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")
        self._write_lock.release()

    def small_blocks(self) -> list[tuple[Cid, bytes]]:
        """Those that were staged and not forgotten: the block store may not have them."""
        with self._reading() as database:
            kept = database.execute("SELECT cid, block FROM small_blocks ORDER BY id").fetchall()
        return [(Cid.from_raw(cid), block) for cid, block in kept]

    def set_meta(self, key: str, value: str) -> None:
        """In a transaction of its own; beside records, use `commit(…, meta=…)`."""
        self.commit((), meta={key: value})

    def prune(self, now: int, keep_jobs_us: int, keep_work_us: int) -> Pruned:
        """Removes jobs that ended, and work that was settled, longer ago than that, with all their rows; and own bids
        as old as such jobs.

        Open jobs and unsettled work stay however old they are. Takes many small transactions, with commits
        between them. Results are kept by `needed_contents`, which is by the rows that name them.
        """
        jobs = self._batches(lambda database: retention.prune_jobs(database, now - keep_jobs_us))
        work = self._batches(lambda database: retention.prune_work(database, now - keep_work_us))
        self._batches(lambda database: retention.prune_own_bids(database, now - keep_jobs_us))
        return retention.Pruned(jobs, work)

    def _batches(self, batch: Callable[[sqlite3.Connection], int]) -> int:
        total = 0
        while True:
            with self._writing() as database:
                count = batch(database)
            total += count
            if count < retention.BATCH:
                return total
            time.sleep(_BREATH_S)

    # --- reads ---

    def needed_contents(self, since_us: int) -> set[Cid]:
        """What must not be collected: the results of jobs and work that have ended since then, or have not; and what
        open jobs and unsettled work run from."""
        with self._reading(long=True) as database:
            needed = queries.results_since(database, since_us)
            for job in queries.open_jobs(database):
                needed.update(job.spec.contents())
            for work in queries.unsettled_work(database):
                needed.update(work.award.spec.contents())
        return needed

    def get_meta(self, key: str) -> str | None:
        with self._reading() as database:
            row = database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def match_job_ids(self, prefix: str, limit: int = 2) -> list[str]:
        """Ids of jobs that begin so, in order; `j-` may be left out."""
        with self._reading() as database:
            return queries.match_job_ids(database, prefix, limit)

    def job(self, id: str) -> StoredJob | None:
        with self._reading() as database:
            return queries.job(database, id)

    def job_by_request_id(self, request_id: str, client: str) -> StoredJob | None:
        """The job that this client submitted under this id; the first, should there be more."""
        with self._reading() as database:
            return queries.job_by_request_id(database, request_id, client)

    def list_jobs(self, query: JobQuery) -> tuple[list[StoredJob], str]:
        """A page, and the next one's token, empty at the end. Raises Refused(MALFORMED) for a bad token."""
        listing = queries.JobListing(query)
        with self._reading() as database:
            return listing.read(database)

    def open_jobs(self) -> list[Job]:
        """Jobs that have not ended, oldest first, for `RequesterMachine.restore`."""
        with self._reading() as database:
            return queries.open_jobs(database)

    def happenings(self, job_id: str, after_sequence: int = 0, limit: int = 1000) -> list[JobHappening]:
        """The job's history in order, from the entry after `after_sequence`."""
        with self._reading() as database:
            return queries.happenings(database, job_id, after_sequence, limit)

    def match_execution_ids(self, prefix: str, limit: int = 2) -> list[str]:
        """Ids of executions of this node's jobs that begin so, in order; `e-` may be left out."""
        with self._reading() as database:
            return queries.match_execution_ids(database, prefix, limit)

    def execution(self, id: str) -> ExecutionRecord | None:
        with self._reading() as database:
            return queries.execution(database, id)

    def executions(
        self, job_id: str, *, page_size: int = 0, page_token: str = ""
    ) -> tuple[list[ExecutionRecord], str]:
        """A page of the job's executions, oldest first, and the next one's token.
        Raises Refused(MALFORMED)."""
        after = paging.page_key("executions", page_token, (int, str))
        with self._reading() as database:
            size = paging.page_size(page_size, queries.PAGE_DEFAULT)
            return queries.executions(database, job_id, size, after)

    def open_executions(self) -> list[ExecutionRecord]:
        """Every execution of an open job, ended ones too, oldest first, for `RequesterMachine.restore`."""
        with self._reading() as database:
            return queries.open_executions(database)

    def offer(self, id: str) -> JobOffer | None:
        with self._reading() as database:
            return auctions.offer(database, id)

    def offers(self, *, page_size: int = 0, page_token: str = "") -> tuple[list[OfferSummary], str]:
        """A page of the offers that this node made, newest first, and the next one's token.
        Raises Refused(MALFORMED)."""
        before = paging.page_key("offers", page_token, (int, str))
        with self._reading() as database:
            return auctions.offers(database, paging.page_size(page_size, queries.PAGE_DEFAULT), before)

    def answers(
        self, job_id: str, *, page_size: int = 0, page_token: str = ""
    ) -> tuple[list[StoredAnswer], str]:
        """A page of the bids and declines that the job's offers got, oldest first, and the next one's token.
        Raises Refused(MALFORMED)."""
        after = paging.page_key("answers", page_token, (int, str, str, str))
        with self._reading() as database:
            return auctions.answers(
                database, job_id, paging.page_size(page_size, queries.PAGE_DEFAULT), after
            )

    def clearings(self, job_id: str) -> list[StoredClearing]:
        """Every clearing of the job's offers that awarded something, in order."""
        with self._reading() as database:
            return auctions.clearings(database, job_id)

    def cleared_bids(
        self, clearing: StoredClearing, *, page_size: int = 0, page_token: str = ""
    ) -> tuple[list[ClearedBid], str]:
        """A page of the bid set of a clearing, in the order of its digest, with the envelopes; and the next one's
        token. Raises Refused(MALFORMED)."""
        after = paging.page_key("clearing", page_token, (str, str))
        with self._reading() as database:
            size = paging.page_size(page_size, queries.PAGE_DEFAULT)
            return auctions.cleared_bids(database, clearing, size, after)

    def own_bids(
        self, job_prefix: str = "", *, page_size: int = 0, page_token: str = ""
    ) -> tuple[list[BidKept], str]:
        """A page of this node's bids on others' offers, newest first, of jobs whose ids begin so; and the next one's
        token. Raises Refused(MALFORMED)."""
        before = paging.page_key("own_bids", page_token, (int, str, str))
        start = queries.prefixed(job_prefix, "j") if job_prefix else ""
        with self._reading() as database:
            size = paging.page_size(page_size, queries.PAGE_DEFAULT)
            return auctions.own_bids(database, (start, start + queries.LAST_CHARACTER), size, before)

    def traded_prices(self, since_us: int) -> list[TradedPrice]:
        """What completed executions of this node's jobs were awarded for since then, newest first."""
        with self._reading() as database:
            return auctions.traded_prices(database, since_us)

    def work(self, execution_id: str) -> WorkRecord | None:
        with self._reading() as database:
            return queries.work(database, execution_id)

    def unsettled_work(self) -> list[WorkRecord]:
        """Work that is not settled, oldest first, for `ComputeMachine.restore`."""
        with self._reading() as database:
            return queries.unsettled_work(database)

    def reputations(self) -> list[Reputation]:
        """What was seen of other nodes, in both roles, for `restore` of both machines."""
        with self._reading() as database:
            return queries.reputations(database)

    # --- the books ---

    def books(self) -> Books:
        """Balances, and receipts that no peer has signed, for `restore` of both machines."""
        with self._reading() as database:
            return ledger_queries.books(database)

    def receipt(self, side: TradeSide, peer_id: str, sequence: int) -> ReceiptRecord | None:
        with self._reading() as database:
            return ledger_queries.receipt(database, side, peer_id, sequence)

    def signed_receipts(
        self, side: TradeSide, peer_id: str, sequence: int, limit: int
    ) -> list[ReceiptRecord]:
        """At most so many that both have signed, from that sequence on, in its order."""
        with self._reading() as database:
            return ledger_queries.signed_receipts(database, side, peer_id, sequence, limit)

    def signed_sequences(self, side: TradeSide, execution_ids: Sequence[str]) -> dict[str, int]:
        """By execution: the number of its receipt that both have signed, where there is one."""
        with self._reading() as database:
            return ledger_queries.signed_sequences(database, side, execution_ids)

    def last_note(self, side: TradeSide, peer_id: str) -> NoteRecord | None:
        """The latest settlement note between the two that both have signed."""
        with self._reading() as database:
            return ledger_queries.last_note(database, side, peer_id)

    def match_receipts(self, prefix: str, limit: int = 2) -> list[ReceiptRecord]:
        """Receipts of executions whose ids begin so, in order of the id; `e-` may be left out."""
        start = queries.prefixed(prefix, "e")
        with self._reading() as database:
            return ledger_queries.match_receipts(database, start, start + queries.LAST_CHARACTER, limit)

    def receipts(
        self, peer_id: str = "", *, page_size: int = 0, page_token: str = ""
    ) -> tuple[list[ReceiptRecord], str]:
        """A page of receipts with the peer, or with all, latest first, and the next one's token.
        Raises Refused(MALFORMED)."""
        before = paging.page_key("receipts", page_token, (int, int, str, int))
        with self._reading() as database:
            size = paging.page_size(page_size, queries.PAGE_DEFAULT)
            return ledger_queries.receipts(database, peer_id, size, before)

    def transactions(
        self, peer_id: str = "", execution_id: str = "", *, page_size: int = 0, page_token: str = ""
    ) -> tuple[list[StoredTransaction], str]:
        """A page of the books, latest first, and the next one's token. Raises Refused(MALFORMED)."""
        before = paging.page_key("transactions", page_token, (int,))
        with self._reading() as database:
            size = paging.page_size(page_size, queries.PAGE_DEFAULT)
            return ledger_queries.transactions(database, peer_id, execution_id, size, before)

    def transaction_by_request(self, request_id: str) -> StoredTransaction | None:
        """The transaction that a client asked for under this id."""
        with self._reading() as database:
            return ledger_queries.transaction_by_request(database, request_id)
