"""Offers, bids, awards: what requesters and compute nodes say to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.model.auction import NO_WEIGHTS, ScoringWeights
from bacalhau.model.frozen import dataclass
from bacalhau.model.units import HOUR_US, PPM

if TYPE_CHECKING:
    from bacalhau.model.auction import ClearingRule
    from bacalhau.model.cid import Cid
    from bacalhau.model.execution import ExecutionPhase
    from bacalhau.model.job import Constraint, Engine, JobSpec, NetworkMode
    from bacalhau.model.refusals import Refusal
    from bacalhau.model.resources import Resources


@dataclass(frozen=True, slots=True)
class PaymentTerms:
    """How much of the price is due for an accepted result, and how soon it is accepted; see
    market/payment.py."""

    floor_ppm: int = PPM
    accept_within_us: int = HOUR_US


WHOLE_PRICE = PaymentTerms()
"""What is due where an offer does not say."""


@dataclass(frozen=True, slots=True)
class ClaimedInput:
    """An input with the size that the requester claims; 0 where it does not know."""

    cid: Cid
    size_bytes: int


@dataclass(frozen=True, slots=True)
class JobOffer:
    """A job as every compute node hears of it. Durations in microseconds; `max_price` None is no ceiling.

    The ceiling is the auction's reserve price, and under POSTED_PRICE the price."""

    id: str
    job_id: str
    engine: Engine
    image_or_module: str
    inputs: tuple[ClaimedInput, ...]
    resources: Resources
    network: NetworkMode
    execution_timeout_us: int
    constraints: tuple[Constraint, ...]
    winners: int
    max_price_microcredits: int | None
    clearing_rule: ClearingRule
    bid_window_us: int
    open_for_us: int
    spec_digest: bytes
    weights: ScoringWeights = NO_WEIGHTS
    payment: PaymentTerms = WHOLE_PRICE


@dataclass(frozen=True, slots=True)
class Bid:
    """A node's price for one execution of an offer, held for `valid_for_us`; what it claims besides: how long after an
    award the program starts, and how much input it would have to fetch before; and what it forfeits where it is proven
    to have cheated."""

    id: str
    offer_id: str
    price_microcredits: int
    valid_for_us: int
    start_delay_us: int = 0
    missing_input_bytes: int = 0
    bond_microcredits: int = 0


@dataclass(frozen=True, slots=True)
class Decline:
    """A node's no to an offer."""

    offer_id: str
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Award:
    """The requester's promise: run `spec` as `execution_id`, for this price, within leases of `lease_us`."""

    execution_id: str
    job_id: str
    offer_id: str
    bid_id: str
    price_microcredits: int
    clearing_rule: ClearingRule
    bid_set_digest: bytes
    spec: JobSpec
    lease_us: int
    payment: PaymentTerms = WHOLE_PRICE
    bond_microcredits: int = 0


@dataclass(frozen=True, slots=True)
class LeaseRenewal:
    """The holder of a lease asks for another term and says what it is doing."""

    execution_id: str
    phase: ExecutionPhase
    attempt: int
    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Tariff:
    """Prices of a node, in microcredits: a start price and integer rates. All zero but the start is a flat tariff."""

    start_microcredits: int = 0
    cpu_second_microcredits: int = 0
    memory_gib_second_microcredits: int = 0
    input_gib_microcredits: int = 0
