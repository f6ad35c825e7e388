"""The deadlines of a machine: one due time a key, the earliest found fast."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

K = TypeVar("K")

_FEW = 16
"""So many are looked through faster than a heap of them is kept."""
_NEVER: Final = 2**64


class Deadlines(Generic[K]):
    """Few are looked through, as most nodes have them; of many there is a heap, whose outdated entries are dropped when
    they surface. Keys must be ordered among each other, so that what is due at the same microsecond comes in the same
    order on every run."""

    __slots__ = ("_due", "_earliest", "_heap")

    def __init__(self) -> None:
        self._due: dict[K, int] = {}
        self._heap: list[tuple[int, K]] = []
        """Empty while there are few."""
        self._earliest: int | None = _NEVER
        """The earliest due time; None where it has to be looked for."""

    def set(self, key: K, due_us: int) -> None:
        due, heap, earliest = self._due, self._heap, self._earliest
        was = due.get(key)
        if was == due_us:
            return
        due[key] = due_us
        if earliest is not None:
            if due_us < earliest:
                self._earliest = due_us
            elif was == earliest:
                self._earliest = None
        if len(due) <= _FEW:
            if heap:
                heap.clear()
        elif heap and len(heap) < 4 * len(due):
            heappush(heap, (due_us, key))
        else:
            heap[:] = [(when_us, kept) for kept, when_us in due.items()]
            heapify(heap)

    def clear(self, key: K) -> None:
        due = self._due
        was = due.pop(key, None)
        if not due:
            self._earliest = _NEVER
        elif was == self._earliest:
            self._earliest = None

    def get(self, key: K) -> int | None:
        return self._due.get(key)

    @property
    def keys(self) -> tuple[K, ...]:
        return tuple(self._due)

    def next(self) -> int | None:
        """The earliest due time, None where there is none."""
        earliest = self._earliest
        if earliest is None:
            due = self._due
            earliest = self._earliest = min(due.values()) if len(due) <= _FEW else self._surfaced()[0]
        return earliest if earliest < _NEVER else None

    def _surfaced(self) -> tuple[int, K]:
        """The earliest of many."""
        heap, due = self._heap, self._due
        while due.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0]

    def pop_due(self, now: int) -> Iterator[K]:
        """Removes and gives the keys that are due, earliest first, one at a time: what is done for one may
        clear or move the next. Whoever sets a deadline meanwhile sets it later than `now`."""
        due = self._due
        while due:
            few = len(due) <= _FEW
            due_us, key = min([(when_us, kept) for kept, when_us in due.items()]) if few else self._surfaced()
            if due_us > now:
                return
            del due[key]
            self._earliest = None if due else _NEVER
            yield key
