"""What a scenario says: frozen values, in whole units. reading.py makes them out of YAML, run.py runs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from bacalhau.model.auction import NO_WEIGHTS, ClearingRule, ScoringWeights
from bacalhau.model.job import Engine
from bacalhau.model.market import Tariff
from bacalhau.model.units import GIB, HOUR_US, MICROCREDITS_PER_CREDIT, SECOND_US
from bacalhau.model.verification import NO_VERIFICATION, Verification
from bacalhau.scheduler.config import DEFAULT_PAYMENT
from bacalhau.simulation.distributions import Constant, Distribution
from bacalhau.simulation.honesty import Honesty

_FOUR_CORES = Constant(4000)
_MEMORY_16_GIB = Constant(16 * GIB)
_DISK_100_GIB = Constant(100 * GIB)
_GIGABIT = Constant(125_000_000)
_REFERENCE_SPEED = Constant(100)
_ONE_CREDIT = Constant(MICROCREDITS_PER_CREDIT)
_ONE_CORE = Constant(1000)
_ONE_GIB = Constant(GIB)
_ONE_MINUTE = Constant(60 * SECOND_US)
_NOTHING = Constant(0)
DEFAULT_COSTS = Tariff(
    start_microcredits=50,
    cpu_second_microcredits=8,
    memory_gib_second_microcredits=1,
    input_gib_microcredits=800,
)


class PricingKind(Enum):
    """How a group prices. The names are those of scenario files."""

    COST_PLUS = "cost_plus"
    FLAT = "flat"
    LINEAR = "linear"
    SHADED = "shaded"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class Pricing:
    """`amount` is percent of the cost (cost_plus), microcredits (flat, load), or parts in a million (shaded)."""

    kind: PricingKind = PricingKind.COST_PLUS
    amount: int = 120
    tariff: Tariff = DEFAULT_COSTS
    utilisation: bool = False
    """The price is that of what the job takes out of the market here: see UtilisationPrice."""
    held_discount_permille: int = 0
    """Less where inputs are held: see HeldInputDiscount."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """Rates, or for each job anew an amount from `drawn`, (low, high)."""

    tariff: Tariff = DEFAULT_COSTS
    drawn: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Outages:
    """Time between the end of one outage and the next, and how long one lasts; microseconds."""

    every_us: Distribution
    repair_us: Distribution


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes alike. What is a distribution is drawn for each of them."""

    name: str
    count: int
    cpu_millicores: Distribution = _FOUR_CORES
    memory_bytes: Distribution = _MEMORY_16_GIB
    disk_bytes: Distribution = _DISK_100_GIB
    engines: tuple[Engine, ...] = (Engine.DOCKER, Engine.WASM)
    link_bytes_per_second: Distribution = _GIGABIT
    speed_percent: Distribution = _REFERENCE_SPEED
    costs: CostModel = CostModel()
    pricing: Pricing = Pricing()
    holds_percent: int = 0
    """Share of the data sets that each of them has at the beginning."""
    only_local: bool = False
    """Takes only jobs whose inputs it holds."""
    outages: Outages | None = None
    cheat: Honesty = Honesty.HONEST


class ArrivalKind(Enum):
    """The names are those of scenario files."""

    POISSON = "poisson"
    FIXED = "fixed"
    BURSTS = "bursts"
    DIURNAL = "diurnal"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When jobs come. `every_us` is the mean time between two; of bursts between two bursts of `size`. Diurnal:
    a Poisson process whose rate swings between nothing and twice the mean within each `period_us`."""

    kind: ArrivalKind = ArrivalKind.POISSON
    every_us: int = SECOND_US
    size: int = 1
    period_us: int = 24 * HOUR_US


@dataclass(frozen=True, slots=True)
class Trace:
    """A file of jobs. `scale_percent` stretches the times between them."""

    path: str
    form: str
    scale_percent: int = 100


@dataclass(frozen=True, slots=True)
class DataSets:
    """Inputs: each job reads `per_job` of `count` sets, picked by Zipf's law with exponent 1 where `skewed`."""

    count: int
    size_bytes: Distribution
    per_job: int = 1
    skewed: bool = False


@dataclass(frozen=True, slots=True)
class ValueModel:
    """What a job is worth to its user: per job, or for each hour of a core that it asks for; microcredits. The
    user never pays more than `budget_percent` of it; None is no ceiling."""

    amount: Distribution = _ONE_CREDIT
    per_cpu_hour: bool = False
    budget_percent: int | None = 100


@dataclass(frozen=True, slots=True)
class Workload:
    """The jobs. `overestimate_percent` of its run time is the time limit that a job asks for."""

    arrivals: Arrivals = Arrivals()
    trace: Trace | None = None
    cpu_millicores: Distribution = _ONE_CORE
    memory_bytes: Distribution = _ONE_GIB
    disk_bytes: Distribution = _ONE_GIB
    run_us: Distribution = _ONE_MINUTE
    engine: Engine = Engine.DOCKER
    replicas: int = 1
    result_bytes: Distribution = _NOTHING
    data: DataSets | None = None
    value: ValueModel = ValueModel()
    overestimate_percent: int = 200
    queue_us: int | None = None
    """How long a job waits for a node; None is the node's default, which gives up where none could ever."""
    late_after_percent: int | None = None
    """A job is late that takes longer than this of its run time."""


@dataclass(frozen=True, slots=True)
class Market:
    """The requesters' side of the mechanism."""

    requesters: int = 1
    rule: ClearingRule = ClearingRule.FIRST_PRICE
    weights: ScoringWeights = NO_WEIGHTS
    verification: Verification = NO_VERIFICATION
    min_reputation_ppm: int = 0
    pay_floor_ppm: int = DEFAULT_PAYMENT.floor_ppm
    """What is paid of a price at least, however little of its envelope was used."""
    credit_microcredits: int | None = None
    """What each node lets a requester owe it, and all unproven ones together; None is without limit."""
    settle_us: int | None = None
    """How often requesters pay what they owe, outside the system; None is never."""
    defaulters_percent: int = 0
    """Requesters that never pay."""
    bid_window_us: int = SECOND_US
    bid_valid_us: int = 10 * SECOND_US
    lease_us: int = 30 * SECOND_US
    heartbeat_us: int = 5 * SECOND_US
    offer_sample: int = 0
    attempts: int = 4

    @property
    def requester_ids(self) -> tuple[str, ...]:
        return tuple(f"requester-{number + 1}" for number in range(self.requesters))

    @property
    def defaulters(self) -> tuple[str, ...]:
        """The first of them never pay."""
        return self.requester_ids[: self.requesters * self.defaulters_percent // 100]


@dataclass(frozen=True, slots=True)
class Network:
    """Chances in a thousand."""

    latency_us: int = 20_000
    jitter_us: Distribution | None = None
    loss: int = 0
    duplication: int = 0
    straggling: int = 0
    partition: tuple[int, int, int] | None = None
    """The first so many percent of the nodes hear nothing of the others from one time to another; microseconds."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """See the module. It ends when `jobs` have ended, or those submitted within `duration_us`; what comes in the
    first `warmup_us` is left out of the figures."""

    name: str
    nodes: tuple[NodeGroup, ...]
    about: str = ""
    workload: Workload = field(default_factory=Workload)
    market: Market = field(default_factory=Market)
    network: Network = field(default_factory=Network)
    jobs: int | None = None
    duration_us: int | None = None
    warmup_us: int = 0
    seed: int = 1
    replications: int = 1
