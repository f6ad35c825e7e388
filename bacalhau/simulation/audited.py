"""Every clearing of a requester, audited as a suspicious bidder would: it must follow from what it discloses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.audit import (
    AuditedClearing,
    Auditor,
    Disclosed,
    SignedBid,
    SignedDecline,
    audit,
    entry_of,
)
from bacalhau.scheduler.records import OfferMade

if TYPE_CHECKING:
    from bacalhau.model.market import JobOffer
    from bacalhau.scheduler.records import AnswerReceived, AuctionCleared


class Audited:
    """The offers of one requester, the declines that it has, and its clearings."""

    __slots__ = ("_clearings", "_declines", "_offers")

    def __init__(self) -> None:
        self._offers: dict[str, JobOffer] = {}
        self._declines: dict[tuple[str, str], None] = {}
        self._clearings: dict[str, list[AuditedClearing]] = {}

    def take(self, write: OfferMade | AnswerReceived) -> None:
        if isinstance(write, OfferMade):
            self._offers[write.offer.id] = write.offer
        elif write.refusal is not None:
            self._declines[write.offer_id, write.node_id] = None

    def take_clearing(self, new: AuctionCleared) -> None:
        """Raises AssertionError with the auditor's findings. A decline proves what it does in a world of one
        clock."""
        offer = self._offers[new.clearing.offer_id]
        disclosed = tuple(
            Disclosed(
                entry_of(sealed, standing),
                SignedBid(sealed.node_id, sealed.bid, sealed.issued_us, sealed.digest),
                SignedDecline(sealed.node_id, offer.id, sealed.issued_us)
                if (offer.id, sealed.node_id) in self._declines
                else None,
            )
            for sealed, standing in new.bid_set
        )
        clearings = self._clearings.setdefault(offer.id, [])
        clearings.append(AuditedClearing(new.clearing, disclosed))
        assert new.sequence == len(clearings), new
        findings = audit(offer, "nobody", clearings, Auditor("nobody"))
        assert findings == [[] for _ in clearings], f"{offer.id} was cleared wrongly: {findings}"
