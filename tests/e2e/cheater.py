"""A node that cheats: `python -m tests.e2e.cheater serve …` is `bacalhau serve …` with engines that run nothing.

Whatever it is asked to run, it says at once that it has, and what the program wrote is invented. All else about it is a
node like any other, its random id too.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from bacalhau.cli import main as command_line
from bacalhau.model.execution import Usage
from bacalhau.node import main as node_main
from bacalhau.node.node import Node
from bacalhau.runtime.executor import Outcome

if TYPE_CHECKING:
    from collections.abc import Collection

    from bacalhau.runtime.executor import EngineStatus, Executor, Progress, Run
    from bacalhau.wire.identity import NodeKey


class LazyExecutor:
    """An engine in front of a real one, which is never asked to run anything."""

    def __init__(self, real: Executor) -> None:
        self.engine = real.engine
        self._real = real

    async def status(self) -> EngineStatus:
        return await self._real.status()

    async def prepare(self, run: Run, progress: Progress) -> None:
        """Nothing to prepare."""

    async def run(self, run: Run) -> Outcome:
        run.workspace.stdout.write_bytes(b"invented " + os.urandom(8).hex().encode() + b"\n")
        run.workspace.stderr.write_bytes(b"")
        return Outcome(0, Usage(wall_us=1000))

    async def resume(self, run: Run) -> Outcome | None:
        return await self.run(run)

    async def reap(self, keep: Collection[str]) -> list[str]:
        return await self._real.reap(keep)

    async def close(self) -> None:
        await self._real.close()


class CheatingNode(Node):
    async def _put_together(self, key: NodeKey) -> None:
        await super()._put_together(key)
        executors = self._engines.executors
        executors.update({engine: LazyExecutor(real) for engine, real in executors.items()})


if __name__ == "__main__":
    vars(node_main)["Node"] = CheatingNode
    sys.exit(command_line.run(sys.argv[1:]))
