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
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import trio
from libp2p.abc import IMuxedConn, IMuxedStream
from libp2p.custom_types import TProtocol
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamReset,
)
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as _PROTOCOL_ID

from bacalhau.p2p.secured import channel_of

if TYPE_CHECKING:
    from types import TracebackType

    from libp2p.abc import ISecureConn
    from libp2p.connection_types import ConnectionType
    from libp2p.peer.id import ID

log = logging.getLogger(__name__)

PROTOCOL_ID: Final = TProtocol(_PROTOCOL_ID)
_HEADER: Final = struct.Struct("!BBHII")
_HEADER_BYTES: Final = _HEADER.size
_DATA, _WINDOW_UPDATE, _PING, _GO_AWAY = range(4)
_SYN, _ACK, _FIN, _RST = 1, 2, 4, 8

_FIRST_WINDOW_BYTES: Final = 256 * 1024
_WINDOW_BYTES: Final = 512 * 1024
"""What a peer may send on a stream and nobody has read: a block of Kubo's, with what is around it, comes in one go."""
FRAME_BYTES: Final = 65_519 - _HEADER_BYTES
"""A frame of so many bytes is one noise message, the longest there is: one more would be a message of its own."""
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
_WRITE_STALL_SECONDS: Final = 60.0
_GOODBYE_SECONDS: Final = 1.0


class _Misbehaved(Exception):
    """The peer breaks the protocol: the connection is closed."""


