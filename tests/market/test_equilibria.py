"""What auction theory expects on average, against the clearing that nodes run: fixed seeds, stated intervals.

n bidders draw costs from the uniform distribution on [0, 1), as whole parts of UNIT; one unit each is bought.
Each estimate must lie within 4 standard errors of its closed form: of a hundred thousand such tests with a
correct program, about six would fail, and the seed is fixed, so none does by chance from day to day.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
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
    """The best of a grid of bids, over the same draws, is within one step of the equilibrium's."""
    bidders, step = 5, UNIT // 25
    cost = cost_tenths * UNIT // 10
    rivals = [[equilibrium_bid(c, bidders) for c in costs] for costs in drawn(5, bidders - 1, 2000)]

    def gain(bid: int) -> int:
        total = 0
        for others in rivals:
            (winner,) = clear(FIRST_PRICE, sealed_bids([bid, *others]), 1)
            total += winner.price_microcredits - cost if winner.sealed.node_id == "n0" else 0
        return total

    best = max(range(cost, UNIT, step), key=gain)
    assert abs(best - equilibrium_bid(cost, bidders)) <= step


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


@pytest.mark.parametrize("bidders", [2, 5])
def test_a_buyer_gains_most_with_a_reserve_of_half_of_its_value(bidders: int) -> None:
    """Myerson 1981, mirrored: v = c + F/f gives r = v/2 for costs uniform on [0, 1], whatever n is."""
    value = UNIT
    costs = list(drawn(9, bidders, 3000))
    gains: dict[int, int] = {}
    for tenths, drawn_costs in product((2, 3, 4, 5, 6, 7, 8, 10), costs):
        offer = replace(UNIFORM, max_price_microcredits=tenths * UNIT // 10)
        for winner in clear(offer, sealed_bids(drawn_costs), 1):
            gains[tenths] = gains.get(tenths, 0) + value - winner.price_microcredits
    assert max(gains, key=lambda tenths: gains[tenths]) == 5
