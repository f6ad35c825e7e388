"""One connected peer: what it wants, what it is asked for, and the stream on which it is told both.

Owns the outgoing stream. Answers go there, and not on the stream that the wants came by, which neither Kubo nor Helia
reads: the client of py-libp2p answers there (libp2p 0.8.1 bitswap/client.py:831), sends an empty prefix for CIDs of
version 0 (bitswap/cid.py:122), and stores blocks that nobody asked for (bitswap/client.py:1030).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio
from libp2p.custom_types import TProtocol

from bacalhau.p2p.bitswap.answers import ANSWER_WANTS, Answer, answer, answer_at_once
from bacalhau.p2p.bitswap.messages import PROTOCOLS, V1_2_0, Message, Want, encode
from bacalhau.p2p.bitswap.wantlist import WANTS_MAX, WantList
from bacalhau.p2p.frames import StreamFault, write_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from libp2p.abc import IHost, INetStream
    from libp2p.peer.id import ID

    from bacalhau.ipfs.blockstore import ServedStore
    from bacalhau.model.cid import Cid
    from bacalhau.p2p.bitswap.counters import Counters

log = logging.getLogger(__name__)

_OPEN_SECONDS: Final = 10.0
_ATTEMPTS: Final = 3
_ENTRIES_MAX: Final = 512
# What a peer may ask for: a second's worth, and how much of it may come at once.
_WANTS_PER_SECOND: Final = 5000
_WANTS_AT_ONCE: Final = 20_000
_ENTRY_BYTES: Final = 40
_LISTEN_SECONDS: Final = 60.0
# So long nothing is looked for in memory after something was not there: what follows will not be, either.
_ON_DISK_SECONDS: Final = 0.1


class PeerGone(Exception):
    """Nothing can be sent to the peer any more."""


class Peer:
    """See the module. `run` sends until it raises PeerGone; the rest are its exchange's calls."""

    def __init__(
        self,
        host: IHost,
        peer_id: ID,
        store: ServedStore,
        may_serve: Callable[[Cid], bool],
        counters: Counters,
        reading: trio.CapacityLimiter,
    ) -> None:
        self.name = str(peer_id)
        self.wants = WantList()
        self.streams = 0
        """Incoming ones."""
        self.receiving = trio.CapacityLimiter(4)
        """Messages of it that are being read."""
        self.strikes = 0
        """Blocks from it that nobody had asked for."""
        self._host = host
        self._id = peer_id
        self._store = store
        self._may_serve = may_serve
        self._counters = counters
        self._reading = reading
        self._asked: dict[Cid, Want] = {}
        self._asked_until = 0.0
        self._news: dict[Cid, Want] = {}
        self._stream: INetStream | None = None
        self._was_open = False
        self._work = trio.Event()
        self._waiting_to_read = trio.lowlevel.ParkingLot()
        """Messages that come while the list of wants is full."""
        self._credit = float(_WANTS_AT_ONCE)
        self._credit_at = trio.current_time()
        self._on_disk_until = 0.0
        self._scope = trio.CancelScope()

    # --- what this node wants from it ---

    @property
    def room(self) -> int:
        """How many wants it can be told more."""
        return WANTS_MAX - len(self._asked)

    @property
    def is_asked(self) -> bool:
        """Blocks may come from it."""
        return bool(self._asked) or trio.current_time() < self._asked_until

    def tell(self, wants: Iterable[Want]) -> None:
        """Have the peer told what this node wants now, or wants no more."""
        for want in wants:
            known = self._asked.get(want.cid)
            if want.cancel:
                if known is None:
                    continue
                del self._asked[want.cid]
                unsent = self._news.pop(want.cid, None)
                if unsent is None or unsent.cancel:
                    self._news[want.cid] = want
            elif known is None or (known.have and not want.have):
                self._asked[want.cid] = self._news[want.cid] = want
        self._asked_until = trio.current_time() + _LISTEN_SECONDS
        self._work.set()

    def heard_answer(self, cid: Cid) -> None:
        """It has sent the block, or said what it was asked about it."""
        self._asked.pop(cid, None)

    def heard_presence(self, cid: Cid, *, is_there: bool) -> None:
        """It has said whether it has a block: a want for the block itself stays open if it has."""
        known = self._asked.get(cid)
        if known is not None and (known.have or not is_there):
            del self._asked[cid]

    # --- what it wants from this node ---

    async def heard(self, message: Message) -> None:
        """Take in its wants; return when more of them may be read."""
        self.wants.update(message)
        self._work.set()
        self._counters.unread_want_bytes += message.unread_bytes
        now = trio.current_time()
        self._credit = min(self._credit + (now - self._credit_at) * _WANTS_PER_SECOND, _WANTS_AT_ONCE)
        self._credit_at = now
        self._credit -= len(message.wants) + message.unread_bytes // _ENTRY_BYTES
        if self._credit < 0:
            await trio.sleep(-self._credit / _WANTS_PER_SECOND)
        while self.wants.is_full and not self._scope.cancel_called:
            await self._waiting_to_read.park()

    def came(self, cids: Iterable[Cid]) -> None:
        """Blocks are here now."""
        if self.wants.came(cids):
            self._work.set()

    # --- sending ---

    async def run(self) -> None:
        """Tell the peer what there is to tell, one message after the other, until stopped. Raises a group of what
        went wrong, PeerGone among it where nothing can be sent."""
        found = Answer()
        with self._scope:
            while True:
                if not (self._news or self.wants or found):
                    await self._work.wait()
                    self._work = trio.Event()
                if self.wants and not found and trio.current_time() >= self._on_disk_until:
                    found = self._answer_at_once()
                if self.wants and (not found or trio.current_time() < self._on_disk_until):
                    # The next answer is read from the disk while this one is on its way.
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._send, self._take_news(), found)
                        found = await self._next_answer()
                else:
                    await self._send(self._take_news(), found)
                    found = Answer()
                self._waiting_to_read.unpark_all()

    def stop(self) -> None:
        """End `run`."""
        self._scope.cancel()
        self._waiting_to_read.unpark_all()

    async def disconnect(self) -> None:
        """Close the connection to it, which ends all of its streams."""
        await self._host.disconnect(self._id)

    def _answer_at_once(self) -> Answer:
        found = answer_at_once(self._store, self.wants.take(ANSWER_WANTS), self._may_serve)
        if found.is_on_disk:
            self._on_disk_until = trio.current_time() + _ON_DISK_SECONDS
        return self._put_back(found)

    async def _next_answer(self) -> Answer:
        found: Answer = await trio.to_thread.run_sync(
            answer, self._store, self.wants.take(ANSWER_WANTS), self._may_serve, limiter=self._reading
        )
        return self._put_back(found)

    def _put_back(self, found: Answer) -> Answer:
        self.wants.put_back(found.left)
        self.wants.keep_unmet(found.unmet)
        return found

    def _take_news(self) -> list[Want]:
        news = list(self._news.values())[:_ENTRIES_MAX]
        for want in news:
            del self._news[want.cid]
        return news

    async def _send(self, news: list[Want], found: Answer) -> None:
        if not (news or found):
            return
        failure: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                stream, is_new = await self._open()
                if is_new and self._was_open:
                    # Nobody knows what arrived of what went before.
                    news = list(self._asked.values())
                    self._news.clear()
                message = Message(news, is_new and self._was_open, found.blocks, found.presences)
                self._was_open = True
                await write_frame(stream, encode(message, str(stream.get_protocol() or V1_2_0)))
            except StreamFault as fault:
                # What was half written cannot be taken back: the connection is of no more use to anybody.
                await self.disconnect()
                raise PeerGone(str(fault)) from fault
            except Exception as error:
                # libp2p raises what it likes when a stream or its connection breaks.
                failure = error
                await self._reset()
                continue
            self._counters.blocks_sent += len(found.blocks)
            self._counters.bytes_sent += found.block_bytes
            return
        raise PeerGone(f"nothing can be sent: {failure!r}") from failure

    async def _open(self) -> tuple[INetStream, bool]:
        if self._stream is not None:
            return self._stream, False
        with trio.fail_after(_OPEN_SECONDS):
            self._stream = await self._host.new_stream(self._id, [TProtocol(name) for name in PROTOCOLS])
        return self._stream, True

    async def _reset(self) -> None:
        """Let go of the stream."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.reset()
