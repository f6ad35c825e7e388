"""What the machines write: rows as frozen records. The store turns them into SQL, the simulator keeps them as
is.

A record replaces the earlier one with the same key; the machines only hold what is open and never read back.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from bacalhau.model.frozen import dataclass
from bacalhau.model.ledger import TradeSide, Transaction
from bacalhau.model.market import WHOLE_PRICE
from bacalhau.model.reputation import Reputation

if TYPE_CHECKING:
    from bacalhau.market.clearing import SealedBid
    from bacalhau.model.auction import BidStanding, Clearing
    from bacalhau.model.execution import (
        ExecutionPhase,
        ExecutionReport,
        ExecutionState,
        Fault,
    )
    from bacalhau.model.job import JobEventType, JobSpec, JobState
    from bacalhau.model.ledger import Balance, Receipt, SettlementNote
    from bacalhau.model.market import Award, Bid, ClaimedInput, JobOffer, PaymentTerms
    from bacalhau.model.refusals import Refusal


@dataclass(frozen=True, slots=True)
class JobAccepted:
    """A new job. Written once."""

    id: str
    spec: JobSpec
    inputs: tuple[ClaimedInput, ...]
    spec_digest: bytes
    created_us: int
    request_id: str
    client: str


@dataclass(frozen=True, slots=True)
class JobChanged:
    """The job's state, and everything about it that changes."""

    id: str
    state: JobState
    updated_us: int
    failure: Fault | None
    charged_microcredits: int
    replicas: int = 0
    """How many executions it wants at present; 0 where that was not written yet."""


@dataclass(frozen=True, slots=True)
class JobHappening:
    """One entry of a job's history; `sequence` counts from 1 without gaps."""

    job_id: str
    sequence: int
    type: JobEventType
    time_us: int
    state: JobState
    message: str = ""
    node_id: str = ""
    execution_id: str = ""
    price_microcredits: int | None = None
    refusal: Refusal | None = None
    phase: ExecutionPhase | None = None
    fault: Fault | None = None

    @property
    def ends_job(self) -> bool:
        """The last entry: nothing follows it."""
        return self.state.ended and not self.execution_id


@dataclass(frozen=True, slots=True)
class OfferMade:
    """A new offer. Written once."""

    offer: JobOffer
    made_us: int


@dataclass(frozen=True, slots=True)
class AnswerReceived:
    """A node's latest answer to an offer: a bid, or a refusal. `evidence` is the envelope as received."""

    offer_id: str
    job_id: str
    node_id: str
    received_us: int
    bid: Bid | None
    refusal: Refusal | None
    evidence: bytes


@dataclass(frozen=True, slots=True)
class AuctionCleared:
    """A clearing that awarded something, with the bid set that its digest is over. Written once; the clearings of an
    offer are numbered from 1."""

    sequence: int
    clearing: Clearing
    bid_set: tuple[tuple[SealedBid, BidStanding], ...]


@dataclass(frozen=True, slots=True)
class BidKept:
    """A bid of this node with its requester's answer, as envelopes: what it proves that it was left out with."""

    bid_id: str
    offer_id: str
    job_id: str
    requester_id: str
    sent_us: int
    price_microcredits: int
    offer_envelope: bytes
    bid_envelope: bytes
    acknowledgement: bytes
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """An execution as its requester knows it."""

    id: str
    job_id: str
    offer_id: str
    bid_id: str
    node_id: str
    state: ExecutionState
    price_microcredits: int
    charged_microcredits: int
    created_us: int
    updated_us: int
    bid_set_digest: bytes
    phase: ExecutionPhase | None = None
    attempt: int = 1
    report: ExecutionReport | None = None
    failure: Fault | None = None
    commitment: bytes = b""
    """What the node is bound by, in a job that compares results."""
    compared: bytes = b""
    """What is compared of the result, as the requester computed it."""
    payment: PaymentTerms = WHOLE_PRICE
    bond_microcredits: int = 0
    penalty_microcredits: int = 0
    """What its node forfeits of the bond: whoever proves that it cheated says so, with the failure."""
    late: bool = False
    """The report came after the execution had ended: it is kept, and unpaid."""
    committed_us: int = 0
    """When its commitment came: its node's work ended by then, whenever the result is revealed. 0 without one."""


