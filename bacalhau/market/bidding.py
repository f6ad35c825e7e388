"""The bidding engine of a compute node: can I, should I, for how much?

The steps run in a fixed order and the first "no" wins and names its reason:

    semantic checks (engine, network, image, constraints, jobs without inputs)
      -> feasibility (fits this node at all, and into its longest time)
      -> what has to be asked for (locality of inputs, probe)
      -> capacity (fits now)
      -> price
      -> bid

`screen` covers the first three, `quote` the rest; a node that is only busy repeats `quote` when capacity is
free. What a decision needs from outside is asked for: `screen` answers with `Ask`, and is called again with
the answers. Before all of this the machine asks whether the node takes offers, and from this requester; after it,
whether that has credit.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from bacalhau.market.pricing import Situation
from bacalhau.market.reputation import NEW_SCORE_PPM
from bacalhau.model.auction import ClearingRule
from bacalhau.model.frozen import dataclass
from bacalhau.model.job import Engine, NetworkMode
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.resources import amount_text
from bacalhau.model.units import DAY_US, SECOND_US

if TYPE_CHECKING:
    from bacalhau.market.pricing import PricingStrategy
    from bacalhau.model.market import JobOffer
    from bacalhau.model.resources import Resources

_START_DELAY_MAX_US = 30 * DAY_US
"""As much as a bid can say."""
# Enum members that are compared for every offer: CPython 3.11 takes ten times as long to get one from its class.
_POSTED_PRICE: Final = ClearingRule.POSTED_PRICE
_NO_NETWORK: Final = NetworkMode.NONE


@dataclass(frozen=True, slots=True)
class BiddingPolicy:
    """What the operator allows. `images` are shell patterns, empty allows all; `probe` is a command to
    ask."""

    capacity: Resources
    job_limit: Resources
    labels: tuple[tuple[str, str], ...] = ()
    accept_networked: bool = False
    reject_stateless: bool = False
    only_local_inputs: bool = False
    images: tuple[str, ...] = ()
    probe: bool = False
    execution_timeout_max_us: int = DAY_US
    price_script: bool = False
    """Prices come from the operator's script."""
    fetch_bytes_per_second: int = 10_000_000
    """What the start delay of a bid is estimated with, where input has to be fetched."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What must be found out before the offer can be decided: which inputs are here, what the probe says."""

    inputs: bool
    probe: bool


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to an Ask. `probe_refusal` is the probe's reason for its no."""

    missing_input_bytes: int = 0
    missing_inputs: int = 0
    probe_refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """A price that the node is ready to bid, and how soon the program would start."""

    price_microcredits: int
    start_delay_us: int = 0
    missing_input_bytes: int = 0


def screen(
    offer: JobOffer, policy: BiddingPolicy, engines: tuple[Engine, ...], answers: Answers | None
) -> Refusal | Ask | None:
    """Whether the node would ever run this offer: None is yes."""
    refusal = _semantic_refusal(offer, policy, engines)
    if refusal is not None:
        return refusal
    if not offer.resources.fits_in(policy.job_limit):
        return _too_small(offer, policy)
    if offer.execution_timeout_us > policy.execution_timeout_max_us:
        return _too_long(offer, policy)
    if answers is None:
        return Ask(bool(offer.inputs), policy.probe) if offer.inputs or policy.probe else None
    if policy.only_local_inputs and answers.missing_inputs:
        return Refusal(
            RefusalReason.LOCALITY_POLICY,
            f"this node only takes jobs whose inputs it holds; {answers.missing_inputs} of them are not here",
            (
                ("missing_inputs", answers.missing_inputs),
                ("missing_input_bytes", answers.missing_input_bytes),
            ),
        )
    if answers.probe_refusal is not None:
        return Refusal(RefusalReason.PROBE, f"this node's probe said no: {answers.probe_refusal}")
    return None


