"""The durable store: what survives a crash, a full disk and a damaged one, and compaction."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bacalhau.ipfs.errors import BlockNotFound, StoreFull
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.model.cid import RAW, Cid
from tests.ipfs.conftest import random_bytes

REPOSITORY = Path(__file__).parents[2]


def blocks_of(count: int, size: int = 100_000) -> list[tuple[Cid, bytes]]:
    blocks = [random_bytes(size, seed) for seed in range(count)]
    return [(Cid.of(RAW, block), block) for block in blocks]


def packs(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.pack"))


def test_blocks_are_there_after_the_store_is_opened_again(tmp_path: Path) -> None:
    blocks = blocks_of(3) + blocks_of(3, 100)
    store = PackBlockStore(tmp_path)
    store.put_many(blocks, sync=False)
    store.close()
    store = PackBlockStore(tmp_path)
    assert [store.get(cid) for cid, _ in blocks] == [block for _, block in blocks]
    assert store.stored_bytes == sum(len(block) for _, block in blocks)
    store.close()


def test_what_is_at_hand_is_the_block_and_what_is_on_the_disk_alone_is_only_read(tmp_path: Path) -> None:
    (large, block), (small, row), (absent, _) = blocks_of(1) + blocks_of(2, 100)
    store = PackBlockStore(tmp_path)
    store.put_many([(large, block), (small, row)])
    assert store.at_hand(small) == row
    # A file system may be unable to say that it need not wait.
    assert store.at_hand(large) in (block, None)
    with pytest.raises(BlockNotFound):
        store.at_hand(absent)
    with packs(tmp_path)[0].open("rb") as pack:
        os.posix_fadvise(pack.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert store.at_hand(large) in (block, None)
    assert store.get(large) == block
    store.close()


# The child says when its blocks are synced, puts more without a sync, and is then killed.
KILLED_CHILD = """
import sys, time
from pathlib import Path
from bacalhau.ipfs.packstore import PackBlockStore
from tests.ipfs.test_packstore import blocks_of
store = PackBlockStore(Path(sys.argv[1]))
store.put_many(blocks_of(3), sync=True)
store.put_many(blocks_of(6)[3:], sync=False)
print("ready", flush=True)
time.sleep(60)
"""


def test_after_a_kill_synced_blocks_are_there_and_the_torn_tail_is_cut(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED_CHILD, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGKILL)
    (pack,) = packs(tmp_path)
    assert pack.stat().st_size == 600_000
    store = PackBlockStore(tmp_path)
    blocks = blocks_of(6)
    assert [store.has(cid) for cid, _ in blocks] == [True] * 3 + [False] * 3
    assert pack.stat().st_size == 300_000
    store.put_many(blocks)
    assert [store.get(cid) for cid, _ in blocks] == [block for _, block in blocks]
    store.close()


def test_a_pack_that_no_index_entry_names_is_deleted_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "00000007.pack").write_bytes(b"left by a crash")
    PackBlockStore(tmp_path).close()
    assert packs(tmp_path) == []


def test_blocks_that_a_damaged_disk_lost_are_missing_and_the_others_stay(tmp_path: Path) -> None:
    blocks = blocks_of(3)
    store = PackBlockStore(tmp_path)
    store.put_many(blocks)
    store.close()
    os.truncate(packs(tmp_path)[0], 250_000)
    store = PackBlockStore(tmp_path)
    assert [store.has(cid) for cid, _ in blocks] == [True, True, False]
    with pytest.raises(BlockNotFound):
        store.get(blocks[2][0])
    store.put_many(blocks)
    assert store.get(blocks[2][0]) == blocks[2][1]
    store.close()


# In a process of its own: the limit on file sizes stands in for a full disk and holds for all of it.
FULL_DISK_CHILD = """
import resource, sys
from pathlib import Path
from bacalhau.ipfs.errors import StoreFull
from bacalhau.ipfs.packstore import PackBlockStore
from tests.ipfs.test_packstore import blocks_of
size, sync = int(sys.argv[2]), sys.argv[3] == "True"
store = PackBlockStore(Path(sys.argv[1]))
first, second = blocks_of(2, size)[:1], blocks_of(400, size)[1:]
store.put_many(first, sync=sync)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    store.put_many(second, sync=True)
except StoreFull as error:
    assert "disk" in str(error), error
else:
    raise SystemExit("not refused")
assert not any(store.has(cid) for cid, _ in second)
assert store.get(first[0][0]) == first[0][1]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.put_many(second)
assert all(store.get(cid) == block for cid, block in first + second)
store.close()
"""


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("size", [20_000, 12_000], ids=["in packs", "in the index"])
def test_a_full_disk_is_a_refusal_that_leaves_the_store_usable(tmp_path: Path, size: int, sync: bool) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", FULL_DISK_CHILD, str(tmp_path), str(size), str(sync)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr.decode()
    store = PackBlockStore(tmp_path)
    assert all(store.get(cid) == block for cid, block in blocks_of(400, size))
    store.close()


def test_a_refused_put_leaves_nothing_in_the_pack(tmp_path: Path) -> None:
    store = PackBlockStore(tmp_path, limit_bytes=250_000)
    store.put_many(blocks_of(1))
    with pytest.raises(StoreFull):
        store.put_many(blocks_of(3)[1:])
    store.close()
    assert packs(tmp_path)[0].stat().st_size == 100_000


def test_compaction_frees_the_disk_and_keeps_every_block(tmp_path: Path) -> None:
    store = PackBlockStore(tmp_path)
    blocks = blocks_of(20)
    store.put_many(blocks)
    store.delete_many([cid.multihash for cid, _ in blocks[::2]])
    assert sum(path.stat().st_size for path in packs(tmp_path)) == 2_000_000
    assert store.compact() == 1_000_000
    assert sum(path.stat().st_size for path in packs(tmp_path)) == 1_000_000
    assert [store.has(cid) for cid, _ in blocks] == [False, True] * 10
    assert all(store.get(cid) == block for cid, block in blocks[1::2])
    store.close()
    store = PackBlockStore(tmp_path)
    assert all(store.get(cid) == block for cid, block in blocks[1::2])
    store.put_many(blocks)
    assert all(store.get(cid) == block for cid, block in blocks)
    store.close()


def test_a_pack_without_live_blocks_is_deleted_by_compaction(tmp_path: Path) -> None:
    store = PackBlockStore(tmp_path)
    blocks = blocks_of(3)
    store.put_many(blocks)
    store.delete_many([cid.multihash for cid, _ in blocks])
    assert store.compact() == 300_000
    assert packs(tmp_path) == []
    store.put_many(blocks)
    assert store.get(blocks[0][0]) == blocks[0][1]
    store.close()


def test_blocks_can_be_read_while_packs_are_compacted(tmp_path: Path) -> None:
    store = PackBlockStore(tmp_path)
    blocks = blocks_of(60, 50_000)
    kept, dropped = blocks[::3], [cid.multihash for index, (cid, _) in enumerate(blocks) if index % 3]
    store.put_many(blocks)
    done = threading.Event()

    def read_all() -> int:
        rounds = 0
        while not done.is_set() or not rounds:
            assert all(store.get(cid) == block for cid, block in kept)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read_all) for _ in range(2)]
        try:
            store.delete_many(dropped)
            for _ in range(5):
                store.compact()
                store.put_many(blocks)
                store.delete_many(dropped)
        finally:
            done.set()
        assert all(reader.result() for reader in readers)
    store.close()
