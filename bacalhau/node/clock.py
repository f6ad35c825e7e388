"""The node's time base: wall-clock microseconds that never go back, not even over a restart."""

from __future__ import annotations

import time


class Clock:
    """Starts at the later of wall time and `floor_us` (the last time that was persisted), then follows the
    monotonic clock: what an administrator does to the wall clock meanwhile moves no deadline."""

    def __init__(self, floor_us: int = 0) -> None:
        self._start_us = max(time.time_ns() // 1000, floor_us)
        self._monotonic_start_ns = time.monotonic_ns()

    def now(self) -> int:
        return self._start_us + (time.monotonic_ns() - self._monotonic_start_ns) // 1000
