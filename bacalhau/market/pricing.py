"""Pricing strategies: what a compute node asks for the envelope that an offer declares.

A strategy is a pure function of the offer and of what the node knows of it; prices are whole microcredits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bacalhau.market.reputation import NEW_SCORE_PPM
from bacalhau.model.job import SECOND_US
from bacalhau.model.resources import GIB

if TYPE_CHECKING:
    from bacalhau.model.market import JobOffer, Tariff
    from bacalhau.model.resources import Resources


@dataclass(frozen=True, slots=True)
class Situation:
    """What the node knows when it prices: free and total capacity, bytes of input it would have to fetch, and the
    reputation of who asks."""

    free: Resources
    capacity: Resources
    missing_input_bytes: int
    requester_score_ppm: int = NEW_SCORE_PPM


class PricingStrategy(Protocol):
    """One method, so that strategies can wrap one another."""

    def price(self, offer: JobOffer, situation: Situation) -> int:
        """The price of one execution, in microcredits; never negative."""
        ...


@dataclass(frozen=True, slots=True)
class FlatPrice:
    """The same price for every execution."""

    price_microcredits: int

    def price(self, offer: JobOffer, situation: Situation) -> int:
        return self.price_microcredits


@dataclass(frozen=True, slots=True)
class LinearPrice:
    """Start price plus rates for the whole envelope: CPU and memory for the offer's execution timeout, and
    the input that has to be fetched. Each part is rounded up to a whole microcredit, so that no part is
    free."""

    tariff: Tariff

    def price(self, offer: JobOffer, situation: Situation) -> int:
        tariff = self.tariff
        asked = offer.resources
        cpu = _ceil_div(
            tariff.cpu_second_microcredits * asked.cpu_millicores * offer.execution_timeout_us,
            1000 * SECOND_US,
        )
        memory = _ceil_div(
            tariff.memory_gib_second_microcredits * asked.memory_bytes * offer.execution_timeout_us,
            GIB * SECOND_US,
        )
        fetched = _ceil_div(tariff.input_gib_microcredits * situation.missing_input_bytes, GIB)
        return tariff.start_microcredits + cpu + memory + fetched


def _ceil_div(amount: int, unit: int) -> int:
    return -(-amount // unit)
