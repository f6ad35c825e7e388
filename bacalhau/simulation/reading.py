"""Scenario files: YAML into scenario.py, every refusal with its line and field.

Amounts are written as on the command line (`500m` of CPU, `4Gi`, `90s`, `0.25` credits), links as `100Mbit/s`.
Where an amount may be drawn it is a mapping instead: {uniform: [1, 4]}, {exponential: 90s}, {lognormal:
{median: 90s, sigma: 0.8}}, {choice: {1: 3, 4: 1}}.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from bacalhau import yamlfile
from bacalhau.market.verification import ADAPTIVE_REPLICAS_MAX
from bacalhau.model import quantities
from bacalhau.model.auction import ClearingRule, ScoringWeights
from bacalhau.model.job import Engine
from bacalhau.model.market import Tariff
from bacalhau.model.quantities import InvalidQuantity
from bacalhau.model.verification import NO_VERIFICATION, Verification, VerificationPolicy
from bacalhau.simulation.distributions import (
    Choice,
    Constant,
    Distribution,
    Exponential,
    LogNormal,
    Uniform,
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
    from collections.abc import Callable, Iterable

NODES_MAX = 1_000_000
JOBS_MAX = 100_000_000
_E = TypeVar("_E", bound=Enum)
_RATE = re.compile(r"([0-9.]+)\s*([kmgt]?)(bit|b)/s", re.IGNORECASE)
_TARIFF = {
    "start": "start_microcredits",
    "cpu_second": "cpu_second_microcredits",
    "memory_gib_second": "memory_gib_second_microcredits",
    "input_gib": "input_gib_microcredits",
}


class ScenarioFailure(yamlfile.FileFailure):
    """The file is no scenario that can be run: names the file, the line, the field, and what to do."""


class Field(yamlfile.Field):
    """A value of a scenario file."""

    Failure: ClassVar[type[Exception]] = ScenarioFailure


def find_scenario(name: str) -> tuple[str, str]:
    """Text and file name of a scenario: a file, or one of those that come with the package. Raises
    ScenarioFailure."""
    path = Path(name)
    if path.is_file():
        return path.read_text("utf-8"), name
    ready = files("bacalhau.simulation") / "scenarios" / f"{name}.yaml"
    if not ready.is_file():
        raise ScenarioFailure(f"there is no file {name}, and no ready scenario of that name: see --list")
    return ready.read_text("utf-8"), f"{name}.yaml"


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
    root = yamlfile.read_root(text, file, Field, begins_with="a scenario begins with name, nodes and jobs")
    for path, value in settings:
        root.put(path, value)
    parts = root.known(
        "name", "about", "nodes", "workload", "market", "verification", "network",
        "jobs", "duration", "warmup", "seed", "replications",
    )  # fmt: skip
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
        duration_us=_duration(parts["duration"]) if "duration" in parts else None,
        warmup_us=_duration(parts["warmup"]) if "warmup" in parts else 0,
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
        cpu_millicores=_drawn(parts.get("cpu"), quantities.parse_cpu, plain.cpu_millicores),
        memory_bytes=_drawn(parts.get("memory"), quantities.parse_bytes, plain.memory_bytes),
        disk_bytes=_drawn(parts.get("disk"), quantities.parse_bytes, plain.disk_bytes),
        engines=_engines(parts["engines"]) if "engines" in parts else plain.engines,
        link_bytes_per_second=_drawn(parts.get("link"), parse_rate, plain.link_bytes_per_second),
        speed_percent=_drawn(parts.get("speed"), parse_percent, plain.speed_percent),
        costs=costs,
        pricing=_pricing(parts["pricing"], costs) if "pricing" in parts else plain.pricing,
        holds_percent=parts["holds"].parsed(_share) if "holds" in parts else 0,
        only_local=parts["only_local"].truth() if "only_local" in parts else False,
        outages=_outages(parts["outages"]) if "outages" in parts else None,
        cheat=_named(parts["cheat"], Honesty) if "cheat" in parts else plain.cheat,
    )


def _engines(field: Field) -> tuple[Engine, ...]:
    return tuple(_named(item, Engine, by_name=True) for item in field.items())


def _costs(field: Field) -> CostModel:
    parts = field.known(*_TARIFF, "per_job")
    if "per_job" not in parts:
        return CostModel(tariff=_tariff(parts))
    if len(parts) > 1:
        raise parts["per_job"].failure("is the whole cost: leave out the rates")
    drawn = _drawn(parts["per_job"], quantities.parse_price, Constant(0))
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
    discount = parts.pop("held_discount").parsed(_share) * 10 if "held_discount" in parts else 0
    return replace(
        _base_pricing(field, parts, costs), utilisation=utilisation, held_discount_permille=discount
    )


def _base_pricing(field: Field, parts: dict[str, Field], costs: CostModel) -> Pricing:
    kind = _named(parts.pop("strategy"), PricingKind)
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
            return Pricing(kind, parts["markup"].parsed(parse_percent) if "markup" in parts else 100)
        case PricingKind.LINEAR:
            return Pricing(kind, tariff=_tariff(parts))
        case PricingKind.SHADED:
            if costs.drawn is None:
                raise field.failure("shaded prices want a cost drawn per_job")
            if "share" not in parts:
                raise field.failure("says no share, for instance 1/5")
            return Pricing(kind, parts["share"].parsed(_parts_in_a_million))
        case PricingKind.FLAT | PricingKind.LOAD:
            return Pricing(kind, parts["price"].parsed(quantities.parse_price) if "price" in parts else 0)


def _outages(field: Field) -> Outages:
    parts = field.known("every", "repair")
    if len(parts) < 2:
        raise field.failure("says both every and repair")
    every, repair = (
        _drawn(parts[name], quantities.parse_duration, Constant(0)) for name in ("every", "repair")
    )
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
        cpu_millicores=_drawn(parts.get("cpu"), quantities.parse_cpu, plain.cpu_millicores),
        memory_bytes=_drawn(parts.get("memory"), quantities.parse_bytes, plain.memory_bytes),
        disk_bytes=_drawn(parts.get("disk"), quantities.parse_bytes, plain.disk_bytes),
        run_us=_drawn(parts.get("run"), quantities.parse_duration, plain.run_us),
        engine=_named(parts["engine"], Engine, by_name=True) if "engine" in parts else plain.engine,
        replicas=parts["replicas"].integer(1, 100) if "replicas" in parts else 1,
        result_bytes=_drawn(parts.get("result"), quantities.parse_bytes, plain.result_bytes),
        data=_data(parts["data"]) if "data" in parts else None,
        value=_value(parts["value"]) if "value" in parts else plain.value,
        overestimate_percent=parts["overestimate"].parsed(parse_percent)
        if "overestimate" in parts
        else plain.overestimate_percent,
        queue_us=_duration(parts["queue"]) if "queue" in parts else None,
        late_after_percent=parts["late_after"].parsed(parse_percent) if "late_after" in parts else None,
    )


def _arrivals(field: Field) -> Arrivals:
    entries = list(field.keys())
    if len(entries) != 1:
        raise field.failure(f"is one of {', '.join(kind.value for kind in ArrivalKind)}")
    name, below = entries[0]
    kind = _by_value(below, name, ArrivalKind)
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
        _duration(parts["every"]),
        parts["size"].integer(1, 1_000_000) if "size" in parts else plain.size,
        _duration(parts["period"]) if "period" in parts else plain.period_us,
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
        _drawn(parts["size"], quantities.parse_bytes, Constant(0)),
        parts["per_job"].integer(0, 100) if "per_job" in parts else 1,
        parts["skewed"].truth() if "skewed" in parts else False,
    )


def _value(field: Field) -> ValueModel:
    parts = field.known("per_job", "per_cpu_hour", "budget")
    if ("per_job" in parts) is ("per_cpu_hour" in parts):
        raise field.failure("is one of per_job and per_cpu_hour")
    per_hour = "per_cpu_hour" in parts
    amount = _drawn(parts["per_cpu_hour" if per_hour else "per_job"], quantities.parse_price, Constant(0))
    if "budget" in parts and parts["budget"].text() == "none":
        return ValueModel(amount, per_hour, None)
    budget = parts["budget"].parsed(parse_percent) if "budget" in parts else 100
    return ValueModel(amount, per_hour, budget)


def _verification(field: Field, replicas: int) -> Verification:
    if not field.is_mapping:
        if _named(field, VerificationPolicy, by_name=True) is not VerificationPolicy.NONE:
            raise field.failure(f"says its confidence as well: {{policy: {field.text()}, confidence: 2}}")
        return NO_VERIFICATION
    parts = field.known("policy", "confidence")
    if len(parts) < 2:
        raise field.failure("says both policy and confidence")
    policy = _named(parts["policy"], VerificationPolicy, by_name=True)
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
        "weights", "min_reputation",
    )  # fmt: skip
    plain = Market()
    sample = 0
    if "offers_to" in parts and parts["offers_to"].text() != "all":
        sample = parts["offers_to"].integer(1, NODES_MAX)
    durations = {
        name: _duration(parts[name]) if name in parts else default
        for name, default in (
            ("bid_window", plain.bid_window_us),
            ("bid_valid", plain.bid_valid_us),
            ("lease", plain.lease_us),
            ("heartbeat", plain.heartbeat_us),
        )
    }
    return Market(
        requesters=parts["requesters"].integer(1, 10_000) if "requesters" in parts else plain.requesters,
        rule=_named(parts["rule"], ClearingRule, by_name=True) if "rule" in parts else plain.rule,
        bid_window_us=durations["bid_window"],
        bid_valid_us=durations["bid_valid"],
        lease_us=durations["lease"],
        heartbeat_us=durations["heartbeat"],
        offer_sample=sample,
        weights=_weights(parts["weights"]) if "weights" in parts else plain.weights,
        min_reputation_ppm=parts["min_reputation"].parsed(_parts_in_a_million)
        if "min_reputation" in parts
        else 0,
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
        name: parts[name].parsed(_thousandths) if name in parts else 0
        for name in ("loss", "duplication", "straggling")
    }
    return Network(
        latency_us=_duration(parts["latency"]) if "latency" in parts else plain.latency_us,
        jitter_us=_drawn(parts["jitter"], quantities.parse_duration, Constant(0))
        if "jitter" in parts
        else None,
        partition=_partition(parts["partition"]) if "partition" in parts else None,
        **chances,
    )


def _partition(field: Field) -> tuple[int, int, int]:
    parts = field.known("share", "from", "to")
    if len(parts) < 3:
        raise field.failure("says share, from and to")
    begins_us, ends_us = _duration(parts["from"]), _duration(parts["to"])
    if ends_us <= begins_us:
        raise parts["to"].failure("is not after from")
    return parts["share"].parsed(_share), begins_us, ends_us


# --- single values ---


def _duration(field: Field) -> int:
    duration_us = field.parsed(quantities.parse_duration)
    if duration_us <= 0:
        raise field.failure("should be more than nothing")
    return duration_us


def _drawn(field: Field | None, parse: Callable[[str], int], default: Distribution) -> Distribution:
    """An amount, or the distribution that it is drawn from."""
    if field is None:
        return default
    if not field.is_mapping:
        return Constant(field.parsed(parse))
    entries = list(field.keys())
    if len(entries) != 1:
        raise field.failure("is an amount, or one of uniform, exponential, lognormal, choice")
    name, below = entries[0]
    match name.lower():
        case "uniform":
            bounds = below.items()
            if len(bounds) != 2:
                raise below.failure("should be [LOW, HIGH]")
            low, high = (bound.parsed(parse) for bound in bounds)
            if low > high:
                raise below.failure("the first is above the second")
            return Uniform(low, high)
        case "exponential":
            return Exponential(below.parsed(parse))
        case "lognormal":
            parts = below.known("median", "sigma")
            if len(parts) < 2:
                raise below.failure("says both median and sigma")
            return LogNormal(parts["median"].parsed(parse), parts["sigma"].parsed(parse_percent))
        case "choice":
            weighed = list(below.keys())
            if not weighed:
                raise below.failure("has no amount")
            amounts = tuple(_parsed_key(key, value, parse) for key, value in weighed)
            return Choice(amounts, tuple(value.integer(1, 1_000_000) for _, value in weighed))
    raise below.failure("is no distribution: known here: uniform, exponential, lognormal, choice")


def _parsed_key(key: str, field: Field, parse: Callable[[str], int]) -> int:
    try:
        return parse(key)
    except InvalidQuantity as error:
        raise field.failure(str(error)) from error


def _named(field: Field, kind: type[_E], *, by_name: bool = False) -> _E:
    return _by_value(field, field.text(), kind, by_name=by_name)


def _by_value(field: Field, text: str, kind: type[_E], *, by_name: bool = False) -> _E:
    known = {(member.name.lower() if by_name else str(member.value)): member for member in kind}
    found = known.get(text.lower())
    if found is None:
        raise field.failure(f"{text!r} is not there: known here: {', '.join(known)}")
    return found


def parse_rate(text: str) -> int:
    """`100Mbit/s` or `10MB/s` as bytes a second. Raises InvalidQuantity."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise InvalidQuantity(f"{text!r} is no speed of a link: write for instance 100Mbit/s or 10MB/s")
    factor = 1000 ** " kmgt".index(match[2].lower() or " ")
    return int(Decimal(match[1]) * factor) // (8 if match[3].lower() == "bit" else 1)


def parse_percent(text: str) -> int:
    """`1.2` as 120, `120%` as well. Raises InvalidQuantity."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{0,6})?)(%?)", text.strip())
    if match is None:
        raise InvalidQuantity(f"{text!r} is no factor: write for instance 1.2 or 120%")
    return int(Decimal(match[1]) * (1 if match[2] else 100))


def _share(text: str) -> int:
    percent = parse_percent(text)
    if percent > 100:
        raise InvalidQuantity(f"{text!r} is more than the whole")
    return percent


def _thousandths(text: str) -> int:
    match = re.fullmatch(r"(0?\.[0-9]{1,3}|[01])", text.strip())
    if match is None:
        raise InvalidQuantity(f"{text!r} is no chance: write for instance 0.05")
    return int(Decimal(match[1]) * 1000)


def _parts_in_a_million(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})/([1-9][0-9]{0,8})", text.strip())
    if match is not None:
        return int(match[1]) * 1_000_000 // int(match[2])
    return parse_percent(text) * 10_000
