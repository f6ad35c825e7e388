"""A hostile peer as a process: `python -m tests.p2p.bitswap.hostile ATTACK MULTIADDR`, until it is killed.

It speaks Bitswap over libp2p as anybody does, and then sends what nobody should. It prints a line when it has begun,
and the root of what it offers where it offers anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from typing import TYPE_CHECKING

import trio
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID

from bacalhau.ipfs.dagpb import Link
from bacalhau.ipfs.dagpb import encode as encode_node
from bacalhau.ipfs.unixfs import DIRECTORY_DATA
from bacalhau.model.cid import DAG_PB, RAW, Cid
from bacalhau.model.varint import varint
from bacalhau.p2p.bitswap.messages import PROTOCOLS, Message, Want, decode, encode
from bacalhau.p2p.frames import FrameReader, write_frame
from bacalhau.p2p.host import Host
from bacalhau.wire.identity import NodeKey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from libp2p.abc import IHost, INetStream

LEAF_BYTES = 100_000
LEAVES = 20_000
CHAIN = 3_000


class Attacker:
    """A service that attacks the peer at `victim`."""

    def __init__(self, attack: str, victim: str) -> None:
        self._attack: Callable[[], Awaitable[None]] = getattr(self, attack)
        self._victim = ID.from_string(victim)
        self.connected = asyncio.Event()
        self.root: Cid | None = None
        self._answers: dict[bytes, Callable[[], bytes]] = {}

    async def run(self, host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
        self._host = host
        for protocol in PROTOCOLS:
            host.set_stream_handler(TProtocol(protocol), self._serve)
        task_status.started()
        await trio.sleep_forever()

    async def begin(self) -> None:
        await self._attack()

    async def _open(self) -> INetStream:
        return await self._host.new_stream(self._victim, [TProtocol(PROTOCOLS[0])])

    async def _serve(self, stream: INetStream) -> None:
        """Answer wants with whatever `_answers` makes of them; say to have everything."""
        reader = FrameReader(stream)
        out = await self._open()
        while (length := await reader.length(3600)) is not None:
            for want in decode(await reader.body(length)).wants:
                make = self._answers.get(want.cid.multihash)
                if want.cancel:
                    continue
                if want.have:
                    await write_frame(out, encode(Message(presences=[(want.cid, True)])))
                elif make is not None:
                    await write_frame(out, encode(Message(blocks=[(want.cid.prefix, make())])))

    # --- attacks ---

    async def unsolicited(self) -> None:
        """Blocks that nobody asked for, each good, on one stream after the other."""
        number = 0
        while True:
            stream = await self._open()
            for _ in range(10):
                block = hashlib.sha256(str(number).encode()).digest() * 8000
                await write_frame(stream, encode(Message(blocks=[(Cid.of(RAW, block).prefix, block)])))
                number += 1
            await stream.close()

    async def wrong_blocks(self) -> None:
        """It has everything, and sends other bytes."""

        class Lies(dict[bytes, object]):
            def get(self, key: bytes, default: object = None) -> object:
                return lambda: b"not that" + key

        self._answers = Lies()  # type: ignore[assignment]
        await trio.sleep_forever()

    async def endless_dag(self) -> None:
        """A folder of twenty thousand files, which are made when they are asked for: 2 GB, and every block is right."""
        links = []
        for number in range(LEAVES):
            leaf = Cid.of(RAW, _leaf(number))
            self._answers[leaf.multihash] = lambda number=number: _leaf(number)  # type: ignore[misc]
            links.append(Link(f"{number:06}", leaf, LEAF_BYTES))
        self.root = self._offer(encode_node(links, DIRECTORY_DATA))
        await trio.sleep_forever()

    async def endless_chain(self) -> None:
        """A folder in a folder in a folder, three thousand deep."""
        block = DIRECTORY_DATA and encode_node([], DIRECTORY_DATA)
        for _ in range(CHAIN):
            cid = self._offer(block)
            block = encode_node([Link("in", cid, len(block))], DIRECTORY_DATA)
        # Told when all of it is there.
        self.root = self._offer(block)
        await trio.sleep_forever()

    async def million_wants(self) -> None:
        """A million wants in messages of every size, and the answers are not read."""
        number = 0

        async def send(count: int) -> None:
            nonlocal number
            stream = await self._open()
            while number < 1_000_000:
                wants = []
                for _ in range(count):
                    digest = hashlib.sha256(str(number).encode()).digest()
                    wants.append(Want(Cid(1, RAW, b"\x12\x20" + digest), dont_have=True))
                    number += 1
                await write_frame(stream, encode(Message(wants)))

        async with trio.open_nursery() as nursery:
            for count in (1000, 10_000, 10_000, 10_000):
                nursery.start_soon(send, count)
            while True:
                # Above the limit of any message: the victim resets the stream.
                with contextlib.suppress(StreamError):
                    await write_frame(await self._open(), varint(64 << 20) + bytes(1 << 20))
                await trio.sleep(0.5)

    async def slow_loris(self) -> None:
        """More streams than anybody needs, each with the beginning of a message that never ends."""

        async def drip() -> None:
            stream = await self._open()
            await stream.write(varint(2000))
            while True:
                await stream.write(b"\x0a")
                await trio.sleep(0.5)

        async def guarded() -> None:
            while True:
                try:
                    await drip()
                except Exception:  # the victim has reset it: another one
                    await trio.sleep(0.2)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(guarded)

    def _offer(self, block: bytes) -> Cid:
        cid = Cid.of(DAG_PB, block)
        self._answers[cid.multihash] = lambda: block
        return cid


def _leaf(number: int) -> bytes:
    return hashlib.shake_128(str(number).encode()).digest(LEAF_BYTES)


async def main(attack: str, address: str) -> None:
    attacker = Attacker(attack, address.rpartition("/")[2])
    host = Host(NodeKey.generate(), ("/ip4/127.0.0.1/tcp/0",), (attacker,))
    await host.start()
    await host.connect(address)
    attacking = asyncio.create_task(host.bridge.call(attacker.begin))
    while attack.startswith("endless") and attacker.root is None:
        await asyncio.sleep(0.05)
    print(f"attacking {attacker.root}", flush=True)
    try:
        await attacking
    except Exception as failure:  # the victim defends itself: then this process waits to be killed
        print(f"stopped: {failure!r}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
