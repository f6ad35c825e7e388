"""What a simulated node is: its part in the market, its machine, its prices, and how honest it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bacalhau.market.bidding import BiddingPolicy
from bacalhau.market.pricing import FlatPrice
from bacalhau.model.job import Engine
from bacalhau.model.units import DAY_US
from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.requester import RequesterMachine
from bacalhau.simulation.honesty import Honesty

if TYPE_CHECKING:
    from bacalhau.market.pricing import PricingStrategy
    from bacalhau.model.resources import Resources
    from bacalhau.scheduler.config import ComputeConfig, RequesterConfig

WEEK_US = 7 * DAY_US


@dataclass(frozen=True, slots=True)
class Profile:
    """See the module. `link_bytes_per_second` 0 is a link that costs no time; `speed_percent` is that of the
    processor against the one that durations of jobs are for."""

    compute: ComputeConfig | None = None
    """None: it runs nothing."""
    requester: RequesterConfig | None = None
    """None: it takes no jobs."""
    pricing: PricingStrategy = field(default_factory=lambda: FlatPrice(0))
    engines: tuple[Engine, ...] = (Engine.DOCKER, Engine.WASM)
    link_bytes_per_second: int = 0
    speed_percent: int = 100
    honesty: Honesty = Honesty.HONEST
    group: str = ""

    @property
    def capacity(self) -> Resources:
        if self.compute is None:
            raise AssertionError("a node that runs nothing has no capacity")
        return self.compute.policy.capacity


def policy_of(capacity: Resources) -> BiddingPolicy:
    """A policy that takes every job that fits, however long it may run."""
    return BiddingPolicy(capacity=capacity, job_limit=capacity, execution_timeout_max_us=52 * WEEK_US)


@dataclass(frozen=True, slots=True)
class Machines:
    """The classes that a world runs; whoever wants to see a checker work puts a broken one here."""

    requester: type[RequesterMachine] = RequesterMachine
    compute: type[ComputeMachine] = ComputeMachine
