"""Trio beside asyncio: what crosses the bridge, and what becomes of it when one side ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel

from bacalhau.p2p.bridge import Bridge, BridgeDown, Main

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def forever(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


@contextlib.asynccontextmanager
async def running(main: Main = forever) -> AsyncIterator[Bridge]:
    bridge = Bridge()
    await bridge.start(main)
    try:
        yield bridge
    finally:
        await bridge.stop()


async def test_a_call_runs_in_trio_on_another_thread_and_its_result_comes_back() -> None:
    async def where(word: str) -> tuple[str, str]:
        await trio.lowlevel.checkpoint()
        return word, threading.current_thread().name

    async with running() as bridge:
        assert await bridge.call(where, "x") == ("x", "libp2p")


async def test_what_a_call_raises_is_raised_here_and_ends_nothing_else() -> None:
    async def fail() -> None:
        raise KeyError("k")

    async def answer() -> int:
        return 1

    async with running() as bridge:
        with pytest.raises(KeyError, match="k"):
            await bridge.call(fail)
        assert await bridge.call(answer) == 1


async def test_cancelling_a_call_cancels_what_it_runs() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()
    async with running() as bridge:

        async def wait() -> None:
            bridge.tell(begun.set)
            try:
                await trio.sleep_forever()
            finally:
                bridge.tell(cancelled.set)

        call = asyncio.create_task(bridge.call(wait))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await cancelled.wait()


async def test_a_call_that_is_open_when_the_bridge_stops_is_told() -> None:
    begun = asyncio.Event()
    async with running() as bridge:

        async def wait() -> None:
            bridge.tell(begun.set)
            await trio.sleep_forever()

        call = asyncio.create_task(bridge.call(wait))
        await begun.wait()
    with pytest.raises(BridgeDown):
        await call
    with pytest.raises(BridgeDown):
        await bridge.call(wait)


async def test_a_crash_of_the_run_is_visible_fails_open_calls_and_the_bridge_starts_again() -> None:
    crash = trio.Event()

    async def crashing(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await crash.wait()
        raise ValueError("crashed")

    async def set_off() -> None:
        crash.set()
        await trio.sleep_forever()

    async with running(crashing) as bridge:
        with pytest.raises(BridgeDown):
            await bridge.call(set_off)
        with pytest.raises(ExceptionGroup) as caught:
            await bridge.ended
        assert caught.group_contains(ValueError, match="crashed")
        await bridge.start(forever)
        assert not bridge.ended.done()


async def test_what_the_main_function_raises_before_it_is_ready_is_raised_by_start() -> None:
    async def refuses(*, task_status: trio.TaskStatus[None]) -> None:
        raise OSError("in use")

    bridge = Bridge()
    with pytest.raises(OSError, match="in use"):
        await bridge.start(refuses)
    assert bridge.ended.done()


async def test_a_start_that_is_cancelled_leaves_no_thread() -> None:
    async def never_ready(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    bridge = Bridge()
    starting = asyncio.create_task(bridge.start(never_ready))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert bridge.ended.done()


async def test_a_thousand_calls_at_once_are_all_answered() -> None:
    async def double(number: int) -> int:
        await trio.lowlevel.checkpoint()
        return 2 * number

    async with running() as bridge:
        answers = await asyncio.gather(*(bridge.call(double, number) for number in range(1000)))
    assert answers == [2 * number for number in range(1000)]
