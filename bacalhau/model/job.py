"""Jobs: what to run, and how far it is."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from bacalhau.model.auction import FIRST_PRICE_TERMS, AuctionTerms
from bacalhau.model.frozen import dataclass
from bacalhau.model.resources import DEFAULT_JOB_RESOURCES, Resources
from bacalhau.model.units import SECOND_US
from bacalhau.model.verification import NO_VERIFICATION, Verification

if TYPE_CHECKING:
    from bacalhau.model.cid import Cid

DEFAULT_EXECUTION_TIMEOUT_US = 30 * 60 * SECOND_US


class Engine(Enum):
    """Program families that nodes can run; numbers are those of market.proto."""

    DOCKER = 1
    WASM = 2


class NetworkMode(Enum):
    """How a program reaches the network; numbers are those of job.proto."""

    NONE = 1
    FULL = 2
    HOST = 3


class ConstraintOperator(Enum):
    """Comparison of a constraint; numbers are those of job.proto."""

    IN = 1
    NOT_IN = 2
    EXISTS = 3
    NOT_EXISTS = 4


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a node's labels must say."""

    key: str
    operator: ConstraintOperator
    values: tuple[str, ...] = ()

    def holds(self, labels: dict[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case ConstraintOperator.IN:
                return value is not None and value in self.values
            case ConstraintOperator.NOT_IN:
                return value is None or value not in self.values
            case ConstraintOperator.EXISTS:
                return value is not None
            case ConstraintOperator.NOT_EXISTS:
                return value is None


@dataclass(frozen=True, slots=True)
class DockerTask:
    """A program in a container image; empty fields leave what the image says."""

    image: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""


@dataclass(frozen=True, slots=True)
class WasmImport:
    """A module that the task's module imports from, under `name`."""

    name: str
    cid: Cid


@dataclass(frozen=True, slots=True)
class WasmTask:
    """A WASM program with WASI; the module is binary or text format."""

    module: Cid
    entry_point: str = "_start"
    arguments: tuple[str, ...] = ()
    imports: tuple[WasmImport, ...] = ()


@dataclass(frozen=True, slots=True)
class InputSource:
    """IPFS content that the program sees, read-only, at the absolute path `target`."""

    cid: Cid
    target: str
    alias: str = ""


@dataclass(frozen=True, slots=True)
class OutputPath:
    """A folder that the program writes at the absolute `path`; `name` in the result."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Microseconds. `queue_us` and `total_us` are None where the user did not say."""

    execution_us: int = DEFAULT_EXECUTION_TIMEOUT_US
    queue_us: int | None = None
    total_us: int | None = None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What to run, with every default filled in and every inline input already a CID."""

    task: DockerTask | WasmTask
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    count: int = 1
    env: tuple[tuple[str, str], ...] = ()
    inputs: tuple[InputSource, ...] = ()
    outputs: tuple[OutputPath, ...] = ()
    resources: Resources = DEFAULT_JOB_RESOURCES
    network: NetworkMode = NetworkMode.NONE
    timeouts: Timeouts = Timeouts()
    constraints: tuple[Constraint, ...] = ()
    max_price_microcredits: int | None = None
    auction: AuctionTerms = FIRST_PRICE_TERMS
    verification: Verification = NO_VERIFICATION

    @property
    def engine(self) -> Engine:
        return Engine.DOCKER if isinstance(self.task, DockerTask) else Engine.WASM

    @property
    def image_or_module(self) -> str:
        """The image reference, or the CID of the module: what an offer says of the program."""
        return self.task.image if isinstance(self.task, DockerTask) else str(self.task.module)

    def contents(self) -> tuple[Cid, ...]:
        """Everything that a compute node has to hold before the program can run: inputs and modules."""
        found = [source.cid for source in self.inputs]
        if isinstance(self.task, WasmTask):
            found.append(self.task.module)
            found.extend(module.cid for module in self.task.imports)
        return tuple(found)


class JobState(Enum):
    """State of a job at its requester; numbers are those of job.proto."""

    PENDING = 1
    QUEUED = 2
    RUNNING = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6

    def __init__(self, number: int) -> None:
        self.ended = self.name in ("COMPLETED", "FAILED", "CANCELLED")


class JobEventType(Enum):
    """What happened to a job; numbers are those of job.proto."""

    SUBMITTED = 1
    OFFERED = 2
    BID_RECEIVED = 3
    DECLINED = 4
    QUEUED = 5
    AWARDED = 6
    AWARD_REFUSED = 7
    AWARD_CONFIRMED = 8
    PHASE_CHANGED = 9
    PROGRESS = 10
    REPORTED = 11
    EXECUTION_COMPLETED = 12
    EXECUTION_FAILED = 13
    EXECUTION_CANCELLED = 14
    COMPLETED = 15
    FAILED = 16
    CANCELLED = 17
    COMMITTED = 18
    VERIFYING = 19
