"""The network of strangers: records and offers reach everybody, also late, and it outlives its parts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any

import pytest
import trio

from bacalhau.model.cid import Cid
from bacalhau.p2p import dht
from bacalhau.p2p.bridge import BridgeDown
from bacalhau.p2p.port import CannotConnect
from tests.node.live import until
from tests.p2p.hosts import LOOPBACK
from tests.p2p.networks import member, members

if TYPE_CHECKING:
    from bacalhau.p2p.dht import Provider
    from tests.p2p.networks import Member


async def until_heard(listener: Member, speaker: Member) -> None:
    """Speaks again and again, as nodes do, until it is heard."""
    for _ in range(100):
        if any(record.node_id == speaker.node_id for record in listener.ears.records):
            return
        speaker.publish_record()
        await asyncio.sleep(0.1)
    raise AssertionError(f"{speaker.node_id} was not heard")


async def test_a_record_reaches_members_that_are_not_connected_to_its_node() -> None:
    async with members(4) as (_, b, c, d):
        for listener in (c, d):
            await until_heard(listener, b)


async def test_a_member_that_knew_one_address_finds_neighbours_that_stay_when_that_one_dies() -> None:
    async with members(3) as (first, b, c), member() as newcomer:
        for one in (b, c):
            await until_heard(one, {b: c, c: b}[one])
            for record in one.ears.records:
                one.network.learned(record)
        await until_connected(b, c)
        await first.network.stop()
        await newcomer.network.connect(b.address)
        await until_heard(c, newcomer)
        await until_heard(newcomer, c)


async def until_connected(one: Member, other: Member) -> None:
    for _ in range(200):
        if other.node_id in await one.network.host.connected():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("they are not connected")


async def test_a_configured_connection_is_made_again_after_either_side_restarts() -> None:
    async with members(2) as (a, b):
        address = a.address
        await a.network.restart()
        assert a.address == address
        await until_connected(a, b)
        await b.network.restart()
        await until_connected(a, b)
        assert (a.node_id, "configured") in b.ears.met
        await until_heard(a, b)


@pytest.mark.filterwarnings("ignore:Exception ignored.*socket:pytest.PytestUnraisableExceptionWarning")
async def test_libp2p_that_crashes_is_started_anew_and_counted() -> None:
    """What a crash leaves open is closed when it is collected, which is here."""
    async with members(2) as (a, b):

        async def crash() -> None:
            async def fail() -> None:
                raise RuntimeError("a bug somewhere in libp2p")

            trio.lowlevel.spawn_system_task(fail)

        with contextlib.suppress(BridgeDown):
            await a.network.host.bridge.call(crash)
        await until(lambda: a.network.counts.restarts == 1, "it has crashed")
        await until(lambda: bool(a.network.addresses), "it listens again")
        await until_heard(b, a)
        gc.collect()


async def test_a_member_that_nobody_can_dial_keeps_a_connection_with_every_requester_it_hears_of() -> None:
    async with members(2) as (first, requester), member(reachable=False) as hidden:
        await hidden.network.connect(first.address)
        await until_heard(hidden, requester)
        for record in hidden.ears.records:
            hidden.network.learned(record)
        await until_connected(hidden, requester)


async def test_nothing_waits_and_nothing_fails_while_libp2p_is_down() -> None:
    async with member() as one:
        await one.network.host.stop()
        one.publish_record()
        one.network.publish_offers([])
        await one.network.reach(one.node_id)
        for call in (one.network.tunnel(one.node_id), one.network.connect(f"{LOOPBACK}/p2p/{one.node_id}")):
            with pytest.raises(CannotConnect):
                await call


async def test_members_that_were_found_by_the_dht_are_met_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht, "FIRST_LOOK_S", 1.0)
    monkeypatch.setattr(dht, "LOOK_INTERVAL_S", 1.0)
    async with members(4, dht=True) as everyone:
        await until(lambda: any("dht" in dict(one.ears.met).values() for one in everyone), "met by the DHT")


async def test_providers_are_found_by_the_dht_each_once_and_without_oneself() -> None:
    async with members(4, dht=True) as everyone:
        cid = Cid.of(0x55, b"some block")
        provider, seeker = everyone[1], everyone[3]
        found: list[Provider] = []
        for _ in range(60):
            await in_dht(provider, "provide", [cid])
            found = await in_dht(seeker, "find_providers", cid)
            if found:
                break
            await asyncio.sleep(0.25)
        assert [one.node_id for one in found] == [provider.node_id]
        assert await in_dht(provider, "find_providers", cid) == []


async def test_of_many_results_at_once_peers_drop_no_announcement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht, "INTERVAL_S", dht.INTERVAL_S / 10)
    monkeypatch.setattr(dht, "RETRY_S", dht.RETRY_S / 10)
    async with members(2, dht=True) as (provider, seeker):
        library: Any = seeker.network.dht
        library._dht._provider_rate_window /= 10
        cids = [Cid.of(0x55, b"block %d" % number) for number in range(library._dht._provider_rate_max + 5)]
        for cid in cids:
            provider.network.provide(cid)
        noted = library._dht.provider_store.get_providers
        await until(lambda: all(noted(cid.multihash) for cid in cids), "the peer took note of all", 30)


async def test_what_is_kept_has_its_turn_however_often_it_is_to_be_announced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dht, "INTERVAL_S", 0.2)
    monkeypatch.setattr(dht, "RETRY_S", 0.2)
    async with members(2, dht=True) as (provider, seeker):
        library: Any = seeker.network.dht
        noted = library._dht.provider_store.get_providers
        cids = [Cid.of(0x55, b"block %d" % number) for number in range(3)]
        for _ in range(300):
            provider.network.provide_again(cids)
            if all(noted(cid.multihash) for cid in cids):
                return
            await asyncio.sleep(0.1)
        raise AssertionError("some had no turn")


async def in_dht(one: Member, method: str, argument: Any) -> Any:
    return await one.network.host.bridge.call(getattr(one.network.dht, method), argument)
