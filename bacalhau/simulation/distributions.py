"""Amounts that a scenario draws: whole numbers in the unit of what they are for, from a seeded generator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from random import Random


_AMOUNT_MAX = 2**62
"""More than any amount is: what a log-normal tail may draw beyond it comes to this."""


class Distribution(Protocol):
    """Draws whole amounts, never negative."""

    def draw(self, random: Random) -> int: ...

    @property
    def mean(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Constant:
    amount: int

    def draw(self, random: Random) -> int:
        return self.amount

    @property
    def mean(self) -> float:
        return self.amount


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every amount from `low` to `high`, both included, as likely."""

    low: int
    high: int

    def draw(self, random: Random) -> int:
        return self.low + int(random.random() * (self.high - self.low + 1))

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class Exponential:
    mean_amount: int

    def draw(self, random: Random) -> int:
        return int(random.expovariate(1.0) * self.mean_amount)

    @property
    def mean(self) -> float:
        return self.mean_amount


@dataclass(frozen=True, slots=True)
class LogNormal:
    """The logarithm is normal, with deviation `sigma_percent`/100 around that of the median."""

    median: int
    sigma_percent: int

    def draw(self, random: Random) -> int:
        return int(min(self.median * math.exp(random.gauss(0.0, self.sigma_percent / 100)), _AMOUNT_MAX))

    @property
    def mean(self) -> float:
        return self.median * math.exp((self.sigma_percent / 100) ** 2 / 2)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the amounts, each with its weight."""

    amounts: tuple[int, ...]
    weights: tuple[int, ...]

    def draw(self, random: Random) -> int:
        return random.choices(self.amounts, self.weights)[0]

    @property
    def mean(self) -> float:
        weighed = sum(a * w for a, w in zip(self.amounts, self.weights, strict=True))
        return weighed / sum(self.weights)
