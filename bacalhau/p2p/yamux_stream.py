"""One stream of a yamux connection: what has come and is not read, what may be sent, and how it ends.

Owns the windows of a stream and the form of a frame; the connection (`yamux`) owns the order of frames.
"""

from __future__ import annotations

import contextlib
import struct
from collections import deque
from typing import TYPE_CHECKING, Final

import trio
from libp2p.abc import IMuxedStream
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

if TYPE_CHECKING:
    from types import TracebackType

    from bacalhau.p2p.yamux import Yamux

HEADER: Final = struct.Struct("!BBHII")
"""Version, kind, flags, stream, length."""
HEADER_BYTES: Final = HEADER.size
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8

FIRST_WINDOW_BYTES: Final = 256 * 1024
WINDOW_BYTES: Final = 512 * 1024
"""What a peer may send on a stream and nobody has read: a block of Kubo's, with what is around it, comes in one go."""
FRAME_BYTES: Final = 65_519 - HEADER_BYTES
"""A frame of so many bytes is one noise message, the longest there is: one more would be a message of its own."""
_WRITE_STALL_SECONDS: Final = 60.0


class YamuxStream(IMuxedStream):
    """One stream of a connection."""

    def __init__(self, stream_id: int, conn: Yamux) -> None:
        self.stream_id = stream_id
        self.muxed_conn = conn
        self.credit_bytes = FIRST_WINDOW_BYTES
        """What may be sent."""
        self.granted_bytes = WINDOW_BYTES
        """What the peer may send."""
        self.is_reset = False
        self.is_read_closed = False
        self.is_write_closed = False
        self._conn = conn
        self._unread: deque[memoryview] = deque()
        self._unread_bytes = 0
        self._wanted_bytes = 1
        """How much has to be unread before a reader that waits is woken."""
        self._read_bytes = 0
        """Since the peer was last told that it may send more."""
        self._is_detached = False
        self._came = trio.Event()
        self._may_send = trio.Event()
        self._is_writing = False
        self._waiting_to_write = trio.lowlevel.ParkingLot()

    @property
    def has_unread(self) -> bool:
        """Something has come that was not read."""
        return bool(self._unread)

    async def read(self, n: int | None = -1) -> bytes:
        """Up to `n` bytes that have come, all where it is None or -1. Raises MuxedStreamEOF, MuxedStreamReset."""
        await self._wait_for(1)
        return b"".join(await self._take_unread(self._unread_bytes if n is None or n < 0 else n))

    async def read_whole(self, n: int) -> bytes:
        """The next `n` bytes, fewer where the peer has sent all. Raises MuxedStreamReset. A long message is waited
        for by the quarter of a window, and not by the frame."""
        parts: list[memoryview] = []
        left = n
        with contextlib.suppress(MuxedStreamEOF):
            while left:
                await self._wait_for(min(left, WINDOW_BYTES // 4))
                parts += await self._take_unread(left)
                left = n - sum(map(len, parts))
        return b"".join(parts)

    async def _wait_for(self, size: int) -> None:
        """Until so much has come, or it is better to take what there is."""
        while self._unread_bytes < size:
            if self.is_reset:
                raise MuxedStreamReset("the stream was reset")
            if self.is_read_closed and not self._unread:
                raise MuxedStreamEOF("the peer has sent all")
            if self.is_read_closed:
                return
            self._came = trio.Event()
            self._wanted_bytes = size
            await self._came.wait()
            if self._unread:
                return

    async def _take_unread(self, left: int) -> list[memoryview]:
        """Up to so many bytes of what has come; the peer is told of the room."""
        parts: list[memoryview] = []
        while self._unread and left:
            part = self._unread.popleft()
            if len(part) > left:
                self._unread.appendleft(part[left:])
                part = part[:left]
            parts.append(part)
            left -= len(part)
        size = sum(map(len, parts))
        self._unread_bytes -= size
        if not self._is_detached:
            self._conn.was_read(size)
        self._read_bytes += size
        if self._read_bytes * 2 >= WINDOW_BYTES and not self.is_read_closed and not self.is_reset:
            grown, self._read_bytes = self._read_bytes, 0
            self.granted_bytes += grown
            await self._conn.send(WINDOW_UPDATE, 0, self.stream_id, grown)
        return parts

    async def write(self, data: bytes) -> None:
        """Send all of `data`, as the peer's window allows: whole, whoever else writes. Raises MuxedStreamReset,
        MuxedStreamClosed."""
        while self._is_writing:  # gossip writes from several tasks
            await self._waiting_to_write.park()
        self._is_writing = True
        try:
            await self._write(memoryview(data))
        finally:
            self._is_writing = False
            self._waiting_to_write.unpark()

    async def _write(self, view: memoryview) -> None:
        while len(view):
            await self._wait_for_credit()
            size = min(self.credit_bytes, FRAME_BYTES, len(view))
            self.credit_bytes -= size
            await self._conn.send(DATA, 0, self.stream_id, size, view[:size])
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
            await self._conn.send(WINDOW_UPDATE, FIN, self.stream_id, 0)
            self._conn.forget_if_done(self)

    async def reset(self) -> None:
        """End both directions at once."""
        if not self.is_reset and not (self.is_write_closed and self.is_read_closed):
            self.end()
            await self._conn.send(WINDOW_UPDATE, RST, self.stream_id, 0)
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
        if self._unread_bytes >= self._wanted_bytes:
            self._came.set()

    def hurry(self) -> None:
        """Whoever waits for more takes what there is, for it is in the way of others."""
        if self._unread:
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
