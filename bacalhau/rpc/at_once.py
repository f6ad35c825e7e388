"""How many calls of a kind are under way."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bacalhau.model.refusals import RefusalReason, refused

if TYPE_CHECKING:
    from collections.abc import Iterator


class AtOnce:
    """Each call costs memory, and a thread or a program of the operator: no more than `most` go on at once."""

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self._open = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Raises Refused(LIMIT_REACHED)."""
        if self._open >= self._most:
            raise refused(
                RefusalReason.LIMIT_REACHED,
                f"this node serves {self._most} {self._what} already: try again later",
                limit=self._most,
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
