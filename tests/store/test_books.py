"""The books in the store: what was written comes back, in pages, and opens a restarted node's books."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacalhau.market import ledger as books
from bacalhau.market.ledger import Ledger
from bacalhau.model.ledger import Balance, TradeSide, Transaction
from bacalhau.model.refusals import Refusal, RefusalReason, Refused
from bacalhau.scheduler.history import StoredTransaction
from bacalhau.scheduler.records import (
    Books,
    NoteRecord,
    PayableRecord,
    ReceiptRecord,
    ReceivableRecord,
    WorkState,
)
from bacalhau.store.store import Store
from tests.store import histories as h
from tests.wire import strategies as wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bacalhau.model.ledger import Receipt
    from bacalhau.scheduler.records import Write


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "node.db", durable=False)
    yield store
    store.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("store") / "node.db", durable=False)
    yield store
    store.close()


_numbers = count()
PEER = "12D3KooWPeerPeerPeerPeerPeerPeerPeerPeerPeerPeerPeer"
examples = settings(max_examples=40, deadline=None)


def a_kept_receipt(valid: Receipt, side: TradeSide, sequence: int, peer_id: str = PEER) -> ReceiptRecord:
    changes = {"node_id": peer_id} if side is TradeSide.BUYING else {"requester_id": peer_id}
    receipt = replace(valid, sequence=sequence, execution_id=f"e-{sequence:03}", time_us=sequence, **changes)  # type: ignore[arg-type]
    return ReceiptRecord(side, receipt, None)


@pytest.fixture(scope="module")
def valid() -> Receipt:
    """One that the wire accepts."""
    found: list[Receipt] = []

    @settings(max_examples=1, database=None)
    @given(h.receipts)
    def draw(record: ReceiptRecord) -> None:
        found.append(record.receipt)

    draw()
    return found[0]


@examples
@given(record=h.receipts)
def test_a_receipt_comes_back_and_its_signature_replaces_the_one_before(
    shared: Store, record: ReceiptRecord
) -> None:
    receipt = replace(record.receipt, execution_id=f"e-x{next(_numbers)}")
    record = replace(record, receipt=receipt)
    shared.commit([record])
    assert shared.receipt(record.side, record.peer_id, receipt.sequence) == record
    signed = replace(record, evidence=b"theirs", refusal=None)
    shared.commit([signed])
    assert shared.match_receipts(receipt.execution_id) == [signed]


@examples
@given(transaction=h.transactions)
def test_a_transaction_comes_back_under_a_number_that_counts_up(
    shared: Store, transaction: Transaction
) -> None:
    last = shared.transactions(page_size=1)[0]
    shared.commit([transaction, transaction])
    second, first = shared.transactions(page_size=2)[0]
    assert [first.transaction, second.transaction] == [transaction, transaction]
    assert second.id > first.id > (last[0].id if last else 0)


@examples
@given(payable=h.payables, receivable=h.receivables)
def test_balances_replace_those_before_them(
    shared: Store, payable: PayableRecord, receivable: ReceivableRecord
) -> None:
    empty = PayableRecord(payable.peer_id, Balance())
    shared.commit([payable, ReceivableRecord(receivable.peer_id, Balance())])
    shared.commit([empty, payable, receivable])
    kept = shared.books()
    assert payable in kept.payables
    assert receivable in kept.receivables
    assert len({record.peer_id for record in kept.payables}) == len(kept.payables)


def test_only_receipts_that_their_node_has_not_signed_are_taken_up_in_order(
    store: Store, valid: Receipt
) -> None:
    kept = [a_kept_receipt(valid, TradeSide.BUYING, sequence) for sequence in (3, 1, 2)]
    theirs = a_kept_receipt(valid, TradeSide.SELLING, 1)
    store.commit([*kept, theirs, replace(kept[1], evidence=b"signed")])
    assert store.books() == Books(unsigned=(kept[2], kept[0]))


def test_receipts_and_transactions_are_paged_latest_first(store: Store, valid: Receipt) -> None:
    kept = [a_kept_receipt(valid, TradeSide.BUYING, sequence) for sequence in range(1, 8)]
    other = a_kept_receipt(valid, TradeSide.BUYING, 4, PEER.replace("Peer", "Pier"))
    moves = [books.set_aside(PEER, f"e-{n}", 5, n) for n in range(1, 8)]
    store.commit([*kept, other, *moves, books.set_aside("another", "e-9", 5, 9)])
    pages, token = [], ""
    while True:
        page, token = store.receipts(PEER, page_size=3, page_token=token)
        pages.append([record.receipt.sequence for record in page])
        if not token:
            break
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    assert len(store.receipts()[0]) == 8
    first, token = store.transactions(PEER, page_size=4)
    rest, end = store.transactions(PEER, page_size=4, page_token=token)
    assert [one.transaction for one in (*first, *rest)] == moves[::-1]
    assert end == ""
    assert [one.transaction for one in store.transactions(execution_id="e-3")[0]] == [moves[2]]
    for listing in (store.receipts, store.transactions):
        with pytest.raises(Refused) as caught:
            listing(page_token="nonsense")
        assert caught.value.refusal.reason is RefusalReason.MALFORMED


def test_a_transaction_is_found_by_the_request_that_asked_for_it(store: Store) -> None:
    asked = books.settlement_received(PEER, 5, 1, "q-1")
    store.commit([books.settlement_received(PEER, 4, 1, ""), asked])
    assert store.transaction_by_request("q-1") == StoredTransaction(2, asked)
    assert store.transaction_by_request("q-2") is None
    assert store.transaction_by_request("") is None


def test_history_replays_to_the_books_that_balances_open(store: Store) -> None:
    writes: list[Write] = [
        books.set_aside("n1", "e-1", 90, 1),
        books.pay("n1", "e-1", 90, 40, 2),
        books.set_aside("n1", "e-2", 70, 3),
        books.settlement_paid("n1", 15, 4),
        books.earn("r1", "e-3", 8, 5),
        PayableRecord("n1", Balance(1, 40, 1, 15)),
        ReceivableRecord("r1", Balance(1, 8)),
    ]
    store.commit(writes)
    replayed = Ledger()
    for stored in reversed(store.transactions()[0]):
        replayed.post(stored.transaction)
    kept = store.books()
    opened = books.opening(
        [(record.peer_id, record.balance) for record in kept.payables],
        [(record.peer_id, record.balance) for record in kept.receivables],
        [("e-2", 70)],
    )
    assert replayed.balances == opened.balances


def test_taken_work_is_taken_up_and_disputed_work_is_kept_and_pruned_only_once_settled(store: Store) -> None:
    job, refusal = h.history("a", 1_000), Refusal(RefusalReason.STALE, "no answer")
    taken = replace(job.work, state=WorkState.TAKEN, report=job.execution.report)
    store.commit([taken])
    assert store.unsettled_work() == [taken]
    disputed = replace(taken, state=WorkState.DISPUTED, refusal=refusal, updated_us=2_000)
    store.commit([disputed])
    assert store.unsettled_work() == []
    assert store.prune(9_000, 0, 0).work == 0
    assert store.work(job.work.id) == disputed
    assert store.needed_contents(1_500) == {job.result}
    assert store.needed_contents(3_000) == set()
    store.commit([replace(disputed, state=WorkState.SETTLED)])
    assert store.prune(9_000, 0, 0).work == 1


@given(st.data())
@settings(max_examples=5, deadline=None)
def test_a_note_is_kept_with_the_other_sides_signature(shared: Store, data: st.DataObject) -> None:
    record = NoteRecord(TradeSide.BUYING, data.draw(wire.notes), b"theirs")
    shared.commit([record, record])
