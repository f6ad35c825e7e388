"""The requester up to the award: who is asked, what counts, who wins, when a job waits or fails."""

from __future__ import annotations

import pytest

from bacalhau.market.clearing import bid_set_digest, tie_key
from bacalhau.model.auction import AuctionTerms, BidStanding, ClearingRule
from bacalhau.model.execution import ExecutionState, Fault, FaultKind
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.refusals import RefusalReason
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.records import AnswerReceived, AuctionCleared, ExecutionRecord
from bacalhau.scheduler.requester import RequesterConfig
from tests.builders import SPEC_DIGEST, a_bid, a_sealed_bid, a_spec
from tests.scheduler.driven import Requester, seconds

# --- submission ---


def test_a_submitted_job_is_offered_to_every_live_node(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=10)
    assert [send.to for send in requester.sent(fx.SendOffer)] == [("n1", "n2")]
    assert requester.history() == [JobEventType.SUBMITTED, JobEventType.OFFERED]


def test_a_node_that_was_not_heard_for_three_heartbeats_is_not_asked(requester: Requester) -> None:
    requester.hear("n1", now=0)
    requester.hear("n2", now=seconds(10))
    requester.submit(now=seconds(15) + 1)
    assert [send.to for send in requester.sent(fx.SendOffer)] == [("n2",)]


def test_a_job_above_the_limit_of_open_jobs_is_refused_with_the_limit() -> None:
    requester = Requester(RequesterConfig(open_jobs_max=1))
    requester.submit(id="j-1")
    effects = requester.submit(id="j-2")
    assert effects.refusal is not None
    assert effects.refusal.reason is RefusalReason.LIMIT_REACHED
    assert effects.refusal.figures == (("open_jobs_max", 1),)


def test_a_job_id_that_is_open_is_not_taken_again(requester: Requester) -> None:
    requester.submit()
    requester.submit()
    assert requester.refusal() is RefusalReason.ID_REUSED


# --- clearing ---


def test_the_auction_closes_as_soon_as_every_live_node_has_answered(requester: Requester) -> None:
    requester.hear("n1", "n2", "n3")
    requester.submit(now=0)
    requester.bid("n1", 300, now=10)
    requester.decline("n2", now=20)
    assert requester.awards() == []
    requester.bid("n3", 200, now=30)
    assert requester.awards() == [("n3", 200)]


