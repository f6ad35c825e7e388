"""Pricing strategies: what a compute node asks for the envelope that an offer declares.

A strategy is a pure function of the offer and of what the node knows of it; prices are whole microcredits. Those
that take an `inner` strategy wrap it, in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bacalhau.market.reputation import NEW_SCORE_PPM, price_factor_ppm
from bacalhau.model.frozen import dataclass, replace
from bacalhau.model.resources import Resources
from bacalhau.model.rounding import ceil_div
from bacalhau.model.units import GIB, PPM, SECOND_US

if TYPE_CHECKING:
    from bacalhau.model.market import JobOffer, Tariff


@dataclass(frozen=True, slots=True)
class Situation:
    """What the node knows when it prices: free and total capacity, bytes of input it would have to fetch, and the
    reputation of who asks.

    `scripted_microcredits` is what the operator's price script named, None where it was not asked; `billed` is what an
    outer strategy bills in place of what the offer asks for.
    """

    free: Resources
    capacity: Resources
    missing_input_bytes: int
    requester_score_ppm: int = NEW_SCORE_PPM
    scripted_microcredits: int | None = None
    billed: Resources | None = None


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


def linear_microcredits(tariff: Tariff, asked: Resources, for_us: int, fetched_bytes: int) -> int:
    """Start price plus rates: CPU and memory for that time, and the input that has to be fetched. Each part is
    rounded up to a whole microcredit, so that no part is free."""
    price = tariff.start_microcredits
    if tariff.cpu_second_microcredits:
        price += ceil_div(tariff.cpu_second_microcredits * asked.cpu_millicores * for_us, 1000 * SECOND_US)
    if tariff.memory_gib_second_microcredits:
        memory = tariff.memory_gib_second_microcredits * asked.memory_bytes
        price += ceil_div(memory * for_us, GIB * SECOND_US)
    if fetched_bytes:
        price += ceil_div(tariff.input_gib_microcredits * fetched_bytes, GIB)
    return price


@dataclass(frozen=True, slots=True)
class LinearPrice:
    """`linear_microcredits` of the whole envelope: for the offer's execution timeout."""

    tariff: Tariff

    def price(self, offer: JobOffer, situation: Situation) -> int:
        asked = situation.billed or offer.resources
        return linear_microcredits(
            self.tariff, asked, offer.execution_timeout_us, situation.missing_input_bytes
        )


@dataclass(frozen=True, slots=True)
class UtilisationPrice:
    """The inner price, for what the job takes out of the market here: what it asks for, and what it strands.

    Where one resource has run out, the rest of the machine cannot be sold. So what can be sold is

        sellable(r) = floor(capacity(r) x min over all s of free(s) / capacity(s)),

    free(r) - sellable(r) is stranded, and of each resource the job is billed the larger of what it asks for and
    of sellable before it - sellable after it: its opportunity cost at list price. For two resources what is
    stranded is |free share of CPU - free share of memory|, the imbalance by which Kubernetes ranks nodes
    (NodeResourcesBalancedAllocation); here it has a price instead.
    """

    inner: PricingStrategy

    def price(self, offer: JobOffer, situation: Situation) -> int:
        asked, free, capacity = offer.resources, situation.free, situation.capacity
        before, of_before = _least_share(free, capacity)
        after, of_after = _least_share(free.minus(asked), capacity)

        def billed(asked: int, capacity: int) -> int:
            return max(asked, capacity * before // of_before - capacity * after // of_after)

        resources = Resources(
            billed(asked.cpu_millicores, capacity.cpu_millicores),
            billed(asked.memory_bytes, capacity.memory_bytes),
            billed(asked.disk_bytes, capacity.disk_bytes),
            billed(asked.gpu_count, capacity.gpu_count),
        )
        return self.inner.price(offer, replace(situation, billed=resources))


@dataclass(frozen=True, slots=True)
class HeldInputDiscount:
    """Less by `discount_permille` of the inner price where every input is held, and by its share where a part is:

        inner - floor(inner x discount x held bytes / (1000 x all input bytes))

    A job without inputs, or with inputs of unknown size, gets none.
    """

    inner: PricingStrategy
    discount_permille: int

    def price(self, offer: JobOffer, situation: Situation) -> int:
        price = self.inner.price(offer, situation)
        total_bytes = sum(claimed.size_bytes for claimed in offer.inputs)
        held_bytes = max(0, total_bytes - situation.missing_input_bytes)
        if not held_bytes:
            return price
        return price - price * self.discount_permille * held_bytes // (1000 * total_bytes)


@dataclass(frozen=True, slots=True)
class ReputationPrice:
    """The inner price times `price_factor_ppm` of the requester's score, rounded up: more for those that paid badly."""

    inner: PricingStrategy

    def price(self, offer: JobOffer, situation: Situation) -> int:
        factor_ppm = price_factor_ppm(situation.requester_score_ppm)
        return ceil_div(self.inner.price(offer, situation) * factor_ppm, PPM)


@dataclass(frozen=True, slots=True)
class ScriptedPrice:
    """What the operator's script named; the inner price, which the script is told, before it was asked."""

    inner: PricingStrategy

    def price(self, offer: JobOffer, situation: Situation) -> int:
        scripted = situation.scripted_microcredits
        return self.inner.price(offer, situation) if scripted is None else scripted


@dataclass(frozen=True, slots=True)
class PriceFloor:
    """The inner price, and never less than the floor."""

    inner: PricingStrategy
    floor_microcredits: int

    def price(self, offer: JobOffer, situation: Situation) -> int:
        return max(self.floor_microcredits, self.inner.price(offer, situation))


def _least_share(free: Resources, capacity: Resources) -> tuple[int, int]:
    """The smallest free share of any resource, as numerator and denominator: 0 where one has run out, at most 1. A
    resource that the machine does not have limits nothing."""
    least, of = 1, 1
    for left, total in (
        (free.cpu_millicores, capacity.cpu_millicores),
        (free.memory_bytes, capacity.memory_bytes),
        (free.disk_bytes, capacity.disk_bytes),
        (free.gpu_count, capacity.gpu_count),
    ):
        if total and left * of < least * total:
            least, of = left, total
    return max(0, least), of
