"""Tasks that nobody awaits: remembered until they end, and never without a word where they fail.

For whatever part of a node starts work and goes on. Work whose failure somebody is told of in another way (an event,
an exception where it is awaited) catches what it expects itself; what arrives here is a bug, or as good as one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

T = TypeVar("T")

log = logging.getLogger(__name__)


def log_failure(what: str, failure: BaseException) -> None:
    log.error("%s failed", what, exc_info=failure)


class Background:
    """See the module. `on_failure` is called with what a task was doing, and how it failed."""

    def __init__(self, on_failure: Callable[[str, BaseException], None] = log_failure) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, what: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Starts it; `what` completes "… failed"."""
        task = asyncio.get_running_loop().create_task(work, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._on_failure(task.get_name(), failure)

    async def ended(self) -> None:
        """Returns when all of it has ended by itself; whoever gives up waiting cancels none of it."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Cancels what goes on, and returns when it has ended."""
        for task in tuple(self._tasks):
            task.cancel()
        await self.ended()
