"""The messages of Bitswap 1.2.0, 1.1.0 and 1.0.0, to bytes and back.

Owns the form of a message and how much of one is looked at. By hand and not by protobuf, whose runtime makes an object
of every entry before anybody can count them: 4 MiB of empty entries cost it 107 MiB and a quarter of a second.

Source: https://specs.ipfs.tech/bitswap-protocol/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs.dagpb import MAX_BLOCK_BYTES, read_length, read_varint
from bacalhau.ipfs.errors import InvalidBlock
from bacalhau.model.cid import Cid, InvalidCid
from bacalhau.model.varint import varint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

V1_0_0: Final = "/ipfs/bitswap/1.0.0"
V1_1_0: Final = "/ipfs/bitswap/1.1.0"
V1_2_0: Final = "/ipfs/bitswap/1.2.0"
PROTOCOLS: Final = (V1_2_0, V1_1_0, V1_0_0)
"""Newest first, as they are offered."""

# The specification asks for blocks of 2 MiB and allows messages of 4 MiB.
MAX_MESSAGE_BYTES: Final = 2 * MAX_BLOCK_BYTES
MAX_ENTRIES: Final = 2048
"""Entries of a want list that are read of one message; what follows is left unread."""
MAX_BLOCKS: Final = 4096
_MAX_PRIORITY: Final = 2**31 - 1
_VERSION_0_PREFIX: Final = b"\x00\x70\x12\x20"


class InvalidMessage(Exception):
    """Bytes that are no Bitswap message, or one with more blocks than anybody sends."""


@dataclass(frozen=True, slots=True)
class Want:
    """An entry of a want list. `have` asks whether the block is there instead of for the block; `dont_have` asks to be
    told if it is not; `cancel` takes an earlier entry back."""

    cid: Cid
    priority: int = 1
    cancel: bool = False
    have: bool = False
    dont_have: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What a peer says. `full` means that the want list replaces the one before. `blocks` are prefix of a CID and
    bytes, verified by nobody; `presences` say of a CID whether the block is there. `unread_bytes` is how much of the
    want list was left unread."""

    wants: Sequence[Want] = ()
    full: bool = False
    blocks: Sequence[tuple[bytes, bytes]] = ()
    presences: Sequence[tuple[Cid, bool]] = ()
    unread_bytes: int = 0


def decode(frame: bytes) -> Message:
    """Read a message. Entries and presences whose CID is malformed are left out, for others may be good.

    Raises InvalidMessage.
    """
    reader = _Reader()
    try:
        for field, start, end in _fields(frame, 0, len(frame)):
            reader.take(field, frame, start, end)
    except InvalidBlock as error:
        raise InvalidMessage(str(error)) from error
    return Message(reader.wants, reader.full, reader.blocks, reader.presences, reader.unread_bytes)


def encode(message: Message, version: str = V1_2_0) -> bytes:
    """A message with its length in front, as `version` has it: 1.0.0 and 1.1.0 know no presences and no want for
    anything but blocks, and 1.0.0 no CIDs of version 1, so that these are left out."""
    parts: list[bytes] = []
    wants = [want for want in message.wants if _is_known(want, version)]
    if wants or message.full:
        body = b"".join([_encode_want(want) for want in wants]) + (b"\x10\x01" if message.full else b"")
        parts += (b"\x0a", varint(len(body)), body)
    for prefix, block in message.blocks:
        if version != V1_0_0:
            head = b"\x0a" + varint(len(prefix)) + prefix + b"\x12" + varint(len(block))
            parts += (b"\x1a", varint(len(head) + len(block)), head, block)
        elif prefix == _VERSION_0_PREFIX:
            parts += (b"\x12", varint(len(block)), block)
    if version == V1_2_0:
        for cid, is_there in message.presences:
            raw = cid.raw
            body = b"\x0a" + varint(len(raw)) + raw + (b"" if is_there else b"\x10\x01")
            parts += (b"\x22", varint(len(body)), body)
    return b"".join([varint(sum(map(len, parts))), *parts])


def _is_known(want: Want, version: str) -> bool:
    if version == V1_2_0:
        return True
    return not want.have and (version == V1_1_0 or want.cid.version == 0)


