"""An open job as the requester machine holds it: its executions, its auction, and what is still missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bacalhau.model.execution import ExecutionState, Fault
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.scheduler.records import ExecutionRecord, JobChanged, JobHappening

if TYPE_CHECKING:
    from bacalhau.market.clearing import SealedBid
    from bacalhau.model.execution import ExecutionPhase
    from bacalhau.model.job import JobSpec
    from bacalhau.model.market import ClaimedInput, JobOffer

PASSING = (
    RefusalReason.BUSY,
    RefusalReason.LIMIT_REACHED,
    RefusalReason.SHUTTING_DOWN,
    RefusalReason.STORAGE_FULL,
)
"""Declines that may turn into bids while the offer is open."""


@dataclass(slots=True)
class Auction:
    """An open offer and the answers to it. It is cleared when all who were asked have answered or the bid
    window ends; from then on (`standing`) each new bid is cleared as it comes, until nothing is missing."""

    offer: JobOffer
    opened_us: int
    closes_us: int
    queue_until_us: int
    awaiting: dict[str, int]
    """By node that has not answered: how often it was asked."""
    unheard: bool = False
    """No node was live when the auction opened: the first that is heard gets the whole bid window."""
    bids: dict[str, SealedBid] = field(default_factory=dict)
    """By node: bids that have not been awarded."""
    declines: dict[str, Refusal] = field(default_factory=dict)
    acknowledged: dict[str, SealedBid] = field(default_factory=dict)
    """By node: every acknowledged bid, the awarded ones too; what the bid set digest is over."""
    answers: dict[str, int] = field(default_factory=dict)
    """By node: how many of its answers were kept."""
    standing: bool = False
    queued: bool = False
    reoffers: int = 0

    def ready(self, now: int) -> bool:
        return self.standing or now >= self.closes_us or not (self.awaiting or self.unheard)

    def drop_expired_bids(self, now: int) -> None:
        """The node of a bid that has expired may bid again."""
        for node_id in [node_id for node_id, sealed in self.bids.items() if sealed.expires_us <= now]:
            del self.bids[node_id]
            self.awaiting.setdefault(node_id, 0)


@dataclass(slots=True)
class Job:
    """An open job. `lapsed` are executions whose lease has ended but whose work was not awarded again yet: a
    report that comes until then still counts."""

    id: str
    spec: JobSpec
    inputs: tuple[ClaimedInput, ...]
    spec_digest: bytes
    created_us: int
    state: JobState = JobState.PENDING
    sequence: int = 0
    charged_microcredits: int = 0
    executions: dict[str, ExecutionRecord] = field(default_factory=dict)
    lapsed: dict[str, None] = field(default_factory=dict)
    faulted: dict[str, Fault] = field(default_factory=dict)
    """By node: why the job is not offered to it again."""
    auction: Auction | None = None
    fatal: Fault | None = None
    """A fault that is the job's own: it ends the job."""

    def active(self) -> list[ExecutionRecord]:
        """Executions that have not ended, lapsed ones too."""
        if not self.executions:
            return []
        return [execution for execution in self.executions.values() if not execution.state.ended]

    def held(self) -> list[ExecutionRecord]:
        """Executions that somebody is known to work at, or has reported."""
        return [execution for execution in self.active() if execution.id not in self.lapsed]

    def completed(self) -> int:
        return sum(1 for e in self.executions.values() if e.state is ExecutionState.COMPLETED)

    def missing(self) -> int:
        """How many executions still have to be awarded."""
        if not self.executions:
            return self.spec.count
        return self.spec.count - self.completed() - len(self.held())

    def vacant(self) -> int:
        """How many can be awarded without giving up a lapsed execution."""
        return self.spec.count - self.completed() - len(self.active())

    def excludes(self, node_id: str) -> bool:
        """A node runs a job once, and is not asked again after it failed at it."""
        if node_id in self.faulted:
            return True
        return bool(self.executions) and any(
            e.node_id == node_id and (not e.state.ended or e.state is ExecutionState.COMPLETED)
            for e in self.executions.values()
        )

    def awarded(self, bid_id: str) -> bool:
        """The bid has won before, whatever became of that."""
        return bool(self.executions) and any(e.bid_id == bid_id for e in self.executions.values())

    def last_fault(self) -> Fault | None:
        """Why the execution that failed last did so."""
        failed = [e for e in self.executions.values() if e.failure is not None]
        return max(reversed(failed), key=lambda e: e.updated_us).failure if failed else None

    def happened(
        self,
        type: JobEventType,
        now: int,
        message: str = "",
        *,
        execution: ExecutionRecord | None = None,
        node_id: str = "",
        price_microcredits: int | None = None,
        refusal: Refusal | None = None,
        phase: ExecutionPhase | None = None,
        fault: Fault | None = None,
    ) -> JobHappening:
        """The next entry of the job's history."""
        self.sequence += 1
        return JobHappening(
            self.id,
            self.sequence,
            type,
            now,
            self.state,
            message,
            execution.node_id if execution else node_id,
            execution.id if execution else "",
            price_microcredits,
            refusal,
            phase,
            fault,
        )

    def changed(self, now: int, failure: Fault | None = None) -> JobChanged:
        return JobChanged(self.id, self.state, now, failure, self.charged_microcredits)
