"""Clearing: who wins and what it is paid, under each rule; ties; and what an award commits to."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market.clearing import SealedBid, bid_set_digest, clear, score
from bacalhau.model.auction import BidStanding, ClearingRule, ScoringWeights
from bacalhau.model.units import GIB, SECOND_US
from tests.builders import a_bid, a_sealed_bid, an_offer
from tests.market.sealed import auctions, prices, sealed_bids, slots

if TYPE_CHECKING:
    from random import Random

    from bacalhau.market.clearing import Winner
    from bacalhau.model.market import JobOffer

FIRST_PRICE, UNIFORM = ClearingRule.FIRST_PRICE, ClearingRule.UNIFORM_PRICE
SCORING, POSTED = ClearingRule.SCORING, ClearingRule.POSTED_PRICE

Auction = tuple["JobOffer", list[SealedBid], int]


def paid(winners: list[Winner]) -> list[tuple[str, int]]:
    return [(winner.sealed.node_id, winner.price_microcredits) for winner in winners]


# --- every rule ---


@given(auctions(), st.randoms(use_true_random=False))
def test_winners_and_prices_do_not_depend_on_the_order_of_the_bids(auction: Auction, random: Random) -> None:
    offer, bids, count = auction
    shuffled = random.sample(bids, len(bids))
    assert clear(offer, bids, count) == clear(offer, shuffled, count)
    entries = [(sealed, BidStanding.STANDS) for sealed in bids]
    assert bid_set_digest(entries) == bid_set_digest(random.sample(entries, len(entries)))


@given(auctions())
def test_as_many_win_as_can_within_the_reserve_and_none_twice(auction: Auction) -> None:
    offer, bids, count = auction
    reserve = offer.max_price_microcredits
    able = [b for b in bids if reserve is None or b.bid.price_microcredits <= reserve]
    winners = [winner.sealed for winner in clear(offer, bids, count)]
    assert len(winners) == min(count, len(able))
    assert len({sealed.node_id for sealed in winners}) == len(winners)
    assert all(sealed in able for sealed in winners)


@given(auctions())
def test_no_winner_is_paid_less_than_it_bid_or_more_than_the_reserve(auction: Auction) -> None:
    """Individual rationality, and the buyer's."""
    offer, bids, count = auction
    reserve = offer.max_price_microcredits
    for winner in clear(offer, bids, count):
        assert winner.price_microcredits >= winner.sealed.bid.price_microcredits
        assert reserve is None or winner.price_microcredits <= reserve


@given(auctions(), st.data())
def test_a_lower_price_never_loses_what_a_higher_one_won(auction: Auction, data: st.DataObject) -> None:
    """Monotone clearing."""
    offer, bids, count = auction
    winners = clear(offer, bids, count)
    if not winners:
        return
    chosen = data.draw(st.sampled_from(winners)).sealed
    lower = data.draw(st.integers(0, chosen.bid.price_microcredits))
    cheaper = [
        replace(b, bid=replace(b.bid, price_microcredits=lower)) if b.node_id == chosen.node_id else b
        for b in bids
    ]
    assert chosen.node_id in [winner.sealed.node_id for winner in clear(offer, cheaper, count)]


@given(auctions(), st.data())
def test_one_more_bid_never_makes_a_slot_dearer_or_leaves_one_empty(
    auction: Auction, data: st.DataObject
) -> None:
    offer, bids, count = auction
    if not bids or offer.clearing_rule is SCORING:
        return
    newcomer = data.draw(st.sampled_from(bids))
    without = sorted(
        w.price_microcredits for w in clear(offer, [b for b in bids if b is not newcomer], count)
    )
    with_it = sorted(w.price_microcredits for w in clear(offer, bids, count))
    assert len(with_it) >= len(without)
    assert all(after <= before for after, before in zip(with_it, without, strict=False))


# --- one rule each ---


def test_first_price_pays_each_winner_its_own_bid() -> None:
    assert paid(clear(an_offer(), sealed_bids([30, 10, 20]), 2)) == [("n1", 10), ("n2", 20)]


def test_the_uniform_price_is_that_of_the_best_bid_that_lost() -> None:
    offer = an_offer(clearing_rule=UNIFORM, max_price_microcredits=100)
    assert paid(clear(offer, sealed_bids([30, 10, 20, 40]), 2)) == [("n1", 30), ("n2", 30)]


