"""The event loop of simulated time: what is due, in order, as fast as Python goes.

Time is integer microseconds. What is due at the same instant happens in the order in which it was asked for,
so that a run depends on nothing but its input.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

_STEPS_AT_ONE_INSTANT_MAX = 10_000_000


class StandstillError(AssertionError):
    """Events breed events, and time does not pass: a bug in what is simulated."""


class _Stopped(Exception):
    """Somebody has seen enough."""


class EventLoop:
    """See the module. `handled` counts the events so far."""

    __slots__ = ("_heap", "_order", "handled", "instant_steps_max", "now")

    def __init__(self, instant_steps_max: int = _STEPS_AT_ONE_INSTANT_MAX) -> None:
        self.now = 0
        self.handled = 0
        self.instant_steps_max = instant_steps_max
        self._order = 0
        self._heap: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []

    def __len__(self) -> int:
        """What is still due."""
        return len(self._heap)

    def at(self, due_us: int, action: Callable[..., object], *arguments: Any) -> None:
        """Calls `action` at `due_us`, which is not in the past."""
        self._order = order = self._order + 1
        heappush(self._heap, (due_us, order, action, arguments))

    def after(self, delay_us: int, action: Callable[..., object], *arguments: Any) -> None:
        """Calls `action` when `delay_us` have passed; at once means after what is due now."""
        self._order = order = self._order + 1
        heappush(self._heap, (self.now + delay_us, order, action, arguments))

    def stop(self) -> NoReturn:
        """Called by an action: ends the run with it."""
        raise _Stopped

    def run(self, until_us: int, *, done: Callable[[], bool] | None = None) -> None:
        """Lets time pass until then, until `done`, which is asked before each event, or until stop(). Raises
        StandstillError."""
        heap, pop, now, first = self._heap, heappop, self.now, self.handled
        handled = first
        try:
            while heap and heap[0][0] <= until_us:
                if done is not None and done():
                    return
                due, _, action, arguments = pop(heap)
                if due != now:
                    self.now = now = due
                    first = handled
                elif handled - first > self.instant_steps_max:
                    raise StandstillError(
                        f"time stands still at {due}: {handled - first} events at one instant"
                    )
                handled += 1
                action(*arguments)
        except _Stopped:
            return
        finally:
            self.handled = handled
        if done is None or not done():
            self.now = max(self.now, until_us)
