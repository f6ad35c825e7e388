"""Auction and queueing theory through the full machines: each closed form is inside of the interval of the seeds.

Ten short runs each, with the seeds that the scenarios come with, from 1 on. At 99.9 % the two dozen intervals of this
file all hold the truth for 97 of 100 choices of seeds, and each has to be narrow (`confirms`). docs/simulation.md has
the full runs and the sources of the formulas.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import pairwise
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from bacalhau.model.units import SECOND_US
from bacalhau.simulation.experiment import run_all
from bacalhau.simulation.reading import find_scenario, read_scenario
from bacalhau.simulation.statistics import Estimate, estimate
from bacalhau.simulation.workload import arrivals

if TYPE_CHECKING:
    from bacalhau.simulation.scenario import Scenario

CONFIDENCE = 0.999
HALF_WIDTH_MAX = 0.15
"""Of the value that theory has: then no interval that holds it holds it still with all figures halved, or half as large
again."""


def figures(name: str, *settings: tuple[str, str]) -> list[dict[str, float]]:
    """Of every seed of a ready scenario."""
    return figures_of(read_scenario(*find_scenario(name), (("replications", "10"), *settings)))


def figures_of(scenario: Scenario) -> list[dict[str, float]]:
    (result,) = run_all([scenario], workers=1)
    return [run.figures for run in result.runs]


def estimated(found: list[dict[str, float]], figure: str, per: str = "") -> Estimate:
    return estimate([one[figure] / (one[per] if per else 1) for one in found], CONFIDENCE)


def confirms(found: Estimate, theory: float) -> bool:
    """Whether the interval holds the value, and is narrow enough for that to mean something."""
    assert found.half_width is not None
    assert found.half_width <= HALF_WIDTH_MAX * theory, f"{found} is too wide for {theory}"
    return found.holds(theory)


@pytest.mark.parametrize("sellers", [2, 5, 10])
def test_first_price_equilibrium_has_the_price_and_the_rent_of_theory(sellers: int) -> None:
    """n sellers, costs even on [0, 1]: the price is 2/(n+1), the winner's rent 1/(n+1) (Vickrey 1961)."""
    found = figures(
        "first-price",
        ("nodes.seller.count", str(sellers)),
        ("nodes.seller.pricing.share", f"1/{sellers}"),
        ("jobs", "100"),
    )
    assert confirms(estimated(found, "price mean, credits"), 2 / (sellers + 1))
    assert confirms(estimated(found, "provider profit, credits", "jobs completed"), 1 / (sellers + 1))


def test_sellers_who_do_not_shade_their_bids_are_told_from_those_in_equilibrium() -> None:
    """They bid their costs, of which the least is 1/(n+1)."""
    found = figures("first-price", ("nodes.seller.pricing.share", "0/5"), ("jobs", "100"))
    price = estimated(found, "price mean, credits")
    assert confirms(price, 1 / 6)
    assert not price.holds(2 / 6)


def test_second_price_has_the_mean_price_of_first_price() -> None:
    """Revenue equivalence: 2/(n+1) with sellers who bid their costs (Vickrey 1961, Myerson 1981)."""
    found = figures("second-price", ("jobs", "200"))
    assert confirms(estimated(found, "price mean, credits"), 2 / 6)
    assert confirms(estimated(found, "provider profit, credits", "jobs completed"), 1 / 6)


@pytest.mark.parametrize(("sellers", "winners"), [(5, 2), (10, 3)])
def test_k_winners_at_the_next_price_are_paid_what_order_statistics_say(sellers: int, winners: int) -> None:
    """(k+1)/(n+1) each."""
    found = figures(
        "k-winners",
        ("nodes.seller.count", str(sellers)),
        ("workload.replicas", str(winners)),
        ("jobs", "80"),
    )
    price = estimate([one["price mean, credits"] / winners for one in found], CONFIDENCE)
    assert confirms(price, (winners + 1) / (sellers + 1))


def expected_payment(sellers: int, reserve: float) -> float:
    """The integral from 0 to r of P(c1 <= r) - P(c2 <= t), by the trapezoidal rule."""
    sold = 1 - (1 - reserve) ** sellers

    def second_at_most(t: float) -> float:
        return 1 - (1 - t) ** sellers - sellers * t * (1 - t) ** (sellers - 1)

    steps = 10_000
    values = [sold - second_at_most(reserve * step / steps) for step in range(steps + 1)]
    return (sum(values) - (values[0] + values[-1]) / 2) * reserve / steps


