"""Bonds: what a bid stakes, who loses it, and whose word is not enough for that."""

from __future__ import annotations

from dataclasses import replace

from bacalhau.model.execution import Fault, FaultKind
from bacalhau.model.ledger import Balance, Receipt, Transaction
from bacalhau.model.refusals import RefusalReason
from bacalhau.model.verification import Verification, VerificationPolicy
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.records import ExecutionRecord
from bacalhau.scheduler.requester import RequesterConfig
from tests.builders import a_compute_config, a_receipt, a_report, a_spec, an_award
from tests.scheduler.driven import Compute, Requester, seconds

NODE = RequesterConfig(node_id="r1")


def _earned(compute: Compute) -> list[dict[str, int]]:
    moved = [write for write in compute.last.writes if isinstance(write, Transaction)]
    return [{one.account: one.amount_microcredits for one in each.postings} for each in moved]


def test_only_a_refuted_result_forfeits_the_bond_of_its_nodes_bid() -> None:
    for kind, penalty in (
        (FaultKind.RESULT_REFUTED, 40),
        (FaultKind.NOT_REVEALED, 0),
        (FaultKind.NODE_LOST, 0),
    ):
        requester = Requester(NODE)
        requester.hear("n1", now=0)
        requester.submit(now=0)
        requester.running("n1", 0)
        requester.report("n1", "e-2", 2000)
        executions = requester.machine._executions
        job, execution = executions.find("e-2")
        assert job is not None
        assert execution is not None
        bonded = replace(execution, bond_microcredits=40)
        effects = executions.failed(job, bonded, Fault(kind, "no"), 3000)
        (failed,) = [write for write in effects.writes if isinstance(write, ExecutionRecord)]
        assert (failed.penalty_microcredits, failed.charged_microcredits) == (penalty, 0)
        (sent,) = [send for send in effects.sends if isinstance(send, fx.SendReceipts)]
        assert sent.receipts[0].balance_microcredits == -penalty


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
    assert _earned(compute) == [{"receivable:r1": 150, "earned": -150}]
    assert compute.machine.receivables.records["r1"].balance == Balance(1, -150)


def test_whose_results_nobody_compares_forfeits_no_bond() -> None:
    compute, receipt = _bonded(Verification())
    compute.tell(ev.ReceiptReceived(receipt), seconds(8))
    assert (compute.refusal(), compute.last.writes) == (RefusalReason.MALFORMED, [])
