"""What the machines ask of their driver, in the order in which it is done: writes, then sends, then starts.

`writes` of one Effects are one transaction. `sends` go to a node (the driver signs them) and may be lost:
whatever must arrive is sent again by the machine, or is made superfluous by a deadline. What a start returns
is an event. Only what is UNBOUND need not wait for the writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.model.frozen import dataclass

if TYPE_CHECKING:
    from bacalhau.market.bidding import Ask
    from bacalhau.market.pricing import Situation
    from bacalhau.model.cid import Cid
    from bacalhau.model.execution import ExecutionReport
    from bacalhau.model.ledger import Receipt, SettlementNote
    from bacalhau.model.market import Award, Bid, Decline, JobOffer, LeaseRenewal
    from bacalhau.model.refusals import Refusal
    from bacalhau.model.verification import ResultCommitment, Verification
    from bacalhau.scheduler.records import Write


@dataclass(frozen=True, slots=True)
class SendOffer:
    """The offer to each of these compute nodes, and to whoever listens where there is gossip."""

    offer: JobOffer
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendAward:
    """The answer is AwardConfirmed, AwardRefused, or AwardUnanswered."""

    to: str
    award: Award


@dataclass(frozen=True, slots=True)
class SendOfferClosed:
    """To each of these compute nodes."""

    to: tuple[str, ...]
    offer_id: str


@dataclass(frozen=True, slots=True)
class SendCancellation:
    to: str
    execution_id: str
    message: str


@dataclass(frozen=True, slots=True)
class SendBid:
    """The answer is BidAcknowledged, and BidRefused where the requester refuses it. `offer_envelope` is the offer as
    it was received."""

    to: str
    bid: Bid
    job_id: str
    offer_envelope: bytes


@dataclass(frozen=True, slots=True)
class SendDecline:
    to: str
    decline: Decline


@dataclass(frozen=True, slots=True)
class SendRenewal:
    """The answer is LeaseRenewed or RenewalRefused; none changes nothing."""

    to: str
    renewal: LeaseRenewal


@dataclass(frozen=True, slots=True)
class SendReport:
    """The answer is ReportAnswered; none changes nothing, the machine sends again."""

    to: str
    report: ExecutionReport


@dataclass(frozen=True, slots=True)
class SendCommitment:
    """The answer is CommitmentAnswered; none changes nothing, the machine sends again."""

    to: str
    commitment: ResultCommitment


@dataclass(frozen=True, slots=True)
class SendRevealRequest:
    """The answer is RevealRefused where the node refuses; the result comes by a report."""

    to: str
    execution_id: str


@dataclass(frozen=True, slots=True)
class SendReceipts:
    """In the order of their sequence. The answer is ReceiptsAnswered; none changes nothing."""

    to: str
    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class SendNote:
    """The answer is NoteSigned; none changes nothing."""

    to: str
    note: SettlementNote


Send = (
    SendOffer
    | SendAward
    | SendOfferClosed
    | SendCancellation
    | SendBid
    | SendDecline
    | SendRenewal
    | SendReport
    | SendCommitment
    | SendRevealRequest
    | SendReceipts
    | SendNote
)


@dataclass(frozen=True, slots=True)
class FetchResult:
    """Fetch a reported result from its node and pin it: ResultFetched or ResultUnavailable. `disk_bytes` is what its
    job may write. With `verification`, ResultFetched says what is compared of it, computed from its blocks."""

    execution_id: str
    node_id: str
    result: Cid
    disk_bytes: int
    verification: Verification | None = None


@dataclass(frozen=True, slots=True)
class AskOutside:
    """Find out what a bidding decision needs: AskAnswered."""

    offer: JobOffer
    ask: Ask


@dataclass(frozen=True, slots=True)
class AskPrice:
    """Ask the operator's script for a price, telling it what the node would ask without it: PriceAnswered."""

    requester_id: str
    offer: JobOffer
    situation: Situation
    price_microcredits: int


@dataclass(frozen=True, slots=True)
class StartExecution:
    """Fetch inputs, run, publish: PhaseEntered on the way, ExecutionEnded at last."""

    execution_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class ResumeExecution:
    """After a restart: go on with a program that outlived the node. ExecutionEnded, or ExecutionGone."""

    execution_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StopExecution:
    """Stop the program; the execution then ends as cancelled."""

    execution_id: str


Start = FetchResult | AskOutside | AskPrice | StartExecution | ResumeExecution | StopExecution

UNBOUND = (SendOffer, SendBid, SendDecline, StartExecution)
"""May be done before what was decided with them is on disk, for a node that dies in between has promised nothing: it
knows nothing of an offer, and refuses the bids on it; no node knows its own bids after a restart; and work whose award
it has not confirmed ends with it, or is an orphan that its next start removes."""


@dataclass(slots=True)
class Effects:
    """Instructions of one step. `refusal` is set where the event was refused; then nothing else is, but for writes
    that keep what was refused."""

    writes: list[Write]
    sends: list[Send]
    starts: list[Start]
    refusal: Refusal | None

    def __init__(
        self,
        writes: list[Write] | None = None,
        sends: list[Send] | None = None,
        starts: list[Start] | None = None,
        refusal: Refusal | None = None,
    ) -> None:
        """By hand, for a step makes several of these, and default factories cost as much as all the rest."""
        self.writes = [] if writes is None else writes
        self.sends = [] if sends is None else sends
        self.starts = [] if starts is None else starts
        self.refusal = refusal

    def add(self, other: Effects) -> None:
        if other.writes:
            self.writes += other.writes
        if other.sends:
            self.sends += other.sends
        if other.starts:
            self.starts += other.starts


def refuse(refusal: Refusal) -> Effects:
    """The event is refused and changes nothing."""
    return Effects(refusal=refusal)
