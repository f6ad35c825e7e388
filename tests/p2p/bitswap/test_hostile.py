"""Hostile peers, each a process that sends the real bytes: the node keeps serving, its memory and disk stay bounded,
and the counters tell. Neither does a large file need more memory."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.dag import find_missing
from bacalhau.ipfs.importer import import_stream
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.model.units import MIB
from tests.node.live import until
from tests.p2p.bitswap.contents import raw_blocks
from tests.p2p.bitswap.hosts import swapping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from bacalhau.model.cid import Cid

LARGE_BYTES = 128 * MIB


@asynccontextmanager
async def process(module: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"tests.p2p.bitswap.{module}",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def line_of(started: asyncio.subprocess.Process) -> str:
    assert started.stdout is not None
    async with asyncio.timeout(90):
        line = await started.stdout.readline()
    assert line, "the process has ended"
    return line.decode().strip()


@dataclass
class Victim:
    """A node that serves a file, in a process of its own."""

    process: asyncio.subprocess.Process
    address: str
    root: Cid
    folder: Path
    first_rss: int

    async def ask(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        answer: dict[str, Any] = json.loads(await line_of(self.process))
        return answer

    async def count_until(self, name: str, least: int) -> dict[str, Any]:
        async with asyncio.timeout(40):
            while (counters := await self.ask("count"))[name] < least:
                await asyncio.sleep(0.1)
        return counters

    def grown_bytes(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss - self.first_rss

    async def most_grown_bytes(self, meanwhile: Awaitable[object]) -> int:
        """How much larger it is at most until that has ended."""
        going_on = asyncio.ensure_future(meanwhile)
        grown = 0
        while not going_on.done():
            grown = max(grown, self.grown_bytes())
            await asyncio.wait((going_on,), timeout=0.05)
        await going_on
        return grown

    def disk_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    async def serves_a_bystander(self) -> float:
        """Somebody else fetches its file meanwhile; the seconds that this takes."""
        started = time.monotonic()
        async with swapping() as bystander:
            await bystander.connect(self.address)
            await bystander.fetch(self.root)
            assert find_missing(bystander.store, self.root) is None
        return time.monotonic() - started


@pytest.fixture
async def victim(tmp_path: Path) -> AsyncIterator[Victim]:
    folder = tmp_path / "blocks"
    store = PackBlockStore(folder)
    root = import_stream(store, [random.Random(1).randbytes(4 * MIB)]).cid
    store.close()
    async with process("victim", str(folder)) as started:
        address = await line_of(started)
        victim = Victim(started, address, root, folder, 0)
        # What the first connection and transfer cost is nobody's attack.
        await victim.serves_a_bystander()
        victim.first_rss = psutil.Process(started.pid).memory_info().rss
        yield victim


async def test_blocks_that_nobody_asked_for_are_dropped_and_then_their_sender(victim: Victim) -> None:
    disk = victim.disk_bytes()
    async with process("hostile", "unsolicited", victim.address) as attacker:
        await line_of(attacker)
        counters = await victim.count_until("dropped_peers", 1)
        assert counters["unsolicited_blocks"] <= 64 + 8
        await victim.serves_a_bystander()
        assert victim.disk_bytes() - disk < MIB
        assert victim.grown_bytes() < 40 * MIB


async def test_a_peer_that_sends_other_bytes_is_dropped_for_one_that_sends_the_right_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bacalhau.p2p.bitswap.session._SILENT_SECONDS", 4.0)
    # Else the other is asked for it as well, however long the first stays.
    monkeypatch.setattr("bacalhau.p2p.bitswap.spread._DOUBLE_AFTER_SECONDS", 3600.0)
    store = MemoryBlockStore()
    blocks = raw_blocks(100, 80_000)
    store.put_many(blocks.items())
    async with swapping() as host, swapping(store) as honest:
        address = (await host.host.addresses())[0]
        async with process("hostile", "wrong_blocks", address) as attacker, asyncio.timeout(60):
            await line_of(attacker)
            liars = await host.host.connected()
            asking = asyncio.create_task(host.ask_for(list(blocks)))
            await until(lambda: host.counters.unsolicited_blocks, "it lies", 30)
            await honest.connect(host)
            come, reasons = await asking
        assert come == blocks
        assert list(reasons) == liars
        assert host.counters.blocks_received == len(blocks)


@pytest.mark.parametrize("attack", ["endless_dag", "endless_chain"])
async def test_a_dag_without_end_is_given_up_at_the_limit(victim: Victim, attack: str) -> None:
    disk = victim.disk_bytes()
    async with process("hostile", attack, victim.address) as attacker:
        root = (await line_of(attacker)).split()[1]
        fetching = asyncio.create_task(victim.ask(f"fetch {root} {20 * MIB}"))
        await victim.serves_a_bystander()
        fetched = await fetching
        assert fetched.get("failed") == "FetchLimit", fetched
        assert victim.disk_bytes() - disk < 30 * MIB
        assert victim.grown_bytes() < 80 * MIB


async def test_a_want_list_of_a_million_entries_costs_little(victim: Victim) -> None:
    async with process("hostile", "million_wants", victim.address) as attacker:
        await line_of(attacker)
        await victim.count_until("unread_want_bytes", MIB)
        assert await victim.serves_a_bystander() < 10
        await victim.count_until("faulty_streams", 1)
        assert victim.grown_bytes() < 40 * MIB


async def test_streams_that_never_end_a_message_are_bounded_and_time_out(victim: Victim) -> None:
    async with process("hostile", "slow_loris", victim.address) as attacker:
        await line_of(attacker)
        await victim.count_until("refused_streams", 1)
        await victim.serves_a_bystander()
        await victim.count_until("faulty_streams", 1)
        assert victim.grown_bytes() < 40 * MIB


async def test_a_file_costs_no_memory_by_its_size_to_fetch_or_to_serve(
    victim: Victim, tmp_path: Path
) -> None:
    drawn = random.Random(7)
    given, taken = PackBlockStore(tmp_path / "given"), PackBlockStore(tmp_path / "taken")
    root = import_stream(given, (drawn.randbytes(MIB) for _ in range(LARGE_BYTES // MIB))).cid
    async with swapping(given) as giver:
        await giver.connect(victim.address)
        fetching = victim.ask(f"fetch {root} {2 * LARGE_BYTES}")
        assert await victim.most_grown_bytes(fetching) < 40 * MIB
    async with swapping(taken) as taker:
        await taker.connect(victim.address)
        assert await victim.most_grown_bytes(taker.fetch(root)) < 40 * MIB
        assert taker.counters.bytes_received > LARGE_BYTES
    given.close()
    taken.close()
