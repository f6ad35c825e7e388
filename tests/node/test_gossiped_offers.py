"""Offers that came by gossip: answered where an answer gets there, and not more than one requester may ask for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bacalhau.model.job import Engine
from bacalhau.model.market import JobOffer
from bacalhau.model.node import NodeRecord
from bacalhau.node import inbound
from bacalhau.node.inbound import OFFERS_BURST
from bacalhau.wire.envelope import open_envelope, open_message
from tests import builders
from tests.node.live import Stranger, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from bacalhau.node.node import Node
    from bacalhau.wire.envelope import Opened


def offers_of(stranger: Stranger, count: int, now_us: int) -> list[Opened[JobOffer]]:
    return [
        open_message(
            stranger.seal(
                builders.an_offer(id=f"o-{number}", engine=Engine.DOCKER, spec_digest=bytes(32)), at_us=now_us
            ),
            JobOffer,
            now_us=now_us,
            self_id="",
        )
        for number in range(count)
    ]


async def meet(node: Node, stranger: Stranger, addresses: tuple[str, ...], digest: bytes) -> None:
    now_us = node.clock.now()
    record = NodeRecord(stranger.key.node_id, addresses, digest, 1, compute=False, requester=True)
    envelope = stranger.seal(record, at_us=now_us)
    opened = open_envelope(envelope.SerializeToString(), NodeRecord, now_us=now_us, self_id=node.node_id)
    node.membership.announced(opened, envelope, "gossip")


async def test_offers_of_a_requester_that_nobody_can_reach_are_not_answered_and_hold_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with running(tmp_path / "node", metrics_port=0) as node:
        stranger = Stranger()
        await meet(node, stranger, ("127.0.0.1:9",), bytes(32))
        node._inbound.offers_gossiped(offers_of(stranger, 10, node.clock.now()))
        await until(lambda: "gossips, and cannot be reached" in caplog.text, "it was tried")
        assert node.driver.compute.capacity.free == node.driver.compute.capacity.capacity
        assert not node._metrics.market.declines  # type: ignore[union-attr]


@contextlib.asynccontextmanager
async def a_linked_pair(folder: Path) -> AsyncIterator[tuple[Node, Stranger]]:
    """A node, and whoever speaks with the key of another that it is linked to."""
    async with (
        running(folder / "node", metrics_port=0) as node,
        running(folder / "other", peers=(node.peer_address,), compute=False) as other,
    ):
        await until(lambda: node.membership.live_ids(), "the other node is heard")
        await node.membership.link(other.node_id)
        stranger = Stranger()
        stranger.key = other._key
        yield node, stranger


async def test_an_offer_that_was_answered_just_now_is_not_answered_again_when_it_is_gossiped_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_linked_pair(tmp_path) as (node, stranger):
        declines = node._metrics.market.declines  # type: ignore[union-attr]

        def gossip(count: int) -> None:
            node._inbound.offers_gossiped(offers_of(stranger, count, node.clock.now()))

        gossip(3)
        await until(lambda: sum(declines.values()) == 3, "they are answered")
        gossip(4)
        await until(lambda: sum(declines.values()) == 4, "the one that is new is answered")
        await node.driver.committed()
        assert sum(declines.values()) == 4
        monkeypatch.setattr(inbound, "ANSWER_HOLDS_S", 0.0)
        gossip(4)
        await until(lambda: sum(declines.values()) == 8, "who has no answer by then asks again")


async def test_offers_above_the_burst_of_one_requester_are_passed_over(tmp_path: Path) -> None:
    async with a_linked_pair(tmp_path) as (node, stranger):
        node._inbound.offers_gossiped(offers_of(stranger, OFFERS_BURST + 500, node.clock.now()))
        declines = node._metrics.market.declines  # type: ignore[union-attr]
        await until(lambda: sum(declines.values()) >= OFFERS_BURST, "the others are answered")
        assert sum(declines.values()) + node.offers_passed_over == OFFERS_BURST + 500
        assert node.offers_passed_over >= 400
