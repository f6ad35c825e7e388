"""What happens to the machines: facts in the past tense, already authenticated by the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.model.frozen import dataclass

if TYPE_CHECKING:
    from bacalhau.market.bidding import Answers
    from bacalhau.model.execution import ExecutionPhase, ExecutionReport
    from bacalhau.model.job import Engine, JobSpec
    from bacalhau.model.ledger import Receipt, SettlementNote
    from bacalhau.model.market import Award, Bid, ClaimedInput, Decline, JobOffer, LeaseRenewal
    from bacalhau.model.refusals import Refusal
    from bacalhau.model.verification import Compared, ResultCommitment
    from bacalhau.scheduler.records import WorkRecord

# --- to the requester machine ---


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """A client submitted a job; `inputs` are its contents with the sizes known here, `spec_digest` what the
    serialised spec hashes to."""

    job_id: str
    spec: JobSpec
    inputs: tuple[ClaimedInput, ...]
    spec_digest: bytes
    request_id: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class JobCancelled:
    """A client wants the job stopped."""

    job_id: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class PeerHeard:
    """A compute node's heartbeat came."""

    node_id: str


@dataclass(frozen=True, slots=True)
class BidReceived:
    """`issued_us` is when its node signed it."""

    node_id: str
    bid: Bid
    digest: bytes
    evidence: bytes = b""
    issued_us: int = 0


@dataclass(frozen=True, slots=True)
class DeclineReceived:
    """`issued_us` is when its node signed it."""

    node_id: str
    decline: Decline
    evidence: bytes = b""
    issued_us: int = 0


@dataclass(frozen=True, slots=True)
class AwardConfirmed:
    execution_id: str


@dataclass(frozen=True, slots=True)
class AwardRefused:
    execution_id: str
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class AwardUnanswered:
    """The winner could not be reached."""

    execution_id: str


@dataclass(frozen=True, slots=True)
class RenewalReceived:
    node_id: str
    renewal: LeaseRenewal


@dataclass(frozen=True, slots=True)
class ReportReceived:
    node_id: str
    report: ExecutionReport


@dataclass(frozen=True, slots=True)
class CommitmentReceived:
    node_id: str
    commitment: ResultCommitment


@dataclass(frozen=True, slots=True)
class RevealRefused:
    execution_id: str
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class ResultFetched:
    """`compared` where FetchResult asked for it; None also where what was fetched is no result folder."""

    execution_id: str
    compared: Compared | None = None


@dataclass(frozen=True, slots=True)
class ResultUnavailable:
    execution_id: str
    message: str


@dataclass(frozen=True, slots=True)
class ReceiptsAnswered:
    """The node has signed receipts, each (sequence, its envelope); `refusal` is of the next one."""

    node_id: str
    signed: tuple[tuple[int, bytes], ...]
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class ReceiptsReturned:
    """The node has receipts under numbers that this one gives out: in the order of their sequence, each with the node's
    envelope. Whoever says so has verified that this node signed them too, before it was restored from a backup."""

    node_id: str
    receipts: tuple[tuple[Receipt, bytes], ...]


@dataclass(frozen=True, slots=True)
class NoteReceived:
    """A creditor says what it was paid; `evidence` is its envelope."""

    note: SettlementNote
    evidence: bytes = b""


RequesterEvent = (
    JobSubmitted
    | JobCancelled
    | PeerHeard
    | BidReceived
    | DeclineReceived
    | AwardConfirmed
    | AwardRefused
    | AwardUnanswered
    | RenewalReceived
    | ReportReceived
    | CommitmentReceived
    | RevealRefused
    | ResultFetched
    | ResultUnavailable
    | ReceiptsAnswered
    | ReceiptsReturned
    | NoteReceived
)

# --- to the compute machine ---


@dataclass(frozen=True, slots=True)
class OfferReceived:
    requester_id: str
    offer: JobOffer
    evidence: bytes = b""


@dataclass(frozen=True, slots=True)
class AskAnswered:
    offer_id: str
    answers: Answers


