"""Who is there: heartbeats, nodes that die and come back, peers of peers, and strangers by the thousand."""

from __future__ import annotations

import asyncio
import shutil
import socket
from typing import TYPE_CHECKING

import pytest

from bacalhau.model.refusals import RefusalReason
from bacalhau.node import membership
from bacalhau.node.contents import LINK_S
from bacalhau.rpc.limits import PEER_PAGE_SIZE_MAX
from bacalhau.rpc.peer_client import PeerLink, PeerUnreachable
from bacalhau.v1 import peer_service_pb2, peer_service_pb2_grpc
from tests.node.live import HEARTBEAT_US, Stranger, peer_channel, refusal_from, running, until
from tests.rpc.test_peer_api import record_of

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.node.node import Node


async def until_live(node: Node, *others: Node) -> None:
    wanted = {other.node_id for other in others}
    await until(lambda: wanted <= set(node.membership.live_ids()), "all are live")


async def until_lost(node: Node, node_id: str) -> None:
    await until(lambda: node_id not in node.membership.live_ids(), f"{node_id} is lost")


async def test_a_newcomer_learns_of_the_peers_of_its_peer_and_they_of_it(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "a") as a,
        running(tmp_path / "b", peers=(a.peer_address,)) as b,
    ):
        await until_live(a, b)
        async with running(tmp_path / "c", peers=(a.peer_address,)) as c:
            await until_live(c, a, b)
            await until_live(b, a, c)


async def test_a_newcomer_learns_of_more_nodes_than_fit_a_page(tmp_path: Path) -> None:
    strangers = [Stranger() for _ in range(PEER_PAGE_SIZE_MAX + 20)]
    async with running(tmp_path / "a", heartbeat_us=5_000_000) as a:
        async with peer_channel(a) as channel:
            announce = peer_service_pb2_grpc.PeerServiceStub(channel).Announce
            for stranger in strangers:
                await announce(peer_service_pb2.AnnounceRequest(record=record_of(stranger, a)))
        async with running(tmp_path / "b", peers=(a.peer_address,)) as b:
            wanted = {stranger.key.node_id for stranger in strangers}
            await until(
                lambda: wanted <= {peer.record.node_id for peer in b.membership.peers()}, "all are known"
            )


async def test_a_node_that_stops_is_not_live_after_three_heartbeats_and_comes_back_on_another_port(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "a") as a:
        async with running(tmp_path / "b", peers=(a.peer_address,)) as b:
            await until_live(a, b)
            node_id, first_address = b.node_id, b.peer_address
            last_heard_us = a.clock.now()
        await until_lost(a, node_id)
        assert a.clock.now() - last_heard_us >= 2 * HEARTBEAT_US
        async with running(tmp_path / "b", peers=(a.peer_address,)) as b:
            assert b.node_id == node_id
            assert b.peer_address != first_address
            await until_live(a, b)
            [peer] = a.membership.peers()
            assert peer.record.addresses == (b.peer_address,)
            link = await a.membership.link(node_id)
            assert link.address == b.peer_address
            assert await link.get_peers()


async def test_records_get_rising_sequence_numbers_also_over_a_restart(tmp_path: Path) -> None:
    sequences = []
    for _ in range(2):
        async with running(tmp_path / "a") as a:
            for _ in range(3):
                a.membership.refresh()
                sequences.append(a.membership.record.sequence)
    assert sequences == sorted(set(sequences))


async def test_a_node_that_does_not_answer_holds_up_no_heartbeat_to_others(tmp_path: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, and says nothing
    host, port = silent.getsockname()
    async with (
        running(tmp_path / "a") as a,
        running(tmp_path / "b", peers=(f"{host}:{port}", a.peer_address)) as b,
    ):
        await until_live(a, b)
        for _ in range(20):
            await asyncio.sleep(HEARTBEAT_US / 4e6)
            assert b.node_id in a.membership.live_ids()
    silent.close()


async def test_two_nodes_with_one_key_refuse_each_other(tmp_path: Path) -> None:
    async with running(tmp_path / "a"):
        pass
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "node.key", tmp_path / "b" / "node.key")
    async with running(tmp_path / "a") as a, running(tmp_path / "b") as b:
        assert a.node_id == b.node_id
        with pytest.raises(PeerUnreachable, match="two nodes run with one key"):
            await b.membership.connect(a.peer_address)
        assert a.membership.peers() == b.membership.peers() == []


