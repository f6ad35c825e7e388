"""What auction theory proves of the clearing rules: exact, over integers with ties, and with no tolerance.

A bidder has one unit to sell at a cost; its gain is price - cost where it wins, and 0 where it does not. Of both counts
the share for which it runs, in whole microcredits, as of its pay: what it uses does not depend on what it bid.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from bacalhau.market.clearing import clear
from bacalhau.market.payment import pay_microcredits
from bacalhau.model.auction import ClearingRule, ScoringWeights
from bacalhau.model.execution import Usage
from bacalhau.model.market import PaymentTerms
from bacalhau.model.units import PPM, SECOND_US
from tests.builders import a_bid, a_sealed_bid, an_offer
from tests.market.sealed import RESERVE, prices, sealed_bids, slots, with_price

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.market.clearing import SealedBid
    from bacalhau.model.market import JobOffer

UNIFORM = an_offer(clearing_rule=ClearingRule.UNIFORM_PRICE, max_price_microcredits=RESERVE)
POSTED = an_offer(clearing_rule=ClearingRule.POSTED_PRICE, max_price_microcredits=RESERVE)
costs = st.integers(0, 15)


def run_for(floor_ppm: int, wall_us: int) -> Callable[[int], int]:
    """What is due of a price for a run of so long, of a job that may take a second."""
    return lambda price: pay_microcredits(price, PaymentTerms(floor_ppm), Usage(wall_us=wall_us), SECOND_US)


runs = st.builds(run_for, st.integers(0, PPM), st.integers(0, 2 * SECOND_US))


def gain(
    offer: JobOffer, bids: list[SealedBid], index: int, cost: int, count: int, due: Callable[[int], int]
) -> int:
    for winner in clear(offer, bids, count):
        if winner.sealed.node_id == bids[index].node_id:
            return due(winner.price_microcredits) - due(cost)
    return 0


@settings(max_examples=1000)
@given(prices.filter(bool), slots, runs, st.data())
def test_no_bid_gains_more_than_the_true_cost_under_the_uniform_price(
    offered: list[int], count: int, due: Callable[[int], int], data: st.DataObject
) -> None:
    """Truth-telling is dominant (Vickrey 1961); with one slot this is the second-price auction."""
    index = data.draw(st.integers(0, len(offered) - 1))
    cost, lie = data.draw(costs), data.draw(costs)
    bids = sealed_bids(offered)
    truthful = gain(UNIFORM, with_price(bids, index, cost), index, cost, count, due)
    assert truthful >= gain(UNIFORM, with_price(bids, index, lie), index, cost, count, due)
    assert truthful >= 0


@given(prices.filter(bool))
def test_the_uniform_price_of_one_slot_is_the_second_price(offered: list[int]) -> None:
    winners = clear(UNIFORM, sealed_bids(offered), 1)
    lowest = sorted(price for price in offered if price <= RESERVE)
    if lowest:
        assert winners[0].sealed.bid.price_microcredits == lowest[0]
        assert winners[0].price_microcredits == (lowest[1] if len(lowest) > 1 else RESERVE)
    else:
        assert winners == []


def total_cost(offered: list[int], chosen: tuple[int, ...], count: int) -> int:
    """What the buyer's plan costs: the chosen, and the reserve for each slot that stays empty."""
    return sum(offered[index] for index in chosen) + RESERVE * (count - len(chosen))


def cheapest(offered: list[int], allowed: list[int], count: int) -> int:
    """The least total cost over every choice of bidders: by trying them all."""
    return min(
        total_cost(offered, chosen, count)
        for size in range(min(count, len(allowed)) + 1)
        for chosen in combinations(allowed, size)
    )


@given(prices, slots)
def test_the_uniform_price_is_that_of_vickrey_clarke_and_groves(offered: list[int], count: int) -> None:
    """A winner is paid what its presence saves the others: W(without it) - (W(with it) - its bid)."""
    everyone = list(range(len(offered)))
    winners = clear(UNIFORM, sealed_bids(offered), count)
    chosen = tuple(int(winner.sealed.node_id[1:]) for winner in winners)
    best = cheapest(offered, everyone, count)
    assert total_cost(offered, chosen, count) == best
    for winner, index in zip(winners, chosen, strict=True):
        others = [other for other in everyone if other != index]
        assert winner.price_microcredits == cheapest(offered, others, count) - (best - offered[index])


@given(st.lists(costs, min_size=1, max_size=8), slots, runs, st.data())
def test_taking_a_posted_price_gains_most_for_whoever_it_pays(
    others: list[int], count: int, due: Callable[[int], int], data: st.DataObject
) -> None:
    """A node takes the posted price or leaves it, which gains 0: to take it is never worse where the cost is not
    above it, and never better where it is."""
    index, cost = data.draw(st.integers(0, len(others) - 1)), data.draw(costs)
    taking = gain(POSTED, sealed_bids([RESERVE] * len(others)), index, cost, count, due)
    assert taking >= 0 if cost <= RESERVE else taking <= 0


@settings(max_examples=1000)
@given(
    st.lists(st.tuples(costs, st.integers(0, 5), st.sampled_from([0, 400, 1000])), min_size=1, max_size=6),
    runs,
    st.data(),
)
def test_paid_the_second_score_a_bidder_gains_most_by_its_true_cost(
    bidders: list[tuple[int, int, int]], due: Callable[[int], int], data: st.DataObject
) -> None:
    """Che 1993: with quality fixed, winners ranked by this score and paid up to the second one bid the truth.

    The rule itself pays the bid, as its first-score form; this shows that its ranking is a scoring auction's.
    """
    offer = an_offer(clearing_rule=ClearingRule.SCORING, weights=ScoringWeights(3, 0, 10))
    index = data.draw(st.integers(0, len(bidders) - 1))
    cost, lie = bidders[index][0], data.draw(costs)

    def bids(price: int) -> list[SealedBid]:
        return [
            a_sealed_bid(
                node_id=f"n{number}",
                bid=a_bid(
                    id=f"b{number}",
                    price_microcredits=price if number == index else asked,
                    start_delay_us=delay_s * SECOND_US,
                ),
                reputation_permille=reputation,
            )
            for number, (asked, delay_s, reputation) in enumerate(bidders)
        ]

    def penalty(number: int) -> int:
        _, delay_s, reputation = bidders[number]
        return 3 * delay_s + -(-10 * (1000 - reputation) // 1000)

    def second_score_gain(price: int) -> int:
        ranked = [winner.sealed for winner in clear(offer, bids(price), len(bidders))]
        if ranked[0].node_id != f"n{index}":
            return 0
        if len(ranked) == 1:
            return 0
        second = int(ranked[1].node_id[1:])
        return due(ranked[1].bid.price_microcredits + penalty(second) - penalty(index)) - due(cost)

    assert second_score_gain(cost) >= second_score_gain(lie)
