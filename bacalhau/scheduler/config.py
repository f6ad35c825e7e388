"""Limits and durations of the two machines; every duration in microseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.market.credit import CreditPolicy
from bacalhau.model.market import PaymentTerms
from bacalhau.model.units import DAY_US, HOUR_US, MICROCREDITS_PER_CREDIT, PPM, SECOND_US

if TYPE_CHECKING:
    from bacalhau.market.bidding import BiddingPolicy

DEFAULT_PAYMENT = PaymentTerms(floor_ppm=PPM // 10, accept_within_us=HOUR_US)
DEFAULT_CREDIT = CreditPolicy(10 * MICROCREDITS_PER_CREDIT, 10 * MICROCREDITS_PER_CREDIT)
"""About 230 hours of a core with a GiB of memory, at the default tariff."""


@dataclass(frozen=True, slots=True)
class RequesterConfig:
    """Limits and durations of the requester side."""

    bid_window_us: int = SECOND_US
    lease_us: int = 30 * SECOND_US
    award_timeout_us: int = 5 * SECOND_US
    live_for_us: int = 15 * SECOND_US
    """A compute node is live so long after its last heartbeat: three heartbeats."""
    queue_default_us: int = HOUR_US
    no_node_grace_us: int = 5 * SECOND_US
    """How long an auction waits for a first live node before the job fails."""
    restart_us: int = 60 * SECOND_US
    """No node is live, but one was heard so lately that it may only be restarting: an auction waits for it."""
    reoffer_us: int = 5 * SECOND_US
    reoffer_max_us: int = 60 * SECOND_US
    unanswered_offers_max: int = 4
    """A node that left an offer unanswered so often gives no hope of a bid any more."""
    open_jobs_max: int = 10_000
    attempts_per_execution_max: int = 4
    offer_sample: int = 0
    """An offer goes to so many live nodes, or as many as its job misses, picked anew each time it is made or repeated;
    0 is to all."""
    answers_per_offer_max: int = 1_000
    """Nodes whose bid or decline to one offer is kept."""
    answers_per_node_max: int = 100
    """Bids and declines of one node to one offer that are kept."""
    reveal_retry_us: int = 5 * SECOND_US
    reveal_timeout_us: int = 60 * SECOND_US
    """How long a node may take to reveal a result that it committed to; as long as two leases."""
    min_reputation_ppm: int = 0
    """Nodes below it get no offer, and their bids are refused."""
    node_id: str = ""
    payment: PaymentTerms = DEFAULT_PAYMENT
    """What its offers say of pay."""
    receipt_retry_us: int = SECOND_US
    receipt_retry_max_us: int = 60 * SECOND_US
    """How often receipts are sent to a node that does not sign them."""
    receipts_per_send_max: int = 100


@dataclass(frozen=True, slots=True)
class ComputeConfig:
    """Limits and durations of the compute side."""

    policy: BiddingPolicy
    bid_valid_for_us: int = 10 * SECOND_US
    remembered_offers_max: int = 10_000
    attempts_max: int = 3
    report_retry_us: int = SECOND_US
    report_retry_max_us: int = 60 * SECOND_US
    report_keep_us: int = 7 * DAY_US
    """How long a report is sent to a requester that never answers."""
    first_renewal_us: int = SECOND_US // 5
    """A phase that lasts this long is told to the requester; shorter ones it learns from the report."""
    lease_min_us: int = SECOND_US // 10
    """Awards with a shorter lease are refused: it could not be renewed in time."""
    min_reputation_ppm: int = 0
    """Offers of requesters below it are declined."""
    node_id: str = ""
    credit: CreditPolicy = DEFAULT_CREDIT
    bond_permille: int = 0
    """The bond of its bids, of their price."""
    note_retry_us: int = SECOND_US
    note_retry_max_us: int = 60 * SECOND_US
    """How often a settlement note is sent to a debtor that does not sign it."""