def _encode_want(want: Want) -> bytes:
    raw = want.cid.raw
    parts = [b"\x0a", varint(len(raw)), raw, b"\x10", varint(want.priority)]
    if want.cancel:
        parts.append(b"\x18\x01")
    if want.have:
        parts.append(b"\x20\x01")
    if want.dont_have:
        parts.append(b"\x28\x01")
    body = b"".join(parts)
    return b"\x0a" + varint(len(body)) + body


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a protobuf message: number, and where its bytes start and end; of a number, the number and -1."""
    while position < end:
        tag, position = read_varint(data, position, end)
        wire = tag & 7
        if wire == 2:
            start, position = read_length(data, position, end)
            yield tag >> 3, start, position
        elif wire == 0:
            value, position = read_varint(data, position, end)
            yield tag >> 3, value, -1
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
            if position > end:
                raise InvalidBlock("a message is cut short")
        else:
            raise InvalidBlock(f"the wire type {wire} is unknown")


class _Reader:
    """Gathers the fields of one message."""

    def __init__(self) -> None:
        self.wants: list[Want] = []
        self.full = False
        self.blocks: list[tuple[bytes, bytes]] = []
        self.presences: list[tuple[Cid, bool]] = []
        self.unread_bytes = 0
        self._entries = 0

    def take(self, field: int, frame: bytes, start: int, end: int) -> None:
        if end < 0:
            return  # pendingBytes, the only number, is a hint that nobody here needs
        if field == 1:
            self._take_want_list(frame, start, end)
        elif field == 2:
            self._take_block(_VERSION_0_PREFIX, frame[start:end])
        elif field == 3:
            prefix = block = b""
            for inner, first, last in _fields(frame, start, end):
                if inner == 1 and last >= 0:
                    prefix = frame[first:last]
                elif inner == 2 and last >= 0:
                    block = frame[first:last]
            self._take_block(prefix, block)
        elif field == 4:
            self._take_presence(frame, start, end)

    def _take_block(self, prefix: bytes, block: bytes) -> None:
        if len(self.blocks) >= MAX_BLOCKS:
            raise InvalidMessage(f"a message has more than {MAX_BLOCKS} blocks")
        self.blocks.append((prefix, block))

    def _take_presence(self, frame: bytes, start: int, end: int) -> None:
        if len(self.presences) >= MAX_BLOCKS:
            raise InvalidMessage(f"a message says of more than {MAX_BLOCKS} blocks whether they are there")
        cid: Cid | None = None
        is_there = True
        for field, first, last in _fields(frame, start, end):
            if field == 1 and last >= 0:
                cid = _read_cid(frame[first:last])
            elif field == 2 and last < 0:
                is_there = first == 0
        if cid is not None:
            self.presences.append((cid, is_there))

    def _take_want_list(self, frame: bytes, start: int, end: int) -> None:
        for field, first, last in _fields(frame, start, end):
            if field == 2 and last < 0:
                self.full = first != 0
            elif field == 1 and last >= 0:
                self._entries += 1
                if self._entries > MAX_ENTRIES:
                    self.unread_bytes += end - first
                    return
                want = _decode_want(frame, first, last)
                if want is not None:
                    self.wants.append(want)


def _decode_want(frame: bytes, start: int, end: int) -> Want | None:
    cid: Cid | None = None
    numbers: dict[int, int] = {}
    for field, first, last in _fields(frame, start, end):
        if last < 0:
            numbers[field] = first
        elif field == 1:
            cid = _read_cid(frame[first:last])
    # One that carries its block needs nobody to send it.
    if cid is None or cid.identity_digest is not None:
        return None
    priority = numbers.get(2, 0)
    return Want(
        cid,
        priority if priority <= _MAX_PRIORITY else 0,  # a negative one is written as a number of 64 bits
        cancel=bool(numbers.get(3)),
        have=numbers.get(4) == 1,
        dont_have=bool(numbers.get(5)),
    )


def _read_cid(raw: bytes) -> Cid | None:
    try:
        return Cid.from_raw(raw)
    except InvalidCid:
        return None


def cancels(cids: Iterable[Cid]) -> list[Want]:
    """Entries that take back earlier ones."""
    return [Want(cid, cancel=True) for cid in cids]
