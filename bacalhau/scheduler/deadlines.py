"""The deadlines of a machine: one due time a key, the earliest found fast."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

K = TypeVar("K")

_OUTDATED_MAX = 16
"""Entries of the heap that are kept however few of them still count."""


class Deadlines(Generic[K]):
    """A heap whose outdated entries are dropped when they surface. Keys must be ordered among each other, so
    that what is due at the same microsecond comes in the same order on every run."""

    __slots__ = ("_due", "_heap")

    def __init__(self) -> None:
        self._due: dict[K, int] = {}
        self._heap: list[tuple[int, K]] = []

    def set(self, key: K, due_us: int) -> None:
        if self._due.get(key) != due_us:
            self._due[key] = due_us
            heap = self._heap
            heappush(heap, (due_us, key))
            if len(heap) > _OUTDATED_MAX + 4 * len(self._due):
                heap[:] = [(due, kept) for kept, due in self._due.items()]
                heapify(heap)

    def clear(self, key: K) -> None:
        self._due.pop(key, None)

    def get(self, key: K) -> int | None:
        return self._due.get(key)

    @property
    def keys(self) -> tuple[K, ...]:
        return tuple(self._due)

    def next(self) -> int | None:
        """The earliest due time, None where there is none."""
        heap, due = self._heap, self._due
        while heap:
            due_us, key = heap[0]
            if due.get(key) == due_us:
                return due_us
            heappop(heap)
        return None

    def pop_due(self, now: int) -> Iterator[K]:
        """Removes and gives the keys that are due, earliest first, one at a time: what is done for one may
        clear or move the next. Whoever sets a deadline meanwhile sets it later than `now`."""
        while (earliest := self.next()) is not None and earliest <= now:
            _, key = heappop(self._heap)
            del self._due[key]
            yield key
