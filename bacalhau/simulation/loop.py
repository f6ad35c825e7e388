"""The event loop of simulated time: what is due, in order, as fast as Python goes.

Time is integer microseconds. What is due at the same instant happens in the order in which it was asked for,
so that a run depends on nothing but its input.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

_STEPS_AT_ONE_INSTANT_MAX = 10_000_000


class StandstillError(AssertionError):
    """Events breed events, and time does not pass: a bug in what is simulated."""


class _Stopped(Exception):
    """Somebody has seen enough."""


class EventLoop:
    """See the module. `handled` counts the events so far.

    What is due at one instant is one list, and the heap holds instants: a message to a thousand nodes that takes
    equally long to each costs the heap one entry.
    """

    __slots__ = ("_due", "_instants", "handled", "instant_steps_max", "now")

    def __init__(self, instant_steps_max: int = _STEPS_AT_ONE_INSTANT_MAX) -> None:
        self.now = 0
        self.handled = 0
        self.instant_steps_max = instant_steps_max
        self._instants: list[int] = []
        """A heap: each key of `_due` once."""
        self._due: dict[int, list[tuple[Callable[..., object], tuple[Any, ...]]]] = {}

    def __len__(self) -> int:
        """What is still due; from within an action also what was due at this instant."""
        return sum(map(len, self._due.values()))

    def at(self, due_us: int, action: Callable[..., object], *arguments: Any) -> None:
        """Calls `action` at `due_us`, which is not in the past."""
        self.put(due_us, action, arguments)

    def after(self, delay_us: int, action: Callable[..., object], *arguments: Any) -> None:
        """Calls `action` when `delay_us` have passed; at once means after what is due now."""
        due_us = self.now + delay_us
        due = self._due.get(due_us)
        if due is not None:
            due.append((action, arguments))
        else:
            self._due[due_us] = [(action, arguments)]
            heappush(self._instants, due_us)

    def put(self, due_us: int, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """As `at`, without taking the arguments apart: every message comes by here."""
        due = self._due.get(due_us)
        if due is not None:
            due.append((action, arguments))
        else:
            self._due[due_us] = [(action, arguments)]
            heappush(self._instants, due_us)

    def stop(self) -> NoReturn:
        """Called by an action: ends the run with it."""
        raise _Stopped

    def run(self, until_us: int, *, done: Callable[[], bool] | None = None) -> None:
        """Lets time pass until then, until `done`, which is asked before each event, or until stop(). Raises
        StandstillError."""
        instants, lists, steps_max = self._instants, self._due, self.instant_steps_max
        while instants and instants[0] <= until_us:
            now = self.now = instants[0]
            due, handled = lists[now], 0
            try:
                for action, arguments in islice(due, steps_max):
                    if done is not None and done():
                        raise _Stopped
                    handled += 1
                    action(*arguments)
            except _Stopped:
                del due[:handled]
                return
            finally:
                self.handled += handled
            if handled < len(due):
                raise StandstillError(f"time stands still at {now}: {handled} events at one instant")
            heappop(instants)
            del lists[now]
        if done is None or not done():
            self.now = max(self.now, until_us)
