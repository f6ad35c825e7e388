"""Markets in simulated time: same seed, same run; figures that can be worked out by hand; what cheats gain."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from bacalhau.simulation.experiment import compare, grid, run_all
from bacalhau.simulation.fingerprint import Fingerprint
from bacalhau.simulation.measures import JobColumns, JobRow
from bacalhau.simulation.reading import find_scenario, read_scenario
from bacalhau.simulation.run import simulate

ONE_NODE = """\
name: one
nodes: [{cpu: 2, cost: {start: 0.25}, pricing: {strategy: cost_plus, markup: 2}}]
workload: {arrivals: {fixed: {every: 10s}}, run: 30s, overestimate: 1, value: {per_job: 1}, queue: 1h}
network: {latency: 10ms}
jobs: 4
"""
BUSY = read_scenario(*find_scenario("busy-day"), [("duration", "3h"), ("replications", "1")])


def test_the_figures_of_four_jobs_on_two_cores_are_those_worked_out_by_hand() -> None:
    """Jobs come at 0, 10, 20, 30; two run at a time for 30 s. The third waits from 20 to 30, the fourth from 30
    to 40. Offer, bid, award are a message of 10 ms each."""
    figures = simulate(read_scenario(ONE_NODE, "one.yaml")).figures
    assert figures["jobs completed"] == 4
    assert figures["wait mean, s"] == pytest.approx((0.03 + 0.03 + 10.03 + 10.03) / 4, abs=0.1)
    assert figures["price mean, credits"] == 0.5
    assert figures["welfare, credits"] == pytest.approx(4 - 4 * 0.25)
    assert figures["provider profit, credits"] == pytest.approx(1.0)
    assert figures["utilisation"] == pytest.approx(120 / (2 * 70), rel=0.01)


def test_a_job_whose_node_died_while_it_fetched_the_inputs_has_no_time_of_start() -> None:
    outages = "{every: 20s, repair: 1h}"
    settings = [
        ("nodes[0].outages", outages),
        ("nodes[0].link", "8Mbit/s"),
        ("workload.data", "{sets: 1, size: 1GB}"),
        ("jobs", "1"),
        ("market.attempts", "1"),
    ]
    run = simulate(read_scenario(ONE_NODE, "one.yaml", settings))
    assert (run.jobs.state, run.jobs.fault) == (["failed"], ["node_lost"])
    assert list(run.jobs.started_us) == [-1]


def test_work_that_an_outage_interrupts_costs_its_node_what_it_ran_for() -> None:
    """One core for 0.001 credits a second; after a minute the node is gone, and the job runs again from its start."""
    settings = [
        ("nodes[0].cost", "{cpu_second: 0.001}"),
        ("nodes[0].outages", "{every: 61s, repair: 5s}"),
        ("workload.run", "40s"),
        ("workload.arrivals.fixed.every", "30s"),
        ("market", "{attempts: 20}"),
    ]
    run = simulate(read_scenario(ONE_NODE, "one.yaml", settings))
    (node,) = run.nodes
    assert run.figures["jobs completed"] == 4
    assert node.spent_microcredits > 4 * 40 * 1000 + 10_000
    assert node.spent_microcredits == pytest.approx(node.busy_millicore_us / 10**6, abs=10)


def test_the_names_of_a_row_are_those_of_the_columns_in_their_order() -> None:
    assert JobRow._fields == tuple(column.name for column in fields(JobColumns))


def test_work_whose_result_is_compared_costs_its_node_once() -> None:
    node = "{count: 2, cpu: 2, cost: {start: 0.25}, pricing: {strategy: cost_plus, markup: 2}}"
    settings = [
        ("nodes", f"[{node}]"),
        ("workload.replicas", "2"),
        ("verification", "{policy: replicated, confidence: 2}"),
    ]
    figures = simulate(read_scenario(ONE_NODE, "one.yaml", settings)).figures
    assert figures["jobs completed"] == 4
    assert figures["provider profit, credits"] == pytest.approx(4 * 2 * 0.25)


def test_jobs_of_the_warm_up_are_in_no_figure_and_those_after_it_in_all() -> None:
    """Of the four jobs the first two come at 0 and 10 s."""
    settings = [("warmup", "15s"), ("workload.late_after", "1")]
    figures = simulate(read_scenario(ONE_NODE, "one.yaml", settings)).figures
    assert (figures["jobs submitted"], figures["jobs completed"], figures["jobs late"]) == (2, 2, 2)
    assert figures["welfare, credits"] == pytest.approx(2 - 2 * 0.25)
    assert figures["welfare, share of the optimum without contention"] == pytest.approx(1)
    assert figures["provider profit, credits"] == pytest.approx(2 * 0.25)
    assert figures["executions a job"] == figures["executions of the busiest provider"] / 2 == 1


def test_what_the_first_jobs_paid_is_in_no_price_of_a_market_that_has_warmed_up() -> None:
    """Load raises the price: the job that comes first, to an empty node, pays least."""
    settings = [("nodes[0].pricing", "{strategy: load, price: 0.1}"), ("workload.run", "1h")]
    prices = [
        simulate(read_scenario(ONE_NODE, "one.yaml", [*settings, ("jobs", "2"), *warmup])).figures[
            "price of a core hour, up to 1 CPU, credits"
        ]
        for warmup in ([], [("warmup", "5s")])
    ]
    assert prices == pytest.approx([0.1005, 0.101], abs=1e-6)


def test_refusals_of_the_warm_up_are_not_counted() -> None:
    settings = [("workload.cpu", "4"), ("workload.queue", "1s"), ("warmup", "15s")]
    figures = simulate(read_scenario(ONE_NODE, "one.yaml", settings)).figures
    assert (figures["jobs submitted"], figures["jobs refused"], figures["jobs failed"]) == (2, 2, 0)


def test_what_nothing_tells_of_is_no_figure_and_no_mean_counts_it_as_nothing() -> None:
    """Of two jobs a seed hardly any asks for eight cores; where one does its price is 8 times 0.1 for an hour."""
    settings = [
        ("workload.cpu", "{choice: {1: 3, 8: 1}}"),
        ("nodes[0].cpu", "16"),
        ("nodes[0].pricing", "{strategy: flat, price: 0.1}"),
        ("jobs", "2"),
        ("replications", "8"),
    ]
    result, refused = run_all(
        [
            read_scenario(ONE_NODE, "one.yaml", changes)
            for changes in (settings, [*settings, ("nodes[0].pricing.price", "9")])
        ],
        workers=1,
    )
    large = "price of a core hour, more than 4 CPU, credits"
    having = [run.figures[large] for run in result.runs if large in run.figures]
    assert 2 <= len(having) < 8
    found = result.estimates()[large]
    assert found.mean == pytest.approx(0.1 / (8 * 30 / 3600))
    assert found.runs == len(having)
    assert found.half_width == pytest.approx(0)
    assert refused.estimates()["jobs completed"].mean == 0
    assert not [name for name in refused.estimates() if name.startswith(("wait", "turnaround", "price"))]
    differences = compare(result, refused)
    assert "wait mean, s" not in differences
    assert differences["jobs completed"].paired.mean == -2
    dearer = compare(result, result)[large]
    assert (dearer.first.mean, dearer.paired.mean, dearer.paired.runs) == (found.mean, 0, len(having))


def test_a_seed_is_the_same_run_each_time_and_another_seed_another() -> None:
    runs = [simulate(BUSY, seed, watch=Fingerprint) for seed in (1, 1, 2)]
    assert runs[0].digest == runs[1].digest != runs[2].digest
    assert runs[0].fingerprint == runs[1].fingerprint != runs[2].fingerprint
    assert runs[0].figures == runs[1].figures


def test_an_offer_to_many_by_one_event_is_the_run_in_which_each_message_has_its_own() -> None:
    """Where the time of a message is drawn, and be it from nothing, each has its own event."""
    together, apart = (
        simulate(read_scenario(*find_scenario("ask-some"), [("jobs", "10"), *drawn]), watch=Fingerprint)
        for drawn in ([], [("network.jitter", "0s")])
    )
    assert together.fingerprint == apart.fingerprint
    assert together.figures == apart.figures
    assert together.handled < apart.handled


def test_a_run_does_not_depend_on_the_order_of_sets() -> None:
    code = (
        "from bacalhau.simulation.fingerprint import Fingerprint\n"
        "from bacalhau.simulation.reading import find_scenario, read_scenario\n"
        "from bacalhau.simulation.run import simulate\n"
        "scenario = read_scenario(*find_scenario('busy-day'), [('duration', '2h')])\n"
        "print(simulate(scenario, watch=Fingerprint).fingerprint)\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_replications_are_the_same_in_one_process_and_in_several() -> None:
    scenario = replace(BUSY, replications=2)
    alone, together = (run_all([scenario], workers=workers)[0] for workers in (1, 2))
    assert [run.digest for run in alone.runs] == [run.digest for run in together.runs]
    assert alone.estimates() == together.estimates()


def test_two_scenarios_see_the_same_jobs_and_differ_by_what_they_say() -> None:
    few, many = (
        read_scenario(
            *find_scenario("ask-some"), [("jobs", "40"), ("replications", "3"), ("market.offers_to", to)]
        )
        for to in ("2", "20")
    )
    before, after = run_all([few, many], workers=1)
    differences = compare(before, after)
    assert differences["turnaround p50, s"].paired.mean == pytest.approx(0, abs=1e-6)
    assert differences["price mean, credits"].is_clear
    assert differences["price mean, credits"].paired.high < 0
    with pytest.raises(ValueError, match="the same seeds"):
        compare(before, run_all([replace(few, seed=7, replications=1)], workers=1)[0])


def test_a_grid_has_every_combination() -> None:
    assert list(grid([("a", ["1", "2"]), ("b", ["3"])])) == [
        (("a", "1"), ("b", "3")),
        (("a", "2"), ("b", "3")),
    ]


def test_cheats_gain_where_nothing_is_verified_and_their_results_are_counted_as_wrong() -> None:
    settings = [("jobs", "150"), ("replications", "1")]
    figures = simulate(read_scenario(*find_scenario("cheats"), settings)).figures
    assert figures["jobs with a wrong result"] > 0
    assert figures["profit of fabricator, credits"] > 0
    assert figures["profit of undercutter, credits"] == 0
    assert figures["jobs completed"] == 150


def test_work_that_is_reported_as_twice_as_much_costs_its_node_no_more() -> None:
    """Nor does work that is stopped at its limit, which costs what it took until then."""
    settings = [("nodes[0].cost", "{cpu_second: 0.001}"), ("nodes[0].pricing.markup", "1")]
    for over in ("1.5", "0.5"):
        spent, income = [], []
        for cheat in ("honest", "inflates_usage"):
            given = [*settings, ("workload.overestimate", over), ("nodes[0].cheat", cheat)]
            (node,) = simulate(read_scenario(ONE_NODE, "one.yaml", given)).nodes
            spent.append(node.spent_microcredits)
            income.append(node.income_microcredits)
        assert spent[0] == spent[1] == 4 * 1000 * (30 if over == "1.5" else 15)
        assert income[0] < income[1] if over == "1.5" else income == [0, 0]


def test_who_never_pays_gets_no_more_than_the_credit_that_nodes_give() -> None:
    settings = [
        ("jobs", "150"),
        ("nodes", "[{count: 3, cpu: 16, cost: {start: 0.01}, pricing: {strategy: cost_plus, markup: 1}}]"),
        ("workload.run", "5s"),
        ("workload.value", "{per_job: 1}"),
        ("market", "{requesters: 2, credit: 0.1, settle: 30s, defaulters: 0.5, pay_floor: 1, heartbeat: 1m}"),
    ]
    figures = simulate(read_scenario(*find_scenario("cheats"), settings)).figures
    assert figures["owed by defaulters, credits"] == pytest.approx(3 * 0.1)
    assert figures["jobs refused"] > 20
    assert figures["jobs completed"] + figures["jobs refused"] == 150


@pytest.mark.parametrize(
    "settings",
    [
        [("network.loss", "0.05"), ("network.straggling", "0.02"), ("network.duplication", "0.05")],
        [("network.partition", "{share: 0.5, from: 10m, to: 20m}")],
        [("nodes.office.outages.every", "{exponential: 20m}"), ("market.lease", "30s")],
        [("workload.replicas", "2"), ("market.offers_to", "4")],
    ],
    ids=["loss", "partition", "outages", "replicas to a sample"],
)
def test_every_job_ends_whatever_the_scenario_makes_go_wrong(settings: list[tuple[str, str]]) -> None:
    base = [("duration", "40m"), ("workload.arrivals", "{poisson: {every: 20s}}"), ("replications", "1")]
    figures = simulate(read_scenario(*find_scenario("busy-day"), [*base, *settings])).figures
    ended = sum(figures[f"jobs {name}"] for name in ("completed", "refused", "failed"))
    assert ended == figures["jobs submitted"] > 50
    assert figures["jobs completed"] > 10


def test_an_offer_to_some_is_answered_by_as_many() -> None:
    settings = [("jobs", "60"), ("market.offers_to", "7"), ("warmup", "1ms")]
    figures = simulate(read_scenario(*find_scenario("ask-some"), settings)).figures
    assert figures["jobs completed"] == 60
    assert figures["bids a job"] == pytest.approx(7, abs=0.5)
