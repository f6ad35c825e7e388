"""Drivers for tests of one machine: literal times in, effects out, and check() after each step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from bacalhau.market.pricing import FlatPrice
from bacalhau.market.verification import commitment_digest, compared_digest
from bacalhau.model.execution import ExecutionPhase, Usage
from bacalhau.model.job import Engine
from bacalhau.model.market import ClaimedInput, Decline, LeaseRenewal
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.units import SECOND_US
from bacalhau.model.verification import NO_VERIFICATION, Compared, ResultCommitment, Verification
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.records import (
    ExecutionRecord,
    JobChanged,
    JobHappening,
)
from bacalhau.scheduler.requester import RequesterConfig, RequesterMachine
from bacalhau.simulation.audited import Audited
from tests.builders import (
    RESULT,
    SPEC_DIGEST,
    a_bid,
    a_compute_config,
    a_receipt,
    a_report,
    a_spec,
    an_award,
    an_offer,
)

if TYPE_CHECKING:
    from bacalhau.model.cid import Cid
    from bacalhau.model.execution import ExecutionState, Fault
    from bacalhau.model.job import JobEventType, JobSpec, JobState
    from bacalhau.model.ledger import Receipt
    from bacalhau.model.market import Award, JobOffer
    from bacalhau.model.resources import Resources
    from bacalhau.scheduler.config import ComputeConfig

E = TypeVar("E")
SALT = b"salt" * 8


def seconds(amount: int) -> int:
    return amount * SECOND_US


class _Driven:
    """What both drivers share: the last effects, and all that was ever written, sent and started."""

    def __init__(self) -> None:
        self.last = fx.Effects()
        self.all = fx.Effects()

    def took(self, effects: fx.Effects) -> fx.Effects:
        if effects.refusal is not None:
            assert (effects.sends, effects.starts) == ([], [])
        self.last = effects
        self.all.add(effects)
        return effects

    def sent(self, kind: type[E]) -> list[E]:
        """Messages of this kind among the last effects."""
        return [send for send in self.last.sends if isinstance(send, kind)]

    def started(self, kind: type[E]) -> list[E]:
        return [start for start in self.last.starts if isinstance(start, kind)]

    def refusal(self) -> RefusalReason | None:
        """Why the last event was refused."""
        return self.last.refusal.reason if self.last.refusal is not None else None


class Requester(_Driven):
    """A RequesterMachine with a journal of what it wrote, each clearing of which is audited; job "j-1" unless said
    otherwise."""

    def __init__(self, config: RequesterConfig | None = None) -> None:
        super().__init__()
        self.config = config or RequesterConfig()
        self._ids = 0
        self._audited = Audited()
        self.machine = RequesterMachine(self.config, self._id)

    def _id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}-{self._ids}"

    def took(self, effects: fx.Effects, event: ev.RequesterEvent | None = None) -> fx.Effects:
        self._audited.stepped(self.machine, event, effects)
        return super().took(effects)

    def tell(self, event: ev.RequesterEvent, now: int) -> fx.Effects:
        effects = self.machine.handle(event, now=now)
        self.machine.check()
        return self.took(effects, event)

    def expire(self, now: int) -> fx.Effects:
        effects = self.machine.expire(now=now)
        self.machine.check()
        return self.took(effects)

    # --- events in short ---

    def hear(self, *node_ids: str, now: int = 0) -> None:
        for node_id in node_ids:
            self.tell(ev.PeerHeard(node_id), now)

    def submit(self, spec: JobSpec | None = None, *, id: str = "j-1", now: int = 0) -> fx.Effects:
        spec = spec or a_spec()
        inputs = tuple(ClaimedInput(cid, 0) for cid in spec.contents())
        return self.tell(ev.JobSubmitted(id, spec, inputs, SPEC_DIGEST), now)

    def bid(
        self,
        node_id: str,
        price: int = 100,
        *,
        now: int,
        id: str = "",
        offer_id: str = "",
        valid_us: int = 0,
        issued_us: int = 0,
        bond: int = 0,
    ) -> fx.Effects:
        bid = a_bid(
            id=id or f"b-{node_id}",
            offer_id=offer_id or self.offer().id,
            price_microcredits=price,
            valid_for_us=valid_us or seconds(10),
            bond_microcredits=bond,
        )
        return self.tell(ev.BidReceived(node_id, bid, bid.id.encode(), issued_us=issued_us), now)

    def decline(
        self,
        node_id: str,
        reason: RefusalReason = RefusalReason.INFEASIBLE,
        *,
        now: int,
        message: str = "no",
        issued_us: int = 0,
    ) -> fx.Effects:
        decline = Decline(self.offer().id, Refusal(reason, message))
        return self.tell(ev.DeclineReceived(node_id, decline, issued_us=issued_us), now)

    def confirm(self, execution_id: str, now: int) -> fx.Effects:
        return self.tell(ev.AwardConfirmed(execution_id), now)

    def refuse_award(self, execution_id: str, reason: RefusalReason, now: int) -> fx.Effects:
        return self.tell(ev.AwardRefused(execution_id, Refusal(reason, "no")), now)

    def renew(
        self,
        node_id: str,
        execution_id: str,
        now: int,
        *,
        phase: ExecutionPhase = ExecutionPhase.RUNNING,
        attempt: int = 1,
    ) -> fx.Effects:
        return self.tell(ev.RenewalReceived(node_id, LeaseRenewal(execution_id, phase, attempt)), now)

    def report(
        self,
        node_id: str,
        execution_id: str,
        now: int,
        *,
        fault: Fault | None = None,
        result: Cid | None = None,
    ) -> fx.Effects:
        """A good report, or one of a fault without a result."""
        if fault is None and result is None:
            report = a_report(execution_id)
        else:
            report = a_report(execution_id, fault=fault, result=result)
        return self.tell(ev.ReportReceived(node_id, report), now)

    def sign(self, now: int) -> None:
        """Every node signs the receipts that it was ever sent."""
        sent = [send for send in self.all.sends if isinstance(send, fx.SendReceipts)]
        for send in sent:
            signed = tuple((receipt.sequence, b"signed") for receipt in send.receipts)
            self.tell(ev.ReceiptsAnswered(send.to, signed), now)

    def running(self, node_id: str, now: int, price: int = 100) -> str:
        """The node bids, wins and confirms; the execution's id."""
        self.bid(node_id, price, now=now, id=f"b-{node_id}-{now}")
        award = self.sent(fx.SendAward)[-1].award
        self.confirm(award.execution_id, now)
        return award.execution_id

    # --- jobs that compare results: what a result says is its CID ---

    def commit(
        self, node_id: str, execution_id: str, now: int, *, result: Cid = RESULT, exit_code: int = 0
    ) -> fx.Effects:
        compared = compared_digest(exit_code, result.raw, {})
        digest = commitment_digest(SALT, compared, execution_id, node_id)
        return self.tell(ev.CommitmentReceived(node_id, ResultCommitment(execution_id, 1, digest)), now)

    def reveal(
        self,
        node_id: str,
        execution_id: str,
        now: int,
        *,
        result: Cid = RESULT,
        salt: bytes = SALT,
        wall_us: int = 0,
    ) -> fx.Effects:
        """The report, and then the fetched result."""
        report = replace(a_report(execution_id, result=result), salt=salt, usage=Usage(wall_us=wall_us))
        self.tell(ev.ReportReceived(node_id, report), now)
        assert self.refusal() is None
        compared = Compared(compared_digest(0, result.raw, {}), 0)
        return self.tell(ev.ResultFetched(execution_id, compared), now)

    def asked(self) -> list[str]:
        """Nodes whose results the last effects ask for."""
        return [send.to for send in self.sent(fx.SendRevealRequest)]

    def conduct(self, node_id: str) -> dict[str, int]:
        """What is known of the node by now."""
        known = self.machine.reputations.of(node_id)
        return {seen.conduct.name: seen.count for seen in known.counts} if known else {}

    # --- what it did ---

    def offer(self) -> JobOffer:
        """The offer that was made last."""
        return [write.offer for write in self.all.writes if hasattr(write, "offer")][-1]

    def awards(self) -> list[tuple[str, int]]:
        """(node, price) of each award among the last effects."""
        return [(send.to, send.award.price_microcredits) for send in self.sent(fx.SendAward)]

    def execution(self, execution_id: str) -> ExecutionRecord:
        return [w for w in self.all.writes if isinstance(w, ExecutionRecord) and w.id == execution_id][-1]

    def execution_state(self, execution_id: str) -> ExecutionState:
        return self.execution(execution_id).state

    def changes(self, job_id: str = "j-1") -> list[JobChanged]:
        return [w for w in self.all.writes if isinstance(w, JobChanged) and w.id == job_id]

    def state(self, job_id: str = "j-1") -> JobState:
        return self.changes(job_id)[-1].state

    def failure(self, job_id: str = "j-1") -> Fault:
        failure = self.changes(job_id)[-1].failure
        assert failure is not None
        return failure

    def history(self, job_id: str = "j-1") -> list[JobEventType]:
        entries = [w for w in self.all.writes if isinstance(w, JobHappening) and w.job_id == job_id]
        assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
        return [entry.type for entry in entries]


