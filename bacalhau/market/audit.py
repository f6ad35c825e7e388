"""Audit: does what was awarded follow from the bids, by the rule that the offer named?

Pure, over opened envelopes: whoever holds them, requester or bidder, comes to the same answer. It proves that the
awards follow from the disclosed bids, and that no acknowledged bid of the auditor was left out or changed. It
cannot prove that a bid comes from an independent bidder, or what a requester knows of a node's reputation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bacalhau.market.clearing import SealedBid, bid_set_digest, clear
from bacalhau.model.auction import BidStanding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bacalhau.model.auction import Clearing
    from bacalhau.model.market import Bid, JobOffer


@dataclass(frozen=True, slots=True)
class BidSetEntry:
    """What a bid set says of a bid beside its envelope."""

    bid_id: str
    node_id: str
    position: int
    received_us: int
    reputation_permille: int
    standing: BidStanding


def entry_of(sealed: SealedBid, standing: BidStanding) -> BidSetEntry:
    """What a requester discloses of a bid that it acknowledged."""
    return BidSetEntry(
        sealed.bid.id,
        sealed.node_id,
        sealed.position,
        sealed.received_us,
        sealed.reputation_permille,
        standing,
    )


@dataclass(frozen=True, slots=True)
class SignedBid:
    """A bid as its signed envelope has it: its signer, when it was signed, and the envelope's digest."""

    node_id: str
    bid: Bid
    issued_us: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class SignedDecline:
    """A decline as its signed envelope has it."""

    node_id: str
    offer_id: str
    issued_us: int


@dataclass(frozen=True, slots=True)
class Disclosed:
    """A disclosed bid: its entry, what was signed (None: no envelope came along), and a decline that came with it."""

    entry: BidSetEntry
    signed: SignedBid | None
    decline: SignedDecline | None = None

    @property
    def sealed(self) -> SealedBid | None:
        if self.signed is None:
            return None
        entry, signed = self.entry, self.signed
        return SealedBid(
            signed.node_id,
            signed.bid,
            entry.received_us,
            signed.digest,
            entry.position,
            entry.reputation_permille,
            signed.issued_us,
        )


@dataclass(frozen=True, slots=True)
class HeldAcknowledgement:
    """A requester's signed acknowledgement of a bid of the auditor: what it stated when it took the bid."""

    bid_id: str
    digest: bytes
    received_us: int
    position: int
    reputation_permille: int


@dataclass(frozen=True, slots=True)
class HeldAward:
    """An award that the auditor holds, as it was received, or as a requester has it in its journal."""

    execution_id: str
    price_microcredits: int
    bid_set_digest: bytes


@dataclass(frozen=True, slots=True)
class AuditedClearing:
    """A clearing as it was stated, and the bid set that was disclosed for it."""

    clearing: Clearing
    disclosed: tuple[Disclosed, ...]


@dataclass(frozen=True, slots=True)
class Auditor:
    """Who audits, with its own acknowledged bids on the offer, and the awards that it holds."""

    node_id: str
    acknowledgements: tuple[HeldAcknowledgement, ...] = ()
    awards: tuple[HeldAward, ...] = ()


@dataclass(slots=True)
class _Known:
    """What earlier clearings of the offer say: the bids that they awarded."""

    awarded: set[tuple[str, str]] = field(default_factory=set)


def audit(
    offer: JobOffer, requester_id: str, clearings: Sequence[AuditedClearing], auditor: Auditor
) -> list[list[str]]:
    """What is wrong with each of an offer's clearings, which are given in order; an empty list where it follows.

    The offer is the one that the auditor holds: for a bidder, the one that it bid on.
    """
    known = _Known()
    findings = []
    for audited in clearings:
        findings.append([*_findings(offer, requester_id, audited, auditor, known)])
        known.awarded.update((award.bid_id, award.node_id) for award in audited.clearing.awards)
    return findings


def _findings(
    offer: JobOffer, requester_id: str, audited: AuditedClearing, auditor: Auditor, known: _Known
) -> Iterable[str]:
    clearing, disclosed = audited.clearing, audited.disclosed
    if clearing.offer_id != offer.id or clearing.job_id != offer.job_id:
        yield f"the clearing is of offer {clearing.offer_id}, not of {offer.id}"
        return
    if clearing.clearing_rule is not offer.clearing_rule:
        stated, offered = clearing.clearing_rule.name, offer.clearing_rule.name
        yield f"it was cleared by the rule {stated}, and the offer named {offered}"
        return
    yield from _of_slots(offer, clearing, known)
    for one in disclosed:
        yield from _of_bid(offer, requester_id, clearing, one, known)
    yield from _of_set(clearing, disclosed)
    yield from _of_acknowledgements(clearing, disclosed, auditor)
    yield from _of_awards(offer, clearing, disclosed)
    yield from _of_held_awards(clearing, auditor)


def _of_slots(offer: JobOffer, clearing: Clearing, known: _Known) -> Iterable[str]:
    """A uniform price falls with the slots: who cleared an offer of two as twice one would pay both winners less. What
    was awarded before may have been lost since, which nobody but the requester knows; what was not is open still."""
    slots, winners, awarded = clearing.slots, offer.winners, len(known.awarded)
    if slots > winners:
        yield f"it was cleared for {slots} executions, and the offer was for {winners}"
    elif slots < winners - awarded:
        yield (
            f"it was cleared for {slots} executions, and the offer was for {winners}, "
            f"of which {awarded} had been awarded before"
        )


