"""The tables, as numbered migrations: number n leads from version n - 1 of the file to version n.

A migration that was released is never edited; the next one is added to the end. A file of a later version is
refused, for this version would not know what it must not break. Messages (specs, offers, bids, awards,
reports, refusals, faults) are protobuf bytes, which grow without a migration; what is queried has a column.
Times are integer microseconds since 1970, prices microcredits, states and other closed sets the numbers of
the protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bacalhau.store.errors import StoreCorrupt, StoreTooNew

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

APPLICATION_ID: Final = 0x62616331
"""In the file's header: "bac1". It tells a file of ours from any other SQLite database."""

_VERSION_1: Final = (
    """
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        spec BLOB NOT NULL,               -- JobSpec
        inputs BLOB NOT NULL,             -- a JobOffer with nothing but its inputs
        spec_digest BLOB NOT NULL,
        created_us INTEGER NOT NULL,
        request_id TEXT NOT NULL,
        client TEXT NOT NULL,
        state INTEGER NOT NULL,           -- 4 to 6 are ended
        updated_us INTEGER NOT NULL,
        failure BLOB,                     -- Fault
        charged_microcredits INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX jobs_by_time ON jobs (created_us, id)",
    "CREATE INDEX jobs_by_request ON jobs (request_id, client) WHERE request_id <> ''",
    "CREATE INDEX jobs_open ON jobs (created_us, id) WHERE state < 4",
    """
    CREATE TABLE job_labels (
        job_id TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (job_id, key)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE happenings (
        job_id TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        type INTEGER NOT NULL,
        time_us INTEGER NOT NULL,
        state INTEGER NOT NULL,
        message TEXT NOT NULL,
        node_id TEXT NOT NULL,
        execution_id TEXT NOT NULL,
        price_microcredits INTEGER,
        refusal BLOB,                     -- Refusal
        phase INTEGER,
        fault BLOB,                       -- Fault
        PRIMARY KEY (job_id, sequence)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE offers (
        id TEXT PRIMARY KEY,
        job_id TEXT NOT NULL,
        made_us INTEGER NOT NULL,
        offer BLOB NOT NULL               -- JobOffer
    ) WITHOUT ROWID
    """,
    "CREATE INDEX offers_by_job ON offers (job_id)",
    # Every bid is kept, for an award commits to the set of bids at its time; of declines only a node's last.
    """
    CREATE TABLE answers (
        job_id TEXT NOT NULL,
        offer_id TEXT NOT NULL,
        bid_id TEXT NOT NULL,             -- '' in a decline
        node_id TEXT NOT NULL,
        received_us INTEGER NOT NULL,
        bid BLOB,                         -- Bid
        refusal BLOB,                     -- Refusal
        evidence BLOB NOT NULL,           -- the signed envelope as it was received
        PRIMARY KEY (job_id, offer_id, bid_id, node_id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE executions (
        id TEXT PRIMARY KEY,
        job_id TEXT NOT NULL,
        offer_id TEXT NOT NULL,
        bid_id TEXT NOT NULL,
        node_id TEXT NOT NULL,
        state INTEGER NOT NULL,
        price_microcredits INTEGER NOT NULL,
        charged_microcredits INTEGER NOT NULL,
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL,
        bid_set_digest BLOB NOT NULL,
        phase INTEGER,
        attempt INTEGER NOT NULL,
        report BLOB,                      -- ExecutionReport
        result BLOB,                      -- the report's result CID, binary
        failure BLOB                      -- Fault
    ) WITHOUT ROWID
    """,
    "CREATE INDEX executions_by_job ON executions (job_id, created_us, id)",
    "CREATE INDEX executions_by_result ON executions (result) WHERE result IS NOT NULL",
    """
    CREATE TABLE work (
        id TEXT PRIMARY KEY,              -- of the execution
        requester_id TEXT NOT NULL,
        state INTEGER NOT NULL,           -- 3 is settled
        attempt INTEGER NOT NULL,
        accepted_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL,
        award BLOB NOT NULL,              -- Award
        report BLOB,                      -- ExecutionReport
        result BLOB,                      -- the report's result CID, binary
        refusal BLOB                      -- Refusal
    ) WITHOUT ROWID
    """,
    "CREATE INDEX work_by_time ON work (accepted_us, id)",
    "CREATE INDEX work_unsettled ON work (accepted_us, id) WHERE state < 3",
    "CREATE INDEX work_by_result ON work (result) WHERE result IS NOT NULL",
)

_AUCTIONS: Final = (
    """
    CREATE TABLE clearings (
        job_id TEXT NOT NULL,
        offer_id TEXT NOT NULL,
        sequence INTEGER NOT NULL,        -- of the offer's clearings, from 1
        cleared_us INTEGER NOT NULL,
        clearing BLOB NOT NULL,           -- Clearing
        bid_set BLOB NOT NULL,            -- BidSet; the envelopes are in answers
        PRIMARY KEY (job_id, offer_id, sequence)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX offers_by_time ON offers (made_us, id)",
    """
    CREATE TABLE own_bids (
        offer_id TEXT NOT NULL,
        bid_id TEXT NOT NULL,
        job_id TEXT NOT NULL,
        requester_id TEXT NOT NULL,
        sent_us INTEGER NOT NULL,
        price_microcredits INTEGER NOT NULL,
        offer BLOB NOT NULL,              -- three signed envelopes: the requester's
        bid BLOB NOT NULL,                -- this node's
        acknowledgement BLOB NOT NULL,    -- the requester's again
        refusal BLOB,                     -- Refusal
        PRIMARY KEY (offer_id, bid_id)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX own_bids_by_time ON own_bids (sent_us, offer_id, bid_id)",
    "CREATE INDEX own_bids_by_job ON own_bids (job_id)",
    "CREATE INDEX executions_by_end ON executions (state, updated_us)",
)


_VERIFICATION: Final = (
    "ALTER TABLE executions ADD COLUMN commitment BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE executions ADD COLUMN compared BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE work ADD COLUMN commitment BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE work ADD COLUMN revealed INTEGER NOT NULL DEFAULT 0",
    """
    CREATE TABLE reputations (
        node_id TEXT NOT NULL,
        role INTEGER NOT NULL,            -- 1 as compute node, 2 as requester
        updated_us INTEGER NOT NULL,
        reputation BLOB NOT NULL,         -- Reputation
        PRIMARY KEY (node_id, role)
    ) WITHOUT ROWID
    """,
)


_LEDGER: Final = (
    "ALTER TABLE executions ADD COLUMN payment BLOB",  # PaymentTerms; before, the whole price was due
    "ALTER TABLE executions ADD COLUMN bond_microcredits INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE executions ADD COLUMN penalty_microcredits INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE executions ADD COLUMN late INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE work ADD COLUMN paid_microcredits INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE work ADD COLUMN receipt_sequence INTEGER NOT NULL DEFAULT 0",
    # State 4, taken, is not settled either; 5, disputed, is kept until it is.
    "DROP INDEX work_unsettled",
    "CREATE INDEX work_unsettled ON work (accepted_us, id) WHERE state IN (1, 2, 4)",
    # Append-only: nothing is ever updated or removed.
    """
    CREATE TABLE transactions (
        id INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        time_us INTEGER NOT NULL,
        peer_id TEXT NOT NULL,
        execution_id TEXT NOT NULL,       -- '' in a settlement
        postings TEXT NOT NULL,           -- JSON: [[account, microcredits], …], which add up to 0
        request_id TEXT NOT NULL
    )
    """,
    # The books begin with what is open: its price is set aside.
    """
    INSERT INTO transactions (kind, time_us, peer_id, execution_id, postings, request_id)
    SELECT 1, created_us, node_id, id, printf('[["spent",%d],["escrow:%s",%d]]',
        -price_microcredits, id, price_microcredits), ''
    FROM executions WHERE state < 4 AND price_microcredits > 0 ORDER BY created_us, id
    """,
    "CREATE INDEX transactions_by_peer ON transactions (peer_id, id)",
    "CREATE INDEX transactions_by_execution ON transactions (execution_id, id) WHERE execution_id <> ''",
    "CREATE INDEX transactions_by_request ON transactions (request_id) WHERE request_id <> ''",
    # What this node owes, and what it is owed: one row a peer, from which the books are opened after a restart.
    """
    CREATE TABLE payables (
        peer_id TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL,        -- of the last receipt
        charged_microcredits INTEGER NOT NULL,
        note_sequence INTEGER NOT NULL,   -- of the last settlement note
        settled_microcredits INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE receivables (
        peer_id TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL,
        charged_microcredits INTEGER NOT NULL,
        note_sequence INTEGER NOT NULL,
        settled_microcredits INTEGER NOT NULL,
        disputed_microcredits INTEGER NOT NULL,
        limit_microcredits INTEGER,       -- set by its operator; else the limit of any peer
        signed_note INTEGER NOT NULL      -- the last note that the peer has signed
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE receipts (
        side INTEGER NOT NULL,            -- 1: this node owes, 2: it is owed
        peer_id TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        execution_id TEXT NOT NULL,
        time_us INTEGER NOT NULL,
        receipt BLOB NOT NULL,            -- Receipt
        evidence BLOB,                    -- the peer's signed envelope; '' where this node is both sides
        refusal BLOB,                     -- Refusal
        PRIMARY KEY (side, peer_id, sequence)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX receipts_by_execution ON receipts (execution_id, side)",
    "CREATE INDEX receipts_by_time ON receipts (time_us, side, peer_id, sequence)",
    "CREATE INDEX receipts_unsigned ON receipts (peer_id, sequence) WHERE side = 1 AND evidence IS NULL",
    """
    CREATE TABLE settlement_notes (
        side INTEGER NOT NULL,
        peer_id TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        note BLOB NOT NULL,               -- SettlementNote
        evidence BLOB NOT NULL,
        PRIMARY KEY (side, peer_id, sequence)
    ) WITHOUT ROWID
    """,
)

# When the commitment came; 0 without one, and where it came before this column.
_COMMITTED: Final = ("ALTER TABLE executions ADD COLUMN committed_us INTEGER NOT NULL DEFAULT 0",)

# Of small results, until the block store has them on disk: see Store.stage.
_SMALL_BLOCKS: Final = (
    """
    CREATE TABLE small_blocks (
        id INTEGER PRIMARY KEY,
        cid BLOB NOT NULL,
        block BLOB NOT NULL
    )
    """,
)

# What receipts say beyond what the work came to; before, such receipts were refused.
_UNEARNED: Final = ("ALTER TABLE receivables ADD COLUMN unearned_microcredits INTEGER NOT NULL DEFAULT 0",)

# How many executions a job wants at present; 0 where it was not written: before this column, and of new jobs.
_REPLICAS: Final = ("ALTER TABLE jobs ADD COLUMN replicas INTEGER NOT NULL DEFAULT 0",)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    _VERSION_1,
    _VERIFICATION,
    _AUCTIONS,
    _LEDGER,
    _COMMITTED,
    _SMALL_BLOCKS,
    _UNEARNED,
    _REPLICAS,
)


def migrate(
    database: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Brings the file to the version of `migrations`, whole or not at all; a new file gets all of them.

    Raises StoreTooNew, and StoreCorrupt for another program's database.
    """
    database.execute("BEGIN IMMEDIATE")
    try:
        version = _known_version(database, path, len(migrations))
        for statements in migrations[version:]:
            for statement in statements:
                database.execute(statement)
        if version < len(migrations):
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {len(migrations)}")
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def _known_version(database: sqlite3.Connection, path: Path, newest: int) -> int:
    (application_id,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id != APPLICATION_ID and (application_id or version or tables):
        raise StoreCorrupt(
            f"{path} is another program's database: move it away, or choose another data directory"
        )
    if version > newest:
        raise StoreTooNew(
            f"{path} has version {version} and this program knows versions up to {newest}: "
            "install the version of bacalhau that wrote it, or a later one"
        )
    return int(version)
