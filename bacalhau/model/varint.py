"""Unsigned varints, which multiformats and protobuf write alike."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """`value` (0 or more), seven bits a byte, the lowest first."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