def quote(
    offer: JobOffer,
    policy: BiddingPolicy,
    pricing: PricingStrategy,
    free: Resources,
    missing_input_bytes: int,
    requester_score_ppm: int = NEW_SCORE_PPM,
    scripted_microcredits: int | None = None,
) -> Refusal | Quote:
    """The price now, for an offer that `screen` let through; BUSY where the capacity is taken.

    A posted price is taken as it is, or not at all: to say for how much less the node would do it gains nothing.
    """
    if not offer.resources.fits_in(free):
        return busy(offer, free)
    situation = Situation(
        free, policy.capacity, missing_input_bytes, requester_score_ppm, scripted_microcredits
    )
    price = pricing.price(offer, situation)
    ceiling = offer.max_price_microcredits
    if ceiling is not None and price > ceiling:
        return Refusal(
            RefusalReason.PRICE_CEILING,
            f"this node asks {price} microcredits, the offer allows {ceiling}: raise --max-price",
            (("price_microcredits", price), ("max_price_microcredits", ceiling)),
        )
    if ceiling is not None and offer.clearing_rule is _POSTED_PRICE:
        price = ceiling
    if not missing_input_bytes:
        return Quote(price)
    start_delay_us = -(-missing_input_bytes * SECOND_US // policy.fetch_bytes_per_second)
    return Quote(price, min(start_delay_us, _START_DELAY_MAX_US), missing_input_bytes)


def busy(offer: JobOffer, free: Resources) -> Refusal:
    """The offer would fit, but not now."""
    lacking = offer.resources.lacks(free)
    return Refusal(
        RefusalReason.BUSY, "this node is busy: " + _compare(lacking, "free"), _figures(lacking, "free")
    )


def _semantic_refusal(offer: JobOffer, policy: BiddingPolicy, engines: tuple[Engine, ...]) -> Refusal | None:
    if offer.engine not in engines:
        return Refusal(
            RefusalReason.ENGINE_MISSING,
            f"this node has no {offer.engine.name.lower()} engine that answers: start one there (`bacalhau node "
            "describe` says what is missing), or start a node that has one",
        )
    if offer.network is not _NO_NETWORK and not policy.accept_networked:
        return Refusal(
            RefusalReason.NETWORK_POLICY,
            f"this node does not give jobs a network (asked: {offer.network.name.lower()})",
        )
    if policy.images and not any(fnmatchcase(offer.image_or_module, pattern) for pattern in policy.images):
        return Refusal(
            RefusalReason.IMAGE_POLICY, f"this node's policy does not allow {offer.image_or_module}"
        )
    labels = dict(policy.labels) if offer.constraints else {}
    for constraint in offer.constraints:
        if not constraint.holds(labels):
            asked = f"{constraint.key} {constraint.operator.name} {', '.join(constraint.values)}".strip()
            return Refusal(RefusalReason.CONSTRAINT, f"this node's labels do not fit the constraint {asked}")
    if policy.reject_stateless and not offer.inputs:
        return Refusal(RefusalReason.LOCALITY_POLICY, "this node only takes jobs that have inputs")
    return None


def _too_small(offer: JobOffer, policy: BiddingPolicy) -> Refusal:
    lacking = offer.resources.lacks(policy.job_limit)
    return Refusal(
        RefusalReason.INFEASIBLE,
        "this node is too small: " + _compare(lacking, "allowed"),
        _figures(lacking, "allowed"),
    )


def _too_long(offer: JobOffer, policy: BiddingPolicy) -> Refusal:
    asked_us, allowed_us = offer.execution_timeout_us, policy.execution_timeout_max_us
    return Refusal(
        RefusalReason.TIMEOUT_POLICY,
        f"this node gives no job more than {allowed_us // SECOND_US} seconds, asked {asked_us // SECOND_US}",
        (("asked_execution_timeout_us", asked_us), ("allowed_execution_timeout_us", allowed_us)),
    )


def _compare(lacking: tuple[tuple[str, int, int], ...], word: str) -> str:
    return ", ".join(
        f"asked {amount_text(name, asked)}, {amount_text(name, room)} {word}" for name, asked, room in lacking
    )


def _figures(lacking: tuple[tuple[str, int, int], ...], word: str) -> tuple[tuple[str, int], ...]:
    return tuple(
        figure
        for name, asked, room in lacking
        for figure in ((f"asked_{name}", asked), (f"{word}_{name}", room))
    )
