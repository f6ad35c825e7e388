"""The market as this node knows it: offers, own bids, prices, audits. The port of MarketService.

An audit opens envelopes and hands them to `market.audit`, which decides. Those of this node's own jobs are in the
journal. For a job that it bid on it asks the requester, whose every word is signed, and compares with what the
requester acknowledged before.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.market.audit import (
    AuditedClearing,
    Auditor,
    Disclosed,
    HeldAcknowledgement,
    HeldAward,
    SignedBid,
    SignedDecline,
    audit,
)
from bacalhau.market.pricehistory import price_history
from bacalhau.model.auction import Clearing
from bacalhau.model.market import Bid, Decline, JobOffer
from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.rpc.market_service import JobAudit
from bacalhau.rpc.peer_client import PeerUnreachable
from bacalhau.wire.auction import entry_from_proto
from bacalhau.wire.envelope import open_stored
from bacalhau.wire.statements import Acknowledgement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.market.audit import BidSetEntry
    from bacalhau.market.pricehistory import ClassPrices
    from bacalhau.node.clock import Clock
    from bacalhau.node.jobs import Jobs
    from bacalhau.node.membership import Membership
    from bacalhau.rpc.peer_client import PeerLink
    from bacalhau.scheduler.history import OfferSummary, StoredClearing
    from bacalhau.scheduler.records import BidKept
    from bacalhau.store.store import Store

_PAGES_MAX: Final = 1000
"""Of one clearing, or of an offer's clearings, that a requester may make an audit read."""
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class _OnOffer:
    """What is audited together: an offer as the auditor holds it, its clearings, and the auditor's own part."""

    offer: JobOffer
    clearings: list[AuditedClearing]
    auditor: Auditor


class Market:
    """See the module."""

    def __init__(self, node_id: str, store: Store, membership: Membership, jobs: Jobs, clock: Clock) -> None:
        self._node_id = node_id
        self._store = store
        self._membership = membership
        self._jobs = jobs
        self._clock = clock

    def offers(self, page_size: int, page_token: str) -> tuple[list[OfferSummary], str]:
        return self._store.offers(page_size=page_size, page_token=page_token)

    def own_bids(self, job_id: str, page_size: int, page_token: str) -> tuple[list[tuple[BidKept, int]], str]:
        bids, token = self._store.own_bids(job_id, page_size=page_size, page_token=page_token)
        return [(bid, _position(bid)) for bid in bids], token

    def prices(self, since_us: int) -> list[ClassPrices]:
        return price_history(self._store.traded_prices(max(0, self._clock.now() - since_us)))

    async def audit(self, job_id: str) -> JobAudit:
        try:
            resolved = self._jobs.resolve(job_id)
        except Refused as error:
            if error.refusal.reason is not RefusalReason.NOT_FOUND:
                raise
            return await self._audit_of_others(job_id)
        offers = await asyncio.to_thread(self._own_offers, resolved)
        return _audited(resolved, self._node_id, offers)

    # --- a job of this node ---

    def _own_offers(self, job_id: str) -> list[_OnOffer]:
        job = self._jobs.job(job_id)
        awards = tuple(HeldAward(e.id, e.price_microcredits, e.bid_set_digest) for e in job.executions)
        found: dict[str, _OnOffer] = {}
        for stored in self._store.clearings(job_id):
            offer_id = stored.clearing.offer_id
            if offer_id not in found:
                offer = self._store.offer(offer_id)
                if offer is None:
                    raise refused(RefusalReason.NOT_FOUND, f"offer {offer_id} is gone from the journal")
                found[offer_id] = _OnOffer(offer, [], Auditor(self._node_id, awards=awards))
            found[offer_id].clearings.append(AuditedClearing(stored.clearing, tuple(self._disclosed(stored))))
        return list(found.values())

    def _disclosed(self, stored: StoredClearing) -> Iterable[Disclosed]:
        token = ""
        while True:
            page, token = self._store.cleared_bids(stored, page_size=_PAGE, page_token=token)
            for bid in page:
                yield _opened(bid.entry, bid.evidence, bid.decline_evidence)
            if not token:
                return

    # --- a job that this node bid on ---

    async def _audit_of_others(self, job_id: str) -> JobAudit:
        bids = await asyncio.to_thread(self._bids_for, job_id)
        jobs = {bid.job_id for bid in bids}
        if len(jobs) > 1:
            shown = ", ".join(sorted(jobs)[:3])
            raise refused(
                RefusalReason.AMBIGUOUS_ID, f"{job_id} could be any of {shown} …: give more of the id"
            )
        if not bids:
            raise refused(
                RefusalReason.NOT_FOUND,
                f"no job {job_id} of this node, and it bid on none: `bacalhau market bids` shows those that it did",
            )
        requester_id = bids[0].requester_id
        try:
            link = await self._membership.link(requester_id)
            offers = [
                await self._disclosed_by(link, requester_id, offer_id, bids)
                for offer_id in dict.fromkeys(bid.offer_id for bid in reversed(bids))
            ]
        except PeerUnreachable as failure:
            raise refused(
                RefusalReason.CONTENT_UNAVAILABLE,
                f"the requester {requester_id} does not answer: {failure}",
            ) from failure
        return _audited(bids[0].job_id, requester_id, offers)

    def _bids_for(self, job_id: str) -> list[BidKept]:
        bids: list[BidKept] = []
        token = ""
        while True:
            page, token = self._store.own_bids(job_id, page_size=_PAGE, page_token=token)
            bids += page
            if not token:
                return bids

    def _held_awards(self, requester_id: str, clearings: list[AuditedClearing]) -> tuple[HeldAward, ...]:
        """What this node was promised by the requester, of all that the clearings state."""
        stated = [award for audited in clearings for award in audited.clearing.awards]
        works = [self._store.work(award.execution_id) for award in stated if award.node_id == self._node_id]
        return tuple(
            HeldAward(work.id, work.award.price_microcredits, work.award.bid_set_digest)
            for work in works
            if work is not None and work.requester_id == requester_id
        )

    async def _disclosed_by(
        self, link: PeerLink, requester_id: str, offer_id: str, bids: list[BidKept]
    ) -> _OnOffer:
        """Raises Refused where what the requester sends is no clearing of its own."""
        mine = [bid for bid in bids if bid.offer_id == offer_id]
        offer = open_stored(mine[0].offer_envelope, JobOffer).body
        acknowledged = tuple(held for bid in mine if (held := _acknowledgement(bid)) is not None)
        clearings: list[AuditedClearing] = []
        try:
            count = 1
            while len(clearings) < min(count, _PAGES_MAX):
                audited, count = await _clearing_of(link, requester_id, offer_id, len(clearings) + 1)
                clearings.append(audited)
        except Refused as error:
            if error.refusal.reason is not RefusalReason.WRONG_STATE:
                raise
        awards = await asyncio.to_thread(self._held_awards, requester_id, clearings)
        return _OnOffer(offer, clearings, Auditor(self._node_id, acknowledged, awards))


