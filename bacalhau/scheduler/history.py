"""What can be read back of the records: jobs, answers and cleared bids as they stand in the journal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bacalhau.market.audit import BidSetEntry
    from bacalhau.model.auction import Clearing
    from bacalhau.model.job import JobState
    from bacalhau.model.ledger import Transaction
    from bacalhau.model.market import Bid, JobOffer
    from bacalhau.model.refusals import Refusal
    from bacalhau.scheduler.records import ExecutionRecord, JobAccepted, JobChanged


class JobOrder(Enum):
    """What a list of jobs is sorted by; numbers are those of job_service.proto."""

    CREATE_TIME = 1
    ID = 2


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs, in which order. `id_filter` is the beginning of an id, with or without its `j-`.

    `include_labels`: jobs that have one of these label keys; `exclude_labels`: jobs that have none of these;
    `states`: jobs in one of these. Empty means all. `page_size` 0 is the default of the store.
    """

    id_filter: str = ""
    include_labels: tuple[str, ...] = ()
    exclude_labels: tuple[str, ...] = ()
    states: tuple[JobState, ...] = ()
    order: JobOrder = JobOrder.CREATE_TIME
    ascending: bool = False
    page_size: int = 0
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as it stands: what was accepted, the latest change, and every execution, oldest first."""

    accepted: JobAccepted
    changed: JobChanged
    executions: tuple[ExecutionRecord, ...]

    @property
    def id(self) -> str:
        return self.accepted.id

    @property
    def state(self) -> JobState:
        return self.changed.state

    @property
    def charged_microcredits(self) -> int:
        """What its executions were charged: a JobChanged that says so is written only at the job's end."""
        return sum(execution.charged_microcredits for execution in self.executions)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A node's bid or decline. `won`: an execution was awarded to this bid."""

    offer_id: str
    node_id: str
    received_us: int
    bid: Bid | None
    refusal: Refusal | None
    won: bool


@dataclass(frozen=True, slots=True)
class OfferSummary:
    """An offer that this node made, with how many bids, declines and awards it has got."""

    offer: JobOffer
    made_us: int
    bids: int
    declines: int
    awards: int


@dataclass(frozen=True, slots=True)
class StoredClearing:
    """A clearing of an offer; its number counts from 1."""

    sequence: int
    clearing: Clearing


@dataclass(frozen=True, slots=True)
class StoredTransaction:
    """A transaction of the node's books; `id` counts up."""

    id: int
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class ClearedBid:
    """A bid of a clearing's set, with its signed envelope as it was received, and its node's last decline of the offer;
    either is empty where there is none."""

    entry: BidSetEntry
    evidence: bytes
    decline_evidence: bytes
