"""Yamux, the stream multiplexer: many streams over one secured connection, each with a window that is enforced.

In place of py-libp2p's own (libp2p 0.8.1 stream_muxer/yamux/yamux.py), which takes what exceeds a stream's window and
only logs it (:1433), so that one peer can fill the memory; waits for a window by looking every 10 ms and breaks the
stream after five seconds (:246); tells of a window at every read (:410), five messages for each block of Kubo's; and
has one slow taker of new streams hold up all that there are (:1380). Ready to go when those are fixed.

Source: https://github.com/hashicorp/yamux/blob/master/spec.md
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, Final

import trio
from libp2p.abc import IMuxedConn
from libp2p.custom_types import TProtocol
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamReset
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as _PROTOCOL_ID

from bacalhau.p2p.secured import channel_of
from bacalhau.p2p.yamux_stream import (
    ACK,
    DATA,
    FIN,
    FIRST_WINDOW_BYTES,
    GO_AWAY,
    HEADER,
    HEADER_BYTES,
    PING,
    RST,
    SYN,
    WINDOW_BYTES,
    WINDOW_UPDATE,
    YamuxStream,
)

if TYPE_CHECKING:
    from libp2p.abc import ISecureConn
    from libp2p.connection_types import ConnectionType
    from libp2p.peer.id import ID

log = logging.getLogger(__name__)

PROTOCOL_ID: Final = TProtocol(_PROTOCOL_ID)
_UNREAD_MAX_BYTES: Final = 16 * 1024 * 1024
"""Above this, nothing more is taken from the connection until something was read."""
_STREAMS_MAX: Final = 256
"""Open streams that the peer has begun."""
_UNSENT_MAX_BYTES: Final = 128 * 1024
"""Above this, whoever has data to send waits; what answers the peer may take as much again."""
_WRITE_NOW_BYTES: Final = 128 * 1024
"""So much is worth a system call of its own, in the task that has it; less is gathered."""
_GATHER_SECONDS: Final = 0.001
"""A frame that nobody waits for leaves with the next that somebody does, or after this."""
_PING_SECONDS: Final = 30.0
_PONG_SECONDS: Final = 30.0
_GOODBYE_SECONDS: Final = 1.0


class _Misbehaved(Exception):
    """The peer breaks the protocol: the connection is closed."""


class Yamux(IMuxedConn):
    """One connection. `start` reads it until it is closed."""

    def __init__(self, secured_conn: ISecureConn, peer_id: ID) -> None:
        self.secured_conn = secured_conn
        self.peer_id = peer_id
        self.event_started = trio.Event()
        self.event_closed = trio.Event()
        self.on_close: Any = None
        """Called once the connection is closed: py-libp2p's connection sets it."""
        self._channel = channel_of(secured_conn)
        self._is_initiator = bool(secured_conn.is_initiator)
        self._next_id = 1 if self._is_initiator else 2
        self._streams: dict[int, YamuxStream] = {}
        self._new_sender, self._new = trio.open_memory_channel[YamuxStream](_STREAMS_MAX)
        self._unsent: list[bytes] = []
        self.unsent_bytes = 0
        """Frames that wait to be written."""
        self._is_urgent = False
        self._has_unsent = trio.Event()
        self._urged = trio.Event()
        self._took_unsent = trio.Event()
        self._sent_all = trio.Event()
        self._input = memoryview(b"")
        self._unread_bytes = 0
        self._has_room = trio.Event()
        self._ponged = trio.Event()

    # --- what py-libp2p asks of a muxer ---

    @property
    def is_initiator(self) -> bool:
        return self._is_initiator

    @property
    def is_established(self) -> bool:
        return bool(self.event_started.is_set()) and not self.is_closed

    @property
    def is_closed(self) -> bool:
        return bool(self.event_closed.is_set())

    def get_transport_addresses(self) -> list[Any]:
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        kind: ConnectionType = self.secured_conn.get_connection_type()
        return kind

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.secured_conn.get_remote_address()

    async def start(self) -> None:
        """Read the connection until it ends."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_alive)
                nursery.start_soon(self._write_frames)
                self.event_started.set()
                await self._read_frames()
                nursery.cancel_scope.cancel()
        except* _Misbehaved as group:
            log.info("%s breaks the protocol of its connection: %s", self.peer_id, group.exceptions[0])
        except* Exception as group:
            # Whatever the transport raises where a connection ends: it has ended.
            log.debug("the connection with %s has ended: %r", self.peer_id, group.exceptions[0])
        finally:
            with trio.CancelScope(shield=True):
                await self._shut()

    async def close(self) -> None:
        """Say goodbye and close the connection, with all streams on it."""
        if self.event_closed.is_set():
            return
        with trio.move_on_after(_GOODBYE_SECONDS):
            await self.send(GO_AWAY, 0, 0, 0)
            await self._sent_all.wait()
        await self._shut()

    async def open_stream(self) -> YamuxStream:
        """A new stream. Raises MuxedConnUnavailable."""
        if self.event_closed.is_set():
            raise MuxedConnUnavailable("the connection is closed")
        stream = self._streams[self._next_id] = YamuxStream(self._next_id, self)
        self._next_id += 2
        await self.send(WINDOW_UPDATE, SYN, stream.stream_id, WINDOW_BYTES - FIRST_WINDOW_BYTES)
        return stream

    async def accept_stream(self) -> YamuxStream:
        """The next stream that the peer begins. Raises MuxedConnUnavailable at the end of the connection."""
        try:
            stream: YamuxStream = await self._new.receive()
            return stream
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            raise MuxedConnUnavailable("the connection is closed") from error

    # --- for streams ---

    async def send(self, kind: int, flags: int, stream_id: int, length: int, data: Any = b"") -> None:
        """Have one frame written, after those before it; waits while too much is unsent. Raises MuxedStreamReset where
        the connection has ended, or ends meanwhile."""
        limit = _UNSENT_MAX_BYTES if data else 2 * _UNSENT_MAX_BYTES
        while self.unsent_bytes >= limit and not self.event_closed.is_set():
            await self._took_unsent.wait()
        if self.event_closed.is_set():
            raise MuxedStreamReset("the connection is closed")
        frame = HEADER.pack(0, kind, flags, stream_id, length) + data
        self._unsent.append(frame)
        self.unsent_bytes += len(frame)
        if self.unsent_bytes >= _WRITE_NOW_BYTES and not self._channel.is_behind:
            self._begin_writing()
        self._has_unsent.set()
        if kind != WINDOW_UPDATE or flags & RST:
            self._is_urgent = True
            self._urged.set()

    def was_read(self, size: int) -> None:
        """Bytes of a stream were read, and make room for others."""
        self._unread_bytes -= size
        if self._unread_bytes < _UNREAD_MAX_BYTES:
            self._has_room.set()

    def forget_if_done(self, stream: YamuxStream) -> None:
        """A stream that is over in both directions need not be known any more."""
        if stream.is_read_closed and stream.is_write_closed and stream.stream_id in self._streams:
            del self._streams[stream.stream_id]
            stream.detach()

    # --- what goes ---

    async def _write_frames(self) -> None:
        """Write what there is to send, each time all of it: a message of noise and a system call for each frame cost
        far more than the frames of Kubo's many short streams. Only the end of the connection cancels this, for a
        message that is cut off makes all that follow it unreadable."""
        while True:
            if self._channel.is_behind:
                await self._channel.finish()
            elif not self._unsent:
                self._sent_all.set()
                self._sent_all = trio.Event()
                self._has_unsent = trio.Event()
                await self._has_unsent.wait()
            elif self._is_urgent:
                self._begin_writing()
            else:
                self._urged = trio.Event()
                with trio.move_on_after(_GATHER_SECONDS):
                    await self._urged.wait()
                self._is_urgent = True

    def _begin_writing(self) -> None:
        """Give the channel all that is unsent; it must not be behind."""
        frames, self._unsent, self.unsent_bytes, self._is_urgent = self._unsent, [], 0, False
        self._took_unsent.set()
        self._took_unsent = trio.Event()
        self._channel.begin(frames)

    # --- what comes ---

    async def _read_frames(self) -> None:
        while True:
            version, kind, flags, stream_id, length = HEADER.unpack(await self._exactly(HEADER_BYTES))
            if version != 0:
                raise _Misbehaved(f"the version of a frame is {version}")
            if kind in (DATA, WINDOW_UPDATE):
                await self._read_stream_frame(kind, flags, stream_id, length)
            elif kind == PING:
                if flags & SYN:
                    await self.send(PING, ACK, 0, length)
                else:
                    self._ponged.set()
            elif kind == GO_AWAY:
                return
            else:
                raise _Misbehaved(f"the kind of a frame is {kind}")

    async def _read_stream_frame(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        stream = self._streams.get(stream_id)
        if flags & SYN:
            if stream is not None or (stream_id % 2 == 1) == self._is_initiator:
                raise _Misbehaved(f"it begins stream {stream_id} a second time, or in our stead")
            stream = await self._begin(stream_id)
        if kind == WINDOW_UPDATE:
            if stream is not None:
                stream.credit(length)
        else:
            await self._read_data(stream, length)
        if stream is not None and flags & RST:
            stream.end()
        elif stream is not None and flags & FIN:
            stream.finish()

    async def _begin(self, stream_id: int) -> YamuxStream | None:
        theirs = sum(1 for known in self._streams if known % 2 == stream_id % 2)
        stream = YamuxStream(stream_id, self)
        try:
            if theirs >= _STREAMS_MAX:
                raise trio.WouldBlock
            self._new_sender.send_nowait(stream)
        except trio.WouldBlock:
            await self.send(WINDOW_UPDATE, RST, stream_id, 0)
            return None
        self._streams[stream_id] = stream
        await self.send(WINDOW_UPDATE, ACK, stream_id, WINDOW_BYTES - FIRST_WINDOW_BYTES)
        return stream

    async def _read_data(self, stream: YamuxStream | None, length: int) -> None:
        if stream is not None and length > stream.granted_bytes:
            raise _Misbehaved(f"it sends {length} bytes on a stream where it may send {stream.granted_bytes}")
        # What comes for a stream that is over is on its way since before: read past.
        if length > WINDOW_BYTES:
            raise _Misbehaved(f"a frame of {length} bytes")
        while length:
            part = await self._some(length)
            length -= len(part)
            if stream is not None and not stream.is_read_closed:
                self._unread_bytes += len(part)
                stream.take(part)
        while self._unread_bytes >= _UNREAD_MAX_BYTES:
            self._has_room = trio.Event()
            for known in self._streams.values():
                known.hurry()
            await self._has_room.wait()

    async def _some(self, size: int) -> memoryview:
        """Between 1 and `size` of the bytes that come next."""
        if not self._input:
            self._input = memoryview(await self._channel.read())
            if not self._input:
                raise EOFError
        part, self._input = self._input[:size], self._input[size:]
        return part

    async def _exactly(self, size: int) -> bytes | memoryview:
        part = await self._some(size)
        if len(part) == size:
            return part
        whole = bytearray(part)
        while len(whole) < size:
            whole += await self._some(size - len(whole))
        return bytes(whole)

    # --- its life ---

    async def _keep_alive(self) -> None:
        """End a connection whose other side has gone without a word."""
        nonce = 0
        while True:
            await trio.sleep(_PING_SECONDS)
            self._ponged = trio.Event()
            nonce += 1
            with trio.fail_after(_PONG_SECONDS):
                await self.send(PING, SYN, 0, nonce)
                await self._ponged.wait()

    async def _shut(self) -> None:
        if self.event_closed.is_set():
            return
        self.event_closed.set()
        self._took_unsent.set()
        self._sent_all.set()
        self._new_sender.close()
        for stream in list(self._streams.values()):
            stream.end()
        try:
            await self.secured_conn.close()
        except Exception as error:
            # It is gone, one way or the other.
            log.debug("closing the connection with %s: %r", self.peer_id, error)
        if self.on_close is not None:
            closed = self.on_close()
            if inspect.isawaitable(closed):
                await closed


class Muxers(MuxerMultistream):
    """Makes connections of this module: py-libp2p has the name of its own written into the code
    (libp2p 0.8.1 stream_muxer/muxer_multistream.py:143)."""

    def __init__(self) -> None:
        super().__init__({PROTOCOL_ID: Yamux})

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        return self._annotate_connection(Yamux(conn, peer_id), conn, protocol)
