"""Clearing: from sealed bids to winners and their prices, by the rule that the offer named.

Nothing here depends on the order in which bids are given, so whoever has the bids gets the same winners. What an
award commits to, and how that is checked, is in `audit`.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING

from bacalhau.model.auction import REPUTATION_MAX_PERMILLE, BidStanding, ClearingRule
from bacalhau.model.frozen import dataclass
from bacalhau.model.units import GIB, SECOND_US

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.model.auction import ScoringWeights
    from bacalhau.model.market import Bid, JobOffer


@dataclass(frozen=True, slots=True)
class SealedBid:
    """A bid as its requester acknowledged it: who made it, when it was signed and received, and the digest of its
    signed envelope. It was the `position`-th bid on its offer; `reputation_permille` is what it counts with."""

    node_id: str
    bid: Bid
    received_us: int
    digest: bytes
    position: int = 1
    reputation_permille: int = REPUTATION_MAX_PERMILLE
    issued_us: int = 0

    @property
    def expires_us(self) -> int:
        """From then on it does not stand any more."""
        return self.received_us + self.bid.valid_for_us


@dataclass(frozen=True, slots=True)
class Winner:
    """A bid that wins, with what an award to it pays."""

    sealed: SealedBid
    price_microcredits: int


def clear(offer: JobOffer, bids: Iterable[SealedBid], slots: int) -> list[Winner]:
    """The winners, best first: at most `slots`, and none above the offer's reserve price.

    First price: the cheapest, each paid its bid. Uniform: the cheapest, all paid the price of the best bid that
    lost, and the reserve where none did: the (k+1)-th price auction, which for bidders with one unit each is
    the one of Vickrey, Clarke and Groves (Vickrey 1961). Scoring: the lowest `score`, paid its bid (Che 1993).
    Posted: the first by position, paid the reserve, which is the posted price.

    Equal bids are ranked by `tie_key`.
    """
    reserve = offer.max_price_microcredits
    standing = [sealed for sealed in bids if reserve is None or sealed.bid.price_microcredits <= reserve]
    ranked = _ranked(offer, standing)
    chosen = ranked[:slots]
    match offer.clearing_rule:
        case ClearingRule.FIRST_PRICE | ClearingRule.SCORING:
            return [Winner(sealed, sealed.bid.price_microcredits) for sealed in chosen]
        case ClearingRule.UNIFORM_PRICE:
            lost = ranked[slots : slots + 1]
            price = lost[0].bid.price_microcredits if lost else _reserve(offer)
            return [Winner(sealed, price) for sealed in chosen]
        case ClearingRule.POSTED_PRICE:
            return [Winner(sealed, _reserve(offer)) for sealed in chosen]


def score(weights: ScoringWeights, sealed: SealedBid) -> int:
    """What a bid costs its buyer by the published weights, in microcredits: the price, and more for what it lacks.

        price + ceil(a second of start delay x delay) + ceil(a GiB of input x what is missing)
              + ceil(no reputation x (1000 - reputation) / 1000)

    The quasi-linear score of Che (1993), with its sign turned: the lowest is best.
    """
    bid = sealed.bid
    lacking_permille = REPUTATION_MAX_PERMILLE - sealed.reputation_permille
    return (
        bid.price_microcredits
        + -(-weights.start_delay_second_microcredits * bid.start_delay_us // SECOND_US)
        + -(-weights.input_gib_microcredits * bid.missing_input_bytes // GIB)
        + -(-weights.reputation_microcredits * lacking_permille // REPUTATION_MAX_PERMILLE)
    )


def may_pay(offer: JobOffer, bid: Bid, price_microcredits: int) -> bool:
    """Whether an award may pay a bid so much: what its bidder can tell without the other bids."""
    match offer.clearing_rule:
        case ClearingRule.FIRST_PRICE | ClearingRule.SCORING:
            return price_microcredits == bid.price_microcredits
        case ClearingRule.UNIFORM_PRICE:
            return bid.price_microcredits <= price_microcredits <= _reserve(offer)
        case ClearingRule.POSTED_PRICE:
            return price_microcredits == _reserve(offer)


def most_paid(offer: JobOffer, price_microcredits: int) -> int:
    """The most that an award may pay a bid of that price."""
    return _reserve(offer) if offer.clearing_rule.needs_reserve else price_microcredits


def tie_key(offer_id: str, sealed: SealedBid) -> tuple[bytes, str]:
    """Orders equal bids: SHA-256 of the offer's id and the node's, so that no choice of a bid's id wins a tie, and
    no node wins every one."""
    return hashlib.sha256(f"{offer_id}\n{sealed.node_id}".encode()).digest(), sealed.bid.id


def bid_set_digest(entries: Iterable[tuple[SealedBid, BidStanding]]) -> bytes:
    """What an award commits to: SHA-256 over a line for each bid, sorted by bid id, then node id.

    A line is the envelope's digest in hexadecimal, the position, when it was received (microseconds), its
    reputation, and the number of its BidStanding, with a space between them and a line feed at the end.
    """
    lines = [
        (
            sealed.bid.id,
            sealed.node_id,
            f"{sealed.digest.hex()} {sealed.position} {sealed.received_us} "
            f"{sealed.reputation_permille} {standing.number}\n",
        )
        for sealed, standing in entries
    ]
    lines.sort()
    return hashlib.sha256("".join([line for _, _, line in lines]).encode()).digest()


def _ranked(offer: JobOffer, bids: list[SealedBid]) -> list[SealedBid]:
    """Best first. Only bids that are equal are looked at for the tie: a digest each would cost more than the rest."""
    match offer.clearing_rule:
        case ClearingRule.FIRST_PRICE | ClearingRule.UNIFORM_PRICE:
            merits = [sealed.bid.price_microcredits for sealed in bids]
        case ClearingRule.SCORING:
            merits = [score(offer.weights, sealed) for sealed in bids]
        case ClearingRule.POSTED_PRICE:
            merits = [sealed.position for sealed in bids]
    ranked = [sealed for _, sealed in sorted(zip(merits, bids, strict=True), key=itemgetter(0))]
    tied = [merit for merit, count in Counter(merits).items() if count > 1]
    merits.sort()
    for merit in tied:
        equal = slice(bisect_left(merits, merit), bisect_right(merits, merit))
        ranked[equal] = sorted(ranked[equal], key=lambda sealed: tie_key(offer.id, sealed))
    return ranked


def _reserve(offer: JobOffer) -> int:
    if offer.max_price_microcredits is None:
        raise ValueError(f"offer {offer.id} has no reserve price, and {offer.clearing_rule.name} needs one")
    return offer.max_price_microcredits
