"""Runs a scenario: builds its world, lets its jobs come, and measures. One run is one seed.

Each purpose has a generator of its own, so that two scenarios with the same seed see the same jobs and nodes,
and their difference is that of the scenarios.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from bacalhau.market.bidding import BiddingPolicy
from bacalhau.market.credit import CreditPolicy
from bacalhau.market.pricing import FlatPrice, HeldInputDiscount, LinearPrice, UtilisationPrice
from bacalhau.model.execution import Usage
from bacalhau.model.resources import Resources
from bacalhau.model.units import DAY_US
from bacalhau.scheduler.config import DEFAULT_PAYMENT, ComputeConfig, RequesterConfig
from bacalhau.simulation.economy import (
    CostPlus,
    Costs,
    DrawnCosts,
    LoadPrice,
    Shaded,
    TariffCosts,
    Undercut,
)
from bacalhau.simulation.fingerprint import Fingerprint
from bacalhau.simulation.honesty import Honesty
from bacalhau.simulation.measures import Measures, NodeTotals
from bacalhau.simulation.profile import Profile
from bacalhau.simulation.scenario import PricingKind
from bacalhau.simulation.weather import Weather
from bacalhau.simulation.workload import Arrival, arrivals, data_sets
from bacalhau.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bacalhau.market.pricing import PricingStrategy
    from bacalhau.model.market import ClaimedInput
    from bacalhau.simulation.distributions import Distribution
    from bacalhau.simulation.measures import EventColumns, JobColumns
    from bacalhau.simulation.node import SimulatedNode
    from bacalhau.simulation.profile import Machines
    from bacalhau.simulation.scenario import Market, NodeGroup, Scenario
    from bacalhau.simulation.world import Watch

T = TypeVar("T")

_YEAR_US = 366 * DAY_US
_END_OF_TIME_US = 2**63 - 1
"""A run ends with its last job, whenever that is; no later time has room in the columns of its measures."""
_NO_LIMIT = 10**18
_OPEN_JOBS_MAX = 10_000_000
_BOUND_STEPS_MAX = 500_000
"""Costs that are compared to find the optimum; beyond that it is not computed."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one seed of a scenario. `prices` and `load` as in Measures."""

    scenario: Scenario
    seed: int
    figures: dict[str, float]
    jobs: JobColumns
    events: EventColumns | None
    nodes: tuple[NodeTotals, ...]
    prices: list[tuple[int, int, float]]
    load: list[tuple[int, int]]
    sent: dict[str, int]
    digest: str
    handled: int
    """Events of the loop."""
    fingerprint: str = ""
    """Of every step of every machine, where a Fingerprint has watched."""


def simulate(
    scenario: Scenario,
    seed: int | None = None,
    *,
    keep_events: bool = False,
    machines: Machines | None = None,
    watch: Callable[[World], Watch] | None = None,
) -> Run:
    """Runs the scenario with its seed, or another. Raises TraceFailure, or AssertionError where the market's code
    breaks one of its promises."""
    with _rare_collections():
        return _simulate(scenario, scenario.seed if seed is None else seed, keep_events, machines, watch)


