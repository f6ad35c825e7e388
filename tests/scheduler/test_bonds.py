"""Bonds: what a bid stakes, who loses it, and whose word is not enough for that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bacalhau.model.cid import DAG_PB, Cid
from bacalhau.model.execution import Fault, FaultKind
from bacalhau.model.ledger import Balance, Receipt, Transaction, TransactionKind
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.verification import Verification, VerificationPolicy
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.requester import RequesterConfig
from tests.builders import RESULT, a_compute_config, a_receipt, a_report, a_spec, an_award
from tests.scheduler.driven import Compute, Requester, seconds

NODE = RequesterConfig(node_id="r1")


def _moved(driven: Compute | Requester, kind: TransactionKind) -> list[dict[str, int]]:
    """Account and amount of each posting, by transaction of the last step."""
    moved = [write for write in driven.last.writes if isinstance(write, Transaction) and write.kind is kind]
    return [{one.account: one.amount_microcredits for one in each.postings} for each in moved]


def _committed(**results: Cid) -> tuple[Requester, dict[str, str]]:
    """A job that three nodes have bid 100 for, each with a bond of 40, run, and committed to; executions by node."""
    requester = Requester(NODE)
    requester.hear("n1", "n2", "n3")
    requester.submit(a_spec(count=3, verification=Verification(VerificationPolicy.REPLICATED, 2)))
    for node_id in ("n1", "n2", "n3"):
        requester.bid(node_id, now=0, bond=40)
    executions = {send.to: send.award.execution_id for send in requester.sent(fx.SendAward)}
    for node_id, execution_id in executions.items():
        requester.confirm(execution_id, 0)
        requester.commit(node_id, execution_id, seconds(1), result=results.get(node_id, RESULT))
    return requester, executions


def _receipts(requester: Requester) -> dict[str, Receipt]:
    return {send.to: send.receipts[0] for send in requester.all.sends if isinstance(send, fx.SendReceipts)}


def test_an_outvoted_node_whose_receipt_came_back_after_a_restore_keeps_what_both_had_signed() -> None:
    other = Cid.of(DAG_PB, b"another result")
    requester, executions = _committed(n3=other)
    signed = a_receipt(node_id="n3", execution_id=executions["n3"])
    requester.tell(ev.ReceiptsReturned("n3", ((signed, b"theirs"),)), seconds(2))
    requester.reveal("n1", executions["n1"], seconds(2))
    requester.reveal("n2", executions["n2"], seconds(2))
    requester.reveal("n3", executions["n3"], seconds(2), result=other)
    assert requester.execution(executions["n3"]).penalty_microcredits == 40
    escrow = f"escrow:{executions['n3']}"
    assert _moved(requester, TransactionKind.REFUND) == [{escrow: -100, "spent": 100}]
    assert "n3" not in _receipts(requester)
    assert requester.machine.payables.balances["n3"] == Balance(1, 10)


def test_an_outvoted_node_forfeits_the_bond_of_its_bid() -> None:
    other = Cid.of(DAG_PB, b"another result")
    requester, executions = _committed(n3=other)
    requester.reveal("n1", executions["n1"], seconds(2))
    requester.reveal("n2", executions["n2"], seconds(2))
    requester.reveal("n3", executions["n3"], seconds(2), result=other)
    assert requester.execution(executions["n3"]).penalty_microcredits == 40
    receipts = _receipts(requester)
    refuted = receipts["n3"]
    assert refuted.rejection is not None
    assert refuted.rejection.kind is FaultKind.RESULT_REFUTED
    assert (refuted.bond_microcredits, refuted.penalty_microcredits, refuted.pay_microcredits) == (40, 40, 0)
    assert {node_id: receipt.balance_microcredits for node_id, receipt in receipts.items()} == {
        "n1": 10,
        "n2": 10,
        "n3": -40,
    }
    assert requester.machine.payables.balances["n3"] == Balance(1, -40)
    refund = {f"escrow:{executions['n3']}": -100, "payable:n3": -40, "spent": 140}
    assert _moved(requester, TransactionKind.REFUND) == [refund]
    assert requester.machine.payables.ledger.balances == {
        "spent": 20,
        "payable:n1": 10,
        "payable:n2": 10,
        "payable:n3": -40,
    }


def test_a_node_that_does_not_reveal_keeps_its_bond() -> None:
    requester, executions = _committed()
    gone = Refusal(RefusalReason.NOT_FOUND, "gone")
    requester.tell(ev.RevealRefused(executions["n3"], gone), seconds(2))
    failed = requester.execution(executions["n3"])
    assert failed.failure is not None
    assert (failed.failure.kind, failed.penalty_microcredits) == (FaultKind.NOT_REVEALED, 0)
    assert "n3" not in _receipts(requester)


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in FaultKind if not kind.in_reports])
def test_what_is_for_its_requester_to_find_no_node_can_report(kind: FaultKind, committed: bool) -> None:
    """With RESULT_REFUTED a node would have named the penalty in its requester's books, with no receipt of it."""
    if committed:
        requester, executions = _committed()
        execution_id = executions["n1"]
    else:
        requester = Requester(NODE)
        requester.hear("n1")
        requester.submit()
        requester.bid("n1", 1, now=0, bond=10**12)
        execution_id = requester.sent(fx.SendAward)[-1].award.execution_id
        requester.confirm(execution_id, 0)
    before = dict(requester.machine.payables.ledger.balances)
    report = a_report(execution_id, result=None, fault=Fault(kind, "of myself"))
    requester.tell(ev.ReportReceived("n1", report), seconds(2))
    assert (requester.refusal(), requester.last.writes) == (RefusalReason.MALFORMED, [])
    assert requester.machine.payables.ledger.balances == before
    assert requester.conduct("n1") == {}


