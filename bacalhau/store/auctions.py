"""Readings of auctions: what a requester's offers got, how they were cleared, and this node's own bids on others'.

As in `queries`: each takes an open connection inside a read transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bacalhau.market.pricehistory import TradedPrice
from bacalhau.model.execution import ExecutionState
from bacalhau.scheduler.history import (
    ClearedBid,
    OfferSummary,
    StoredAnswer,
    StoredClearing,
)
from bacalhau.scheduler.records import BidKept
from bacalhau.store import encoding
from bacalhau.store.paging import page_token

if TYPE_CHECKING:
    import sqlite3

    from bacalhau.model.market import JobOffer
    from bacalhau.store.paging import Key

TRADES_MAX: Final = 10_000
"""Completed executions that a price history is made from: the newest."""


def offer(database: sqlite3.Connection, id: str) -> JobOffer | None:
    row = database.execute("SELECT offer FROM offers WHERE id = ?", (id,)).fetchone()
    return None if row is None else encoding.offer_of(row[0])


def offers(database: sqlite3.Connection, size: int, before: Key | None) -> tuple[list[OfferSummary], str]:
    """Newest first."""
    found = database.execute(
        "SELECT made_us, id, offer,"
        " (SELECT count(*) FROM answers a WHERE a.job_id = offers.job_id AND a.offer_id = offers.id"
        "  AND a.bid_id <> ''),"
        " (SELECT count(*) FROM answers a WHERE a.job_id = offers.job_id AND a.offer_id = offers.id"
        "  AND a.bid_id = ''),"
        " (SELECT count(*) FROM executions e WHERE e.job_id = offers.job_id AND e.offer_id = offers.id) "
        "FROM offers WHERE (made_us, id) < (?, ?) ORDER BY made_us DESC, id DESC LIMIT ?",
        (*(before or (2**63 - 1, "")), size + 1),
    ).fetchall()
    page = [
        OfferSummary(encoding.offer_of(data), made_us, bids, declines, awards)
        for made_us, _, data, bids, declines, awards in found[:size]
    ]
    more = len(found) > size
    return page, page_token("offers", found[size - 1][:2]) if more else ""


def answers(
    database: sqlite3.Connection, job_id: str, size: int, after: Key | None
) -> tuple[list[StoredAnswer], str]:
    found = database.execute(
        "SELECT received_us, offer_id, bid_id, node_id, bid, refusal, bid_id <> '' AND EXISTS ("
        "  SELECT 1 FROM executions WHERE executions.job_id = answers.job_id"
        "  AND executions.offer_id = answers.offer_id AND executions.bid_id = answers.bid_id"
        "  AND executions.node_id = answers.node_id) "
        "FROM answers WHERE job_id = ? AND (received_us, offer_id, bid_id, node_id) > (?, ?, ?, ?) "
        "ORDER BY received_us, offer_id, bid_id, node_id LIMIT ?",
        (job_id, *(after or (-1, "", "", "")), size + 1),
    ).fetchall()
    page = [
        StoredAnswer(
            offer_id, node_id, received_us, encoding.bid_of(bid), encoding.refusal_of(refusal), bool(won)
        )
        for received_us, offer_id, _, node_id, bid, refusal, won in found[:size]
    ]
    return page, page_token("answers", found[size - 1][:4]) if len(found) > size else ""


# --- clearings ---


def clearings(database: sqlite3.Connection, job_id: str) -> list[StoredClearing]:
    """Every clearing of the job's offers that awarded something, in order."""
    found = database.execute(
        "SELECT sequence, clearing FROM clearings WHERE job_id = ? ORDER BY cleared_us, offer_id, sequence",
        (job_id,),
    )
    return [
        StoredClearing(sequence, encoding.clearing_of(clearing)) for sequence, clearing in found.fetchall()
    ]


def cleared_bids(
    database: sqlite3.Connection, clearing: StoredClearing, size: int, after: Key | None
) -> tuple[list[ClearedBid], str]:
    """A page of the bid set, in its order, with the envelopes."""
    stated = clearing.clearing
    row = database.execute(
        "SELECT bid_set FROM clearings WHERE job_id = ? AND offer_id = ? AND sequence = ?",
        (stated.job_id, stated.offer_id, clearing.sequence),
    ).fetchone()
    entries = [
        entry
        for entry in encoding.bid_set_of(row[0])
        if after is None or (entry.bid_id, entry.node_id) > after
    ]
    page = [
        ClearedBid(
            entry,
            _evidence(database, stated.job_id, stated.offer_id, entry.bid_id, entry.node_id),
            _evidence(database, stated.job_id, stated.offer_id, "", entry.node_id),
        )
        for entry in entries[:size]
    ]
    last = page[-1].entry if page else None
    more = len(entries) > size and last is not None
    return page, page_token("clearing", (last.bid_id, last.node_id)) if more and last else ""


def _evidence(database: sqlite3.Connection, job_id: str, offer_id: str, bid_id: str, node_id: str) -> bytes:
    """The envelope of a bid, or of a decline where `bid_id` is empty; nothing where there is none."""
    row = database.execute(
        "SELECT evidence FROM answers WHERE job_id = ? AND offer_id = ? AND bid_id = ? AND node_id = ?",
        (job_id, offer_id, bid_id, node_id),
    ).fetchone()
    return b"" if row is None else bytes(row[0])


# --- this node's bids on others' offers ---


def own_bids(
    database: sqlite3.Connection, job_prefix: tuple[str, str], size: int, before: Key | None
) -> tuple[list[BidKept], str]:
    """Newest first; of jobs whose ids lie between the two."""
    found = database.execute(
        "SELECT sent_us, offer_id, bid_id, job_id, requester_id, price_microcredits, offer, bid,"
        " acknowledgement, refusal FROM own_bids WHERE job_id >= ? AND job_id < ?"
        " AND (sent_us, offer_id, bid_id) < (?, ?, ?) ORDER BY sent_us DESC, offer_id DESC, bid_id DESC LIMIT ?",
        (*job_prefix, *(before or (2**63 - 1, "", "")), size + 1),
    ).fetchall()
    page = [
        BidKept(
            bid_id, offer_id, job_id, requester_id, sent_us, price, offer_, bid, ack,
            encoding.refusal_of(refusal),
        )
        for sent_us, offer_id, bid_id, job_id, requester_id, price, offer_, bid, ack, refusal in found[:size]
    ]  # fmt: skip
    return page, page_token("own_bids", found[size - 1][:3]) if len(found) > size else ""


# --- prices ---


def traded_prices(database: sqlite3.Connection, since_us: int) -> list[TradedPrice]:
    """What completed executions of this node's jobs were awarded for since then, newest first."""
    found = database.execute(
        "SELECT e.updated_us, e.price_microcredits, o.offer FROM executions e JOIN offers o ON o.id = e.offer_id "
        "WHERE e.state = ? AND e.updated_us >= ? ORDER BY e.updated_us DESC, e.id LIMIT ?",
        (ExecutionState.COMPLETED.value, since_us, TRADES_MAX),
    )
    trades = []
    for updated_us, price, data in found.fetchall():
        sold = encoding.offer_of(data)
        trades.append(TradedPrice(updated_us, price, sold.engine, sold.resources, sold.execution_timeout_us))
    return trades
