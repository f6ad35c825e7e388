"""The secured connection below the multiplexer, read and written in fewer steps than by py-libp2p.

Owns what is between yamux and the socket: the messages of noise. The library (libp2p 0.8.1) asks the socket for two
bytes and then for a message (io/msgio.py:20), takes a lock for each (io/trio.py:30), and sends message by message
through five layers. The handshake, and so the keys and the count of messages, is the library's. Ready to go when that
is as quick.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH, NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    import trio
    from libp2p.abc import ISecureConn

_READ_BYTES: Final = 256 * 1024
_LENGTH_BYTES: Final = 2


class Channel(Protocol):
    """Bytes both ways. One task reads, one at a time writes. Raises what it likes where the connection has ended."""

    async def read(self) -> bytes:
        """What comes next; nothing at the end."""

    @property
    def is_behind(self) -> bool:
        """Something of what `begin` was given is not sent yet."""

    def begin(self, frames: Sequence[bytes]) -> None:
        """Send what can be sent without waiting; not while it is behind."""

    async def finish(self) -> None:
        """Send the rest."""


def channel_of(secured_conn: ISecureConn) -> Channel:
    """A connection's bytes, from now on read and written by this alone: where it is noise over TCP by `NoiseChannel`,
    else (another transport) by the connection itself."""
    if isinstance(secured_conn, SecureSession) and isinstance(secured_conn.conn, NoiseTransportReadWriter):
        raw = secured_conn.conn.read_writer.read_write_closer
        if isinstance(raw, RawConnection) and isinstance(raw.stream, TrioTCPStream):
            return NoiseChannel(secured_conn, secured_conn.conn, raw.stream.stream)
    return PlainChannel(secured_conn)


class PlainChannel:
    """What the library reads and writes."""

    def __init__(self, conn: ISecureConn) -> None:
        self._conn = conn
        self._rest = b""

    async def read(self) -> bytes:
        """What comes next; nothing at the end."""
        come: bytes = await self._conn.read()
        return come

    @property
    def is_behind(self) -> bool:
        return bool(self._rest)

    def begin(self, frames: Sequence[bytes]) -> None:
        """Leave all of it to `finish`."""
        self._rest = b"".join(frames)

    async def finish(self) -> None:
        """Send it."""
        await self._conn.write(self._rest)
        self._rest = b""


class NoiseChannel:
    """See the module."""

    def __init__(
        self, session: SecureSession, messages: NoiseTransportReadWriter, socket: trio.SocketStream
    ) -> None:
        protocol = messages.noise_state.noise_protocol
        self._session = session
        self._encrypt = protocol.cipher_state_encrypt.encrypt_with_ad
        self._decrypt = protocol.cipher_state_decrypt.decrypt_with_ad
        self._socket = socket
        self._ahead = memoryview(b"")
        self._rest = memoryview(b"")

    async def read(self) -> bytes:
        """The next message, nothing at the end. Raises InvalidTag for one that is not the peer's."""
        if self._session.low_watermark < self._session.high_watermark:
            # The rest of a message whose beginning agreed on the multiplexer.
            return await self._session.read()
        while (end := self._end_of_next()) > len(self._ahead):
            come = await self._socket.receive_some(_READ_BYTES)
            if not come:
                return b""
            self._ahead = memoryview(b"".join((self._ahead, come)) if self._ahead else come)
        sealed, self._ahead = self._ahead[_LENGTH_BYTES:end], self._ahead[end:]
        message: bytes = self._decrypt(None, sealed)
        return message

    def _end_of_next(self) -> int:
        if len(self._ahead) < _LENGTH_BYTES:
            return _LENGTH_BYTES
        return _LENGTH_BYTES + int.from_bytes(self._ahead[:_LENGTH_BYTES], "big")

    @property
    def is_behind(self) -> bool:
        return bool(self._rest)

    def begin(self, frames: Sequence[bytes]) -> None:
        """Seal frames in as few messages as there can be, and send what the socket takes at once."""
        data = memoryview(b"".join(frames))
        parts: list[bytes] = []
        size = 0
        for start in range(0, len(data), MAX_PLAINTEXT_LENGTH):
            sealed: bytes = self._encrypt(None, data[start : start + MAX_PLAINTEXT_LENGTH])
            parts += (len(sealed).to_bytes(_LENGTH_BYTES, "big"), sealed)
            size += _LENGTH_BYTES + len(sealed)
        try:
            sent = os.writev(self._socket.socket.fileno(), parts)
        except OSError:
            # It is full, or has ended: `finish` waits, or gets to know.
            sent = 0
        if sent < size:
            self._rest = memoryview(b"".join(parts))[sent:]

    async def finish(self) -> None:
        """Send the rest, as the socket takes it."""
        await self._socket.send_all(self._rest)
        self._rest = memoryview(b"")
