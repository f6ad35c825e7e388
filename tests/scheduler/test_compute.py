"""The compute machine: offers, bids and the capacity behind them, awards, leases, reports, restarts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bacalhau.market.bidding import Answers, Ask
from bacalhau.model.execution import ExecutionPhase, Fault, FaultKind
from bacalhau.model.job import Engine, InputSource
from bacalhau.model.ledger import Balance
from bacalhau.model.market import ClaimedInput
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.reputation import Conduct, Reputation
from bacalhau.model.resources import Resources
from bacalhau.model.units import GIB
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.records import ReceivableRecord, WorkRecord, WorkState
from tests.builders import (
    MODULE,
    NODE_CAPACITY,
    RESULT,
    a_compute_config,
    a_policy,
    a_report,
    a_spec,
    an_award,
    an_offer,
)
from tests.scheduler.driven import Compute, seconds

if TYPE_CHECKING:
    from bacalhau.model.market import Award

WEEK = 7 * 24 * 3600

# --- offers and bids ---


def test_capacity_is_reserved_before_the_price_is_sent(compute: Compute) -> None:
    compute.offer()
    assert [send.bid.price_microcredits for send in compute.sent(fx.SendBid)] == [100]
    assert compute.free.cpu_millicores == 1000


def test_a_bid_that_is_not_awarded_in_time_gives_its_capacity_back(compute: Compute) -> None:
    compute.offer(now=0)
    compute.expire(seconds(10) - 1)
    assert compute.free.cpu_millicores == 1000
    compute.expire(seconds(10))
    assert compute.free == NODE_CAPACITY
    compute.award(now=seconds(10))
    assert compute.refusal() is RefusalReason.BID_UNKNOWN


def test_an_offer_that_closes_while_its_bid_stands_leaves_nothing_behind_even_if_the_node_wakes_late(
    compute: Compute,
) -> None:
    compute.offer(an_offer(open_for_us=seconds(5)), now=0)
    compute.expire(seconds(60))
    assert compute.free == NODE_CAPACITY
    assert compute.machine.deadline() is None


def test_a_busy_node_declines_with_figures_and_bids_when_capacity_is_free(compute: Compute) -> None:
    for number in (1, 2, 3):
        compute.offer(an_offer(id=f"o-{number}"), now=number)
    decline = compute.sent(fx.SendDecline)[0].decline
    assert decline.refusal.reason is RefusalReason.BUSY
    assert ("asked_cpu_millicores", 1000) in decline.refusal.figures
    assert ("free_cpu_millicores", 0) in decline.refusal.figures
    compute.tell(ev.OfferClosedReceived("r1", "o-1"), 10)
    assert [send.bid.offer_id for send in compute.sent(fx.SendBid)] == ["o-3"]


def test_waiting_offers_are_bid_for_oldest_first_as_far_as_they_fit(compute: Compute) -> None:
    compute.offer(an_offer(id="o-1", resources=NODE_CAPACITY), now=1)
    compute.offer(an_offer(id="o-2", resources=Resources(1500)), now=2)
    compute.offer(an_offer(id="o-3", resources=Resources(1000)), now=3)
    compute.offer(an_offer(id="o-4", resources=Resources(500)), now=4)
    compute.tell(ev.BidRefused("o-1", Refusal(RefusalReason.OFFER_CLOSED, "closed")), 10)
    assert [send.bid.offer_id for send in compute.sent(fx.SendBid)] == ["o-2", "o-4"]


def test_an_offer_that_the_node_could_never_take_is_declined_and_not_remembered(compute: Compute) -> None:
    compute.offer(an_offer(resources=Resources(cpu_millicores=4000)))
    assert compute.declines() == [RefusalReason.INFEASIBLE]
    assert compute.machine.deadline() is None


def test_a_repeated_offer_gets_the_same_bid_again(compute: Compute) -> None:
    compute.offer(now=0)
    first = compute.sent(fx.SendBid)
    compute.offer(now=10)
    assert compute.sent(fx.SendBid) == first
    assert compute.free.cpu_millicores == 1000


def test_a_repeated_offer_whose_bid_expired_gets_a_new_bid(compute: Compute) -> None:
    compute.offer(now=0)
    compute.expire(seconds(10))
    compute.offer(now=seconds(11))
    assert [send.bid.id for send in compute.sent(fx.SendBid)] == ["b-2"]


def test_an_offer_id_with_other_content_or_from_another_requester_is_refused(compute: Compute) -> None:
    compute.offer(now=0)
    compute.offer(an_offer(winners=2), now=10)
    assert compute.refusal() is RefusalReason.ID_REUSED
    compute.offer(now=20, requester_id="r2")
    assert compute.refusal() is RefusalReason.ID_REUSED


def test_a_stranger_cannot_close_an_offer(compute: Compute) -> None:
    compute.offer(now=0)
    compute.tell(ev.OfferClosedReceived("stranger", "o-1"), 10)
    compute.award(now=20)
    assert compute.refusal() is None


def test_what_is_found_outside_comes_before_the_bid(compute: Compute) -> None:
    compute.offer(an_offer(inputs=(ClaimedInput(MODULE, GIB),)), now=0)
    assert compute.last.starts == [
        fx.AskOutside(an_offer(inputs=(ClaimedInput(MODULE, GIB),)), Ask(True, False))
    ]
    assert compute.free == NODE_CAPACITY
    compute.tell(ev.AskAnswered("o-1", Answers(missing_input_bytes=GIB)), 10)
    assert len(compute.sent(fx.SendBid)) == 1
    compute.tell(ev.AskAnswered("o-1", Answers()), 20)
    assert compute.last.sends == []


def test_an_offer_that_closed_while_it_was_asked_about_gets_no_bid(compute: Compute) -> None:
    compute.offer(an_offer(inputs=(ClaimedInput(MODULE, GIB),)), now=0)
    compute.tell(ev.OfferClosedReceived("r1", "o-1"), 5)
    compute.tell(ev.AskAnswered("o-1", Answers()), 10)
    assert compute.last.sends == []


def test_a_probe_that_says_no_declines_with_its_words() -> None:
    compute = Compute(a_compute_config(policy=a_policy(probe=True)))
    compute.offer(now=0)
    compute.tell(ev.AskAnswered("o-1", Answers(probe_refusal="not on sundays")), 10)
    assert compute.sent(fx.SendDecline)[0].decline.refusal == Refusal(
        RefusalReason.PROBE, "this node's probe said no: not on sundays"
    )


def test_offers_above_the_limit_are_declined_with_its_name() -> None:
    compute = Compute(a_compute_config(remembered_offers_max=1))
    compute.offer(an_offer(id="o-1"))
    compute.offer(an_offer(id="o-2"))
    refusal = compute.sent(fx.SendDecline)[0].decline.refusal
    assert (refusal.reason, refusal.figures) == (RefusalReason.LIMIT_REACHED, (("remembered_offers_max", 1),))


def test_bids_for_an_engine_that_is_gone_are_taken_back(compute: Compute) -> None:
    for number in (1, 2, 3):
        compute.offer(an_offer(id=f"o-{number}"), now=number)
    compute.tell(ev.EnginesChanged((Engine.WASM,)), 10)
    assert sorted(send.decline.offer_id for send in compute.sent(fx.SendDecline)) == ["o-1", "o-2", "o-3"]
    assert set(compute.declines()) == {RefusalReason.ENGINE_MISSING}
    assert compute.free == NODE_CAPACITY
    compute.offer(an_offer(id="o-4"), now=20)
    assert compute.declines() == [RefusalReason.ENGINE_MISSING]


def test_a_node_that_shuts_down_takes_its_bids_back_and_no_new_work(compute: Compute) -> None:
    compute.offer(now=0)
    compute.tell(ev.ShutdownBegun(), 10)
    assert compute.declines() == [RefusalReason.SHUTTING_DOWN]
    assert compute.free == NODE_CAPACITY
    compute.award(now=20)
    assert compute.refusal() is RefusalReason.SHUTTING_DOWN
    compute.offer(an_offer(id="o-2"), now=30)
    assert compute.declines() == [RefusalReason.SHUTTING_DOWN]


# --- awards ---


def test_an_award_is_on_disk_before_the_work_starts(compute: Compute) -> None:
    compute.offer(now=0)
    compute.award(now=10)
    assert compute.last.writes == [WorkRecord(an_award(), "r1", WorkState.ACCEPTED, 1, 10, 10)]
    assert compute.last.starts == [fx.StartExecution("e-1", 1)]
    assert compute.machine.capacity.keys(hard=True) == ("e-1",)


def test_a_repeated_award_is_confirmed_and_starts_nothing(compute: Compute) -> None:
    compute.accepted()
    effects = compute.award(now=10)
    assert (effects.refusal, effects.writes, effects.starts) == (None, [], [])


def test_an_execution_id_is_not_taken_for_other_work(compute: Compute) -> None:
    compute.accepted()
    compute.award(an_award(price_microcredits=1), now=10)
    assert compute.refusal() is RefusalReason.ID_REUSED
    compute.award(now=20, requester_id="r2")
    assert compute.refusal() is RefusalReason.ID_REUSED


def test_an_execution_id_that_is_the_id_of_another_offer_breaks_nothing(compute: Compute) -> None:
    """Both ids are chosen by strangers; this once ended the node."""
    compute.offer(an_offer(id="o-1"), now=0)
    compute.offer(an_offer(id="o-2"), now=0)
    compute.award(an_award(execution_id="o-2"), now=10)
    assert compute.refusal() is None
    compute.award(an_award(execution_id="e-2", offer_id="o-2", bid_id="b-2"), now=20)
    assert compute.refusal() is None


def test_an_award_of_a_job_with_another_digest_is_refused(compute: Compute) -> None:
    compute.offer(now=0)
    compute.tell(ev.AwardReceived("r1", an_award(), b"other"), 10)
    assert compute.refusal() is RefusalReason.MALFORMED


def test_the_same_content_mounted_twice_is_one_input(compute: Compute) -> None:
    spec = a_spec(inputs=(InputSource(RESULT, "/a"), InputSource(RESULT, "/b")))
    compute.offer(an_offer(inputs=(ClaimedInput(RESULT, 1),)), now=0)
    compute.tell(ev.AskAnswered("o-1", Answers()), 5)
    compute.award(an_award(spec=spec), now=10)
    assert compute.refusal() is None


@pytest.mark.parametrize(
    ("requester_id", "award"),
    [("r2", an_award()), ("r1", an_award(bid_id="b-9")), ("r1", an_award(offer_id="o-9"))],
)
def test_an_award_without_a_standing_bid_is_refused(
    compute: Compute, requester_id: str, award: Award
) -> None:
    compute.offer(now=0)
    compute.award(award, now=10, requester_id=requester_id)
    assert compute.refusal() is RefusalReason.BID_UNKNOWN


# --- leases ---


def test_an_unanswered_renewal_is_repeated_well_before_the_lease_ends(compute: Compute) -> None:
    compute.accepted(now=0)
    times = []
    while (due := compute.machine.deadline()) is not None and due < seconds(30):
        compute.expire(due)
        times += [due // seconds(1)] * len(compute.sent(fx.SendRenewal))
    assert times == [10, 13, 16, 19, 22, 25, 28]


@pytest.mark.parametrize(("lease_s", "next_s"), [(30, 20), (12, 14)])
def test_a_renewal_that_is_answered_is_repeated_after_a_third_of_the_new_lease(
    compute: Compute, lease_s: int, next_s: int
) -> None:
    compute.accepted(now=0)
    compute.expire(seconds(10))
    compute.tell(ev.LeaseRenewed("e-1", sent_us=seconds(10), lease_us=seconds(lease_s)), seconds(11))
    assert compute.machine.deadline() == seconds(next_s)


def test_answers_that_took_longer_than_a_term_set_off_no_storm_of_renewals(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.expire(seconds(10))
    compute.expire(seconds(13))
    for answer in (1, 2, 3):
        compute.tell(ev.LeaseRenewed("e-1", sent_us=0, lease_us=seconds(30)), seconds(13) + answer)
        assert compute.machine.deadline() == seconds(16)


def test_the_lease_counts_from_when_its_renewal_was_sent(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.tell(ev.LeaseRenewed("e-1", sent_us=seconds(10), lease_us=seconds(30)), seconds(29))
    compute.expire(seconds(40) - 1)
    assert compute.started(fx.StopExecution) == []
    compute.expire(seconds(40))
    assert compute.last.starts == [fx.StopExecution("e-1")]


def test_an_old_answer_does_not_shorten_the_lease(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.tell(ev.LeaseRenewed("e-1", sent_us=seconds(20), lease_us=seconds(30)), seconds(21))
    compute.tell(ev.LeaseRenewed("e-1", sent_us=seconds(10), lease_us=seconds(30)), seconds(22))
    compute.expire(seconds(49))
    assert compute.started(fx.StopExecution) == []


def test_work_whose_lease_ended_is_stopped_once_and_reported_as_lost(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.expire(seconds(30))
    assert compute.last.starts == [fx.StopExecution("e-1")]
    for event in (
        ev.PhaseEntered("e-1", ExecutionPhase.PUBLISHING),
        ev.ProgressMade("e-1", 1, 2),
        ev.LeaseRenewed("e-1", sent_us=seconds(29), lease_us=seconds(30)),
    ):
        compute.tell(event, seconds(31))
        assert compute.last == fx.Effects()
    assert compute.machine.deadline() is None
    compute.tell(ev.ExecutionEnded(a_report(result=None, cancelled=True)), seconds(32))
    report = compute.sent(fx.SendReport)[0].report
    assert report.fault is not None
    assert (report.fault.kind, report.cancelled) == (FaultKind.NODE_LOST, False)


def test_work_that_ended_well_just_after_its_lease_is_reported_as_it_is(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.expire(seconds(30))
    compute.tell(ev.ExecutionEnded(a_report()), seconds(31))
    assert [send.report for send in compute.sent(fx.SendReport)] == [a_report()]


def test_a_phase_that_lasts_is_told_and_a_short_one_is_not(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.tell(ev.PhaseEntered("e-1", ExecutionPhase.RUNNING), 0)
    assert compute.machine.deadline() == 200_000
    compute.expire(200_000)
    assert [send.renewal.phase for send in compute.sent(fx.SendRenewal)] == [ExecutionPhase.RUNNING]


def test_an_answer_to_an_earlier_renewal_does_not_put_off_telling_a_new_phase(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.expire(seconds(10))
    compute.tell(ev.PhaseEntered("e-1", ExecutionPhase.PUBLISHING), seconds(10))
    compute.tell(ev.LeaseRenewed("e-1", sent_us=seconds(10), lease_us=seconds(30)), seconds(10) + 1)
    assert compute.machine.deadline() == seconds(10) + 200_000


# --- what calls work off ---


@pytest.mark.parametrize("how", ["cancelled", "renewal refused"])
def test_work_that_is_called_off_is_stopped_and_not_reported(compute: Compute, how: str) -> None:
    compute.accepted(now=0)
    ended = Refusal(RefusalReason.LEASE_ENDED, "it was given to another node")
    event = ev.CancellationReceived("r1", "e-1") if how == "cancelled" else ev.RenewalRefused("e-1", ended)
    compute.tell(event, 10)
    assert compute.last.starts == [fx.StopExecution("e-1")]
    compute.tell(event, 11)
    assert compute.last.starts == []
    compute.award(now=12)
    assert compute.refusal() is RefusalReason.LEASE_ENDED
    compute.tell(ev.ExecutionEnded(a_report(result=None, cancelled=True)), 20)
    record = next(write for write in compute.last.writes if isinstance(write, WorkRecord))
    assert record.state is WorkState.SETTLED
    assert record.refusal is not None
    assert compute.last.sends == []
    assert (compute.free, compute.machine.deadline()) == (NODE_CAPACITY, None)


def test_a_stranger_cannot_cancel_work(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.tell(ev.CancellationReceived("stranger", "e-1"), 10)
    assert compute.refusal() is RefusalReason.NOT_FOUND


def test_a_cancellation_of_unknown_work_is_ignored(compute: Compute) -> None:
    assert compute.tell(ev.CancellationReceived("r1", "e-9"), 10) == fx.Effects()


def test_work_that_a_shutdown_stopped_is_reported_as_restarted(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.tell(ev.ShutdownBegun(), 10)
    compute.tell(ev.ExecutionEnded(a_report(result=None, cancelled=True)), 20)
    fault = compute.sent(fx.SendReport)[0].report.fault
    assert fault is not None
    assert fault.kind is FaultKind.NODE_RESTARTED


# --- reports ---


def test_a_report_frees_the_capacity_and_is_repeated_until_it_is_answered(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.tell(ev.ExecutionEnded(a_report()), 0)
    assert compute.free == NODE_CAPACITY
    times = []
    while (due := compute.machine.deadline()) is not None and due < seconds(200):
        compute.expire(due)
        times += [due // seconds(1)] * len(compute.sent(fx.SendReport))
    assert times == [1, 3, 7, 15, 31, 63, 123, 183]
    compute.tell(ev.ReportAnswered("e-1"), seconds(200))
    record = next(write for write in compute.last.writes if isinstance(write, WorkRecord))
    assert (record.state, record.refusal) == (WorkState.TAKEN, None)
    assert compute.machine.deadline() == seconds(200 + 3600)
    compute.tell(ev.ReportAnswered("e-1"), seconds(201))
    assert compute.last == fx.Effects()


def test_a_report_that_nobody_ever_answers_is_given_up_after_a_week_also_across_restarts(
    compute: Compute,
) -> None:
    compute.accepted(now=0)
    compute.tell(ev.ExecutionEnded(a_report()), seconds(5))
    record = next(write for write in compute.last.writes if isinstance(write, WorkRecord))
    compute = Compute()
    compute.took(compute.machine.restore([record], now=seconds(WEEK)))
    assert len(compute.sent(fx.SendReport)) == 1
    compute.expire(seconds(WEEK + 5) - 1)
    assert len(compute.sent(fx.SendReport)) == 1
    compute.expire(seconds(WEEK + 5))
    settled, owing, reputation = compute.last.writes
    assert isinstance(reputation, Reputation)
    assert reputation.count(Conduct.ABANDONED) == 1
    assert isinstance(settled, WorkRecord)
    assert owing == ReceivableRecord("r1", Balance(), disputed_microcredits=100)
    assert settled.state is WorkState.DISPUTED
    assert settled.refusal == Refusal(
        RefusalReason.STALE,
        "the requester did not take the report within 604800 seconds",
        (("report_keep_us", seconds(WEEK)),),
    )
    assert compute.machine.deadline() is None


def test_work_that_earned_nothing_is_settled_where_nobody_takes_its_report(compute: Compute) -> None:
    compute.accepted(now=0)
    failed = a_report(fault=Fault(FaultKind.ENGINE_FAILED, "it fell over"), result=None)
    compute.tell(ev.ExecutionEnded(failed), seconds(5))
    record = next(write for write in compute.last.writes if isinstance(write, WorkRecord))
    again = Compute()
    again.took(again.machine.restore([record], now=seconds(WEEK)))
    again.expire(seconds(WEEK + 5))
    settled, reputation = again.last.writes
    assert isinstance(settled, WorkRecord)
    assert settled.state is WorkState.SETTLED
    assert isinstance(reputation, Reputation)
    assert again.machine.receivables.credit.exposure("r1") == 0


def test_a_refused_report_is_settled_with_its_refusal(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.tell(ev.ExecutionEnded(a_report()), 10)
    refusal = Refusal(RefusalReason.LEASE_ENDED, "too late")
    compute.tell(ev.ReportAnswered("e-1", refusal), 20)
    record = next(write for write in compute.last.writes if isinstance(write, WorkRecord))
    assert record.refusal == refusal


def test_capacity_that_an_end_frees_is_bid_for_at_once(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.offer(an_offer(id="o-2", resources=NODE_CAPACITY), now=10)
    assert compute.declines() == [RefusalReason.BUSY]
    compute.tell(ev.ExecutionEnded(a_report()), 20)
    assert [send.bid.offer_id for send in compute.sent(fx.SendBid)] == ["o-2"]


# --- restart ---


def _accepted_record(compute: Compute) -> WorkRecord:
    compute.accepted(now=0)
    return next(write for write in compute.all.writes if isinstance(write, WorkRecord))


def test_a_restart_resumes_work_holds_its_capacity_and_renews_at_once(compute: Compute) -> None:
    record = _accepted_record(compute)
    again = Compute()
    again.took(again.machine.restore([record], now=seconds(100)))
    again.machine.check()
    assert again.last.starts == [fx.ResumeExecution("e-1", 1)]
    assert [send.renewal.execution_id for send in again.sent(fx.SendRenewal)] == ["e-1"]
    assert again.free.cpu_millicores == 1000


def test_work_that_is_gone_after_a_restart_is_run_again_as_a_visible_attempt(compute: Compute) -> None:
    record = _accepted_record(compute)
    again = Compute()
    again.took(again.machine.restore([record], now=seconds(100)))
    again.tell(ev.ExecutionGone("e-1"), seconds(101))
    assert again.last.starts == [fx.StartExecution("e-1", 2)]
    assert again.last.writes == [replace(record, attempt=2, updated_us=seconds(101))]
    assert [send.renewal.attempt for send in again.sent(fx.SendRenewal)] == [2]


def test_work_is_not_run_again_for_ever(compute: Compute) -> None:
    record = replace(_accepted_record(compute), attempt=3)
    again = Compute()
    again.took(again.machine.restore([record], now=seconds(100)))
    again.tell(ev.ExecutionGone("e-1"), seconds(101))
    assert again.sent(fx.SendReport)[0].report.fault == Fault(
        FaultKind.NODE_RESTARTED, "the node restarted while it ran the job (attempt 3)"
    )


def test_a_restart_with_less_capacity_reports_what_it_cannot_hold(compute: Compute) -> None:
    record = _accepted_record(compute)
    small = Resources(cpu_millicores=100, memory_bytes=GIB, disk_bytes=GIB)
    again = Compute(a_compute_config(policy=a_policy(capacity=small, job_limit=small)))
    again.took(again.machine.restore([record], now=seconds(100)))
    again.machine.check()
    fault = again.sent(fx.SendReport)[0].report.fault
    assert fault is not None
    assert fault.kind is FaultKind.NODE_RESTARTED