def _of_bid(
    offer: JobOffer, requester_id: str, clearing: Clearing, one: Disclosed, known: _Known
) -> Iterable[str]:
    entry, signed = one.entry, one.signed
    name = f"bid {entry.bid_id} of {entry.node_id}"
    if signed is None:
        yield f"{name} has no signed envelope"
        return
    if signed.node_id != entry.node_id or signed.bid.id != entry.bid_id:
        yield f"{name} comes with the envelope of bid {signed.bid.id} of {signed.node_id}"
    if signed.bid.offer_id != offer.id:
        yield f"{name} is on another offer, {signed.bid.offer_id}"
    if not 1 <= entry.position <= clearing.acknowledged_bids:
        yield f"{name} is number {entry.position} of {clearing.acknowledged_bids} acknowledged bids"
    if entry.received_us > clearing.cleared_us:
        yield f"{name} came after the clearing"
    expired = entry.received_us + signed.bid.valid_for_us <= clearing.cleared_us
    awarded = (entry.bid_id, entry.node_id) in known.awarded
    match entry.standing:
        case BidStanding.STANDS:
            if expired:
                yield f"{name} took part, and its validity had ended"
            if awarded:
                yield f"{name} took part, and had been awarded before"
        case BidStanding.EXPIRED:
            if not expired:
                yield f"{name} was left out as expired, and was still valid"
        case BidStanding.AWARDED:
            if not awarded:
                yield f"{name} was left out as awarded before, and no earlier clearing awarded it"
        case BidStanding.WITHDRAWN:
            yield from _of_withdrawal(offer, requester_id, one, signed, name)


def _of_withdrawal(
    offer: JobOffer, requester_id: str, one: Disclosed, signed: SignedBid, name: str
) -> Iterable[str]:
    """A decline signed after the bid proves it. The requester's own node needs none: the two are one party."""
    decline = one.decline
    if signed.node_id == requester_id:
        return
    if decline is None or decline.node_id != signed.node_id or decline.offer_id != offer.id:
        yield f"{name} was left out as withdrawn, and no decline of its node shows that"
    elif decline.issued_us < signed.issued_us:
        yield f"{name} was left out as withdrawn, by a decline from before the bid"


def _of_set(clearing: Clearing, disclosed: Sequence[Disclosed]) -> Iterable[str]:
    nodes = [one.entry.node_id for one in disclosed]
    if len(nodes) != len(set(nodes)):
        yield "a node has more than one bid in the set"
    positions = [one.entry.position for one in disclosed]
    if len(positions) != len(set(positions)):
        yield "two bids of the set have the same position"
    entries = [(one.sealed, one.entry.standing) for one in disclosed]
    whole = [(sealed, standing) for sealed, standing in entries if sealed is not None]
    if len(whole) == len(entries) and bid_set_digest(whole) != clearing.bid_set_digest:
        yield (
            "the disclosed bids are not those that the awards commit to: "
            f"their digest is {bid_set_digest(whole).hex()}, not {clearing.bid_set_digest.hex()}"
        )


def _of_acknowledgements(
    clearing: Clearing, disclosed: Sequence[Disclosed], auditor: Auditor
) -> Iterable[str]:
    """The auditor's last bid that was acknowledged by then must be in the set, as it was acknowledged."""
    due = [held for held in auditor.acknowledgements if 1 <= held.position <= clearing.acknowledged_bids]
    if not due:
        return
    last = max(due, key=lambda held: held.position)
    for one in disclosed:
        entry = one.entry
        if entry.node_id != auditor.node_id:
            continue
        if entry.position > last.position:
            return  # a later bid of this node, whose acknowledgement did not arrive
        if one.signed is None or one.signed.digest != last.digest:
            yield f"this node's bid {last.bid_id}, which was acknowledged, was replaced by {entry.bid_id}"
        stated = (entry.position, entry.received_us, entry.reputation_permille)
        if stated != (last.position, last.received_us, last.reputation_permille):
            yield f"this node's bid {last.bid_id} was acknowledged otherwise than it was cleared"
        return
    yield f"this node's bid {last.bid_id}, which was acknowledged as number {last.position}, was left out"


def _of_awards(offer: JobOffer, clearing: Clearing, disclosed: Sequence[Disclosed]) -> Iterable[str]:
    standing = [
        one.sealed for one in disclosed if one.sealed is not None and one.entry.standing is BidStanding.STANDS
    ]
    winners = clear(offer, standing, clearing.slots)
    follows = [(w.sealed.bid.id, w.sealed.node_id, w.price_microcredits) for w in winners]
    stated = [(award.bid_id, award.node_id, award.price_microcredits) for award in clearing.awards]
    for place in range(max(len(follows), len(stated))):
        expected = follows[place] if place < len(follows) else None
        found = stated[place] if place < len(stated) else None
        if expected == found:
            continue
        rank = f"winner {place + 1}"
        if expected is None:
            yield f"{rank} should be nobody, and is {_award_text(found)}"
        elif found is None:
            yield f"{rank} should be {_award_text(expected)}, and is nobody"
        else:
            yield f"{rank} should be {_award_text(expected)}, and is {_award_text(found)}"


def _of_held_awards(clearing: Clearing, auditor: Auditor) -> Iterable[str]:
    """What was promised to a winner must be what is stated to everybody else."""
    held = {award.execution_id: award for award in auditor.awards}
    for stated in clearing.awards:
        award = held.get(stated.execution_id)
        if award is None:
            continue
        if award.bid_set_digest != clearing.bid_set_digest:
            yield f"the award of {award.execution_id} commits to other bids than the clearing"
        if award.price_microcredits != stated.price_microcredits:
            yield (
                f"the award of {award.execution_id} is for {award.price_microcredits} microcredits, "
                f"the clearing says {stated.price_microcredits}"
            )


def _award_text(award: tuple[str, str, int] | None) -> str:
    if award is None:
        return "nobody"
    bid_id, node_id, price = award
    return f"bid {bid_id} of {node_id} for {price} microcredits"
