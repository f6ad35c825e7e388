"""Many stories of faults with fixed seeds, and proof that the checkers see what they are for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bacalhau.market.credit import Credit
from bacalhau.model.execution import ExecutionState, FaultKind
from bacalhau.model.job import JobState
from bacalhau.model.ledger import Balance, Transaction, TransactionKind
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler.capacity import CapacityLedger
from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.events import (
    BidReceived,
    CommitmentReceived,
    LeaseRenewed,
    NoteReceived,
    ReceiptReceived,
    ReceiptsAnswered,
    ResultFetched,
)
from bacalhau.scheduler.records import ExecutionRecord, JobHappening
from bacalhau.scheduler.requester import RequesterMachine
from bacalhau.simulation.profile import Machines
from bacalhau.simulation.stories import SHORT_CREDIT, SHORT_LEASES, BrokenPromise, tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.market.clearing import SealedBid
    from bacalhau.model.reputation import Reputation
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.scheduler.jobs import Job
    from bacalhau.scheduler.records import Books

SEEDS = 200
BATCH = 20


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_every_accepted_job_ends_and_all_capacity_returns_whatever_goes_wrong(first: int) -> None:
    for seed in range(first, first + BATCH):
        tell(seed)


@pytest.mark.parametrize("first", range(0, SEEDS // 4, BATCH // 2))
def test_the_same_holds_where_leases_are_short_and_work_is_awarded_again_and_again(first: int) -> None:
    for seed in range(first, first + BATCH // 2):
        tell(seed, requester=SHORT_LEASES)


def test_a_bid_that_was_awarded_is_not_awarded_again_when_a_copy_of_it_straggles_in() -> None:
    """Found by this seed: the node had bid anew meanwhile, so that the copy was taken for a third bid."""
    tell(73, requester=SHORT_LEASES)


def test_an_auction_ends_in_time_though_nothing_was_missing_for_a_part_of_it() -> None:
    """Found by this seed: a lapsed execution came back, which stopped the wait for bids, and failed at once."""
    tell(94, requester=SHORT_LEASES, compared=True)


@pytest.mark.parametrize("seed", [301, 426])
def test_a_bid_may_be_withdrawn_by_the_last_answer_that_its_auction_waits_for(seed: int) -> None:
    """Found by these seeds, in the checker: it held against the clearing the bid that the same step had withdrawn."""
    tell(seed)


def test_an_offer_that_is_needed_again_is_cleared_when_its_window_ends() -> None:
    """Found by this seed: its work had come back with a renewal, and then failed, and no deadline was left."""
    tell(7300019, requester=SHORT_LEASES, compared=True, credit=SHORT_CREDIT)


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_where_results_are_compared_no_cheater_is_paid_and_no_honest_node_refuted(first: int) -> None:
    for seed in range(first, first + BATCH):
        tell(seed, compared=True)


@pytest.mark.parametrize("first", range(0, SEEDS // 4, BATCH // 2))
def test_the_same_holds_where_leases_are_short_and_reveals_have_little_time(first: int) -> None:
    for seed in range(first, first + BATCH // 2):
        tell(seed, requester=SHORT_LEASES, compared=True)


@pytest.mark.parametrize("first", range(0, SEEDS // 4, BATCH // 2))
def test_the_same_holds_where_credit_is_short_and_no_node_gives_more_than_it_may(first: int) -> None:
    for seed in range(first, first + BATCH // 2):
        tell(seed, credit=SHORT_CREDIT)


def test_a_seed_tells_the_same_story_each_time() -> None:
    first, second = (
        [(node.journal.histories, node.journal.works) for node in tell(11).world.nodes.values()]
        for _ in range(2)
    )
    assert first == second


def test_the_stories_reach_every_kind_of_end() -> None:
    """Else the tests above would hold for want of anything happening."""
    states: dict[object, int] = {}
    for seed in range(60):
        for node in tell(seed).world.nodes.values():
            for job_id in node.journal.jobs:
                change = node.journal.changes[job_id]
                states[change.state] = states.get(change.state, 0) + 1
                if change.failure is not None:
                    states[change.failure.kind] = states.get(change.failure.kind, 0) + 1
            for execution in node.journal.executions.values():
                states[execution.state] = states.get(execution.state, 0) + 1
                if execution.attempt > 1:
                    states["second attempt"] = states.get("second attempt", 0) + 1
    wanted = (
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.CANCELLED,
        ExecutionState.COMPLETED,
        ExecutionState.FAILED,
        ExecutionState.REFUSED,
        ExecutionState.CANCELLED,
        FaultKind.NO_NODE,
        FaultKind.NODE_LOST,
        FaultKind.QUEUE_TIMEOUT,
        FaultKind.TOTAL_TIMEOUT,
        FaultKind.INVALID_TASK,
        "second attempt",
    )
    assert [kind for kind in wanted if not states.get(kind)] == []
    assert states[JobState.COMPLETED] >= 50


# --- the checkers see broken machines ---


class ForgetfulLedger(CapacityLedger):
    """Skips the release of what executions held."""

    __slots__ = ()

    def release(self, key: str, *, hard: bool = False) -> bool:
        if hard:
            return self._hard.pop(key, None) is not None
        return super().release(key)

    def check(self) -> None:
        """Its own check would tell at once; the world has to find out by itself."""


class SkipsRelease(ComputeMachine):
    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self.capacity.__class__ = ForgetfulLedger


class Oversubscribes(ComputeMachine):
    """Counts nothing as held."""

    def handle(self, event: ComputeEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        self.capacity.free = self.capacity.capacity
        return effects

    def check(self) -> None:
        """Silent: the world has to find out by itself."""


class LosesReports(ComputeMachine):
    """Believes that the first report has arrived, and does not send it."""

    def handle(self, event: ComputeEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        lost = [send for send in effects.sends if isinstance(send, fx.SendReport)]
        effects.sends = [send for send in effects.sends if not isinstance(send, fx.SendReport)]
        for send in lost:
            work = self._works[send.report.execution_id]
            effects.add(self._close(work, None, now))
        return effects


class ChargesTwice(RequesterMachine):
    """Writes each completed execution once more, at twice the price."""

    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        for write in tuple(effects.writes):
            if isinstance(write, ExecutionRecord) and write.charged_microcredits:
                effects.writes.append(replace(write, charged_microcredits=2 * write.charged_microcredits))
        return effects


class AwardsAgainAtOnce(RequesterMachine):
    """Gives a silent node's work away without giving up the first execution."""

    def expire(self, *, now: int) -> fx.Effects:
        effects = super().expire(now=now)
        effects.writes = [
            write
            for write in effects.writes
            if not (isinstance(write, ExecutionRecord) and write.state is ExecutionState.REFUSED)
        ]
        return effects


