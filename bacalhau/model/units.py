"""Units, in those that everything is counted in: microseconds, bytes, microcredits, millionths."""

from __future__ import annotations

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MICROCREDITS_PER_CREDIT = 1_000_000

PPM = 1_000_000
"""The whole, in parts per million: shares, scores, factors."""


def size_text(size_bytes: int) -> str:
    """Bytes for people: `64 MiB`, `1.4 MiB` for what is not a round number, `1000 bytes`."""
    for unit_bytes, unit in ((1024 * GIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= unit_bytes:
            whole, rest = divmod(size_bytes, unit_bytes)
            return f"{whole}.{rest * 10 // unit_bytes} {unit}" if rest else f"{whole} {unit}"
    return f"{size_bytes} bytes"
