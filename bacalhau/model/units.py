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