@pytest.mark.parametrize("reserve", [0.3, 0.5, 0.9])
def test_a_reserve_sells_as_often_and_costs_as_much_as_theory_says(reserve: float) -> None:
    """P(sale) = 1 - (1 - r)^n with n = 5."""
    found = figures("reserve", ("workload.value.budget", str(reserve)), ("jobs", "100"))
    if reserve < 0.9:  # nearly all are sold there, and ten seeds may see no other
        assert confirms(estimated(found, "jobs completed", "jobs submitted"), 1 - (1 - reserve) ** 5)
    paid = [one["price mean, credits"] * one["jobs completed"] / one["jobs submitted"] for one in found]
    assert confirms(estimate(paid, CONFIDENCE), expected_payment(5, reserve))


def test_a_buyer_who_values_a_job_at_1_does_best_with_a_reserve_of_half_of_it() -> None:
    """Myerson 1981. At 0.9 the buyer has 0.005 less a job, three or four standard errors of 3,000 jobs."""
    surplus = {}
    for reserve, jobs in ((0.3, "100"), (0.5, "300"), (0.9, "300")):
        found = figures("reserve", ("workload.value.budget", str(reserve)), ("jobs", jobs))
        surplus[reserve] = estimated(found, "users' surplus, credits", "jobs submitted").mean
    assert surplus[0.5] > max(surplus[0.3], surplus[0.9])


def deviators_profits(share: str, jobs: int) -> list[float]:
    settings = (("nodes.deviator.pricing.share", share), ("jobs", str(jobs)))
    return [one["profit of deviator, credits"] for one in figures("deviator", *settings)]


@pytest.mark.parametrize("share", ["1/10", "2/5"])
def test_nobody_gains_by_leaving_the_first_price_equilibrium(share: str) -> None:
    """Jobs and costs of a seed are the same whatever one of five bids, so its profits are compared seed by seed."""
    best, other = deviators_profits("1/5", 200), deviators_profits(share, 200)
    lost = [kept - earned for kept, earned in zip(best, other, strict=True)]
    assert estimate(lost, CONFIDENCE).low > 0


def test_who_bids_the_cost_earns_nothing_at_first_price() -> None:
    assert set(deviators_profits("0/10", 20)) == {0}


def erlang_c(servers: int, load: float) -> float:
    """The chance to wait in M/M/c, by Erlang's recursion."""
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def queue(slots: int, load: float, jobs: int) -> Scenario:
    """Run times of 10 s on the average, and so many jobs at a time as `load` says."""
    settings = (
        ("nodes[0].cpu", str(slots)),
        ("workload.arrivals.poisson.every", f"{10_000_000 / load:.0f}us"),
        ("jobs", str(jobs)),
        ("replications", "10"),
    )
    return read_scenario(*find_scenario("mm10"), settings)


def waits_in_turn(scenario: Scenario, slots: int) -> list[float]:
    """By seed, the mean wait in seconds of the very jobs of the scenario, each in the slot that is free first."""
    waits = []
    for seed in range(scenario.seed, scenario.seed + scenario.replications):
        free_us, waited_us = [0] * slots, []
        for job in arrivals(scenario, (), Random(f"jobs {seed}")):
            start_us = max(job.at_us, heappop(free_us))
            heappush(free_us, start_us + job.plan.run_us)
            if job.at_us >= scenario.warmup_us:
                waited_us.append(start_us - job.at_us)
        waits.append(fmean(waited_us) / SECOND_US)
    return waits


@pytest.mark.parametrize(("slots", "load"), [(5, 3.0), (10, 7.0)])
def test_a_node_with_c_slots_makes_each_job_wait_as_in_the_queue_of_theory(slots: int, load: float) -> None:
    """Not on the average alone: that would want a hundred thousand jobs through the machines. The jobs of each seed
    wait as long as its queue says, and a few messages of a microsecond."""
    scenario = queue(slots, load, 600)
    found = figures_of(scenario)
    assert [one["wait mean, s"] for one in found] == pytest.approx(waits_in_turn(scenario, slots), abs=1e-4)
    assert confirms(estimated(found, "utilisation"), load / slots)


@pytest.mark.parametrize(("slots", "load"), [(5, 3.0), (10, 7.0)])
def test_the_jobs_that_are_drawn_wait_in_that_queue_as_in_mmc(slots: int, load: float) -> None:
    """C(c, a) / (c mu - lambda)."""
    waited = estimate(waits_in_turn(queue(slots, load, 40_000), slots), CONFIDENCE)
    assert confirms(waited, erlang_c(slots, load) * 10 / (slots - load))


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
        found = figures("ask-some", ("market.offers_to", str(asked)), ("jobs", "100"))
        priced = estimated(found, "price mean, credits")
        assert confirms(priced, 1.1 * (0.002 + 0.018 / (asked + 1)))
        prices.append(priced.mean)
    assert all(fewer > more for fewer, more in pairwise(prices))
