"""ComputeMachine: a node's bids, the capacity behind them, and the work that it was awarded.

    bid (soft reservation) --award--> accepted (hard) --ended--> reported --answered--> taken --receipt--> settled
                                                       |           | ^ |                 '--in time none--> disputed
                                                       |           | | '--no answer for days--> disputed
                                                       |  commitment-' '--asked to reveal
                                                       '--refused, called off, no result--> settled

Rules: capacity is reserved before a price is sent; the award is on disk before it is confirmed; a report is
sent until it is answered, or for as long as the node keeps it. The lease is counted from when its renewal was
sent; when it ends without a new term the work is stopped, for it may have been given to another node. Where a
job compares results, the requester first gets a commitment, and the report when it asks for it.

What comes before the award is in offers.py, leases are in leases.py, what the work earns in receivables.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.payment import is_payable
from bacalhau.market.reputation import ReputationBook
from bacalhau.model.execution import ExecutionPhase, ExecutionReport, Fault, FaultKind, Usage
from bacalhau.model.frozen import replace
from bacalhau.model.refusals import ENDS_WORK, Refusal, RefusalReason
from bacalhau.model.reputation import Conduct, Role
from bacalhau.model.units import SECOND_US
from bacalhau.model.verification import ResultCommitment
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.awards import answer_repeated_award, award_mismatch
from bacalhau.scheduler.capacity import CapacityLedger
from bacalhau.scheduler.config import ComputeConfig
from bacalhau.scheduler.deadlines import Deadlines
from bacalhau.scheduler.effects import (
    Effects,
    ResumeExecution,
    SendCommitment,
    SendReport,
    StartExecution,
    StopExecution,
    refuse,
)
from bacalhau.scheduler.leases import Leases, Work
from bacalhau.scheduler.offers import Offers
from bacalhau.scheduler.receivables import Receivables, conduct_by, due_microcredits
from bacalhau.scheduler.records import BidKept, Books, WorkRecord, WorkState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bacalhau.market.bidding import Answers, Ask, Quote
    from bacalhau.market.pricing import PricingStrategy
    from bacalhau.model.job import Engine
    from bacalhau.model.market import JobOffer
    from bacalhau.model.reputation import Reputation
    from bacalhau.scheduler.effects import AskPrice
    from bacalhau.scheduler.events import ComputeEvent

__all__ = ["ComputeConfig", "ComputeMachine"]


class ComputeMachine:
    """See the module. `ids` gives a new id with the prefix it is called with."""

    def __init__(
        self,
        config: ComputeConfig,
        pricing: PricingStrategy,
        ids: Callable[[str], str],
        engines: tuple[Engine, ...] = (),
    ) -> None:
        self._config = config
        self.capacity = CapacityLedger(config.policy.capacity)
        self._works: dict[str, Work] = {}
        self._deadlines: Deadlines[tuple[str, str]] = Deadlines()
        self.deadline = self._deadlines.next
        """When it wants to be woken."""
        self._leases = Leases(self._deadlines, config.first_renewal_us)
        self.reputations = ReputationBook(Role.REQUESTER)
        self.receivables = Receivables(config, self._deadlines)
        self._offers = Offers(
            config,
            pricing,
            ids,
            engines,
            self.capacity,
            self._deadlines,
            self.reputations,
            self.receivables,
        )

    # --- contract ---

    def handle(self, event: ComputeEvent, *, now: int) -> Effects:
        match event:
            case ev.OfferReceived():
                return self._offers.received(event, now)
            case ev.OfferClosedReceived():
                return self._offers.closed(event.requester_id, event.offer_id, now)
            case ev.BidAcknowledged():
                return _bid_acknowledged(event)
            case ev.PhaseEntered() | ev.ProgressMade() | ev.LeaseRenewed():
                work = self._running(event.execution_id)
                return Effects() if work is None else self._leases.handle(event, work, now)
            case ev.AwardReceived():
                return self._award_received(event, now)
            case ev.ExecutionEnded():
                return self._execution_ended(event, now)
            case ev.ReportAnswered():
                return self._report_answered(event, now)
            case ev.ReceiptReceived():
                return self._receipt_received(event, now)
            case ev.AskAnswered():
                return self._offers.answered(event, now)
            case ev.PriceAnswered():
                return self._offers.price_answered(event, now)
            case ev.CommitmentAnswered():
                return self._commitment_answered(event, now)
            case ev.RevealRequested():
                return self._reveal_requested(event, now)
            case ev.BidRefused():
                return self._offers.forget(event.offer_id, now)
            case ev.RenewalRefused(execution_id, refusal):
                return self._abandon(execution_id, refusal) if refusal.reason in ENDS_WORK else Effects()
            case ev.CancellationReceived():
                return self._cancellation_received(event, now)
            case ev.ExecutionGone(execution_id):
                return self._execution_gone(execution_id, now)
            case ev.SettlementRecorded():
                return self.receivables.settle(event, now)
            case ev.NoteReturned():
                return self.receivables.note_returned(event, now)
            case ev.NoteSigned():
                return self.receivables.note_signed(event)
            case ev.PeerTrusted():
                return self.receivables.trust(event)
            case ev.EnginesChanged(engines):
                return self._offers.engines_changed(engines, now)
            case ev.StorageChanged(full):
                return self._offers.storage_changed(full, now)
            case ev.ShutdownBegun():
                return self._offers.shut(now)

    def expire(self, *, now: int) -> Effects:
        effects = Effects()
        for kind, key in self._deadlines.pop_due(now):
            match kind:
                case "offer":
                    effects.add(self._offers.due(key, now))
                case "renew":
                    effects.add(self._leases.renew(self._works[key], now))
                case "lease":
                    effects.add(self._leases.ended(self._works[key]))
                case "report":
                    effects.add(self._send_report(self._works[key], now))
                case "accept":
                    effects.add(self._unpaid(self._works[key], Conduct.DISPUTED, now))
                case "note":
                    effects.add(self.receivables.send_note(key, now))
        return effects

    def check(self) -> None:
        """Every reservation has a bid or running work behind it, and the other way round; no report is
        forgotten."""
        self.capacity.check()
        self._offers.check()
        self.receivables.check((work.record for work in self._works.values()), self._offers.promised())
        running = [id for id, work in self._works.items() if work.record.state is WorkState.ACCEPTED]
        assert sorted(self.capacity.keys(hard=True)) == sorted(running), (
            self.capacity.keys(hard=True),
            running,
        )
        for id, work in self._works.items():
            state = work.record.state
            assert state not in (WorkState.SETTLED, WorkState.DISPUTED), work
            assert (self._deadlines.get(("report", id)) is not None) is (state is WorkState.REPORTED), work
            assert (self._deadlines.get(("accept", id)) is not None) is (state is WorkState.TAKEN), work
            leased = state is WorkState.ACCEPTED and not work.stopping
            self._leases.check(work, runs=leased)
        for kind, key in self._deadlines.keys:
            assert kind in ("offer", "note") or key in self._works, (kind, key)

    # --- views for the driver ---

    @property
    def running_executions(self) -> int:
        return sum(1 for work in self._works.values() if work.record.state is WorkState.ACCEPTED)

    def appraise(
        self,
        requester_id: str,
        offer: JobOffer,
        answers: Answers | None,
        *,
        now: int,
        scripted_microcredits: int | None = None,
    ) -> Refusal | Ask | Quote:
        """What the node would answer to such an offer now; nothing is remembered or reserved."""
        return self._offers.appraise(requester_id, offer, answers, scripted_microcredits, now)

    def price_question(
        self, requester_id: str, offer: JobOffer, missing_input_bytes: int, *, now: int
    ) -> AskPrice | None:
        """What the operator's price script is told of such an offer; None where there is no script."""
        if not self._config.policy.price_script:
            return None
        return self._offers.price_question(requester_id, offer, missing_input_bytes, now)

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Ids of the work that is not settled."""
        return tuple(self._works)

    def work(self, execution_id: str) -> WorkRecord | None:
        """Unsettled work, None where there is none under this id."""
        work = self._works.get(execution_id)
        return work.record if work else None

    # --- restart ---

    def restore(
        self,
        records: Iterable[WorkRecord],
        reputations: Iterable[Reputation] = (),
        books: Books | None = None,
        *,
        now: int,
    ) -> Effects:
        """Takes up unsettled work after a restart. Bids and remembered offers are gone: they were promises
        with a short validity, and requesters repeat their offers."""
        self.reputations.restore(reputations)
        effects = self.receivables.restore(books or Books(), now)
        for record in records:
            work = Work(record, lease_end_us=now + record.award.lease_us)
            self._works[record.id] = work
            self.receivables.commit(record)
            if record.state is WorkState.REPORTED:
                effects.add(self._send_report(work, now))
            elif record.state is WorkState.TAKEN:
                self._await_receipt(work, now)
            elif self.capacity.reserve(record.id, record.award.spec.resources, hard=True):
                effects.starts.append(ResumeExecution(record.id, record.attempt))
                effects.add(self._leases.resume(work, now))
            else:
                fault = Fault(
                    FaultKind.NODE_RESTARTED, "the node restarted with less capacity than the job holds"
                )
                effects.add(self._fail(work, fault, now))
        return effects

    # --- awards ---

    def _award_received(self, event: ev.AwardReceived, now: int) -> Effects:
        award = event.award
        known = self._works.get(award.execution_id)
        if known is not None:
            return answer_repeated_award(known.record, event, called_off=known.abandoned is not None)
        if event.ended is not None:
            return answer_repeated_award(event.ended, event, called_off=event.ended.refusal is not None)
        if self._offers.shutting:
            return refuse(Refusal(RefusalReason.SHUTTING_DOWN, "this node is shutting down"))
        found = self._offers.find_bid(event.requester_id, award.offer_id, award.bid_id)
        if found is None:
            return refuse(
                Refusal(RefusalReason.BID_UNKNOWN, f"this node holds no bid {award.bid_id} (any more)")
            )
        mismatch = award_mismatch(*found, event, self._config.lease_min_us)
        if mismatch is not None:
            return refuse(mismatch)
        self._offers.take(award.offer_id, award.execution_id)
        record = WorkRecord(award, event.requester_id, WorkState.ACCEPTED, 1, now, now)
        self._works[record.id] = work = Work(record, lease_end_us=now + award.lease_us)
        self.receivables.commit(record)
        self._leases.begin(work, now)
        return Effects(writes=[record], starts=[StartExecution(record.id, 1)])

    def _running(self, execution_id: str) -> Work | None:
        """Work that has not ended and is not being stopped."""
        work = self._works.get(execution_id)
        if work is None or work.record.state is not WorkState.ACCEPTED or work.stopping:
            return None
        return work

    def _cancellation_received(self, event: ev.CancellationReceived, now: int) -> Effects:
        work = self._works.get(event.execution_id)
        if work is None:
            return Effects()
        if work.record.requester_id != event.requester_id:
            return refuse(
                Refusal(RefusalReason.NOT_FOUND, f"{event.execution_id} was not awarded by this requester")
            )
        called_off = Refusal(RefusalReason.LEASE_ENDED, "the requester called the work off")
        if work.record.sealed:
            return self._close(work, called_off, now)
        return self._abandon(event.execution_id, called_off)

    def _abandon(self, execution_id: str, refusal: Refusal) -> Effects:
        """The requester gave the work to another node, or wants it no more."""
        work = self._works.get(execution_id)
        if work is None or work.record.state is not WorkState.ACCEPTED or work.abandoned is not None:
            return Effects()
        effects = Effects() if work.stopping else Effects(starts=[StopExecution(execution_id)])
        work.abandoned, work.stopping = refusal, True
        self._leases.clear(execution_id)
        return effects

    # --- ends and reports ---

    def _execution_ended(self, event: ev.ExecutionEnded, now: int) -> Effects:
        report = event.report
        work = self._works.get(report.execution_id)
        if work is None or work.record.state is not WorkState.ACCEPTED:
            return Effects()
        if report.cancelled and work.abandoned is None:
            if work.stopping:
                fault = Fault(FaultKind.NODE_LOST, "the node could not renew its lease and stopped the work")
            else:
                fault = Fault(FaultKind.NODE_RESTARTED, "the node stopped the work because it shut down")
            report = replace(report, cancelled=False, fault=fault)
        return self._finish(work, report, now, event.commitment.digest if event.commitment else b"")

    def _execution_gone(self, execution_id: str, now: int) -> Effects:
        """Nothing was left to go on with after a restart: run it again, as a new attempt."""
        work = self._works.get(execution_id)
        if work is None or work.record.state is not WorkState.ACCEPTED:
            return Effects()
        attempt = work.record.attempt + 1
        if work.stopping or attempt > self._config.attempts_max:
            message = f"the node restarted while it ran the job (attempt {work.record.attempt})"
            return self._fail(work, Fault(FaultKind.NODE_RESTARTED, message), now)
        work.record = replace(work.record, attempt=attempt, updated_us=now)
        work.phase = ExecutionPhase.FETCHING_INPUTS
        effects = Effects(writes=[work.record], starts=[StartExecution(execution_id, attempt)])
        effects.add(self._leases.renew(work, now))
        return effects

    def _fail(self, work: Work, fault: Fault, now: int) -> Effects:
        report = ExecutionReport(work.record.id, work.record.attempt, None, 0, Usage(), fault)
        return self._finish(work, report, now)

    def _finish(self, work: Work, report: ExecutionReport, now: int, commitment: bytes = b"") -> Effects:
        self.capacity.release(work.record.id, hard=True)
        self._leases.clear(work.record.id)
        work.record = replace(
            work.record, state=WorkState.REPORTED, updated_us=now, report=report, commitment=commitment
        )
        if work.abandoned is not None:
            effects = self._close(work, work.abandoned, now)
        else:
            effects = Effects(writes=[work.record])
            effects.add(self._send_report(work, now))
        effects.add(self._offers.bid_for_waiting(now))
        return effects

    def _send_report(self, work: Work, now: int) -> Effects:
        record, config = work.record, self._config
        if record.report is None:
            raise AssertionError(f"{record.id} has no report to send")
        give_up_us = record.updated_us + config.report_keep_us
        if now >= give_up_us:
            kept_s = config.report_keep_us // SECOND_US
            message = f"the requester did not take the report within {kept_s} seconds"
            figures = (("report_keep_us", config.report_keep_us),)
            work.record = replace(record, refusal=Refusal(RefusalReason.STALE, message, figures))
            return self._unpaid(work, Conduct.ABANDONED, now)
        pause_us = min(config.report_retry_us << min(work.report_retries, 20), config.report_retry_max_us)
        work.report_retries += 1
        self._deadlines.set(("report", record.id), min(now + pause_us, give_up_us))
        if record.sealed:
            commitment = ResultCommitment(record.id, record.report.attempt, record.commitment)
            return Effects(sends=[SendCommitment(record.requester_id, commitment)])
        return Effects(sends=[SendReport(record.requester_id, record.report)])

    def _commitment_answered(self, event: ev.CommitmentAnswered, now: int) -> Effects:
        work = self._works.get(event.execution_id)
        if work is None or not work.record.sealed:
            return Effects()
        if event.refusal is not None:
            return self._close(work, event.refusal, now) if event.refusal.reason in ENDS_WORK else Effects()
        # Sent again all the same, but seldom: so this node hears that the job has ended, should nobody tell it.
        give_up_us = work.record.updated_us + self._config.report_keep_us
        pause_us = self._config.report_retry_max_us
        self._deadlines.set(("report", event.execution_id), min(now + pause_us, max(now + 1, give_up_us)))
        return Effects()

    def _reveal_requested(self, event: ev.RevealRequested, now: int) -> Effects:
        """From here on the result may be seen. The report is sent at once, also where it was sent before."""
        work = self._works.get(event.execution_id)
        if work is None or work.record.requester_id != event.requester_id:
            message = f"no unsettled execution {event.execution_id} of yours here"
            return refuse(Refusal(RefusalReason.NOT_FOUND, message))
        if work.record.state is not WorkState.REPORTED:
            message = f"{event.execution_id} has no result yet"
            return refuse(Refusal(RefusalReason.WRONG_STATE, message))
        effects = Effects()
        if work.record.sealed:
            work.record = replace(work.record, revealed=True, updated_us=now)
            work.report_retries = 0
            effects.writes.append(work.record)
        effects.add(self._send_report(work, now))
        return effects

    def _report_answered(self, event: ev.ReportAnswered, now: int) -> Effects:
        work = self._works.get(event.execution_id)
        if work is None or work.record.state is not WorkState.REPORTED or work.record.sealed:
            return Effects()
        if event.refusal is not None and event.refusal.reason not in ENDS_WORK:
            return Effects()
        payable = work.record.report is not None and is_payable(work.record.report)
        if event.refusal is not None or not payable:
            effects = self._close(work, event.refusal, now)
            if payable:  # whoever refuses such a report has read it all the same
                effects.writes.append(self.reputations.note(work.record.requester_id, Conduct.DISPUTED, now))
            return effects
        self._deadlines.clear(("report", event.execution_id))
        work.record = replace(work.record, state=WorkState.TAKEN, updated_us=now)
        self._await_receipt(work, now)
        return Effects(writes=[work.record])

    # --- what it earns ---

    def _await_receipt(self, work: Work, now: int) -> None:
        due = work.record.updated_us + work.record.award.payment.accept_within_us
        self._deadlines.set(("accept", work.record.id), max(now + 1, due))

    def _receipt_received(self, event: ev.ReceiptReceived, now: int) -> Effects:
        """What is paid for an execution, or why nothing is: the work is settled either way."""
        receipt = event.receipt
        if self.receivables.knows(receipt):
            return Effects()
        work = self._works.get(receipt.execution_id)
        record = work.record if work else event.ended
        effects = self.receivables.take(event, record, now)
        if effects.refusal is not None or record is None:
            return effects
        conduct = conduct_by(event, record)
        if conduct is not None:
            effects.writes.append(self.reputations.note(receipt.requester_id, conduct, now))
        settled = replace(
            record,
            state=WorkState.SETTLED,
            updated_us=now,
            paid_microcredits=receipt.pay_microcredits,
            receipt_sequence=receipt.sequence,
        )
        if work is not None:
            self._let_go(work)
        elif record.state is WorkState.DISPUTED:
            effects.add(self.receivables.settled_late(record))
        effects.writes.append(settled)
        return effects

    def _unpaid(self, work: Work, conduct: Conduct, now: int) -> Effects:
        """The requester did not answer, or did not pay, in its time. What it owes by the report stays against its
        credit, and the work is kept: a receipt may still come."""
        noted = self.reputations.note(work.record.requester_id, conduct, now)
        if not due_microcredits(work.record):
            effects = self._close(work, work.record.refusal, now)
        else:
            effects = self._close(work, work.record.refusal, now, WorkState.DISPUTED)
            effects.add(self.receivables.dispute(work.record))
        effects.writes.append(noted)
        return effects

    def _close(
        self, work: Work, refusal: Refusal | None, now: int, state: WorkState = WorkState.SETTLED
    ) -> Effects:
        """Nothing is paid for it: settled where nothing is due, else disputed."""
        self._let_go(work)
        return Effects(writes=[replace(work.record, state=state, updated_us=now, refusal=refusal)])

    def _let_go(self, work: Work) -> None:
        """Nothing is left to do for it: it waits for nothing, and its price is on credit no more."""
        del self._works[work.record.id]
        for kind in ("report", "accept"):
            self._deadlines.clear((kind, work.record.id))
        self.receivables.release(work.record)


def _bid_acknowledged(event: ev.BidAcknowledged) -> Effects:
    bid = event.bid
    kept = BidKept(
        bid.id,
        bid.offer_id,
        event.job_id,
        event.requester_id,
        event.sent_us,
        bid.price_microcredits,
        event.offer_envelope,
        event.bid_envelope,
        event.acknowledgement,
        event.refusal,
    )
    return Effects(writes=[kept])
