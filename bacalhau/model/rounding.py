"""Rounding: what is asked and what is owed is rounded up, to whole units."""

from __future__ import annotations


def ceil_div(amount: int, divisor: int) -> int:
    """The quotient, rounded up."""
    return -(-amount // divisor)
