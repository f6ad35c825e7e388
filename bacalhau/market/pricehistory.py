"""Price history: what executions were sold for, by day and resource class, for an hour each so that they compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.model.units import DAY_US, GIB, HOUR_US

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.model.job import Engine
    from bacalhau.model.resources import Resources


# Name -> the most CPU and memory of one execution; what has a GPU, or more than these, is a class of its own.
CLASSES: Final = (("small", 1000, 2 * GIB), ("medium", 4000, 16 * GIB), ("large", 16_000, 64 * GIB))


@dataclass(frozen=True, slots=True)
class TradedPrice:
    """What a completed execution was awarded for, and the envelope that was sold."""

    time_us: int
    price_microcredits: int
    engine: Engine
    resources: Resources
    execution_timeout_us: int


@dataclass(frozen=True, slots=True)
class ClassPrices:
    """Microcredits for an hour of what was asked for; `day_us` is when the UTC day began."""

    day_us: int
    resource_class: str
    engine: Engine
    executions: int
    lowest_microcredits: int
    median_microcredits: int
    highest_microcredits: int


def resource_class(resources: Resources) -> str:
    """The smallest class that it fits in."""
    if resources.gpu_count:
        return "gpu"
    for name, cpu_millicores, memory_bytes in CLASSES:
        if resources.cpu_millicores <= cpu_millicores and resources.memory_bytes <= memory_bytes:
            return name
    return "xlarge"


def hourly_price(price_microcredits: int, execution_timeout_us: int) -> int:
    """A price of an envelope as one of an hour, rounded down."""
    return price_microcredits * HOUR_US // execution_timeout_us


def price_history(trades: Iterable[TradedPrice]) -> list[ClassPrices]:
    """Newest day first; a day's classes by name, then engine."""
    prices: dict[tuple[int, str, Engine], list[int]] = {}
    for trade in trades:
        day_us = trade.time_us - trade.time_us % DAY_US
        key = (day_us, resource_class(trade.resources), trade.engine)
        hourly = hourly_price(trade.price_microcredits, trade.execution_timeout_us)
        prices.setdefault(key, []).append(hourly)
    found = []
    for key in sorted(prices, key=lambda key: (-key[0], key[1], key[2].value)):
        ordered = sorted(prices[key])
        median = ordered[(len(ordered) - 1) // 2]
        found.append(ClassPrices(*key, len(ordered), ordered[0], median, ordered[-1]))
    return found
