"""Which protocol a stream that a peer opens is for: multistream-select, the answering side.

In place of py-libp2p's own (libp2p 0.8.1 protocol_muxer/multiselect.py:62), which reads byte by byte, through a lock,
and sends each line of its answer by itself: Kubo opens a stream for each block that it sends.

Source: https://github.com/multiformats/multistream-select
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import trio

from bacalhau.model.varint import varint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from libp2p.abc import INetStream
    from libp2p.custom_types import TProtocol
    from libp2p.network.stream.net_stream import NetStream

    from bacalhau.p2p.yamux_stream import YamuxStream

    Handler = Callable[[INetStream], Awaitable[None]]

_HEADER: Final = b"/multistream/1.0.0"
_NOT_HERE: Final = b"na"
_LIST: Final = b"ls"
_LINE_BYTES_MAX: Final = 1024
_PROPOSALS_MAX: Final = 32
_SECONDS: Final = 10.0


class NoAgreement(Exception):
    """The peer asks for nothing that is spoken here, does not say what it wants, or speaks something else."""


async def serve(stream: INetStream, handlers: Mapping[TProtocol, Handler]) -> None:
    """Agree on a protocol and run its handler. Raises NoAgreement, and what the stream or the handler raises."""
    muxed: Any = cast("NetStream", stream).muxed_stream
    with trio.move_on_after(_SECONDS) as scope:
        protocol = await _agree(muxed, handlers)
    if scope.cancelled_caught:
        raise NoAgreement(f"no protocol was agreed on in {_SECONDS:g} s")
    stream.set_protocol(protocol)
    await handlers[protocol](stream)


async def _agree(stream: YamuxStream, handlers: Mapping[TProtocol, Handler]) -> TProtocol:
    spoken = {name.encode(): name for name in handlers}
    if await _read_line(stream) != _HEADER:
        raise NoAgreement("it speaks no multistream")
    answer = _line(_HEADER)
    for _ in range(_PROPOSALS_MAX):
        if not stream.has_unread:
            # It waits for the answer first; Kubo sends its proposal, and what follows, at once.
            await stream.write(answer)
            answer = b""
        proposed = await _read_line(stream)
        if proposed in spoken:
            await stream.write(answer + _line(proposed))
            return spoken[proposed]
        answer += _line(b"\n".join([*spoken, b""]) if proposed == _LIST else _NOT_HERE)
    raise NoAgreement("it proposes nothing that is spoken here")


def _line(text: bytes) -> bytes:
    return varint(len(text) + 1) + text + b"\n"


async def _read_line(stream: YamuxStream) -> bytes:
    length = shift = 0
    while True:
        (byte,) = await stream.read(1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if length > _LINE_BYTES_MAX or shift > 14:
            raise NoAgreement("a line is too long")
        if byte < 0x80:
            break
    text = b""
    while len(text) < length:
        text += await stream.read(length - len(text))
    if not text.endswith(b"\n"):
        raise NoAgreement("a line has no end")
    return text[:-1]