def _bonded(verification: Verification) -> tuple[Compute, Receipt]:
    """Work for a bid of 100 with a bond of 150, whose result its requester says to be refuted."""
    compute = Compute(replace(a_compute_config(), node_id="n1", bond_permille=1500))
    compute.offer(now=0)
    bid = compute.sent(fx.SendBid)[-1].bid
    assert (bid.price_microcredits, bid.bond_microcredits) == (100, 150)
    right = a_receipt(rejection=Fault(FaultKind.RESULT_REFUTED, "others agree"), bond=150, penalty=150)
    award = an_award(bid_id=bid.id, spec=a_spec(verification=verification))
    award = replace(award, bond_microcredits=150, bid_set_digest=right.bid_set_digest)
    compute.award(replace(award, bond_microcredits=149), now=0)
    assert compute.refusal() is RefusalReason.MALFORMED
    compute.award(award, now=0)
    assert compute.refusal() is None
    compute.tell(ev.ExecutionEnded(replace(a_report(), usage=right.usage)), seconds(6))
    compute.tell(ev.ReportAnswered("e-1"), seconds(7))
    return compute, replace(right, bid_id=bid.id, payment=award.payment)


def test_a_bid_names_the_bond_and_a_refuted_result_takes_it_off_what_is_owed() -> None:
    compute, receipt = _bonded(Verification(VerificationPolicy.REPLICATED, 2))
    compute.tell(ev.ReceiptReceived(receipt), seconds(8))
    assert _moved(compute, TransactionKind.EARNING) == [{"receivable:r1": 150, "earned": -150}]
    assert compute.machine.receivables.records["r1"].balance == Balance(1, -150)


def test_whose_results_nobody_compares_forfeits_no_bond() -> None:
    compute, receipt = _bonded(Verification())
    compute.tell(ev.ReceiptReceived(receipt), seconds(8))
    assert (compute.refusal(), compute.last.writes) == (RefusalReason.MALFORMED, [])
