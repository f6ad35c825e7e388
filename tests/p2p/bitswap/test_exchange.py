"""Blocks between hosts of our own, over real connections."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.importer import import_stream
from bacalhau.ipfs.layout import ImportOptions
from bacalhau.model.cid import RAW, Cid
from tests.p2p.bitswap.hosts import Host, in_trio, running_host, trio

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNKS = ImportOptions(chunk_size_bytes=20_000)


def content(store: MemoryBlockStore, size: int = 2_000_000, seed: int = 1) -> Cid:
    return import_stream(store, [random.Random(seed).randbytes(size)], options=CHUNKS).cid


async def some_hosts(stack: AsyncExitStack, stores: Sequence[MemoryBlockStore]) -> tuple[Host, list[Host]]:
    """A host with nothing, connected to one for each store."""
    empty = await stack.enter_async_context(running_host())
    others = [await stack.enter_async_context(running_host(store)) for store in stores]
    for other in others:
        await empty.connect(other.address)
    return empty, others


@in_trio
async def test_a_dag_is_fetched_from_the_only_peer_that_has_it() -> None:
    store = MemoryBlockStore()
    root = content(store)
    async with AsyncExitStack() as stack:
        host, others = await some_hosts(stack, [MemoryBlockStore(), store])
        got = await host.fetch(root)
        assert {cid.multihash for cid in got} == set(store.keys())
        counters = host.bitswap.counters
        assert counters.blocks_received == len(got) == others[1].bitswap.counters.blocks_sent
        assert counters.bytes_received == sum(map(len, got.values())) == others[1].bitswap.counters.bytes_sent
        assert (counters.unsolicited_blocks, counters.duplicate_blocks) == (0, 0)


@in_trio
async def test_wants_are_spread_over_all_peers_that_have_the_content() -> None:
    store = MemoryBlockStore()
    root = import_stream(store, [random.Random(1).randbytes(30_000_000)]).cid
    async with AsyncExitStack() as stack:
        host, others = await some_hosts(stack, [store] * 3)
        got = await host.fetch(root)
        assert {cid.multihash for cid in got} == set(store.keys())
        shares = [other.bitswap.counters.blocks_sent for other in others]
        assert sum(shares) < len(got) * 1.2
        assert min(shares) > len(got) * 0.1, shares


@in_trio
async def test_what_two_peers_have_in_part_is_brought_together() -> None:
    whole = MemoryBlockStore()
    root = content(whole)
    halves = [MemoryBlockStore(), MemoryBlockStore()]
    leaves = []
    for number, key in enumerate(sorted(whole.keys())):
        cid = Cid(1, RAW, key)
        leaves.append(cid)
        for half in halves if key == root.multihash else [halves[number % 2]]:
            half.put_many([(cid, whole.get(cid))])
    async with AsyncExitStack() as stack:
        host, _ = await some_hosts(stack, halves)
        assert {cid.multihash for cid in await host.fetch(root)} == set(whole.keys())


@in_trio
async def test_what_nobody_has_is_known_within_seconds() -> None:
    async with AsyncExitStack() as stack:
        host, _ = await some_hosts(stack, [MemoryBlockStore()] * 2)
        with trio.fail_after(2):
            assert await host.fetch(Cid.of(RAW, b"nobody has this")) == {}
    async with running_host() as alone:
        with trio.fail_after(2):
            assert await alone.fetch(Cid.of(RAW, b"nobody is there")) == {}


@in_trio
async def test_both_versions_of_a_cid_name_one_block() -> None:
    store = MemoryBlockStore()
    options = ImportOptions(chunk_size_bytes=20_000, cid_version=0)
    old = import_stream(store, [bytes(100_000)], options=options).cid
    new = Cid(1, old.codec, old.multihash)
    assert old.version == 0
    async with AsyncExitStack() as stack:
        host, _ = await some_hosts(stack, [store])
        got = await host.fetch(old, new)
        assert got[old] == got[new] == store.get(old)


@in_trio
async def test_two_sessions_that_want_the_same_both_get_it_and_it_is_sent_once() -> None:
    store = MemoryBlockStore()
    root = content(store)
    async with AsyncExitStack() as stack:
        host, others = await some_hosts(stack, [store])
        results: list[dict[Cid, bytes]] = []

        async def fetch() -> None:
            results.append(await host.fetch(root))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            nursery.start_soon(fetch)
        assert results[0] == results[1]
        assert set(store.keys()) == {cid.multihash for cid in results[0]}
        assert others[0].bitswap.counters.blocks_sent < len(results[0]) * 1.5


@in_trio
async def test_blocks_that_are_held_back_are_as_if_they_were_not_there() -> None:
    store = MemoryBlockStore()
    held, free = content(store), content(store, seed=2)
    async with running_host() as host, running_host(store, may_serve=lambda cid: cid != held) as other:
        await host.connect(other.address)
        assert await host.fetch(held) == {}
        assert len(await host.fetch(free)) > 1


@in_trio
async def test_a_peer_that_joins_during_the_search_is_asked() -> None:
    store = MemoryBlockStore()
    root = content(store, 100)
    async with running_host() as host, running_host() as nobody, running_host(store) as other:
        await host.connect(nobody.address)
        session = host.bitswap.session()
        session.want([root])
        assert await session.receive() == []
        await other.connect(host.address)
        assert [cid for cid, _ in await session.receive()] == [root]
        session.close()


@in_trio
async def test_a_block_that_comes_to_be_there_answers_who_wanted_it_before() -> None:
    store = MemoryBlockStore()
    async with running_host() as host, running_host(store) as other:
        root = Cid.of(RAW, b"late")
        await host.connect(other.address)
        session = host.bitswap.session()
        session.want([root])
        assert await session.receive() == []
        store.put_many([(root, b"late")])
        other.bitswap.announce([root])
        with trio.fail_after(5):
            while not (found := await session.receive()):
                await trio.lowlevel.checkpoint()
        assert found == [(root, b"late")]
        session.close()
