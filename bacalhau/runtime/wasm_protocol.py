"""What the node and its WASM workers say to each other: one JSON line each way, one request at a time.

Owns the messages and their form. JSON and not pickle, because a worker runs strangers' code and the node must
be able to read whatever a worker sends without running it.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from bacalhau.model.execution import Fault, FaultKind


class ModuleFile(NamedTuple):
    """A module to load: `key` is the text of its CID, `name` what other modules import it by."""

    key: str
    path: str
    name: str


class Request(NamedTuple):
    """Check the modules of a task (`run` False: only `modules` and `entry_point` count), or run it.

    `modules[0]` is the program, the others its imports in order of linking. `inputs` are (file or folder on
    this machine, absolute path in the program), `outputs` (folder on this machine, absolute path in the
    program).
    """

    run: bool
    modules: tuple[ModuleFile, ...]
    entry_point: str
    arguments: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    root: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()
    stdout: str = ""
    stderr: str = ""
    timeout_us: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0


class Answer(NamedTuple):
    """How a check or a run ended.

    `started` is False where the program never began, then `fault` says why. `leaving` is True where the
    worker ends itself after this answer and takes no other request.
    """

    started: bool
    exit_code: int = 0
    wall_us: int = 0
    cpu_us: int = 0
    peak_memory_bytes: int = 0
    fault_kind: int = 0
    fault_message: str = ""
    leaving: bool = False

    @property
    def fault(self) -> Fault | None:
        return Fault(FaultKind(self.fault_kind), self.fault_message) if self.fault_kind else None


def refusal(kind: FaultKind, message: str) -> Answer:
    """An answer to a request whose program never began."""
    return Answer(False, fault_kind=kind.value, fault_message=message)


def encode(message: Request | Answer) -> bytes:
    """One line; JSON escapes every line end inside it."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    fields: list[Any] = json.loads(line)
    request = Request(*fields)
    return request._replace(
        modules=tuple(ModuleFile(*module) for module in request.modules),
        inputs=tuple((path, target) for path, target in request.inputs),
        outputs=tuple((path, target) for path, target in request.outputs),
    )


def decode_answer(line: bytes) -> Answer:
    """Raises ValueError or TypeError where a worker sent something else."""
    fields: list[Any] = json.loads(line)
    answer = Answer(*fields)
    if answer.fault_kind:
        FaultKind(answer.fault_kind)
    return answer
