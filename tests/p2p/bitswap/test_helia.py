"""Helia fetches from this node and serves to it: bytes and CIDs equal, each side starting with an empty store."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.dag import find_missing, iter_cids
from bacalhau.ipfs.exporter import export
from bacalhau.ipfs.importer import import_path
from bacalhau.ipfs.layout import ImportOptions
from bacalhau.model.cid import Cid
from tests.p2p.bitswap.contents import assert_same, make_content, sizes
from tests.p2p.bitswap.hosts import swapping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SHAPES = ("file", "large file", "tree", "folder")


@dataclass
class Helia:
    """A Helia node as a process with a store in memory. `address` is where it listens, with its peer id."""

    process: asyncio.subprocess.Process
    address: str

    async def ask(self, *words: str | Path) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        answer = await _line(self.process)
        assert "error" not in answer, answer["error"]
        return answer


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(100):
        line = await process.stdout.readline()
    assert line, "Helia has ended"
    answer: dict[str, Any] = json.loads(line)
    return answer


@asynccontextmanager
async def running_helia(helia: tuple[Path, Path]) -> AsyncIterator[Helia]:
    process = await asyncio.create_subprocess_exec(
        *helia, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Helia(process, (await _line(process))["address"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("shape", SHAPES)
async def test_helia_fetches_what_we_hold(shape: str, helia: tuple[Path, Path], tmp_path: Path) -> None:
    store = MemoryBlockStore()
    path = make_content(tmp_path, shape, links=False)
    root = import_path(store, path, options=ImportOptions(cid_version=1)).cid
    async with swapping(store) as host, running_helia(helia) as other:
        assert (await other.ask("blocks"))["count"] == 0
        await other.ask("connect", (await host.host.addresses())[0])
        await other.ask("get", str(root), tmp_path / "fetched")
        assert_same(path, tmp_path / "fetched")
        assert (await other.ask("blocks"))["count"] >= len(sizes(store))
        assert host.counters.blocks_sent >= len(sizes(store))
        assert host.counters.bytes_sent >= sum(sizes(store).values())
        assert host.counters.blocks_received == 0


@pytest.mark.parametrize("shape", SHAPES)
async def test_we_fetch_what_helia_holds(shape: str, helia: tuple[Path, Path], tmp_path: Path) -> None:
    path = make_content(tmp_path, shape, links=False)
    async with swapping() as host, running_helia(helia) as other:
        root = Cid.parse((await other.ask("add", path))["cid"])
        await host.connect(other.address)
        fetched = await host.fetch(root)
        assert find_missing(host.store, root) is None
        export(host.store, root, tmp_path / "fetched")
        assert_same(path, tmp_path / "fetched")
        assert len(list(iter_cids(host.store, root))) == fetched.blocks
        assert host.counters.bytes_received == fetched.block_bytes
        assert host.counters.unsolicited_blocks == 0