@dataclass(frozen=True, slots=True)
class PriceAnswered:
    """What the operator's script named for an offer, or why it named nothing (`problem`)."""

    offer_id: str
    price_microcredits: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BidAcknowledged:
    """A requester has answered a bid of this node; the three envelopes as they were signed, the offer's and the bid's
    to prove what the acknowledgement is about."""

    requester_id: str
    job_id: str
    bid: Bid
    sent_us: int
    offer_envelope: bytes
    bid_envelope: bytes
    acknowledgement: bytes
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class EnginesChanged:
    """Which engines answer now."""

    engines: tuple[Engine, ...]


@dataclass(frozen=True, slots=True)
class BidRefused:
    offer_id: str
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class OfferClosedReceived:
    requester_id: str
    offer_id: str


@dataclass(frozen=True, slots=True)
class AwardReceived:
    """`spec_digest` is what the award's serialised spec hashes to; `ended` is work under its id that is on disk and
    no longer with the machine."""

    requester_id: str
    award: Award
    spec_digest: bytes
    ended: WorkRecord | None = None


@dataclass(frozen=True, slots=True)
class CancellationReceived:
    requester_id: str
    execution_id: str


@dataclass(frozen=True, slots=True)
class PhaseEntered:
    execution_id: str
    phase: ExecutionPhase


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """Figures of a long phase; the driver sends at most a few of these a second."""

    execution_id: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class ExecutionEnded:
    """`commitment` binds the node to the result where the job compares results; then the report's salt opens it."""

    report: ExecutionReport
    commitment: ResultCommitment | None = None


@dataclass(frozen=True, slots=True)
class ExecutionGone:
    """After a restart there was nothing to go on with."""

    execution_id: str


@dataclass(frozen=True, slots=True)
class LeaseRenewed:
    """`sent_us` is when the renewal was sent: the holder counts its term from there."""

    execution_id: str
    sent_us: int
    lease_us: int


@dataclass(frozen=True, slots=True)
class RenewalRefused:
    """Nothing comes of it where the refusal may pass (ENDS_WORK has those that do not): the renewal is repeated."""

    execution_id: str
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class ReportAnswered:
    """The requester has the report, or refuses it. Where that may pass the report is repeated, as without an answer."""

    execution_id: str
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class CommitmentAnswered:
    """The requester has the commitment, or refuses it. Where that may pass it is repeated, as without an answer."""

    execution_id: str
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class RevealRequested:
    requester_id: str
    execution_id: str


@dataclass(frozen=True, slots=True)
class ReceiptReceived:
    """A requester signed a receipt; `evidence` is its envelope, `ended` the work as in AwardReceived. `signed_before`:
    this node's own signature under the same was verified, which it gave before it was restored from a backup."""

    receipt: Receipt
    evidence: bytes = b""
    ended: WorkRecord | None = None
    signed_before: bool = False


@dataclass(frozen=True, slots=True)
class SettlementRecorded:
    """The operator says that the peer paid outside the system."""

    peer_id: str
    amount_microcredits: int
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class NoteReturned:
    """The debtor has a settlement note of this node, whose signature was verified: it may have given it before it was
    restored from a backup."""

    note: SettlementNote


@dataclass(frozen=True, slots=True)
class NoteSigned:
    """The debtor has signed this node's settlement note too; `evidence` is its envelope."""

    note: SettlementNote
    evidence: bytes = b""


@dataclass(frozen=True, slots=True)
class PeerTrusted:
    """The operator says how much the peer may owe; None: as much as any other."""

    peer_id: str
    limit_microcredits: int | None


@dataclass(frozen=True, slots=True)
class StorageChanged:
    """The node's disk has come down to its reserve (`full`), or has room again."""

    full: bool


@dataclass(frozen=True, slots=True)
class ShutdownBegun:
    """No new work is taken."""


ComputeEvent = (
    OfferReceived
    | AskAnswered
    | PriceAnswered
    | BidAcknowledged
    | EnginesChanged
    | BidRefused
    | OfferClosedReceived
    | AwardReceived
    | CancellationReceived
    | PhaseEntered
    | ProgressMade
    | ExecutionEnded
    | ExecutionGone
    | LeaseRenewed
    | RenewalRefused
    | ReportAnswered
    | CommitmentAnswered
    | RevealRequested
    | ReceiptReceived
    | SettlementRecorded
    | NoteReturned
    | NoteSigned
    | PeerTrusted
    | StorageChanged
    | ShutdownBegun
)
