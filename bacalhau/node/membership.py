"""Who is there: this node's signed record, the records of others, and connections to them.

Every heartbeat the record is gossiped, and goes by gRPC to each known node that was not heard by gossip itself; what
comes back is that node's. A node is live while it was heard from within three heartbeats.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.background import Background
from bacalhau.model.node import NodeRecord
from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.p2p.port import CannotConnect
from bacalhau.rpc.peer_client import CONNECT_TIMEOUT_S, PeerLink, PeerUnreachable
from bacalhau.scheduler.events import PeerHeard
from bacalhau.wire.envelope import Opened, open_message

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from bacalhau.node.driver import Driver
    from bacalhau.node.signer import Signer
    from bacalhau.p2p.port import Network
    from bacalhau.wire.envelope import SignedEnvelope

log = logging.getLogger(__name__)

PEERS_MAX = 1000
HEARTBEATS_UNTIL_LOST = 3
HEARTBEATS_UNTIL_FORGOTTEN = 720
DIAL_S = 6.0
"""Until a node answers at one of its addresses, of which it may name many: each gets its share."""
TUNNEL_TIMEOUT_S = 10.0
"""Until a node answers over libp2p, which has a stream to open first."""
GOSSIPED_HEARTBEATS = 2
"""A node whose record came by gossip within so many heartbeats hears gossip, too."""


@dataclass(slots=True)
class Peer:
    """Another node: its newest record (as it was signed, too), and when it was last heard from."""

    record: NodeRecord
    envelope: SignedEnvelope
    heard_us: int
    found_by: str
    known_us: int
    link: PeerLink | None = None
    tunnelled: bool = False
    """The link goes over a libp2p connection, for no address of the node answered."""
    gossiped_us: int = 0
    """When its record last came by gossip."""


class Membership:
    """See the module. `record` makes this node's record anew with the sequence number that it is given. `network` is
    set once libp2p runs, and stays None where it does not."""

    def __init__(
        self,
        signer: Signer,
        driver: Driver,
        *,
        record: Callable[[int], NodeRecord],
        configured: Iterable[str],
        heartbeat_us: int,
    ) -> None:
        self.node_id = signer.node_id
        self._signer = signer
        self._driver = driver
        self._make_record = record
        self._heartbeat_us = heartbeat_us
        self.network: Network | None = None
        self._configured: dict[str, str | None] = dict.fromkeys(configured)
        """Address -> id of the node that answered there."""
        self._peers: dict[str, Peer] = {}
        self._dialling: dict[str, asyncio.Task[PeerLink]] = {}
        self._background = Background()
        self._under_way: dict[str, asyncio.Task[object]] = {}
        """By node id or configured address: heartbeats, and first words to nodes that were met."""
        self.record = record(driver.clock.now())
        self._envelope = self._seal()

    # --- this node ---

    def own_envelope(self) -> SignedEnvelope:
        return self._envelope

    def refresh(self) -> None:
        """Makes and signs the record anew: at each heartbeat, and when something in it has changed."""
        self.record = self._make_record(self._driver.clock.now())
        self._envelope = self._seal()

    def _seal(self) -> SignedEnvelope:
        return self._signer.seal_message(
            self.record, "", valid_for_us=HEARTBEATS_UNTIL_LOST * self._heartbeat_us
        )

    # --- others ---

    def live(self, peer: Peer) -> bool:
        return self._driver.clock.now() - peer.heard_us <= HEARTBEATS_UNTIL_LOST * self._heartbeat_us

    def peers(self) -> list[Peer]:
        """Every node known but this one, in the order of their ids."""
        return [self._peers[node_id] for node_id in sorted(self._peers)]

    def live_envelopes(self) -> list[SignedEnvelope]:
        return [peer.envelope for peer in self.peers() if self.live(peer)]

    def live_ids(self) -> list[str]:
        return [node_id for node_id in sorted(self._peers) if self.live(self._peers[node_id])]

    def announced(
        self, opened: Opened[NodeRecord], envelope: SignedEnvelope, found_by: str, *, direct: bool = True
    ) -> Peer:
        """Takes a record; an older one than the newest changes nothing. Only one that came from its node itself
        (`direct`) is a sign of life. Raises Refused."""
        record = opened.body
        known = self._peers.get(record.node_id)
        if record.node_id == self.node_id:
            raise refused(RefusalReason.ID_REUSED, "that is this node's own id: two nodes run with one key")
        if known is not None and record.sequence < known.record.sequence:
            return known
        if known is None:
            if len(self._peers) >= PEERS_MAX and not self._drop_one_lost():
                raise refused(
                    RefusalReason.LIMIT_REACHED, f"this node knows {PEERS_MAX} live nodes, its limit"
                )
            log.info("heard of node %s (%s) at %s", record.node_id, found_by, ", ".join(record.addresses))
            known = self._peers[record.node_id] = Peer(
                record, envelope, 0, found_by, self._driver.clock.now()
            )
        if known.link is not None and (
            known.link.certificate_digest != record.certificate_digest
            or (known.record.addresses != record.addresses and known.link.address not in record.addresses)
        ):
            self._drop_link(known)
        known.record, known.envelope = record, envelope
        if self.network is not None:
            self.network.learned(record)
        if not direct:
            return known
        known.heard_us = self._driver.clock.now()
        if record.compute:
            self._driver.tell_requester(PeerHeard(record.node_id))
        return known

    def record_gossiped(self, opened: Opened[NodeRecord], envelope: SignedEnvelope) -> None:
        """A record that came by gossip. It was signed within the last heartbeats, so one that is new is a sign of life;
        gossip repeats others."""
        node_id = opened.sender
        known = self._peers.get(node_id)
        fresh = known is None or opened.body.sequence > known.record.sequence
        try:
            peer = self.announced(opened, envelope, "gossip", direct=fresh)
        except Refused as refusal:
            log.info("a gossiped record of %s: %s", node_id, refusal)
            return
        if fresh:
            peer.gossiped_us = self._driver.clock.now()

    def peer_met(self, node_id: str, found_by: str) -> None:
        """There is a libp2p connection with a peer; if it is a node that is not known yet, it is told of this one. The
        configured ones are told by heartbeats."""
        if node_id not in self._peers and found_by != "configured":
            self._begin(node_id, self._try_to_meet(node_id, found_by))

    async def _try_to_meet(self, node_id: str, found_by: str) -> None:
        try:
            await self._meet(node_id, found_by)
        except PeerUnreachable as failure:  # it need not be a node at all
            log.info("%s was met over libp2p, and does not answer as a node: %s", node_id, failure)

    def hears_gossip(self, node_id: str) -> bool:
        """Whether what is gossiped surely reaches the node, as far as anything does."""
        peer = self._peers.get(node_id)
        recent_us = GOSSIPED_HEARTBEATS * self._heartbeat_us
        return (
            self.network is not None
            and peer is not None
            and peer.gossiped_us > 0
            and self._driver.clock.now() - peer.gossiped_us <= recent_us
        )

    def _drop_one_lost(self) -> bool:
        for node_id, peer in self._peers.items():
            if not self.live(peer):
                self._drop_link(peer)
                del self._peers[node_id]
                return True
        return False

    def _drop_link(self, peer: Peer) -> None:
        if peer.link is not None:
            link, peer.link = peer.link, None
            self._background.start(f"closing the link to {peer.record.node_id}", link.close())

    async def link(self, node_id: str) -> PeerLink:
        """A connection to a known node, whose certificate is the one that its record names. Raises
        PeerUnreachable."""
        peer = self._peers.get(node_id)
        if peer is None:
            raise PeerUnreachable(f"node {node_id} is not known here")
        if peer.link is not None and not await self._tunnel_is_gone(peer):
            return peer.link
        dialling = self._dialling.get(node_id)
        if dialling is None:
            dialling = asyncio.get_running_loop().create_task(self._dial(peer))
            self._dialling[node_id] = dialling
            dialling.add_done_callback(lambda done: self._dialled(node_id, done))
        return await asyncio.shield(dialling)

    def _dialled(self, node_id: str, dialling: asyncio.Task[PeerLink]) -> None:
        del self._dialling[node_id]
        if not dialling.cancelled():
            dialling.exception()  # those who asked may have gone meanwhile

    def when_linked(self, node_id: str, then: Callable[[], None]) -> None:
        """Calls `then` where there is a connection to a known node: at once, or as soon as one is made. Not at all
        where none can be made, or while one is being made for somebody else."""
        peer = self._peers.get(node_id)
        if peer is None:
            return
        if peer.link is not None:
            then()
            return

        async def dial() -> None:
            try:
                await self.link(node_id)
            except PeerUnreachable as failure:
                log.info("%s gossips, and cannot be reached: %s", node_id, failure)
                return
            then()

        self._begin(f"{node_id}, which gossips", dial())

    async def _tunnel_is_gone(self, peer: Peer) -> bool:
        """Whether the link went through a tunnel that libp2p has closed since; then there is no link any more."""
        link = peer.link
        if link is None or not peer.tunnelled:
            return False
        try:
            address = await self._tunnel(peer.record.node_id)
        except PeerUnreachable:
            address = ""
        if address == link.address or peer.link is not link:
            return False
        self._drop_link(peer)
        return True

    async def _tunnel(self, node_id: str) -> str:
        """A local address at which the node is reached over libp2p. Raises PeerUnreachable."""
        if self.network is None:
            raise PeerUnreachable("it can only be reached over libp2p, which does not run here")
        try:
            return await self.network.tunnel(node_id)
        except CannotConnect as failure:
            raise PeerUnreachable(f"and not over libp2p: {failure}") from failure

    async def _dial(self, peer: Peer) -> PeerLink:
        node_id = peer.record.node_id
        if self.network is not None and not self.record.addresses:
            # It could not answer on a connection of its own.
            await self.network.reach(node_id)
        failures: list[str] = []
        addresses = peer.record.addresses
        for address in addresses:
            try:
                link = await PeerLink.open(address, min(CONNECT_TIMEOUT_S, DIAL_S / len(addresses)))
            except PeerUnreachable as failure:
                failures.append(str(failure))
                continue
            if link.certificate_digest == peer.record.certificate_digest:
                return await self._linked(peer, link, tunnelled=False)
            await link.close()
            failures.append(f"{address} has another certificate than {node_id} signed")
        failures = failures or [f"node {node_id} names no address"]
        try:
            link = await PeerLink.open(await self._tunnel(node_id), TUNNEL_TIMEOUT_S)
        except PeerUnreachable as failure:
            raise PeerUnreachable("; ".join((*failures, str(failure)))) from failure
        if link.certificate_digest != peer.record.certificate_digest:
            await link.close()
            raise PeerUnreachable(f"over libp2p answers another certificate than {node_id} signed")
        return await self._linked(peer, link, tunnelled=True)

    async def _linked(self, peer: Peer, link: PeerLink, *, tunnelled: bool) -> PeerLink:
        if self._peers.get(peer.record.node_id) is not peer:
            await link.close()  # nobody else would
            raise PeerUnreachable(f"node {peer.record.node_id} was forgotten while it was dialled")
        if peer.link is not None:
            # It came by an announcement meanwhile, and others may be calling over it.
            self._background.start(f"closing the second link to {peer.record.node_id}", link.close())
            return peer.link
        peer.link, peer.tunnelled = link, tunnelled
        return link

    async def connect(self, address: str) -> Peer:
        """Announces this node at a HOST:PORT or multiaddr, and takes the record of the node there. Raises
        PeerUnreachable."""
        if not address.startswith("/"):
            peer = await self._exchange(address, await PeerLink.open(address), "configured")
            self._configured[address] = peer.record.node_id
            return peer
        if self.network is None:
            raise PeerUnreachable(f"{address} is a multiaddr, and libp2p does not run here")
        try:
            node_id = await self.network.connect(address)
        except CannotConnect as failure:
            raise PeerUnreachable(str(failure)) from failure
        peer = await self._meet(node_id, "configured")
        self._configured[address] = node_id
        return peer

    async def _meet(self, node_id: str, found_by: str) -> Peer:
        """As connect, with a peer that libp2p is connected with."""
        local = await self._tunnel(node_id)
        peer = await self._exchange(node_id, await PeerLink.open(local, TUNNEL_TIMEOUT_S), found_by)
        if peer.link is not None and peer.link.address == local:
            peer.tunnelled = True
            if peer.record.addresses:
                # Straight, where that is possible.
                self._drop_link(peer)
        return peer

    async def _exchange(self, address: str, link: PeerLink, found_by: str) -> Peer:
        """Announces this node over a new link, which becomes the peer's if it has none."""
        try:
            envelope = await link.announce(self._envelope)
            opened = open_message(envelope, NodeRecord, now_us=self._driver.clock.now(), self_id=self.node_id)
            if opened.body.certificate_digest != link.certificate_digest:
                raise PeerUnreachable(f"the node at {address} signed another certificate than it serves")
            peer = self.announced(opened, envelope, found_by)
        except Refused as refusal:
            await link.close()
            raise PeerUnreachable(f"the node at {address} was refused, or refuses: {refusal}") from refusal
        except (PeerUnreachable, asyncio.CancelledError):
            await link.close()
            raise
        if peer.link is None:
            peer.link, peer.tunnelled = link, False
        else:
            await link.close()
        return peer

    # --- heartbeats ---

    async def run(self) -> None:
        """Announces this node until it is cancelled. Each peer has a task of its own: one that hangs must not make
        the others believe that this node is gone."""
        try:
            while True:
                self.refresh()
                if self.network is not None:
                    self.network.publish_record(self._envelope)
                if self.record.compute:
                    self._driver.tell_requester(PeerHeard(self.node_id))
                self._forget_lost()
                for address, node_id in tuple(self._configured.items()):
                    if node_id is None or node_id not in self._peers or not self.live(self._peers[node_id]):
                        self._begin(address, self._announce_at(address))
                for node_id in tuple(self._peers):
                    if not self.hears_gossip(node_id):
                        self._begin(node_id, self._announce_to(node_id))
                await asyncio.sleep(self._heartbeat_us / 1e6)
        finally:
            for task in self._under_way.values():
                task.cancel()

    def _begin(self, to: str, work: Coroutine[None, None, object]) -> None:
        """Starts what speaks to an address or node, unless what was begun for it before is still under way."""
        if to in self._under_way:
            work.close()
            return
        task = self._under_way[to] = self._background.start(f"speaking to {to}", work)
        task.add_done_callback(lambda _: self._under_way.pop(to))

    def _forget_lost(self) -> None:
        """A node that was not heard from for long is forgotten; one that never was, soon."""
        now = self._driver.clock.now()
        for node_id, peer in tuple(self._peers.items()):
            heartbeats = HEARTBEATS_UNTIL_FORGOTTEN if peer.heard_us else HEARTBEATS_UNTIL_LOST
            if now - max(peer.heard_us, peer.known_us) > heartbeats * self._heartbeat_us:
                self._drop_link(peer)
                del self._peers[node_id]

    async def _announce_at(self, address: str) -> None:
        try:
            peer = await self.connect(address)
        except PeerUnreachable as failure:
            log.warning("%s (tried again at each heartbeat)", failure)
            return
        await self._learn_from(peer)

    async def _announce_to(self, node_id: str) -> None:
        peer = self._peers.get(node_id)
        if peer is None:
            return
        try:
            link = await self.link(node_id)
            envelope = await link.announce(self._envelope)
            opened = open_message(envelope, NodeRecord, now_us=self._driver.clock.now(), self_id=self.node_id)
            if opened.sender == node_id:
                self.announced(opened, envelope, peer.found_by)
        except (PeerUnreachable, Refused) as failure:
            log.info("heartbeat to %s: %s", node_id, failure)

    async def _learn_from(self, peer: Peer) -> None:
        """The records that another node knows; each is then spoken to directly at the next heartbeat."""
        if peer.link is None:
            return
        try:
            envelopes = await peer.link.get_peers(PEERS_MAX)
        except (PeerUnreachable, Refused) as failure:
            log.info("peers of %s: %s", peer.record.node_id, failure)
            return
        for envelope in envelopes:
            try:
                opened = open_message(
                    envelope, NodeRecord, now_us=self._driver.clock.now(), self_id=self.node_id
                )
                if opened.sender != self.node_id:
                    new = opened.sender not in self._peers
                    self.announced(opened, envelope, "peer", direct=False)
                    if new:
                        self._begin(opened.sender, self._announce_to(opened.sender))
            except Refused as refusal:
                log.info("a record that %s passed on: %s", peer.record.node_id, refusal)

    async def close(self) -> None:
        for task in (*self._dialling.values(), *self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._dialling.values(), return_exceptions=True)
        await self._background.ended()
        for peer in self._peers.values():
            if peer.link is not None:
                await peer.link.close()
