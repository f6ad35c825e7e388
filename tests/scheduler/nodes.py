"""What the test world is made of: nodes with what they hold on disk and in memory, programs, and the weather."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from bacalhau.market.credit import CreditPolicy
from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.requester import RequesterConfig, RequesterMachine
from tests.scheduler.journal import Journal

if TYPE_CHECKING:
    from bacalhau.model.execution import ExecutionReport
    from bacalhau.model.resources import Resources


@dataclass(slots=True)
class Weather:
    """What goes wrong at present; chances in percent."""

    loss: int = 0
    duplication: int = 0
    delay_max_us: int = 50_000
    straggling: int = 0
    """Messages that take up to twenty seconds."""
    late_wakes_us: int = 0
    """How much later than its deadline a node may wake: its process stood still."""
    crash_in_step: int = 0
    """Nodes that crash between two of commit, send and start; in a thousand steps."""
    node_faults: int = 0
    """Executions that fail for a reason of the node."""
    partitioned: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Program:
    """Work in progress on a node's machine. One that `outlives` its node is found again after a crash."""

    attempt: int
    resources: Resources
    outlives: bool
    stopped: bool = False
    report: ExecutionReport | None = None
    """How it ended, where that happened while its node was down."""


class Honesty(Enum):
    """What a node does where results are compared."""

    HONEST = 1
    INVENTS = 2
    """Reports a result that it never computed."""
    COPIES = 3
    """Repeats the commitment of another node, and opens it as that one does."""
    CONCEALS = 4
    """Commits, and does not reveal."""
    SWITCHES = 5
    """Commits to one result, and reveals another."""


class Crash(Exception):
    """The node's process dies here."""


class Node:
    """One process: what it has on disk, and what it holds in memory while it is up."""

    def __init__(self, id: str, capacity: Resources, price_microcredits: int) -> None:
        self.id = id
        self.capacity = capacity
        self.price_microcredits = price_microcredits
        self.journal = Journal()
        self.programs: dict[str, Program] = {}
        self.life = 0
        """How often it was started: what an earlier life waited for does not reach a later one."""
        self.up = False
        self.honesty = Honesty.HONEST
        self.requester: RequesterMachine
        self.compute: ComputeMachine


WIDE_CREDIT = CreditPolicy(peer_limit_microcredits=10**6, unproven_limit_microcredits=10**6)


@dataclass(slots=True)
class Machines:
    """The machines that a world runs; tests put broken ones here."""

    requester: type[RequesterMachine] = RequesterMachine
    compute: type[ComputeMachine] = ComputeMachine
    requester_config: RequesterConfig = field(default_factory=RequesterConfig)
    credit: CreditPolicy = WIDE_CREDIT
