"""Every clearing of a requester, audited as each of its bidders would: it must follow from what is disclosed of it, and
from what the requester acknowledged and awarded to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bacalhau.market.audit import (
    AuditedClearing,
    Auditor,
    Disclosed,
    HeldAcknowledgement,
    HeldAward,
    SignedBid,
    SignedDecline,
    audit,
    entry_of,
)
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.records import AnswerReceived, AuctionCleared, OfferMade

if TYPE_CHECKING:
    from bacalhau.model.market import JobOffer
    from bacalhau.scheduler.effects import Effects
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.scheduler.requester import RequesterMachine

_NOBODY = ""
"""The requester's own node has to prove that it withdrew a bid too: here no two nodes are one party."""


@dataclass(slots=True)
class _Auction:
    """An offer, and what is signed on it: what its bidders keep, and what its requester discloses."""

    offer: JobOffer
    bids: dict[tuple[str, str], SignedBid] = field(default_factory=dict)
    """By node and bid: its first copy, which is the one that was acknowledged."""
    declines: dict[str, SignedDecline] = field(default_factory=dict)
    """By node: the last that its requester kept."""
    acknowledged: dict[str, dict[int, HeldAcknowledgement]] = field(default_factory=dict)
    """By node and position."""
    awards: dict[str, dict[str, HeldAward]] = field(default_factory=dict)
    """By node and execution."""
    clearings: list[AuditedClearing] = field(default_factory=list)


class Audited:
    """See the module: the auctions of every requester, by offer."""

    def __init__(self) -> None:
        self._auctions: dict[str, _Auction] = {}

    def stepped(
        self, machine: RequesterMachine, event: RequesterEvent | ComputeEvent | None, effects: Effects
    ) -> None:
        """Raises AssertionError with what an auditor finds."""
        if isinstance(event, ev.BidReceived) and effects.refusal is None:
            self._acknowledged(machine, event)
        for send in effects.sends:
            if isinstance(send, fx.SendAward):
                self._awarded(send)
        for write in effects.writes:
            match write:
                case OfferMade(offer):
                    self._auctions[offer.id] = _Auction(offer)
                case AnswerReceived(bid=None) if isinstance(event, ev.DeclineReceived):
                    declines = self._auctions[write.offer_id].declines
                    declines[write.node_id] = SignedDecline(write.node_id, write.offer_id, event.issued_us)
                case AuctionCleared():
                    self._audit(write)
                case _:
                    pass

    def _acknowledged(self, machine: RequesterMachine, event: ev.BidReceived) -> None:
        """As a live node answers a bid: with how it was taken, where it is the last one of its node."""
        auction = self._auctions[event.bid.offer_id]
        signed = SignedBid(event.node_id, event.bid, event.issued_us, event.digest)
        auction.bids.setdefault((event.node_id, event.bid.id), signed)
        sealed = machine.acknowledged(event.bid.offer_id, event.node_id)
        if sealed is None or sealed.bid.id != event.bid.id:
            return
        held = HeldAcknowledgement(
            sealed.bid.id, sealed.digest, sealed.received_us, sealed.position, sealed.reputation_permille
        )
        known = auction.acknowledged.setdefault(event.node_id, {}).setdefault(sealed.position, held)
        assert known == held, f"{event.bid.id} was acknowledged twice, and otherwise: {known}, {held}"

    def _awarded(self, send: fx.SendAward) -> None:
        award = send.award
        held = HeldAward(award.execution_id, award.price_microcredits, award.bid_set_digest)
        self._auctions[award.offer_id].awards.setdefault(send.to, {})[held.execution_id] = held

    def _audit(self, new: AuctionCleared) -> None:
        offer_id = new.clearing.offer_id
        auction = self._auctions[offer_id]
        disclosed = tuple(
            Disclosed(
                entry_of(sealed, standing),
                auction.bids.get((sealed.node_id, sealed.bid.id)),
                auction.declines.get(sealed.node_id),
            )
            for sealed, standing in new.bid_set
        )
        auction.clearings.append(AuditedClearing(new.clearing, disclosed))
        assert new.sequence == len(auction.clearings), new
        for bidder, acknowledged in auction.acknowledged.items():
            awards = auction.awards.get(bidder, {})
            auditor = Auditor(bidder, tuple(acknowledged.values()), tuple(awards.values()))
            findings = audit(auction.offer, _NOBODY, auction.clearings, auditor)
            assert not any(findings), f"{offer_id} was cleared wrongly, says {bidder}: {findings}"