def _simulate(
    scenario: Scenario,
    seed: int,
    keep_events: bool,
    machines: Machines | None,
    watch: Callable[[World], Watch] | None,
) -> Run:
    world = _new_world(scenario, seed, machines)
    measures = Measures(world, scenario, keep_events=keep_events)
    world.recorder = measures
    if watch is not None:
        world.watch = watch(world)
    sets = data_sets(scenario, Random(f"data {seed}"))
    _add_nodes(world, scenario, measures, sets, seed)
    _begin_outages(world, scenario, Random(f"outages {seed}"))
    _plan_partition(world, scenario)
    if scenario.market.settle_us is not None:
        world.loop.after(scenario.market.settle_us, _settle, world, scenario.market)
    world.begin_heartbeats()
    _Source(world, scenario, measures, arrivals(scenario, sets, Random(f"jobs {seed}"))).begin()
    world.loop.run(_END_OF_TIME_US)
    return Run(
        scenario,
        seed,
        measures.figures(),
        measures.jobs,
        measures.events,
        tuple(measures.nodes.values()),
        measures.prices,
        measures.load,
        dict(world.sent),
        measures.jobs.digest(),
        world.loop.handled,
        world.watch.hexdigest() if isinstance(world.watch, Fingerprint) else "",
    )


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Nearly nothing of a run is garbage in cycles, and looking for it costs a tenth of the time."""
    threshold = gc.get_threshold()
    gc.set_threshold(200_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


class _Source:
    """Lets the jobs come one after the other, and ends the run when the last has ended."""

    def __init__(self, world: World, scenario: Scenario, measures: Measures, jobs: Iterator[Arrival]) -> None:
        self._world = world
        self._measures = measures
        self._jobs = jobs
        self._dry = False
        self._bound = _Bound(world, scenario, measures)
        measures.on_job_ended = self._job_ended

    def begin(self) -> None:
        self._next()

    def _next(self) -> None:
        arrival = next(self._jobs, None)
        if arrival is None:
            self._dry = True
            # The run may have nothing to wait for any more.
            self._world.loop.after(0, self._job_ended)
        else:
            self._world.loop.at(max(arrival.at_us, self._world.loop.now), self._submit, arrival)

    def _submit(self, arrival: Arrival) -> None:
        world, job_id = self._world, self._world.new_id("j")
        self._measures.comes(job_id, arrival, world.loop.now)
        self._bound.add(job_id, arrival)
        if world.submit(f"requester-{arrival.requester + 1}", arrival.plan, job_id=job_id) is None:
            self._measures.refused(job_id)
        self._next()

    def _job_ended(self) -> None:
        if self._dry and not self._measures.open_jobs:
            self._world.loop.after(0, self._world.loop.stop)


class _Bound:
    """The most that any market could be worth: each job on the node that does it most cheaply, as if that were
    always free, and none that costs more than it is worth. Not where jobs have replicas, or it takes too long."""

    def __init__(self, world: World, scenario: Scenario, measures: Measures) -> None:
        self._measures = measures
        kinds: dict[tuple[object, int, Resources], tuple[Costs, SimulatedNode]] = {}
        for node in world.nodes.values():
            if node.profile.compute is not None:
                costs = measures.costs_of(node.id)
                kinds[(costs, node.profile.speed_percent, node.profile.capacity)] = (costs, node)
        self._kinds = list(kinds.values())
        self._left = _BOUND_STEPS_MAX
        too_long = (scenario.jobs or 0) * len(self._kinds) > _BOUND_STEPS_MAX
        if scenario.workload.replicas > 1 or scenario.workload.data is not None or too_long:
            measures.bound_microcredits = None

    def add(self, job_id: str, arrival: Arrival) -> None:
        bound = self._measures.bound_microcredits
        if bound is None or not self._measures.counts(job_id):
            return
        self._left -= len(self._kinds)
        if self._left < 0:
            self._measures.bound_microcredits = None
            return
        resources, run_us = arrival.plan.spec.resources, arrival.plan.run_us
        spent = [
            costs.spent(job_id, resources, Usage(wall_us=run_us * 100 // node.profile.speed_percent))
            for costs, node in self._kinds
            if resources.fits_in(node.profile.capacity)
        ]
        if spent:
            self._measures.bound_microcredits = bound + max(0, arrival.value_microcredits - min(spent))


# --- building ---


def _new_world(scenario: Scenario, seed: int, machines: Machines | None) -> World:
    network = scenario.network
    world = World(seed, heartbeat_us=scenario.market.heartbeat_us)
    if machines is not None:
        world.machines = machines
    jitter: Distribution | None = network.jitter_us
    weather = Weather(
        latency_us=network.latency_us,
        jitter_us=jitter.draw if jitter is not None else None,
        loss=network.loss,
        duplication=network.duplication,
        straggling=network.straggling,
    )
    world.turn(weather)
    return world


def _add_nodes(
    world: World, scenario: Scenario, measures: Measures, sets: tuple[ClaimedInput, ...], seed: int
) -> None:
    market = scenario.market
    count = sum(group.count for group in scenario.nodes)
    requester = RequesterConfig(
        bid_window_us=market.bid_window_us,
        lease_us=market.lease_us,
        live_for_us=3 * market.heartbeat_us,
        no_node_grace_us=max(RequesterConfig().no_node_grace_us, market.heartbeat_us),
        offer_sample=market.offer_sample,
        open_jobs_max=_OPEN_JOBS_MAX,
        answers_per_offer_max=max(RequesterConfig().answers_per_offer_max, count),
        attempts_per_execution_max=market.attempts,
        reveal_timeout_us=2 * market.lease_us,
        min_reputation_ppm=market.min_reputation_ppm,
        payment=replace(DEFAULT_PAYMENT, floor_ppm=market.pay_floor_ppm),
    )
    for requester_id in market.requester_ids:
        world.add_node(requester_id, Profile(requester=requester))
    random = Random(f"nodes {seed}")
    shared = _Shared()
    for group in scenario.nodes:
        for index in range(group.count):
            id = f"{group.name}-{index + 1}"
            _add_node(world, scenario, measures, group, id, sets, random, seed, shared)


class _Shared:
    """Equal values once: what thousands of nodes have in common is then in the processor's cache for all of them."""

    def __init__(self) -> None:
        self._known: dict[object, Any] = {}

    def __call__(self, value: T) -> T:
        found: T = self._known.setdefault(value, value)
        return found


