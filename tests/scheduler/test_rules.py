"""Clearing rules and price scripts in the two machines: when an auction closes, what an award may pay, who is asked."""

from __future__ import annotations

import pytest

from bacalhau.market.pricing import FlatPrice, ScriptedPrice
from bacalhau.model.auction import AuctionTerms, BidStanding, ClearingRule, ScoringWeights
from bacalhau.model.execution import Fault, FaultKind
from bacalhau.model.job import Engine, JobSpec
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.reputation import Conduct, ConductCount, Reputation, Role
from bacalhau.model.units import PPM
from bacalhau.model.verification import Verification, VerificationPolicy
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.records import AuctionCleared, BidKept, ExecutionRecord
from tests.builders import (
    NODE_CAPACITY,
    a_bid,
    a_compute_config,
    a_policy,
    a_report,
    a_spec,
    an_award,
    an_offer,
)
from tests.scheduler.driven import Compute, Requester, seconds

BROKEN = Fault(FaultKind.ENGINE_FAILED, "the engine fell over")
UNIFORM, POSTED = ClearingRule.UNIFORM_PRICE, ClearingRule.POSTED_PRICE


def spec_of(rule: ClearingRule, *, count: int = 1, weights: ScoringWeights | None = None) -> JobSpec:
    return a_spec(
        count=count,
        max_price_microcredits=1000,
        auction=AuctionTerms(rule, weights or ScoringWeights()),
    )


def clearings(requester: Requester) -> list[AuctionCleared]:
    return [write for write in requester.all.writes if isinstance(write, AuctionCleared)]


# --- the requester ---


def test_the_offer_names_the_rule_the_weights_and_the_reserve(requester: Requester) -> None:
    weights = ScoringWeights(1, 2, 3)
    requester.hear("n1")
    requester.submit(spec_of(ClearingRule.SCORING, weights=weights))
    offer = requester.offer()
    assert (offer.clearing_rule, offer.weights, offer.max_price_microcredits) == (
        ClearingRule.SCORING,
        weights,
        1000,
    )


