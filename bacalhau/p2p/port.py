"""What the node and the network of strangers know of each other. Imports no libp2p, so that the node always can.

`Network` is what the node calls, `Listener` what it is told by; both live on the asyncio loop.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bacalhau.ipfs.fetch import BlockExchange
    from bacalhau.model.cid import Cid
    from bacalhau.model.market import JobOffer
    from bacalhau.model.node import NodeRecord
    from bacalhau.p2p.bitswap.counters import Counters
    from bacalhau.wire.envelope import Opened, SignedEnvelope


class CannotListen(Exception):
    """A listen address is taken, is not this machine's, or is no TCP multiaddr."""


class CannotConnect(Exception):
    """Nobody answered, or another than who was meant; the message says what happened."""


@dataclass(slots=True)
class Counts:
    """What the network did since the node started; only added to."""

    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By topic ("records", "offers") and reason ("forged", "malformed", "oversized", "expired", "frequent", "banned"):
    messages that were not passed on."""
    accepted: Counter[str] = field(default_factory=Counter)
    """By topic: messages of others that were passed on."""
    published: Counter[str] = field(default_factory=Counter)
    """By topic: messages of this node."""
    bans: int = 0
    """How often a peer was cut off."""
    restarts: int = 0
    """How often libp2p had crashed and was started anew."""


class Listener(Protocol):
    """The node's side."""

    def record_gossiped(self, opened: Opened[NodeRecord], envelope: SignedEnvelope) -> None: ...
    def offers_gossiped(self, offers: Sequence[Opened[JobOffer]]) -> None:
        """One or more, all of one node."""

    def peer_met(self, node_id: str, found_by: str) -> None:
        """There is a connection with a peer, whoever began it; it need not be a node."""


class Network(Protocol):
    """The libp2p side. What is published may be lost, and may come more than once."""

    counts: Counts
    exchange: BlockExchange
    """Blocks of every peer that is connected, and of those that are found to have them."""
    exchanged: Counters
    addresses: tuple[str, ...]
    """Where it listens: multiaddrs without the peer id; empty while it is down."""

    async def connect(self, address: str) -> str:
        """Connects to a multiaddr that ends on /p2p/ID, and keeps that connection up; the id. Raises CannotConnect."""

    async def tunnel(self, node_id: str) -> str:
        """A HOST:PORT of this machine where the peer API of a node answers that it is connected with, or can be. Raises
        CannotConnect."""

    async def reach(self, node_id: str) -> None:
        """Connects to a node that it knows how to dial, if it is not connected; as far as that can be done."""

    def publish_record(self, envelope: SignedEnvelope) -> None:
        """This node's record, to all; never waits."""

    def publish_offers(self, offers: Sequence[SignedEnvelope]) -> None:
        """Offers of this node, to all; never waits."""

    def learned(self, record: NodeRecord) -> None:
        """Where another node can be dialled, so that this one has neighbours when others die."""

    def provide(self, cid: Cid) -> None:
        """This node has the content, and says so to whoever asked for it and to the DHT; never waits."""

    def provide_again(self, cids: Sequence[Cid]) -> None:
        """This node still has all of this content, and says so to the DHT, one after another; never waits."""

    async def stop(self) -> None: ...
