"""Scenario files: YAML into scenario.py, every refusal with its line and field.

Amounts are written as on the command line (`500m` of CPU, `4Gi`, `90s`, `0.25` credits), links as `100Mbit/s`.
Where an amount may be drawn it is a mapping instead: {uniform: [1, 4]}, {exponential: 90s}, {lognormal:
{median: 90s, sigma: 0.8}}, {choice: {1: 3, 4: 1}}.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from bacalhau import yamlfile
from bacalhau.market.verification import ADAPTIVE_REPLICAS_MAX
from bacalhau.model import quantities
from bacalhau.model.auction import ClearingRule, ScoringWeights
from bacalhau.model.job import Engine
from bacalhau.model.market import Tariff
from bacalhau.model.verification import NO_VERIFICATION, Verification, VerificationPolicy
from bacalhau.simulation.distributions import Constant, Uniform
from bacalhau.simulation.fields import (
    Field,
    ScenarioFailure,
    parse_cpu,
    parse_percent,
    parse_ppm,
    parse_rate,
    parse_share,
    parse_speed,
    parse_thousandths,
    read_distribution,
    read_duration,
    read_member,
    read_named,
)
from bacalhau.simulation.honesty import Honesty
from bacalhau.simulation.scenario import (
    ArrivalKind,
    Arrivals,
    CostModel,
    DataSets,
    Market,
    Network,
    NodeGroup,
    Outages,
    Pricing,
    PricingKind,
    Scenario,
    Trace,
    ValueModel,
    Workload,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NODES_MAX = 1_000_000
JOBS_MAX = 100_000_000
_KEYS = (
    "name", "about", "nodes", "workload", "market", "verification", "network",
    "jobs", "duration", "warmup", "seed", "replications",
)  # fmt: skip
_TARIFF = {
    "start": "start_microcredits",
    "cpu_second": "cpu_second_microcredits",
    "memory_gib_second": "memory_gib_second_microcredits",
    "input_gib": "input_gib_microcredits",
}


def find_scenario(name: str) -> tuple[str, str]:
    """Text and file name of a scenario: a file, or one of those that come with the package. Raises
    ScenarioFailure."""
    path = Path(name)
    if path.is_file():
        return _decoded(path.read_bytes(), name), name
    ready = files("bacalhau.simulation") / "scenarios" / f"{name}.yaml"
    if path.is_dir() and not ready.is_file():
        raise ScenarioFailure(
            f"{name} is a folder: name the file in it, for instance {path / 'scenario.yaml'}"
        )
    if not ready.is_file():
        raise ScenarioFailure(f"there is no file {name}, and no ready scenario of that name: see --list")
    return ready.read_text("utf-8"), f"{name}.yaml"


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ScenarioFailure(f"{name}:{line}: this is no text in UTF-8: {error.reason}") from error


def ready_scenarios() -> tuple[Scenario, ...]:
    """Those that come with the package, by name."""
    folder = files("bacalhau.simulation") / "scenarios"
    found = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    return tuple(
        read_scenario(file.read_text("utf-8"), file.name) for file in sorted(found, key=lambda f: f.name)
    )


def read_scenario(text: str, file: str, settings: Iterable[tuple[str, str]] = ()) -> Scenario:
    """Raises ScenarioFailure. Paths of traces are taken from the file's folder. `settings` are (field, value) that
    replace what the file says."""
    return _scenario(_root(text, file, settings), file)


def written_scenario(text: str, file: str, settings: Sequence[tuple[str, str]] = ()) -> str:
    """The same as YAML that runs so again by itself, wherever it is put; comments at its top say the settings.
    Raises ScenarioFailure."""
    root = _root(text, file, settings)
    scenario = _scenario(root, file)
    said = root.known(*_KEYS)
    for key, value in (("name", json.dumps(scenario.name)), ("seed", str(scenario.seed))):
        if key not in said:
            root.put(key, value)
    trace = scenario.workload.trace
    if trace is not None:
        root.put(f"workload.trace.{trace.form}", json.dumps(str(Path(trace.path).resolve())))
    notes = (" ".join(f"# --set {field}={value}".splitlines()) + "\n" for field, value in settings)
    return "".join(notes) + root.written()


def _root(text: str, file: str, settings: Iterable[tuple[str, str]]) -> Field:
    root = yamlfile.read_root(text, file, Field, begins_with="a scenario begins with name, nodes and jobs")
    for path, value in settings:
        try:
            root.put(path, value)
        except yaml.YAMLError as error:
            raise ScenarioFailure(f"{path}: {value!r} is no YAML") from error
    return root


def _scenario(root: Field, file: str) -> Scenario:
    parts = root.known(*_KEYS)
    if "nodes" not in parts:
        raise root.failure("says no nodes")
    if ("jobs" in parts) is ("duration" in parts):
        raise root.failure("says how long by one of jobs and duration")
    workload = _workload(parts["workload"], Path(file).parent) if "workload" in parts else Workload()
    market = _market(parts["market"]) if "market" in parts else Market()
    if "verification" in parts:
        market = replace(market, verification=_verification(parts["verification"], workload.replicas))
    if market.rule.needs_reserve and workload.value.budget_percent is None:
        raise parts["workload"].failure(f"{market.rule.name.lower()} wants a ceiling: leave out budget: none")
    groups = _nodes(parts["nodes"])
    return Scenario(
        name=parts["name"].text() if "name" in parts else Path(file).stem,
        about=parts["about"].text() if "about" in parts else "",
        nodes=groups,
        workload=workload,
        market=market,
        network=_network(parts["network"]) if "network" in parts else Network(),
        jobs=parts["jobs"].integer(1, JOBS_MAX) if "jobs" in parts else None,
        duration_us=read_duration(parts["duration"]) if "duration" in parts else None,
        warmup_us=read_duration(parts["warmup"], least_us=0) if "warmup" in parts else 0,
        seed=parts["seed"].integer(0, 2**63 - 1) if "seed" in parts else 1,
        replications=parts["replications"].integer(1, 10_000) if "replications" in parts else 1,
    )


# --- nodes ---


def _nodes(field: Field) -> tuple[NodeGroup, ...]:
    groups = [_group(item, f"group{index}") for index, item in enumerate(field.items(), 1)]
    if not groups:
        raise field.failure("has no group of nodes")
    names = [group.name for group in groups]
    for name, item in zip(names, field.items(), strict=True):
        if name == "requester":
            raise item.failure("the name requester is that of the nodes whose jobs come: take another")
        if names.count(name) > 1:
            raise item.failure(f"the name {name} comes twice")
    if sum(group.count for group in groups) > NODES_MAX:
        raise field.failure(f"has more than {NODES_MAX} nodes")
    return tuple(groups)


def _group(field: Field, name: str) -> NodeGroup:
    parts = field.known(
        "name", "count", "cpu", "memory", "disk", "engines", "link", "speed", "cost", "pricing",
        "holds", "only_local", "outages", "cheat",
    )  # fmt: skip
    plain = NodeGroup(name, 1)
    costs = _costs(parts["cost"]) if "cost" in parts else plain.costs
    return NodeGroup(
        name=parts["name"].text() if "name" in parts else name,
        count=parts["count"].integer(1, NODES_MAX) if "count" in parts else 1,
        cpu_millicores=read_distribution(parts.get("cpu"), parse_cpu, plain.cpu_millicores),
        memory_bytes=read_distribution(parts.get("memory"), quantities.parse_bytes, plain.memory_bytes),
        disk_bytes=read_distribution(parts.get("disk"), quantities.parse_bytes, plain.disk_bytes),
        engines=_engines(parts["engines"]) if "engines" in parts else plain.engines,
        link_bytes_per_second=read_distribution(parts.get("link"), parse_rate, plain.link_bytes_per_second),
        speed_percent=read_distribution(parts.get("speed"), parse_speed, plain.speed_percent),
        costs=costs,
        pricing=_pricing(parts["pricing"], costs) if "pricing" in parts else plain.pricing,
        holds_percent=parts["holds"].parsed(parse_share) if "holds" in parts else 0,
        only_local=parts["only_local"].truth() if "only_local" in parts else False,
        outages=_outages(parts["outages"]) if "outages" in parts else None,
        cheat=read_named(parts["cheat"], Honesty) if "cheat" in parts else plain.cheat,
    )


def _engines(field: Field) -> tuple[Engine, ...]:
    engines = tuple(read_named(item, Engine, by_name=True) for item in field.items())
    if not engines:
        raise field.failure("has no engine: leave it out for all of them")
    return engines


def _costs(field: Field) -> CostModel:
    parts = field.known(*_TARIFF, "per_job")
    if "per_job" not in parts:
        return CostModel(tariff=_tariff(parts))
    if len(parts) > 1:
        raise parts["per_job"].failure("is the whole cost: leave out the rates")
    drawn = read_distribution(parts["per_job"], quantities.parse_price, Constant(0))
    if not isinstance(drawn, Uniform):
        raise parts["per_job"].failure("should be {uniform: [LOW, HIGH]}")
    return CostModel(drawn=(drawn.low, drawn.high))


def _tariff(parts: dict[str, Field]) -> Tariff:
    rates = {_TARIFF[name]: field.parsed(quantities.parse_price) for name, field in parts.items()}
    return Tariff(**rates)


def _pricing(field: Field, costs: CostModel) -> Pricing:
    parts = field.known("strategy", "markup", "price", "share", "utilisation", "held_discount", *_TARIFF)
    if "strategy" not in parts:
        raise field.failure("says no strategy")
    utilisation = parts.pop("utilisation").truth() if "utilisation" in parts else False
    discount = parts.pop("held_discount").parsed(parse_share) * 10 if "held_discount" in parts else 0
    return replace(
        _base_pricing(field, parts, costs), utilisation=utilisation, held_discount_permille=discount
    )


def _base_pricing(field: Field, parts: dict[str, Field], costs: CostModel) -> Pricing:
    kind = read_named(parts.pop("strategy"), PricingKind)
    takes = {
        PricingKind.COST_PLUS: ("markup",),
        PricingKind.FLAT: ("price",),
        PricingKind.LINEAR: tuple(_TARIFF),
        PricingKind.SHADED: ("share",),
        PricingKind.LOAD: ("price",),
    }[kind]
    for name, part in parts.items():
        if name not in takes:
            raise part.failure(f"is nothing that {kind.value} takes: it takes {', '.join(takes)}")
    match kind:
        case PricingKind.COST_PLUS:
            if "markup" not in parts:
                raise field.failure("says no markup, for instance 1.2; 1 is the cost itself")
            return Pricing(kind, parts["markup"].parsed(parse_percent))
        case PricingKind.LINEAR:
            if not parts:
                raise field.failure(f"says no rate ({', '.join(takes)}), for instance cpu_second: 10u")
            return Pricing(kind, tariff=_tariff(parts))
        case PricingKind.SHADED:
            if costs.drawn is None:
                raise field.failure("shaded prices want a cost drawn per_job")
            if "share" not in parts:
                raise field.failure("says no share, for instance 1/5")
            return Pricing(kind, parts["share"].parsed(parse_ppm))
        case PricingKind.FLAT | PricingKind.LOAD:
            if "price" not in parts:
                raise field.failure("says no price, for instance 0.001 credits")
            return Pricing(kind, parts["price"].parsed(quantities.parse_price))


def _outages(field: Field) -> Outages:
    parts = field.known("every", "repair")
    if len(parts) < 2:
        raise field.failure("says both every and repair")
    every, repair = (
        read_distribution(parts[name], quantities.parse_duration, Constant(0)) for name in ("every", "repair")
    )
    if not every.mean:
        raise parts["every"].failure("should be more than nothing")
    return Outages(every, repair)


# --- jobs ---


def _workload(field: Field, folder: Path) -> Workload:
    parts = field.known(
        "arrivals", "trace", "cpu", "memory", "disk", "run", "engine", "replicas", "result", "data",
        "value", "overestimate", "queue", "late_after",
    )  # fmt: skip
    plain = Workload()
    if "arrivals" in parts and "trace" in parts:
        raise parts["trace"].failure("a trace says itself when jobs come: leave out arrivals")
    return Workload(
        arrivals=_arrivals(parts["arrivals"]) if "arrivals" in parts else plain.arrivals,
        trace=_trace(parts["trace"], folder) if "trace" in parts else None,
        cpu_millicores=read_distribution(parts.get("cpu"), parse_cpu, plain.cpu_millicores),
        memory_bytes=read_distribution(parts.get("memory"), quantities.parse_bytes, plain.memory_bytes),
        disk_bytes=read_distribution(parts.get("disk"), quantities.parse_bytes, plain.disk_bytes),
        run_us=read_distribution(parts.get("run"), quantities.parse_duration, plain.run_us),
        engine=read_named(parts["engine"], Engine, by_name=True) if "engine" in parts else plain.engine,
        replicas=parts["replicas"].integer(1, 100) if "replicas" in parts else 1,
        result_bytes=read_distribution(parts.get("result"), quantities.parse_bytes, plain.result_bytes),
        data=_data(parts["data"]) if "data" in parts else None,
        value=_value(parts["value"]) if "value" in parts else plain.value,
        overestimate_percent=parts["overestimate"].parsed(parse_percent)
        if "overestimate" in parts
        else plain.overestimate_percent,
        queue_us=read_duration(parts["queue"]) if "queue" in parts else None,
        late_after_percent=parts["late_after"].parsed(parse_percent) if "late_after" in parts else None,
    )


def _arrivals(field: Field) -> Arrivals:
    entries = list(field.keys())
    if len(entries) != 1:
        raise field.failure(f"is one of {', '.join(kind.value for kind in ArrivalKind)}")
    name, below = entries[0]
    kind = read_member(below, name, ArrivalKind)
    parts = below.known("every", "size", "period")
    if "every" not in parts:
        raise below.failure("says no every: the time between two")
    if "size" in parts and kind is not ArrivalKind.BURSTS:
        raise parts["size"].failure("is only for bursts")
    if "period" in parts and kind is not ArrivalKind.DIURNAL:
        raise parts["period"].failure("is only for diurnal")
    plain = Arrivals()
    return Arrivals(
        kind,
        read_duration(parts["every"]),
        parts["size"].integer(1, 1_000_000) if "size" in parts else plain.size,
        read_duration(parts["period"]) if "period" in parts else plain.period_us,
    )


def _trace(field: Field, folder: Path) -> Trace:
    parts = field.known("swf", "csv", "scale")
    if ("swf" in parts) is ("csv" in parts):
        raise field.failure("is one of swf and csv, with a file")
    form = "swf" if "swf" in parts else "csv"
    path = folder / parts[form].text()
    if not path.is_file():
        raise parts[form].failure(f"there is no file {path}")
    scale = parts["scale"].parsed(parse_percent) if "scale" in parts else 100
    return Trace(str(path), form, scale)


def _data(field: Field) -> DataSets:
    parts = field.known("sets", "size", "per_job", "skewed")
    if "sets" not in parts or "size" not in parts:
        raise field.failure("says both sets and size")
    return DataSets(
        parts["sets"].integer(1, 1_000_000),
        read_distribution(parts["size"], quantities.parse_bytes, Constant(0)),
        parts["per_job"].integer(0, 100) if "per_job" in parts else 1,
        parts["skewed"].truth() if "skewed" in parts else False,
    )


def _value(field: Field) -> ValueModel:
    parts = field.known("per_job", "per_cpu_hour", "budget")
    if ("per_job" in parts) is ("per_cpu_hour" in parts):
        raise field.failure("is one of per_job and per_cpu_hour")
    per_hour = "per_cpu_hour" in parts
    amount = read_distribution(
        parts["per_cpu_hour" if per_hour else "per_job"], quantities.parse_price, Constant(0)
    )
    if "budget" in parts and parts["budget"].text() == "none":
        return ValueModel(amount, per_hour, None)
    budget = parts["budget"].parsed(parse_percent) if "budget" in parts else 100
    return ValueModel(amount, per_hour, budget)


def _verification(field: Field, replicas: int) -> Verification:
    if not field.is_mapping:
        if read_named(field, VerificationPolicy, by_name=True) is not VerificationPolicy.NONE:
            raise field.failure(f"says its confidence as well: {{policy: {field.text()}, confidence: 2}}")
        return NO_VERIFICATION
    parts = field.known("policy", "confidence")
    if len(parts) < 2:
        raise field.failure("says both policy and confidence")
    policy = read_named(parts["policy"], VerificationPolicy, by_name=True)
    most = ADAPTIVE_REPLICAS_MAX if policy is VerificationPolicy.ADAPTIVE else replicas
    if policy is VerificationPolicy.ADAPTIVE and replicas != 1:
        raise field.failure("adaptive jobs begin with one replica: leave out workload.replicas")
    if policy is VerificationPolicy.REPLICATED and replicas < 2:
        raise field.failure("there is nothing to compare with one replica: raise workload.replicas")
    return Verification(policy, parts["confidence"].integer(2, most))


# --- market and network ---


def _market(field: Field) -> Market:
    parts = field.known(
        "requesters", "rule", "bid_window", "bid_valid", "lease", "heartbeat", "offers_to", "attempts",
        "weights", "min_reputation", "pay_floor", "credit", "settle", "defaulters",
    )  # fmt: skip
    plain = Market()
    sample = 0
    if "offers_to" in parts and parts["offers_to"].text() != "all":
        sample = parts["offers_to"].integer(1, NODES_MAX)
    durations = {
        name: read_duration(parts[name]) if name in parts else default
        for name, default in (
            ("bid_window", plain.bid_window_us),
            ("bid_valid", plain.bid_valid_us),
            ("lease", plain.lease_us),
            ("heartbeat", plain.heartbeat_us),
        )
    }
    return Market(
        requesters=parts["requesters"].integer(1, 10_000) if "requesters" in parts else plain.requesters,
        rule=read_named(parts["rule"], ClearingRule, by_name=True) if "rule" in parts else plain.rule,
        bid_window_us=durations["bid_window"],
        bid_valid_us=durations["bid_valid"],
        lease_us=durations["lease"],
        heartbeat_us=durations["heartbeat"],
        offer_sample=sample,
        pay_floor_ppm=parts["pay_floor"].parsed(parse_share) * 10_000
        if "pay_floor" in parts
        else plain.pay_floor_ppm,
        credit_microcredits=parts["credit"].parsed(quantities.parse_price) if "credit" in parts else None,
        settle_us=read_duration(parts["settle"]) if "settle" in parts else None,
        defaulters_percent=parts["defaulters"].parsed(parse_share) if "defaulters" in parts else 0,
        weights=_weights(parts["weights"]) if "weights" in parts else plain.weights,
        min_reputation_ppm=parts["min_reputation"].parsed(parse_ppm) if "min_reputation" in parts else 0,
        attempts=parts["attempts"].integer(1, 1000) if "attempts" in parts else plain.attempts,
    )


def _weights(field: Field) -> ScoringWeights:
    names = {
        "start_delay_second": "start_delay_second_microcredits",
        "input_gib": "input_gib_microcredits",
        "reputation": "reputation_microcredits",
    }
    parts = field.known(*names)
    return ScoringWeights(
        **{names[name]: part.parsed(quantities.parse_price) for name, part in parts.items()}
    )


def _network(field: Field) -> Network:
    parts = field.known("latency", "jitter", "loss", "duplication", "straggling", "partition")
    plain = Network()
    chances = {
        name: parts[name].parsed(parse_thousandths) if name in parts else 0
        for name in ("loss", "duplication", "straggling")
    }
    return Network(
        latency_us=read_duration(parts["latency"], least_us=0) if "latency" in parts else plain.latency_us,
        jitter_us=read_distribution(parts["jitter"], quantities.parse_duration, Constant(0))
        if "jitter" in parts
        else None,
        partition=_partition(parts["partition"]) if "partition" in parts else None,
        **chances,
    )


def _partition(field: Field) -> tuple[int, int, int]:
    parts = field.known("share", "from", "to")
    if len(parts) < 3:
        raise field.failure("says share, from and to")
    begins_us, ends_us = read_duration(parts["from"], least_us=0), read_duration(parts["to"])
    if ends_us <= begins_us:
        raise parts["to"].failure("is not after from")
    return parts["share"].parsed(parse_share), begins_us, ends_us
