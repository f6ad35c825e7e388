"""Gossip: records and offers to every node, each message checked before it is passed on.

py-libp2p's gossipsub with the settings that were measured to hold; it carries some tens of messages a second, loses
some and repeats others. Whoever publishes again and again what an honest node would not pass on, or floods, is cut off
for a while.

Versions: meshsub 1.1 and 1.0 only. With 1.2, eight nodes at ten messages a second send fifty IDONTWANT for each message
(pubsub/gossipsub.py:2166) and lose one in sixteen.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import trio
from google.protobuf.message import DecodeError
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.validators import signature_validator
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamReset
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import encode_varint_prefixed

from bacalhau.model.refusals import RefusalReason, Refused
from bacalhau.p2p.bans import Bans, Bucket
from bacalhau.p2p.frames import FrameReader, StreamFault
from bacalhau.p2p.host import PeerWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from libp2p.abc import IHost, INetStream

    from bacalhau.p2p.port import Counts

log = logging.getLogger(__name__)

PROTOCOLS = [TProtocol("/meshsub/1.1.0"), TProtocol("/meshsub/1.0.0")]
DEGREE, DEGREE_LOW, DEGREE_HIGH = 3, 2, 4
"""Half of what the specification has: each copy costs its receiver as much as the first, offers go to all neighbours
anyway, and those outside of the mesh ask for what they hear of and have not got."""
HEARTBEAT_S = 1
BACK_OFF_S = 5
PUBLISHERS_MAX = 4096

# What a message costs its forwarder, of the PENALTY_MAX that get it cut off. An honest node passes on no message that
# fails the first checks; expired and too frequent ones it may, since its clock and its count are its own.
PENALTIES = {"forged": 20, "malformed": 20, "oversized": 20, "frequent": 2}

_REASONS = {
    RefusalReason.BAD_SIGNATURE: "forged",
    RefusalReason.WRONG_RECIPIENT: "forged",
    RefusalReason.STALE: "expired",
    RefusalReason.TOO_LARGE: "oversized",
}


class Opener(Protocol):
    """Reads a message of `publisher`: what it holds, or Refused."""

    def __call__(self, data: bytes, publisher: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and its rules. `open` is called in trio, `deliver` there too with what it gave.

    What is `urgent` goes to every neighbour at once, and those outside of the mesh are told that it is there; the rest
    takes the mesh alone, and where some of it is lost the next message of its publisher makes up for it.
    """

    id: str
    name: str
    urgent: bool
    open: Opener
    deliver: Callable[[Any], None]
    bytes_max: int
    rate_per_s: float
    burst: int


