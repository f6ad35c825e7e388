"""Messages over a libp2p stream, each after its length: what is read is bounded in size and in time.

Owns the framing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import trio
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.stream_muxer.exceptions import MuxedStreamReset

if TYPE_CHECKING:
    from libp2p.abc import INetStream
    from libp2p.network.stream.net_stream import NetStream

    from bacalhau.p2p.yamux_stream import YamuxStream

_READ_BYTES: Final = 64 * 1024
# A message must arrive, and be taken, at least this fast after a start: 20 MiB an hour would be no help to anybody.
_START_SECONDS: Final = 10.0
_RATE_MIN_BYTES: Final = 64 * 1024
_LENGTH_BYTES_MAX: Final = 4


class StreamFault(Exception):
    """The peer sent something that is no message, more than is taken from it, or nothing in time."""


def transfer_seconds(size_bytes: int) -> float:
    """How long a message of that size may take."""
    return _START_SECONDS + size_bytes / _RATE_MIN_BYTES


class FrameReader:
    """Reads the messages of one stream."""

    def __init__(self, stream: INetStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def length(self, idle_seconds: float | None) -> int | None:
        """The length of the next message, None at the end of the stream. The stream may be silent before it for
        `idle_seconds`, or as long as it likes. Raises StreamFault, and what the stream raises when it breaks."""
        if not self._buffer:
            fill = (
                self._fill(_READ_BYTES)
                if idle_seconds is None
                else self._fill_within(_READ_BYTES, idle_seconds)
            )
            if not await fill:
                return None
        length = shift = position = 0
        while True:
            if position == len(self._buffer) and not await self._fill_within(_READ_BYTES, _START_SECONDS):
                raise StreamFault("the stream ends within a length")
            byte = self._buffer[position]
            length |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                break
            if position == _LENGTH_BYTES_MAX:
                raise StreamFault(f"a length of more than {_LENGTH_BYTES_MAX} bytes")
        del self._buffer[:position]
        return length

    async def body(self, length: int) -> bytes:
        """The message itself. Raises as `length` does."""
        frame = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        if len(frame) < length:
            # Not by py-libp2p's stream (libp2p 0.8.1 network/stream/net_stream.py:195), whose lock is one change of
            # tasks for each part of the message.
            muxed = cast("YamuxStream", cast("NetStream", self._stream).muxed_stream)
            try:
                with trio.move_on_after(transfer_seconds(length)) as scope:
                    frame += await muxed.read_whole(length - len(frame))
            except MuxedStreamReset as error:
                raise StreamReset from error
            if scope.cancelled_caught:
                raise StreamFault(f"no message of {length} bytes in {scope_seconds(length)} s")
            if len(frame) < length:
                raise StreamFault("the stream ends within a message")
        return frame

    async def _fill_within(self, size: int, seconds: float) -> bool:
        try:
            with trio.fail_after(seconds):
                return await self._fill(size)
        except trio.TooSlowError as error:
            raise StreamFault(f"nothing came for {seconds:g} s") from error

    async def _fill(self, size: int) -> bool:
        """Read what there is, up to `size` bytes; False at the end of the stream."""
        try:
            read = await self._stream.read(size)
        except StreamEOF:
            return False
        self._buffer += read
        return bool(read)


def scope_seconds(length: int) -> int:
    return round(transfer_seconds(length))


async def write_frame(stream: INetStream, frame: bytes) -> None:
    """Write a message that has its length in front. Raises StreamFault where the peer does not take it in time, and
    what the stream raises when it breaks."""
    view = memoryview(frame)
    with trio.move_on_after(transfer_seconds(len(frame))) as scope:
        await stream.write(cast("bytes", view))  # any buffer does
    if scope.cancelled_caught:
        raise StreamFault(
            f"a message of {len(frame)} bytes was not taken within {scope_seconds(len(frame))} s"
        )
