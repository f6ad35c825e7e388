"""An open job as the requester machine holds it: its executions, its auction, and what is still missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bacalhau.model.auction import BidStanding, ClearingRule
from bacalhau.model.execution import ExecutionState, Fault
from bacalhau.model.job import JobEventType, JobState
from bacalhau.scheduler.records import ExecutionRecord, JobChanged, JobHappening

if TYPE_CHECKING:
    from bacalhau.market.clearing import SealedBid
    from bacalhau.model.execution import ExecutionPhase
    from bacalhau.model.job import JobSpec
    from bacalhau.model.market import ClaimedInput, JobOffer
    from bacalhau.model.refusals import Refusal

# Enum members that are compared for every bid: CPython 3.11 takes ten times as long to get one from its class.
_POSTED_PRICE: Final = ClearingRule.POSTED_PRICE
_COMPLETED: Final = ExecutionState.COMPLETED
_BID_RECEIVED: Final = JobEventType.BID_RECEIVED


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
    declined_us: dict[str, int] = field(default_factory=dict)
    """By node: when it signed its last decline."""
    acknowledged: dict[str, SealedBid] = field(default_factory=dict)
    """By node: every acknowledged bid, the awarded ones too; what the bid set digest is over."""
    acknowledged_bids: int = 0
    """How many bids were acknowledged, those that others of their node replaced too."""
    clearings: int = 0
    """How many of its clearings awarded something."""
    answers: dict[str, int] = field(default_factory=dict)
    """By node: how many of its answers were kept."""
    standing: bool = False
    queued: bool = False
    reoffers: int = 0

    def ready(self, now: int, missing: int) -> bool:
        """It may be cleared: at a posted price nothing is gained by waiting for more who take it."""
        if self.standing or now >= self.closes_us or not (self.awaiting or self.unheard):
            return True
        return self.offer.clearing_rule is _POSTED_PRICE and len(self.bids) >= missing

    def drop_expired_bids(self, now: int) -> None:
        """The node of a bid that has expired may bid again."""
        for node_id in [node_id for node_id, sealed in self.bids.items() if sealed.expires_us <= now]:
            del self.bids[node_id]
            self.awaiting.setdefault(node_id, 0)

    def bid_set(
        self, executions: dict[str, ExecutionRecord], now: int
    ) -> tuple[tuple[SealedBid, BidStanding], ...]:
        """Each node's last acknowledged bid, and whether it takes part in a clearing now."""
        awarded = {(execution.bid_id, execution.node_id) for execution in executions.values()}
        found: list[tuple[SealedBid, BidStanding]] = []
        stands = BidStanding.STANDS
        for node_id, sealed in self.acknowledged.items():
            if self.bids.get(node_id) is sealed:
                standing = stands
            elif (sealed.bid.id, node_id) in awarded:
                standing = BidStanding.AWARDED
            else:
                standing = BidStanding.EXPIRED if sealed.expires_us <= now else BidStanding.WITHDRAWN
            found.append((sealed, standing))
        return tuple(found)


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
    replicas: int = 0
    """How many executions are wanted at present; 0 until that is known (Verifications.restore)."""
    asked: dict[str, int] = field(default_factory=dict)
    """By execution: since when its result is asked for, in a job that compares results."""
    trusting: str = ""
    """The execution whose result an adaptive job takes unchecked."""
    decided: bool = False
    """Results were compared, and a group of them won."""

    def active(self) -> list[ExecutionRecord]:
        """Executions that have not ended, lapsed ones too."""
        if not self.executions:
            return []
        return [execution for execution in self.executions.values() if not execution.state.ended]

    def held(self) -> list[ExecutionRecord]:
        """Executions that somebody is known to work at, or has reported."""
        active = self.active()
        return (
            [execution for execution in active if execution.id not in self.lapsed] if self.lapsed else active
        )

    def completed(self) -> int:
        if not self.executions:
            return 0
        return len([e for e in self.executions.values() if e.state is _COMPLETED])

    def done(self) -> bool:
        return self.decided if self.spec.verification.compares else self.completed() == self.spec.count

    def missing(self) -> int:
        """How many executions still have to be awarded."""
        if not self.executions:
            return self.replicas
        return self.replicas - self.completed() - len(self.held())

    def open_slots(self) -> int:
        """How many of those that its auction's offer is for nobody holds or has completed."""
        if self.auction is None:
            return 0
        offer = self.auction.offer
        if not self.executions:
            return offer.winners
        taken = [
            e
            for e in self.executions.values()
            if e.offer_id == offer.id
            and (e.state is _COMPLETED or not (e.state.ended or e.id in self.lapsed))
        ]
        return offer.winners - len(taken)

    def vacant(self) -> int:
        """How many can be awarded without giving up a lapsed execution."""
        return self.replicas - self.completed() - len(self.active())

    def excludes(self, node_id: str) -> bool:
        """A node runs a job once, and is not asked again after it failed at it."""
        if node_id in self.faulted:
            return True
        return bool(self.executions) and any(
            e.node_id == node_id and (not e.state.ended or e.state is ExecutionState.COMPLETED)
            for e in self.executions.values()
        )

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

    def got_bid(self, node_id: str, price_microcredits: int, now: int) -> JobHappening:
        """As `happened`, for what happens most."""
        self.sequence += 1
        return JobHappening(
            self.id, self.sequence, _BID_RECEIVED, now, self.state, "", node_id, "", price_microcredits
        )

    def changed(self, now: int, failure: Fault | None = None) -> JobChanged:
        return JobChanged(self.id, self.state, now, failure, self.charged_microcredits, self.replicas)