class Gossip:
    """A service of the host; see the module."""

    def __init__(self, topics: tuple[Topic, ...], counts: Counts) -> None:
        self._topics = {topic.id: topic for topic in topics}
        self._counts = counts
        self.bans = Bans()
        self._publishers: dict[tuple[str, str], Bucket] = {}
        self._pubsub: _Pubsub | None = None
        self._nursery: trio.Nursery | None = None

    async def run(self, host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
        router = _Router(
            {topic.id for topic in self._topics.values() if topic.urgent},
            protocols=PROTOCOLS,
            degree=DEGREE,
            degree_low=DEGREE_LOW,
            degree_high=DEGREE_HIGH,
            heartbeat_interval=HEARTBEAT_S,
            # By default a minute, for which whoever a full bootstrap node has turned away would hear nothing of it.
            prune_back_off=BACK_OFF_S,
            # Both of these would set degrees and heartbeat anew by a measure of its own (pubsub/gossipsub.py:2766,
            # :2932), for which nodes of one machine or office are an attack.
            adaptive_gossip_enabled=False,
            eclipse_protection_enabled=False,
            # Ten messages a second of each peer, also of one that only passes them on (pubsub/gossipsub.py:2872).
            spam_protection_enabled=False,
        )
        pubsub = _Pubsub(host, router, self)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            host.get_network().register_notifee(PeerWatch(self._joined, lambda _: None))
            async with background_trio_service(router), background_trio_service(pubsub):
                await pubsub.wait_until_ready()
                for topic in self._topics:
                    await pubsub.subscribe(topic)
                self._pubsub = pubsub
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    self._pubsub = self._nursery = None

    async def publish(self, topic_id: str, data: bytes) -> None:
        """Nothing where gossip is down: whatever is published is published again."""
        if self._pubsub is not None:
            self._counts.published[self._topics[topic_id].name] += 1
            await self._pubsub.publish(topic_id, data)

    def mesh(self, topic_id: str) -> list[str]:
        """The peers that it passes messages of a topic on to directly."""
        if self._pubsub is None:
            return []
        return sorted(map(str, self._pubsub.router.mesh.get(topic_id, ())))

    # --- checks ---

    def judge(self, forwarder: str, message: Any) -> tuple[bool, Any]:
        """Whether a message is its publisher's, and what it holds, None where it is to be dropped. Counts, and cuts
        off."""
        [topic_id] = message.topicIDs if len(message.topicIDs) == 1 else [""]
        topic = self._topics.get(topic_id)
        if topic is None:
            return False, None
        now = trio.current_time()
        if self.bans.banned(forwarder, now):
            self._counts.dropped[topic.name, "banned"] += 1
            return False, None
        try:
            publisher = str(ID(message.from_id))
            reason, held = self._check(topic, publisher, message, now)
        except Exception as failure:  # the libraries raise a dozen kinds for keys and ids that are none
            log.debug("a message of %s cannot be read: %s", forwarder, failure)
            publisher, reason, held = "", "forged", None
        if reason is None:
            self._counts.accepted[topic.name] += 1
            return True, held
        self._counts.dropped[topic.name, reason] += 1
        penalty = PENALTIES.get(reason, 0)
        if reason == "frequent" and forwarder != publisher:
            penalty = 0
        if self.bans.penalise(forwarder, penalty, now):
            log.warning(
                "peer %s is cut off for a while: its last message on %s was %s", forwarder, topic.name, reason
            )
            self._counts.bans += 1
            self._cut_off(forwarder)
        return reason in ("malformed", "expired"), None

    def _check(self, topic: Topic, publisher: str, message: Any, now: float) -> tuple[str | None, Any]:
        """The reason to drop a message, else what it holds; the cheap checks first."""
        if len(message.data) > topic.bytes_max:
            return "oversized", None
        bucket = self._publishers.get((topic.id, publisher))
        if bucket is None:
            if len(self._publishers) >= PUBLISHERS_MAX:
                self._forget_silent(now)
            bucket = self._publishers[topic.id, publisher] = Bucket(topic.rate_per_s, topic.burst, now)
        if not bucket.has_one(now):
            return "frequent", None
        if not signature_validator(message):
            return "forged", None
        # Only what its publisher signed counts against it, or anybody could silence it.
        bucket.take(now)
        try:
            return None, topic.open(bytes(message.data), publisher)
        except Refused as refusal:
            return _REASONS.get(refusal.refusal.reason, "malformed"), None

    def deliver(self, topic_id: str, held: Any) -> None:
        self._topics[topic_id].deliver(held)

    def _forget_silent(self, now: float) -> None:
        """Buckets that are full again say nothing; where all are in use, the oldest go."""
        full = [key for key, bucket in self._publishers.items() if bucket.is_full(now)]
        for key in full or list(self._publishers)[: PUBLISHERS_MAX // 2]:
            del self._publishers[key]

    # --- who is cut off ---

    def _joined(self, peer_id: ID) -> None:
        if self.bans.banned(str(peer_id), trio.current_time()):
            self._cut_off(str(peer_id))

    def _cut_off(self, node_id: str) -> None:
        if self._nursery is not None and self._pubsub is not None:
            self._nursery.start_soon(self._pubsub.host.disconnect, ID.from_string(node_id))


class _Router(GossipSub):
    """Gossipsub that sends what is urgent of a node's own to every neighbour, as the specification of 1.1 has it (flood
    publishing) and go-libp2p does: it reaches most nodes in one step, and also where the mesh has not formed.

    And one that is quick. The library puts a signed record of the sender's addresses, twice as long as most messages,
    into everything that it sends (pubsub/gossipsub.py:1010, :2160); each receiver verifies it, and no other
    implementation knows of it. It spends half of what a copy costs, and a node has four of each message to pass on.
    """

    def __init__(self, urgent: set[str], **settings: Any) -> None:
        super().__init__(**settings)
        self._urgent = urgent

    async def publish(self, msg_forwarder: ID, message: Any) -> None:
        assert self.pubsub is not None
        # From here it is sent to whoever joins in the next seconds, told of, and taken when it is asked for.
        self.mcache.put(message)
        rpc = rpc_pb2.RPC(publish=[message])
        for peer_id in self._get_peers_to_send(message.topicIDs, msg_forwarder, ID(message.from_id)):
            # One for all: it is only read from here on, and below a megabyte there is nothing to split.
            queue = self.pubsub.peer_queues.get(peer_id)
            if queue is not None:
                queue.push(rpc)

    def gossip_heartbeat(self) -> Any:
        """Who is told of what; nothing of what is not urgent."""
        told = super().gossip_heartbeat()
        return {
            peer_id: urgent
            for peer_id, topics in told.items()
            if (urgent := {topic: ids for topic, ids in topics.items() if topic in self._urgent})
        }

    async def emit_control_message(self, control_msg: Any, to_peer: ID) -> None:
        self.send_rpc(to_peer, rpc_pb2.RPC(control=control_msg), priority=True)

    def _get_peers_to_send(
        self, topic_ids: Iterable[str], msg_forwarder: ID, origin: ID, msg_id: bytes | None = None
    ) -> Iterable[ID]:
        chosen = set(super()._get_peers_to_send(topic_ids, msg_forwarder, origin, msg_id))
        assert self.pubsub is not None
        if msg_forwarder == self.pubsub.my_id:
            for topic in self._urgent.intersection(topic_ids):
                chosen |= self.pubsub.peer_topics.get(topic, set())
        return chosen


class _Pubsub(Pubsub):
    """Pubsub whose every message passes `Gossip.judge` first.

    The library's own validators come after the signature, so that a forged message costs its sender nothing; what
    they or the parsing of a sender's key raise ends the whole service (pubsub/pubsub.py:1704 runs in its nursery);
    and what is accepted goes through a channel of 32 that drops what does not fit (pubsub/pubsub.py:1371). It reads a
    byte at a time (utils/varint.py:179), and begins a task for each copy of a message (pubsub/pubsub.py:586).
    """

    def __init__(self, host: IHost, router: GossipSub, gossip: Gossip) -> None:
        super().__init__(host, router, strict_signing=True, max_subscriptions_per_peer=16)
        self._gossip = gossip

    async def stream_handler(self, stream: INetStream) -> None:
        peer_id = stream.muxed_conn.peer_id
        frames = FrameReader(stream)
        try:
            while (length := await frames.length(None)) is not None:
                if length > self.max_inbound_rpc_size:
                    raise StreamFault(f"a message of {length} bytes")
                await self._take(peer_id, rpc_pb2.RPC.FromString(await frames.body(length)))
        except (StreamFault, StreamError, DecodeError) as failure:
            log.debug("the gossip of %s has ended: %s", peer_id, failure)
            await stream.reset()
            self._handle_dead_peer(peer_id)

    async def _take(self, peer_id: ID, rpc: Any) -> None:
        for number, message in enumerate(rpc.publish):
            if number:  # others have their turn between many
                await trio.lowlevel.checkpoint()
            await self.push_msg(peer_id, message)
        if len(rpc.subscriptions) <= self.max_subscriptions_per_rpc:
            for subscription in rpc.subscriptions:
                self.handle_subscription(peer_id, subscription)
        if rpc.HasField("control"):
            rpc.ClearField("senderRecord")
            await self.router.handle_rpc(rpc, peer_id)

    async def write_msg(self, stream: Any, rpc_msg: Any) -> bool:
        """Past the library's stream, which takes a lock, and so a turn of trio, to look whether it is open: what it
        writes to knows as well."""
        try:
            await stream.muxed_stream.write(encode_varint_prefixed(rpc_msg.SerializeToString()))
        except (MuxedStreamClosed, MuxedStreamReset):
            return False
        return True

    async def push_msg(self, msg_forwarder: ID, msg: Any) -> None:
        if msg_forwarder == self.my_id:
            self._mark_msg_seen(msg)
            await self.router.publish(msg_forwarder, msg)
            return
        if self._is_msg_seen(msg):
            return
        # No await between the look and the mark: of two copies that come together one is handled. A message that is not
        # its publisher's is not marked, or it would keep the true one with that number out.
        authentic, held = self._gossip.judge(str(msg_forwarder), msg)
        if authentic:
            self._mark_msg_seen(msg)
        if held is None or msg.from_id == self.my_id.to_bytes():
            return
        self._gossip.deliver(msg.topicIDs[0], held)
        await self.router.publish(msg_forwarder, msg)
