"""Joins the data segments of a WASM module, because a compiler that copies them one by one is slow for
thousands.

Memories that are allocated by us (wasm_memory) cannot be mapped from an image, so wasmtime compiles code that
copies each segment. Go's linker leaves out every run of zeros and so makes thousands: a 5.6 MB program took
22 s and 1.3 GB to compile in place of 4 s and 0.14 GB. Here segments with small gaps between them become one,
the gaps filled with the zeros that a new memory holds anyway.

Pure: bytes in, bytes out. Where a module is not the simple case that linkers write, it comes back as it was;
it is the compiler that says what is wrong with it. Binary format: WebAssembly Core Specification 2.0, section
5.5.
"""

from __future__ import annotations

MAX_GAP_BYTES = 4096

_HEADER_BYTES = 8
_MEMORY_SECTION, _DATA_SECTION, _DATA_COUNT_SECTION = 5, 11, 12
_I32_CONST, _END = 0x41, 0x0B


class _NotSimple(Exception):
    """Something other than segments with constant offsets, none over another, into a memory of the
    module's own.
    """


def join_data_segments(module: bytes) -> bytes:
    """`module` (binary format, with at most one memory) with fewer data segments and the same meaning."""
    try:
        sections = _sections(module)
        kinds = [section[0] for section in sections]
        # A count section is there where code refers to segments by number; without a memory section it is
        # imported, and then what lies in the gaps is not known.
        if (
            _DATA_COUNT_SECTION in kinds
            or kinds.count(_MEMORY_SECTION) != 1
            or kinds.count(_DATA_SECTION) != 1
        ):
            return module
        _, head, begin, end = sections[kinds.index(_DATA_SECTION)]
        joined = _joined(_segments(module, begin, end))
    except (_NotSimple, IndexError):
        return module
    body = _unsigned(len(joined)) + b"".join(
        b"\0" + bytes([_I32_CONST]) + _signed(offset) + bytes([_END]) + _unsigned(len(data)) + data
        for offset, data in joined
    )
    return module[:head] + bytes([_DATA_SECTION]) + _unsigned(len(body)) + body + module[end:]


def _sections(module: bytes) -> list[tuple[int, int, int, int]]:
    """(kind, where it begins, where its content begins, end) of each section. Raises _NotSimple,
    IndexError.
    """
    found = []
    at = _HEADER_BYTES
    while at < len(module):
        head = at
        size, begin = _read_unsigned(module, head + 1)
        at = begin + size
        if at > len(module):
            raise _NotSimple
        found.append((module[head], head, begin, at))
    return found


def _segments(module: bytes, begin: int, end: int) -> list[tuple[int, bytes]]:
    """(offset, data) of each active segment. Raises _NotSimple, IndexError."""
    count, at = _read_unsigned(module, begin)
    found = []
    for _ in range(count):
        if module[at] != 0 or module[at + 1] != _I32_CONST:
            raise _NotSimple
        offset, at = _read_signed(module, at + 2)
        if module[at] != _END:
            raise _NotSimple
        size, at = _read_unsigned(module, at + 1)
        if at + size > end:
            raise _NotSimple
        found.append((offset, module[at : at + size]))
        at += size
    if at != end:
        raise _NotSimple
    return found


def _joined(segments: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    groups: list[tuple[int, list[bytes]]] = []
    end = 0
    # Segments that do not overlap mean the same in any order.
    for offset, data in sorted(segments, key=lambda segment: segment[0]):
        gap_bytes = offset - end
        if gap_bytes < 0:
            raise _NotSimple
        if groups and gap_bytes <= MAX_GAP_BYTES:
            groups[-1][1].extend((bytes(gap_bytes), data))
        else:
            groups.append((offset, [data]))
        end = offset + len(data)
    return [(offset, b"".join(parts)) for offset, parts in groups]


def _read_unsigned(data: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends) of an unsigned 32-bit LEB128. Raises _NotSimple, IndexError."""
    value = 0
    for shift in range(0, 35, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _NotSimple


def _read_signed(data: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends) of a signed 32-bit LEB128, read as the unsigned address that it stands for."""
    begin = at
    value, at = _read_unsigned(data, at)
    bits = 7 * (at - begin)
    if bits < 32 and value >> (bits - 1):
        value -= 1 << bits
    return value & 0xFFFFFFFF, at


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _signed(address: int) -> bytes:
    value = address - (1 << 32) if address >= 1 << 31 else address
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)
