"""Auctions: by which rule bids become awards, and what a requester states of a clearing."""

from __future__ import annotations

from enum import Enum

from bacalhau.model.frozen import dataclass

REPUTATION_MAX_PERMILLE = 1000
"""The best reputation, and what a node counts as where its requester keeps none."""


class ClearingRule(Enum):
    """How an auction turns bids into awards; numbers are those of auction.proto."""

    FIRST_PRICE = 1
    """The cheapest win, and each is paid what it bid."""
    UNIFORM_PRICE = 2
    """The cheapest win, and all are paid the lowest price that lost; the reserve where none did."""
    SCORING = 3
    """The lowest score wins, and is paid what it bid."""
    POSTED_PRICE = 4
    """The offer names the price; who takes it first wins."""

    def __init__(self, number: int) -> None:
        self.needs_reserve = number in (2, 4)  # uniform and posted price
        """The reserve (the offer's ceiling) is, or may become, the price. Each bid asks for it."""


@dataclass(frozen=True, slots=True)
class ScoringWeights:
    """What a scoring auction adds to a price, in microcredits: for a second until the program starts, for a GiB
    of input that has to be fetched, and for having no reputation at all."""

    start_delay_second_microcredits: int = 0
    input_gib_microcredits: int = 0
    reputation_microcredits: int = 0


NO_WEIGHTS = ScoringWeights()


@dataclass(frozen=True, slots=True)
class AuctionTerms:
    """How a job's auctions are cleared. The weights count under SCORING only."""

    rule: ClearingRule = ClearingRule.FIRST_PRICE
    weights: ScoringWeights = NO_WEIGHTS


FIRST_PRICE_TERMS = AuctionTerms()


class BidStanding(Enum):
    """Whether an acknowledged bid took part in a clearing, or why not; numbers are those of auction.proto."""

    STANDS = 1
    EXPIRED = 2
    """Its validity had ended."""
    WITHDRAWN = 3
    """Its node declined the offer after it."""
    AWARDED = 4
    """An earlier clearing of the same offer had awarded it."""

    def __init__(self, number: int) -> None:
        self.number = number
        """The value, which `value` looks up each time: a digest of many bids asks for it often."""


@dataclass(frozen=True, slots=True)
class ClearedAward:
    """An award that a clearing made."""

    execution_id: str
    bid_id: str
    node_id: str
    price_microcredits: int


@dataclass(frozen=True, slots=True)
class Clearing:
    """What a requester states of one clearing. `slots` of the executions that the offer was for were open,
    however few were awarded for want of bids, and the bids that it had acknowledged by then were the first
    `acknowledged_bids`; `awards` are in the order of the ranking."""

    offer_id: str
    job_id: str
    clearing_rule: ClearingRule
    cleared_us: int
    slots: int
    acknowledged_bids: int
    bid_set_digest: bytes
    awards: tuple[ClearedAward, ...]
