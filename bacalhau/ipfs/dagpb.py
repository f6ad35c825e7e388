"""dag-pb: the block format of links and data that UnixFS is built on.

Owns encoding and strict decoding of one block. Written by hand because the bytes must be
the canonical ones (links before data, though protobuf orders fields by number) and a
decoder that takes only these is shorter and faster than a protobuf runtime with checks.

Source: the dag-pb specification, https://ipld.io/specs/codecs/dag-pb/spec/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs.errors import InvalidBlock
from bacalhau.model.cid import Cid, InvalidCid
from bacalhau.model.varint import varint

if TYPE_CHECKING:
    from collections.abc import Iterable

Block = bytes | memoryview
"""The bytes of a block; a memoryview where copying them would cost."""

# The largest block that Bitswap peers exchange.
MAX_BLOCK_BYTES: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Link:
    """A link to another block.

    `name` is a file name, bytes that are no UTF-8 kept as surrogate escapes; `dag_bytes`
    ("Tsize") is what the linker claims the linked DAG weighs, in bytes.
    """

    name: str
    cid: Cid
    dag_bytes: int


@dataclass(frozen=True, slots=True)
class Node:
    """A decoded block: its links in stored order, and its data if it has any."""

    links: tuple[Link, ...]
    data: bytes | None


def encode_name(name: str) -> bytes:
    """The bytes of a link's name. Raises InvalidBlock where the text has none."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidBlock(f"the name {name!r} cannot be written as UTF-8") from error


def encode_link(link: Link) -> bytes:
    """One link as it stands in a node."""
    raw, name = link.cid.raw, encode_name(link.name)
    body = b"".join(
        (b"\x0a", varint(len(raw)), raw, b"\x12", varint(len(name)), name, b"\x18", varint(link.dag_bytes))
    )
    return b"\x12" + varint(len(body)) + body


def encode(links: Iterable[Link], data: bytes | None) -> bytes:
    """A block of `links`, which the caller has in canonical order (by name bytes), and `data`."""
    parts = [encode_link(link) for link in links]
    if data is not None:
        parts += (b"\x0a", varint(len(data)), data)
    return b"".join(parts)


def decode(block: Block) -> Node:
    """Read a block. Raises InvalidBlock."""
    if len(block) > MAX_BLOCK_BYTES:
        raise InvalidBlock(f"a block of {len(block)} bytes is above the limit of {MAX_BLOCK_BYTES}")
    block = bytes(block)
    links: list[Link] = []
    data: bytes | None = None
    links_closed = False
    position, end = 0, len(block)
    while position < end:
        tag = block[position]
        if tag not in (0x0A, 0x12):
            raise InvalidBlock(f"no field of a dag-pb node starts with {tag:#04x}")
        start, position = read_length(block, position + 1, end)
        if tag == 0x12:
            if links_closed:
                raise InvalidBlock("the links of a dag-pb node do not stand together")
            links.append(_decode_link(block, start, position))
            continue
        if data is not None:
            raise InvalidBlock("a dag-pb node has its data twice")
        data = block[start:position]
        links_closed = bool(links)
    return Node(tuple(links), data)


def _decode_link(block: bytes, position: int, end: int) -> Link:
    cid: Cid | None = None
    name = ""
    dag_bytes = 0
    last_field = 0
    while position < end:
        tag = block[position]
        field = tag >> 3
        if field <= last_field:
            raise InvalidBlock("the fields of a dag-pb link are out of order")
        last_field = field
        if tag == 0x18:
            dag_bytes, position = read_varint(block, position + 1, end)
            continue
        if tag not in (0x0A, 0x12):
            raise InvalidBlock(f"no field of a dag-pb link starts with {tag:#04x}")
        start, position = read_length(block, position + 1, end)
        if tag == 0x0A:
            try:
                cid = Cid.from_raw(block[start:position])
            except InvalidCid as error:
                raise InvalidBlock(f"a link's CID is malformed: {error}") from error
        else:
            name = block[start:position].decode("utf-8", "surrogateescape")
    if cid is None:
        raise InvalidBlock("a dag-pb link has no CID")
    return Link(name, cid, dag_bytes)


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Read a varint below 2**64 that ends before `end`: its value and the position after it."""
    value = shift = 0
    while True:
        if position >= end:
            raise InvalidBlock("a block is cut short within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise InvalidBlock("a number in a block is above 64 bits")
            return value, position
        shift += 7
        if shift > 63:
            raise InvalidBlock("a number in a block is above 64 bits")


def read_length(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Read the length of a field at `position`: where its bytes start, and where they end."""
    length, start = read_varint(data, position, end)
    if start + length > end:
        raise InvalidBlock("a field of a block reaches beyond its end")
    return start, start + length
