"""The port between the node and its engines.

An engine prepares a task (pulls an image, compiles a module), runs it inside a workspace that is laid out already,
keeps it within its limits, and says how it ended. It decides nothing about jobs, prices or results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from bacalhau.model.execution import Fault, Usage
    from bacalhau.model.job import Engine, JobSpec

    Progress = Callable[[int, int], None]
    """Called with (done_bytes, total_bytes); total is 0 where it is not known. Called from any thread."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Whether an engine answers now; `message` says what is missing and what to do where it does not."""

    available: bool
    version: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Folders and files of one attempt of an execution, all below `root`.

    `inputs[i]` is the file or folder of `spec.inputs[i]`, `modules` those of `spec.contents()` that are WASM
    modules (the task's module first, then its imports), `outputs[i]` the empty folder of `spec.outputs[i]`.
    """

    root: Path
    inputs: tuple[Path, ...]
    modules: tuple[Path, ...]
    outputs: tuple[Path, ...]
    stdout: Path
    stderr: Path


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt to run a spec."""

    execution_id: str
    attempt: int
    spec: JobSpec
    workspace: Workspace


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: an exit code, or a fault (then `exit_code` is what the engine left, if anything)."""

    exit_code: int
    usage: Usage
    fault: Fault | None = None


class EngineFault(Exception):
    """Preparing or running failed; carries the fault that the job's user will read."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Executor(Protocol):
    """An engine. Every method may be called from the event loop: nothing blocks it."""

    engine: Engine

    async def status(self) -> EngineStatus:
        """Asks the engine, within a few seconds."""
        ...

    async def prepare(self, run: Run, progress: Progress) -> None:
        """Pulls the image or compiles the module. Raises EngineFault."""
        ...

    async def run(self, run: Run) -> Outcome:
        """Runs to the end, writing output to the workspace as it comes. Raises EngineFault where the program
        could not be started. Cancelling the task stops the program before it returns."""
        ...

    async def resume(self, run: Run) -> Outcome | None:
        """After a restart of the node: goes on with a program that still runs (or ended meanwhile) and returns its
        outcome; None where there is nothing to go on with."""
        ...

    async def reap(self, keep: Collection[str]) -> list[str]:
        """Stops and removes what earlier lives of this node left behind, but for executions in `keep`. Returns
        the ids removed. Never touches what another node started."""
        ...

    async def close(self) -> None:
        """Lets go of workers and connections. Running programs that can outlive the node (containers) do."""
        ...
