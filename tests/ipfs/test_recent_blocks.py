"""Recent blocks: in memory only while in the store, within a number and bytes; and room kept for the node itself."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.ipfs.errors import BlockNotFound, StoreFull
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.ipfs.recent import RecentBlocks
from bacalhau.model.cid import RAW, Cid

if TYPE_CHECKING:
    from pathlib import Path

FULL_BYTES = 1 << 62
KEYS = [b"a", b"b", b"c", b"d"]


def block_of(number: int, size: int = 200) -> tuple[Cid, bytes]:
    block = number.to_bytes(4, "big") * (size // 4)
    return Cid.of(RAW, block), block


# --- the memory ---


@given(steps=st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 150)) | st.none(), max_size=40))
def test_what_is_held_never_exceeds_the_bytes_and_is_what_was_added(
    steps: list[tuple[bytes, int] | None],
) -> None:
    recent = RecentBlocks(max_bytes=200)
    said: dict[bytes, bytes] = {}
    for step in steps:
        if step is None:
            recent.clear()
            said.clear()
        else:
            key, size = step
            said.setdefault(key, bytes(size))
            recent.add([(key, said[key])], recent.generation)
        held = {key: block for key in KEYS if (block := recent.get(key)) is not None}
        assert sum(map(len, held.values())) == recent._bytes <= 200
        assert held.items() <= said.items()


def test_the_block_that_was_not_used_for_longest_goes_first() -> None:
    recent = RecentBlocks(max_bytes=300)
    recent.add([(key, bytes(100)) for key in KEYS[:3]], recent.generation)
    recent.get(b"a")
    recent.add([(b"d", bytes(100))], recent.generation)
    assert [recent.get(key) is not None for key in KEYS] == [True, False, True, True]


def test_of_many_small_blocks_no_more_than_a_number_are_held_however_few_bytes_they_have() -> None:
    recent = RecentBlocks(max_blocks=3)
    for key in (*KEYS[:3], b"a", KEYS[3]):
        recent.get(key)
        recent.add([(key, b"small")], recent.generation)
    assert [recent.get(key) is not None for key in KEYS] == [True, False, True, True]
    assert recent._bytes == 3 * len(b"small")


def test_a_block_that_was_read_before_a_deletion_is_not_taken_after_it() -> None:
    recent = RecentBlocks()
    generation = recent.generation
    recent.clear()
    recent.add([(b"a", b"read before")], generation)
    assert recent.get(b"a") is None


# --- in the store ---


def test_a_deleted_block_is_gone_for_every_question_also_after_it_was_put_and_read(tmp_path: Path) -> None:
    store = PackBlockStore(tmp_path)
    cid, block = block_of(1)
    for sync in (True, False):
        store.put_many([(cid, block)], sync=sync)
        assert store.get(cid) == block
        assert store.delete_many([cid.multihash]) == (1, len(block))
        assert not store.has(cid)
        for ask in (store.get, store.size):
            with pytest.raises(BlockNotFound):
                ask(cid)
    store.close()


def test_a_block_that_a_full_disk_refused_is_not_there(tmp_path: Path) -> None:
    store = PackBlockStore(tmp_path, limit_bytes=100)
    cid, block = block_of(1)
    with pytest.raises(StoreFull):
        store.put_many([(cid, block)])
    assert not store.has(cid)
    with pytest.raises(BlockNotFound):
        store.get(cid)
    store.close()


def test_a_read_that_a_deletion_overtakes_leaves_no_ghost_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is read, the block is deleted, then the reader goes on: nobody may find it from then on."""
    cid, block = block_of(1)
    store = PackBlockStore(tmp_path)
    store.put_many([(cid, block)])
    store._recent.clear()  # as if it had been put long ago
    looked_up, may_go_on = threading.Event(), threading.Event()
    lookup = store._lookup

    def slow_lookup(key: bytes) -> object:
        row = lookup(key)
        looked_up.set()
        assert may_go_on.wait(10)
        return row

    monkeypatch.setattr(store, "_lookup", slow_lookup)
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(store.get, cid)
        assert looked_up.wait(10)
        store.delete_many([cid.multihash])
        may_go_on.set()
        assert reading.result(10) == block  # it was there when the reading began
    monkeypatch.undo()
    assert not store.has(cid)
    with pytest.raises(BlockNotFound):
        store.get(cid)
    store.close()


def test_no_thread_finds_a_block_after_its_deletion_while_others_put_and_read(tmp_path: Path) -> None:
    """Each writer puts, sees, deletes and misses its own blocks; readers ask for all of them all the time."""
    store = PackBlockStore(tmp_path)
    cids = {writer: [block_of(writer * 100 + n) for n in range(5)] for writer in range(2)}
    over = threading.Event()

    def write(mine: list[tuple[Cid, bytes]]) -> int:
        seen_wrong = 0
        for _ in range(25):
            store.put_many(mine, sync=False)
            seen_wrong += sum(store.get(cid) != block for cid, block in mine)
            store.delete_many([cid.multihash for cid, _ in mine])
            seen_wrong += sum(store.has(cid) for cid, _ in mine)
        return seen_wrong

    def read() -> int:
        wrong = 0
        while not over.is_set():
            for cid, block in (pair for mine in cids.values() for pair in mine):
                try:
                    wrong += store.get(cid) != block
                except BlockNotFound:
                    continue
        return wrong

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        try:
            wrong = [threads.submit(write, mine) for mine in cids.values()]
            assert [one.result(60) for one in wrong] == [0, 0]
        finally:
            over.set()
        assert [one.result(10) for one in readers] == [0, 0]
    assert not any(store.has(cid) for mine in cids.values() for cid, _ in mine)
    store.close()


def test_blocks_of_the_node_itself_are_stored_below_the_reserve_and_no_others(tmp_path: Path) -> None:
    store = PackBlockStore(tmp_path, reserve_bytes=FULL_BYTES)
    own, other = block_of(1), block_of(2)
    store.put_many([own], reserved=True)
    with pytest.raises(StoreFull, match="kept for the node itself"):
        store.put_many([other])
    assert (store.has(own[0]), store.has(other[0])) == (True, False)
    store.put_many([own])  # it is there, and takes no room
    store.close()
    store = PackBlockStore(tmp_path)
    assert (store.get(own[0]), store.has(other[0])) == (own[1], False)
    store.close()


def test_the_limit_of_the_store_holds_for_the_node_itself_too(tmp_path: Path) -> None:
    store = PackBlockStore(tmp_path, limit_bytes=100)
    with pytest.raises(StoreFull, match="limit"):
        store.put_many([block_of(1)], reserved=True)
    store.close()