def test_the_auction_closes_at_the_bid_window_without_those_who_are_silent(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", now=10)
    assert requester.machine.deadline() == seconds(1)
    requester.expire(seconds(1))
    assert requester.awards() == [("n1", 100)]


def test_a_bid_of_a_node_that_was_not_asked_counts_if_it_is_there_in_time(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("stranger", 50, now=10)
    requester.bid("n1", 100, now=20)
    requester.expire(seconds(1))
    assert requester.awards() == [("stranger", 50)]


def test_equal_bids_are_decided_by_the_offer_and_the_node_not_by_who_came_first() -> None:
    for order in (("n1", "n2"), ("n2", "n1")):
        requester = Requester()
        requester.hear("n1", "n2")
        requester.submit(now=0)
        for node_id in order:
            requester.bid(node_id, id=f"b-{order.index(node_id)}", now=10)
        offer_id = requester.offer().id
        first = min(order, key=lambda node: tie_key(offer_id, a_sealed_bid(node_id=node)))
        assert requester.awards() == [(first, 100)]


def test_count_of_three_is_awarded_to_three_nodes_at_their_own_prices(requester: Requester) -> None:
    requester.hear("n1", "n2", "n3", "n4")
    requester.submit(a_spec(count=3), now=0)
    for node_id, price in (("n1", 40), ("n2", 10), ("n3", 30), ("n4", 20)):
        requester.bid(node_id, price, now=10)
    assert requester.awards() == [("n2", 10), ("n4", 20), ("n3", 30)]


def test_the_award_names_the_digest_of_all_bids_also_of_those_that_lost(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", 100, now=10)
    requester.bid("n2", 200, now=10)
    (cleared,) = [write for write in requester.all.writes if isinstance(write, AuctionCleared)]
    assert [(sealed.node_id, sealed.position, standing) for sealed, standing in cleared.bid_set] == [
        ("n1", 1, BidStanding.STANDS),
        ("n2", 2, BidStanding.STANDS),
    ]
    digest = bid_set_digest(cleared.bid_set)
    assert requester.sent(fx.SendAward)[0].award.bid_set_digest == cleared.clearing.bid_set_digest == digest


def test_a_bid_above_the_ceiling_is_refused_with_both_figures(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(a_spec(max_price_microcredits=99), now=0)
    effects = requester.bid("n1", 100, now=10)
    assert effects.refusal is not None
    assert effects.refusal.reason is RefusalReason.PRICE_CEILING
    assert effects.refusal.figures == (("price_microcredits", 100), ("max_price_microcredits", 99))


def test_a_negative_bid_is_refused(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.bid("n1", -1, now=10)
    assert requester.refusal() is RefusalReason.MALFORMED


def test_a_bid_after_the_offer_has_closed_is_refused(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    offer_id = requester.offer().id
    requester.decline("n2", now=5)
    requester.running("n1", now=10)
    requester.bid("n2", now=20, offer_id=offer_id)
    assert requester.refusal() is RefusalReason.OFFER_CLOSED


def test_a_bid_for_an_unknown_offer_is_refused(requester: Requester) -> None:
    requester.tell(ev.BidReceived("n1", a_bid(offer_id="o-99"), b""), 0)
    assert requester.refusal() is RefusalReason.OFFER_CLOSED


def test_a_repeated_bid_has_no_second_effect(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", now=10)
    effects = requester.bid("n1", now=20)
    assert (effects.refusal, effects.writes, effects.sends) == (None, [], [])


def test_a_repeat_of_the_winning_bid_is_not_refused_while_its_award_is_under_way(
    requester: Requester,
) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.bid("n1", now=10)
    effects = requester.bid("n1", now=20)
    assert (effects.refusal, effects.sends) == (None, [])


def test_a_new_bid_of_a_node_replaces_its_earlier_one(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", 300, id="b-1", now=10)
    requester.bid("n1", 150, id="b-2", now=20)
    requester.bid("n2", 200, now=30)
    assert requester.awards() == [("n1", 150)]


def test_a_late_copy_of_a_replaced_bid_does_not_take_the_place_of_the_newer_one(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", 300, id="b-1", now=10, issued_us=1)
    requester.bid("n1", 150, id="b-2", now=20, issued_us=2)
    effects = requester.bid("n1", 300, id="b-1", now=25, issued_us=1)
    assert (effects.refusal, effects.writes) == (None, [])
    requester.bid("n2", 200, now=30)
    assert requester.awards() == [("n1", 150)]


def test_a_late_copy_of_a_bid_that_was_awarded_before_is_not_awarded_again(requester: Requester) -> None:
    """Found by a story of the test world: the winner refused, bid anew, and its first bid came once more."""
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", id="b-1", now=10)
    requester.bid("n2", 200, now=10)
    award = requester.sent(fx.SendAward)[-1].award
    requester.refuse_award(award.execution_id, RefusalReason.BID_UNKNOWN, now=20)
    requester.bid("n1", id="b-2", now=30)
    requester.bid("n1", id="b-1", now=40)
    bids = [(e.bid_id, e.node_id) for e in requester.all.writes if isinstance(e, ExecutionRecord)]
    assert bids.count(("b-1", "n1")) == 2  # awarded and refused, two writes of one execution


def test_a_decline_from_before_a_bid_does_not_withdraw_it(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", 100, now=10, issued_us=5)
    requester.decline("n1", RefusalReason.BUSY, now=15, issued_us=4)
    requester.bid("n2", 200, now=20)
    assert requester.awards() == [("n1", 100)]


def test_a_decline_withdraws_a_bid(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", 100, now=10)
    requester.decline("n1", RefusalReason.SHUTTING_DOWN, now=15)
    requester.bid("n2", 200, now=20)
    assert requester.awards() == [("n2", 200)]


def test_a_bid_that_was_overtaken_by_its_nodes_earlier_decline_counts_when_repeated(
    requester: Requester,
) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.hear("n2", now=1)
    requester.bid("n1", 100, now=10, issued_us=5)
    requester.decline("n1", RefusalReason.BUSY, now=20, issued_us=5)
    requester.bid("n1", 100, now=30, issued_us=25)
    requester.expire(seconds(1))
    assert requester.awards() == [("n1", 100)]


@pytest.mark.parametrize("repeated", [False, True])
def test_a_bid_that_its_node_withdrew_before_it_came_takes_no_part(
    requester: Requester, repeated: bool
) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    if repeated:  # word for word: busy again, after a bid that is still on its way
        requester.decline("n1", RefusalReason.BUSY, now=5, issued_us=4)
    requester.decline("n1", RefusalReason.BUSY, now=20, issued_us=15)
    requester.bid("n1", 100, now=30, issued_us=10)
    requester.bid("n2", 200, now=40, issued_us=35)
    assert requester.awards() == [("n2", 200)]


def test_a_late_copy_of_a_bid_that_its_node_has_withdrawn_does_not_bring_it_back(
    requester: Requester,
) -> None:
    """It would press the uniform price, or win an award that its node has to refuse."""
    requester.hear("n1", "n2", "n3")
    uniform = AuctionTerms(ClearingRule.UNIFORM_PRICE)
    requester.submit(a_spec(max_price_microcredits=1000, auction=uniform), now=0)
    requester.bid("n2", 20, now=10, issued_us=5)
    requester.decline("n2", RefusalReason.SHUTTING_DOWN, now=20, issued_us=15)
    requester.bid("n2", 20, now=30, issued_us=14)
    requester.bid("n1", 10, now=40, issued_us=35)
    requester.bid("n3", 500, now=50, issued_us=45)
    assert requester.awards() == [("n1", 500)]


def test_a_copy_of_a_withdrawn_bid_does_not_answer_the_offer_that_came_again(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", 100, now=10, issued_us=5)
    requester.decline("n1", RefusalReason.SHUTTING_DOWN, now=20, issued_us=15)
    requester.hear("n1", now=seconds(20))
    requester.bid("n1", 100, now=seconds(20), issued_us=14)
    assert requester.machine.awaited(requester.offer().id) == ("n2", "n1")


def test_a_bid_that_expired_before_the_clearing_is_not_awarded_and_its_node_is_asked_again(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", now=10, valid_us=100)
    requester.expire(seconds(1))
    assert requester.awards() == []
    requester.hear("n1", "n2", now=seconds(5))
    requester.expire(seconds(6))
    assert requester.sent(fx.SendOffer)[0].to == ("n1", "n2")


def test_the_losers_are_told_that_the_offer_is_closed_once_the_award_is_confirmed(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2", "n3")
    requester.submit(now=0)
    requester.bid("n1", 100, now=10)
    requester.bid("n2", 200, now=10)
    requester.decline("n3", RefusalReason.BUSY, now=10)
    assert requester.sent(fx.SendOfferClosed) == []
    requester.confirm("e-2", now=20)
    assert [send.to for send in requester.sent(fx.SendOfferClosed)] == ["n2", "n3"]


def test_a_node_that_is_heard_again_and_declines_word_for_word_as_before_has_answered(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.decline("n1", now=1)
    requester.decline("n2", RefusalReason.BUSY, now=1)
    requester.hear("n1", now=seconds(20))
    offer_id = requester.offer().id
    assert requester.machine.awaited(offer_id) == ("n1",)
    requester.decline("n1", now=seconds(20) + 1)
    assert requester.machine.awaited(offer_id) is None
    assert requester.failure().kind is FaultKind.NO_NODE
    assert "did not answer" not in requester.failure().message


def test_a_decline_is_written_once_however_often_its_figures_change(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(a_spec(queue_us=seconds(60)), now=0)
    for second in range(5):
        requester.decline("n1", RefusalReason.BUSY, now=seconds(second), message=f"{second} free")
    assert sum(isinstance(write, AnswerReceived) for write in requester.all.writes) == 1
    assert requester.history().count(JobEventType.DECLINED) == 1


def test_strangers_cannot_fill_the_memory_with_answers() -> None:
    requester = Requester(RequesterConfig(answers_per_offer_max=2, answers_per_node_max=2))
    requester.hear("n1")
    requester.submit(now=0)
    requester.bid("s1", now=1)
    requester.decline("s2", now=2)
    requester.bid("s3", now=3)
    assert requester.refusal() is RefusalReason.LIMIT_REACHED
    requester.bid("s1", id="b-2", now=4)
    requester.bid("s1", id="b-3", now=5)
    assert requester.refusal() is RefusalReason.LIMIT_REACHED


# --- waiting, and failing for want of nodes ---


def test_a_job_that_no_live_node_could_ever_take_fails_at_once_with_their_reasons(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.decline("n1", RefusalReason.ENGINE_MISSING, now=10, message="no docker engine")
    requester.decline("n2", RefusalReason.INFEASIBLE, now=20, message="too small")
    assert requester.state() is JobState.FAILED
    assert requester.failure() == Fault(
        FaultKind.NO_NODE, "no node can take the job (2 live): no docker engine; too small"
    )


def test_a_job_waits_in_the_queue_while_a_live_node_is_only_busy(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.decline("n1", RefusalReason.BUSY, now=10)
    assert requester.state() is JobState.QUEUED
    requester.bid("n1", now=seconds(3))
    assert requester.awards() == [("n1", 100)]
    assert requester.state() is JobState.RUNNING


def test_with_a_queue_timeout_a_job_waits_for_a_node_that_could_take_it(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(a_spec(queue_us=seconds(60)), now=0)
    requester.decline("n1", RefusalReason.ENGINE_MISSING, now=10)
    assert requester.state() is JobState.QUEUED
    requester.hear("n2", now=seconds(20))
    assert [send.to for send in requester.sent(fx.SendOffer)] == [("n2",)]
    requester.bid("n2", now=seconds(21))
    assert requester.awards() == [("n2", 100)]


def test_a_job_fails_at_its_queue_timeout_with_what_the_nodes_said(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(a_spec(queue_us=seconds(30)), now=0)
    requester.decline("n1", RefusalReason.BUSY, now=10, message="0 free")
    for second in range(1, 31):
        requester.expire(seconds(second))
    assert requester.failure() == Fault(
        FaultKind.QUEUE_TIMEOUT, "no node took the job within its queue timeout of 30 seconds: 0 free"
    )
    assert requester.machine.deadline() is None


def test_the_first_node_to_be_heard_gets_a_whole_bid_window(requester: Requester) -> None:
    requester.submit(now=0)
    requester.hear("n1", "n2", now=900_000)
    requester.bid("n1", 200, now=950_000)
    requester.expire(seconds(1))
    assert requester.awards() == []
    requester.bid("n2", 100, now=seconds(1) + 10)
    assert requester.awards() == [("n2", 100)]


def test_a_count_above_the_live_nodes_fails_with_both_numbers(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(a_spec(count=3), now=0)
    requester.bid("n1", now=10)
    requester.bid("n2", now=10)
    assert requester.failure().message == "the job wants 3 nodes, only 2 are live"
    assert requester.all.sends[-1] == fx.SendOfferClosed("n2", requester.offer().id)


def test_a_node_that_never_answers_holds_a_job_up_for_some_offers_only(requester: Requester) -> None:
    requester.hear("mute")
    requester.submit(now=0)
    for second in range(1, 120):
        requester.hear("mute", now=seconds(second))
        requester.expire(seconds(second))
        if requester.state() is JobState.FAILED:
            break
    assert requester.failure().message == "no node can take the job (1 live); 1 did not answer"
    assert sum(isinstance(send, fx.SendOffer) for send in requester.all.sends) == 4


def test_a_queue_timeout_of_zero_still_gives_the_bid_window(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(a_spec(queue_us=0), now=0)
    requester.bid("n1", now=10)
    requester.expire(seconds(1))
    assert requester.awards() == [("n1", 100)]
    assert requester.state() is JobState.RUNNING


def test_the_queue_timeout_does_not_end_a_job_while_its_award_is_pending(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(a_spec(queue_us=seconds(2)), now=0)
    requester.bid("n1", now=seconds(2) - 1)
    requester.expire(seconds(2))
    assert requester.state() is JobState.RUNNING
    requester.confirm("e-2", now=seconds(3))
    assert requester.execution_state("e-2") is ExecutionState.RUNNING


def test_the_queue_timeout_counts_again_when_a_pending_award_is_refused(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(a_spec(queue_us=seconds(2)), now=0)
    requester.bid("n1", now=seconds(1))
    requester.refuse_award("e-2", RefusalReason.BUSY, now=seconds(3))
    assert requester.state() is JobState.QUEUED
    requester.expire(seconds(4))
    assert requester.failure().kind is FaultKind.QUEUE_TIMEOUT


def test_a_total_timeout_ends_a_job_in_whatever_state_it_is() -> None:
    for stage in ("unheard", "auction", "queued", "awarded", "running", "reported", "lapsed"):
        requester = Requester()
        if stage != "unheard":
            requester.hear("n1")
        requester.submit(a_spec(total_us=seconds(100), queue_us=seconds(1000)), now=0)
        if stage == "queued":
            requester.decline("n1", RefusalReason.BUSY, now=10)
        if stage == "awarded":
            requester.bid("n1", now=seconds(99))
        if stage in ("running", "reported", "lapsed"):
            execution_id = requester.running("n1", now=seconds(60 if stage == "lapsed" else 99))
            if stage == "reported":
                requester.report("n1", execution_id, now=seconds(99))
        requester.expire(seconds(100))
        assert requester.failure().kind is FaultKind.TOTAL_TIMEOUT, stage
        requester.sign(seconds(101))
        assert (requester.machine.deadline(), requester.machine.open_jobs) == (None, 0), stage


# --- awards ---


def test_an_award_that_is_refused_goes_to_the_next_in_rank(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", 100, now=10)
    requester.bid("n2", 200, now=10)
    requester.refuse_award("e-2", RefusalReason.SHUTTING_DOWN, now=20)
    assert requester.awards() == [("n2", 200)]
    assert requester.execution_state("e-2") is ExecutionState.REFUSED


def test_an_award_that_is_not_answered_goes_to_the_next_in_rank_and_the_first_is_told_to_stop(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", 100, now=10)
    requester.bid("n2", 200, now=10)
    requester.expire(seconds(5) + 10)
    assert requester.awards() == [("n2", 200)]
    assert [(send.to, send.execution_id) for send in requester.sent(fx.SendCancellation)] == [("n1", "e-2")]


def test_a_node_whose_bid_had_expired_is_asked_again_instead_of_failing_the_job(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.bid("n1", now=10)
    requester.refuse_award("e-2", RefusalReason.BID_UNKNOWN, now=20)
    assert [send.to for send in requester.sent(fx.SendOffer)] == [("n1",)]
    assert requester.state() is JobState.QUEUED
    requester.bid("n1", id="b-again", now=30)
    assert requester.awards() == [("n1", 100)]


def test_late_answers_to_an_award_change_nothing(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(a_spec(queue_us=seconds(60)), now=0)
    requester.bid("n1", now=10)
    requester.tell(ev.AwardUnanswered("e-2"), 20)
    for event in (
        ev.AwardConfirmed("e-2"),
        ev.AwardUnanswered("e-2"),
        ev.AwardConfirmed("e-99"),
    ):
        effects = requester.tell(event, 30)
        assert (effects.writes, effects.sends, effects.starts) == ([], [], [])


def test_a_bid_that_comes_while_the_award_is_unconfirmed_is_kept_for_its_failure(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", 100, now=10)
    requester.expire(seconds(1))
    requester.bid("n2", 50, now=seconds(2))
    assert requester.refusal() is None
    assert requester.awards() == []
    requester.refuse_award("e-2", RefusalReason.SHUTTING_DOWN, now=seconds(3))
    assert requester.awards() == [("n2", 50)]


def test_spec_digest_goes_from_the_submission_into_the_offer(requester: Requester) -> None:
    requester.submit()
    assert requester.offer().spec_digest == SPEC_DIGEST