def _add_node(
    world: World,
    scenario: Scenario,
    measures: Measures,
    group: NodeGroup,
    id: str,
    sets: tuple[ClaimedInput, ...],
    random: Random,
    seed: int,
    shared: _Shared,
) -> None:
    capacity = Resources(
        group.cpu_millicores.draw(random), group.memory_bytes.draw(random), group.disk_bytes.draw(random)
    )
    policy = BiddingPolicy(
        capacity=capacity,
        job_limit=capacity,
        only_local_inputs=group.only_local,
        execution_timeout_max_us=_YEAR_US,
    )
    costs = shared(_costs(group, f"{seed} {id}"))
    profile = Profile(
        compute=ComputeConfig(
            policy, bid_valid_for_us=scenario.market.bid_valid_us, credit=_credit(scenario)
        ),
        pricing=_pricing(group, costs),
        engines=group.engines,
        # 0 would be a link that costs no time.
        link_bytes_per_second=max(1, group.link_bytes_per_second.draw(random)),
        speed_percent=max(1, group.speed_percent.draw(random)),
        honesty=group.cheat,
        group=group.name,
    )
    node = world.add_node(id, shared(profile))
    if group.holds_percent:
        for claimed in sets:
            if random.randrange(100) < group.holds_percent:
                node.held[claimed.cid] = None
    cheat = group.cheat.value if group.cheat is not Honesty.HONEST else ""
    measures.add_provider(id, costs, NodeTotals(id, group.name, cheat, capacity.cpu_millicores))


def _credit(scenario: Scenario) -> CreditPolicy:
    limit = scenario.market.credit_microcredits
    return CreditPolicy(*([_NO_LIMIT if limit is None else limit] * 2))


def _costs(group: NodeGroup, key: str) -> Costs:
    if group.costs.drawn is not None:
        return DrawnCosts(key, *group.costs.drawn)
    return TariffCosts(group.costs.tariff)


def _pricing(group: NodeGroup, costs: Costs) -> PricingStrategy:
    """The strategy of a group, with what wraps it."""
    strategy = _base_pricing(group, costs)
    if group.pricing.utilisation:
        strategy = UtilisationPrice(strategy)
    if group.pricing.held_discount_permille:
        strategy = HeldInputDiscount(strategy, group.pricing.held_discount_permille)
    return strategy


def _base_pricing(group: NodeGroup, costs: Costs) -> PricingStrategy:
    pricing = group.pricing
    if group.cheat is Honesty.UNDERCUTS_AND_FAILS:
        return Undercut(costs, 50)
    match pricing.kind:
        case PricingKind.COST_PLUS:
            return CostPlus(costs, pricing.amount)
        case PricingKind.FLAT:
            return FlatPrice(pricing.amount)
        case PricingKind.LINEAR:
            return LinearPrice(pricing.tariff)
        case PricingKind.LOAD:
            return LoadPrice(pricing.amount)
        case PricingKind.SHADED:
            if not isinstance(costs, DrawnCosts):
                raise ValueError("shaded prices want a drawn cost")
            return Shaded(costs, pricing.amount)


# --- payments outside the system ---


def _settle(world: World, market: Market) -> None:
    """Every requester pays what its receipts say, except for those that never do."""
    for debtor_id in market.requester_ids[len(market.defaulters) :]:
        for node in world.nodes.values():
            known = node.journal.books.receivables.get(debtor_id)
            if known is not None and known.balance.owed_microcredits > 0:
                world.settle(node.id, debtor_id, known.balance.owed_microcredits)
    world.loop.after(market.settle_us or 0, _settle, world, market)


# --- what goes wrong ---


def _begin_outages(world: World, scenario: Scenario, random: Random) -> None:
    groups = {group.name: group for group in scenario.nodes if group.outages is not None}
    for node in world.nodes.values():
        group = groups.get(node.profile.group)
        if group is not None and group.outages is not None:
            every, repair = group.outages.every_us, group.outages.repair_us
            world.loop.after(every.draw(random), _break, node, every, repair, random)


def _break(node: SimulatedNode, every: Distribution, repair: Distribution, random: Random) -> None:
    node.crash()
    node.world.loop.after(repair.draw(random), _mend, node, every, repair, random)


def _mend(node: SimulatedNode, every: Distribution, repair: Distribution, random: Random) -> None:
    node.start()
    node.world.loop.after(max(1, every.draw(random)), _break, node, every, repair, random)


def _plan_partition(world: World, scenario: Scenario) -> None:
    if scenario.network.partition is None:
        return
    percent, begins_us, ends_us = scenario.network.partition
    providers = [id for id, node in world.nodes.items() if node.profile.compute is not None]
    world.loop.at(begins_us, _part, world, frozenset(providers[: len(providers) * percent // 100]))
    world.loop.at(ends_us, _part, world, frozenset())


def _part(world: World, apart: frozenset[str]) -> None:
    weather = world.weather
    weather.apart = apart
    world.turn(weather)