class WorkState(Enum):
    """State of an execution on the node that runs it."""

    ACCEPTED = 1
    """The award is on disk; the program is being prepared, or runs."""
    REPORTED = 2
    """It ended; the report is sent until the requester answers."""
    SETTLED = 3
    """Both sides know what is paid, or that nothing is."""
    TAKEN = 4
    """The requester has the report, and has still to accept the result or to say why not."""
    DISPUTED = 5
    """It did not answer, or did not pay, in its time; a receipt that comes all the same settles it."""


@dataclass(frozen=True, slots=True)
class WorkRecord:
    """An execution as the node that runs it knows it."""

    award: Award
    requester_id: str
    state: WorkState
    attempt: int
    accepted_us: int
    updated_us: int
    report: ExecutionReport | None = None
    refusal: Refusal | None = None
    """Why the requester refused the report, where it did."""
    commitment: bytes = b""
    """What this node is bound by, in a job that compares results."""
    revealed: bool = False
    """The requester has asked for the result."""
    paid_microcredits: int = 0
    receipt_sequence: int = 0
    """Of the receipt that settled it; 0 where there is none."""

    @property
    def id(self) -> str:
        return self.award.execution_id

    @property
    def sealed(self) -> bool:
        """The result is shown to nobody yet."""
        return bool(self.commitment) and not self.revealed and self.state is WorkState.REPORTED


@dataclass(frozen=True, slots=True)
class PayableRecord:
    """What this node owes a peer."""

    peer_id: str
    balance: Balance


@dataclass(frozen=True, slots=True)
class ReceivableRecord:
    """What a peer owes this node. `signed_note`: the last settlement note that the peer has signed too."""

    peer_id: str
    balance: Balance
    disputed_microcredits: int = 0
    limit_microcredits: int | None = None
    signed_note: int = 0
    unearned_microcredits: int = 0
    """What its receipts say beyond what its work here came to: owed, but nothing that was worked for on credit."""

    @property
    def on_credit_microcredits(self) -> int:
        """What it owes for work that was done here."""
        return self.balance.owed_microcredits - self.unearned_microcredits


@dataclass(frozen=True, slots=True)
class ReceiptRecord:
    """A receipt, and the other side's envelope of it: None until it came, empty where this node is both sides. What
    this node signs is made from it whenever it is asked for. `refusal`: why the other side does not sign."""

    side: TradeSide
    receipt: Receipt
    evidence: bytes | None
    refusal: Refusal | None = None

    @property
    def peer_id(self) -> str:
        return self.receipt.node_id if self.side is TradeSide.BUYING else self.receipt.requester_id


@dataclass(frozen=True, slots=True)
class NoteRecord:
    """A settlement note with the other side's envelope of it."""

    side: TradeSide
    note: SettlementNote
    evidence: bytes


@dataclass(frozen=True, slots=True)
class Books:
    """What a restarted node knows of its money: balances by peer, and the receipts that no peer has signed yet.
    `receipted`: executions that have not ended and have a receipt all the same (see Payables.returned)."""

    payables: tuple[PayableRecord, ...] = ()
    unsigned: tuple[ReceiptRecord, ...] = ()
    receivables: tuple[ReceivableRecord, ...] = ()
    receipted: tuple[str, ...] = ()


Write = (
    JobAccepted
    | JobChanged
    | JobHappening
    | OfferMade
    | AnswerReceived
    | AuctionCleared
    | BidKept
    | ExecutionRecord
    | WorkRecord
    | Reputation
    | Transaction
    | PayableRecord
    | ReceivableRecord
    | ReceiptRecord
    | NoteRecord
)
