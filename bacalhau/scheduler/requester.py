"""RequesterMachine: jobs, their auctions, awards and leases, until each has ended.

    submitted --offer--> auction --clear--> awarded --confirmed--> running --report--> fetched --> completed
                           |  ^                |  refused, unanswered  |  lease ended, fault
                           |  '----------------'-----------------------'  (the next in rank, or a new auction)
                           '--> queued: the offer stands, each new bid is cleared when it comes, till it times out

Rules: a node runs a job once; an award is on disk before it is sent; work is awarded again only after its
lease has ended, and a report that comes before that still counts; a fault that is the job's own is not tried
elsewhere; a job that no live node could ever take fails at once with their reasons, unless its queue timeout
says to wait.

Two parts hold a half each, auctions.py up to the award and executions.py from there, with verifications.py for
jobs that compare results; every event goes to one of them and then through `_advance`, which alone decides what a job
does next. What the executions cost is in payables.py, which outlives them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.clearing import bid_set_digest
from bacalhau.market.reputation import ReputationBook
from bacalhau.market.verification import ADAPTIVE_REPLICAS_MAX
from bacalhau.model.auction import ClearedAward, Clearing
from bacalhau.model.execution import ExecutionState, Fault, FaultKind
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.reputation import Role
from bacalhau.model.units import SECOND_US
from bacalhau.model.verification import VerificationPolicy
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.auctions import Auctions
from bacalhau.scheduler.config import RequesterConfig
from bacalhau.scheduler.deadlines import Deadlines
from bacalhau.scheduler.effects import Effects, refuse
from bacalhau.scheduler.executions import Executions
from bacalhau.scheduler.jobs import Job
from bacalhau.scheduler.payables import Payables
from bacalhau.scheduler.records import AuctionCleared, Books, JobAccepted
from bacalhau.scheduler.verifications import Verifications

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bacalhau.market.clearing import SealedBid, Winner
    from bacalhau.model.reputation import Reputation
    from bacalhau.scheduler.auctions import Step
    from bacalhau.scheduler.events import RequesterEvent
    from bacalhau.scheduler.jobs import Auction
    from bacalhau.scheduler.records import ExecutionRecord

__all__ = ["RequesterConfig", "RequesterMachine"]


class RequesterMachine:
    """See the module. `ids` gives a new id with the prefix it is called with."""

    def __init__(self, config: RequesterConfig, ids: Callable[[str], str]) -> None:
        self._config = config
        self._jobs: dict[str, Job] = {}
        self._deadlines: Deadlines[tuple[str, str]] = Deadlines()
        self.deadline = self._deadlines.next
        """When it wants to be woken."""
        self.reputations = ReputationBook(Role.COMPUTE)
        self.payables = Payables(config, self._deadlines)
        self._auctions = Auctions(config, ids, self._deadlines, self.reputations)
        self._executions = Executions(config, ids, self._deadlines, self.reputations, self.payables)
        self._verifications = Verifications(config, ids, self._deadlines, self._executions, self.reputations)

    # --- contract ---

    def handle(self, event: RequesterEvent, *, now: int) -> Effects:
        match event:
            case ev.BidReceived():
                step = self._auctions.bid_received(event, now)
            case ev.DeclineReceived():
                step = self._auctions.decline_received(event, now)
            case ev.JobSubmitted():
                step = self._job_submitted(event, now)
            case ev.AwardConfirmed():
                step = self._executions.confirmed(event.execution_id, now)
            case ev.ReportReceived():
                step = self._verifications.reported(event, now)
            case ev.ResultFetched():
                step = self._verifications.result_fetched(event, now)
            case ev.CommitmentReceived():
                step = self._verifications.committed(event, now)
            case ev.RevealRefused():
                step = self._verifications.reveal_refused(event, now)
            case ev.RenewalReceived():
                step = self._executions.renewed(event, now)
            case ev.PeerHeard():
                return self._auctions.peer_heard(event.node_id, now)
            case ev.AwardRefused():
                step = self._award_refused(event, now)
            case ev.AwardUnanswered(execution_id):
                step = self._node_lost(execution_id, self._executions.unanswered(execution_id, now))
            case ev.ResultUnavailable(execution_id, message):
                step = self._executions.result_unavailable(execution_id, message, now)
            case ev.JobCancelled(job_id, message):
                return self._job_cancelled(job_id, message, now)
            case ev.ReceiptsAnswered():
                return self.payables.answered(event, now)
            case ev.ReceiptsReturned():
                return self.payables.returned(event, now)
            case ev.NoteReceived():
                return self.payables.note_received(event, now)
        job, effects = step
        if job is not None:
            effects.add(self._advance(job, now))
        return effects

    def expire(self, *, now: int) -> Effects:
        effects = Effects()
        for kind, key in self._deadlines.pop_due(now):
            match kind:
                case "auction":
                    effects.add(self._advance(self._jobs[key], now))
                case "reoffer":
                    job = self._jobs[key]
                    effects.add(self._then_advance((job, self._auctions.reoffer(job, now)), now))
                case "queue":
                    job = self._jobs[key]
                    effects.add(self._go_on_with_fewer_or_fail(job, self._auctions.timed_out(job), now))
                case "total":
                    effects.add(self._total_timed_out(self._jobs[key], now))
                case "confirm":
                    step = self._node_lost(key, self._executions.unanswered(key, now))
                    effects.add(self._then_advance(step, now))
                case "reveal":
                    effects.add(self._then_advance(self._verifications.reveal_due(key, now), now))
                case "lease":
                    step = self._node_lost(key, self._executions.lease_ended(key))
                    effects.add(self._then_advance(step, now))
                case "receipts":
                    effects.add(self.payables.send_again(key, now))
        return effects

    def check(self) -> None:
        """No slot is awarded twice, no award is above the ceiling, whatever waits has a deadline, and no
        deadline is left of what has ended."""
        self._auctions.check()
        self._executions.check()
        self.payables.check(one for job in self._jobs.values() for one in job.executions.values())
        for id, job in self._jobs.items():
            assert not job.state.ended, job
            self._verifications.check(job)
            assert len(job.active()) + job.completed() <= job.replicas, job
            nodes = [
                e.node_id for e in job.executions.values() if not e.state.ended or e.charged_microcredits
            ]
            assert len(nodes) == len(dict.fromkeys(nodes)), job
            assert len(job.executions) <= self._attempts_max(job), job
            assert job.charged_microcredits == sum(e.charged_microcredits for e in job.executions.values()), (
                job
            )
            assert (job.state is JobState.RUNNING) is bool(job.held()), job
            waits = self._deadlines.get(("queue", id)) is not None
            assert waits is bool(job.missing()), job
            if waits:
                assert job.auction is not None, job
                wakes = [self._deadlines.get((kind, id)) for kind in ("auction", "reoffer")]
                assert any(due is not None for due in wakes), job
        for kind, key in self._deadlines.keys:
            if kind in ("confirm", "lease", "reveal"):
                assert self._executions.find(key)[0] is not None, (kind, key)
            elif kind == "receipts":
                assert self.payables.unsigned(key), (kind, key)
            else:
                assert key in self._jobs, (kind, key)

    # --- views for the driver ---

    @property
    def open_jobs(self) -> int:
        return len(self._jobs)

    def holds(self, job_id: str) -> bool:
        """The job is open."""
        return job_id in self._jobs

    def accepted_us(self, job_id: str) -> int | None:
        """When the job was accepted; None where it is not open."""
        job = self._jobs.get(job_id)
        return job.created_us if job else None

    def awaits(self, result_of: ev.ReportReceived) -> bool:
        """A report of this execution by this node would be taken."""
        _, execution = self._executions.find(result_of.report.execution_id)
        return (
            execution is not None
            and execution.node_id == result_of.node_id
            and execution.report is None
            and not execution.state.ended
        )

    def live_nodes(self, now: int) -> tuple[str, ...]:
        """The compute nodes that a job would be offered to."""
        return self._auctions.live(now)

    def reputation_permille(self, node_id: str, now: int) -> int:
        """What a bid of the node would count with."""
        return self._auctions.reputation_permille(node_id, now)

    def acknowledged(self, offer_id: str, node_id: str) -> SealedBid | None:
        """The node's last bid on an open offer, or on the one that the last bid has closed, as it was acknowledged."""
        return self._auctions.acknowledged(offer_id, node_id)

    def is_unconfirmed(self, execution_id: str) -> bool:
        """Its award is open, and nothing was heard of it yet."""
        _, execution = self._executions.find(execution_id)
        return execution is not None and execution.state is ExecutionState.AWARDED

    def job_of(self, execution_id: str) -> str | None:
        """Id of the open job that the execution belongs to."""
        job, _ = self._executions.find(execution_id)
        return job.id if job else None

    def awaited(self, offer_id: str) -> tuple[str, ...] | None:
        """The nodes that have not answered an offer; None where nothing is missing, or there is no such offer."""
        return self._auctions.awaited(offer_id)

    # --- restart ---

    def restore(
        self,
        jobs: Iterable[Job],
        executions: Iterable[ExecutionRecord],
        reputations: Iterable[Reputation] = (),
        books: Books | None = None,
        *,
        now: int,
    ) -> Effects:
        """Takes up open jobs after a restart, with every execution that they ever had. Auctions are held
        anew, and wait until each live node had the time to be heard."""
        self.reputations.restore(reputations)
        for job in jobs:
            self._jobs[job.id] = job
        kept = tuple(executions)
        for execution in kept:
            self._executions.restore(self._jobs[execution.job_id], execution)
        if self._jobs:
            self._auctions.listen(now)
        effects = self.payables.restore(books or Books(), kept, now)
        for job in tuple(self._jobs.values()):
            job.charged_microcredits = sum(e.charged_microcredits for e in job.executions.values())
            if job.spec.timeouts.total_us is not None:
                self._deadlines.set(("total", job.id), max(now, job.created_us + job.spec.timeouts.total_us))
            self._verifications.restore(job)
            for execution in job.active():
                effects.add(self._executions.resume(job, execution, now))
            effects.add(self._advance(job, now))
        return effects

    # --- what a job does next ---

    def _then_advance(self, step: Step, now: int) -> Effects:
        job, effects = step
        if job is not None:
            effects.add(self._advance(job, now))
        return effects

    def _advance(self, job: Job, now: int) -> Effects:
        """Does what the job's state allows next; safe to call after anything happened to it."""
        effects = Effects()
        if job.fatal is None and job.spec.verification.compares:
            effects.add(self._verifications.advance(job, now))
        if job.fatal is not None:
            effects.add(self._fail(job, job.fatal, now))
            return effects
        if job.done():
            job.state = JobState.COMPLETED
            effects.add(self._end(job, JobEventType.COMPLETED, None, "", now))
            return effects
        held = len(job.held())
        if (job.state is JobState.RUNNING) is not bool(held):
            job.state = JobState.RUNNING if held else JobState.PENDING
            effects.writes.append(job.changed(now))
        missing = job.replicas - job.completed() - held
        if not missing:
            if job.auction is not None:
                self._auctions.stop_waiting(job)
                # While an award is unconfirmed the offer stays open, for the next in rank may be needed.
                if all(e.state is not ExecutionState.AWARDED for e in job.active()):
                    effects.sends += self._auctions.close(job)
            return effects
        if len(job.executions) + missing > self._attempts_max(job):
            effects.add(self._fail_for_want_of_nodes(job, now))
            return effects
        if job.auction is not None and not 0 < job.open_slots() <= missing:
            # An offer is cleared for all of it that is open: for fewer a uniform price would be lower, which an audit
            # finds, and for more it was not made. So there is a new one where a lapsed execution came back, and for
            # what was lost beside it.
            effects.sends += self._auctions.close(job)
        if job.auction is None:
            effects.add(self._auctions.open(job, now))
        auction = job.auction
        if auction is None:
            raise AssertionError(f"{job.id} has no auction and misses {missing} executions")
        self._deadlines.set(("queue", job.id), max(now + 1, auction.queue_until_us))
        if auction.ready(now, missing):
            effects.add(self._clear(job, auction, now))
        else:  # nothing may have been missing for a while, so that nothing waited for its end
            self._deadlines.set(("auction", job.id), auction.closes_us)
        return effects

    def _clear(self, job: Job, auction: Auction, now: int) -> Effects:
        """Awards what the offer is for to the best bids; queues, or fails, for want of bids."""
        slots = job.open_slots()
        winners = self._auctions.clear(auction, slots, now)
        if len(winners) < slots and not self._auctions.may_wait(job, auction, now):
            return self._fail_for_want_of_nodes(job, now)
        auction.standing = True
        effects = Effects()
        if winners:
            effects.add(self._award(job, auction, winners, slots, now))
        if job.open_slots():
            effects.add(self._auctions.queue(job, auction, now))
        elif job.missing():
            effects.add(self._advance(job, now))
        else:
            self._auctions.stop_waiting(job)
        return effects

    def _award(self, job: Job, auction: Auction, winners: list[Winner], slots: int, now: int) -> Effects:
        """The awards of one clearing, and what they were cleared from."""
        bid_set = auction.bid_set(job.executions, now)
        digest = bid_set_digest(bid_set)
        effects, known = Effects(), len(job.executions)
        for winner in winners:
            effects.add(self._executions.award(job, auction, winner, digest, now))
        awards = tuple(
            ClearedAward(e.id, e.bid_id, e.node_id, e.price_microcredits)
            for e in tuple(job.executions.values())[known:]
        )
        auction.clearings += 1
        offer = auction.offer
        clearing = Clearing(
            offer.id, job.id, offer.clearing_rule, now, slots, auction.acknowledged_bids, digest, awards
        )
        effects.writes.append(AuctionCleared(auction.clearings, clearing, bid_set))
        return effects

    # --- events that concern both halves ---

    def _job_submitted(self, event: ev.JobSubmitted, now: int) -> Step:
        limit = self._config.open_jobs_max
        if event.job_id in self._jobs:
            return None, refuse(Refusal(RefusalReason.ID_REUSED, f"job {event.job_id} is open already"))
        if len(self._jobs) >= limit:
            message = f"this node holds {limit} open jobs, its limit: try again when some have ended"
            return None, refuse(Refusal(RefusalReason.LIMIT_REACHED, message, (("open_jobs_max", limit),)))
        job = Job(event.job_id, event.spec, event.inputs, event.spec_digest, now, replicas=event.spec.count)
        self._jobs[job.id] = job
        if job.spec.timeouts.total_us is not None:
            self._deadlines.set(("total", job.id), now + job.spec.timeouts.total_us)
        accepted = JobAccepted(
            job.id, job.spec, job.inputs, job.spec_digest, now, event.request_id, event.client
        )
        return job, Effects(writes=[accepted, job.happened(JobEventType.SUBMITTED, now)])

    def _award_refused(self, event: ev.AwardRefused, now: int) -> Step:
        job, effects = self._executions.refused(event.execution_id, event.refusal, now)
        if job is not None:
            node_id = job.executions[event.execution_id].node_id
            effects.add(self._auctions.award_refused(job, node_id, event.refusal))
        return job, effects

    def _node_lost(self, execution_id: str, step: Step) -> Step:
        job, _ = step
        if job is not None:
            self._auctions.lost(job.executions[execution_id].node_id)
        return step

    # --- the end ---

    def _job_cancelled(self, job_id: str, message: str, now: int) -> Effects:
        job = self._jobs.get(job_id)
        if job is None:
            return refuse(Refusal(RefusalReason.WRONG_STATE, f"job {job_id} is not open: it has ended"))
        job.state = JobState.CANCELLED
        return self._end(job, JobEventType.CANCELLED, None, message or "cancelled by its user", now)

    def _total_timed_out(self, job: Job, now: int) -> Effects:
        limit_s = (job.spec.timeouts.total_us or 0) // SECOND_US
        message = f"the job took longer than its total timeout of {limit_s} seconds"
        return self._fail(job, Fault(FaultKind.TOTAL_TIMEOUT, message), now)

    def _fail_for_want_of_nodes(self, job: Job, now: int) -> Effects:
        effects = self._executions.close_lapsed(job, now)
        effects.add(self._go_on_with_fewer_or_fail(job, self._auctions.nobody_left(job, now), now))
        return effects

    def _go_on_with_fewer_or_fail(self, job: Job, fault: Fault, now: int) -> Effects:
        """What is missing cannot be had: the job ends, unless the results that there are can decide it."""
        if not self._verifications.go_on_with_fewer(job):
            return self._fail(job, fault, now)
        effects = Effects([job.changed(now)])
        effects.add(self._executions.close_lapsed(job, now))
        effects.add(self._advance(job, now))
        return effects

    def _attempts_max(self, job: Job) -> int:
        adaptive = job.spec.verification.policy is VerificationPolicy.ADAPTIVE
        slots = ADAPTIVE_REPLICAS_MAX if adaptive else job.spec.count
        return self._config.attempts_per_execution_max * slots

    def _fail(self, job: Job, fault: Fault, now: int) -> Effects:
        job.state = JobState.FAILED
        return self._end(job, JobEventType.FAILED, fault, fault.message, now)

    def _end(self, job: Job, type: JobEventType, fault: Fault | None, message: str, now: int) -> Effects:
        """The job has reached its last state: whatever still runs for it is stopped, and it is forgotten."""
        effects = self._executions.cancel_active(job, message, now)
        effects.writes.append(job.changed(now, fault))
        effects.writes.append(
            job.happened(type, now, message, fault=fault, price_microcredits=job.charged_microcredits)
        )
        effects.sends += self._auctions.close(job)
        self._deadlines.clear(("total", job.id))
        del self._jobs[job.id]
        self._executions.forget(job)
        return effects
