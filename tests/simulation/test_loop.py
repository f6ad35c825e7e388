"""The event loop: order, time, and what it does with a simulation that stands still."""

from __future__ import annotations

import pytest

from bacalhau.simulation.loop import EventLoop, StandstillError


def test_what_is_due_at_one_instant_happens_in_the_order_in_which_it_was_asked_for() -> None:
    loop = EventLoop()
    said: list[str] = []
    loop.at(5, said.append, "later")
    for word in ("first", "second", "third"):
        loop.at(3, said.append, word)
    loop.run(10)
    assert said == ["first", "second", "third", "later"]
    assert (loop.now, loop.handled) == (10, 4)


def test_time_stops_where_it_is_told_to() -> None:
    loop = EventLoop()
    seen: list[int] = []
    for due in (1, 2, 3, 4):
        loop.at(due, lambda: seen.append(loop.now))
    loop.at(3, loop.stop)
    loop.run(2)
    assert (seen, loop.now) == ([1, 2], 2)
    loop.run(100)
    assert (seen, loop.now) == ([1, 2, 3], 3)
    loop.run(100, done=lambda: bool(seen[3:]))
    assert (seen, loop.now) == ([1, 2, 3, 4], 4)


def test_events_that_breed_events_at_one_instant_are_found() -> None:
    loop = EventLoop(instant_steps_max=100)

    def again() -> None:
        loop.after(0, again)

    loop.at(7, again)
    with pytest.raises(StandstillError, match="time stands still at 7"):
        loop.run(8)
