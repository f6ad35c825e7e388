"""Offers and sealed bids for tests of clearing: one bid a node, with ties, and one function for both."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from bacalhau.model.auction import ClearingRule, ScoringWeights
from bacalhau.model.units import GIB, SECOND_US
from tests.builders import a_bid, a_sealed_bid, an_offer

if TYPE_CHECKING:
    from bacalhau.market.clearing import SealedBid
    from bacalhau.model.market import JobOffer

RESERVE = 12
"""Of most prices drawn here, so that some bids lie above it."""


def sealed_bids(prices: list[int] | tuple[int, ...]) -> list[SealedBid]:
    """A bid of each price, of nodes n0, n1, …, in the order in which they came."""
    return [
        a_sealed_bid(
            node_id=f"n{index}",
            bid=a_bid(id=f"b{index}", price_microcredits=price),
            digest=hashlib.sha256(f"{index} {price}".encode()).digest(),
            position=index + 1,
        )
        for index, price in enumerate(prices)
    ]


def with_price(bids: list[SealedBid], index: int, price: int) -> list[SealedBid]:
    """The same bids, one of them at another price."""
    changed = list(bids)
    changed[index] = replace(bids[index], bid=replace(bids[index].bid, price_microcredits=price))
    return changed


prices = st.lists(st.integers(0, 15), max_size=8)
slots = st.integers(1, 4)
rules = st.sampled_from(ClearingRule)
weights = st.builds(ScoringWeights, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))


@st.composite
def auctions(draw: st.DrawFn) -> tuple[JobOffer, list[SealedBid], int]:
    """An offer under any rule, bids on it of which many are equal, and how many are to win."""
    rule, winners = draw(rules), draw(slots)
    reserves = st.just(RESERVE) if rule.needs_reserve else st.none() | st.just(RESERVE)
    offer = an_offer(
        winners=winners, clearing_rule=rule, max_price_microcredits=draw(reserves), weights=draw(weights)
    )
    bids = [
        replace(
            sealed,
            reputation_permille=draw(st.sampled_from([0, 500, 1000])),
            bid=replace(
                sealed.bid,
                start_delay_us=draw(st.sampled_from([0, SECOND_US])),
                missing_input_bytes=draw(st.sampled_from([0, GIB])),
            ),
        )
        for sealed in sealed_bids(draw(prices))
    ]
    return offer, bids, winners
