"""The secured connection below the multiplexer, with less work than py-libp2p makes of it.

Owns what is between yamux and the socket: noise and its messages. Ready to go when the library's is as quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from libp2p.security.noise.io import BaseNoiseMsgReadWriter
from libp2p.security.secure_session import SecureSession

if TYPE_CHECKING:
    from libp2p.abc import ISecureConn

_READ_BYTES: Final = 128 * 1024


class _ReadAhead:
    """A raw connection that is read by the 128 KiB: noise asks for two bytes, and then for a message
    (libp2p 0.8.1 io/msgio.py:20), each by system calls of its own."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._ahead = memoryview(b"")

    async def read(self, n: int | None = None) -> bytes:
        if not self._ahead:
            self._ahead = memoryview(await self._raw.read(_READ_BYTES))
        part, self._ahead = self._ahead[:n], self._ahead[n:] if n is not None else memoryview(b"")
        return bytes(part)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


def read_ahead(secured_conn: ISecureConn) -> None:
    if isinstance(secured_conn, SecureSession) and isinstance(secured_conn.conn, BaseNoiseMsgReadWriter):
        packets = secured_conn.conn.read_writer
        packets.read_write_closer = _ReadAhead(packets.read_write_closer)  # type: ignore[assignment]