def test_all_winners_of_a_uniform_auction_are_awarded_at_the_lowest_price_that_lost(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2", "n3", "n4")
    requester.submit(spec_of(UNIFORM, count=2))
    for node_id, price in (("n1", 40), ("n2", 10), ("n3", 30), ("n4", 20)):
        requester.bid(node_id, price, now=10)
    assert requester.awards() == [("n2", 30), ("n4", 30)]
    assert {send.award.clearing_rule for send in requester.sent(fx.SendAward)} == {UNIFORM}


def test_a_late_bid_of_a_uniform_auction_is_paid_what_those_on_time_were_paid(requester: Requester) -> None:
    requester.hear("n1", "n2", "n3")
    requester.submit(spec_of(UNIFORM, count=3))
    requester.bid("n1", 40, now=10)
    requester.bid("n2", 10, now=10)
    requester.decline("n3", RefusalReason.BUSY, now=10)
    assert requester.awards() == [("n2", 1000), ("n1", 1000)]
    requester.bid("n3", 5, now=seconds(3))
    assert requester.awards() == [("n3", 1000)]


def test_a_posted_price_auction_closes_with_the_first_that_take_it(requester: Requester) -> None:
    requester.hear("n1", "n2", "n3")
    requester.submit(spec_of(POSTED, count=2))
    requester.bid("n3", 1000, now=10)
    assert requester.awards() == []
    requester.bid("n1", 1000, now=20)
    assert requester.awards() == [("n3", 1000), ("n1", 1000)]


def test_a_reputation_that_the_requester_keeps_decides_a_scoring_auction_and_is_disclosed() -> None:
    requester = Requester()
    cheated = Reputation("n2", Role.COMPUTE, 0, (ConductCount(Conduct.CHEATED, 1, PPM),))
    requester.machine.reputations.restore([cheated])
    requester.hear("n1", "n2")
    weights = ScoringWeights(reputation_microcredits=200)
    requester.submit(spec_of(ClearingRule.SCORING, weights=weights))
    requester.bid("n2", 50, now=10)
    requester.bid("n3", 140, now=15)
    requester.bid("n1", 120, now=20)
    assert requester.awards() == [("n1", 120)]
    (cleared,) = clearings(requester)
    assert [(sealed.node_id, sealed.reputation_permille) for sealed, _ in cleared.bid_set] == [
        ("n2", 45),
        ("n3", 500),
        ("n1", 500),
    ]


def test_the_next_in_rank_is_awarded_by_a_second_clearing_that_says_why_the_first_winner_is_out(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2", "n3")
    requester.submit(spec_of(UNIFORM))
    for node_id, price in (("n1", 10), ("n2", 20), ("n3", 30)):
        requester.bid(node_id, price, now=10)
    (award,) = requester.sent(fx.SendAward)
    assert (award.to, award.award.price_microcredits) == ("n1", 20)
    requester.refuse_award(award.award.execution_id, RefusalReason.SHUTTING_DOWN, now=20)
    assert requester.awards() == [("n2", 30)]
    first, second = clearings(requester)
    assert (first.sequence, second.sequence) == (1, 2)
    assert [standing for _, standing in second.bid_set] == [
        BidStanding.AWARDED,
        BidStanding.STANDS,
        BidStanding.STANDS,
    ]


def test_a_uniform_price_is_no_truthful_one_across_clearings_who_is_left_alone_is_paid_the_reserve(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2")
    requester.submit(spec_of(UNIFORM))
    requester.bid("n1", 100, now=10)
    requester.bid("n2", 90, now=10)
    (award,) = requester.sent(fx.SendAward)
    assert requester.awards() == [("n2", 100)]
    requester.refuse_award(award.award.execution_id, RefusalReason.SHUTTING_DOWN, now=20)
    assert requester.awards() == [("n1", 1000)]


def test_bids_count_in_the_order_in_which_they_were_acknowledged_the_replaced_ones_too(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    offer_id = requester.offer().id
    requester.bid("n1", 300, id="b-1", now=10)
    requester.bid("n1", 200, id="b-2", now=20)
    sealed = requester.machine.acknowledged(offer_id, "n1")
    assert sealed is not None
    assert (sealed.bid.id, sealed.position, sealed.received_us) == ("b-2", 2, 20)
    requester.bid("n2", 100, now=30)
    (cleared,) = clearings(requester)
    assert cleared.clearing.acknowledged_bids == 3
    assert [sealed.position for sealed, _ in cleared.bid_set] == [2, 3]
    assert requester.machine.acknowledged("o-none", "n1") is None


def test_a_bid_that_ends_the_auction_of_a_job_that_fails_is_acknowledged_with_its_position(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2")
    requester.submit(a_spec(count=2), now=0)
    offer_id = requester.offer().id
    requester.decline("n1", RefusalReason.CONSTRAINT, now=10)
    requester.bid("n2", 100, id="b-2", now=20)
    assert requester.failure().kind is FaultKind.NO_NODE
    sealed = requester.machine.acknowledged(offer_id, "n2")
    assert sealed is not None
    assert (sealed.bid.id, sealed.position, sealed.received_us) == ("b-2", 1, 20)
    assert requester.machine.acknowledged(offer_id, "n1") is None
    requester.bid("n2", 90, id="b-3", now=30, offer_id=offer_id)
    assert requester.refusal() is RefusalReason.OFFER_CLOSED


def test_a_clearing_names_the_executions_that_it_begot(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.bid("n1", 100, now=10)
    (cleared,) = clearings(requester)
    (execution,) = [write for write in requester.all.writes if isinstance(write, ExecutionRecord)]
    (award,) = cleared.clearing.awards
    assert (award.execution_id, award.bid_id, award.price_microcredits) == (execution.id, "b-n1", 100)
    assert (cleared.clearing.cleared_us, cleared.clearing.slots) == (10, 1)


def running(requester: Requester, *node_ids: str, spare: tuple[str, ...]) -> list[str]:
    """Each of these nodes runs an execution of a uniform auction's job; the executions' ids, in the order of the nodes.
    The spare ones are heard of before the leases end, at 30 seconds."""
    requester.hear(*node_ids)
    requester.submit(spec_of(UNIFORM, count=len(node_ids)), now=0)
    for price, node_id in enumerate(node_ids):
        requester.bid(node_id, price, now=0)
    executions = [send.award.execution_id for send in requester.sent(fx.SendAward)]
    for execution_id in executions:
        requester.confirm(execution_id, now=0)
    requester.hear(*spare, now=seconds(29))
    return executions


def test_what_is_lost_beside_what_an_offer_is_for_is_offered_by_itself(requester: Requester) -> None:
    first, second = running(requester, "n1", "n2", spare=("n3", "n4", "n5"))
    requester.renew("n2", second, seconds(10))
    requester.expire(seconds(30))
    of_one = requester.offer()
    assert of_one.winners == 1
    requester.bid("n3", 10, now=seconds(30) + 1)
    requester.bid("n4", 20, now=seconds(30) + 1)
    requester.report("n2", second, seconds(30) + 2, fault=BROKEN)
    assert requester.offer() is of_one
    requester.bid("n5", 30, now=seconds(30) + 3)
    assert requester.awards() == [("n3", 20)]
    assert (requester.offer().id != of_one.id, requester.offer().winners) == (True, 1)
    assert requester.execution(first).state.ended is False
    requester.bid("n4", 20, id="b-4", now=seconds(30) + 4)
    requester.bid("n5", 30, id="b-5", now=seconds(30) + 4)
    assert requester.awards() == [("n4", 30)]
    assert [(one.clearing.slots, one.sequence) for one in clearings(requester)] == [(2, 1), (1, 1), (1, 1)]


def test_an_offer_that_nothing_was_missing_for_meanwhile_is_cleared_at_the_end_of_its_bid_window(
    requester: Requester,
) -> None:
    first, _ = running(requester, "n1", "n2", spare=("n3", "n4", "n5"))
    requester.renew("n1", first, seconds(1))
    requester.expire(seconds(30))
    for price, node_id in enumerate(("n3", "n4", "n5")):
        requester.bid(node_id, price, now=seconds(30) + 1)
    assert requester.awards() == [("n3", 1)]
    requester.expire(seconds(31))
    requester.renew("n1", first, seconds(31) + 1)
    requester.report("n1", first, seconds(31) + 2, fault=BROKEN)
    requester.bid("n4", 10, id="b-4", now=seconds(31) + 3)
    assert requester.awards() == []
    requester.expire(seconds(32))
    assert [node_id for node_id, _ in requester.awards()] == ["n4"]


def test_where_a_lapsed_execution_comes_back_the_rest_is_offered_anew_not_cleared_for_less(
    requester: Requester,
) -> None:
    spare = ("n4", "n5", "n6", "n7")
    *_, third = running(requester, "n1", "n2", "n3", spare=spare)
    requester.expire(seconds(30))
    for price, node_id in enumerate(spare):
        requester.bid(node_id, price, now=seconds(30) + 1)
    assert requester.awards() == [("n4", 1)]
    assert requester.offer().winners == 2
    requester.bid("n5", 1, id="b-5", now=seconds(30) + 2)
    requester.renew("n3", third, seconds(30) + 3)
    assert [set(send.to) for send in requester.sent(fx.SendOfferClosed)] == [{"n5", "n6", "n7"}]
    assert requester.offer().winners == 1
    for price, node_id in enumerate(spare[1:], start=1):
        requester.bid(node_id, price, id=f"b-{node_id}-2", now=seconds(30) + 4)
    assert requester.awards() == [("n5", 2)]


def test_a_job_that_settled_for_fewer_nodes_offers_what_it_loses_then_anew(requester: Requester) -> None:
    replicated = Verification(VerificationPolicy.REPLICATED, confidence=2)
    requester.hear("n1", "n2", "n3")
    requester.submit(a_spec(count=4, queue_us=seconds(3), verification=replicated), now=0)
    requester.bid("n1", 1, now=10)
    requester.bid("n2", 2, now=10)
    requester.decline("n3", RefusalReason.BUSY, now=10)
    of_four = requester.offer()
    first, second = [send.award.execution_id for send in requester.sent(fx.SendAward)]
    requester.confirm(first, 10)
    requester.expire(seconds(1))
    requester.expire(seconds(3))
    requester.refuse_award(second, RefusalReason.SHUTTING_DOWN, seconds(3) + 1)
    assert (of_four.winners, requester.offer().winners) == (4, 1)
    requester.decline("n2", RefusalReason.SHUTTING_DOWN, now=seconds(3) + 2)
    requester.bid("n3", 3, now=seconds(3) + 2)
    assert requester.awards() == [("n3", 3)]


# --- the compute node ---


def accepts(rule: ClearingRule, price: int, award_rule: ClearingRule | None = None) -> bool:
    """Whether a node that bid 100 under a reserve of 1000 takes such an award."""
    compute = Compute()
    compute.offer(an_offer(clearing_rule=rule, max_price_microcredits=1000))
    (bid,) = compute.sent(fx.SendBid)
    compute.award(an_award(bid_id=bid.bid.id, price_microcredits=price, clearing_rule=award_rule or rule))
    refusal = compute.refusal()
    assert refusal in (None, RefusalReason.MALFORMED)
    return refusal is None


@pytest.mark.parametrize(
    ("rule", "prices"),
    [
        (ClearingRule.FIRST_PRICE, [100]),
        (ClearingRule.SCORING, [100]),
        (UNIFORM, [100, 101, 1000]),
        (POSTED, [1000]),
    ],
)
def test_an_award_binds_only_at_a_price_that_the_rule_can_give(rule: ClearingRule, prices: list[int]) -> None:
    assert [price for price in (99, 100, 101, 1000, 1001) if accepts(rule, price)] == prices


def test_an_award_by_another_rule_than_the_offers_binds_nobody() -> None:
    assert not accepts(ClearingRule.FIRST_PRICE, 100, UNIFORM)


def test_a_node_bids_the_posted_price_and_does_not_tell_for_how_much_less_it_would(compute: Compute) -> None:
    compute.offer(an_offer(clearing_rule=POSTED, max_price_microcredits=1000))
    assert [send.bid.price_microcredits for send in compute.sent(fx.SendBid)] == [1000]
    compute.offer(an_offer(id="o-2", clearing_rule=POSTED, max_price_microcredits=99))
    assert compute.declines() == [RefusalReason.PRICE_CEILING]


def test_a_bid_with_its_acknowledgement_is_written_down(compute: Compute) -> None:
    bid = a_bid()
    acknowledged = ev.BidAcknowledged("r1", "j-1", bid, 5, b"offer", b"bid", b"ack")
    compute.tell(acknowledged, now=10)
    assert compute.last.writes == [
        BidKept(bid.id, bid.offer_id, "j-1", "r1", 5, 100, b"offer", b"bid", b"ack", None)
    ]


def test_a_bid_carries_the_offer_as_it_was_received(compute: Compute) -> None:
    compute.tell(ev.OfferReceived("r1", an_offer(), b"signed offer"), 0)
    (send,) = compute.sent(fx.SendBid)
    assert (send.job_id, send.offer_envelope) == ("j-1", b"signed offer")


# --- price scripts ---


def scripted() -> Compute:
    compute = Compute()
    compute.config = a_compute_config(policy=a_policy(price_script=True))
    compute.machine = ComputeMachine(
        compute.config, ScriptedPrice(FlatPrice(100)), compute._id, (Engine.DOCKER, Engine.WASM)
    )
    return compute


def asked(compute: Compute) -> list[tuple[str, int]]:
    return [
        (start.offer.id, start.price_microcredits)
        for start in compute.last.starts
        if isinstance(start, fx.AskPrice)
    ]


def test_the_script_is_asked_before_a_bid_and_nothing_is_reserved_meanwhile() -> None:
    compute = scripted()
    compute.offer()
    assert asked(compute) == [("o-1", 100)]
    assert compute.free == NODE_CAPACITY
    compute.tell(ev.PriceAnswered("o-1", 42), 10)
    assert [send.bid.price_microcredits for send in compute.sent(fx.SendBid)] == [42]
    assert compute.free.cpu_millicores == 1000


def test_an_offer_that_comes_again_while_the_script_thinks_is_not_asked_about_twice() -> None:
    compute = scripted()
    compute.offer()
    compute.offer(now=1)
    assert (compute.last.starts, compute.last.sends) == ([], [])


def test_a_script_that_names_nothing_declines_with_its_reason() -> None:
    compute = scripted()
    compute.offer()
    compute.tell(ev.PriceAnswered("o-1", 0, "exit code 3"), 10)
    (decline,) = compute.sent(fx.SendDecline)
    assert decline.decline.refusal == Refusal(
        RefusalReason.PRICE_SCRIPT, "this node's price script named no price: exit code 3"
    )


def test_a_price_above_the_ceiling_is_declined_though_the_nodes_own_was_below() -> None:
    compute = scripted()
    compute.offer(an_offer(max_price_microcredits=150))
    compute.tell(ev.PriceAnswered("o-1", 151), 10)
    assert compute.declines() == [RefusalReason.PRICE_CEILING]


def test_capacity_that_went_while_the_script_thought_makes_the_node_busy_and_it_asks_again() -> None:
    compute = scripted()
    compute.offer(an_offer(id="o-1", resources=NODE_CAPACITY))
    compute.offer(an_offer(id="o-2", resources=NODE_CAPACITY))
    compute.tell(ev.PriceAnswered("o-1", 42), 10)
    (bid,) = compute.sent(fx.SendBid)
    compute.tell(ev.PriceAnswered("o-2", 42), 20)
    assert compute.declines() == [RefusalReason.BUSY]
    compute.tell(ev.OfferClosedReceived("r1", bid.bid.offer_id), 30)
    assert asked(compute) == [("o-2", 100)]
    compute.tell(ev.PriceAnswered("o-2", 43), 40)
    assert [send.bid.price_microcredits for send in compute.sent(fx.SendBid)] == [43]


def test_an_answer_for_an_offer_that_has_closed_changes_nothing() -> None:
    compute = scripted()
    compute.offer()
    compute.tell(ev.OfferClosedReceived("r1", "o-1"), 10)
    compute.tell(ev.PriceAnswered("o-1", 42), 20)
    assert (compute.last.sends, compute.last.writes) == ([], [])
    compute.tell(ev.PriceAnswered("o-none", 42), 20)
    assert compute.free == NODE_CAPACITY


def test_a_price_that_is_named_twice_makes_one_bid() -> None:
    compute = scripted()
    compute.offer()
    compute.tell(ev.PriceAnswered("o-1", 42), 10)
    compute.tell(ev.PriceAnswered("o-1", 7), 20)
    assert compute.last.sends == []


def test_work_that_ends_frees_capacity_and_the_script_is_asked_for_who_waits() -> None:
    compute = scripted()
    compute.offer(an_offer(resources=NODE_CAPACITY))
    compute.tell(ev.PriceAnswered("o-1", 42), 0)
    (bid,) = compute.sent(fx.SendBid)
    award = an_award(bid_id=bid.bid.id, price_microcredits=42, spec=a_spec(resources=NODE_CAPACITY))
    compute.award(award, seconds(1))
    compute.offer(an_offer(id="o-2"), seconds(2))
    assert compute.declines() == [RefusalReason.BUSY]
    compute.tell(ev.ExecutionEnded(a_report()), seconds(3))
    assert asked(compute) == [("o-2", 100)]


# --- quotes ---


def test_an_appraisal_is_what_a_bid_would_be_and_leaves_nothing_behind(compute: Compute) -> None:
    answer = compute.machine.appraise("r1", an_offer(), None, now=0)
    assert not isinstance(answer, Refusal)
    assert answer.price_microcredits == 100  # type: ignore[union-attr]
    compute.machine.check()
    assert compute.free == NODE_CAPACITY
    assert compute.machine.deadline() is None
    compute.tell(ev.ShutdownBegun(), 0)
    refusal = compute.machine.appraise("r1", an_offer(), None, now=0)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is RefusalReason.SHUTTING_DOWN