class YamuxStream(IMuxedStream):
    """One stream of a connection."""

    def __init__(self, stream_id: int, conn: Yamux) -> None:
        self.stream_id = stream_id
        self.muxed_conn = conn
        self.credit_bytes = _FIRST_WINDOW_BYTES
        """What may be sent."""
        self.granted_bytes = _WINDOW_BYTES
        """What the peer may send."""
        self.is_reset = False
        self.is_read_closed = False
        self.is_write_closed = False
        self._conn = conn
        self._unread: deque[memoryview] = deque()
        self._unread_bytes = 0
        self._read_bytes = 0
        """Since the peer was last told that it may send more."""
        self._is_detached = False
        self._came = trio.Event()
        self._may_send = trio.Event()

    @property
    def has_unread(self) -> bool:
        """Something has come that was not read."""
        return bool(self._unread)

    async def read(self, n: int | None = -1) -> bytes:
        """Up to `n` bytes that have come, all where it is None or -1. Raises MuxedStreamEOF, MuxedStreamReset."""
        while not self._unread:
            if self.is_reset:
                raise MuxedStreamReset("the stream was reset")
            if self.is_read_closed:
                raise MuxedStreamEOF("the peer has sent all")
            self._came = trio.Event()
            await self._came.wait()
        parts: list[memoryview] = []
        left = self._unread_bytes if n is None or n < 0 else n
        while self._unread and left:
            part = self._unread.popleft()
            if len(part) > left:
                self._unread.appendleft(part[left:])
                part = part[:left]
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
        self._unread_bytes -= len(data)
        if not self._is_detached:
            self._conn.was_read(len(data))
        self._read_bytes += len(data)
        if self._read_bytes * 2 >= _WINDOW_BYTES and not self.is_read_closed and not self.is_reset:
            grown, self._read_bytes = self._read_bytes, 0
            self.granted_bytes += grown
            await self._conn.send(_WINDOW_UPDATE, 0, self.stream_id, grown)
        return data

    async def write(self, data: bytes) -> None:
        """Send all of `data`, as the peer's window allows. Raises MuxedStreamReset, MuxedStreamClosed."""
        view = memoryview(data)
        while len(view):
            await self._wait_for_credit()
            size = min(self.credit_bytes, FRAME_BYTES, len(view))
            self.credit_bytes -= size
            await self._conn.send(_DATA, 0, self.stream_id, size, view[:size])
            view = view[size:]

    async def _wait_for_credit(self) -> None:
        while True:
            if self.is_reset:
                raise MuxedStreamReset("the stream was reset")
            if self.is_write_closed:
                raise MuxedStreamClosed("the stream is closed for writing")
            if self.credit_bytes > 0:
                return
            self._may_send = trio.Event()
            with trio.move_on_after(_WRITE_STALL_SECONDS) as scope:
                await self._may_send.wait()
            if scope.cancelled_caught:
                await self.reset()
                raise MuxedStreamReset(f"the peer took nothing for {_WRITE_STALL_SECONDS:g} s")

    async def close(self) -> None:
        """Say that nothing more will be sent; what comes can still be read."""
        if not self.is_write_closed and not self.is_reset:
            self.is_write_closed = True
            await self._conn.send(_WINDOW_UPDATE, _FIN, self.stream_id, 0)
            self._conn.forget_if_done(self)

    async def reset(self) -> None:
        """End both directions at once."""
        if not self.is_reset and not (self.is_write_closed and self.is_read_closed):
            self.end()
            await self._conn.send(_WINDOW_UPDATE, _RST, self.stream_id, 0)
        self.end()

    def set_deadline(self, ttl: int) -> None:
        """Not kept: callers have trio's own."""

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._conn.get_remote_address()

    async def __aenter__(self) -> YamuxStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- for the connection ---

    def take(self, part: memoryview) -> None:
        """Bytes have come."""
        self.granted_bytes -= len(part)
        self._unread.append(part)
        self._unread_bytes += len(part)
        self._came.set()

    def credit(self, size: int) -> None:
        """The peer takes more."""
        self.credit_bytes += size
        self._may_send.set()

    def finish(self) -> None:
        """The peer has sent all."""
        self.is_read_closed = True
        self._came.set()
        self._conn.forget_if_done(self)

    def end(self) -> None:
        """The stream is over in both directions; nobody reads what is left."""
        self.is_reset = self.is_read_closed = self.is_write_closed = True
        self._came.set()
        self._may_send.set()
        self._conn.forget_if_done(self)
        self._unread.clear()
        self._unread_bytes = 0

    def detach(self) -> None:
        """The connection knows it no more: what is unread here holds up nothing there."""
        self._is_detached = True
        self._conn.was_read(self._unread_bytes)


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
            await self.send(_GO_AWAY, 0, 0, 0)
            await self._sent_all.wait()
        await self._shut()

    async def open_stream(self) -> YamuxStream:
        """A new stream. Raises MuxedConnUnavailable."""
        if self.event_closed.is_set():
            raise MuxedConnUnavailable("the connection is closed")
        stream = self._streams[self._next_id] = YamuxStream(self._next_id, self)
        self._next_id += 2
        await self.send(_WINDOW_UPDATE, _SYN, stream.stream_id, _WINDOW_BYTES - _FIRST_WINDOW_BYTES)
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
        frame = _HEADER.pack(0, kind, flags, stream_id, length) + data
        self._unsent.append(frame)
        self.unsent_bytes += len(frame)
        if self.unsent_bytes >= _WRITE_NOW_BYTES and not self._channel.is_behind:
            self._begin_writing()
        self._has_unsent.set()
        if kind != _WINDOW_UPDATE or flags & _RST:
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
            version, kind, flags, stream_id, length = _HEADER.unpack(await self._exactly(_HEADER_BYTES))
            if version != 0:
                raise _Misbehaved(f"the version of a frame is {version}")
            if kind in (_DATA, _WINDOW_UPDATE):
                await self._read_stream_frame(kind, flags, stream_id, length)
            elif kind == _PING:
                if flags & _SYN:
                    await self.send(_PING, _ACK, 0, length)
                else:
                    self._ponged.set()
            elif kind == _GO_AWAY:
                return
            else:
                raise _Misbehaved(f"the kind of a frame is {kind}")

    async def _read_stream_frame(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        stream = self._streams.get(stream_id)
        if flags & _SYN:
            if stream is not None or (stream_id % 2 == 1) == self._is_initiator:
                raise _Misbehaved(f"it begins stream {stream_id} a second time, or in our stead")
            stream = await self._begin(stream_id)
        if kind == _WINDOW_UPDATE:
            if stream is not None:
                stream.credit(length)
        else:
            await self._read_data(stream, length)
        if stream is not None and flags & _RST:
            stream.end()
        elif stream is not None and flags & _FIN:
            stream.finish()

    async def _begin(self, stream_id: int) -> YamuxStream | None:
        theirs = sum(1 for known in self._streams if known % 2 == stream_id % 2)
        stream = YamuxStream(stream_id, self)
        try:
            if theirs >= _STREAMS_MAX:
                raise trio.WouldBlock
            self._new_sender.send_nowait(stream)
        except trio.WouldBlock:
            await self.send(_WINDOW_UPDATE, _RST, stream_id, 0)
            return None
        self._streams[stream_id] = stream
        await self.send(_WINDOW_UPDATE, _ACK, stream_id, _WINDOW_BYTES - _FIRST_WINDOW_BYTES)
        return stream

    async def _read_data(self, stream: YamuxStream | None, length: int) -> None:
        if stream is not None and length > stream.granted_bytes:
            raise _Misbehaved(f"it sends {length} bytes on a stream where it may send {stream.granted_bytes}")
        # What comes for a stream that is over is on its way since before: read past.
        if length > _WINDOW_BYTES:
            raise _Misbehaved(f"a frame of {length} bytes")
        while length:
            part = await self._some(length)
            length -= len(part)
            if stream is not None and not stream.is_read_closed:
                self._unread_bytes += len(part)
                stream.take(part)
        while self._unread_bytes >= _UNREAD_MAX_BYTES:
            self._has_room = trio.Event()
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
                await self.send(_PING, _SYN, 0, nonce)
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
