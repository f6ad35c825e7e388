"""Fetching a DAG from sources that are honest, and from those that are not."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs.blockstore import CollectableStore, MemoryBlockStore
from bacalhau.ipfs.dag import find_missing, serve_blocks
from bacalhau.ipfs.dagpb import MAX_BLOCK_BYTES, Link, encode
from bacalhau.ipfs.errors import InvalidBlock, NoPeerHas, StoreFull, UnsupportedDag
from bacalhau.ipfs.fetch import BlockSource, FetchLimit, FetchLimits, fetch_dag
from bacalhau.ipfs.importer import import_files, import_path, import_stream
from bacalhau.ipfs.layout import Imported, ImportOptions
from bacalhau.ipfs.unixfs import DIRECTORY_DATA
from bacalhau.model.cid import DAG_PB, RAW, Cid
from tests.ipfs.conftest import make_tree, random_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

QUICK = FetchLimits(first_block_seconds=0.2, stall_seconds=0.2)


@dataclass
class StoreSource:
    """Serves the blocks of a store as BlockService does. `asked` records the requests."""

    store: CollectableStore
    name: str = "honest"
    is_recursive: bool = True
    asked: list[list[Cid]] = field(default_factory=list)
    is_closed: bool = False

    async def get_blocks(
        self, cids: Sequence[Cid], *, recursive: bool
    ) -> AsyncGenerator[tuple[Cid, bytes], None]:
        self.asked.append(list(cids))
        try:
            for found in serve_blocks(self.store, cids, recursive=recursive and self.is_recursive):
                yield found
        finally:
            self.is_closed = True


@dataclass
class Misbehaving(StoreSource):
    """Sends `count` good blocks first, then does what `then` says."""

    name: str = "misbehaving"
    count: int = 1
    then: str = "end"
    is_stalled: asyncio.Event = field(default_factory=asyncio.Event)

    async def get_blocks(
        self, cids: Sequence[Cid], *, recursive: bool
    ) -> AsyncGenerator[tuple[Cid, bytes], None]:
        async with contextlib.aclosing(super().get_blocks(cids, recursive=recursive)) as stream:
            sent = 0
            async for cid, block in stream:
                if sent == self.count:
                    async for bad in self._misbehave(cid, block):
                        yield bad
                    return
                sent += 1
                yield cid, block

    async def _misbehave(self, cid: Cid, block: bytes) -> AsyncGenerator[tuple[Cid, bytes], None]:
        if self.then == "stall":
            self.is_stalled.set()
            await asyncio.Event().wait()
        elif self.then == "raise":
            raise ConnectionResetError("the peer went away")
        elif self.then == "lie":
            yield cid, block + b"x"
        elif self.then == "unasked":
            yield Cid.of(RAW, b"unasked"), b"unasked"
        elif self.then == "repeat":
            while True:
                yield cid, block
        elif self.then == "flood":
            yield cid, bytes(MAX_BLOCK_BYTES + 1)


@pytest.fixture
def remote() -> MemoryBlockStore:
    return MemoryBlockStore()


@pytest.fixture
def tree(remote: MemoryBlockStore, tmp_path: Path) -> Imported:
    make_tree(tmp_path / "tree")
    return import_path(remote, tmp_path / "tree", options=ImportOptions(cid_version=1))


async def test_a_dag_that_is_fetched_is_complete_and_equal(
    store: CollectableStore, remote: MemoryBlockStore, tree: Imported
) -> None:
    source = StoreSource(remote)
    progress: list[tuple[int, int]] = []
    fetched = await fetch_dag(tree.cid, store, [source], progress=lambda *seen: progress.append(seen))
    assert find_missing(store, tree.cid) is None
    assert sorted(store.keys()) == sorted(remote.keys())
    assert fetched.blocks == len(list(remote.keys()))
    assert progress[-1] == (fetched.blocks, fetched.block_bytes)
    assert source.asked == [[tree.cid]]
    assert source.is_closed


async def test_a_dag_that_is_here_already_asks_nobody(remote: MemoryBlockStore, tree: Imported) -> None:
    source = StoreSource(remote)
    fetched = await fetch_dag(tree.cid, remote, [source])
    assert (fetched.blocks, source.asked) == (0, [])


async def test_a_source_that_sends_only_what_was_named_is_asked_for_the_levels_below(
    store: CollectableStore, remote: MemoryBlockStore, tree: Imported
) -> None:
    source = StoreSource(remote, is_recursive=False)
    await fetch_dag(tree.cid, store, [source])
    assert find_missing(store, tree.cid) is None
    assert len(source.asked) == 4


async def test_a_large_dag_is_fetched_in_batches(
    pack_store: CollectableStore, remote: MemoryBlockStore
) -> None:
    content = random_bytes(6_000_000)
    imported = import_stream(remote, [content], options=ImportOptions(chunk_size_bytes=2000))
    for source in (StoreSource(remote, is_recursive=False), StoreSource(remote)):
        await fetch_dag(imported.cid, pack_store, [source])
        assert find_missing(pack_store, imported.cid) is None
        assert max(map(len, source.asked), default=0) <= 1000


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("then", ["end", "stall", "raise", "lie", "unasked", "repeat", "flood"])
async def test_a_source_that_misbehaves_is_left_and_the_next_one_goes_on(
    store: CollectableStore, remote: MemoryBlockStore, tree: Imported, then: str, count: int
) -> None:
    bad, good = Misbehaving(remote, count=count, then=then), StoreSource(remote)
    fetched = await fetch_dag(tree.cid, store, [bad, good], limits=QUICK)
    assert find_missing(store, tree.cid) is None
    assert sorted(store.keys()) == sorted(remote.keys())
    assert fetched.blocks == len(list(remote.keys()))
    assert bad.is_closed
    # What the first source proved is not asked for again; one that ends short goes on itself.
    if count == 0 and then != "repeat":
        assert good.asked == [[tree.cid]]
    else:
        assert all(tree.cid not in asked for asked in good.asked)


async def test_what_failed_is_resumed_where_it_stopped(
    store: CollectableStore, remote: MemoryBlockStore, tree: Imported
) -> None:
    with pytest.raises(
        NoPeerHas, match=f"no peer has CID .*, a part of {tree.cid} .misbehaving: failed: the peer"
    ):
        await fetch_dag(tree.cid, store, [Misbehaving(remote, count=4, then="raise")])
    assert len(list(store.keys())) == 4
    fetched = await fetch_dag(tree.cid, store, [StoreSource(remote)])
    assert fetched.blocks == len(list(remote.keys())) - 4
    assert find_missing(store, tree.cid) is None


@dataclass
class Silent(StoreSource):
    """Says nothing, until it is let go on. `open_at_once` counts those of its kind that are asked."""

    name: str = "silent"
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    open_at_once: list[int] = field(default_factory=lambda: [0])

    async def get_blocks(
        self, cids: Sequence[Cid], *, recursive: bool
    ) -> AsyncGenerator[tuple[Cid, bytes], None]:
        self.is_closed = False
        self.open_at_once.append(self.open_at_once[-1] + 1)
        try:
            await self.goes_on.wait()
            async with contextlib.aclosing(super().get_blocks(cids, recursive=recursive)) as stream:
                async for found in stream:
                    yield found
        finally:
            self.open_at_once.append(self.open_at_once[-1] - 1)
            self.is_closed = True


async def test_silent_sources_hold_up_none_after_them_and_are_let_go(
    store: CollectableStore, remote: MemoryBlockStore, tree: Imported
) -> None:
    limits = FetchLimits(next_source_seconds=0.05, first_block_seconds=600)
    silent = [Silent(remote) for _ in range(5)]
    async with asyncio.timeout(60):
        await fetch_dag(tree.cid, store, [*silent, StoreSource(remote)], limits=limits)
    assert find_missing(store, tree.cid) is None
    assert all(source.is_closed for source in silent)


async def test_a_source_that_was_let_go_is_asked_again_when_the_quicker_one_fails(
    store: CollectableStore, remote: MemoryBlockStore, tree: Imported
) -> None:
    limits = FetchLimits(next_source_seconds=0.05, first_block_seconds=600)
    slow = Silent(remote)

    class Quick(Misbehaving):
        async def _misbehave(self, cid: Cid, block: bytes) -> AsyncGenerator[tuple[Cid, bytes], None]:
            assert slow.is_closed
            slow.goes_on.set()
            yield cid, block + b"x"

    async with asyncio.timeout(60):
        await fetch_dag(tree.cid, store, [slow, Quick(remote)], limits=limits)
    assert find_missing(store, tree.cid) is None


async def test_few_silent_sources_are_asked_at_once(
    store: CollectableStore, remote: MemoryBlockStore, tree: Imported
) -> None:
    limits = FetchLimits(next_source_seconds=0.01, first_block_seconds=0.3)
    counted = [0]
    silent = [Silent(remote, open_at_once=counted) for _ in range(20)]
    await fetch_dag(tree.cid, store, [*silent, StoreSource(remote)], limits=limits)
    assert (max(counted), counted[-1]) == (8, 0)


async def test_a_cid_that_nobody_has_is_named_with_what_each_source_said(store: CollectableStore) -> None:
    cid = Cid.of(RAW, b"nobody has this")
    empty, other = StoreSource(MemoryBlockStore(), name="a"), StoreSource(MemoryBlockStore(), name="b")
    with pytest.raises(NoPeerHas, match=f"no peer has CID {cid} .a: does not have it; b: does not") as caught:
        await fetch_dag(cid, store, [empty, other])
    assert caught.value.cid == cid
    assert not caught.value.broke_off
    with pytest.raises(NoPeerHas, match=f"no peer has CID {cid}$"):
        await fetch_dag(cid, store, [])


@pytest.mark.parametrize(
    ("then", "broke_off"), [("stall", True), ("raise", True), ("end", False), ("lie", False)]
)
async def test_it_is_told_whether_a_source_may_be_of_use_again(
    store: CollectableStore, remote: MemoryBlockStore, tree: Imported, then: str, *, broke_off: bool
) -> None:
    sources = [Misbehaving(remote, count=0, then=then), StoreSource(MemoryBlockStore())]
    with pytest.raises(NoPeerHas) as caught:
        await fetch_dag(tree.cid, store, sources, limits=QUICK)
    assert caught.value.broke_off is broke_off


async def test_blocks_that_do_not_fit_are_never_stored(
    store: CollectableStore, remote: MemoryBlockStore
) -> None:
    root = import_files(remote, {"a": b"right"}, options=ImportOptions(cid_version=1))
    liar = MemoryBlockStore()
    liar.put_many([(root.cid, remote.get(root.cid)), (Cid.of(RAW, b"right"), b"wrong")])
    with pytest.raises(NoPeerHas, match="sent other bytes"):
        await fetch_dag(root.cid, store, [StoreSource(liar)])
    assert not store.has(Cid.of(RAW, b"right"))
    assert store.has(root.cid)


@pytest.mark.parametrize(
    "limits",
    [FetchLimits(max_bytes=600_000), FetchLimits(max_blocks=11), FetchLimits(max_depth=2)],
    ids=["bytes", "blocks", "depth"],
)
async def test_a_dag_above_the_limits_is_refused(
    store: CollectableStore, remote: MemoryBlockStore, tree: Imported, limits: FetchLimits
) -> None:
    with pytest.raises(FetchLimit):
        await fetch_dag(tree.cid, store, [StoreSource(remote)], limits=limits)


async def test_a_chain_without_end_is_refused(store: CollectableStore, remote: MemoryBlockStore) -> None:
    cid = Cid.of(RAW, b"")
    for _ in range(1100):
        block = encode([Link("d", cid, 0)], DIRECTORY_DATA)
        cid = Cid.of(DAG_PB, block)
        remote.put_many([(cid, block)])
    with pytest.raises(FetchLimit, match="deeper"):
        await fetch_dag(cid, store, [StoreSource(remote)])


async def test_a_block_whose_hash_cannot_be_checked_is_refused_by_the_name_of_the_hash(
    store: CollectableStore,
) -> None:
    cid = Cid.from_raw(b"\x01\x55\x1e\x20" + bytes(32))
    remote = MemoryBlockStore()
    remote.put_many([(cid, b"anything")])
    with pytest.raises(UnsupportedDag, match="blake3"):
        await fetch_dag(cid, store, [StoreSource(remote)])


async def test_a_dag_that_is_malformed_is_its_makers_fault_and_not_the_sources(
    store: CollectableStore,
) -> None:
    remote = MemoryBlockStore()
    cid = Cid.of(DAG_PB, b"no dag-pb")
    remote.put_many([(cid, b"no dag-pb")])
    with pytest.raises(InvalidBlock):
        await fetch_dag(cid, store, [StoreSource(remote)])


async def test_a_full_store_ends_the_fetch(remote: MemoryBlockStore, tree: Imported) -> None:
    with pytest.raises(StoreFull):
        await fetch_dag(tree.cid, MemoryBlockStore(limit_bytes=1000), [StoreSource(remote)])


async def test_a_fetch_that_is_cancelled_lets_go_of_its_source(
    store: CollectableStore, remote: MemoryBlockStore, tree: Imported
) -> None:
    source = Misbehaving(remote, then="stall")
    task = asyncio.create_task(fetch_dag(tree.cid, store, [source]))
    await source.is_stalled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.is_closed


def test_blocks_are_served_depth_first_each_once_and_without_what_is_missing(
    remote: MemoryBlockStore,
) -> None:
    options = ImportOptions(cid_version=1)
    below = import_files(remote, {"x": b"1", "y": b"2"}, options=options)
    root = import_files(remote, {"a": b"2", "c": b"3"}, extra={"b": below}, options=options)
    one, two, three = (Cid.of(RAW, content) for content in (b"1", b"2", b"3"))
    foreign = Cid.of(0x71, b"\xa0")
    malformed = Cid.of(DAG_PB, b"no dag-pb")
    remote.put_many([(foreign, b"\xa0"), (malformed, b"no dag-pb")])
    remote.delete_many([one.multihash])
    asked = [foreign, malformed, Cid.of(RAW, b"missing"), root.cid, root.cid]
    served = [cid for cid, _ in serve_blocks(remote, asked, recursive=True)]
    assert served == [foreign, malformed, root.cid, two, below.cid, three]
    assert [cid for cid, _ in serve_blocks(remote, asked, recursive=False)] == [foreign, malformed, root.cid]


def test_the_test_sources_are_block_sources(remote: MemoryBlockStore) -> None:
    sources: list[BlockSource] = [StoreSource(remote), Misbehaving(remote)]
    assert sources
