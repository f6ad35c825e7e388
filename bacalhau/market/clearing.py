"""Clearing: from sealed bids to a ranking, by the rule that the offer named."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.model.market import ClearingRule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.model.market import Bid


@dataclass(frozen=True, slots=True)
class SealedBid:
    """A bid with who made it, when it stops holding, and the digest of its signed envelope."""

    node_id: str
    bid: Bid
    expires_us: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Ranked:
    """A bid with the price that an award to it would pay."""

    sealed: SealedBid
    price_microcredits: int


def rank(
    rule: ClearingRule, bids: Iterable[SealedBid], *, max_price_microcredits: int | None
) -> list[Ranked]:
    """Bids within the ceiling, best first. Ties end on the bid id, then on the node's, so that equal bids
    rank alike everywhere.

    First price: the cheapest bid is best, and each award pays what was bid.
    """
    within = [
        sealed
        for sealed in bids
        if max_price_microcredits is None or sealed.bid.price_microcredits <= max_price_microcredits
    ]
    match rule:
        case ClearingRule.FIRST_PRICE:
            within.sort(key=lambda sealed: (sealed.bid.price_microcredits, sealed.bid.id, sealed.node_id))
            return [Ranked(sealed, sealed.bid.price_microcredits) for sealed in within]


def bid_set_digest(bids: Iterable[SealedBid]) -> bytes:
    """SHA-256 over the envelope digests of the bids, sorted by bid id, then node id: what an award commits
    to."""
    digest = hashlib.sha256()
    for sealed in sorted(bids, key=lambda sealed: (sealed.bid.id, sealed.node_id)):
        digest.update(sealed.digest)
    return digest.digest()
