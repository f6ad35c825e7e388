"""A driver whose disk waits, fails or is full as a test wants it, and what it told the world outside."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from bacalhau.market.pricing import FlatPrice
from bacalhau.node.clock import Clock
from bacalhau.node.driver import Driver
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.requester import RequesterConfig, RequesterMachine
from bacalhau.store.store import Store
from tests.builders import a_compute_config, a_spec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bacalhau.scheduler.records import Write


class SlowDisk(Store):
    """A store whose disk waits until it may go on, and fails when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.failure: Exception | None = None
        self.fails_at_once: Exception | None = None
        self.refusals = 0
        self.staged: list[int] = []
        self.calls: list[str] = []

    def stage(self, writes: Sequence[Write], **also: Any) -> bool:
        if self.fails_at_once is not None:
            self.refusals += 1
            raise self.fails_at_once
        if writes:
            self.staged.append(len(writes))
            self.calls.append("staged")
        return super().stage(writes, **also)

    def commit_staged(self) -> None:
        self.may_go_on.wait(10)
        if (failure := self.failure) is not None:  # once: the test may take it back meanwhile
            self._end_staged()
            self.refusals += 1
            raise failure
        super().commit_staged()
        self.calls.append("committed")


class Outside:
    """What a driver's hooks were told."""

    def __init__(self, folder: Path) -> None:
        self.disk = SlowDisk(folder / "journal.sqlite")
        self.made_ready: list[fx.Send] = []
        self.sent: list[fx.Send] = []
        self.started: list[fx.Start] = []
        self.happened: list[object] = []
        self.failures: list[BaseException] = []
        self.numbers = iter(range(1, 1_000_000))
        self.driver = self.make_driver()

    def make_driver(self) -> Driver:
        def ids(prefix: str) -> str:
            return f"{prefix}-{next(self.numbers)}"

        requester = RequesterMachine(RequesterConfig(), ids)
        compute = ComputeMachine(a_compute_config(), FlatPrice(1), ids)
        driver = Driver(requester, compute, self.disk, Clock())
        driver.deliver_here = lambda send: send
        driver.answer_here = lambda start: False
        driver.on_waiting = self.made_ready.append
        driver.on_send = self.sent.append
        driver.on_start = self.started.append
        driver.on_written = self.happened.append
        driver.on_failure = self.failures.append
        return driver

    async def submit(self, job_id: str) -> None:
        refusal = await self.driver.ask_requester(ev.JobSubmitted(job_id, a_spec(), (), bytes(32)))
        assert refusal is None


async def some_turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)
