"""What a node bids by, from its settings: policy and pricing strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.config import Settings, job_limit
from bacalhau.market.bidding import BiddingPolicy
from bacalhau.market.pricing import (
    FlatPrice,
    HeldInputDiscount,
    LinearPrice,
    PriceFloor,
    ReputationPrice,
    ScriptedPrice,
    UtilisationPrice,
)
from bacalhau.model.market import Tariff

if TYPE_CHECKING:
    from bacalhau.market.pricing import PricingStrategy
    from bacalhau.model.resources import Resources


def policy_of(settings: Settings, capacity: Resources) -> BiddingPolicy:
    return BiddingPolicy(
        capacity=capacity,
        job_limit=job_limit(settings, capacity),
        labels=settings.labels,
        accept_networked=settings.accept_networked,
        reject_stateless=settings.reject_stateless,
        only_local_inputs=settings.only_local_inputs,
        images=settings.images,
        probe=settings.probe_command is not None,
        execution_timeout_max_us=settings.execution_timeout_max_us,
        price_script=settings.price_script is not None,
        fetch_bytes_per_second=settings.fetch_bytes_per_second,
    )


def pricing_of(settings: Settings) -> tuple[Tariff, PricingStrategy]:
    """The price list that the record shows, and what bids are computed by. The floor is outermost, so that neither a
    discount nor a script goes below it."""
    flat, tariff = settings.flat_price_microcredits, settings.tariff
    pricing: PricingStrategy = LinearPrice(tariff)
    if flat is not None:
        tariff, pricing = Tariff(start_microcredits=flat), FlatPrice(flat)
    if settings.bill_stranded:
        pricing = UtilisationPrice(pricing)
    if settings.held_input_discount_permille:
        pricing = HeldInputDiscount(pricing, settings.held_input_discount_permille)
    if settings.price_by_reputation:
        pricing = ReputationPrice(pricing)
    if settings.price_script is not None:
        pricing = ScriptedPrice(pricing)
    if settings.price_floor_microcredits:
        pricing = PriceFloor(pricing, settings.price_floor_microcredits)
    return tariff, pricing
