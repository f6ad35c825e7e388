"""A hostile peer as a process: `python -m tests.p2p.hostile ATTACK MULTIADDR`, until it is killed.

It gossips over libp2p as anybody does, and then sends what nobody should. It prints a line when it has begun.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import encode_varint_prefixed

from bacalhau.model.cid import RAW, Cid
from bacalhau.model.job import Engine
from bacalhau.model.node import NodeRecord
from bacalhau.model.units import SECOND_US
from bacalhau.p2p import gossip
from bacalhau.p2p.host import Host
from bacalhau.p2p.network import OFFERS_TOPIC, RECORDS_TOPIC
from bacalhau.wire import broadcast
from tests import builders
from tests.node.live import Stranger
from tests.p2p.hosts import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from libp2p.abc import IHost


class Hostile:
    """A gossiping host that publishes whatever it is told to, signed or not. It keeps what others publish."""

    def __init__(self) -> None:
        self.pubsub: Any = None
        self.heard: list[rpc_pb2.Message] = []
        self.host: IHost | None = None

    async def run(self, host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
        router = GossipSub(gossip.PROTOCOLS, 4, 3, 6, heartbeat_interval=1, spam_protection_enabled=False)
        self.pubsub = Pubsub(host, router)
        self.host = host
        async with (
            background_trio_service(router),
            background_trio_service(self.pubsub),
            trio.open_nursery() as nursery,
        ):
            await self.pubsub.wait_until_ready()
            for topic in (RECORDS_TOPIC, OFFERS_TOPIC):
                nursery.start_soon(self._listen, await self.pubsub.subscribe(topic))
            task_status.started()
            await trio.sleep_forever()

    async def _listen(self, subscription: Any) -> None:
        while True:
            self.heard.append(await subscription.get())

    async def publish(self, topic: str, data: bytes, times: int = 1) -> None:
        for _ in range(times):
            await self.pubsub.publish(topic, data)
            await trio.sleep(0.002)

    async def send(self, message: rpc_pb2.Message) -> None:
        """A message as it stands, to everybody that it is connected with."""
        rpc = rpc_pb2.RPC(publish=[message])
        for stream in self.pubsub.peers.values():
            await stream.write(encode_varint_prefixed(rpc.SerializeToString()))

    async def drip(self, peer_id: str) -> None:
        """A message of a megabyte, a byte at a time."""
        assert self.host is not None
        stream = await self.host.new_stream(ID.from_string(peer_id), gossip.PROTOCOLS)
        await stream.write(b"\x80\x80\x40")
        while True:
            await stream.write(b"\x0a")
            await trio.sleep(0.5)


class Attacker(Stranger):
    """What a peer with this key does to the one at `address`. Each attack goes on until it is cut off, and beyond."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address
        self._hostile = Hostile()
        self._host = Host(self.key, (LOOPBACK,), (self._hostile,))
        self._sequence = 0

    async def begin(self) -> None:
        await self._host.start()
        await self._host.connect(self._address)
        peer = ID.from_string(self._address.rpartition("/")[2])
        for topic in (RECORDS_TOPIC, OFFERS_TOPIC):
            await self._host.bridge.call(self._hostile.pubsub.wait_for_mesh, peer, topic)

    async def publish(self, topic: str, data: bytes) -> None:
        """To whoever is still there; who was cut off comes again."""
        await self._persist(self._hostile.publish, topic, data)

    async def _persist(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            await self._host.bridge.call(function, *arguments)
            if not await self._host.connected():
                await self._host.connect(self._address)
        except Exception:  # the victim has ended a stream or a connection; there are others
            await asyncio.sleep(0.2)

    def record(self, **changes: Any) -> bytes:
        self._sequence += 1
        fields: dict[str, Any] = {
            "node_id": self.key.node_id,
            "addresses": ("127.0.0.1:9",),
            "certificate_digest": bytes(32),
            "sequence": int(time.time()) * SECOND_US + self._sequence,
            "compute": True,
            "requester": True,
        }
        return broadcast.encode_record(self.seal(NodeRecord(**(fields | changes)), at_us=_now_us()))

    # --- attacks ---

    async def flood(self) -> None:
        """Offers, some in each message, and as many messages as it can send; every signature is right."""
        await self.publish(RECORDS_TOPIC, self.record())
        module = str(Cid.of(RAW, b"a module that nobody has"))
        offers = [
            self.seal(
                builders.an_offer(
                    id=f"o-{number}",
                    job_id=f"j-{number}",
                    engine=Engine.WASM,
                    image_or_module=module,
                    spec_digest=bytes(32),
                ),
                at_us=_now_us(),
                valid_for_us=3600 * SECOND_US,
            )
            for number in range(3000)
        ]
        messages = [
            data
            for first in range(0, len(offers), 10)
            for data in broadcast.encode_offers(offers[first : first + 10])
        ]
        for data in itertools.cycle(messages):
            await self.publish(OFFERS_TOPIC, data)

    async def forged(self) -> None:
        """A record and offers whose signatures are broken."""
        while True:
            record = self.seal(
                NodeRecord(self.key.node_id, (), bytes(32), 1, compute=True, requester=True), at_us=_now_us()
            )
            record.signature = bytes(64)
            await self.publish(RECORDS_TOPIC, record.SerializeToString())
            offer = self.seal(builders.an_offer(spec_digest=bytes(32)), at_us=_now_us())
            offer.signature = bytes(64)
            [data] = broadcast.encode_offers([offer])
            await self.publish(OFFERS_TOPIC, data)

    async def replayed(self) -> None:
        """The messages of others, as they were and in messages of its own."""
        while True:
            for message in list(self._hostile.heard):
                await self._persist(self._hostile.send, message)
                await self.publish(message.topicIDs[0], message.data)
            await asyncio.sleep(0.05)

    async def changed_key(self) -> None:
        """Its own record with another certificate each time, and those of others under its own signature."""
        number = 0
        while True:
            number += 1
            await self.publish(RECORDS_TOPIC, self.record(certificate_digest=number.to_bytes(32, "big")))
            for message in list(self._hostile.heard):
                if message.topicIDs[0] == RECORDS_TOPIC:
                    publisher = str(ID(message.from_id))
                    if publisher != self.key.node_id:
                        await self.publish(RECORDS_TOPIC, self.record(node_id=publisher))
            await asyncio.sleep(0.25)

    async def slow_loris(self) -> None:
        """More streams than anybody needs, each with the beginning of a message that never ends, and connections that
        never say who is there."""
        host, port = self._address.split("/")[2], int(self._address.split("/")[4])
        silent = [socket.create_connection((host, port)) for _ in range(100)]
        peer_id = self._address.rpartition("/")[2]

        async def drip() -> None:
            while True:
                try:
                    await self._host.bridge.call(self._hostile.drip, peer_id)
                except Exception:  # the victim has reset it: another one
                    await asyncio.sleep(0.2)

        await asyncio.gather(*(drip() for _ in range(50)))
        del silent


def _now_us() -> int:
    return time.time_ns() // 1000


async def main(attack: str, address: str) -> None:
    attacker = Attacker(address)
    await attacker.begin()
    print(f"attacking as {attacker.key.node_id}", flush=True)
    await getattr(attacker, attack)()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