def test_with_no_more_bids_than_winners_the_reserve_is_the_uniform_price() -> None:
    offer = an_offer(clearing_rule=UNIFORM, max_price_microcredits=100)
    assert paid(clear(offer, sealed_bids([30, 10]), 2)) == [("n1", 100), ("n0", 100)]
    assert paid(clear(offer, sealed_bids([30, 10, 101]), 2)) == [("n1", 100), ("n0", 100)]


@pytest.mark.parametrize("rule", [UNIFORM, POSTED])
def test_a_rule_whose_price_may_be_the_reserve_does_not_clear_without_one(rule: ClearingRule) -> None:
    with pytest.raises(ValueError, match="has no reserve price"):
        clear(an_offer(clearing_rule=rule), sealed_bids([1]), 1)


def test_a_posted_price_is_paid_to_those_who_took_it_first() -> None:
    offer = an_offer(clearing_rule=POSTED, max_price_microcredits=50)
    assert paid(clear(offer, sealed_bids([50, 50, 10]), 2)) == [("n0", 50), ("n1", 50)]


def test_scoring_weighs_delay_missing_input_and_reputation_and_pays_the_bid() -> None:
    offer = an_offer(clearing_rule=SCORING, weights=ScoringWeights(10, 20, 100))
    slow = a_sealed_bid(node_id="slow", bid=a_bid(price_microcredits=50, start_delay_us=6 * SECOND_US))
    far = a_sealed_bid(node_id="far", bid=a_bid(price_microcredits=60, missing_input_bytes=GIB))
    unknown = a_sealed_bid(node_id="unknown", bid=a_bid(price_microcredits=10), reputation_permille=0)
    good = a_sealed_bid(node_id="good", bid=a_bid(price_microcredits=70), reputation_permille=900)
    assert [score(offer.weights, sealed) for sealed in (slow, far, unknown, good)] == [110, 80, 110, 80]
    winners = clear(offer, [slow, far, unknown, good], 2)
    assert sorted(paid(winners)) == [("far", 60), ("good", 70)]


def test_each_part_of_a_score_is_rounded_up_so_that_nothing_that_lacks_is_free() -> None:
    barely = a_sealed_bid(
        bid=a_bid(price_microcredits=0, start_delay_us=1, missing_input_bytes=1), reputation_permille=999
    )
    assert score(ScoringWeights(1, 1, 1), barely) == 3


@given(prices, slots)
def test_scoring_without_weights_is_first_price(offered: list[int], count: int) -> None:
    bids = sealed_bids(offered)
    assert clear(an_offer(clearing_rule=SCORING), bids, count) == clear(an_offer(), bids, count)


# --- ties ---


def test_equal_bids_are_ranked_by_the_hash_of_the_offer_and_the_node() -> None:
    bids = sealed_bids([7] * 6)
    by_hash = sorted(bids, key=lambda b: hashlib.sha256(f"o-1\n{b.node_id}".encode()).digest())
    assert [winner.sealed for winner in clear(an_offer(), bids, 6)] == by_hash


def test_no_choice_of_a_bids_id_wins_a_tie() -> None:
    first, second = sealed_bids([7, 7])
    (winner,) = clear(an_offer(), [first, second], 1)
    renamed = [replace(b, bid=replace(b.bid, id=f"a{i}")) for i, b in enumerate((second, first))]
    assert clear(an_offer(), renamed, 1)[0].sealed.node_id == winner.sealed.node_id


def test_no_node_wins_the_ties_of_every_offer() -> None:
    bids = sealed_bids([7, 7])
    winners = {clear(an_offer(id=f"o-{number}"), bids, 1)[0].sealed.node_id for number in range(40)}
    assert winners == {"n0", "n1"}


# --- what an award commits to ---


def test_the_digest_is_over_a_line_a_bid_in_the_order_of_bid_ids() -> None:
    first = a_sealed_bid(node_id="n2", bid=a_bid(id="b-1"), digest=b"\x01", position=2, received_us=5)
    second = a_sealed_bid(
        node_id="n1", bid=a_bid(id="b-2"), digest=b"\x02", position=1, received_us=4, reputation_permille=3
    )
    entries = [(second, BidStanding.STANDS), (first, BidStanding.EXPIRED)]
    assert bid_set_digest(entries) == hashlib.sha256(b"01 2 5 1000 2\n02 1 4 3 1\n").digest()


@given(prices.filter(bool))
def test_leaving_out_a_bid_changes_the_digest(offered: list[int]) -> None:
    entries = [(sealed, BidStanding.STANDS) for sealed in sealed_bids(offered)]
    assert bid_set_digest(entries) != bid_set_digest(entries[1:])
