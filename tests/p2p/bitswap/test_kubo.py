"""Kubo fetches from this node and serves to it: bytes and CIDs equal, each side starting with an empty store."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.dag import find_missing
from bacalhau.ipfs.exporter import export
from bacalhau.ipfs.importer import import_files, import_path, import_stream
from bacalhau.ipfs.layout import ImportOptions
from bacalhau.model.cid import Cid
from tests.p2p.bitswap.contents import assert_same, make_content, sizes
from tests.p2p.bitswap.hosts import swapping
from tests.p2p.bitswap.kubo import KuboDaemon, running_kubo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHAPES = [*itertools.product(("file", "tree", "folder"), (0, 1)), ("large file", 1)]


@pytest.fixture
def daemon(kubo: Path, tmp_path: Path) -> Iterator[KuboDaemon]:
    """With nothing in its store but what every new one has."""
    with running_kubo(kubo, tmp_path) as running:
        yield running


@pytest.mark.parametrize(("shape", "version"), SHAPES)
async def test_kubo_fetches_what_we_hold(
    shape: str, version: int, daemon: KuboDaemon, tmp_path: Path
) -> None:
    store = MemoryBlockStore()
    path = make_content(tmp_path, shape)
    root = import_path(store, path, options=ImportOptions(cid_version=version)).cid
    assert root.version == version
    there = daemon.blocks()
    sent = [size for key, size in sizes(store).items() if key not in there]
    async with swapping(store) as host:
        await host.connect(daemon.address)
        fetched = tmp_path / "fetched"
        # Not `get` at once, which asks for one file after the other, each 20 ms after the one before.
        await asyncio.to_thread(lambda: daemon.run("pin", "add", str(root)))
        await asyncio.to_thread(lambda: daemon.run("get", str(root), "--output", fetched))
        assert_same(path, fetched)
        counters = host.counters
        # Kubo asks about a block and for it, and is sent a small one as the answer to either.
        assert len(sent) <= daemon.received() == counters.blocks_sent <= len(sent) * 1.1
        assert sum(sent) <= counters.bytes_sent <= sum(sent) * 1.1
        assert counters.blocks_received == 0


@pytest.mark.parametrize(("shape", "version"), SHAPES)
async def test_we_fetch_what_kubo_holds(shape: str, version: int, daemon: KuboDaemon, tmp_path: Path) -> None:
    path = make_content(tmp_path, shape)
    added = daemon.run("add", "-r", "-Q", "--hidden", f"--cid-version={version}", path)
    root = Cid.parse(added.decode().strip())
    own = MemoryBlockStore()
    assert import_path(own, path, options=ImportOptions(cid_version=version)).cid == root
    async with swapping() as host:
        await host.connect(daemon.address)
        await host.fetch(root)
        assert find_missing(host.store, root) is None
        export(host.store, root, tmp_path / "fetched")
        assert_same(path, tmp_path / "fetched")
        counters = host.counters
        assert counters.blocks_received == len(sizes(own))
        assert counters.bytes_received == sum(sizes(own).values())
        assert counters.unsolicited_blocks == 0


async def test_kubo_hears_of_what_it_wanted_before_it_was_here(daemon: KuboDaemon) -> None:
    store = MemoryBlockStore()
    async with swapping(store) as host:
        await host.connect(daemon.address)
        root = import_stream(MemoryBlockStore(), [b"comes late"]).cid
        reading = asyncio.create_task(asyncio.to_thread(daemon.run, "cat", str(root)))
        while root not in host.bitswap.wanted_by(daemon.peer_id):
            await asyncio.sleep(0.02)
        import_stream(store, [b"comes late"])
        await host.exchange.announce([root])
        assert await reading == b"comes late"


async def test_blocks_that_kubo_and_we_hold_in_part_are_brought_together(
    daemon: KuboDaemon, tmp_path: Path
) -> None:
    """A folder of ours whose files only Kubo holds, but for one."""
    store = MemoryBlockStore()
    files = {f"{number}": random.Random(number).randbytes(300_000) for number in range(4)}
    root = import_files(store, files, options=ImportOptions(cid_version=1)).cid
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    daemon.run("add", "-r", "--cid-version=1", tmp_path)
    part = MemoryBlockStore()
    part.put_many([(root, store.get(root))])
    async with swapping() as host, swapping(part) as other:
        await host.connect(daemon.address)
        await host.connect(other)
        await host.fetch(root)
        assert find_missing(host.store, root) is None
        assert other.counters.blocks_sent == 1


async def test_one_of_two_providers_is_killed_halfway_and_the_transfer_ends(
    kubo: Path, tmp_path: Path
) -> None:
    path = make_content(tmp_path, "file")
    (tmp_path / "second").mkdir()
    with running_kubo(kubo, tmp_path) as first, running_kubo(kubo, tmp_path / "second") as second:
        roots = {daemon.run("add", "-Q", path).decode().strip() for daemon in (first, second)}
        root = Cid.parse(roots.pop())
        assert not roots
        async with swapping() as host:
            await host.connect(first.address)
            await host.connect(second.address)

            def kill_one(blocks: int, _: int) -> None:
                if blocks >= 20:
                    first.process.kill()

            await host.fetch(root, progress=kill_one)
            assert first.process.wait(10)
            assert find_missing(host.store, root) is None
