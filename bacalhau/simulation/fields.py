"""Single values of a scenario file: amounts in their unit, distributions, and words of a closed set."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, TypeVar

import yaml

from bacalhau import yamlfile
from bacalhau.model import quantities
from bacalhau.model.quantities import InvalidQuantity
from bacalhau.simulation.distributions import (
    Choice,
    Constant,
    Distribution,
    Exponential,
    LogNormal,
    Uniform,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_E = TypeVar("_E", bound=Enum)
_SIGMA_PERCENT_MAX = 1000
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})\s*([kmgt]?)(bit|b)/s", re.IGNORECASE)


class ScenarioFailure(yamlfile.FileFailure):
    """The file is no scenario that can be run: names the file, the line, the field, and what to do."""


class Field(yamlfile.Field):
    """A value of a scenario file."""

    Failure: ClassVar[type[Exception]] = ScenarioFailure

    def written(self) -> str:
        """As YAML, without its comments."""
        return str(yaml.serialize(self._node, Dumper=yaml.SafeDumper, allow_unicode=True, width=120))


def read_duration(field: Field, *, least_us: int = 1) -> int:
    duration_us = field.parsed(quantities.parse_duration)
    if duration_us < least_us:
        raise field.failure("should be more than nothing")
    return duration_us


def read_distribution(
    field: Field | None, parse: Callable[[str], int], default: Distribution
) -> Distribution:
    """An amount, or the distribution that it is drawn from."""
    if field is None:
        return default
    if not field.is_mapping:
        return Constant(field.parsed(parse))
    entries = list(field.keys())
    if len(entries) != 1:
        raise field.failure("is an amount, or one of uniform, exponential, lognormal, choice")
    name, below = entries[0]
    match name.lower():
        case "uniform":
            bounds = below.items()
            if len(bounds) != 2:
                raise below.failure("should be [LOW, HIGH]")
            low, high = (bound.parsed(parse) for bound in bounds)
            if low > high:
                raise below.failure("the first is above the second")
            return Uniform(low, high)
        case "exponential":
            return Exponential(below.parsed(parse))
        case "lognormal":
            parts = below.known("median", "sigma")
            if len(parts) < 2:
                raise below.failure("says both median and sigma")
            sigma_percent = parts["sigma"].parsed(parse_percent)
            if sigma_percent > _SIGMA_PERCENT_MAX:
                raise parts["sigma"].failure(f"should be up to {_SIGMA_PERCENT_MAX // 100}")
            return LogNormal(parts["median"].parsed(parse), sigma_percent)
        case "choice":
            weighed = list(below.keys())
            if not weighed:
                raise below.failure("has no amount")
            amounts = tuple(_parsed_key(key, value, parse) for key, value in weighed)
            return Choice(amounts, tuple(value.integer(1, 1_000_000) for _, value in weighed))
    raise below.failure("is no distribution: known here: uniform, exponential, lognormal, choice")


def _parsed_key(key: str, field: Field, parse: Callable[[str], int]) -> int:
    try:
        return parse(key)
    except InvalidQuantity as error:
        raise field.failure(str(error)) from error


def read_named(field: Field, kind: type[_E], *, by_name: bool = False) -> _E:
    return read_member(field, field.text(), kind, by_name=by_name)


def read_member(field: Field, text: str, kind: type[_E], *, by_name: bool = False) -> _E:
    known = {(member.name.lower() if by_name else str(member.value)): member for member in kind}
    found = known.get(text.lower())
    if found is None:
        raise field.failure(f"{text!r} is not there: known here: {', '.join(known)}")
    return found


def parse_rate(text: str) -> int:
    """`100Mbit/s` or `10MB/s` as bytes a second, at least one. Raises InvalidQuantity."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise InvalidQuantity(f"{text!r} is no speed of a link: write for instance 100Mbit/s or 10MB/s")
    factor = 1000 ** " kmgt".index(match[2].lower() or " ")
    rate = int(Decimal(match[1]) * factor) // (8 if match[3].lower() == "bit" else 1)
    return _above_nothing(rate, text)


def parse_cpu(text: str) -> int:
    """CPU in millicores, at least one. Raises InvalidQuantity."""
    return _above_nothing(quantities.parse_cpu(text), text)


def parse_speed(text: str) -> int:
    """A factor in percent, at least one. Raises InvalidQuantity."""
    return _above_nothing(parse_percent(text), text)


def _above_nothing(amount: int, text: str) -> int:
    if amount <= 0:
        raise InvalidQuantity(f"{text!r} should be more than nothing")
    return amount


def parse_percent(text: str) -> int:
    """`1.2` as 120, `120%` as well. Raises InvalidQuantity."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{0,6})?)(%?)", text.strip())
    if match is None:
        raise InvalidQuantity(f"{text!r} is no factor: write for instance 1.2 or 120%")
    return int(Decimal(match[1]) * (1 if match[2] else 100))


def parse_share(text: str) -> int:
    percent = parse_percent(text)
    if percent > 100:
        raise InvalidQuantity(f"{text!r} is more than the whole")
    return percent


def parse_thousandths(text: str) -> int:
    match = re.fullmatch(r"(0?\.[0-9]{1,3}|[01])", text.strip())
    if match is None:
        raise InvalidQuantity(f"{text!r} is no chance: write for instance 0.05")
    return int(Decimal(match[1]) * 1000)


def parse_ppm(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})/([1-9][0-9]{0,8})", text.strip())
    if match is not None:
        return int(match[1]) * 1_000_000 // int(match[2])
    return parse_percent(text) * 10_000
