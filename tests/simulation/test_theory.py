"""Auction and queueing theory through the full machines: each closed form is inside of the interval of the seeds.

Few jobs, fixed seeds, wide confidence; docs/simulation.md has the full runs. Formulas: market-anchors there.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from bacalhau.simulation.experiment import run_all
from bacalhau.simulation.reading import find_scenario, read_scenario
from bacalhau.simulation.statistics import Estimate, estimate

CONFIDENCE = 0.999


def figures(name: str, *settings: tuple[str, str]) -> list[dict[str, float]]:
    """Of every seed of a ready scenario."""
    (result,) = run_all([read_scenario(*find_scenario(name), settings)], workers=1)
    return [run.figures for run in result.runs]


def estimated(found: list[dict[str, float]], figure: str, per: str = "") -> Estimate:
    return estimate([one[figure] / (one[per] if per else 1) for one in found], CONFIDENCE)


@pytest.mark.parametrize("sellers", [2, 5, 10])
def test_first_price_equilibrium_has_the_price_and_the_rent_of_theory(sellers: int) -> None:
    """n sellers, costs even on [0, 1]: the price is 2/(n+1), the winner's rent 1/(n+1) (Vickrey 1961)."""
    found = figures(
        "first-price",
        ("nodes.seller.count", str(sellers)),
        ("nodes.seller.pricing.share", f"1/{sellers}"),
        ("jobs", "250"),
        ("replications", "3"),
    )
    assert estimated(found, "price mean, credits").holds(2 / (sellers + 1))
    assert estimated(found, "provider profit, credits", "jobs completed").holds(1 / (sellers + 1))


def test_second_price_has_the_mean_price_of_first_price() -> None:
    """Revenue equivalence: 2/(n+1) with sellers who bid their costs (Vickrey 1961, Myerson 1981)."""
    found = figures("second-price", ("jobs", "250"), ("replications", "3"))
    assert estimated(found, "price mean, credits").holds(2 / 6)
    assert estimated(found, "provider profit, credits", "jobs completed").holds(1 / 6)


@pytest.mark.parametrize(("sellers", "winners"), [(5, 2), (10, 3)])
def test_k_winners_at_the_next_price_are_paid_what_order_statistics_say(sellers: int, winners: int) -> None:
    """(k+1)/(n+1) each."""
    found = figures(
        "k-winners",
        ("nodes.seller.count", str(sellers)),
        ("workload.replicas", str(winners)),
        ("jobs", "200"),
        ("replications", "3"),
    )
    price = estimate([one["price mean, credits"] / winners for one in found], CONFIDENCE)
    assert price.holds((winners + 1) / (sellers + 1))


def expected_payment(sellers: int, reserve: float) -> float:
    """The integral from 0 to r of P(c1 <= r) - P(c2 <= t), by the trapezoidal rule."""
    sold = 1 - (1 - reserve) ** sellers

    def second_at_most(t: float) -> float:
        return 1 - (1 - t) ** sellers - sellers * t * (1 - t) ** (sellers - 1)

    steps = 10_000
    values = [sold - second_at_most(reserve * step / steps) for step in range(steps + 1)]
    return (sum(values) - (values[0] + values[-1]) / 2) * reserve / steps


def test_a_reserve_sells_as_often_and_costs_as_much_as_theory_says() -> None:
    """P(sale) = 1 - (1 - r)^n with n = 5, r = 1/2; and a buyer with value 1 does best there (Myerson 1981)."""
    surplus = {}
    for reserve in (0.3, 0.5, 0.9):
        settings = (("workload.value.budget", str(reserve)), ("jobs", "1000"), ("replications", "3"))
        found = figures("reserve", *settings)
        if reserve < 0.9:  # nearly all are sold there, and three seeds may see no other
            assert estimated(found, "jobs completed", "jobs submitted").holds(1 - (1 - reserve) ** 5)
        paid = [one["price mean, credits"] * one["jobs completed"] / one["jobs submitted"] for one in found]
        assert estimate(paid, CONFIDENCE).holds(expected_payment(5, reserve))
        surplus[reserve] = estimated(found, "users' surplus, credits", "jobs submitted").mean
    assert surplus[0.5] > max(surplus[0.3], surplus[0.9])


def test_nobody_gains_by_leaving_the_first_price_equilibrium() -> None:
    profits = {}
    for share in ("0/10", "1/5", "6/10"):
        settings = (("nodes.deviator.pricing.share", share), ("jobs", "250"), ("replications", "3"))
        profits[share] = estimated(figures("deviator", *settings), "profit of deviator, credits").mean
    assert profits["1/5"] > profits["6/10"] > profits["0/10"] == 0


def erlang_c(servers: int, load: float) -> float:
    """The chance to wait in M/M/c, by Erlang's recursion."""
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


@pytest.mark.parametrize(("slots", "load"), [(5, 3.0)])
def test_the_wait_at_a_node_with_c_slots_is_that_of_mmc(slots: int, load: float) -> None:
    """C(c, a) / (c mu - lambda), with run times of 10 s."""
    found = figures(
        "mm10",
        ("nodes[0].cpu", str(slots)),
        ("workload.arrivals.poisson.every", f"{10_000_000 / load:.0f}us"),
        ("jobs", "1200"),
        ("replications", "5"),
    )
    waited = estimated(found, "wait mean, s")
    assert waited.holds(erlang_c(slots, load) * 10 / (slots - load))
    assert estimated(found, "utilisation").holds(load / slots)


def test_two_choices_are_much_better_than_one_and_three_a_little_better_than_two() -> None:
    """n jobs to n nodes: the largest load falls from ln n / ln ln n to ln ln n / ln d (Azar and others 1994)."""
    busiest = []
    for choices in ("1", "2", "3"):
        settings = (
            ("nodes.bin.count", "500"),
            ("jobs", "500"),
            ("market.offers_to", choices),
            ("replications", "3"),
        )
        busiest.append(estimated(figures("choices", *settings), "executions of the busiest provider").mean)
    assert busiest[0] > busiest[1] >= busiest[2] >= 2
    assert busiest[0] - busiest[1] > 2 * (busiest[1] - busiest[2])
    assert busiest[1] <= 4


def test_asking_d_of_the_nodes_has_the_price_of_the_cheapest_of_d() -> None:
    """Costs even on [low, high], so the mean of the least of d is low + (high - low)/(d + 1); the markup is 1.1."""
    prices = []
    for asked in (1, 9):
        settings = (("market.offers_to", str(asked)), ("jobs", "150"), ("replications", "3"))
        priced = estimated(figures("ask-some", *settings), "price mean, credits")
        assert priced.holds(1.1 * (0.002 + 0.018 / (asked + 1)))
        prices.append(priced.mean)
    assert all(fewer > more for fewer, more in pairwise(prices))
