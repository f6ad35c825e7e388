"""Streams between the event loop and a thread: bounded both ways, few wake-ups, nothing left behind.

`feed` gives the items of an async stream to blocking work, `drain` gives what a blocking iterator makes to
an async consumer. A hop to a thread for each item would cost more than the item.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sized
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
    from concurrent.futures import Executor

T = TypeVar("T")
R = TypeVar("R")

WAITING_BYTES_MAX: Final = 4 * 1024 * 1024
"""What may wait on the way into a thread; as much again is in its hands."""

BATCH_BYTES: Final = 1024 * 1024
_BATCH_ITEMS: Final = 256
MEANWHILE_S: Final = 0.5
_ITEM_BYTES: Final = 1024  # what an item counts for beside its length, so that small ones are bounded too


class StreamBroken(Exception):
    """Raised in the thread where the stream that feeds it was cut off: nothing that came may be kept."""


async def feed(executor: Executor, items: AsyncIterator[T], work: Callable[[Iterator[T]], R]) -> R:
    """What `work` returns or raises, given the items as they come; it need not take them all.

    Where `items` raises, or this is cancelled, `work` meets StreamBroken at its next item, and has ended when
    this does.
    """
    handoff: _Handoff[T] = _Handoff(asyncio.get_running_loop())
    done = asyncio.get_running_loop().run_in_executor(executor, handoff.run, work)
    try:
        async for item in items:
            if not await handoff.put(item):
                break
        handoff.end(broken=False)
        return await asyncio.shield(done)
    except BaseException:  # cancellation too: whatever ends the stream, the thread is not left behind
        handoff.end(broken=True)
        await asyncio.wait([done])
        # What the work raised then is a consequence, and is looked at only so that nobody complains.
        done.exception()
        raise


async def drain(
    executor: Executor,
    items: Iterator[T],
    *,
    stop: Callable[[], None],
    meanwhile: Callable[[], T | None] | None = None,
) -> AsyncGenerator[list[T], None]:
    """The items in batches of BATCH_BYTES, one batch ahead; an item's size is its length, if it has one. While the next
    batch is long in coming, `meanwhile` is asked for an item again and again.

    Close it (`contextlib.aclosing`) where it is left early. `stop` is called in the end, and must free `items`
    from whatever they wait for.
    """
    loop = asyncio.get_running_loop()
    ahead = loop.run_in_executor(executor, _take_batch, items)
    try:
        while True:
            await asyncio.wait([ahead], timeout=None if meanwhile is None else MEANWHILE_S)
            if not ahead.done():
                if meanwhile is not None and (item := meanwhile()) is not None:
                    yield [item]
                continue
            if not (batch := ahead.result()):
                break
            ahead = loop.run_in_executor(executor, _take_batch, items)
            yield batch
    finally:
        stop()
        await asyncio.wait([ahead])
        ahead.exception()


def _cost(item: object) -> int:
    return _ITEM_BYTES + (len(item) if isinstance(item, Sized) else 0)


def _take_batch(items: Iterator[T]) -> list[T]:
    batch: list[T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item) if isinstance(item, Sized) else 0
        if size >= BATCH_BYTES or len(batch) >= _BATCH_ITEMS:
            break
    return batch


class _Handoff(Generic[T]):
    """One writer on the loop, one reader in a thread, which takes all that waits at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._changed = threading.Condition()
        self._waiting: deque[T] = deque()
        self._waiting_bytes = 0
        self._ended = False
        self._broken = False
        self._room = asyncio.Event()
        self._reader_gone = False

    async def put(self, item: T) -> bool:
        """Hand over an item when there is room; False where the reader has ended and wants no more."""
        while self._waiting_bytes >= WAITING_BYTES_MAX and not self._reader_gone:
            self._room.clear()
            # The reader may have made room since the look above: it sets the event after that.
            if self._waiting_bytes < WAITING_BYTES_MAX or self._reader_gone:
                break
            await self._room.wait()
        with self._changed:
            if self._reader_gone:
                return False
            self._waiting.append(item)
            self._waiting_bytes += _cost(item)
            self._changed.notify()
        return True

    def end(self, *, broken: bool) -> None:
        with self._changed:
            self._ended = True
            self._broken = self._broken or broken
            self._changed.notify()

    def run(self, work: Callable[[Iterator[T]], R]) -> R:
        """In the thread."""
        try:
            return work(self._items())
        finally:
            with self._changed:
                self._reader_gone = True
                self._waiting.clear()
            self._wake()

    def _items(self) -> Iterator[T]:
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait()
                if self._broken:
                    raise StreamBroken
                if not self._waiting:
                    return
                taken, self._waiting = self._waiting, deque()
                was_full = self._waiting_bytes >= WAITING_BYTES_MAX
                self._waiting_bytes = 0
            if was_full:
                self._wake()
            while taken:
                yield taken.popleft()

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._room.set)
