"""Clearing: the cheapest bids win, ties end on ids, and nothing depends on the order in which bids came."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market.clearing import SealedBid, bid_set_digest, rank
from bacalhau.model.market import ClearingRule
from tests.builders import a_bid, a_sealed_bid

if TYPE_CHECKING:
    from random import Random

FIRST_PRICE = ClearingRule.FIRST_PRICE

_BIDS = st.lists(
    st.builds(
        lambda node, id, price: a_sealed_bid(
            node_id=f"n{node}",
            bid=a_bid(id=f"b{id}", price_microcredits=price),
            digest=f"{node}/{id}".encode(),
        ),
        st.integers(0, 99),
        st.integers(0, 5),
        st.integers(0, 10),
    ),
    max_size=12,
    unique_by=lambda sealed: sealed.node_id,
)
_CEILINGS = st.none() | st.integers(0, 10)


@given(_BIDS, _CEILINGS, st.randoms(use_true_random=False))
def test_the_ranking_does_not_depend_on_the_order_of_the_bids(
    bids: list[SealedBid], ceiling: int | None, random: Random
) -> None:
    shuffled = random.sample(bids, len(bids))
    assert rank(FIRST_PRICE, bids, max_price_microcredits=ceiling) == rank(
        FIRST_PRICE, shuffled, max_price_microcredits=ceiling
    )
    assert bid_set_digest(bids) == bid_set_digest(shuffled)


@given(_BIDS, _CEILINGS)
def test_better_ranks_never_cost_more_and_none_is_above_the_ceiling(
    bids: list[SealedBid], ceiling: int | None
) -> None:
    prices = [ranked.price_microcredits for ranked in rank(FIRST_PRICE, bids, max_price_microcredits=ceiling)]
    assert prices == sorted(prices)
    assert all(ceiling is None or price <= ceiling for price in prices)
    assert len(prices) == sum(ceiling is None or b.bid.price_microcredits <= ceiling for b in bids)


@given(_BIDS, _CEILINGS, st.data())
def test_a_lower_price_never_worsens_a_rank(
    bids: list[SealedBid], ceiling: int | None, data: st.DataObject
) -> None:
    ranking = [ranked.sealed.node_id for ranked in rank(FIRST_PRICE, bids, max_price_microcredits=ceiling)]
    if not ranking:
        return
    node_id = data.draw(st.sampled_from(ranking))
    cheaper = [
        a_sealed_bid(
            node_id=b.node_id,
            bid=a_bid(
                id=b.bid.id, price_microcredits=max(0, b.bid.price_microcredits - (b.node_id == node_id))
            ),
        )
        for b in bids
    ]
    after = [ranked.sealed.node_id for ranked in rank(FIRST_PRICE, cheaper, max_price_microcredits=ceiling)]
    assert after.index(node_id) <= ranking.index(node_id)


def test_first_price_pays_each_winner_its_own_bid() -> None:
    bids = [a_sealed_bid(node_id=f"n{price}", bid=a_bid(price_microcredits=price)) for price in (30, 10, 20)]
    ranking = rank(FIRST_PRICE, bids, max_price_microcredits=None)
    assert [(r.sealed.node_id, r.price_microcredits) for r in ranking] == [
        ("n10", 10),
        ("n20", 20),
        ("n30", 30),
    ]


def test_equal_prices_rank_by_bid_id_and_equal_bid_ids_by_node() -> None:
    """A node may copy another's bid id; that must not make the ranking depend on arrival."""
    bids = [
        a_sealed_bid(node_id="n3", bid=a_bid(id="b-1")),
        a_sealed_bid(node_id="n1", bid=a_bid(id="b-2")),
        a_sealed_bid(node_id="n2", bid=a_bid(id="b-1")),
    ]
    ranking = rank(FIRST_PRICE, bids, max_price_microcredits=None)
    assert [ranked.sealed.node_id for ranked in ranking] == ["n2", "n3", "n1"]


def test_the_digest_of_a_bid_set_is_over_its_envelopes_in_the_order_of_bid_ids() -> None:
    bids = [
        a_sealed_bid(node_id="n1", bid=a_bid(id="b-2"), digest=b"second"),
        a_sealed_bid(node_id="n2", bid=a_bid(id="b-1"), digest=b"first"),
    ]
    assert bid_set_digest(bids) == hashlib.sha256(b"firstsecond").digest()


@given(_BIDS.filter(bool))
def test_leaving_out_a_bid_changes_the_digest(bids: list[SealedBid]) -> None:
    assert bid_set_digest(bids) != bid_set_digest(bids[1:])
