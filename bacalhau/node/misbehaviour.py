"""Nodes that misbehave on purpose, for experiments: `serve --misbehave`, `devstack --bad-nodes`.

Owns the bad behaviour, which is all behind the port of the engines: whatever else such a node says and signs is what
an honest one would say, and the network gets no hint. Nothing else in the node knows of it.
"""

from __future__ import annotations

import asyncio
import secrets
from enum import Enum
from typing import TYPE_CHECKING

from bacalhau.model.execution import Fault, FaultKind, Usage
from bacalhau.model.units import SECOND_US
from bacalhau.runtime.executor import EngineFault, Outcome

if TYPE_CHECKING:
    from collections.abc import Collection

    from bacalhau.runtime.executor import EngineStatus, Executor, Progress, Run

_CLAIMED_US = SECOND_US


class Misbehaviour(Enum):
    """What a bad node does with the work that it is awarded."""

    WRONG_RESULT = "wrong-result"
    """It runs nothing, and reports a made-up stdout with exit code 0; each time another."""
    FAIL = "fail"
    """It reports that its engine failed."""
    NEVER_REPORT = "never-report"
    """It renews its lease, and never comes to an end."""


class MisbehavingExecutor:
    """An engine that does not run what it is given. It is as available, and answers as fast, as the real one."""

    def __init__(self, executor: Executor, misbehaviour: Misbehaviour) -> None:
        self.engine = executor.engine
        self._executor = executor
        self._misbehaviour = misbehaviour

    async def status(self) -> EngineStatus:
        return await self._executor.status()

    async def prepare(self, run: Run, progress: Progress) -> None:
        """Nothing is needed for what is not run."""

    async def run(self, run: Run) -> Outcome:
        match self._misbehaviour:
            case Misbehaviour.WRONG_RESULT:
                run.workspace.stdout.write_text(f"{secrets.token_hex(16)}\n")
                run.workspace.stderr.touch()
                return Outcome(0, Usage(wall_us=_CLAIMED_US, cpu_us=_CLAIMED_US))
            case Misbehaviour.FAIL:
                raise EngineFault(Fault(FaultKind.ENGINE_FAILED, "the engine failed"))
            case Misbehaviour.NEVER_REPORT:
                await asyncio.Event().wait()
                raise AssertionError("nobody sets this event")

    async def resume(self, run: Run) -> Outcome | None:
        """Nothing of it can have gone on without the node."""
        return None

    async def reap(self, keep: Collection[str]) -> list[str]:
        return await self._executor.reap(keep)

    async def close(self) -> None:
        await self._executor.close()
