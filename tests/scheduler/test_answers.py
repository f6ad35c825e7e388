"""Answers to a compute node's reports, commitments and renewals: which refusal ends its work, and which may pass."""

from __future__ import annotations

import pytest

from bacalhau.model.refusals import ENDS_WORK, Refusal, RefusalReason
from bacalhau.model.verification import ResultCommitment, Verification, VerificationPolicy
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.records import WorkState
from tests.builders import a_report, a_spec, an_award
from tests.scheduler.driven import Compute, seconds

JUST_ENDING = Refusal(RefusalReason.WRONG_STATE, "e-1 is just ending: report it again")


@pytest.mark.parametrize("reason", RefusalReason)
def test_a_report_is_settled_by_a_refusal_that_ends_it_and_repeated_after_any_other(
    compute: Compute, reason: RefusalReason
) -> None:
    compute.accepted(now=0)
    compute.tell(ev.ExecutionEnded(a_report()), 10)
    compute.tell(ev.ReportAnswered("e-1", Refusal(reason, "no")), 20)
    work = compute.machine.work("e-1")
    assert (work is None) is (reason in ENDS_WORK)
    if work is not None:
        assert work.state is WorkState.REPORTED
        compute.expire(seconds(2))
        assert compute.sent(fx.SendReport) == [fx.SendReport("r1", a_report())]
        compute.tell(ev.ReportAnswered("e-1"), seconds(3))
        assert compute.machine.reputations.of("r1") is None


def test_a_commitment_that_is_refused_for_now_is_sent_again(compute: Compute) -> None:
    verification = Verification(VerificationPolicy.REPLICATED, 2)
    compute.offer(now=0)
    compute.award(an_award(spec=a_spec(verification=verification)), now=0)
    commitment = ResultCommitment("e-1", 1, b"d" * 32)
    compute.tell(ev.ExecutionEnded(a_report(), commitment), 10)
    compute.tell(ev.CommitmentAnswered("e-1", JUST_ENDING), 20)
    compute.expire(seconds(2))
    assert compute.sent(fx.SendCommitment) == [fx.SendCommitment("r1", commitment)]


def test_a_renewal_that_is_refused_for_now_stops_nothing(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.tell(ev.RenewalRefused("e-1", Refusal(RefusalReason.LIMIT_REACHED, "later")), seconds(1))
    assert compute.last == fx.Effects()
    compute.expire(seconds(10))
    assert [send.renewal.execution_id for send in compute.sent(fx.SendRenewal)] == ["e-1"]
