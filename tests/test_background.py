from __future__ import annotations

import asyncio
import logging

import pytest

from bacalhau.background import Background


async def fail() -> None:
    raise ValueError("of all things")


def test_a_failure_is_logged_with_what_was_done(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        background = Background()
        background.start("reading the stars", fail())
        await background.ended()

    asyncio.run(run())
    (record,) = [record for record in caplog.records if record.name == "bacalhau.background"]
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "reading the stars failed")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


def test_who_has_another_ending_for_failures_hears_of_them() -> None:
    heard: list[tuple[str, str]] = []

    async def run() -> None:
        background = Background(lambda what, failure: heard.append((what, str(failure))))
        background.start("reading the stars", fail())
        await background.ended()

    asyncio.run(run())
    assert heard == [("reading the stars", "of all things")]


def test_closing_cancels_what_goes_on_and_what_is_begun_by_its_end() -> None:
    heard: list[str] = []

    async def run() -> None:
        background = Background(lambda what, failure: heard.append(what))

        async def last() -> None:
            heard.append("last")

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                background.start("the last", last())

        task = background.start("waiting", work())
        await asyncio.sleep(0)
        await background.close()
        assert task.cancelled()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
    assert heard == ["last"]


def test_giving_up_the_wait_cancels_nothing() -> None:
    async def run() -> None:
        background = Background()
        gate = asyncio.Event()
        task = background.start("waiting", gate.wait())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await background.ended()
        gate.set()
        assert await task

    asyncio.run(run())
