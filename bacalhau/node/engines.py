"""The engines of this node: which there are, whether they answer now, and what to say where they do not."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from bacalhau.model.job import Engine
from bacalhau.runtime.executor import EngineStatus
from bacalhau.scheduler.events import EnginesChanged

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.config import Settings
    from bacalhau.model.resources import Resources
    from bacalhau.runtime.executor import Executor

log = logging.getLogger(__name__)


class Engines:
    """Executors by engine, and their status. A node that does not compute has none."""

    def __init__(self, settings: Settings, node_id: str, capacity: Resources) -> None:
        self.executors: dict[Engine, Executor] = {}
        self.available: tuple[Engine, ...] = ()
        self.notices: tuple[str, ...] = ()
        self._check_s = settings.engine_check_us / 1e6
        if not settings.compute:
            return
        if Engine.DOCKER in settings.engines:
            from bacalhau.runtime.docker import DockerExecutor

            self.executors[Engine.DOCKER] = DockerExecutor(node_id)
        if Engine.WASM in settings.engines:
            from bacalhau.runtime.wasm import WasmExecutor

            warm = max(1, min(capacity.cpu_millicores // 1000, WORKERS_PER_CORE * (os.cpu_count() or 1)))
            self._wasm = WasmExecutor(warm, settings.data_dir / "wasm-cache", WORKERS_MAX)
            self.executors[Engine.WASM] = self._wasm
        if settings.misbehave is not None:
            from bacalhau.node.misbehaviour import MisbehavingExecutor, Misbehaviour

            misbehaviour = Misbehaviour(settings.misbehave)
            log.warning("this node misbehaves on purpose: %s", misbehaviour.value)
            self.executors = {
                engine: MisbehavingExecutor(executor, misbehaviour)
                for engine, executor in self.executors.items()
            }

    async def start(self) -> None:
        await self._check()
        if Engine.WASM in self.available:
            await self._wasm.start()

    def changed(self) -> EnginesChanged:
        return EnginesChanged(self.available)

    async def _check(self) -> bool:
        """Asks every engine; whether anything is other than it was."""
        engines = sorted(self.executors, key=lambda engine: engine.value)
        statuses: list[EngineStatus] = await asyncio.gather(
            *(_status_of(self.executors[engine]) for engine in engines)
        )
        before = self.available, self.notices
        self.available = tuple(
            engine for engine, status in zip(engines, statuses, strict=True) if status.available
        )
        self.notices = tuple(
            f"{engine.name.lower()}: {status.message}"
            for engine, status in zip(engines, statuses, strict=True)
            if not status.available
        )
        return (self.available, self.notices) != before

    async def watch(self, on_change: Callable[[], None]) -> None:
        """Asks again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._check_s)
            if await self._check():
                log.info("engines: %s", ", ".join(engine.name.lower() for engine in self.available) or "none")
                for notice in self.notices:
                    log.warning("%s", notice)
                on_change()

    async def close(self) -> None:
        for executor in self.executors.values():
            await executor.close()


async def _status_of(executor: Executor) -> EngineStatus:
    """A machine that is out of files, sockets or processes now has no engine now; that stops no node."""
    try:
        return await executor.status()
    except OSError as error:
        return EngineStatus(False, message=f"it cannot be asked: {error.strerror or error}")


WORKERS_MAX = 256
"""WASM programs that may run at once: each has a process; capacity is what limits them before."""
WORKERS_PER_CORE = 8
"""Kept warm, where the operator offers so many more cores than there are. A worker waits for its node's event loop
between two short runs: with two on two cores 300 runs at once took a fifth longer than with sixteen."""