async def _clearing_of(
    link: PeerLink, requester_id: str, offer_id: str, sequence: int
) -> tuple[AuditedClearing, int]:
    """One clearing as its requester discloses it, and how many the offer has. Raises Refused, PeerUnreachable."""
    disclosed: list[Disclosed] = []
    token, stated, clearings = "", None, 0
    for _ in range(_PAGES_MAX):
        page = await link.get_clearing(offer_id, sequence, token)
        opened = open_stored(page.clearing.SerializeToString(), Clearing)
        if opened.sender != requester_id or (stated is not None and stated != opened.body):
            raise refused(
                RefusalReason.BAD_SIGNATURE, f"{requester_id} did not sign this clearing of {offer_id}"
            )
        stated, clearings = opened.body, page.clearings
        for envelope, disclosure in zip(page.bids, page.disclosures, strict=False):
            decline = disclosure.decline.SerializeToString() if disclosure.HasField("decline") else b""
            entry = entry_from_proto(disclosure.entry)
            disclosed.append(_opened(entry, envelope.SerializeToString(), decline))
        token = page.next_page_token
        if not token:
            return AuditedClearing(stated, tuple(disclosed)), clearings
    raise refused(
        RefusalReason.LIMIT_REACHED, f"{requester_id} sends a clearing of more than {_PAGES_MAX} pages"
    )


def _opened(entry: BidSetEntry, evidence: bytes, decline_evidence: bytes) -> Disclosed:
    """What does not open, or is something else, is no envelope: the audit says so."""
    signed = decline = None
    try:
        bid = open_stored(evidence, Bid)
        signed = SignedBid(bid.sender, bid.body, bid.issued_at_us, bid.digest)
    except Refused:
        pass
    if decline_evidence:
        try:
            no = open_stored(decline_evidence, Decline)
            decline = SignedDecline(no.sender, no.body.offer_id, no.issued_at_us)
        except Refused:
            pass
    return Disclosed(entry, signed, decline)


def _acknowledgement(bid: BidKept) -> HeldAcknowledgement | None:
    """What the requester stated when it took the bid; None where it refused it, or stated nothing."""
    opened = open_stored(bid.acknowledgement, Acknowledgement)
    stated = opened.body
    if opened.sender != bid.requester_id or stated.refusal is not None or stated.received_us is None:
        return None
    return HeldAcknowledgement(
        bid.bid_id, stated.digest, stated.received_us, stated.position, stated.reputation_permille
    )


def _position(bid: BidKept) -> int:
    held = _acknowledgement(bid)
    return held.position if held is not None else 0


def _audited(job_id: str, requester_id: str, offers: list[_OnOffer]) -> JobAudit:
    audited = [
        (clearing, tuple(findings))
        for on_offer in offers
        for clearing, findings in zip(
            on_offer.clearings,
            audit(on_offer.offer, requester_id, on_offer.clearings, on_offer.auditor),
            strict=True,
        )
    ]
    return JobAudit(job_id, requester_id, tuple(audited))
