"""Trio beside asyncio: one trio run in a thread of its own, which asyncio code calls into.

Owns the thread and what crosses between the two loops: calls, results, exceptions, cancellation. Knows nothing of what
runs there. A run that crashes takes nothing with it: `ended` tells why, and `start` begins another.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class BridgeDown(Exception):
    """The trio run has ended, or ended before the call did."""


class Main(Protocol):
    """What runs in trio until it is cancelled. It tells `task_status` once it is ready, and what it raises before that
    is what `Bridge.start` raises."""

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None: ...


class Bridge:
    """See the module. Methods are for the asyncio loop that it was made in, but for `tell`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._run: _Run | None = None

    @property
    def ended(self) -> asyncio.Future[None]:
        """Done when the trio run that was started last has ended; failed with what it crashed of."""
        assert self._run is not None, "never started"
        return self._run.ended

    async def start(self, main: Main) -> None:
        """Starts the thread, and waits until `main` is ready. Raises what it raised before."""
        assert self._run is None or self._run.ended.done(), "started twice"
        run = self._run = _Run(self._loop, main)
        run.thread.start()
        try:
            await asyncio.shield(run.ready)
        except BaseException:  # it failed, or our caller gave up: either way nothing of it goes on
            await self.stop()
            raise

    async def call(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Runs `function` in trio: its result, or what it raised. Cancelling the call cancels it there.

        Raises BridgeDown where the run has ended, or ends meanwhile.
        """
        run = self._run
        if run is None or run.ended.done():
            raise BridgeDown("libp2p does not run")
        answer: asyncio.Future[T] = self._loop.create_future()
        scope = trio.CancelScope()
        run.waiting.add(answer)
        run.enter(run.begin_call, scope, answer, function, arguments)
        try:
            return await answer
        except asyncio.CancelledError:
            run.enter(scope.cancel)
            raise
        finally:
            run.waiting.discard(answer)

    def post(self, function: Callable[[*Ts], object], *arguments: *Ts) -> None:
        """Calls `function`, which must not raise, in trio, soon; nothing where that does not run. A call that waits
        for an answer costs four times as much."""
        if self._run is not None:
            self._run.enter(function, *arguments)

    def tell(self, function: Callable[[*Ts], object], *arguments: *Ts) -> None:
        """From trio: calls `function` on the asyncio loop, soon; nothing where that has closed."""
        _post(self._loop, function, *arguments)

    async def stop(self) -> None:
        """Cancels what runs in trio and waits until the thread has ended. Idempotent."""
        run = self._run
        if run is None:
            return
        run.stop()
        await asyncio.wait((run.ended,))
        await asyncio.to_thread(run.thread.join)


class _Run:
    """One life of the thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, main: Main) -> None:
        self._loop = loop
        self._main = main
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.thread = threading.Thread(target=self._in_thread, name="libp2p", daemon=True)
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._stopping = False
        self.waiting: set[asyncio.Future[Any]] = set()
        """Calls whose answer is not there yet."""
        for future in (self.ready, self.ended):
            future.add_done_callback(_seen)

    def enter(self, function: Callable[[*Ts], object], *arguments: *Ts) -> None:
        """From asyncio: calls `function` in trio, soon; nothing where the run has ended."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(function, *arguments)

    def stop(self) -> None:
        self._stopping = True
        self.enter(self._cancel)

    # --- in the thread ---

    def _in_thread(self) -> None:
        failure: BaseException | None = None
        try:
            trio.run(self._body)
        except BaseException as crash:  # whatever it was: who waits for the run's end is told
            failure = crash
        _post(self._loop, self._finish, failure)

    async def _body(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            _post(self._loop, self._entered, trio.lowlevel.current_trio_token())
            try:
                await nursery.start(self._run_main)
            except Exception as failure:  # whoever starts it gets to know
                _post(self._loop, _fail, self.ready, failure)
                nursery.cancel_scope.cancel()
            else:
                _post(self._loop, _resolve, self.ready, None)

    async def _run_main(self, *, task_status: trio.TaskStatus[None]) -> None:
        assert self._nursery is not None
        await self._main(task_status=task_status)
        self._nursery.cancel_scope.cancel()

    def begin_call(
        self,
        scope: trio.CancelScope,
        answer: asyncio.Future[T],
        function: Callable[[*Ts], Awaitable[T]],
        arguments: tuple[*Ts],
    ) -> None:
        assert self._nursery is not None
        try:
            self._nursery.start_soon(self._answer, scope, answer, function, arguments)
        except RuntimeError:  # the nursery closes
            _post(self._loop, _fail, answer, BridgeDown("libp2p stops"))

    async def _answer(
        self,
        scope: trio.CancelScope,
        answer: asyncio.Future[T],
        function: Callable[[*Ts], Awaitable[T]],
        arguments: tuple[*Ts],
    ) -> None:
        try:
            with scope:
                result = await function(*arguments)
            if not scope.cancelled_caught:  # else its caller does not wait any more
                _post(self._loop, _resolve, answer, result)
        except trio.Cancelled:
            _post(self._loop, _fail, answer, BridgeDown("libp2p stops"))
            raise
        except Exception as failure:  # the caller's to handle, and no reason to end the run
            _post(self._loop, _fail, answer, failure)

    def _cancel(self) -> None:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    # --- on the asyncio loop ---

    def _entered(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        if self._stopping:
            self.enter(self._cancel)

    def _finish(self, failure: BaseException | None) -> None:
        self._token = None
        for answer in (self.ready, *self.waiting):
            _fail(answer, BridgeDown(f"libp2p has stopped: {failure}" if failure else "libp2p has stopped"))
        if failure is None:
            _resolve(self.ended, None)
        else:
            _fail(self.ended, failure)


def _post(loop: asyncio.AbstractEventLoop, function: Callable[[*Ts], object], *arguments: *Ts) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:  # the loop has closed: nobody waits any more
        return


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], failure: BaseException) -> None:
    if not future.done():
        future.set_exception(failure)


def _seen(future: asyncio.Future[None]) -> None:
    """Whoever wants the outcome awaits it; where nobody does, asyncio need not complain of it."""
    if not future.cancelled():
        future.exception()
