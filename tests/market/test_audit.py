"""Audits: an honest clearing follows from its bids; each way to tamper with one is found, with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from bacalhau.market.clearing import bid_set_digest, clear
from bacalhau.model.auction import BidStanding, ClearedAward, Clearing, ClearingRule
from tests.builders import an_offer
from tests.market.sealed import RESERVE, auctions, sealed_bids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bacalhau.market.clearing import SealedBid
    from bacalhau.model.market import JobOffer

Auction = tuple["JobOffer", list["SealedBid"], int]
REQUESTER = "r"
CLEARED_US = 1_000
OFFER = an_offer(winners=2)
OF_ONE = an_offer(winners=1)
UNIFORM = an_offer(winners=2, clearing_rule=ClearingRule.UNIFORM_PRICE, max_price_microcredits=RESERVE)
BIDS = sealed_bids([5, 3, 9, 4])


def disclosed(
    sealed: SealedBid, standing: BidStanding = BidStanding.STANDS, decline: SignedDecline | None = None
) -> Disclosed:
    signed = SignedBid(sealed.node_id, sealed.bid, sealed.issued_us, sealed.digest)
    return Disclosed(entry_of(sealed, standing), signed, decline)


def honest(offer: JobOffer, bids: Sequence[Disclosed], slots: int | None = None) -> AuditedClearing:
    """What a requester states that clears these bids by the rule: for all that the offer was for, unless said
    otherwise."""
    slots = offer.winners if slots is None else slots
    sealed = [(one.sealed, one.entry.standing) for one in bids if one.sealed is not None]
    standing = [bid for bid, how in sealed if how is BidStanding.STANDS]
    awards = tuple(
        ClearedAward(f"e-{place}", w.sealed.bid.id, w.sealed.node_id, w.price_microcredits)
        for place, w in enumerate(clear(offer, standing, slots))
    )
    last = max((one.entry.position for one in bids), default=0)
    digest = bid_set_digest(sealed)
    stated = Clearing(offer.id, offer.job_id, offer.clearing_rule, CLEARED_US, slots, last, digest, awards)
    return AuditedClearing(stated, tuple(bids))


def findings(
    audited: AuditedClearing,
    offer: JobOffer = OFFER,
    auditor: Auditor = Auditor("me"),  # noqa: B008  # frozen
) -> list[str]:
    (found,) = audit(offer, REQUESTER, [audited], auditor)
    return found


def acknowledged(sealed: SealedBid) -> HeldAcknowledgement:
    return HeldAcknowledgement(
        sealed.bid.id, sealed.digest, sealed.received_us, sealed.position, sealed.reputation_permille
    )


def everyone(bids: Sequence[SealedBid] = BIDS) -> list[Disclosed]:
    return [disclosed(sealed) for sealed in bids]


# --- what is honest follows ---


@given(auctions())
def test_what_the_rule_makes_of_the_bids_follows_for_the_requester_and_for_every_bidder(
    auction: Auction,
) -> None:
    offer, bids, _ = auction
    audited = honest(offer, everyone(bids))
    assert findings(audited, offer, Auditor(REQUESTER)) == []
    for sealed in bids:
        assert findings(audited, offer, Auditor(sealed.node_id, (acknowledged(sealed),))) == []


def test_expired_withdrawn_and_awarded_bids_are_left_out_with_their_proof() -> None:
    expired = replace(BIDS[0], bid=replace(BIDS[0].bid, valid_for_us=CLEARED_US))
    decline = SignedDecline("n1", OFFER.id, issued_us=BIDS[1].issued_us)
    first = honest(OFFER, [disclosed(BIDS[3])])
    second = honest(
        OFFER,
        [
            disclosed(expired, BidStanding.EXPIRED),
            disclosed(BIDS[1], BidStanding.WITHDRAWN, decline),
            disclosed(BIDS[2]),
            disclosed(BIDS[3], BidStanding.AWARDED),
        ],
        slots=1,
    )
    assert audit(OFFER, REQUESTER, [first, second], Auditor(REQUESTER)) == [[], []]


# --- altered bid sets ---


@given(auctions().filter(lambda auction: len(auction[1]) > 1), st.data())
def test_a_bid_that_was_dropped_is_found_by_anyone_and_proven_by_whose_it_was(
    auction: Auction, data: st.DataObject
) -> None:
    offer, bids, _ = auction
    dropped = data.draw(st.sampled_from(bids))
    left = everyone([sealed for sealed in bids if sealed is not dropped])
    committed = honest(offer, everyone(bids))
    shown = AuditedClearing(committed.clearing, tuple(left))
    assert any("not those that the awards commit to" in reason for reason in findings(shown, offer))
    # Where the requester commits to the smaller set from the start, only the bidder can tell.
    smaller = honest(offer, left)
    smaller = replace(smaller, clearing=replace(smaller.clearing, acknowledged_bids=len(bids)))
    assert findings(smaller, offer) == []
    (reason,) = findings(smaller, offer, Auditor(dropped.node_id, (acknowledged(dropped),)))
    assert reason.endswith(f"acknowledged as number {dropped.position}, was left out")


@given(auctions())
def test_a_bid_that_was_added_is_found(auction: Auction) -> None:
    offer, bids, _ = auction
    added = replace(sealed_bids([0] * 9)[8], digest=b"another envelope")
    committed = honest(offer, everyone(bids))
    shown = AuditedClearing(committed.clearing, (*committed.disclosed, disclosed(added)))
    found = findings(shown, offer)
    assert any("not those that the awards commit to" in reason for reason in found)
    assert any("number 9 of" in reason for reason in found)


@given(auctions().filter(lambda auction: bool(auction[1])), st.data())
def test_a_bid_that_was_changed_is_found(auction: Auction, data: st.DataObject) -> None:
    """A changed bid is another envelope, with another digest: its price, or whatever else, cannot be told apart from
    it."""
    offer, bids, _ = auction
    index = data.draw(st.integers(0, len(bids) - 1))
    committed = honest(offer, everyone(bids))
    changed = replace(
        bids[index],
        digest=b"another envelope",
        bid=replace(bids[index].bid, price_microcredits=bids[index].bid.price_microcredits + 1),
    )
    shown = list(committed.disclosed)
    shown[index] = disclosed(changed)
    found = findings(AuditedClearing(committed.clearing, tuple(shown)), offer)
    assert any("not those that the awards commit to" in reason for reason in found)


@pytest.mark.parametrize(
    ("field", "value"),
    [("position", 3), ("received_us", 1), ("reputation_permille", 999), ("standing", BidStanding.EXPIRED)],
)
def test_whatever_the_entry_says_of_a_bid_is_committed_to(field: str, value: object) -> None:
    committed = honest(OFFER, everyone())
    first = committed.disclosed[0]
    entry = replace(first.entry, **{field: value})  # type: ignore[arg-type]
    shown = (replace(first, entry=entry), *committed.disclosed[1:])
    found = findings(AuditedClearing(committed.clearing, shown))
    assert any("not those that the awards commit to" in reason for reason in found)


# --- bids left out for a reason that does not hold ---


def test_a_valid_bid_is_not_left_out_as_expired() -> None:
    audited = honest(OFFER, [disclosed(BIDS[0], BidStanding.EXPIRED), disclosed(BIDS[1])])
    assert findings(audited) == ["bid b0 of n0 was left out as expired, and was still valid"]


def test_an_expired_bid_does_not_take_part() -> None:
    expired = replace(BIDS[0], bid=replace(BIDS[0].bid, valid_for_us=CLEARED_US))
    assert findings(honest(OFFER, [disclosed(expired)])) == [
        "bid b0 of n0 took part, and its validity had ended"
    ]


@pytest.mark.parametrize(
    ("decline", "said"),
    [
        (None, "no decline of its node shows that"),
        (SignedDecline("n1", "o-1", 9), "no decline of its node shows that"),
        (SignedDecline("n0", "o-2", 9), "no decline of its node shows that"),
        (SignedDecline("n0", "o-1", 4), "by a decline from before the bid"),
    ],
)
def test_a_bid_is_withdrawn_only_by_its_own_nodes_later_decline(
    decline: SignedDecline | None, said: str
) -> None:
    bid = replace(BIDS[0], issued_us=5)
    audited = honest(OFFER, [disclosed(bid, BidStanding.WITHDRAWN, decline), disclosed(BIDS[1])])
    assert findings(audited) == [
        f"bid b0 of n0 was left out as withdrawn, {'and ' if 'no ' in said else ''}{said}"
    ]


def test_the_requesters_own_node_withdraws_without_a_decline() -> None:
    bid = replace(BIDS[0], node_id=REQUESTER)
    assert findings(honest(OFFER, [disclosed(bid, BidStanding.WITHDRAWN), disclosed(BIDS[1])])) == []


def test_a_bid_is_left_out_as_awarded_only_where_an_earlier_clearing_awarded_it() -> None:
    audited = honest(OFFER, [disclosed(BIDS[0], BidStanding.AWARDED), disclosed(BIDS[1])])
    assert findings(audited) == [
        "bid b0 of n0 was left out as awarded before, and no earlier clearing awarded it"
    ]


def test_a_bid_is_not_awarded_twice() -> None:
    once = honest(OF_ONE, everyone())
    first, again = audit(OF_ONE, REQUESTER, [once, once], Auditor(REQUESTER))
    assert first == []
    assert again == ["bid b1 of n1 took part, and had been awarded before"]


# --- awards that do not follow ---


def test_a_winner_that_should_have_lost_is_named_beside_the_one_that_should_have_won() -> None:
    audited = honest(OF_ONE, everyone())
    wrong = replace(audited.clearing, awards=(ClearedAward("e-0", "b2", "n2", 9),))
    assert findings(replace(audited, clearing=wrong), OF_ONE) == [
        "winner 1 should be bid b1 of n1 for 3 microcredits, and is bid b2 of n2 for 9 microcredits"
    ]


def test_a_price_that_the_rule_does_not_give_is_named() -> None:
    audited = honest(UNIFORM, everyone())
    award = audited.clearing.awards[0]
    assert award.price_microcredits == 5
    lower = replace(award, price_microcredits=4)
    wrong = replace(audited.clearing, awards=(lower, audited.clearing.awards[1]))
    assert findings(replace(audited, clearing=wrong), UNIFORM) == [
        "winner 1 should be bid b1 of n1 for 5 microcredits, and is bid b1 of n1 for 4 microcredits"
    ]


def test_an_award_too_many_and_one_too_few_are_named() -> None:
    audited = honest(OFFER, everyone())
    for winners, said in ((1, "winner 2 should be nobody, and is"), (3, "winner 3 should be bid b0 of n0")):
        wrong = replace(audited.clearing, slots=winners)
        (reason,) = findings(replace(audited, clearing=wrong), an_offer(winners=winners))
        assert reason.startswith(said)


# --- how many were to win ---


def test_an_offer_of_two_that_was_cleared_as_twice_one_is_named_for_it_would_pay_both_winners_less() -> None:
    whole = honest(UNIFORM, everyone())
    assert [award.price_microcredits for award in whole.clearing.awards] == [5, 5]
    first = honest(UNIFORM, everyone(), slots=1)
    left = [disclosed(bid, BidStanding.AWARDED if bid is BIDS[1] else BidStanding.STANDS) for bid in BIDS]
    second = honest(UNIFORM, left, slots=1)
    assert [one.clearing.awards[0].price_microcredits for one in (first, second)] == [4, 5]
    reason = "it was cleared for 1 executions, and the offer was for 2, of which 0 had been awarded before"
    assert audit(UNIFORM, REQUESTER, [first, second], Auditor("n1")) == [[reason], []]
    # A first clearing of nobody hides neither of them.
    nobody = honest(UNIFORM, [])
    assert audit(UNIFORM, REQUESTER, [nobody, first, second], Auditor("n1")) == [[], [reason], []]


@given(auctions(), st.data())
def test_a_clearing_seeks_what_the_offer_was_for_and_what_no_earlier_one_awarded_at_least(
    auction: Auction, data: st.DataObject
) -> None:
    """However few bids there are: what was sought says nothing of how many were awarded."""
    offer, bids, winners = auction
    first = honest(offer, everyone(bids[:1]))
    awarded = {award.bid_id for award in first.clearing.awards}
    slots = data.draw(st.integers(1, winners + 2))
    again = honest(
        offer,
        [
            disclosed(one, BidStanding.AWARDED if one.bid.id in awarded else BidStanding.STANDS)
            for one in bids
        ],
        slots,
    )
    before, after = audit(offer, REQUESTER, [first, again], Auditor(REQUESTER))
    assert before == []
    assert (after == []) is (winners - len(awarded) <= slots <= winners)


def test_another_rule_or_offer_than_the_one_bid_on_is_named() -> None:
    audited = honest(OFFER, everyone())
    assert findings(audited, UNIFORM) == [
        "it was cleared by the rule FIRST_PRICE, and the offer named UNIFORM_PRICE"
    ]
    assert findings(audited, an_offer(id="o-2")) == ["the clearing is of offer o-1, not of o-2"]


# --- envelopes ---


def test_a_bid_without_its_envelope_or_with_anothers_is_named() -> None:
    audited = honest(OFFER, everyone())
    bare = replace(audited.disclosed[0], signed=None)
    found = findings(AuditedClearing(audited.clearing, (bare, *audited.disclosed[1:])))
    assert found[0] == "bid b0 of n0 has no signed envelope"
    swapped = replace(audited.disclosed[0], signed=audited.disclosed[1].signed)
    found = findings(AuditedClearing(audited.clearing, (swapped, *audited.disclosed[1:])))
    assert found[0] == "bid b0 of n0 comes with the envelope of bid b1 of n1"


def test_a_bid_on_another_offer_is_named() -> None:
    foreign = replace(BIDS[0], bid=replace(BIDS[0].bid, offer_id="o-9"))
    assert findings(honest(OFFER, [disclosed(foreign)])) == ["bid b0 of n0 is on another offer, o-9"]


def test_an_award_that_says_otherwise_than_the_clearing_is_named() -> None:
    audited = honest(OF_ONE, everyone())
    digest = audited.clearing.bid_set_digest
    held = Auditor("n1", awards=(HeldAward("e-0", 3, digest),))
    assert findings(audited, OF_ONE, held) == []
    otherwise = Auditor("n1", awards=(HeldAward("e-0", 4, b"other"),))
    assert findings(audited, OF_ONE, otherwise) == [
        "the award of e-0 commits to other bids than the clearing",
        "the award of e-0 is for 4 microcredits, the clearing says 3",
    ]


# --- the auditor's own acknowledgements ---


def test_a_bid_that_was_cleared_otherwise_than_acknowledged_is_named() -> None:
    audited = honest(OFFER, everyone())
    mine = replace(acknowledged(BIDS[2]), reputation_permille=800)
    assert findings(audited, auditor=Auditor("n2", (mine,))) == [
        "this node's bid b2 was acknowledged otherwise than it was cleared"
    ]


def test_an_earlier_bid_of_the_node_in_place_of_its_last_is_named() -> None:
    later = replace(acknowledged(BIDS[2]), bid_id="b2-later", digest=b"later", position=4)
    found = findings(honest(OFFER, everyone()), auditor=Auditor("n2", (acknowledged(BIDS[2]), later)))
    assert found[0] == "this node's bid b2-later, which was acknowledged, was replaced by b2"


def test_a_bid_that_was_acknowledged_after_the_clearing_need_not_be_in_it() -> None:
    later = replace(acknowledged(BIDS[2]), position=99)
    assert findings(honest(OFFER, everyone(BIDS[:2])), auditor=Auditor("n2", (later,))) == []
