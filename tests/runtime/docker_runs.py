"""What the tests of the Docker executor share: runs in workspaces of their own, for a node of their own."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.model.job import DockerTask, JobSpec, Timeouts
from bacalhau.model.resources import DEFAULT_JOB_RESOURCES
from bacalhau.runtime.docker import DockerExecutor
from bacalhau.runtime.executor import Outcome, Run
from bacalhau.runtime.workspace import Workspaces

if TYPE_CHECKING:
    from pathlib import Path

    import docker
    from docker.models.containers import Container


def no_progress(done_bytes: int, total_bytes: int) -> None:
    pass


@dataclass
class Node:
    """The runtime side of one node."""

    id: str
    executor: DockerExecutor
    workspaces: Workspaces
    store: MemoryBlockStore
    client: docker.DockerClient

    def make_run(
        self,
        *command: str,
        image: str = "busybox",
        entrypoint: tuple[str, ...] = (),
        working_directory: str = "",
        timeout_s: float | None = None,
        resources: dict[str, int] | None = None,
        **fields: Any,
    ) -> Run:
        """A run of `command`, its workspace laid out."""
        if timeout_s is not None:
            fields["timeouts"] = Timeouts(execution_us=int(timeout_s * 1_000_000))
        spec = JobSpec(
            DockerTask(image, entrypoint, command, working_directory),
            resources=replace(DEFAULT_JOB_RESOURCES, **(resources or {})),
            **fields,
        )
        execution_id = "e-" + secrets.token_hex(8)
        return Run(execution_id, 1, spec, self.workspaces.materialise(self.store, execution_id, 1, spec))

    async def do(self, run: Run) -> Outcome:
        await self.executor.prepare(run, no_progress)
        return await self.executor.run(run)

    def containers(self) -> list[Container]:
        """Every container of this node."""
        return self.client.containers.list(
            all=True, filters={"label": f"bacalhau.node={self.id}"}, ignore_removed=True
        )

    async def gone(self) -> None:
        """Returns when this node has no container left; removal goes on behind an outcome."""
        await until(lambda: not self.containers())

    async def printed(self, run: Run, text: str) -> None:
        """Returns when the program has printed `text`."""
        await until(lambda: run.workspace.stdout.exists() and text in run.workspace.stdout.read_text())


def make_node(client: docker.DockerClient, folder: Path, node_id: str, **settings: Any) -> Node:
    """A node with this id; a second one with the same id and folder is the first one restarted."""
    executor = DockerExecutor(node_id, **settings)
    return Node(node_id, executor, Workspaces(folder), MemoryBlockStore(), client)


async def until(holds: Any, *, timeout_s: float = 20.0) -> None:
    """Polls a condition of another process, which cannot tell us, until it holds."""
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.02)
