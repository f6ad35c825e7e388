"""The deadlines of a machine: one due time a key, the earliest found fast."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

K = TypeVar("K")


class Deadlines(Generic[K]):
    """A heap whose outdated entries are dropped when they surface. Keys must be ordered among each other, so
    that what is due at the same microsecond comes in the same order on every run."""

    def __init__(self) -> None:
        self._due: dict[K, int] = {}
        self._heap: list[tuple[int, K]] = []

    def set(self, key: K, due_us: int) -> None:
        if self._due.get(key) != due_us:
            self._due[key] = due_us
            heapq.heappush(self._heap, (due_us, key))
            if len(self._heap) > 64 and len(self._heap) > 4 * len(self._due):
                self._heap = [(due, kept) for kept, due in self._due.items()]
                heapq.heapify(self._heap)

    def clear(self, key: K) -> None:
        self._due.pop(key, None)

    def get(self, key: K) -> int | None:
        return self._due.get(key)

    @property
    def keys(self) -> tuple[K, ...]:
        return tuple(self._due)

    def next(self) -> int | None:
        """The earliest due time, None where there is none."""
        heap = self._heap
        while heap and self._due.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(self, now: int) -> Iterator[K]:
        """Removes and gives the keys that are due, earliest first, one at a time: what is done for one may
        clear or move the next. Whoever sets a deadline meanwhile sets it later than `now`."""
        while (earliest := self.next()) is not None and earliest <= now:
            _, key = heapq.heappop(self._heap)
            del self._due[key]
            yield key
