"""Conversions that are asked for again: a job's spec alone is converted ten times from its submission to its receipt.

Not functools.lru_cache, which counts entries: enough for a burst of short jobs, they would be too much of large ones.
"""

from __future__ import annotations

import threading
from functools import wraps
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

V = TypeVar("V")

VALUES_MAX: Final = 512
BYTES_MAX: Final = 8 * 1024 * 1024


def remembered(convert: Callable[[V], bytes]) -> Callable[[V], bytes]:
    """`convert`, which keeps what it last gave: for at most 512 values, and 8 MiB. Any thread may call it."""
    known: dict[V, bytes] = {}
    held_bytes = 0
    changing = threading.Lock()

    @wraps(convert)
    def converted(value: V) -> bytes:
        nonlocal held_bytes
        data = known.get(value)
        if data is not None:
            return data
        data = convert(value)
        with changing:
            if value not in known:
                known[value] = data
                held_bytes += len(data)
            while len(known) > VALUES_MAX or held_bytes > BYTES_MAX:
                oldest = next(iter(known))
                held_bytes -= len(known.pop(oldest))
        return data

    return converted
