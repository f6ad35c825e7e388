"""The exchange: Bitswap of one host, with every peer that is connected to it.

Owns the incoming streams, the peers and sessions, and what happens to a block that comes: one that no session wants is
dropped and counted, never stored. In trio; `source` is its face for asyncio.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

import trio
from libp2p.custom_types import TProtocol

from bacalhau.ipfs.dagpb import MAX_BLOCK_BYTES
from bacalhau.model.cid import Cid, InvalidCid, UnsupportedHash
from bacalhau.p2p.bitswap.counters import Counters
from bacalhau.p2p.bitswap.messages import MAX_MESSAGE_BYTES, PROTOCOLS, InvalidMessage, decode
from bacalhau.p2p.bitswap.peer import Peer, PeerGone
from bacalhau.p2p.bitswap.session import Session
from bacalhau.p2p.frames import FrameReader, StreamFault
from bacalhau.p2p.host import PeerWatch, dial
from bacalhau.p2p.port import CannotConnect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from libp2p.abc import IHost, INetStream
    from libp2p.peer.id import ID

    from bacalhau.ipfs.blockstore import ServedStore
    from bacalhau.p2p.bitswap.messages import Message, Want

log = logging.getLogger(__name__)

_STREAMS_MAX: Final = 32
"""Incoming streams of one peer at once: Kubo opens one for each message, eight at a time."""
_STRANGER_MESSAGE_BYTES: Final = 512 * 1024
"""The longest message of a peer that is asked for nothing, and so sends only wants."""
_IDLE_SECONDS: Final = 600.0
_STRIKES_MAX: Final = 64
_BANNED_MAX: Final = 1024
_WANTED_LATELY_MAX: Final = 8192
_READERS: Final = 4
_LOOKUP_SECONDS: Final = 10.0
_DIALS_MAX: Final = 4


class Provider(Protocol):
    """Who says that it has a block, and the multiaddrs to dial for it: none where there is a connection."""

    @property
    def node_id(self) -> str: ...
    @property
    def addresses(self) -> Sequence[str]: ...


class Routing(Protocol):
    """Who has what, beyond the connected peers: the DHT."""

    async def find_providers(self, cid: Cid) -> Sequence[Provider]:
        """Peers that say that they have the block."""


def everything(_: Cid) -> bool:
    """What is served where nothing is held back."""
    return True


class Bitswap:
    """See the module. A service of the host: `run` is called for each of its lives. `may_serve` may deny blocks that
    are in the store, and is called from threads."""

    def __init__(
        self,
        store: ServedStore,
        *,
        may_serve: Callable[[Cid], bool] = everything,
        routing: Routing | None = None,
    ) -> None:
        self.counters = Counters()
        self._store = store
        self._may_serve = may_serve
        self._routing = routing
        self._live: tuple[IHost, trio.Nursery] | None = None
        self._reading = trio.CapacityLimiter(_READERS)
        self._connected: dict[str, ID] = {}
        self._peers: dict[str, Peer] = {}
        self._deaf: set[str] = set()
        """Connected peers that do not speak Bitswap, or cannot be told anything."""
        self._banned: OrderedDict[str, None] = OrderedDict()
        self._sessions: set[Session] = set()
        self._interested: dict[bytes, set[Session]] = {}
        self._wanted_lately: OrderedDict[bytes, None] = OrderedDict()
        """Blocks that were wanted a moment ago: they may still come from who was asked, too."""

    async def run(
        self, host: IHost, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve and fetch on a host that runs, until cancelled."""
        watch = PeerWatch(self.joined, lambda peer_id: self.left(str(peer_id)))
        async with trio.open_nursery() as nursery:
            self._live = host, nursery
            try:
                for protocol in PROTOCOLS:
                    host.set_stream_handler(TProtocol(protocol), self._handle)
                host.get_network().register_notifee(watch)
                for peer_id in host.get_connected_peers():
                    self.joined(peer_id)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._live = None
                self._sessions.clear()
                self._interested.clear()
                for name in list(self._connected):
                    self.left(name)

    # --- for callers ---

    def session(self) -> Session:
        """A new session; its caller closes it, or the host's life ends."""
        session = Session(self)
        self._sessions.add(session)
        assert self._live is not None, "the host does not run"
        self._live[1].start_soon(session.run)
        return session

    def announce(self, cids: Iterable[Cid]) -> None:
        """Blocks are here that were not: whoever wanted them is answered."""
        came = list(cids)
        for peer in self._peers.values():
            peer.came(came)

    def wanted_by(self, name: str) -> list[Cid]:
        """What a peer wants that is not here."""
        peer = self._peers.get(name)
        return [] if peer is None else peer.wants.unmet

    # --- for sessions ---

    def peers(self) -> list[str]:
        """Connected peers that can be asked, in the order of their coming."""
        return [name for name in self._connected if self._can_be_asked(name)]

    def _can_be_asked(self, name: str) -> bool:
        return name in self._connected and name not in self._deaf and name not in self._banned

    def room(self, name: str) -> int:
        """How many blocks the peer can be asked for more."""
        return self._peer(self._connected[name]).room if self._can_be_asked(name) else 0

    def tell(self, name: str, wants: Iterable[Want]) -> None:
        """Tell a peer what is wanted; what another session wants is not taken back."""
        kept = [want for want in wants if not (want.cancel and want.cid.multihash in self._interested)]
        if kept and self._can_be_asked(name):
            self._peer(self._connected[name]).tell(kept)

    def interested(self, session: Session, keys: Iterable[bytes]) -> None:
        """The session wants these blocks."""
        for key in keys:
            self._interested.setdefault(key, set()).add(session)

    def forget(self, session: Session, keys: Iterable[bytes]) -> None:
        """The session has ended, and wants these blocks no more."""
        self._sessions.discard(session)
        for key in keys:
            self._wants_no_more(key, session)

    def start_lookup(self, session: Session, cid: Cid) -> None:
        """Ask the routing who has a block, and connect to them."""
        if self._live is None or self._routing is None:
            session.looked_up()
        else:
            host, nursery = self._live
            nursery.start_soon(self._look_up, session, cid, self._routing, host)

    async def _look_up(self, session: Session, cid: Cid, routing: Routing, host: IHost) -> None:
        try:
            with trio.move_on_after(_LOOKUP_SECONDS):
                async with trio.open_nursery() as nursery:
                    for provider in await routing.find_providers(cid):
                        nursery.start_soon(self._join, session, provider, host)
        except Exception:
            # The routing is libp2p's: whatever it raises, the session goes on with the peers that it has.
            log.info("looking up %s", cid, exc_info=True)
        finally:
            session.looked_up()

    async def _join(self, session: Session, provider: Provider, host: IHost) -> None:
        if provider.node_id in self._connected:
            session.joined(provider.node_id)
            return
        for address in provider.addresses[:_DIALS_MAX]:
            try:
                # The session is told when the connection is there.
                await dial(host, f"{address.partition('/p2p/')[0]}/p2p/{provider.node_id}")
            except CannotConnect as failure:
                log.info("a provider of blocks cannot be reached: %s", failure)
            else:
                return

    # --- peers ---

    def joined(self, peer_id: ID) -> None:
        """A peer is connected now."""
        name = str(peer_id)
        self._connected[name] = peer_id
        if self._can_be_asked(name):
            for session in list(self._sessions):
                session.joined(name)

    def left(self, name: str, reason: str = "disconnected") -> None:
        """A peer's last connection has ended."""
        self._connected.pop(name, None)
        self._deaf.discard(name)
        self._drop(name, reason)

    def _peer(self, peer_id: ID) -> Peer:
        name = str(peer_id)
        peer = self._peers.get(name)
        if peer is None:
            assert self._live is not None, "nobody is connected to a host that does not run"
            host, nursery = self._live
            peer = Peer(host, peer_id, self._store, self._may_serve, self.counters, self._reading)
            self._peers[name] = peer
            nursery.start_soon(self._run_peer, peer)
        return peer

    async def _run_peer(self, peer: Peer) -> None:
        reason = "failed"
        try:
            await peer.run()
        except* PeerGone as group:
            reason = str(group.exceptions[0])
            log.info("nothing is sent to %s any more: %s", peer.name, reason)
        except* Exception:
            # One peer's failure, whatever it is (the store's disk, libp2p), must not end the exchange.
            log.exception("sending to %s failed", peer.name)
        if self._peers.get(peer.name) is peer:
            self._deaf.add(peer.name)
            self._drop(peer.name, reason)

    def _drop(self, name: str, reason: str) -> None:
        peer = self._peers.pop(name, None)
        if peer is not None:
            peer.stop()
        for session in list(self._sessions):
            session.left(name, reason)

    async def _ban(self, peer: Peer, reason: str) -> None:
        log.warning("%s is not listened to any more: %s", peer.name, reason)
        self.counters.dropped_peers += 1
        self._banned[peer.name] = None
        if len(self._banned) > _BANNED_MAX:
            self._banned.popitem(last=False)
        self._drop(peer.name, reason)
        await peer.disconnect()

    # --- what comes ---

    async def _handle(self, stream: INetStream) -> None:
        peer_id = stream.muxed_conn.peer_id
        name = str(peer_id)
        # A stream can be faster than the news of its connection.
        if (
            self._live
            and name not in self._connected
            and self._live[0].get_network().get_connections(peer_id)
        ):
            self.joined(peer_id)
        is_welcome = self._live is not None and name in self._connected and name not in self._banned
        peer = self._peer(peer_id) if is_welcome else None
        if peer is None or peer.streams >= _STREAMS_MAX:
            self.counters.refused_streams += 1
            await stream.reset()
            return
        peer.streams += 1
        try:
            await self._read(FrameReader(stream), peer)
        except (StreamFault, InvalidMessage) as fault:
            self.counters.faulty_streams += 1
            log.info("a stream of %s: %s", name, fault)
            await stream.reset()
        except Exception as error:
            # libp2p raises what it likes when a stream or its connection breaks: the peer will open another.
            log.debug("a stream of %s broke: %r", name, error)
        else:
            await stream.close()
        finally:
            peer.streams -= 1

    async def _read(self, reader: FrameReader, peer: Peer) -> None:
        while (length := await reader.length(_IDLE_SECONDS)) is not None:
            limit = MAX_MESSAGE_BYTES if peer.is_asked else _STRANGER_MESSAGE_BYTES
            if length > limit:
                raise StreamFault(f"a message of {length} bytes is above the limit of {limit}")
            async with peer.receiving:
                message = decode(await reader.body(length))
                await self._receive(peer, message)

    async def _receive(self, peer: Peer, message: Message) -> None:
        touched: dict[Session, None] = {}
        for prefix, block in message.blocks:
            await self._receive_block(peer, prefix, block, touched)
        for cid, is_there in message.presences:
            peer.heard_presence(cid, is_there=is_there)
            for session in self._sessions:
                session.says(peer.name, cid.multihash, is_there=is_there)
        for session in list(self._sessions) if message.presences else touched:
            session.step()
        for session in touched:
            await session.room()
        if message.wants or message.full or message.unread_bytes:
            await peer.heard(message)

    async def _receive_block(
        self, peer: Peer, prefix: bytes, block: bytes, touched: dict[Session, None]
    ) -> None:
        try:
            key = Cid.from_prefix(prefix, block).multihash if len(block) <= MAX_BLOCK_BYTES else b""
        except (InvalidCid, UnsupportedHash):
            key = b""
        sessions = self._interested.get(key)
        if not sessions:
            if key in self._wanted_lately:
                self.counters.duplicate_blocks += 1
                return
            self.counters.unsolicited_blocks += 1
            peer.strikes += 1
            if peer.strikes > _STRIKES_MAX:
                await self._ban(peer, "it sends blocks that nobody asked for")
                raise StreamFault("too many blocks that nobody asked for")
            return
        self.counters.blocks_received += 1
        self.counters.bytes_received += len(block)
        for session in list(sessions):
            for cid in session.came(peer.name, key, block):
                peer.heard_answer(cid)
            self._wants_no_more(key, session)
            touched[session] = None

    def _wants_no_more(self, key: bytes, session: Session) -> None:
        sessions = self._interested.get(key)
        if sessions is not None:
            sessions.discard(session)
            if not sessions:
                del self._interested[key]
        self._wanted_lately[key] = None
        if len(self._wanted_lately) > _WANTED_LATELY_MAX:
            self._wanted_lately.popitem(last=False)
