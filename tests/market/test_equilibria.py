"""What auction theory expects on average, against the clearing that nodes run: fixed seeds, stated intervals.

n bidders draw costs from the uniform distribution on [0, 1), as whole parts of UNIT; one unit each is bought.
Each estimate must lie within 4 standard errors of its closed form: of a hundred thousand such tests with a
correct program, about six would fail, and the seed is fixed, so none does by chance from day to day.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from random import Random
from typing import TYPE_CHECKING

import pytest

from bacalhau.market.clearing import clear
from bacalhau.model.auction import ClearingRule
from tests.builders import an_offer
from tests.market.sealed import sealed_bids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

UNIT = 10**6
ROUNDS = 4000
STANDARD_ERRORS = 4.0
BIDDERS = (2, 3, 5, 10)
FIRST_PRICE = an_offer(max_price_microcredits=UNIT)
UNIFORM = replace(FIRST_PRICE, clearing_rule=ClearingRule.UNIFORM_PRICE)


def equilibrium_bid(cost: int, bidders: int) -> int:
    """b(c) = c + (1 - c) / n: the symmetric equilibrium of the first-price reverse auction, costs uniform on
    [0, 1] (Krishna, Auction Theory, chapter 2, mirrored)."""
    return cost + (UNIT - cost) // bidders


def drawn(seed: int, bidders: int, rounds: int = ROUNDS) -> Iterable[list[int]]:
    random = Random(seed)
    for _ in range(rounds):
        yield [random.randrange(UNIT) for _ in range(bidders)]


def assert_mean(samples: list[int], expected: float) -> None:
    mean = sum(samples) / len(samples)
    variance = sum((sample - mean) ** 2 for sample in samples) / (len(samples) - 1)
    error = sqrt(variance / len(samples))
    assert abs(mean - expected) <= STANDARD_ERRORS * error, (mean / UNIT, expected / UNIT, error / UNIT)


def prices_paid(costs: Iterable[list[int]], pay: Callable[[list[int]], list[int]]) -> list[int]:
    return [price for drawn_costs in costs for price in pay(drawn_costs)]


@pytest.mark.parametrize("bidders", BIDDERS)
def test_first_price_costs_two_parts_of_n_and_one_where_all_bid_in_equilibrium(bidders: int) -> None:
    def pay(costs: list[int]) -> list[int]:
        bids = sealed_bids([equilibrium_bid(cost, bidders) for cost in costs])
        return [winner.price_microcredits for winner in clear(FIRST_PRICE, bids, 1)]

    assert_mean(prices_paid(drawn(1, bidders), pay), 2 * UNIT / (bidders + 1))


@pytest.mark.parametrize("bidders", BIDDERS)
def test_second_price_costs_the_same_where_all_bid_their_cost(bidders: int) -> None:
    """Revenue equivalence: Vickrey 1961, Myerson 1981."""

    def pay(costs: list[int]) -> list[int]:
        return [winner.price_microcredits for winner in clear(UNIFORM, sealed_bids(costs), 1)]

    assert_mean(prices_paid(drawn(2, bidders), pay), 2 * UNIT / (bidders + 1))


@pytest.mark.parametrize(("rule", "seed"), [("first", 3), ("second", 4)])
@pytest.mark.parametrize("bidders", BIDDERS)
def test_the_winner_keeps_one_part_of_n_and_one(bidders: int, rule: str, seed: int) -> None:
    def rent(costs: list[int]) -> list[int]:
        if rule == "first":
            bids = sealed_bids([equilibrium_bid(cost, bidders) for cost in costs])
            winners = clear(FIRST_PRICE, bids, 1)
        else:
            winners = clear(UNIFORM, sealed_bids(costs), 1)
        return [w.price_microcredits - costs[int(w.sealed.node_id[1:])] for w in winners]

    assert_mean(prices_paid(drawn(seed, bidders), rent), UNIT / (bidders + 1))


@pytest.mark.parametrize("cost_tenths", [1, 3, 6])
def test_against_equilibrium_bidders_no_other_bid_gains_more(cost_tenths: int) -> None:
    """What the equilibrium's bid gains more than another one, over the same draws, is what theory says; and that is
    never less than nothing. With b = 1/n + (1 - 1/n)c a rival bids more than b by the chance n(1 - b)/(n - 1)."""
    bidders = 5
    cost = cost_tenths * UNIT // 10
    equilibrium = equilibrium_bid(cost, bidders)
    rivals = [[equilibrium_bid(c, bidders) for c in costs] for costs in drawn(5, bidders - 1, 2000)]

    def gains(bid: int) -> list[int]:
        winners = [clear(FIRST_PRICE, sealed_bids([bid, *others]), 1)[0] for others in rivals]
        return [w.price_microcredits - cost if w.sealed.node_id == "n0" else 0 for w in winners]

    def expected(bid: int) -> float:
        above = min(1.0, bidders * (1 - bid / UNIT) / (bidders - 1))
        return (bid - cost) * above ** (bidders - 1)

    best = gains(equilibrium)
    for bid in range(cost, UNIT, UNIT // 25):
        more = expected(equilibrium) - expected(bid)
        assert more >= 0
        assert_mean([ours - theirs for ours, theirs in zip(best, gains(bid), strict=True)], more)


@pytest.mark.parametrize(("bidders", "winners"), [(5, 2), (10, 3), (20, 8)])
def test_k_winners_are_paid_k_and_one_parts_of_n_and_one(bidders: int, winners: int) -> None:
    def pay(costs: list[int]) -> list[int]:
        cleared = clear(UNIFORM, sealed_bids(costs), winners)
        assert len({winner.price_microcredits for winner in cleared}) == 1
        return [cleared[0].price_microcredits]

    assert_mean(prices_paid(drawn(6, bidders, 2000), pay), (winners + 1) * UNIT / (bidders + 1))


@pytest.mark.parametrize(("bidders", "reserve_tenths"), [(2, 5), (5, 5), (5, 2), (10, 1)])
def test_with_a_reserve_the_slot_is_sold_with_one_minus_one_minus_r_to_the_n(
    bidders: int, reserve_tenths: int
) -> None:
    reserve = reserve_tenths * UNIT // 10
    offer = replace(UNIFORM, max_price_microcredits=reserve)
    sold = [UNIT * len(clear(offer, sealed_bids(costs), 1)) for costs in drawn(7, bidders)]
    # A cost below the reserve has `reserve + 1` of UNIT values, as costs are whole; that is far inside the interval.
    assert_mean(sold, UNIT * (1 - (1 - reserve_tenths / 10) ** bidders))


def test_the_expected_pay_under_a_reserve_is_that_of_the_order_statistics() -> None:
    """E[pay] = integral from 0 to r of P(c1 <= r) - P(c2 <= t) dt; 0.29687 for n = 5, r = 0.5."""
    offer = replace(UNIFORM, max_price_microcredits=UNIT // 2)
    paid = [
        sum(winner.price_microcredits for winner in clear(offer, sealed_bids(costs), 1))
        for costs in drawn(8, 5)
    ]
    assert_mean(paid, 0.296875 * UNIT)


def expected_gain(reserve: float, bidders: int) -> float:
    """Of a buyer whose value is 1: P(c1 <= r) - E[pay], with the integral of the test above worked out."""
    unsold = (1 - reserve) ** bidders
    pay = 1 - (1 + reserve) * unsold - (1 - (1 - reserve) * unsold) * (bidders - 1) / (bidders + 1)
    return 1 - unsold - pay


@pytest.mark.parametrize("bidders", [2, 5])
def test_a_buyer_gains_most_with_a_reserve_of_half_of_its_value(bidders: int) -> None:
    """Myerson 1981, mirrored: v = c + F/f gives r = v/2 for costs uniform on [0, 1], whatever n is. What that reserve
    gains more than another one, over the same draws, is what theory says; and that is never less than nothing."""
    costs = list(drawn(9, bidders, 3000))

    def gains(tenths: int) -> list[int]:
        offer = replace(UNIFORM, max_price_microcredits=tenths * UNIT // 10)
        cleared = [clear(offer, sealed_bids(drawn_costs), 1) for drawn_costs in costs]
        return [sum(UNIT - winner.price_microcredits for winner in winners) for winners in cleared]

    best = gains(5)
    assert_mean(best, UNIT * expected_gain(0.5, bidders))
    for tenths in (1, 2, 3, 4, 6, 7, 8, 9, 10):
        more = expected_gain(0.5, bidders) - expected_gain(tenths / 10, bidders)
        assert more > 0
        assert_mean([ours - theirs for ours, theirs in zip(best, gains(tenths), strict=True)], UNIT * more)
