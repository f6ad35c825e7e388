"""Blocks between hosts of our own, over real connections."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import AsyncExitStack

import pytest

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.dag import find_missing
from bacalhau.ipfs.errors import NoPeerHas, StoreFull, UnsupportedDag
from bacalhau.ipfs.fetch import FetchLimit, FetchLimits, fetch_dag
from bacalhau.ipfs.importer import import_files, import_stream
from bacalhau.ipfs.layout import ImportOptions
from bacalhau.model.cid import RAW, Cid
from bacalhau.p2p.bridge import BridgeDown
from bacalhau.p2p.dht import Dht
from tests.node.live import until
from tests.p2p.bitswap.contents import raw_blocks
from tests.p2p.bitswap.hosts import connected, swapping

CHUNKS = ImportOptions(chunk_size_bytes=20_000)


def content(store: MemoryBlockStore, size: int = 2_000_000, seed: int = 1) -> Cid:
    return import_stream(store, [random.Random(seed).randbytes(size)], options=CHUNKS).cid


async def test_a_dag_is_fetched_from_the_only_peer_that_has_it() -> None:
    store = MemoryBlockStore()
    root = content(store)
    async with AsyncExitStack() as stack:
        host, (_, other) = await connected(stack, [MemoryBlockStore(), store])
        seen: list[tuple[int, int]] = []
        fetched = await host.fetch(root, progress=lambda *so_far: seen.append(so_far))
        assert set(host.store.keys()) == set(store.keys())
        assert seen[-1] == (fetched.blocks, fetched.block_bytes)
        assert host.counters.blocks_received == fetched.blocks == other.counters.blocks_sent
        assert host.counters.bytes_received == fetched.block_bytes == other.counters.bytes_sent
        assert (host.counters.unsolicited_blocks, host.counters.duplicate_blocks) == (0, 0)


async def test_wants_are_spread_over_all_peers_that_have_the_content() -> None:
    store = MemoryBlockStore()
    root = import_stream(store, [random.Random(1).randbytes(30_000_000)]).cid
    async with AsyncExitStack() as stack:
        host, others = await connected(stack, [store] * 3)
        fetched = await host.fetch(root)
        assert find_missing(host.store, root) is None
        shares = [other.counters.blocks_sent for other in others]
        assert sum(shares) < fetched.blocks * 1.2
        assert min(shares) > fetched.blocks * 0.1, shares


async def test_what_two_peers_have_in_part_is_brought_together() -> None:
    whole = MemoryBlockStore()
    root = content(whole)
    halves = [MemoryBlockStore(), MemoryBlockStore()]
    for number, key in enumerate(sorted(whole.keys())):
        cid = Cid(1, RAW, key)
        for half in halves if key == root.multihash else [halves[number % 2]]:
            half.put_many([(cid, whole.get(cid))])
    async with AsyncExitStack() as stack:
        host, _ = await connected(stack, halves)
        await host.fetch(root)
        assert set(host.store.keys()) == set(whole.keys())


async def test_what_nobody_has_is_known_within_seconds() -> None:
    async with AsyncExitStack() as stack:
        host, _ = await connected(stack, [MemoryBlockStore(), MemoryBlockStore()])
        async with asyncio.timeout(3):
            with pytest.raises(NoPeerHas):
                await host.fetch(Cid.of(RAW, b"nobody has this"))
    async with swapping() as alone, asyncio.timeout(3):
        with pytest.raises(NoPeerHas):
            await alone.fetch(Cid.of(RAW, b"nobody is there"))


async def test_what_arrived_before_a_break_is_not_fetched_again() -> None:
    whole, part = MemoryBlockStore(), MemoryBlockStore()
    root = content(whole)
    for key in sorted(whole.keys())[:60]:
        part.put_many([(Cid(1, RAW, key), whole.get(Cid(1, RAW, key)))])
    part.put_many([(root, whole.get(root))])
    held = len(list(part.keys()))
    async with swapping() as host, swapping(part) as first, swapping(whole) as second:
        await host.connect(first)
        with pytest.raises(NoPeerHas):
            await host.fetch(root)
        assert len(list(host.store.keys())) == held
        await host.connect(second)
        fetched = await host.fetch(root)
        assert fetched.blocks == len(list(whole.keys())) - held == second.counters.blocks_sent
        assert find_missing(host.store, root) is None


async def test_both_versions_of_a_cid_name_one_block() -> None:
    store = MemoryBlockStore()
    old = import_stream(
        store, [bytes(100_000)], options=ImportOptions(chunk_size_bytes=20_000, cid_version=0)
    ).cid
    assert old.version == 0
    async with AsyncExitStack() as stack:
        host, _ = await connected(stack, [store])
        await host.fetch(Cid(1, old.codec, old.multihash))
        assert set(host.store.keys()) == set(store.keys())


async def test_two_fetches_of_the_same_both_end_and_its_blocks_are_sent_once() -> None:
    store = MemoryBlockStore()
    root = content(store)
    async with AsyncExitStack() as stack:
        host, (other,) = await connected(stack, [store])
        first, second = MemoryBlockStore(), MemoryBlockStore()
        await asyncio.gather(*(fetch_dag(root, into, [], exchange=host.exchange) for into in (first, second)))
        assert set(first.keys()) == set(second.keys()) == set(store.keys())
        assert other.counters.blocks_sent < len(list(store.keys())) * 1.5


async def test_blocks_that_are_held_back_are_as_if_they_were_not_there() -> None:
    store = MemoryBlockStore()
    held, free = content(store), content(store, seed=2)
    async with swapping() as host, swapping(store, may_serve=lambda cid: cid != held) as other:
        await host.connect(other)
        with pytest.raises(NoPeerHas):
            await host.fetch(held)
        await host.fetch(free)
        assert not host.store.has(held)


async def test_a_peer_that_comes_during_the_search_is_asked() -> None:
    store = MemoryBlockStore()
    root = content(store, 100)
    async with swapping() as host, swapping() as nobody, swapping(store) as other:
        await host.connect(nobody)
        async with host.exchange.session() as session:
            await session.want([root])
            assert await session.receive() == []
            await other.connect(host)
            while not (found := await session.receive()):
                await asyncio.sleep(0)
            assert [cid for cid, _ in found] == [root]


async def test_a_block_that_comes_to_be_there_answers_who_wanted_it_before() -> None:
    store = MemoryBlockStore()
    async with swapping() as host, swapping(store) as other:
        root = Cid.of(RAW, b"late")
        await host.connect(other)
        async with host.exchange.session() as session, asyncio.timeout(10):
            await session.want([root])
            assert await session.receive() == []
            store.put_many([(root, b"late")])
            await other.exchange.announce([root])
            while not (found := await session.receive()):
                await asyncio.sleep(0)
            assert found == [(root, b"late")]


async def test_a_provider_that_goes_away_is_replaced_by_the_other() -> None:
    store = MemoryBlockStore()
    root = import_stream(store, [random.Random(1).randbytes(20_000_000)]).cid
    async with AsyncExitStack() as stack:
        host, others = await connected(stack, [store] * 2)
        stopping: list[asyncio.Task[None]] = []

        def stop_one(blocks: int, _: int) -> None:
            if blocks > 20 and not stopping:
                stopping.append(asyncio.create_task(others[0].host.stop()))

        await host.fetch(root, progress=stop_one)
        await stopping[0]
        assert find_missing(host.store, root) is None
        assert 0 < others[0].counters.blocks_sent < len(list(store.keys()))


class Pausing(MemoryBlockStore):
    """Gives some blocks, and the next one late, as a busy disk does: after a time, or when it is told to go on."""

    def __init__(self, gives: int, pauses_s: float) -> None:
        super().__init__()
        self.given = 0
        self.goes_on = threading.Event()
        self._gives = gives
        self._pauses_s = pauses_s

    def get(self, cid: Cid) -> bytes:
        if self.given >= self._gives:
            self.goes_on.wait(self._pauses_s)
            self.goes_on.set()
        self.given += 1
        return super().get(cid)

    def size(self, cid: Cid) -> int:
        return len(super().get(cid))

    def at_hand(self, cid: Cid) -> None:  # type: ignore[override]
        """Nothing is."""


async def test_a_peer_that_alone_has_the_content_may_be_silent_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bacalhau.p2p.bitswap.session._SILENT_SECONDS", 0.2)
    store = Pausing(gives=19, pauses_s=3)
    root = content(store)
    async with AsyncExitStack() as stack:
        empty, _ = await connected(stack, [store])
        await empty.fetch(root)
        assert find_missing(empty.store, root) is None
    assert store.given > 20


async def test_a_peer_that_stalls_is_dropped_and_what_it_was_asked_for_comes_from_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bacalhau.p2p.bitswap.session._SILENT_SECONDS", 4.0)
    # Else the other is asked for it as well, however long the first stays.
    monkeypatch.setattr("bacalhau.p2p.bitswap.spread._DOUBLE_AFTER_SECONDS", 3600.0)
    good, stalled = MemoryBlockStore(), Pausing(gives=20, pauses_s=600)
    blocks = raw_blocks(100, 20_000)
    for store in (good, stalled):
        store.put_many(blocks.items())
    async with AsyncExitStack() as stack:
        empty, (first,) = await connected(stack, [stalled])
        stack.callback(stalled.goes_on.set)
        async with asyncio.timeout(60):
            asking = asyncio.create_task(empty.ask_for(list(blocks)))
            await until(lambda: stalled.given == 20, "it stalls", 30)
            await empty.connect(await stack.enter_async_context(swapping(good)))
            come, reasons = await asking
        assert come == blocks
        assert list(reasons) == [first.host.node_id]


async def test_blocks_that_come_by_several_messages_are_taken_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bacalhau.p2p.bitswap.session._GATHER_SECONDS", 20.0)
    store = MemoryBlockStore()
    blocks = raw_blocks(40, 20_000)
    store.put_many(blocks.items())
    async with AsyncExitStack() as stack:
        empty, _ = await connected(stack, [store])
        async with empty.exchange.session() as session:
            await session.want(list(blocks))
            assert dict(await session.receive()) == blocks


async def test_the_limits_and_faults_of_a_fetch_end_it() -> None:
    store = MemoryBlockStore()
    root = content(store)
    async with AsyncExitStack() as stack:
        host, _ = await connected(stack, [store])
        with pytest.raises(FetchLimit):
            await host.fetch(root, limits=FetchLimits(max_bytes=1_000_000))
        with pytest.raises(UnsupportedDag):
            await host.fetch(Cid.from_raw(b"\x01\x55\x1e\x20" + bytes(32)))
        with pytest.raises(StoreFull):
            await fetch_dag(root, MemoryBlockStore(limit_bytes=1000), [], exchange=host.exchange)


async def test_a_host_that_stops_ends_the_fetch_and_another_life_of_it_goes_on() -> None:
    store = MemoryBlockStore()
    root = content(store)
    async with AsyncExitStack() as stack:
        host, (other,) = await connected(stack, [store])
        async with host.exchange.session() as session:
            await session.want([root])
            await session.receive()
            await host.host.stop()
            with pytest.raises(BridgeDown):
                await session.receive()
        await host.host.start()
        await host.connect(other)
        await host.fetch(root)
        assert find_missing(host.store, root) is None


async def test_a_folder_of_many_small_files_is_fetched_in_one_go() -> None:
    store = MemoryBlockStore()
    files = {f"{number:04}": str(number).encode() for number in range(1500)}
    root = import_files(store, files, options=ImportOptions(cid_version=1)).cid
    async with AsyncExitStack() as stack:
        host, _ = await connected(stack, [store])
        await host.fetch(root)
        assert set(host.store.keys()) == set(store.keys())


async def test_single_blocks_are_given_as_by_a_source_and_what_nobody_has_is_left_out() -> None:
    store = MemoryBlockStore()
    one, two = (import_stream(store, [data]).cid for data in (b"one", b"two"))
    async with AsyncExitStack() as stack:
        host, _ = await connected(stack, [store])
        asked = [one, Cid.of(RAW, b"nobody has this"), two]
        found = [cid async for cid, _ in host.exchange.get_blocks(asked, recursive=False)]
        assert sorted(found) == sorted([one, two])


async def test_a_provider_that_nobody_is_connected_with_is_found_in_the_dht_and_dialled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Until the one between has been taken into their tables, nobody takes note.
    monkeypatch.setattr("bacalhau.p2p.dht.RETRY_S", 0.1)
    store = MemoryBlockStore()
    root = content(store)
    dhts = [Dht(lambda _peer, _addresses: None, serves=True) for _ in range(3)]
    async with (
        swapping(dht=dhts[0]) as host,
        swapping(dht=dhts[1]) as between,
        swapping(store, dht=dhts[2]) as other,
    ):
        await host.connect(between)
        await other.connect(between)
        async with asyncio.timeout(30):
            await other.host.bridge.call(dhts[2].provide, [root])
            while not await host.host.bridge.call(dhts[0].find_providers, root):
                await asyncio.sleep(0.1)
        await host.fetch(root)
        assert set(host.store.keys()) == set(store.keys())
        assert other.counters.blocks_sent == len(list(store.keys()))
