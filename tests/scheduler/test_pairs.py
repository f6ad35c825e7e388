"""The two halves of a pair's books: whatever happens to its trades, both come to the same balance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market import ledger as books
from bacalhau.market.credit import CreditPolicy
from bacalhau.market.ledger import Ledger
from bacalhau.market.payment import moved_microcredits, pay_microcredits, shortfall_microcredits
from bacalhau.model.cid import Cid
from bacalhau.model.execution import ExecutionState, Fault, FaultKind, Usage
from bacalhau.model.ledger import Balance, Receipt, TradeSide
from bacalhau.model.market import PaymentTerms
from bacalhau.model.refusals import RefusalReason
from bacalhau.model.reputation import Conduct
from bacalhau.model.units import PPM, SECOND_US
from bacalhau.model.verification import Verification, VerificationPolicy
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.deadlines import Deadlines
from bacalhau.scheduler.payables import Payables
from bacalhau.scheduler.receivables import Receivables, due_microcredits
from bacalhau.scheduler.records import (
    Books,
    ExecutionRecord,
    ReceiptRecord,
    ReceivableRecord,
    WorkRecord,
    WorkState,
)
from bacalhau.scheduler.requester import RequesterConfig
from tests.builders import a_compute_config, a_receipt, a_report, a_spec, an_award
from tests.scheduler.driven import Compute, seconds

SPEC = a_spec(verification=Verification(VerificationPolicy.REPLICATED, 2))
REFUTED = Fault(FaultKind.RESULT_REFUTED, "others agree")
GONE = Fault(FaultKind.RESULT_UNAVAILABLE, "gone")


@dataclass(frozen=True)
class Trade:
    """How long the program ran by its node, how long that took by the requester, and what the requester found."""

    price: int
    floor_ppm: int
    wall_us: int
    passed_us: int
    fault: Fault | None
    bond: int


TRADES = st.builds(
    Trade,
    st.integers(0, 10**6),
    st.integers(0, PPM),
    st.integers(0, 90 * SECOND_US),
    st.integers(0, 90 * SECOND_US),
    st.sampled_from([None, None, GONE, REFUTED]),
    st.integers(0, 10**6),
)


class Pair:
    """A requester's half and a compute node's half of the books between them."""

    def __init__(self, limit: int = 1000) -> None:
        self.payables = Payables(RequesterConfig(node_id="r1"), Deadlines())
        self.config = replace(a_compute_config(), node_id="n1", credit=CreditPolicy(limit, limit))
        self.receivables = Receivables(self.config, Deadlines())
        self.works: dict[str, WorkRecord] = {}
        self.receipts: dict[int, Receipt] = {}
        """By sequence: every receipt that was sent."""

    def trade(self, number: int, trade: Trade) -> None:
        """The award, the report and the verdict; the receipt is not sent yet."""
        id, payment = f"e-{number}", PaymentTerms(trade.floor_ppm)
        award = an_award(execution_id=id, price_microcredits=trade.price, spec=SPEC)
        award = replace(award, payment=payment, bond_microcredits=trade.bond)
        report = replace(a_report(id), usage=Usage(wall_us=trade.wall_us))
        awarded = ExecutionRecord(
            id, award.job_id, award.offer_id, award.bid_id, "n1", ExecutionState.AWARDED, trade.price, 0, 0, 0, b"",
            payment=payment, bond_microcredits=trade.bond,
        )  # fmt: skip
        self.payables.moved(SPEC, None, awarded)
        revealed = replace(
            awarded,
            state=ExecutionState.REVEALED,
            report=report,
            committed_us=trade.passed_us,
            updated_us=200 * SECOND_US,
        )
        if trade.fault is None:
            due = self.payables.due(SPEC, revealed)
            ended = replace(revealed, state=ExecutionState.COMPLETED, charged_microcredits=due)
        else:
            penalty = trade.bond if trade.fault is REFUTED else 0
            ended = replace(
                revealed, state=ExecutionState.FAILED, failure=trade.fault, penalty_microcredits=penalty
            )
        self.payables.moved(SPEC, revealed, ended)
        self.works[id] = WorkRecord(award, "r1", WorkState.TAKEN, 1, 0, 0, report=report)
        self.receivables.commit(self.works[id])

    def deliver(self) -> None:
        """What the requester would send now is taken in that order; what the node signs comes back."""
        (sent,) = self.payables.send_again("n1", 0).sends
        assert isinstance(sent, fx.SendReceipts)
        assert all([self.taken(receipt) for receipt in sent.receipts])
        self.receipts.update((receipt.sequence, receipt) for receipt in sent.receipts)
        signed = tuple((receipt.sequence, b"") for receipt in sent.receipts)
        self.payables.answered(ev.ReceiptsAnswered("n1", signed), 0)

    def taken(self, receipt: Receipt, *, signed_before: bool = False) -> bool:
        """Whether the node signs it: it is the next, or was taken before."""
        if self.receivables.knows(receipt):
            return True
        work = self.works.get(receipt.execution_id)
        event = ev.ReceiptReceived(receipt, signed_before=signed_before)
        effects = self.receivables.take(event, work, 0)
        if effects.refusal is not None:
            assert effects.refusal.reason is RefusalReason.WRONG_STATE, effects.refusal
            return False
        if work is None:
            return True
        self.receivables.release(work)
        paid = receipt.pay_microcredits
        self.works[work.id] = replace(work, paid_microcredits=paid, receipt_sequence=receipt.sequence)
        return True

    def check(self) -> None:
        self.payables.check(())
        self.receivables.check([work for work in self.works.values() if not work.receipt_sequence])


@given(st.lists(st.tuples(TRADES, st.booleans()), min_size=1, max_size=12))
def test_no_trade_holds_up_those_after_it_and_both_sides_come_to_the_same_balance(
    trades: list[tuple[Trade, bool]],
) -> None:
    pair = Pair()
    for number, (trade, delivered) in enumerate(trades):
        pair.trade(number, trade)
        pair.check()
        if delivered:
            pair.deliver()
            pair.check()
    if pair.payables.unsigned("n1"):
        pair.deliver()
        pair.check()
    assert pair.payables.unsigned("n1") == 0
    owed, record = pair.payables.balances["n1"], pair.receivables.records["r1"]
    assert owed == record.balance
    assert pair.payables.ledger.balance("payable:n1") == -pair.receivables.ledger.balance("receivable:r1")
    paid = [(work, trade) for work, (trade, _) in zip(pair.works.values(), trades, strict=True)]
    assert all(work.paid_microcredits <= trade.price for work, trade in paid)
    accepted = [work for work, trade in paid if trade.fault is None]
    short = [shortfall_microcredits(due_microcredits(work), work.paid_microcredits) for work in accepted]
    assert record.disputed_microcredits == sum(short)
    assert_receipts_alone_give_both_ledgers(pair)


def assert_receipts_alone_give_both_ledgers(pair: Pair) -> None:
    """Whoever holds them comes to what both nodes have in their books."""
    sold, bought = Ledger(), Ledger()
    for sequence in range(1, len(pair.works) + 1):
        receipt = pair.receipts[sequence]
        moved = moved_microcredits(receipt)
        sold.post(books.earn("r1", receipt.execution_id, moved, 0))
        bought.post(books.owe("n1", receipt.execution_id, moved, 0))
        assert receipt.balance_microcredits == bought.balance("payable:n1")
    assert sold.balances == pair.receivables.ledger.balances
    assert bought.balances == pair.payables.ledger.balances


@given(st.lists(TRADES, min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=30))
def test_receipts_in_any_order_and_however_often_pay_each_trade_once(
    trades: list[Trade], deliveries: list[int]
) -> None:
    pair = Pair()
    for number, trade in enumerate(trades):
        pair.trade(number, trade)
    (sent,) = pair.payables.send_again("n1", 0).sends
    assert isinstance(sent, fx.SendReceipts)
    for index in deliveries:
        receipt = sent.receipts[index % len(sent.receipts)]
        taken = pair.taken(receipt)
        next_sequence = (
            pair.receivables.records["r1"].balance.sequence if "r1" in pair.receivables.records else 0
        )
        assert taken is (receipt.sequence <= next_sequence)
        pair.check()
    pair.deliver()
    pair.check()
    paid = sum(work.paid_microcredits for work in pair.works.values())
    penalties = sum(receipt.penalty_microcredits for receipt in sent.receipts)
    owed = pair.payables.balances["n1"]
    assert owed == pair.receivables.records["r1"].balance == Balance(len(trades), paid - penalties)


@pytest.mark.parametrize(
    ("counted_s", "pay", "disputed", "seen"),
    [
        (24, 40, 0, "PAID"),
        (23.8, 40, 0, "PAID"),
        (23.4, 39, 0, "PAID"),
        (12, 20, 20, "DISPUTED"),
        (0, 10, 30, "DISPUTED"),
    ],
)
def test_a_receipt_of_less_time_than_was_reported_is_taken_and_the_rest_disputed(
    counted_s: float, pay: int, disputed: int, seen: str
) -> None:
    compute = Compute(replace(a_compute_config(), node_id="n1"))
    receipt = compute.taken(wall_us=seconds(24))
    usage = replace(receipt.usage, wall_us=int(counted_s * SECOND_US))
    receipt = replace(receipt, usage=usage, pay_microcredits=pay, balance_microcredits=pay)
    compute.tell(ev.ReceiptReceived(receipt), seconds(40))
    assert compute.refusal() is None
    record = compute.machine.receivables.records["r1"]
    assert (record.balance, record.disputed_microcredits) == (Balance(1, pay), disputed)
    assert compute.machine.receivables.credit.exposure("r1") == pay + disputed
    known = compute.machine.reputations.of("r1")
    assert known is not None
    assert seen in {one.conduct.name for one in known.counts}


# --- receipts that say otherwise than award and report ---

WHOLE = PaymentTerms(PPM)
OTHER = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


@pytest.mark.parametrize(
    ("change", "pay", "disputed", "unearned"),
    [
        ({"price_microcredits": 50}, 20, 20, 0),
        ({"payment": PaymentTerms(PPM // 100)}, 40, 0, 0),
        ({"execution_timeout_us": seconds(120)}, 20, 20, 0),
        ({"price_microcredits": 1000}, 400, 0, 360),
        ({"payment": WHOLE}, 100, 0, 60),
        ({"usage": Usage(wall_us=seconds(30))}, 50, 0, 10),
        ({"usage": Usage(wall_us=seconds(24), cpu_us=1)}, 40, 0, 0),
        ({"bid_set_digest": bytes(31) + b"1"}, 40, 0, 0),
        ({"exit_code": 1}, 40, 0, 0),
        ({"result": Cid.parse(OTHER)}, 40, 0, 0),
        ({"job_id": "j-9", "offer_id": "o-9", "bid_id": "b-9"}, 40, 0, 0),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_receipt_that_says_otherwise_is_taken_as_it_is_and_the_next_one_follows_it(
    change: dict[str, Any], pay: int, disputed: int, unearned: int
) -> None:
    """24 of 60 seconds at 100 come to 40. What is left out is disputed; of what is said beyond that nothing was worked
    for on credit."""
    compute = Compute(replace(a_compute_config(), node_id="n1"))
    receipt = replace(
        compute.taken(wall_us=seconds(24)), **change, pay_microcredits=pay, balance_microcredits=pay
    )
    compute.tell(ev.ReceiptReceived(receipt, b"theirs"), seconds(40))
    assert compute.refusal() is None
    assert ReceiptRecord(TradeSide.SELLING, receipt, b"theirs") in compute.last.writes
    record = compute.machine.receivables.records["r1"]
    assert record == ReceivableRecord("r1", Balance(1, pay), disputed, unearned_microcredits=unearned)
    assert compute.machine.receivables.credit.exposure("r1") == 40
    known = compute.machine.reputations.of("r1")
    assert known is not None
    assert [one.conduct for one in known.counts] == [Conduct.DISPUTED]
    (work,) = [write for write in compute.last.writes if isinstance(write, WorkRecord)]
    assert (work.state, work.paid_microcredits, work.receipt_sequence) == (WorkState.SETTLED, pay, 1)
    nothing = a_receipt(execution_id="e-8", sequence=2, before=pay, rejection=GONE)
    compute.tell(ev.ReceiptReceived(nothing), seconds(41))
    assert compute.refusal() is None
    again = Compute(compute.config)
    again.took(again.machine.restore((), (), Books(receivables=(record,)), now=seconds(42)))
    again.machine.check()
    assert again.machine.receivables.credit.exposure("r1") == 40


def test_a_receipt_of_work_that_the_node_knows_nothing_of_is_owed_and_takes_no_credit() -> None:
    compute = Compute(replace(a_compute_config(), node_id="n1"))
    compute.tell(ev.ReceiptReceived(a_receipt(execution_id="e-9"), b"theirs"), 0)
    assert compute.refusal() is None
    record = compute.machine.receivables.records["r1"]
    assert record == ReceivableRecord("r1", Balance(1, 10), unearned_microcredits=10)
    assert compute.machine.receivables.ledger.balances == {"receivable:r1": -10, "earned": 10}
    assert compute.machine.receivables.credit.exposure("r1") == 0
    assert compute.machine.receivables.credit.unproven_exposure == 0
    assert compute.machine.reputations.of("r1") is None


def test_nobody_promises_more_beyond_its_work_than_it_may_owe() -> None:
    """Promises are free, and so are keys: the books of a node are not to be filled with them."""
    config = replace(a_compute_config(), node_id="n1", credit=CreditPolicy(15, 100))
    compute = Compute(config)
    compute.tell(ev.ReceiptReceived(a_receipt(execution_id="e-8")), 0)
    more = a_receipt(execution_id="e-9", sequence=2, before=10)
    compute.tell(ev.ReceiptReceived(more), 1)
    assert (compute.refusal(), compute.last.writes) == (RefusalReason.CREDIT_LIMIT, [])
    compute.tell(ev.PeerTrusted("r1", 20), 2)
    compute.tell(ev.ReceiptReceived(more), 3)
    assert compute.refusal() is None


def test_a_receipt_of_work_that_still_runs_waits_until_it_has_ended() -> None:
    compute = Compute(replace(a_compute_config(), node_id="n1"))
    compute.accepted(now=0)
    compute.tell(ev.ReceiptReceived(a_receipt()), 1)
    assert (compute.refusal(), compute.last.writes) == (RefusalReason.WRONG_STATE, [])
    compute.tell(ev.ExecutionEnded(a_report()), 2)
    compute.tell(ev.ReceiptReceived(a_receipt()), 3)
    assert compute.refusal() is None


@pytest.mark.parametrize("bond", [0, 10])
def test_a_receipt_that_takes_a_penalty_which_no_award_allows_is_refused(bond: int) -> None:
    """Its signature would take money from the node: e-1 compares nothing, of e-9 it knows nothing."""
    compute = Compute(replace(a_compute_config(), node_id="n1"))
    right = compute.taken()
    for execution_id in ("e-1", "e-9"):
        taking = replace(
            right,
            execution_id=execution_id,
            rejection=REFUTED,
            pay_microcredits=0,
            bond_microcredits=10 + bond,
            penalty_microcredits=10,
            balance_microcredits=-10,
        )
        compute.tell(ev.ReceiptReceived(taking), seconds(40))
        assert (compute.refusal(), compute.last.writes) == (RefusalReason.MALFORMED, [])


@dataclass(frozen=True)
class Claim:
    """What a receipt says of a trade, whatever award and report say; `known`: of that trade, or of none at all."""

    price: int
    floor_ppm: int
    wall_us: int
    accepts: bool
    known: bool


CLAIMS = st.builds(
    Claim,
    st.integers(0, 10**6),
    st.integers(0, PPM),
    st.integers(0, 90 * SECOND_US),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(st.tuples(TRADES, CLAIMS), min_size=1, max_size=8))
def test_whatever_receipts_claim_none_holds_up_the_next_and_credit_counts_what_was_worked(
    trades: list[tuple[Trade, Claim]],
) -> None:
    pair, balance, worked = Pair(limit=10**9), 0, 0
    for number, (trade, claim) in enumerate(trades):
        pair.trade(number, trade)
        work = pair.works[f"e-{number}"]
        said = replace(
            a_receipt(execution_id=work.id if claim.known else f"e-none-{number}"),
            sequence=number + 1,
            price_microcredits=claim.price,
            payment=PaymentTerms(claim.floor_ppm),
            usage=Usage(wall_us=claim.wall_us),
            rejection=None if claim.accepts else GONE,
        )
        pay = pay_microcredits(claim.price, said.payment, said.usage, said.execution_timeout_us)
        pay = pay if claim.accepts else 0
        balance += pay
        receipt = replace(said, pay_microcredits=pay, balance_microcredits=balance)
        assert pair.taken(receipt)
        pair.check()
        if claim.known and claim.accepts:
            worked += due_microcredits(work)
    record = pair.receivables.records["r1"]
    assert record.balance == Balance(len(trades), balance)
    assert pair.receivables.ledger.balance("receivable:r1") == -balance
    unsettled = sum(
        work.award.price_microcredits for work in pair.works.values() if not work.receipt_sequence
    )
    assert pair.receivables.credit.exposure("r1") <= worked + unsettled
