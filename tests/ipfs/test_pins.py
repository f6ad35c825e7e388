"""Pins, holds, and the collection of what they do not keep."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs.blockstore import CollectableStore, MemoryBlockStore
from bacalhau.ipfs.dag import find_missing
from bacalhau.ipfs.errors import StoreFull
from bacalhau.ipfs.importer import import_files, import_path, import_stream
from bacalhau.ipfs.layout import ImportOptions
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.ipfs.pins import Pins, garbage_collect
from bacalhau.model.cid import RAW, Cid
from tests.ipfs.conftest import make_tree, random_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIRST = Cid.of(RAW, b"first")
SECOND = Cid.of(RAW, b"second")


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Pins]:
    made = Pins(tmp_path / "pins.sqlite")
    yield made
    made.close()


def test_pins_survive_a_restart(tmp_path: Path) -> None:
    pins = Pins(tmp_path / "pins.sqlite", clock_us=lambda: 7)
    pins.add(FIRST, "input of a job")
    pins.add(SECOND)
    assert pins.remove(SECOND)
    assert not pins.remove(SECOND)
    pins.close()
    pins = Pins(tmp_path / "pins.sqlite")
    assert [(pin.cid, pin.name, pin.pinned_us) for pin in pins.all()] == [(FIRST, "input of a job", 7)]
    assert FIRST in pins
    assert SECOND not in pins
    pins.close()


def test_pinning_twice_keeps_one_pin_with_the_last_name(pins: Pins) -> None:
    pins.add(FIRST, "a")
    pins.add(FIRST, "b")
    assert [pin.name for pin in pins.all()] == ["b"]


def test_on_a_full_disk_pins_are_refused_and_stay_as_they_were(pins: Pins) -> None:
    """SQLite's own limit of pages stands for the disk's: both give SQLITE_FULL."""
    pins.add(FIRST)
    database = pins._database
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFull, match="free some space"):
        pins.add(SECOND, "x" * 100_000)
    assert [pin.cid for pin in pins.all()] == [FIRST]
    database.execute("PRAGMA max_page_count = 100000")
    pins.add(SECOND)
    assert SECOND in pins


def test_collection_keeps_what_is_pinned_and_deletes_the_rest(
    store: CollectableStore, pins: Pins, tmp_path: Path
) -> None:
    make_tree(tmp_path / "tree")
    kept = import_path(store, tmp_path / "tree")
    dropped = import_stream(store, [random_bytes(400_000, 5)])
    shared = import_files(store, {"shared": b"1"})  # its file is in the tree too
    pins.add(kept.cid)
    count = len(list(store.keys()))
    collected = garbage_collect(store, pins, grace_us=0)
    assert find_missing(store, kept.cid) is None
    assert not store.has(dropped.cid)
    assert not store.has(shared.cid)
    assert collected.deleted_blocks == 4
    assert collected.deleted_bytes == dropped.dag_bytes + shared.dag_bytes - store.size(
        Cid.of(0x70, b"\x0a\x07\x08\x02\x12\x01\x31\x18\x01", version=0)
    )
    assert collected.kept_blocks == count - 4 == len(list(store.keys()))
    pins.remove(kept.cid)
    garbage_collect(store, pins, grace_us=0)
    assert list(store.keys()) == []


def test_blocks_within_the_grace_are_kept(pins: Pins) -> None:
    now_us = 1000
    store = MemoryBlockStore(clock_us=lambda: now_us)
    old = import_files(store, {"old": b"old"})
    now_us = 2000
    young = import_files(store, {"young": b"young"})
    garbage_collect(store, pins, grace_us=500, clock_us=lambda: 2100)
    assert not store.has(old.cid)
    assert find_missing(store, young.cid) is None


def test_what_is_held_is_kept_as_long_as_it_is_held(store: CollectableStore, pins: Pins) -> None:
    held = import_files(store, {"a": b"held"})
    with pins.hold(held.cid):
        with pins.hold(held.cid):
            pass
        garbage_collect(store, pins, grace_us=0)
        assert find_missing(store, held.cid) is None
    garbage_collect(store, pins, grace_us=0)
    assert not store.has(held.cid)


def test_an_incomplete_pinned_dag_keeps_what_is_there(store: CollectableStore, pins: Pins) -> None:
    folder = import_files(store, {"a": b"aaa", "b": b"bbb"}, options=ImportOptions(cid_version=1))
    missing, there = Cid.of(RAW, b"aaa"), Cid.of(RAW, b"bbb")
    store.delete_many([missing.multihash])
    pins.add(folder.cid)
    pins.add(SECOND)
    garbage_collect(store, pins, grace_us=0)
    assert store.has(folder.cid)
    assert store.has(there)


class PinsLate(MemoryBlockStore):
    """Pins `late` while a collection is between its mark and its sweep."""

    def __init__(self, pins: Pins) -> None:
        super().__init__()
        self.pins = pins
        self.late: Cid | None = None

    def keys(self) -> Iterator[bytes]:
        if self.late is not None:
            self.pins.add(self.late)
        return super().keys()


def test_a_pin_that_comes_while_a_collection_runs_counts(pins: Pins) -> None:
    store = PinsLate(pins)
    folder = import_files(store, {"a": b"late"})
    store.late = folder.cid
    garbage_collect(store, pins, grace_us=0)
    assert find_missing(store, folder.cid) is None


def test_a_root_that_is_named_while_a_collection_runs_counts(pins: Pins) -> None:
    store = MemoryBlockStore()
    folder, other = import_files(store, {"a": b"late"}), import_files(store, {"a": b"other"})
    named = iter([{folder.cid}])
    garbage_collect(store, pins, grace_us=0, lately=lambda: next(named, set()))
    assert find_missing(store, folder.cid) is None
    assert not store.has(other.cid)


class HoldsOnRead(PinsLate):
    """Another thread takes a hold whenever a block is read."""

    held = 0

    def get(self, cid: Cid) -> bytes:
        self.hold()
        return super().get(cid)

    def hold(self) -> set[Cid]:
        def take() -> None:
            with self.pins.hold(FIRST):
                self.held += 1

        before = self.held
        thread = threading.Thread(target=take)
        thread.start()
        thread.join(5)
        assert self.held == before + 1
        return set()


def test_a_hold_waits_for_nothing_that_a_collection_reads(pins: Pins) -> None:
    store = HoldsOnRead(pins)
    late = import_files(store, {"a": b"late"}).cid
    store.late = late
    import_files(store, {"a": b"stray"})
    garbage_collect(store, pins, grace_us=0, also=store.hold)
    assert find_missing(store, late) is None


def test_imports_that_run_beside_collections_lose_nothing(tmp_path: Path, pins: Pins) -> None:
    store = PackBlockStore(tmp_path / "blocks")
    done = threading.Event()

    def collect() -> int:
        deleted = 0
        while not done.is_set():
            deleted += garbage_collect(store, pins, grace_us=60_000_000).deleted_blocks
            store.compact()
        return deleted

    def work(worker: int) -> list[Cid]:
        roots = []
        for number in range(5):
            # The same files again and again, so that imports meet blocks of others.
            files = {
                "same": random_bytes(20_000, number),
                "own": random_bytes(20_000, 100 + worker * 10 + number),
            }
            root = import_files(store, files).cid
            pins.add(root)
            roots.append(root)
        return roots

    with ThreadPoolExecutor(3) as pool:
        collector = pool.submit(collect)
        try:
            roots = [root for found in pool.map(work, range(2)) for root in found]
        finally:
            done.set()
        assert collector.result() == 0
    garbage_collect(store, pins, grace_us=0)
    assert all(find_missing(store, root) is None for root in roots)
    store.close()


def test_collection_and_compaction_give_the_disk_back(tmp_path: Path, pins: Pins) -> None:
    store = PackBlockStore(tmp_path / "blocks")
    import_stream(store, [random_bytes(3_000_000)])
    garbage_collect(store, pins, grace_us=0)
    assert store.compact() >= 2_900_000
    assert list((tmp_path / "blocks").glob("*.pack")) == []
    store.close()
