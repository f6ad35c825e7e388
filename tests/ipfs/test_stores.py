"""The contract of a block store: on the one in memory, on the durable one, and on Kubo."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs import dagpb
from bacalhau.ipfs.blockstore import BlockStore, CollectableStore, MemoryBlockStore
from bacalhau.ipfs.errors import BlockNotFound, StoreFull
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.model.cid import DAG_PB, RAW, Cid
from tests.ipfs.conftest import random_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Below and above the size from which the durable store puts blocks into packs.
SMALL, LARGE = b"small", random_bytes(100_000)


def cids(blocks: Iterable[bytes]) -> list[tuple[Cid, bytes]]:
    return [(Cid.of(RAW, block), block) for block in blocks]


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("block", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_a_block_that_was_put_is_there(any_store: BlockStore, block: bytes, sync: bool) -> None:
    cid = Cid.of(RAW, block)
    assert not any_store.has(cid)
    any_store.put_many([(cid, block)], sync=sync)
    assert any_store.has(cid)
    assert (any_store.get(cid), any_store.size(cid)) == (block, len(block))


def test_a_block_that_is_not_there_is_named(any_store: BlockStore) -> None:
    cid = Cid.of(RAW, b"missing")
    with pytest.raises(BlockNotFound, match=str(cid)) as caught:
        any_store.get(cid)
    assert caught.value.cid == cid
    with pytest.raises(BlockNotFound):
        any_store.size(cid)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_both_versions_of_a_cid_name_one_block(any_store: BlockStore, data: bytes) -> None:
    block = dagpb.encode([], data)
    first, second = Cid.of(DAG_PB, block, version=0), Cid.of(DAG_PB, block)
    any_store.put_many([(first, block)])
    assert any_store.get(second) == block


@pytest.mark.parametrize("block", [SMALL, LARGE], ids=["small", "large"])
def test_a_block_put_under_both_versions_of_its_cid_is_stored_once(
    store: CollectableStore, block: bytes
) -> None:
    store.put_many([(Cid.of(DAG_PB, block, version=0), block)])
    store.put_many([(Cid.of(DAG_PB, block), block)])
    assert list(store.keys()) == [Cid.of(DAG_PB, block).multihash]


def test_the_same_block_twice_in_one_call_is_stored_once(store: CollectableStore) -> None:
    store.put_many(cids([SMALL, SMALL, LARGE, LARGE]))
    assert len(list(store.keys())) == 2


def test_a_cid_that_carries_its_block_is_always_there(any_store: BlockStore) -> None:
    cid = Cid.from_raw(b"\x01\x55\x00\x03abc")
    assert any_store.has(cid)
    any_store.put_many([(cid, b"abc")])
    assert (any_store.get(cid), any_store.size(cid)) == (b"abc", 3)


def test_a_block_that_its_cid_carries_is_never_stored(store: CollectableStore) -> None:
    store.put_many([(Cid.from_raw(b"\x01\x55\x00\x03abc"), b"abc")])
    assert list(store.keys()) == []


def test_a_buffer_can_be_reused_after_put_many(any_store: BlockStore) -> None:
    for content in (bytearray(SMALL), bytearray(LARGE)):
        cid = Cid.of(RAW, memoryview(content))
        expected = bytes(content)
        any_store.put_many([(cid, memoryview(content))], sync=False)
        content[:] = bytes(len(content))
        assert any_store.get(cid) == expected


def test_more_blocks_than_fit_into_one_message_are_all_stored(any_store: BlockStore) -> None:
    blocks = cids(b"%d" % number for number in range(1200))
    large = cids(random_bytes(1024 * 1024, seed) for seed in range(6))
    any_store.put_many([*blocks, *large])
    assert all(any_store.get(cid) == block for cid, block in [*blocks[::50], *large])


def test_deleted_blocks_are_gone_and_counted(store: CollectableStore) -> None:
    blocks = cids([SMALL, LARGE, b"kept"])
    store.put_many(blocks, sync=False)
    deleted = store.delete_many([blocks[0][0].multihash, blocks[1][0].multihash, b"no such key"])
    assert deleted == (2, len(SMALL) + len(LARGE))
    assert [store.has(cid) for cid, _ in blocks] == [False, False, True]


@pytest.mark.parametrize("kind", ["memory", "pack"])
def test_a_limit_refuses_what_exceeds_it_and_leaves_the_store_usable(kind: str, tmp_path: Path) -> None:
    store: CollectableStore = (
        MemoryBlockStore(limit_bytes=1000) if kind == "memory" else PackBlockStore(tmp_path, limit_bytes=1000)
    )
    first, second = cids([b"a" * 600, b"b" * 600])
    store.put_many([first])
    with pytest.raises(StoreFull, match="600 of 1000 bytes used, 600 more wanted"):
        store.put_many([second])
    assert not store.has(second[0])
    store.put_many([first])  # is there: costs nothing
    store.delete_many([first[0].multihash])
    store.put_many([second])
    assert store.get(second[0]) == b"b" * 600
    store.close()


@pytest.mark.parametrize("kind", ["memory", "pack"])
def test_a_block_put_again_counts_as_touched(kind: str, tmp_path: Path) -> None:
    now_us = 100
    store: CollectableStore = (
        MemoryBlockStore(clock_us=lambda: now_us)
        if kind == "memory"
        else PackBlockStore(tmp_path, clock_us=lambda: now_us)
    )
    old, touched = cids([b"old", LARGE])
    store.put_many([old, touched])
    now_us = 200
    store.put_many([touched], sync=False)
    assert store.delete_many(list(store.keys()), untouched_since_us=150) == (1, 3)
    assert store.get(touched[0]) == LARGE
    store.close()


def test_many_threads_put_and_get_at_once(any_store: BlockStore) -> None:
    start = threading.Barrier(8)

    def work(worker: int) -> None:
        start.wait()
        for number in range(20):
            # Half of the blocks are the worker's own, half are the same for all.
            seed = number if number % 2 else worker * 1000 + number
            block = random_bytes(50_000 if number % 4 < 2 else 500, seed)
            cid = Cid.of(RAW, block)
            any_store.put_many([(cid, block)], sync=number % 3 == 0)
            assert any_store.get(cid) == block
            assert any_store.has(cid)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
