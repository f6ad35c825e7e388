"""Amounts as people write them, to integers and back, exactly: CPU, bytes, durations, credits.

Sizes mean what they mean to the Go Bacalhau of v1.9 (its library is dustin/go-humanize), letter case and
spaces aside: `KB MB GB TB`, and `k m g t` alone, are powers of 1000; `Ki KiB Mi MiB Gi GiB Ti TiB` are powers
of 1024. So `512Mb` is 512,000,000 bytes (v0.3.29 took it for 512 MiB). A part of a byte is cut off, as there.
No float is used anywhere: `0.1` is a tenth.
"""

from __future__ import annotations

import re
from decimal import Decimal

from bacalhau.model.units import DAY_US, HOUR_US, MICROCREDITS_PER_CREDIT, PPM, SECOND_US

_NUMBER = r"([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})"
_CPU = re.compile(_NUMBER + r"(m?)")
_BYTES = re.compile(_NUMBER + r"([a-z]*)")
_DURATION_PART = re.compile(_NUMBER + r"(us|µs|ms|s|m|h|d)")
_PRICE = re.compile(_NUMBER + r"(u?)")
_SCORE = re.compile(r"0(?:\.[0-9]{1,6})?|1(?:\.0{1,6})?")
_LARGEST = 2**63 - 1  # the fields are int64

_BYTE_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtpe", start=1):
    _BYTE_UNITS |= {_letter: 1000**_power, f"{_letter}b": 1000**_power}
    _BYTE_UNITS |= {f"{_letter}i": 1024**_power, f"{_letter}ib": 1024**_power}

_DURATION_UNITS_US = {
    "us": 1,
    "µs": 1,
    "ms": 1000,
    "s": SECOND_US,
    "m": 60 * SECOND_US,
    "h": HOUR_US,
    "d": DAY_US,
}


class InvalidQuantity(ValueError):
    """The text is no such amount; the message says what one looks like."""


def parse_cpu(text: str) -> int:
    """`2`, `0.5` or `500m` as millicores.

    Raises InvalidQuantity, also for less than a millicore's precision.
    """
    match = _CPU.fullmatch(text.strip().lower())
    if match is None:
        raise InvalidQuantity(f"{text!r} is no amount of CPU: write cores (2, 0.5) or millicores (500m)")
    millicores = _exact(match[1]) * (1 if match[2] else 1000)
    if millicores != millicores.to_integral_value():
        raise InvalidQuantity(f"{text!r} is finer than a thousandth of a core")
    return _bounded(millicores, text)


def format_cpu(millicores: int) -> str:
    """Millicores as `parse_cpu` reads them: whole cores, else `500m`."""
    return f"{millicores}m" if millicores % 1000 else str(millicores // 1000)


def parse_bytes(text: str) -> int:
    """`512Mb`, `2Gi`, `1.5GB` as bytes; see the module for what the units mean. Raises InvalidQuantity."""
    match = _BYTES.fullmatch(re.sub(r"[\s,]", "", text.lower()))
    if match is None or match[2] not in _BYTE_UNITS:
        raise InvalidQuantity(
            f"{text!r} is no size: write bytes with a unit, for instance 512MB, 1.5GB or 2Gi"
        )
    return _bounded(_exact(match[1]) * _BYTE_UNITS[match[2]], text)


def format_bytes(size_bytes: int) -> str:
    """Bytes as `parse_bytes` reads them, without loss: in the largest unit that divides them."""
    for letter, power in (("T", 4), ("G", 3), ("M", 2), ("K", 1)):
        for base, unit in ((1024, f"{letter}i"), (1000, f"{letter}B")):
            if size_bytes and size_bytes % base**power == 0:
                return f"{size_bytes // base**power}{unit}"
    return str(size_bytes)


def parse_gpu(text: str) -> int:
    """A whole number of GPUs. Raises InvalidQuantity."""
    if not re.fullmatch(r"[0-9]{1,6}", text.strip()):
        raise InvalidQuantity(f"{text!r} is no number of GPUs: write a whole number")
    return int(text)


def parse_duration(text: str) -> int:
    """`90s`, `1h30m`, `250ms`, `7d`, or seconds without a unit, as microseconds. Raises InvalidQuantity."""
    compact = text.strip().lower()
    if re.fullmatch(_NUMBER, compact):
        compact += "s"
    position, total = 0, Decimal(0)
    while match := _DURATION_PART.match(compact, position):
        total += _exact(match[1]) * _DURATION_UNITS_US[match[2]]
        position = match.end()
    if position != len(compact) or not compact:
        raise InvalidQuantity(f"{text!r} is no duration: write seconds (1800), or units as in 90s, 1h30m, 7d")
    return _bounded(total, text)


def format_duration(duration_us: int) -> str:
    """Microseconds as `parse_duration` reads them, without loss."""
    for unit in ("d", "h", "m", "s", "ms"):
        if duration_us and duration_us % _DURATION_UNITS_US[unit] == 0:
            return f"{duration_us // _DURATION_UNITS_US[unit]}{unit}"
    return f"{duration_us}us"


def parse_price(text: str) -> int:
    """Credits (`2`, `0.25`), or microcredits with the suffix u (`250000u`), as microcredits.

    1 credit is 1,000,000 microcredits. Raises InvalidQuantity, also for less than a microcredit's precision.
    """
    match = _PRICE.fullmatch(text.strip().lower())
    if match is None:
        raise InvalidQuantity(f"{text!r} is no price: write credits (2, 0.25) or microcredits (250000u)")
    microcredits = _exact(match[1]) * (1 if match[2] else MICROCREDITS_PER_CREDIT)
    if microcredits != microcredits.to_integral_value():
        raise InvalidQuantity(f"{text!r} is finer than a microcredit (0.000001 credits)")
    return _bounded(microcredits, text)


def parse_score(text: str) -> int:
    """A score from 0 to 1, in millionths. Raises InvalidQuantity, also for more than six digits."""
    match = _SCORE.fullmatch(text.strip())
    if match is None:
        raise InvalidQuantity(
            f"{text!r} is no score: write a number from 0 to 1 with at most six digits, as 0.4"
        )
    return int(Decimal(match[0]) * PPM)


def format_price(microcredits: int) -> str:
    """Microcredits as credits, without loss: `0.25`."""
    sign, whole, rest = "-" * (microcredits < 0), *divmod(abs(microcredits), MICROCREDITS_PER_CREDIT)
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".")


def _exact(digits: str) -> Decimal:
    return Decimal(digits)


def _bounded(amount: Decimal, text: str) -> int:
    if amount > _LARGEST:
        raise InvalidQuantity(f"{text!r} is too large")
    return int(amount)
