"""Executions: one run of a job on one node, how it ended, and why it failed where it did."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from bacalhau.model.frozen import dataclass

if TYPE_CHECKING:
    from bacalhau.model.cid import Cid


class FaultKind(Enum):
    """Why an execution or job failed; numbers are those of execution.proto."""

    OUT_OF_MEMORY = 1
    EXECUTION_TIMEOUT = 2
    OUT_OF_DISK = 3
    INVALID_MODULE = 4
    INVALID_TASK = 5
    UNSAFE_OUTPUT = 6
    IMAGE_UNAVAILABLE = 7
    INPUT_UNAVAILABLE = 8
    INPUT_TOO_LARGE = 9
    ENGINE_FAILED = 10
    STORAGE_FULL = 11
    NODE_LOST = 12
    NODE_RESTARTED = 13
    RESULT_UNAVAILABLE = 14
    NO_NODE = 15
    QUEUE_TIMEOUT = 16
    TOTAL_TIMEOUT = 17
    RESULT_REFUTED = 18
    NOT_REVEALED = 19
    NO_AGREEMENT = 20
    CALLED_OFF = 30

    @property
    def blames_job(self) -> bool:
        """Another node would fail in the same way, so the work is not awarded again."""
        return self in _BLAMES_JOB

    @property
    def in_reports(self) -> bool:
        """The node that ran it can say so; the rest is for its requester to say."""
        return self not in _OF_REQUESTERS


_BLAMES_JOB = (
    FaultKind.OUT_OF_MEMORY,
    FaultKind.EXECUTION_TIMEOUT,
    FaultKind.OUT_OF_DISK,
    FaultKind.INVALID_MODULE,
    FaultKind.INVALID_TASK,
    FaultKind.UNSAFE_OUTPUT,
    FaultKind.INPUT_TOO_LARGE,
)
_OF_REQUESTERS = (
    FaultKind.RESULT_UNAVAILABLE,
    FaultKind.NO_NODE,
    FaultKind.QUEUE_TIMEOUT,
    FaultKind.TOTAL_TIMEOUT,
    FaultKind.RESULT_REFUTED,
    FaultKind.NOT_REVEALED,
    FaultKind.NO_AGREEMENT,
    FaultKind.CALLED_OFF,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure, explained for a person: used against allowed, and what to change."""

    kind: FaultKind
    message: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What an execution used, as its node measured it; 0 where the engine does not tell."""

    wall_us: int = 0
    cpu_us: int = 0
    peak_memory_bytes: int = 0
    fetched_bytes: int = 0
    result_bytes: int = 0


class ExecutionState(Enum):
    """State of an execution at its requester; numbers are those of execution.proto."""

    AWARDED = 1
    RUNNING = 2
    REPORTED = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6
    REFUSED = 7
    COMMITTED = 8
    REVEALED = 9

    def __init__(self, number: int) -> None:
        self.ended = self.name in ("COMPLETED", "FAILED", "CANCELLED", "REFUSED")


class ExecutionPhase(Enum):
    """What a compute node does for an execution; numbers are those of execution.proto."""

    FETCHING_INPUTS = 1
    PREPARING = 2
    RUNNING = 3
    PUBLISHING = 4


@dataclass(frozen=True, slots=True)
class ExecutionReport:
    """How an execution ended on its node.

    `result` is the CID of the result folder, None where there is none; `exit_code` holds where `fault` is None
    and `cancelled` is False. `salt` opens the commitment of a job that verifies.
    """

    execution_id: str
    attempt: int
    result: Cid | None
    exit_code: int
    usage: Usage
    fault: Fault | None = None
    cancelled: bool = False
    salt: bytes = b""
