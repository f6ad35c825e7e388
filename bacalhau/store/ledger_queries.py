"""Readings of the books: balances, receipts and transactions; as in queries.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.scheduler.history import StoredTransaction
from bacalhau.scheduler.records import Books
from bacalhau.store import rows
from bacalhau.store.paging import page_token

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from bacalhau.model.ledger import TradeSide
    from bacalhau.scheduler.records import NoteRecord, ReceiptRecord
    from bacalhau.store.paging import Key


def books(database: sqlite3.Connection) -> Books:
    """What the machines take up after a restart; no history is read."""
    payables = database.execute(f"SELECT {rows.PAYABLE_COLUMNS} FROM payables").fetchall()
    unsigned = database.execute(
        f"SELECT {rows.RECEIPT_COLUMNS} FROM receipts WHERE side = 1 AND evidence IS NULL "
        "ORDER BY peer_id, sequence"
    ).fetchall()
    receivables = database.execute(f"SELECT {rows.RECEIVABLE_COLUMNS} FROM receivables").fetchall()
    # None of which there is, unless this node took receipts back: see Payables.returned.
    receipted = database.execute(
        "SELECT DISTINCT receipts.execution_id FROM jobs JOIN executions ON executions.job_id = jobs.id "
        "JOIN receipts ON receipts.execution_id = executions.id AND side = 1 "
        "WHERE jobs.state < 4 AND executions.state NOT IN (4, 5, 6, 7) ORDER BY receipts.execution_id"
    ).fetchall()
    return Books(
        tuple(rows.payable_of(row) for row in payables),
        tuple(rows.receipt_of(row) for row in unsigned),
        tuple(rows.receivable_of(row) for row in receivables),
        tuple(execution_id for (execution_id,) in receipted),
    )


def receipt(
    database: sqlite3.Connection, side: TradeSide, peer_id: str, sequence: int
) -> ReceiptRecord | None:
    row = database.execute(
        f"SELECT {rows.RECEIPT_COLUMNS} FROM receipts WHERE side = ? AND peer_id = ? AND sequence = ?",
        (side.value, peer_id, sequence),
    ).fetchone()
    return None if row is None else rows.receipt_of(row)


def signed_receipts(
    database: sqlite3.Connection, side: TradeSide, peer_id: str, sequence: int, limit: int
) -> list[ReceiptRecord]:
    """Those that both have signed, from that sequence on, in its order."""
    found = database.execute(
        f"SELECT {rows.RECEIPT_COLUMNS} FROM receipts WHERE side = ? AND peer_id = ? AND sequence >= ? "
        "AND evidence IS NOT NULL ORDER BY sequence LIMIT ?",
        (side.value, peer_id, sequence, limit),
    )
    return [rows.receipt_of(row) for row in found.fetchall()]


def signed_sequences(
    database: sqlite3.Connection, side: TradeSide, execution_ids: Sequence[str]
) -> dict[str, int]:
    """By execution: the number of its receipt that both have signed."""
    found = database.execute(
        "SELECT execution_id, sequence FROM receipts WHERE side = ? AND evidence IS NOT NULL "
        f"AND execution_id IN ({','.join('?' * len(execution_ids))})",
        (side.value, *execution_ids),
    )
    return dict(found.fetchall())


def last_note(database: sqlite3.Connection, side: TradeSide, peer_id: str) -> NoteRecord | None:
    row = database.execute(
        "SELECT side, note, evidence FROM settlement_notes WHERE side = ? AND peer_id = ? "
        "ORDER BY sequence DESC LIMIT 1",
        (side.value, peer_id),
    ).fetchone()
    return None if row is None else rows.note_of(row)


def match_receipts(database: sqlite3.Connection, start: str, end: str, limit: int) -> list[ReceiptRecord]:
    """One for each execution whose id is from `start` to before `end`: as the buyer, where this node is both."""
    found = database.execute(
        f"SELECT {rows.RECEIPT_COLUMNS}, min(side) FROM receipts "
        "WHERE execution_id >= ? AND execution_id < ? GROUP BY execution_id ORDER BY execution_id LIMIT ?",
        (start, end, limit),
    )
    return [rows.receipt_of(row) for row in found.fetchall()]


def receipts(
    database: sqlite3.Connection, peer_id: str, size: int, before: Key | None
) -> tuple[list[ReceiptRecord], str]:
    """Latest first; of one peer, or of all where `peer_id` is empty."""
    conditions, values = ["1"], list[int | str]()
    if peer_id:
        conditions.append("peer_id = ?")
        values.append(peer_id)
    if before is not None:
        conditions.append("(time_us, side, peer_id, sequence) < (?, ?, ?, ?)")
        values += before
    found = database.execute(
        f"SELECT {rows.RECEIPT_COLUMNS} FROM receipts WHERE {' AND '.join(conditions)} "
        "ORDER BY time_us DESC, side DESC, peer_id DESC, sequence DESC LIMIT ?",
        (*values, size + 1),
    ).fetchall()
    token = ""
    if len(found) > size:
        found = found[:size]
        side, peer, sequence, _, time_us = found[-1][:5]
        token = page_token("receipts", (time_us, side, peer, sequence))
    return [rows.receipt_of(row) for row in found], token


def transactions(
    database: sqlite3.Connection, peer_id: str, execution_id: str, size: int, before: Key | None
) -> tuple[list[StoredTransaction], str]:
    """Latest first; of one peer or execution where these are not empty."""
    conditions, values = ["1"], list[int | str]()
    for column, value in (("peer_id", peer_id), ("execution_id", execution_id)):
        if value:
            # An empty one is excluded as the partial index states it, or the index is not used.
            conditions.append(f"{column} <> '' AND {column} = ?")
            values.append(value)
    if before is not None:
        conditions.append("id < ?")
        values += before
    found = database.execute(
        f"SELECT {rows.TRANSACTION_COLUMNS}, id FROM transactions WHERE {' AND '.join(conditions)} "
        "ORDER BY id DESC LIMIT ?",
        (*values, size + 1),
    ).fetchall()
    token = ""
    if len(found) > size:
        found = found[:size]
        token = page_token("transactions", (found[-1][-1],))
    return [StoredTransaction(row[-1], rows.transaction_of(row)) for row in found], token


def transaction_by_request(database: sqlite3.Connection, request_id: str) -> StoredTransaction | None:
    if not request_id:
        return None
    row = database.execute(
        f"SELECT {rows.TRANSACTION_COLUMNS}, id FROM transactions "
        "WHERE request_id <> '' AND request_id = ? ORDER BY id LIMIT 1",
        (request_id,),
    ).fetchone()
    return None if row is None else StoredTransaction(row[-1], rows.transaction_of(row))
