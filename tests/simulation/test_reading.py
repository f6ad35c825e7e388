"""Scenario files: every field read in its unit, every refusal with line and field."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.model.job import Engine
from bacalhau.model.units import GIB, SECOND_US
from bacalhau.simulation.distributions import Choice, Constant, Exponential, LogNormal, Uniform
from bacalhau.simulation.fields import ScenarioFailure, parse_rate
from bacalhau.simulation.honesty import Honesty
from bacalhau.simulation.reading import find_scenario, read_scenario, ready_scenarios
from bacalhau.simulation.scenario import ArrivalKind, PricingKind

if TYPE_CHECKING:
    from pathlib import Path

SMALL = "name: small\nnodes: [{count: 2}]\njobs: 3\n"
FULL = """\
name: full
about: everything at once
nodes:
  - name: first
    count: 3
    cpu: {uniform: [2, 4]}
    memory: {choice: {8Gi: 3, 16Gi: 1}}
    disk: 50Gi
    engines: [wasm]
    link: 80Mbit/s
    speed: 1.5
    cost: {start: 0.1, cpu_second: 10u, memory_gib_second: 2u, input_gib: 0.5}
    pricing: {strategy: linear, start: 0.2, cpu_second: 20u}
    holds: 25%
    only_local: true
    outages: {every: {exponential: 1d}, repair: 10m}
    cheat: never_computes
workload:
  arrivals: {bursts: {every: 1h, size: 50}}
  cpu: 2
  memory: 1Gi
  disk: 1Gi
  run: {lognormal: {median: 5m, sigma: 0.8}}
  engine: wasm
  replicas: 3
  result: 10MB
  data: {sets: 7, size: 1GB, per_job: 2, skewed: true}
  value: {per_cpu_hour: {exponential: 0.5}, budget: 0.8}
  overestimate: 2.5
  queue: 1h
  late_after: 3
market:
  {requesters: 2, rule: first_price, bid_window: 2s, bid_valid: 8s, lease: 1m, heartbeat: 10s, offers_to: 5}
verification: none
network:
  latency: 30ms
  jitter: {exponential: 5ms}
  loss: 0.01
  duplication: .002
  straggling: 0
  partition: {share: 0.3, from: 1h, to: 2h}