class BreedsRenewals(ComputeMachine):
    """Each answer to a renewal that took longer than a third of the lease sets off one more."""

    def handle(self, event: ComputeEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        if isinstance(event, LeaseRenewed):
            work = self._running(event.execution_id)
            if work is not None:
                due = event.sent_us + work.record.award.lease_us // 3
                self._deadlines.set(("renew", event.execution_id), due)
        return effects


class ClearsWrongly(RequesterMachine):
    """Awards to the dearest bid."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        clear = self._auctions.clear
        self._auctions.clear = (  # type: ignore[method-assign]
            lambda auction, slots, now: clear(auction, len(auction.bids), now)[::-1][:slots]
        )


class IgnoresWithdrawals(RequesterMachine):
    """Takes a bid that comes behind the decline by which its node had withdrawn it."""

    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        if isinstance(event, BidReceived):
            for job in self._jobs.values():
                if job.auction is not None:
                    job.auction.declined_us.clear()
        return super().handle(event, now=now)


class AcknowledgesOtherwise(RequesterMachine):
    """Tells each bidder that its bid came one place later than it did."""

    def acknowledged(self, offer_id: str, node_id: str) -> SealedBid | None:
        sealed = super().acknowledged(offer_id, node_id)
        return replace(sealed, position=sealed.position + 1) if sealed is not None else None


class PromisesOtherwise(RequesterMachine):
    """Its awards commit to other bids than the clearing that it keeps."""

    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        effects.sends = [
            replace(send, award=replace(send.award, bid_set_digest=b"other bids"))
            if isinstance(send, fx.SendAward)
            else send
            for send in effects.sends
        ]
        return effects


class SkipsHistory(RequesterMachine):
    """Loses what it wrote of confirmations."""

    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        happenings = [write for write in effects.writes if isinstance(write, JobHappening)]
        if len(happenings) > 1:
            effects.writes.remove(happenings[0])
        return effects


class BelievesEverybody(RequesterMachine):
    """Accepts what was revealed without looking at it."""

    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        if isinstance(event, ResultFetched):
            return self._then_advance(self._executions.result_fetched(event.execution_id, now), now)
        return super().handle(event, now=now)

    def check(self) -> None:
        """Silent: the world has to find out by itself."""


class AsksEarly(RequesterMachine):
    """Asks each node to reveal as soon as it has committed."""

    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        if isinstance(event, CommitmentReceived) and effects.writes:
            effects.sends.append(fx.SendRevealRequest(event.node_id, event.commitment.execution_id))
        return effects


@pytest.mark.parametrize(
    ("machine", "complaint"),
    [
        (BelievesEverybody, "cheater, and was paid"),
        (AsksEarly, "is asked before all have committed"),
    ],
)
def test_the_checkers_find_a_machine_that_compares_nothing_or_asks_too_early(
    machine: type[RequesterMachine], complaint: str
) -> None:
    found = []
    for seed in range(100):
        try:
            tell(seed, Machines(requester=machine), compared=True)
        except BrokenPromise as failure:
            found.append(str(failure))
            if complaint in found[-1]:
                return
    pytest.fail(f"none of 100 stories found it; complaints were {found}")


class ForgetsReceipts(RequesterMachine):
    """Takes every receipt for signed before its node has seen it."""

    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        sent = [send for send in effects.sends if isinstance(send, fx.SendReceipts)]
        effects.sends = [send for send in effects.sends if not isinstance(send, fx.SendReceipts)]
        for send in sent:
            signed = tuple((receipt.sequence, b"") for receipt in send.receipts)
            effects.add(super().handle(ReceiptsAnswered(send.to, signed), now=now))
        return effects


class KeepsEscrow(RequesterMachine):
    """Gives nothing back for what came to nothing."""

    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        return _without_refunds(super().handle(event, now=now))

    def expire(self, *, now: int) -> fx.Effects:
        return _without_refunds(super().expire(now=now))


def _without_refunds(effects: fx.Effects) -> fx.Effects:
    effects.writes = [
        write
        for write in effects.writes
        if not (isinstance(write, Transaction) and write.kind is TransactionKind.REFUND)
    ]
    return effects


class CountsNotesTwice(RequesterMachine):
    """Takes every settlement note for one more, the same again too."""

    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        if isinstance(event, NoteReceived):
            known = self.payables.balances.get(event.note.creditor_id, Balance())
            if known.sequence and event.note.sequence <= known.note_sequence:
                settled = known.settled_microcredits + event.note.settled_microcredits
                note = replace(event.note, sequence=known.note_sequence + 1, settled_microcredits=settled)
                event = replace(event, note=note)
        return super().handle(event, now=now)


class ForgetsItsBalances(RequesterMachine):
    """Starts again with none."""

    def restore(
        self,
        jobs: Iterable[Job],
        executions: Iterable[ExecutionRecord],
        reputations: Iterable[Reputation] = (),
        books: Books | None = None,
        *,
        now: int,
    ) -> fx.Effects:
        return super().restore(jobs, executions, reputations, now=now)


class TakesReceiptsTwice(ComputeMachine):
    """Takes every receipt that it is sent for the next one."""

    def handle(self, event: ComputeEvent, *, now: int) -> fx.Effects:
        if isinstance(event, ReceiptReceived) and self.receivables.knows(event.receipt):
            balance = self.receivables.records[event.receipt.requester_id].balance
            pay = event.receipt.pay_microcredits
            receipt = replace(
                event.receipt,
                sequence=balance.sequence + 1,
                balance_microcredits=balance.charged_microcredits + pay,
            )
            event = replace(
                event,
                receipt=receipt,
                ended=replace(event.ended, receipt_sequence=0) if event.ended else None,
            )
        return super().handle(event, now=now)


class BoundlessCredit(Credit):
    __slots__ = ()

    def refusal(self, peer_id: str, price_microcredits: int) -> None:
        """None, whoever asks for whatever."""


class GivesAnyCredit(ComputeMachine):
    """Never asks who owes what."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self.receivables.credit.__class__ = BoundlessCredit


@pytest.mark.parametrize(
    ("machines", "complaint", "how"),
    [
        (Machines(compute=SkipsRelease), "lost capacity", {}),
        (Machines(compute=Oversubscribes), "more than it has room for", {}),
        (Machines(compute=LosesReports), "was lost", {}),
        (Machines(requester=ChargesTwice), "had ended, and became", {}),
        (Machines(requester=AwardsAgainAtOnce), " executions of ", {}),
        (Machines(requester=SkipsHistory), "a gap in the history", {}),
        (Machines(requester=ClearsWrongly), "was cleared wrongly", {}),
        (Machines(requester=IgnoresWithdrawals), "was withdrawn, and took part", {}),
        (Machines(requester=AcknowledgesOtherwise), "acknowledged otherwise than it was cleared", {}),
        (Machines(requester=PromisesOtherwise), "commits to other bids than the clearing", {}),
        (Machines(compute=BreedsRenewals), "messages breed messages", {"requester": SHORT_LEASES}),
        (Machines(requester=ForgetsReceipts), "owes", {}),
        (Machines(requester=KeepsEscrow), "history comes to", {}),
        (Machines(requester=CountsNotesTwice), "owes", {}),
        (Machines(requester=ForgetsItsBalances), "replays to other books", {}),
        (Machines(compute=TakesReceiptsTwice), "paid twice", {}),
        (Machines(compute=GivesAnyCredit), "more credit than it may", {"credit": SHORT_CREDIT}),
    ],
    ids=[
        "skipped release",
        "oversubscription",
        "lost report",
        "double charge",
        "slot awarded twice",
        "gap in history",
        "wrong clearing",
        "withdrawn bid that takes part",
        "acknowledgement of another place",
        "award that commits to other bids",
        "renewals that breed",
        "lost receipt",
        "kept escrow",
        "note counted twice",
        "balances lost at a restart",
        "receipt taken twice",
        "credit without limit",
    ],
)
def test_the_checkers_find_a_broken_machine(machines: Machines, complaint: str, how: dict[str, Any]) -> None:
    found = []
    for seed in range(100):
        try:
            tell(seed, machines, **how)
        except BrokenPromise as failure:
            found.append(str(failure))
            if complaint in found[-1]:
                return
    pytest.fail(f"none of 100 stories found it; complaints were {found}")


def test_the_stories_in_which_results_are_compared_reach_bonds_that_are_forfeited_and_kept() -> None:
    staked = [
        (execution.state, bool(execution.penalty_microcredits))
        for seed in range(20)
        for node in tell(seed, compared=True).world.nodes.values()
        for execution in node.journal.executions.values()
        if execution.bond_microcredits
    ]
    assert staked.count((ExecutionState.FAILED, True)) >= 5
    assert staked.count((ExecutionState.COMPLETED, False)) >= 5
