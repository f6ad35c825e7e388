"""What the machines write down of those they deal with, and whom they leave alone for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bacalhau.market.reputation import NEW_SCORE_PPM
from bacalhau.model.execution import ExecutionReport, Fault, FaultKind
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.reputation import Conduct, Reputation, Role
from bacalhau.model.verification import Verification, VerificationPolicy
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.config import ComputeConfig, RequesterConfig
from tests.builders import a_compute_config, a_policy, a_report, a_spec, an_offer
from tests.scheduler.driven import Compute, Requester, seconds

PICKY = 300_000
COMPARED = Verification(VerificationPolicy.REPLICATED, 2)


def written(machine: Requester | Compute, node_id: str) -> dict[str, int]:
    """The last that was written of a node."""
    found = [w for w in machine.all.writes if isinstance(w, Reputation) and w.node_id == node_id]
    return {seen.conduct.name: seen.count for seen in found[-1].counts} if found else {}


# --- of compute nodes ---


def test_a_completed_execution_is_written_with_the_commit_that_completes_it() -> None:
    requester = Requester()
    requester.hear("n1")
    requester.submit()
    execution_id = requester.running("n1", 0)
    requester.report("n1", execution_id, seconds(1))
    requester.tell(ev.ResultFetched(execution_id), seconds(2))
    (last,) = [write for write in requester.last.writes if isinstance(write, Reputation)]
    assert (last.node_id, last.role, last.count(Conduct.COMPLETED)) == ("n1", Role.COMPUTE, 1)
    assert requester.machine.reputations.score_ppm("n1", seconds(2)) == 666_666


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        (FaultKind.ENGINE_FAILED, {"FAILED": 1}),
        (FaultKind.STORAGE_FULL, {"FAILED": 1}),
        (FaultKind.NODE_RESTARTED, {"FAILED": 1}),
        (FaultKind.OUT_OF_MEMORY, {}),
        (FaultKind.INPUT_UNAVAILABLE, {}),
        (FaultKind.IMAGE_UNAVAILABLE, {}),
    ],
)
def test_a_node_answers_for_its_own_faults_and_not_for_those_of_the_job(
    kind: FaultKind, seen: dict[str, int]
) -> None:
    requester = Requester()
    requester.hear("n1")
    requester.submit()
    execution_id = requester.running("n1", 0)
    requester.report("n1", execution_id, seconds(1), fault=Fault(kind, "no"))
    assert written(requester, "n1") == seen


@pytest.mark.parametrize(
    "ended", [RefusalReason.BID_UNKNOWN, RefusalReason.SHUTTING_DOWN, RefusalReason.CREDIT_LIMIT]
)
def test_a_refused_award_counts_and_one_whose_bid_had_ended_does_not(ended: RefusalReason) -> None:
    requester = Requester()
    requester.hear("n1", "n2")
    requester.submit(a_spec(count=2))
    requester.bid("n1", now=0)
    requester.bid("n2", now=0)
    first, second = (send.award.execution_id for send in requester.sent(fx.SendAward))
    requester.refuse_award(first, ended, seconds(1))
    requester.refuse_award(second, RefusalReason.MALFORMED, seconds(1))
    assert (written(requester, "n1"), written(requester, "n2")) == ({}, {"REFUSED": 1})


def test_a_node_whose_work_is_given_away_is_late() -> None:
    requester = Requester()
    requester.hear("n1")
    requester.submit()
    requester.running("n1", 0)
    requester.hear("n2", now=seconds(29))
    requester.expire(seconds(30))
    assert written(requester, "n1") == {}
    requester.running("n2", seconds(31))
    assert written(requester, "n1") == {"LATE": 1}


# --- the filter of a requester ---


def test_a_node_below_the_least_reputation_gets_no_offer_and_its_bid_is_refused() -> None:
    requester = Requester(RequesterConfig(min_reputation_ppm=PICKY))
    requester.machine.reputations.note("n1", Conduct.CHEATED, 0)
    requester.hear("n1", "n2")
    requester.submit()
    assert [send.to for send in requester.sent(fx.SendOffer)] == [("n2",)]
    requester.bid("n1", 1, now=0)
    assert requester.refusal() is RefusalReason.REPUTATION
    assert requester.last.refusal is not None
    assert requester.last.refusal.figures == (("score_ppm", 45_454), ("least_score_ppm", PICKY))
    requester.bid("n2", 100, now=0)
    assert requester.awards() == [("n2", 100)]


def test_an_unknown_node_is_dealt_with_unless_its_operator_wants_better() -> None:
    for least, offered in ((NEW_SCORE_PPM, 1), (NEW_SCORE_PPM + 1, 0)):
        requester = Requester(RequesterConfig(min_reputation_ppm=least))
        requester.hear("n1")
        requester.submit()
        assert len(requester.sent(fx.SendOffer)) == offered


def test_a_node_that_comes_later_is_offered_the_job_only_where_its_reputation_allows() -> None:
    requester = Requester(RequesterConfig(min_reputation_ppm=PICKY))
    requester.machine.reputations.note("n1", Conduct.CHEATED, 0)
    requester.submit()
    requester.hear("n1", now=seconds(1))
    assert requester.sent(fx.SendOffer) == []
    requester.hear("n2", now=seconds(1))
    assert [send.to for send in requester.sent(fx.SendOffer)] == [("n2",)]


@pytest.mark.parametrize("sample", [0, 1])
def test_a_job_does_not_wait_for_nodes_that_it_is_not_offered_to(sample: int) -> None:
    requester = Requester(RequesterConfig(min_reputation_ppm=PICKY, offer_sample=sample))
    for node_id in ("n1", "n2"):
        requester.machine.reputations.note(node_id, Conduct.CHEATED, 0)
    requester.hear("n1", "n2")
    requester.submit()
    requester.expire(seconds(1))
    assert requester.failure().kind is FaultKind.NO_NODE


def test_nor_for_a_busy_one_whose_reputation_fell_below_the_least_meanwhile() -> None:
    requester = Requester(RequesterConfig(min_reputation_ppm=PICKY))
    requester.hear("n1")
    requester.submit()
    requester.decline("n1", RefusalReason.BUSY, now=1)
    assert requester.machine.open_jobs == 1
    requester.machine.reputations.note("n1", Conduct.CHEATED, 2)
    requester.hear("n1", now=seconds(5))
    requester.expire(seconds(5) + 1)
    assert requester.failure().kind is FaultKind.NO_NODE


# --- the filter of a compute node, and what it sees ---


def picky() -> Compute:
    return Compute(ComputeConfig(a_policy(), min_reputation_ppm=PICKY))


def test_the_offer_of_a_requester_below_the_least_reputation_is_declined() -> None:
    compute = picky()
    for _ in range(2):
        compute.machine.reputations.note("r1", Conduct.ABANDONED, 0)
    compute.offer(now=0)
    assert compute.declines() == [RefusalReason.REPUTATION]
    compute.offer(an_offer(id="o-2"), now=0, requester_id="r2")
    assert len(compute.sent(fx.SendBid)) == 1


def test_a_requester_that_pays_is_known_for_it() -> None:
    compute = Compute(replace(a_compute_config(), node_id="n1"))
    receipt = compute.taken()
    assert written(compute, "r1") == {}
    compute.tell(ev.ReceiptReceived(receipt), seconds(8))
    assert written(compute, "r1") == {"PAID": 1}


@pytest.mark.parametrize(
    ("verification", "kind", "seen"),
    [
        (Verification(), FaultKind.RESULT_UNAVAILABLE, {"DISPUTED": 1}),
        (Verification(), FaultKind.CALLED_OFF, {"DISPUTED": 1}),
        (Verification(), FaultKind.RESULT_REFUTED, {"DISPUTED": 1}),
        (COMPARED, FaultKind.RESULT_UNAVAILABLE, {"DISPUTED": 1}),
        (COMPARED, FaultKind.RESULT_REFUTED, {}),
        (COMPARED, FaultKind.NO_AGREEMENT, {}),
    ],
)
def test_who_rejects_a_result_that_no_comparison_refuted_is_known_for_it(
    verification: Verification, kind: FaultKind, seen: dict[str, int]
) -> None:
    compute = Compute(replace(a_compute_config(), node_id="n1"))
    receipt = compute.taken(verification=verification)
    nothing = replace(receipt, rejection=Fault(kind, "no"), pay_microcredits=0, balance_microcredits=0)
    compute.tell(ev.ReceiptReceived(nothing), seconds(8))
    assert compute.refusal() is None
    assert written(compute, "r1") == seen


@pytest.mark.parametrize(
    ("report", "seen"),
    [(a_report(), {"DISPUTED": 1}), (a_report(fault=Fault(FaultKind.OUT_OF_MEMORY, "too much")), {})],
)
def test_who_refuses_the_report_of_a_result_is_known_for_it(
    report: ExecutionReport, seen: dict[str, int]
) -> None:
    compute = Compute()
    compute.accepted(now=0)
    compute.tell(ev.ExecutionEnded(report), seconds(1))
    refusal = Refusal(RefusalReason.LEASE_ENDED, "that was given away")
    compute.tell(ev.ReportAnswered("e-1", refusal), seconds(2))
    assert written(compute, "r1") == seen


def test_a_requester_that_takes_the_report_and_signs_no_receipt_is_disputed() -> None:
    compute = Compute(replace(a_compute_config(), node_id="n1"))
    compute.taken(accept_within_us=seconds(100))
    compute.expire(seconds(107))
    assert written(compute, "r1") == {"DISPUTED": 1}


def test_a_requester_that_never_answers_has_abandoned_its_work() -> None:
    compute = Compute()
    compute.accepted(now=0)
    compute.tell(ev.ExecutionEnded(a_report()), seconds(1))
    while compute.machine.unsettled:
        due = compute.machine.deadline()
        assert due is not None
        compute.expire(due)
    assert written(compute, "r1") == {"ABANDONED": 1}


def test_what_is_restored_filters_as_what_was_seen() -> None:
    cheated = Requester()
    reputation = cheated.machine.reputations.note("n1", Conduct.CHEATED, 0)
    requester = Requester(RequesterConfig(min_reputation_ppm=PICKY))
    requester.machine.restore([], [], [reputation], now=0)
    requester.hear("n1")
    requester.submit()
    assert requester.sent(fx.SendOffer) == []
