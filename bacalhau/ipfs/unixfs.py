"""UnixFS: what the data of a dag-pb node says about a file, folder or symlink.

Owns encoding and strict decoding of that message, and what an entry's name may be.
Modes and times are read over and never written, as `ipfs add` does by default.

Source: https://specs.ipfs.tech/unixfs/
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs import dagpb
from bacalhau.ipfs.dagpb import Block, read_length, read_varint
from bacalhau.ipfs.errors import InvalidBlock, UnsafePath, UnsupportedDag
from bacalhau.model.cid import DAG_PB, RAW, Cid
from bacalhau.model.varint import varint

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_MURMUR3: Final = 0x22
MAX_NAME_BYTES: Final = 255
_MAX_FANOUT: Final = 1024

DIRECTORY_DATA: Final = b"\x08\x01"


class NodeType(enum.IntEnum):
    """The values of the field Type."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    HAMT_SHARD = 5


class EntryKind(enum.Enum):
    """What a user sees at a path."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class Data:
    """A decoded message. `block_sizes` are the content bytes of each child of a file node."""

    type: NodeType
    data: bytes
    file_size: int | None
    block_sizes: tuple[int, ...]
    hash_type: int | None
    fanout: int | None


@dataclass(frozen=True, slots=True)
class UnixFsNode:
    """A block as UnixFS sees it: a raw leaf has the type RAW and no links.

    `size_bytes` is the content of a file below this node as it claims, the length of a
    symlink's target, and 0 for a folder.
    """

    type: NodeType
    data: bytes
    links: tuple[dagpb.Link, ...]
    block_sizes: tuple[int, ...]
    size_bytes: int
    fanout: int

    @property
    def kind(self) -> EntryKind:
        """What a user sees."""
        return _KINDS[self.type]


_KINDS: Final = {
    NodeType.RAW: EntryKind.FILE,
    NodeType.FILE: EntryKind.FILE,
    NodeType.DIRECTORY: EntryKind.DIRECTORY,
    NodeType.HAMT_SHARD: EntryKind.DIRECTORY,
    NodeType.SYMLINK: EntryKind.SYMLINK,
}


def check_name(name: str) -> None:
    """Refuse a name that is no plain name of one folder entry. Raises UnsafePath."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise UnsafePath(f"{name!r} cannot be the name of a file or folder")
    try:
        length = len(name.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise UnsafePath(f"the name {name!r} cannot be written as UTF-8") from error
    if length > MAX_NAME_BYTES:
        raise UnsafePath(f"a name of {length} bytes is above the limit of {MAX_NAME_BYTES}: {name[:40]!r}...")


def file_leaf_frame(size_bytes: int) -> tuple[bytes, bytes]:
    """What stands before and after the content in the dag-pb block of a leaf: at most 16 bytes each."""
    size = varint(size_bytes)
    head = b"\x08\x02\x12" + size if size_bytes else b"\x08\x02"
    tail = b"\x18" + size
    return b"\x0a" + varint(len(head) + size_bytes + len(tail)) + head, tail


def file_data(block_sizes: Sequence[int]) -> bytes:
    """The data of a file node whose children hold `block_sizes` bytes each."""
    parts = [b"\x08\x02\x18", varint(sum(block_sizes))]
    for size in block_sizes:
        parts += (b"\x20", varint(size))
    return b"".join(parts)


def symlink_data(target: bytes) -> bytes:
    """The data of a symlink to `target`."""
    return b"\x08\x04\x12" + varint(len(target)) + target


def shard_data(bitfield: bytes, fanout: int) -> bytes:
    """The data of a node of a sharded folder; `bitfield` is big-endian without leading zeros."""
    hash_and_fanout = b"\x28" + varint(HASH_MURMUR3) + b"\x30" + varint(fanout)
    return b"\x08\x05\x12" + varint(len(bitfield)) + bitfield + hash_and_fanout


def decode_data(message: bytes) -> Data:
    """Read the message. Unknown fields are read over, as protobuf asks. Raises InvalidBlock."""
    numbers: dict[int, int] = {}
    data: bytes | None = None
    block_sizes: list[int] = []
    position, end = 0, len(message)
    while position < end:
        tag, position = read_varint(message, position, end)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = read_varint(message, position, end)
            if field == 4:
                block_sizes.append(value)
            elif numbers.setdefault(field, value) != value:
                raise InvalidBlock(f"the UnixFS field {field} is there twice")
        elif wire == 2:
            start, position = read_length(message, position, end)
            if field == 2:
                if data is not None:
                    raise InvalidBlock("a UnixFS node has its data twice")
                data = message[start:position]
            elif field == 4:
                while start < position:
                    value, start = read_varint(message, start, position)
                    block_sizes.append(value)
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
            if position > end:
                raise InvalidBlock("a UnixFS node is cut short")
        else:
            raise InvalidBlock(f"the UnixFS field {field} has the unknown wire type {wire}")
    try:
        node_type = NodeType(numbers[1])
    except KeyError:
        raise InvalidBlock("a UnixFS node does not say its type") from None
    except ValueError as error:
        raise InvalidBlock(f"the UnixFS type {numbers[1]} is unknown") from error
    return Data(node_type, data or b"", numbers.get(3), tuple(block_sizes), numbers.get(5), numbers.get(6))


def decode(cid: Cid, block: Block) -> UnixFsNode:
    """Read the block of `cid` as UnixFS, and check that what it says fits together.

    Raises InvalidBlock; UnsupportedDag for other codecs and for metadata nodes.
    """
    if cid.codec == RAW:
        content = bytes(block)
        return UnixFsNode(NodeType.RAW, content, (), (), len(content), 0)
    if cid.codec != DAG_PB:
        raise UnsupportedDag(f"{cid} has the codec {cid.codec:#x}; only UnixFS (dag-pb and raw) can be read")
    node = dagpb.decode(block)
    if node.data is None:
        raise InvalidBlock(f"{cid} is a dag-pb node without UnixFS data")
    data = decode_data(node.data)
    if data.type in (NodeType.FILE, NodeType.RAW):
        return _file_node(cid, data, node.links)
    if data.type is NodeType.METADATA:
        raise UnsupportedDag(f"{cid} is a UnixFS metadata node, which nothing writes any more")
    if data.type is NodeType.SYMLINK:
        if node.links:
            raise InvalidBlock(f"the symlink {cid} has links")
        return UnixFsNode(data.type, data.data, (), (), len(data.data), 0)
    fanout = 0
    if data.type is NodeType.HAMT_SHARD:
        fanout = data.fanout or 0
        if data.hash_type != HASH_MURMUR3:
            raise UnsupportedDag(f"the sharded folder {cid} hashes names by {data.hash_type}, not murmur3")
        if not 8 <= fanout <= _MAX_FANOUT or fanout & (fanout - 1):
            raise InvalidBlock(f"the sharded folder {cid} has the fanout {fanout}, not 8 to 1024")
    return UnixFsNode(data.type, data.data, node.links, (), 0, fanout)


def _file_node(cid: Cid, data: Data, links: tuple[dagpb.Link, ...]) -> UnixFsNode:
    if len(data.block_sizes) != len(links):
        raise InvalidBlock(f"the file {cid} names {len(data.block_sizes)} sizes for {len(links)} children")
    size = len(data.data) + sum(data.block_sizes)
    if data.file_size is not None and data.file_size != size:
        raise InvalidBlock(f"the file {cid} claims {data.file_size} bytes, its parts are {size}")
    return UnixFsNode(NodeType.FILE, data.data, links, data.block_sizes, size, 0)
