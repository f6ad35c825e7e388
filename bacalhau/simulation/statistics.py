"""Means with their confidence intervals, percentiles, and the Gini coefficient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over independent runs, and half the width of its confidence interval by Student's t; the width is
    None where one run tells nothing of it."""

    mean: float
    half_width: float | None
    runs: int

    @property
    def low(self) -> float:
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        return self.mean + (self.half_width or 0.0)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Of at least one value."""
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Estimate(mean, student_t(count - 1, confidence) * math.sqrt(variance / count), count)


def student_t(degrees: int, confidence: float = CONFIDENCE) -> float:
    """The t with this much of Student's distribution between -t and t."""
    low, high = 0.0, 1.0
    while _within(high, degrees) < confidence:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < confidence else (low, middle)
    return (low + high) / 2


def _within(t: float, degrees: int) -> float:
    """How much lies between -t and t: finite sums (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    cosine, sine = math.cos(angle), math.sin(angle)
    if degrees % 2:
        total, term = 0.0, cosine
        for k in range(1, degrees - 1, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        return 2 / math.pi * (angle + sine * total)
    total, term = 0.0, 1.0
    for k in range(0, degrees - 1, 2):
        total += term
        term *= cosine * cosine * (k + 1) / (k + 2)
    return sine * total


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of values in ascending order, by linear interpolation; 0 of none."""
    if not ordered:
        return 0.0
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def gini(amounts: Sequence[float]) -> float:
    """0 where all have the same, towards 1 where one has everything; 0 where nobody has anything."""
    ordered = sorted(amounts)
    total = math.fsum(ordered)
    if not total:
        return 0.0
    count = len(ordered)
    weighed = math.fsum(rank * amount for rank, amount in enumerate(ordered, 1))
    return 2 * weighed / (count * total) - (count + 1) / count