async def test_a_flood_of_strangers_is_refused_at_the_limit_and_those_who_were_there_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "PEERS_MAX", 20)
    async with (
        running(tmp_path / "a", heartbeat_us=5_000_000) as a,
        running(tmp_path / "b", heartbeat_us=5_000_000, peers=(a.peer_address,)) as b,
    ):
        await until_live(a, b)
        async with peer_channel(a) as channel:
            announce = peer_service_pb2_grpc.PeerServiceStub(channel).Announce
            for _ in range(19):
                await announce(peer_service_pb2.AnnounceRequest(record=record_of(Stranger(), a)))
            for _ in range(3):
                request = peer_service_pb2.AnnounceRequest(record=record_of(Stranger(), a))
                assert (await refusal_from(announce(request))).reason is RefusalReason.LIMIT_REACHED
        assert len(a.membership.peers()) == 20
        assert b.node_id in a.membership.live_ids()


async def test_a_node_that_never_answered_is_forgotten(tmp_path: Path) -> None:
    """Records that others pass on are tried, and kept only where somebody answers."""
    async with running(tmp_path / "a") as a:
        stranger = Stranger()
        envelope = record_of(stranger, a)
        from bacalhau.model.node import NodeRecord
        from bacalhau.wire.envelope import open_message

        opened = open_message(envelope, NodeRecord, now_us=a.clock.now(), self_id="")
        a.membership.announced(opened, envelope, "peer", direct=False)
        assert a.membership.live_ids() == []
        await until(lambda: not a.membership.peers(), "it is forgotten")


async def test_a_node_whose_addresses_are_silent_holds_up_no_look_up_of_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "DIAL_S", 2.0)
    silent = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
    addresses = tuple(f"127.0.0.1:{server.getsockname()[1]}" for server in silent)
    stranger = Stranger()
    async with (
        running(tmp_path / "a", heartbeat_us=5_000_000) as a,
        running(tmp_path / "b", peers=(a.peer_address,)) as b,
    ):
        await until_live(a, b)
        async with peer_channel(a) as channel:
            announce = peer_service_pb2_grpc.PeerServiceStub(channel).Announce
            record = record_of(stranger, a, addresses=addresses)
            await announce(peer_service_pb2.AnnounceRequest(record=record))
        assert stranger.key.node_id in a.membership.live_ids()
        async with asyncio.timeout(LINK_S + 1):
            assert await a.contents.sources() == [await a.membership.link(b.node_id)]
        # The dial goes on, for all of the addresses together no longer than it may take.
        async with asyncio.timeout(membership.DIAL_S + 1):
            with pytest.raises(PeerUnreachable):
                await a.membership.link(stranger.key.node_id)
    for server in silent:
        server.close()


async def test_a_link_that_is_made_with_a_node_forgotten_meanwhile_is_closed(tmp_path: Path) -> None:
    async with running(tmp_path / "a") as a, running(tmp_path / "b", heartbeat_us=60_000_000) as b:
        await b.membership.connect(a.peer_address)
        await until_live(a, b)
        await a.membership.close()
        [peer] = a.membership.peers()
        peer.link = None
        dialling = asyncio.create_task(a.membership.link(b.node_id))
        await asyncio.sleep(0)
        del a.membership._peers[b.node_id]
        with pytest.raises(PeerUnreachable, match="forgotten"):
            await dialling
        assert peer.link is None


async def test_of_two_links_that_are_made_at_once_one_is_kept_and_the_other_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "a") as a, running(tmp_path / "b", heartbeat_us=60_000_000) as b:
        await b.membership.connect(a.peer_address)
        await until_live(a, b)
        kept = await a.membership.link(b.node_id)
        await a.membership.close()
        [peer] = a.membership.peers()
        peer.link = None
        closed: list[PeerLink] = []
        close = PeerLink.close

        async def noted(link: PeerLink) -> None:
            closed.append(link)
            await close(link)

        monkeypatch.setattr(PeerLink, "close", noted)
        dialling = asyncio.create_task(a.membership.link(b.node_id))
        await asyncio.sleep(0)
        peer.link = kept
        assert await dialling is kept
        await until(lambda: closed, "the other is closed")
        assert kept not in closed
