"""Nodes that were restored from a backup: they take back what they signed, nothing else, and nothing counts twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market.credit import CreditPolicy
from bacalhau.model.execution import Usage
from bacalhau.model.ledger import Balance, Receipt, SettlementNote, TradeSide, Transaction
from bacalhau.model.refusals import RefusalReason
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.deadlines import Deadlines
from bacalhau.scheduler.payables import Payables
from bacalhau.scheduler.receivables import Receivables
from bacalhau.scheduler.records import (
    Books,
    ExecutionRecord,
    PayableRecord,
    ReceiptRecord,
    ReceivableRecord,
    WorkRecord,
    WorkState,
)
from bacalhau.scheduler.requester import RequesterConfig
from tests.builders import a_compute_config, a_receipt, a_report
from tests.scheduler.driven import Compute, Requester, seconds
from tests.scheduler.test_pairs import GONE, REFUTED, TRADES, Pair, Trade

NODE = RequesterConfig(node_id="r1")


def _restored(*receipts: Receipt, before: int = 0) -> Requester:
    """A requester whose backup has one receipt of `before`, if any, and what it has written since."""
    requester = Requester(NODE)
    balance = Balance(1, before) if before else Balance()
    if receipts:
        last = receipts[-1]
        balance = replace(balance, sequence=last.sequence, charged_microcredits=last.balance_microcredits)
    unsigned = tuple(ReceiptRecord(TradeSide.BUYING, receipt, None) for receipt in receipts)
    books = Books((PayableRecord("n1", balance),), unsigned)
    requester.took(requester.machine.restore((), (), (), books, now=0))
    requester.machine.check()
    return requester


def _moves(effects: fx.Effects) -> list[dict[str, int]]:
    moved = [write for write in effects.writes if isinstance(write, Transaction)]
    return [{one.account: one.amount_microcredits for one in each.postings} for each in moved]


# --- the requester ---


def test_a_restored_requester_takes_back_what_both_have_signed_and_its_own_receipts_follow() -> None:
    own = a_receipt(execution_id="e-new", sequence=2, before=10)
    requester = _restored(own, before=10)
    lost = [a_receipt(execution_id=f"e-{n}", sequence=n, before=10 * (n - 1)) for n in (2, 3)]
    returned = ev.ReceiptsReturned("n1", tuple((receipt, b"theirs") for receipt in lost))
    requester.tell(returned, seconds(1))
    assert _moves(requester.last) == [{"payable:n1": 10, "spent": -10}] * 2
    behind = replace(own, sequence=4, balance_microcredits=40)
    records = [write for write in requester.last.writes if isinstance(write, ReceiptRecord)]
    assert records == [
        *(ReceiptRecord(TradeSide.BUYING, receipt, b"theirs") for receipt in lost),
        ReceiptRecord(TradeSide.BUYING, behind, None),
    ]
    assert requester.sent(fx.SendReceipts) == [fx.SendReceipts("n1", (behind,))]
    assert requester.machine.payables.balances["n1"] == Balance(4, 40)
    requester.tell(returned, seconds(2))
    assert requester.last == fx.Effects()
    requester.tell(ev.ReceiptsAnswered("n1", ((4, b""),)), seconds(3))
    assert requester.machine.deadline() is None


def test_a_receipt_of_the_same_execution_replaces_the_one_that_was_written_since() -> None:
    """The backup had the result of e-2 as reported; the node has a receipt for it, of less time."""
    again = a_receipt(execution_id="e-2", sequence=2, before=10)
    requester = _restored(again, before=10)
    usage = Usage(wall_us=0)
    signed = replace(again, payment=replace(again.payment, floor_ppm=0), usage=usage, pay_microcredits=0)
    signed = replace(signed, balance_microcredits=10)
    requester.tell(ev.ReceiptsReturned("n1", ((signed, b"theirs"),)), seconds(1))
    assert _moves(requester.last) == [{"payable:n1": -10, "spent": 10}]
    assert requester.machine.payables.balances["n1"] == Balance(2, 10)
    assert (requester.sent(fx.SendReceipts), requester.machine.deadline()) == ([], None)


def test_a_receipt_of_the_same_execution_gives_back_the_bond_that_the_one_written_since_took() -> None:
    again = a_receipt(execution_id="e-2", sequence=2, before=10, rejection=REFUTED, bond=30, penalty=30)
    requester = _restored(again, before=10)
    signed = a_receipt(execution_id="e-2", sequence=2, before=10)
    requester.tell(ev.ReceiptsReturned("n1", ((signed, b"theirs"),)), seconds(1))
    assert _moves(requester.last) == [{"payable:n1": 40, "spent": -40}]
    assert requester.machine.payables.balances["n1"] == Balance(2, 20)


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 3},
        {"sequence": 1},
        {"balance_microcredits": 21},
        {"pay_microcredits": 20, "balance_microcredits": 30},
        {"node_id": "n2"},
        {"requester_id": "r2"},
    ],
    ids=lambda change: "+".join(change),
)
def test_what_does_not_follow_what_both_have_signed_changes_nothing(change: dict[str, object]) -> None:
    own = a_receipt(execution_id="e-new", sequence=2, before=10)
    requester = _restored(own, before=10)
    wrong = replace(a_receipt(execution_id="e-2", sequence=2, before=10), **change)  # type: ignore[arg-type]
    requester.tell(ev.ReceiptsReturned("n1", ((wrong, b"theirs"),)), seconds(1))
    assert requester.last == fx.Effects()
    assert requester.machine.payables.unsigned("n1") == 1


@pytest.mark.parametrize("count", [2, 3])
def test_a_node_that_signed_a_later_receipt_first_gives_nothing_back(count: int) -> None:
    own = [a_receipt(execution_id=f"e-{n}", sequence=n, before=10 * (n - 1)) for n in range(1, count + 1)]
    requester = _restored(*own)
    requester.tell(ev.ReceiptsAnswered("n1", ((2, b"theirs"),)), 1)
    requester.tell(ev.ReceiptsReturned("n1", ((own[0], b"theirs"),)), 2)
    assert requester.last == fx.Effects()
    assert requester.machine.payables.balances["n1"] == Balance(count, 10 * count)


def test_an_execution_comes_back_in_one_receipt_alone() -> None:
    """Under way at two restores, it may have got a receipt in each life; its node would have both count."""
    requester = _restored(a_receipt(execution_id="e-new", sequence=2, before=10), before=10)
    twice = [a_receipt(execution_id="e-2", sequence=n, before=10 * (n - 1)) for n in (2, 3)]
    requester.tell(ev.ReceiptsReturned("n1", tuple((receipt, b"theirs") for receipt in twice)), 1)
    assert requester.machine.payables.balances["n1"] == Balance(3, 30)
    (waiting,) = requester.sent(fx.SendReceipts)[0].receipts
    assert (waiting.execution_id, waiting.sequence) == ("e-new", 3)
    requester.tell(ev.ReceiptsReturned("n1", ((twice[1], b"theirs"),)), 2)
    assert requester.last == fx.Effects()


@pytest.mark.parametrize("restarted", [False, True])
def test_an_execution_whose_receipt_came_back_while_it_was_open_is_not_paid_a_second_time(
    restarted: bool,
) -> None:
    """The backup was made after its report came; its result is fetched again."""
    requester = Requester(NODE)
    requester.hear("n1")
    requester.submit(now=0)
    execution_id = requester.running("n1", 0)
    report = a_report(execution_id)
    requester.tell(ev.ReportReceived("n1", report), seconds(6))
    signed = a_receipt(execution_id=execution_id)
    requester.tell(ev.ReceiptsReturned("n1", ((signed, b"theirs"),)), seconds(7))
    assert _moves(requester.last) == [{"payable:n1": 10, "spent": -10}]
    if restarted:
        requester = _restarted(requester, execution_id)
    requester.tell(ev.ResultFetched(execution_id), seconds(8))
    assert _moves(requester.last) == [{f"escrow:{execution_id}": -100, "spent": 100}]
    assert requester.sent(fx.SendReceipts) == []
    assert requester.machine.payables.balances["n1"] == Balance(1, 10)
    assert requester.machine.open_jobs == 0


def _restarted(requester: Requester, execution_id: str) -> Requester:
    """Another life of it, from what it wrote; its only job is open."""
    again = Requester(NODE)
    jobs = list(requester.machine._jobs.values())
    executions = [write for write in requester.all.writes if isinstance(write, ExecutionRecord)]
    payables = [write for write in requester.all.writes if isinstance(write, PayableRecord)]
    books = Books((payables[-1],), receipted=(execution_id,))
    for job in jobs:
        job.executions.clear()
        job.auction = None
    again.took(again.machine.restore(jobs, [executions[-1]], (), books, now=seconds(7)))
    again.machine.check()
    return again


# --- the compute node ---


def test_a_restored_compute_node_takes_back_what_it_signed_and_judges_it_no_second_time() -> None:
    """Of e-1, which ran, it has the work, and of the rest nothing: neither its credit nor its bond is in doubt."""
    compute = Compute(replace(a_compute_config(), node_id="n1", credit=CreditPolicy(120, 120)))
    known = replace(compute.taken(), execution_timeout_us=seconds(600))
    penalty = a_receipt(execution_id="e-2", sequence=2, before=10, rejection=REFUTED, bond=30, penalty=30)
    more = replace(a_receipt(execution_id="e-3", sequence=3, before=-20), price_microcredits=1000)
    more = replace(more, pay_microcredits=100, balance_microcredits=80)
    for receipt in (known, penalty, more):
        compute.tell(ev.ReceiptReceived(receipt, b"theirs", signed_before=True), seconds(8))
        assert compute.refusal() is None
    record = compute.machine.receivables.records["r1"]
    assert record == ReceivableRecord("r1", Balance(3, 80))
    assert compute.machine.receivables.credit.exposure("r1") == 80
    assert compute.machine.reputations.of("r1") is None
    work = [write for write in compute.all.writes if isinstance(write, WorkRecord)][-1]
    assert (work.id, work.state, work.receipt_sequence) == ("e-1", WorkState.SETTLED, 1)


def test_its_own_signature_puts_no_receipt_out_of_its_order() -> None:
    compute = Compute(replace(a_compute_config(), node_id="n1"))
    late = a_receipt(execution_id="e-2", sequence=2, before=10)
    compute.tell(ev.ReceiptReceived(late, signed_before=True), 0)
    assert (compute.refusal(), compute.last.writes) == (RefusalReason.WRONG_STATE, [])
    first = a_receipt(execution_id="e-9")
    compute.tell(ev.ReceiptReceived(replace(first, balance_microcredits=11), signed_before=True), 0)
    assert (compute.refusal(), compute.last.writes) == (RefusalReason.MALFORMED, [])
    for _ in range(2):
        compute.tell(ev.ReceiptReceived(first, signed_before=True), 1)
    assert compute.last == fx.Effects()
    assert compute.machine.receivables.records["r1"].balance == Balance(1, 10)


def test_a_restored_creditor_takes_back_its_last_note_and_has_it_signed_once_more() -> None:
    compute = Compute(replace(a_compute_config(), node_id="n1"))
    compute.tell(ev.ReceiptReceived(a_receipt(), signed_before=True), 0)
    note = SettlementNote("n1", "r1", 3, 7, 5)
    compute.tell(ev.NoteReturned(note), 1)
    assert _moves(compute.last) == [{"receivable:r1": 7, "received": -7}]
    assert compute.machine.receivables.records["r1"].balance == Balance(1, 10, 3, 7)
    assert compute.machine.receivables.credit.exposure("r1") == 3
    (sent,) = compute.sent(fx.SendNote)
    assert (sent.note.sequence, sent.note.settled_microcredits) == (3, 7)
    for old in (
        note,
        replace(note, sequence=2, settled_microcredits=4),
        replace(note, settled_microcredits=6),
    ):
        compute.tell(ev.NoteReturned(old), 2)
        assert compute.last == fx.Effects()
    compute.tell(ev.NoteSigned(sent.note, b"theirs"), 3)
    assert compute.machine.deadline() is None
    compute.tell(ev.NoteReturned(replace(note, settled_microcredits=9)), 4)
    assert compute.last == fx.Effects()


# --- both ---


class Chain(Pair):
    """A pair whose node keeps what it has signed, and of which one half can be put back to an earlier state."""

    def __init__(self) -> None:
        super().__init__(limit=10**9)
        self.signed: list[Receipt] = []

    def taken(self, receipt: Receipt, *, signed_before: bool = False) -> bool:
        known = self.receivables.knows(receipt)
        taken = super().taken(receipt, signed_before=signed_before)
        if taken and not known:
            del self.signed[receipt.sequence - 1 :]
            self.signed.append(receipt)
        return taken

    def waiting(self) -> list[Receipt]:
        if not self.payables.unsigned("n1"):
            return []
        (sent,) = self.payables.send_again("n1", 0).sends
        assert isinstance(sent, fx.SendReceipts)
        return list(sent.receipts)

    def exchange(self, theirs: list[Receipt], returned_max: int) -> None:
        """What the drivers do until nothing waits; `theirs`: what both have signed, as whoever has kept it has it."""
        while waiting := self.waiting():
            receipt = waiting[0]
            if self.receivables.knows(receipt) and theirs[receipt.sequence - 1] != receipt:
                back = theirs[receipt.sequence - 1 :][:returned_max]
                event = ev.ReceiptsReturned("n1", tuple((one, b"") for one in back))
                assert self.payables.returned(event, 0).writes
                assert self.payables.returned(event, 0) == fx.Effects()
            elif self.taken(receipt):
                self.payables.answered(ev.ReceiptsAnswered("n1", ((receipt.sequence, b""),)), 0)
            else:
                for old in theirs[self.receivables.next_sequence("r1") - 1 : receipt.sequence - 1]:
                    assert self.taken(old, signed_before=True)
            self.check()

    def check_equal(self) -> None:
        owed, record = self.payables.balances["n1"], self.receivables.records["r1"]
        assert owed == record.balance
        assert self.payables.ledger.balance("payable:n1") == -self.receivables.ledger.balance("receivable:r1")
        executions = [receipt.execution_id for receipt in self.signed]
        assert len(executions) == len(set(executions)) == owed.sequence


MANY = st.lists(st.tuples(TRADES, st.booleans()), max_size=5)


@given(MANY, MANY, st.lists(TRADES, min_size=1, max_size=4), st.integers(1, 4))
def test_a_requester_restored_to_any_point_comes_to_the_balance_of_its_node(
    kept: list[tuple[Trade, bool]],
    lost: list[tuple[Trade, bool]],
    new: list[Trade],
    returned_max: int,
) -> None:
    pair = Chain()
    for number, (trade, delivered) in enumerate(kept):
        pair.trade(number, trade)
        if delivered:
            pair.exchange(pair.signed, returned_max)
    backup = Books(
        tuple(PayableRecord(id, balance) for id, balance in pair.payables.balances.items()),
        tuple(ReceiptRecord(TradeSide.BUYING, receipt, None) for receipt in pair.waiting()),
    )
    for number, (trade, delivered) in enumerate(lost):
        pair.trade(100 + number, trade)
        if delivered:
            pair.exchange(pair.signed, returned_max)
    pair.payables = Payables(NODE, Deadlines())
    pair.payables.restore(backup, (), 0)
    for number, trade in enumerate(new):
        pair.trade(200 + number, trade)
    signed = list(pair.signed)
    pair.exchange(signed, returned_max)
    pair.check_equal()
    assert pair.signed[: len(signed)] == signed


@given(MANY, MANY, st.lists(TRADES, min_size=1, max_size=4))
def test_a_compute_node_restored_to_any_point_comes_to_the_balance_of_its_requester(
    kept: list[tuple[Trade, bool]], lost: list[tuple[Trade, bool]], new: list[Trade]
) -> None:
    """A penalty for work that it has forgotten it signs only where it had signed it before."""
    pair = Chain()
    for number, (trade, delivered) in enumerate(kept):
        pair.trade(number, trade)
        if delivered:
            pair.exchange(pair.signed, 1)
    backup, works = Books(receivables=tuple(pair.receivables.records.values())), dict(pair.works)
    for number, (trade, delivered) in enumerate(lost):
        pair.trade(
            100 + number, trade if delivered or trade.fault is not REFUTED else replace(trade, fault=GONE)
        )
        if delivered:
            pair.exchange(pair.signed, 1)
    theirs = list(pair.signed)
    pair.receivables = Receivables(pair.config, Deadlines())
    pair.receivables.restore(backup, 0)
    pair.works = works
    for work in works.values():
        if not work.receipt_sequence:
            pair.receivables.commit(work)
    for number, trade in enumerate(new):
        pair.trade(200 + number, trade)
    pair.exchange(theirs, 1)
    pair.check_equal()
    assert pair.signed[: len(theirs)] == theirs
