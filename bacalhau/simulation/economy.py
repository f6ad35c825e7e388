"""What work costs the nodes of a simulated market, and what they ask for it.

Costs are private: the machines see prices only. Strategies are the core's (market/pricing.py) or, where a
theory speaks of costs that no live node has, those here; all are pure and in whole microcredits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bacalhau.market.pricing import linear_microcredits
from bacalhau.model.rounding import ceil_div
from bacalhau.model.units import GIB, PPM, SECOND_US

if TYPE_CHECKING:
    from bacalhau.market.pricing import Situation
    from bacalhau.model.execution import Usage
    from bacalhau.model.market import JobOffer, Tariff
    from bacalhau.model.resources import Resources


class Costs(Protocol):
    """What one node spends on an execution, in microcredits."""

    def quoted(self, offer: JobOffer, missing_input_bytes: int) -> int:
        """For the whole envelope that the offer declares."""
        ...

    def spent(self, job_id: str, resources: Resources, usage: Usage) -> int:
        """For what was really used."""
        ...


@dataclass(frozen=True, slots=True)
class TariffCosts:
    """A start cost and rates, as in a tariff."""

    tariff: Tariff

    def quoted(self, offer: JobOffer, missing_input_bytes: int) -> int:
        return linear_microcredits(
            self.tariff, offer.resources, offer.execution_timeout_us, missing_input_bytes
        )

    def spent(self, job_id: str, resources: Resources, usage: Usage) -> int:
        tariff = self.tariff
        return (
            tariff.start_microcredits
            + tariff.cpu_second_microcredits * resources.cpu_millicores * usage.wall_us // (1000 * SECOND_US)
            + tariff.memory_gib_second_microcredits
            * resources.memory_bytes
            * usage.wall_us
            // (GIB * SECOND_US)
            + tariff.input_gib_microcredits * usage.fetched_bytes // GIB
        )


@dataclass(frozen=True, slots=True)
class DrawnCosts:
    """For each job anew, evenly from `low` to `high`, independent of every other node: the private values of
    auction theory. The key (a seed and the node's id) and the job's id determine it."""

    key: str
    low_microcredits: int
    high_microcredits: int

    def of(self, job_id: str) -> int:
        digest = hashlib.blake2b(f"{self.key} {job_id}".encode(), digest_size=8).digest()
        width = self.high_microcredits - self.low_microcredits + 1
        return self.low_microcredits + (int.from_bytes(digest, "big") * width >> 64)

    def quoted(self, offer: JobOffer, missing_input_bytes: int) -> int:
        return self.of(offer.job_id)

    def spent(self, job_id: str, resources: Resources, usage: Usage) -> int:
        return self.of(job_id)


# --- strategies ---


@dataclass(frozen=True, slots=True)
class CostPlus:
    """The cost of the envelope, times a markup; 100 percent is the cost itself, rounded up."""

    costs: Costs
    percent: int

    def price(self, offer: JobOffer, situation: Situation) -> int:
        return ceil_div(self.costs.quoted(offer, situation.missing_input_bytes) * self.percent, 100)


@dataclass(frozen=True, slots=True)
class Shaded:
    """The cost and a share of what is between it and the highest cost that anybody has.

    With the share 1/n this is the equilibrium of a first-price auction among n sellers whose costs are drawn
    evenly (Vickrey 1961; Krishna, Auction Theory, chapter 2, mirrored for sellers).
    """

    costs: DrawnCosts
    share_ppm: int

    def price(self, offer: JobOffer, situation: Situation) -> int:
        cost = self.costs.of(offer.job_id)
        return cost + (self.costs.high_microcredits - cost) * self.share_ppm // PPM


@dataclass(frozen=True, slots=True)
class LoadPrice:
    """A base and so much for each thousandth of a core that is taken: the emptiest node is the cheapest."""

    base_microcredits: int

    def price(self, offer: JobOffer, situation: Situation) -> int:
        taken = situation.capacity.cpu_millicores - situation.free.cpu_millicores
        return self.base_microcredits + taken


@dataclass(frozen=True, slots=True)
class Undercut:
    """A share of what the work costs: to win what it will not do."""

    costs: Costs
    percent: int

    def price(self, offer: JobOffer, situation: Situation) -> int:
        return self.costs.quoted(offer, situation.missing_input_bytes) * self.percent // 100