duration: 6h
warmup: 10m
seed: 9
replications: 4
"""


def test_every_field_is_read_in_its_unit() -> None:
    scenario = read_scenario(FULL, "full.yaml")
    (group,) = scenario.nodes
    assert (group.name, group.count, group.engines) == ("first", 3, (Engine.WASM,))
    assert group.cpu_millicores == Uniform(2000, 4000)
    assert group.memory_bytes == Choice((8 * GIB, 16 * GIB), (3, 1))
    assert group.link_bytes_per_second == Constant(10_000_000)
    assert group.speed_percent == Constant(150)
    assert group.costs.tariff.start_microcredits == 100_000
    assert group.pricing.kind is PricingKind.LINEAR
    assert group.pricing.tariff.cpu_second_microcredits == 20
    assert (group.holds_percent, group.only_local, group.cheat) == (25, True, Honesty.NEVER_COMPUTES)
    assert group.outages is not None
    assert group.outages.every_us == Exponential(86400 * SECOND_US)
    workload = scenario.workload
    assert (workload.arrivals.kind, workload.arrivals.size) == (ArrivalKind.BURSTS, 50)
    assert workload.run_us == LogNormal(300 * SECOND_US, 80)
    assert workload.data is not None
    assert (workload.data.count, workload.data.per_job, workload.data.skewed) == (7, 2, True)
    assert (workload.value.per_cpu_hour, workload.value.budget_percent) == (True, 80)
    assert (workload.replicas, workload.overestimate_percent, workload.late_after_percent) == (3, 250, 300)
    assert (scenario.market.offer_sample, scenario.market.bid_valid_us) == (5, 8 * SECOND_US)
    assert (scenario.network.loss, scenario.network.duplication) == (10, 2)
    assert scenario.network.partition == (30, 3600 * SECOND_US, 7200 * SECOND_US)
    assert (scenario.jobs, scenario.duration_us, scenario.seed) == (None, 6 * 3600 * SECOND_US, 9)


@pytest.mark.parametrize(
    ("replaced", "by", "complaint"),
    [
        ("    count: 3", "    cuont: 3", "full.yaml:5: nodes[0].cuont: unknown key; did you mean count?"),
        ("    disk: 50Gi", "    disk: 50 apples", "full.yaml:8: nodes[0].disk: '50 apples' is no size"),
        ("    link: 80Mbit/s", "    link: fast", "full.yaml:10: nodes[0].link: 'fast' is no speed of a link"),
        (
            "    link: 80Mbit/s",
            "    link: .bit/s",
            "full.yaml:10: nodes[0].link: '.bit/s' is no speed of a link",
        ),
        (
            "    link: 80Mbit/s",
            "    link: 0bit/s",
            "full.yaml:10: nodes[0].link: '0bit/s' should be more than nothing",
        ),
        ("cpu: {uniform: [2, 4]}", "cpu: 0", "full.yaml:6: nodes[0].cpu: '0' should be more than nothing"),
        ("  cpu: 2", "  cpu: 0", "full.yaml:20: workload.cpu: '0' should be more than nothing"),
        ("speed: 1.5", "speed: 0", "full.yaml:11: nodes[0].speed: '0' should be more than nothing"),
        ("engines: [wasm]", "engines: []", "full.yaml:9: nodes[0].engines: has no engine"),
        ("name: first", "name: requester", "full.yaml:4: nodes[0]: the name requester is that of"),
        ("sigma: 0.8", "sigma: 99999", "full.yaml:23: workload.run.lognormal.sigma: should be up to 10"),
        (
            "uniform: [2, 4]",
            "uniform: [4, 2]",
            "full.yaml:6: nodes[0].cpu.uniform: the first is above the second",
        ),
        ("uniform: [2, 4]", "normal: [2, 4]", "full.yaml:6: nodes[0].cpu.normal: is no distribution"),
        (
            "strategy: linear, start",
            "strategy: flat, start",
            "full.yaml:13: nodes[0].pricing.start: is nothing that",
        ),
        (
            "cheat: never_computes",
            "cheat: sometimes",
            "full.yaml:17: nodes[0].cheat: 'sometimes' is not there",
        ),
        ("rule: first_price", "rule: lottery", "full.yaml:33: market.rule: 'lottery' is not there"),
        ("verification: none", "verification: oracle", "full.yaml:34: verification: 'oracle' is not there"),
        (
            "verification: none",
            "verification: replicated",
            "full.yaml:34: verification: says its confidence as well",
        ),
        (
            "rule: first_price",
            "rule: scoring, weights: {beauty: 1}",
            "full.yaml:33: market.weights.beauty: unknown key",
        ),
        ("  loss: 0.01", "  loss: 2", "full.yaml:38: network.loss: '2' is no chance"),
        ("from: 1h, to: 2h", "from: 2h, to: 1h", "full.yaml:41: network.partition.to: is not after from"),
        (
            "{exponential: 1d}",
            "{exponential: 0s}",
            "full.yaml:16: nodes[0].outages.every: should be more than",
        ),
        ("duration: 6h", "duration: 6h\njobs: 3", "full.yaml:1: says how long by one of jobs and duration"),
        ("seed: 9", "seed: -1", "full.yaml:44: seed: should be a whole number from 0"),
        (
            "bursts: {every: 1h, size: 50}",
            "poisson: {every: 1h, size: 5}",
            "workload.arrivals.poisson.size: is only",
        ),
    ],
)
def test_a_wrong_scenario_is_refused_with_its_line_and_field(replaced: str, by: str, complaint: str) -> None:
    assert replaced in FULL
    with pytest.raises(ScenarioFailure) as refused:
        read_scenario(FULL.replace(replaced, by), "full.yaml")
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("strategy", "missing"),
    [
        ("cost_plus", "markup"),
        ("flat", "price"),
        ("load", "price"),
        ("shaded", "share"),
        ("linear", r"rate \(start, cpu_second, memory_gib_second, input_gib\)"),
    ],
)
def test_a_strategy_without_its_figure_is_refused_and_given_no_other_price(
    strategy: str, missing: str
) -> None:
    node = f"{{cost: {{per_job: {{uniform: [0, 1]}}}}, pricing: {{strategy: {strategy}}}}}"
    with pytest.raises(
        ScenarioFailure, match=f"same.yaml:2: nodes\\[0\\].pricing: says no {missing}, for instance"
    ):
        read_scenario(f"name: same\nnodes: [{node}]\njobs: 1\n", "same.yaml")


def test_a_file_that_is_no_text_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: small\nabout: Gr\u00f6\u00dfe\n".encode("latin-1"))
    with pytest.raises(ScenarioFailure, match=r"latin\.yaml:2: this is no text in UTF-8"):
        find_scenario(str(path))


@given(st.integers(1, 2**63 - 1), st.integers(0, 1000), st.integers(0, 10**6))
def test_the_widest_tail_still_draws_an_amount(median: int, sigma_percent: int, seed: int) -> None:
    assert 0 <= LogNormal(median, sigma_percent).draw(Random(seed)) <= 2**62


def test_settings_replace_what_the_file_says_and_add_what_it_does_not() -> None:
    settings = [
        ("nodes.first.count", "8"),
        ("nodes[0].cpu", "{uniform: [1, 2]}"),
        ("network.latency", "1ms"),
        ("market.offers_to", "all"),
    ]
    scenario = read_scenario(FULL, "full.yaml", settings)
    assert (scenario.nodes[0].count, scenario.nodes[0].cpu_millicores) == (8, Uniform(1000, 2000))
    assert (scenario.network.latency_us, scenario.market.offer_sample) == (1000, 0)
    assert read_scenario(SMALL, "small.yaml", [("workload.run", "5s")]).workload.run_us == Constant(
        5 * SECOND_US
    )


def test_what_begins_at_once_or_takes_no_time_may_be_nothing() -> None:
    settings = [
        ("warmup", "0s"),
        ("network.latency", "0ms"),
        ("network.partition", "{share: 1, from: 0s, to: 1s}"),
    ]
    scenario = read_scenario(FULL, "full.yaml", settings)
    assert (scenario.warmup_us, scenario.network.latency_us) == (0, 0)
    assert scenario.network.partition == (100, 0, SECOND_US)


@pytest.mark.parametrize(
    "path", ["nodes.second.count", "nodes[4].count", "name.first", "jobs", "market.no_such"]
)
def test_a_setting_of_what_is_not_there_is_refused(path: str) -> None:
    with pytest.raises(ScenarioFailure):
        read_scenario(FULL, "full.yaml", [(path, "8")])


def test_every_ready_scenario_is_found_by_its_name_and_says_what_it_is_about() -> None:
    ready = ready_scenarios()
    assert len(ready) >= 8
    for scenario in ready:
        assert scenario.about
        assert read_scenario(*find_scenario(scenario.name)) == scenario
    with pytest.raises(ScenarioFailure, match="no ready scenario"):
        find_scenario("nowhere")


def test_a_missing_trace_is_refused(tmp_path: Path) -> None:
    text = SMALL + "workload: {trace: {swf: missing.swf}}\n"
    with pytest.raises(ScenarioFailure, match=r"workload\.trace\.swf: there is no file"):
        read_scenario(text, str(tmp_path / "small.yaml"))


@pytest.mark.parametrize(
    ("text", "rate"), [("100Mbit/s", 12_500_000), ("10MB/s", 10_000_000), ("1.5 kb/s", 1500)]
)
def test_speeds_of_links(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@given(st.text(max_size=200))
def test_whatever_is_read_is_a_scenario_or_a_refusal(text: str) -> None:
    try:
        scenario = read_scenario(text, "any.yaml")
    except ScenarioFailure:
        return
    assert scenario.nodes
