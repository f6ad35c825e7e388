"""Folders too large for one block: a hash array mapped trie over their entries' names.

Owns the hash of a name and the shape of the trie, for writing and for looking up. Blocks
are handed out and in by the caller.

Source: https://specs.ipfs.tech/unixfs/#dag-pb-hamtdirectory (fanout 256, murmur3-x64-64).
The hash is written here because only large folders need it, a few microseconds a name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from bacalhau.ipfs import dagpb, unixfs
from bacalhau.ipfs.dagpb import Link
from bacalhau.ipfs.errors import InvalidBlock

FANOUT: Final = 256
_MASK: Final = (1 << 64) - 1
_C1: Final = 0x87C37B91114253D5
_C2: Final = 0x4CF5AD432745937F

Emit = Callable[[bytes, int], Link]
"""Stores a shard's block, whose children weigh so many bytes, and returns a link to it."""


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _mix(value: int) -> int:
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & _MASK
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33


def murmur3(name: bytes) -> int:
    """The first 64 bits of MurmurHash3 x64 128 with seed 0 (Austin Appleby, public domain)."""
    h1 = h2 = 0
    whole = len(name) & ~15
    for start in range(0, whole, 16):
        k1 = int.from_bytes(name[start : start + 8], "little") * _C1 & _MASK
        h1 ^= _rotate(k1, 31) * _C2 & _MASK
        h1 = (_rotate(h1, 27) + h2) * 5 + 0x52DCE729 & _MASK
        k2 = int.from_bytes(name[start + 8 : start + 16], "little") * _C2 & _MASK
        h2 ^= _rotate(k2, 33) * _C1 & _MASK
        h2 = (_rotate(h2, 31) + h1) * 5 + 0x38495AB5 & _MASK
    tail = name[whole:]
    if len(tail) > 8:
        h2 ^= _rotate(int.from_bytes(tail[8:], "little") * _C2 & _MASK, 33) * _C1 & _MASK
    if tail:
        h1 ^= _rotate(int.from_bytes(tail[:8], "little") * _C1 & _MASK, 31) * _C2 & _MASK
    h1 ^= len(name)
    h2 ^= len(name)
    h1 = h1 + h2 & _MASK
    h2 = h2 + h1 & _MASK
    h1, h2 = _mix(h1), _mix(h2)
    return h1 + h2 & _MASK


def slot(name_hash: int, depth: int, fanout: int) -> int:
    """Where an entry stands in a shard `depth` levels down. Raises InvalidBlock below the last level."""
    bits = fanout.bit_length() - 1
    shift = 64 - bits * (depth + 1)
    if shift < 0:
        raise InvalidBlock("a sharded folder is deeper than the hash of its names")
    return name_hash >> shift & fanout - 1


def prefix_length(fanout: int) -> int:
    """How many characters of a shard's link name say the slot."""
    return len(f"{fanout - 1:X}")


def build(entries: Sequence[Link], emit: Emit) -> Link:
    """The trie of a folder's entries: calls `emit` for each shard, children first; returns the root."""
    hashed = [(murmur3(dagpb.encode_name(entry.name)), entry) for entry in entries]
    return _build_shard(hashed, 0, emit)


def _build_shard(entries: Sequence[tuple[int, Link]], depth: int, emit: Emit) -> Link:
    slots: dict[int, list[tuple[int, Link]]] = {}
    for entry in entries:
        slots.setdefault(slot(entry[0], depth, FANOUT), []).append(entry)
    bitfield = 0
    links: list[Link] = []
    for index in sorted(slots):
        bitfield |= 1 << index
        below = slots[index]
        if len(below) == 1:
            entry_link = below[0][1]
            links.append(Link(f"{index:02X}{entry_link.name}", entry_link.cid, entry_link.dag_bytes))
        else:
            shard = _build_shard(below, depth + 1, emit)
            links.append(Link(f"{index:02X}", shard.cid, shard.dag_bytes))
    field_bytes = bitfield.to_bytes((bitfield.bit_length() + 7) // 8, "big")
    block = dagpb.encode(links, unixfs.shard_data(field_bytes, FANOUT))
    return emit(block, sum(link.dag_bytes for link in links))