class Compute(_Driven):
    """A ComputeMachine with Docker and WASM; requester "r1" unless said otherwise."""

    def __init__(self, config: ComputeConfig | None = None, price: int = 100) -> None:
        super().__init__()
        self.config = config or a_compute_config()
        self._ids = 0
        self.machine = ComputeMachine(self.config, FlatPrice(price), self._id, (Engine.DOCKER, Engine.WASM))

    def _id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}-{self._ids}"

    def tell(self, event: ev.ComputeEvent, now: int) -> fx.Effects:
        effects = self.machine.handle(event, now=now)
        self.machine.check()
        return self.took(effects)

    def expire(self, now: int) -> fx.Effects:
        effects = self.machine.expire(now=now)
        self.machine.check()
        return self.took(effects)

    def offer(self, offer: JobOffer | None = None, now: int = 0, *, requester_id: str = "r1") -> fx.Effects:
        return self.tell(ev.OfferReceived(requester_id, offer or an_offer()), now)

    def award(self, award: Award | None = None, now: int = 0, *, requester_id: str = "r1") -> fx.Effects:
        return self.tell(ev.AwardReceived(requester_id, award or an_award(), SPEC_DIGEST), now)

    def accepted(self, now: int = 0) -> str:
        """Offer, bid and award of execution "e-1"."""
        self.offer(now=now)
        bid = self.sent(fx.SendBid)[-1].bid
        self.award(an_award(bid_id=bid.id), now)
        assert self.refusal() is None
        return "e-1"

    def taken(
        self,
        *,
        accept_within_us: int = seconds(100),
        wall_us: int = seconds(6),
        verification: Verification = NO_VERIFICATION,
    ) -> Receipt:
        """Execution "e-1" for 100, reported, and the report taken; the receipt that it is owed."""
        right = replace(a_receipt(), usage=Usage(wall_us=wall_us))
        payment = replace(right.payment, accept_within_us=accept_within_us)
        self.offer(an_offer(payment=payment), now=0)
        bid = self.sent(fx.SendBid)[-1].bid
        award = an_award(bid_id=bid.id, spec=a_spec(verification=verification))
        award = replace(award, payment=payment, bid_set_digest=right.bid_set_digest)
        self.award(award, now=0)
        assert self.refusal() is None
        report = replace(a_report(), usage=right.usage)
        self.tell(ev.ExecutionEnded(report), wall_us)
        self.tell(ev.ReportAnswered("e-1"), wall_us + seconds(1))
        return replace(right, bid_id=bid.id, payment=payment)

    def declines(self) -> list[RefusalReason]:
        return [send.decline.refusal.reason for send in self.sent(fx.SendDecline)]

    @property
    def free(self) -> Resources:
        return self.machine.capacity.free
