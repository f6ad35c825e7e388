"""The money of a trade, on both sides: escrow, receipts, credit, disputes and settlement notes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bacalhau.market.credit import CreditPolicy
from bacalhau.model.auction import ClearingRule
from bacalhau.model.execution import ExecutionReport, Fault, FaultKind, Usage
from bacalhau.model.ledger import Balance, Receipt, SettlementNote, TradeSide, Transaction, TransactionKind
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.executions import answer_late_report
from bacalhau.scheduler.records import (
    Books,
    JobChanged,
    PayableRecord,
    ReceiptRecord,
    WorkRecord,
    WorkState,
)
from bacalhau.scheduler.requester import RequesterConfig
from tests.builders import RESULT, a_compute_config, a_receipt, a_report, an_award, an_offer
from tests.scheduler.driven import Compute, Requester, seconds

NODE = RequesterConfig(node_id="r1")


def _requester(*nodes: str) -> Requester:
    requester = Requester(NODE)
    requester.hear(*(nodes or ("n1",)))
    return requester


def _done(requester: Requester, job_id: str, now: int, *, wall_us: int = 0) -> Receipt:
    """A job that n1 takes for 100 and completes; the receipt."""
    requester.submit(id=job_id, now=now)
    execution_id = requester.running("n1", now)
    report = replace(a_report(execution_id), usage=Usage(wall_us=wall_us))
    requester.tell(ev.ReportReceived("n1", report), now + 2000)
    requester.tell(ev.ResultFetched(execution_id), now + 3000)
    (sent,) = requester.sent(fx.SendReceipts)
    assert sent.to == "n1"
    return sent.receipts[0]


def _moves(effects: fx.Effects) -> list[tuple[TransactionKind, dict[str, int]]]:
    return [
        (write.kind, {posting.account: posting.amount_microcredits for posting in write.postings})
        for write in effects.writes
        if isinstance(write, Transaction)
    ]


# --- the requester ---


def test_an_award_sets_its_price_aside_and_the_accepted_result_pays_its_share() -> None:
    requester = _requester("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", 100, now=0)
    requester.bid("n2", 200, now=0)
    assert _moves(requester.last) == [(TransactionKind.ESCROW, {"spent": -100, "escrow:e-2": 100})]
    requester.confirm("e-2", 1000)
    requester.report("n1", "e-2", 2000)
    assert _moves(requester.last) == []
    requester.tell(ev.ResultFetched("e-2"), 3000)
    assert _moves(requester.last) == [
        (TransactionKind.PAYMENT, {"escrow:e-2": -100, "payable:n1": 10, "spent": 90})
    ]


def test_the_receipt_is_written_with_the_end_of_the_job_and_the_job_waits_for_no_signature() -> None:
    requester = _requester()
    receipt = _done(requester, "j-1", 0, wall_us=600)
    kinds = [type(write) for write in requester.last.writes]
    assert {ReceiptRecord, PayableRecord, JobChanged} <= set(kinds)
    assert requester.machine.open_jobs == 0
    assert receipt == replace(
        a_receipt(execution_id="e-2"),
        offer_id="o-1",
        bid_id="b-n1-0",
        bid_set_digest=requester.execution("e-2").bid_set_digest,
        payment=NODE.payment,
        usage=Usage(wall_us=600),
        time_us=3000,
    )


def test_a_receipt_is_sent_again_with_growing_pauses_until_its_node_has_signed_it() -> None:
    requester = _requester()
    receipt = _done(requester, "j-1", 0)
    times = []
    while (due := requester.machine.deadline()) is not None and due < seconds(200):
        requester.expire(due)
        assert requester.sent(fx.SendReceipts) == [fx.SendReceipts("n1", (receipt,))]
        times.append(due // seconds(1))
    assert times == [1, 3, 7, 15, 31, 63, 123, 183]
    requester.tell(ev.ReceiptsAnswered("n1", ((1, b"theirs"),)), seconds(200))
    assert requester.last.writes == [ReceiptRecord(TradeSide.BUYING, receipt, b"theirs")]
    assert requester.machine.deadline() is None
    requester.tell(ev.ReceiptsAnswered("n1", ((1, b"theirs"),)), seconds(201))
    assert requester.last == fx.Effects()


def test_receipts_to_one_node_count_up_carry_the_balance_and_go_together_when_they_wait() -> None:
    requester = _requester()
    receipts = [_done(requester, f"j-{number}", seconds(number) // 10) for number in range(3)]
    assert [(one.sequence, one.balance_microcredits) for one in receipts] == [(1, 10), (2, 20), (3, 30)]
    requester.expire(seconds(2))
    assert requester.sent(fx.SendReceipts) == [fx.SendReceipts("n1", tuple(receipts))]
    requester.tell(ev.ReceiptsAnswered("n1", ((1, b""), (2, b""))), seconds(2))
    requester.expire(seconds(4))
    assert requester.sent(fx.SendReceipts) == [fx.SendReceipts("n1", (receipts[2],))]


def test_a_refusal_to_sign_is_kept_with_the_receipt_once_and_the_receipt_goes_on_being_sent() -> None:
    requester = _requester()
    receipt = _done(requester, "j-1", 0)
    no = Refusal(RefusalReason.MALFORMED, "that is not what I bid")
    requester.tell(ev.ReceiptsAnswered("n1", (), no), 4000)
    assert requester.last.writes == [ReceiptRecord(TradeSide.BUYING, receipt, None, no)]
    requester.tell(ev.ReceiptsAnswered("n1", (), no), 5000)
    assert requester.last.writes == []
    requester.expire(seconds(2))
    assert requester.sent(fx.SendReceipts) == [fx.SendReceipts("n1", (receipt,))]


def test_work_that_is_called_off_after_its_report_gets_a_receipt_of_nothing() -> None:
    requester = _requester()
    requester.submit(now=0)
    requester.running("n1", 0)
    requester.report("n1", "e-2", 2000)
    requester.tell(ev.JobCancelled("j-1"), 3000)
    ((sent),) = requester.sent(fx.SendReceipts)
    (receipt,) = sent.receipts
    assert receipt.rejection is not None
    assert (receipt.rejection.kind, receipt.pay_microcredits) == (FaultKind.CALLED_OFF, 0)
    assert _moves(requester.last) == [(TransactionKind.REFUND, {"escrow:e-2": -100, "spent": 100})]


def test_a_result_that_cannot_be_fetched_gets_a_receipt_that_says_so() -> None:
    requester = _requester()
    requester.submit(now=0)
    requester.running("n1", 0)
    requester.report("n1", "e-2", 2000)
    requester.tell(ev.ResultUnavailable("e-2", "nobody has it"), 3000)
    receipt = requester.sent(fx.SendReceipts)[0].receipts[0]
    assert receipt.rejection == Fault(FaultKind.RESULT_UNAVAILABLE, "nobody has it")


@pytest.mark.parametrize("how", ["fault", "refused", "unanswered", "cancelled", "lapsed"])
def test_the_price_comes_back_without_a_receipt_where_no_result_was_reported(how: str) -> None:
    requester = _requester()
    requester.submit(now=0)
    if how in ("refused", "unanswered"):
        requester.bid("n1", now=0)
    else:
        requester.running("n1", 0)
    match how:
        case "fault":
            requester.report("n1", "e-2", 10, fault=Fault(FaultKind.ENGINE_FAILED, "broken"))
        case "refused":
            requester.refuse_award("e-2", RefusalReason.CREDIT_LIMIT, 10)
        case "unanswered":
            requester.expire(seconds(5))
        case "cancelled":
            requester.tell(ev.JobCancelled("j-1"), 10)
        case "lapsed":
            requester.expire(seconds(30))
            requester.hear("n2", now=seconds(31))
            requester.bid("n2", now=seconds(31))
    refunds = [moves for moves in _moves(requester.all) if moves[0] is TransactionKind.REFUND]
    assert refunds == [(TransactionKind.REFUND, {"escrow:e-2": -100, "spent": 100})]
    assert [send for send in requester.all.sends if isinstance(send, fx.SendReceipts)] == []


def test_no_more_time_is_paid_for_than_passed_between_award_and_report() -> None:
    requester = _requester()
    receipt = _done(requester, "j-1", 0, wall_us=seconds(60))
    assert (receipt.usage.wall_us, receipt.pay_microcredits) == (2000, 10)


def test_a_restarted_requester_sends_what_is_unsigned_and_counts_on() -> None:
    requester = _requester()
    first, second = _done(requester, "j-1", 0), _done(requester, "j-2", seconds(1) // 2)
    requester.tell(ev.ReceiptsAnswered("n1", ((1, b""),)), seconds(1))
    payable = [write for write in requester.all.writes if isinstance(write, PayableRecord)][-1]
    again = Requester(NODE)
    kept = Books((payable,), (ReceiptRecord(TradeSide.BUYING, second, None),))
    again.took(again.machine.restore((), (), (), kept, now=seconds(2)))
    again.machine.check()
    assert again.sent(fx.SendReceipts) == [fx.SendReceipts("n1", (second,))]
    again.hear("n1", now=seconds(2))
    third = _done(again, "j-3", seconds(2))
    assert (third.sequence, third.balance_microcredits) == (3, 30)
    assert first.sequence == 1


def test_a_settlement_note_counts_once_and_an_older_one_not_at_all() -> None:
    requester = _requester()
    _done(requester, "j-1", 0)
    note = SettlementNote("n1", "r1", 2, 30, 5)
    requester.tell(ev.NoteReceived(note), seconds(1))
    assert _moves(requester.last) == [(TransactionKind.SETTLEMENT_PAID, {"payable:n1": -30, "paid": 30})]
    for repeated in (note, replace(note, sequence=1, settled_microcredits=4)):
        requester.tell(ev.NoteReceived(repeated), seconds(2))
        assert requester.last == fx.Effects()
    assert requester.machine.payables.balances["n1"] == Balance(1, 10, 2, 30)


@pytest.mark.parametrize(("creditor", "settled"), [("stranger", 5), ("n1", 0)])
def test_a_note_that_says_nothing_new_or_is_of_nobody_who_was_owed_is_refused(
    creditor: str, settled: int
) -> None:
    requester = _requester()
    _done(requester, "j-1", 0)
    requester.tell(ev.NoteReceived(SettlementNote(creditor, "r1", 1, settled, 5)), seconds(1))
    assert requester.refusal() is RefusalReason.MALFORMED


# --- the compute node ---


def _compute(limit: int = 1000, bound: int = 1000) -> Compute:
    return Compute(replace(a_compute_config(), node_id="n1", credit=CreditPolicy(limit, bound)))


REPORT = ExecutionReport("e-1", 1, RESULT, 0, Usage(wall_us=seconds(6)))


def _work(compute: Compute) -> WorkRecord:
    return [write for write in compute.all.writes if isinstance(write, WorkRecord)][-1]


def test_a_receipt_settles_its_work_and_is_owed_from_then_on() -> None:
    compute = _compute()
    receipt = compute.taken()
    credit = compute.machine.receivables.credit
    assert (_work(compute).state, credit.exposure("r1")) == (WorkState.TAKEN, 100)
    compute.tell(ev.ReceiptReceived(receipt, b"theirs"), seconds(8))
    assert _moves(compute.last) == [(TransactionKind.EARNING, {"receivable:r1": -10, "earned": 10})]
    assert ReceiptRecord(TradeSide.SELLING, receipt, b"theirs") in compute.last.writes
    work = _work(compute)
    assert (work.state, work.paid_microcredits, work.receipt_sequence) == (WorkState.SETTLED, 10, 1)
    assert (credit.exposure("r1"), compute.machine.deadline()) == (10, None)


def test_a_receipt_that_comes_again_or_before_the_reports_answer_counts_once() -> None:
    compute = _compute()
    compute.accepted(now=0)
    compute.tell(ev.ExecutionEnded(REPORT), seconds(6))
    award = _work(compute).award
    receipt = replace(
        a_receipt(),
        bid_id=award.bid_id,
        payment=award.payment,
        bid_set_digest=award.bid_set_digest,
        pay_microcredits=100,
        balance_microcredits=100,
    )
    compute.tell(ev.ReceiptReceived(receipt), seconds(7))
    assert _work(compute).paid_microcredits == 100
    for event in (ev.ReceiptReceived(receipt, ended=_work(compute)), ev.ReportAnswered("e-1")):
        compute.tell(event, seconds(8))
        assert compute.last == fx.Effects()
    assert compute.machine.receivables.records["r1"].balance == Balance(1, 100)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sequence": 2}, RefusalReason.WRONG_STATE),
        ({"pay_microcredits": 9, "balance_microcredits": 9}, RefusalReason.MALFORMED),
        ({"balance_microcredits": 11}, RefusalReason.MALFORMED),
        ({"node_id": "n2"}, RefusalReason.MALFORMED),
        ({"requester_id": "r2"}, RefusalReason.NOT_FOUND),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_receipt_whose_sums_are_wrong_or_that_is_not_for_this_work_is_refused_and_moves_nothing(
    change: dict[str, object], reason: RefusalReason
) -> None:
    compute = _compute()
    receipt = compute.taken()
    compute.tell(ev.ReceiptReceived(replace(receipt, **change)), seconds(8))  # type: ignore[arg-type]
    assert (compute.refusal(), compute.last.writes) == (reason, [])
    compute.tell(ev.ReceiptReceived(receipt), seconds(9))
    assert compute.refusal() is None


def test_a_second_receipt_for_one_execution_is_refused() -> None:
    compute = _compute()
    receipt = compute.taken()
    compute.tell(ev.ReceiptReceived(receipt), seconds(8))
    second = replace(receipt, sequence=2, balance_microcredits=20)
    compute.tell(ev.ReceiptReceived(second, ended=_work(compute)), seconds(9))
    assert compute.refusal() is RefusalReason.MALFORMED


def test_a_receipt_of_nothing_settles_its_work_unpaid() -> None:
    compute = _compute()
    receipt = compute.taken()
    gone = Fault(FaultKind.RESULT_UNAVAILABLE, "gone")
    rejected = replace(receipt, rejection=gone, pay_microcredits=0, balance_microcredits=0)
    compute.tell(ev.ReceiptReceived(rejected), seconds(8))
    work = _work(compute)
    assert (work.state, work.paid_microcredits, work.receipt_sequence) == (WorkState.SETTLED, 0, 1)
    assert compute.machine.receivables.credit.exposure("r1") == 0


def test_work_that_is_not_paid_in_its_time_is_disputed_and_a_late_receipt_settles_it() -> None:
    compute = _compute()
    receipt = compute.taken()
    compute.expire(seconds(7 + 100))
    work, credit = _work(compute), compute.machine.receivables.credit
    assert (work.state, credit.exposure("r1"), credit.committed("r1")) == (WorkState.DISPUTED, 10, 0)
    assert compute.machine.receivables.records["r1"].disputed_microcredits == 10
    compute.tell(ev.ReceiptReceived(receipt, ended=work), seconds(200))
    assert (_work(compute).state, _work(compute).paid_microcredits) == (WorkState.SETTLED, 10)
    assert compute.machine.receivables.records["r1"].disputed_microcredits == 0
    assert credit.exposure("r1") == 10


def test_after_a_restart_taken_work_still_waits_for_its_receipt_until_the_same_time() -> None:
    compute = _compute()
    receipt = compute.taken()
    again = _compute()
    again.took(again.machine.restore([_work(compute)], now=seconds(50)))
    again.machine.check()
    assert again.machine.deadline() == seconds(107)
    again.tell(ev.ReceiptReceived(receipt), seconds(60))
    assert _work(again).paid_microcredits == 10


def test_an_offer_whose_price_is_more_than_the_credit_that_is_left_is_declined() -> None:
    compute = _compute(limit=150)
    compute.accepted(now=0)
    compute.offer(an_offer(id="o-2"), now=1)
    assert compute.declines() == [RefusalReason.CREDIT_LIMIT]
    compute.offer(an_offer(id="o-3"), now=1, requester_id="r2")
    assert compute.declines() == []


@pytest.mark.parametrize("rule", list(ClearingRule))
def test_a_bid_needs_credit_for_the_most_that_its_award_may_pay(rule: ClearingRule) -> None:
    compute = _compute(limit=150)
    compute.offer(replace(an_offer(), clearing_rule=rule, max_price_microcredits=150), now=0)
    assert len(compute.sent(fx.SendBid)) == 1
    compute = _compute(limit=150)
    compute.offer(replace(an_offer(), clearing_rule=rule, max_price_microcredits=151), now=0)
    assert compute.declines() == ([RefusalReason.CREDIT_LIMIT] if rule.needs_reserve else [])


def test_a_node_gives_itself_any_credit() -> None:
    compute = _compute(limit=0)
    compute.offer(an_offer(), now=0, requester_id="n1")
    assert len(compute.sent(fx.SendBid)) == 1


def test_a_bid_that_stands_is_on_credit_so_that_its_award_is_taken() -> None:
    """Two bids that fit the credit one by one, and not together, would make the node refuse an award of one."""
    compute = _compute(limit=150)
    credit = compute.machine.receivables.credit
    compute.offer(an_offer(id="o-1"), now=0)
    bid = compute.sent(fx.SendBid)[-1].bid
    assert credit.committed("r1") == 100
    compute.offer(an_offer(id="o-2"), now=0)
    assert compute.declines() == [RefusalReason.CREDIT_LIMIT]
    compute.award(an_award(offer_id="o-1", bid_id=bid.id), now=1)
    assert (compute.refusal(), credit.committed("r1")) == (None, 100)


@pytest.mark.parametrize("end", ["expired", "closed", "withdrawn"])
def test_a_bid_that_stands_no_more_gives_its_credit_back(end: str) -> None:
    compute = _compute(limit=150)
    compute.offer(an_offer(), now=0)
    match end:
        case "expired":
            compute.expire(seconds(10))
        case "closed":
            compute.tell(ev.OfferClosedReceived("r1", "o-1"), 1)
        case "withdrawn":
            compute.tell(ev.ShutdownBegun(), 1)
    assert compute.machine.receivables.credit.exposure("r1") == 0


def test_a_settlement_note_frees_credit_and_is_sent_until_the_debtor_has_signed_it() -> None:
    compute = _compute(limit=100)
    compute.tell(ev.ReceiptReceived(compute.taken()), seconds(8))
    compute.offer(an_offer(id="o-2"), now=seconds(9))
    assert compute.declines() == [RefusalReason.CREDIT_LIMIT]
    compute.tell(ev.SettlementRecorded("r1", 10, "q-1"), seconds(10))
    note = SettlementNote("n1", "r1", 1, 10, seconds(10))
    assert compute.sent(fx.SendNote) == [fx.SendNote("r1", note)]
    compute.offer(an_offer(id="o-3"), now=seconds(10))
    assert compute.declines() == []
    compute.expire(seconds(11))
    (again,) = compute.sent(fx.SendNote)
    assert replace(again.note, time_us=note.time_us) == note
    compute.tell(ev.NoteSigned(again.note, b"theirs"), seconds(12))
    assert compute.machine.receivables.records["r1"].signed_note == 1
    compute.machine.check()


def test_a_settlement_of_somebody_who_never_owed_anything_is_refused() -> None:
    compute = _compute()
    compute.tell(ev.SettlementRecorded("r1", 10), 5)
    assert compute.refusal() is RefusalReason.NOT_FOUND


def test_trust_raises_the_limit_of_one_peer_and_outlives_a_restart() -> None:
    compute = _compute(limit=50)
    compute.offer(now=0)
    assert compute.declines() == [RefusalReason.CREDIT_LIMIT]
    compute.tell(ev.PeerTrusted("r1", 100), 1)
    (record,) = compute.last.writes
    again = _compute(limit=50)
    again.took(again.machine.restore((), (), Books(receivables=(record,)), now=2))  # type: ignore[arg-type]
    for one in (compute, again):
        one.offer(an_offer(id="o-2"), now=3)
        assert one.declines() == []


@pytest.mark.parametrize("with_a_bid", [False, True])
def test_an_award_under_the_id_of_work_that_has_ended_starts_nothing(with_a_bid: bool) -> None:
    compute = _compute()
    compute.tell(ev.ReceiptReceived(compute.taken()), seconds(8))
    ended = _work(compute)
    compute.tell(ev.AwardReceived("r1", ended.award, b"", ended), seconds(9))
    assert compute.last == fx.Effects()
    award = replace(ended.award, price_microcredits=1)
    if with_a_bid:
        compute.offer(an_offer(id="o-2"), now=seconds(9))
        bid = compute.sent(fx.SendBid)[-1].bid
        award = an_award(offer_id="o-2", bid_id=bid.id)
    compute.tell(ev.AwardReceived("r1", award, b"digest of the spec", ended), seconds(9))
    assert (compute.refusal(), compute.last.starts) == (RefusalReason.ID_REUSED, [])


def test_a_late_report_undoes_no_end_that_the_store_has_not_seen_yet() -> None:
    """The driver asks the store where the machine has forgotten the job; a slow disk may be behind."""
    requester = _requester()
    requester.submit()
    execution_id = requester.running("n1", 0)
    before = requester.execution(execution_id)
    answer = answer_late_report(before, ev.ReportReceived("n1", a_report(execution_id)))
    assert answer.refusal is not None
    assert answer.refusal.reason is RefusalReason.WRONG_STATE
    assert answer.writes == []
