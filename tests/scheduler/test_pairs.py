"""The two halves of a pair's books: whatever happens to its trades, both come to the same balance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market.payment import shortfall_microcredits
from bacalhau.model.execution import ExecutionState, Fault, FaultKind, Usage
from bacalhau.model.job import SECOND_US
from bacalhau.model.ledger import Balance, Receipt
from bacalhau.model.market import PPM, PaymentTerms
from bacalhau.model.refusals import RefusalReason
from bacalhau.model.verification import Verification, VerificationPolicy
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.deadlines import Deadlines
from bacalhau.scheduler.payables import Payables
from bacalhau.scheduler.receivables import Receivables, due_microcredits
from bacalhau.scheduler.records import ExecutionRecord, WorkRecord, WorkState
from bacalhau.scheduler.requester import RequesterConfig
from tests.builders import RESULT, a_compute_config, a_report, a_spec, an_award
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

    def __init__(self) -> None:
        self.payables = Payables(RequesterConfig(node_id="r1"), Deadlines())
        config = replace(a_compute_config(), node_id="n1")
        self.receivables = Receivables(config, Deadlines())
        self.works: dict[str, WorkRecord] = {}

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
        signed = tuple((receipt.sequence, b"") for receipt in sent.receipts)
        self.payables.answered(ev.ReceiptsAnswered("n1", signed), 0)

    def taken(self, receipt: Receipt) -> bool:
        """Whether the node signs it: it is the next, or was taken before."""
        if self.receivables.knows(receipt):
            return True
        work = self.works[receipt.execution_id]
        effects = self.receivables.take(ev.ReceiptReceived(receipt), work, 0)
        if effects.refusal is not None:
            assert effects.refusal.reason is RefusalReason.WRONG_STATE, effects.refusal
            return False
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


def test_a_receipt_of_more_time_than_was_reported_or_of_another_result_is_refused() -> None:
    compute = Compute(replace(a_compute_config(), node_id="n1"))
    receipt = compute.taken(wall_us=seconds(24))
    assert receipt.result == RESULT
    usage = replace(receipt.usage, wall_us=seconds(25))
    compute.tell(
        ev.ReceiptReceived(replace(receipt, usage=usage, pay_microcredits=42, balance_microcredits=42)), 0
    )
    assert compute.refusal() is RefusalReason.MALFORMED
