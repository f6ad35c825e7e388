"""How many calls of a kind are under way."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from bacalhau.model.refusals import RefusalReason, refused

if TYPE_CHECKING:
    from collections.abc import Iterator


class AtOnce:
    """Each call costs memory, and a thread or a program of the operator: no more than `most` go on at once, and no more
    than `most_each` of one caller."""

    def __init__(self, what: str, most: int, most_each: int | None = None) -> None:
        self._what = what
        self._most = most
        self._most_each = most if most_each is None else most_each
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def one(self, caller: str = "") -> Iterator[None]:
        """Raises Refused(LIMIT_REACHED)."""
        for is_open, most in ((self._open.total(), self._most), (self._open[caller], self._most_each)):
            if is_open >= most:
                raise refused(
                    RefusalReason.LIMIT_REACHED,
                    f"this node serves {most} {self._what} already: try again later",
                    limit=most,
                )
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]
