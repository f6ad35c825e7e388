"""The requester from the award on: leases, reports, retries, what is charged, cancellation, and restarts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bacalhau.model.execution import ExecutionPhase, ExecutionState, Fault, FaultKind
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.refusals import RefusalReason
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.executions import answer_late_report
from bacalhau.scheduler.records import ExecutionRecord, JobChanged
from bacalhau.scheduler.requester import RequesterConfig, RequesterMachine
from bacalhau.simulation.journal import Journal
from tests.builders import RESULT, a_report, a_spec
from tests.scheduler.driven import Requester, seconds

BROKEN = Fault(FaultKind.ENGINE_FAILED, "the engine fell over")


# --- results ---


def test_a_result_is_fetched_before_anything_is_charged(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=10)
    requester.report("n1", "e-2", now=20)
    assert requester.last.starts == [fx.FetchResult("e-2", "n1", RESULT, a_spec().resources.disk_bytes)]
    assert requester.execution("e-2").charged_microcredits == 0
    requester.tell(ev.ResultFetched("e-2"), 30)
    assert requester.execution_state("e-2") is ExecutionState.COMPLETED
    assert requester.execution("e-2").charged_microcredits == 10
    assert requester.changes()[-1].charged_microcredits == 10
    assert requester.state() is JobState.COMPLETED
    requester.sign(40)
    assert (requester.machine.deadline(), requester.machine.open_jobs) == (None, 0)


def test_a_repeated_report_is_accepted_and_has_no_second_effect(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=10)
    requester.report("n1", "e-2", now=20)
    effects = requester.report("n1", "e-2", now=30)
    assert (effects.refusal, effects.writes, effects.starts) == (None, [], [])


def test_a_fetch_that_ends_twice_charges_once(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(a_spec(count=2), now=0)
    requester.bid("n1", now=10)
    requester.bid("n2", now=10)
    requester.report("n1", "e-2", now=20)
    requester.tell(ev.ResultFetched("e-2"), 30)
    requester.tell(ev.ResultFetched("e-2"), 40)
    assert requester.last.writes == []
    assert requester.changes()[-1].charged_microcredits == 10


def test_a_report_confirms_an_award_whose_answer_was_lost(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.bid("n1", now=10)
    requester.report("n1", "e-2", now=20)
    requester.tell(ev.ResultFetched("e-2"), 30)
    assert requester.state() is JobState.COMPLETED


def test_a_report_of_another_node_is_refused(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=10)
    requester.report("thief", "e-2", now=20)
    assert requester.refusal() is RefusalReason.NOT_FOUND
    requester.renew("thief", "e-2", now=30)
    assert requester.refusal() is RefusalReason.LEASE_ENDED


def test_a_report_whose_job_has_ended_is_answered_from_the_record_as_it_was_before(
    requester: Requester,
) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=10)
    requester.report("n1", "e-2", now=20)
    requester.tell(ev.ResultFetched("e-2"), 30)
    requester.report("n1", "e-2", now=40)
    assert requester.refusal() is RefusalReason.NOT_FOUND
    record, again = requester.execution("e-2"), ev.ReportReceived("n1", a_report("e-2"))
    assert answer_late_report(record, again) == fx.Effects()
    stolen = answer_late_report(record, ev.ReportReceived("thief", a_report("e-2"))).refusal
    assert stolen is not None
    assert stolen.reason is RefusalReason.NOT_FOUND


def test_a_report_of_a_job_that_was_stopped_is_kept_unpaid_and_refused_each_time(
    requester: Requester,
) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=10)
    requester.tell(ev.JobCancelled("j-1"), 20)
    record, report = requester.execution("e-2"), ev.ReportReceived("n1", a_report("e-2"))
    late = answer_late_report(record, report)
    assert late.writes == [replace(record, report=report.report, late=True)]
    again = answer_late_report(replace(record, report=report.report, late=True), report)
    assert (again.refusal, again.writes) == (late.refusal, [])
    assert again.refusal is not None
    assert again.refusal.reason is RefusalReason.LEASE_ENDED


def test_a_cancelled_report_is_never_paid_even_with_a_result(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=10)
    requester.tell(ev.ReportReceived("n1", a_report("e-2", cancelled=True)), 20)
    requester.tell(ev.ResultFetched("e-2"), 30)
    assert requester.execution_state("e-2") is ExecutionState.FAILED
    assert requester.failure().kind is FaultKind.NODE_RESTARTED
    assert requester.changes()[-1].charged_microcredits == 0


# --- faults and retries ---


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind.blames_job])
def test_a_fault_of_the_job_itself_ends_it_with_that_fault(requester: Requester, kind: FaultKind) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.decline("n2", RefusalReason.BUSY, now=5)
    requester.running("n1", now=10)
    fault = Fault(kind, "used 2 GiB of 1 GiB")
    requester.report("n1", "e-2", now=20, fault=fault)
    assert requester.failure() == fault


def test_any_other_fault_excludes_the_node_and_the_work_is_auctioned_again(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n2", 200, now=5)
    requester.running("n1", now=10)
    requester.report("n1", "e-2", now=20, fault=BROKEN)
    assert requester.state() is JobState.PENDING
    assert [send.to for send in requester.sent(fx.SendOffer)] == [("n2",)]
    requester.bid("n1", now=30)
    assert requester.refusal() is RefusalReason.OFFER_CLOSED
    requester.running("n2", now=40)
    assert requester.state() is JobState.RUNNING


def test_when_no_candidate_is_left_the_job_fails_with_the_last_fault_never_masked(
    requester: Requester,
) -> None:
    requester.hear("n1")
    requester.submit(a_spec(queue_us=seconds(3600)), now=0)
    requester.running("n1", now=10)
    requester.report("n1", "e-2", now=20, fault=Fault(FaultKind.INPUT_UNAVAILABLE, "no peer has CID bafy"))
    assert requester.failure().kind is FaultKind.INPUT_UNAVAILABLE
    assert requester.failure().message.startswith("no peer has CID bafy (")


def test_the_last_fault_wins_over_declines_of_the_other_nodes(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.decline("n2", RefusalReason.INFEASIBLE, now=5)
    requester.running("n1", now=10)
    requester.report("n1", "e-2", now=20, fault=BROKEN)
    requester.decline("n2", RefusalReason.INFEASIBLE, now=30)
    assert requester.failure() == Fault(BROKEN.kind, f"{BROKEN.message} (no other node is left after 1 try)")


def test_a_lost_node_is_not_excluded(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=10)
    lost = Fault(FaultKind.NODE_LOST, "the node could not renew its lease")
    requester.report("n1", "e-2", now=20, fault=lost)
    requester.running("n1", now=30)
    assert requester.state() is JobState.RUNNING


def test_a_job_gets_no_more_than_its_attempts_and_then_fails_with_the_last_fault() -> None:
    requester = Requester(RequesterConfig(attempts_per_execution_max=3))
    requester.hear("n1")
    requester.submit(now=0)
    for attempt in range(3):
        execution_id = requester.running("n1", now=10 * attempt)
        lost = Fault(FaultKind.NODE_LOST, f"lost for the {attempt + 1}. time")
        requester.report("n1", execution_id, now=10 * attempt + 5, fault=lost)
    assert requester.failure() == Fault(
        FaultKind.NODE_LOST, "lost for the 3. time (no other node is left after 3 tries)"
    )


def test_a_node_that_refuses_every_award_cannot_go_on_for_ever() -> None:
    requester = Requester(RequesterConfig(attempts_per_execution_max=3))
    requester.hear("n1")
    requester.submit(a_spec(queue_us=seconds(3600)), now=0)
    for second in range(1, 10):
        if requester.machine.open_jobs:
            requester.bid("n1", id=f"b-{second}", now=seconds(second))
            award = requester.sent(fx.SendAward)[-1].award
            requester.refuse_award(award.execution_id, RefusalReason.BID_UNKNOWN, now=seconds(second) + 1)
    assert requester.state() is JobState.FAILED
    assert sum(isinstance(send, fx.SendAward) for send in requester.all.sends) == 3


def test_a_result_that_cannot_be_fetched_is_a_fault_of_its_node(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=10)
    requester.report("n1", "e-2", now=20)
    requester.tell(ev.ResultUnavailable("e-2", "no peer has it"), 30)
    assert requester.failure().kind is FaultKind.RESULT_UNAVAILABLE
    assert requester.changes()[-1].charged_microcredits == 0


def test_the_fault_of_a_report_is_told_also_when_its_outputs_cannot_be_fetched(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=10)
    fault = Fault(FaultKind.OUT_OF_MEMORY, "used 2 GiB of 1 GiB: raise --memory")
    requester.report("n1", "e-2", now=20, fault=fault, result=RESULT)
    assert requester.last.starts == [fx.FetchResult("e-2", "n1", RESULT, a_spec().resources.disk_bytes)]
    requester.tell(ev.ResultUnavailable("e-2", "no peer has it"), 30)
    assert requester.failure() == fault


def test_a_job_is_shown_running_while_any_of_its_executions_runs(requester: Requester) -> None:
    requester.hear("n1", "n2", "n3")
    requester.submit(a_spec(count=2), now=0)
    requester.bid("n3", 300, now=10)
    requester.bid("n1", 100, now=10)
    requester.bid("n2", 200, now=10)
    requester.confirm("e-2", now=20)
    requester.confirm("e-3", now=20)
    requester.report("n1", "e-2", now=30, fault=BROKEN)
    requester.decline("n3", RefusalReason.BUSY, now=40)
    assert requester.state() is JobState.RUNNING
    assert requester.history()[-1] is JobEventType.QUEUED
    requester.report("n2", "e-3", now=50)
    assert requester.state() is JobState.RUNNING
    requester.tell(ev.ResultFetched("e-3"), 60)
    assert requester.state() is JobState.QUEUED


# --- leases ---


def test_renewals_keep_the_lease_and_tell_each_phase_once(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=0)
    for second in range(10, 100, 10):
        requester.renew("n1", "e-2", seconds(second))
    assert requester.machine.deadline() == seconds(90 + 30)
    assert requester.history().count(JobEventType.PHASE_CHANGED) == 1


def test_a_renewal_that_was_overtaken_does_not_turn_the_phase_back(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=0)
    requester.renew("n1", "e-2", 10, phase=ExecutionPhase.PUBLISHING)
    requester.renew("n1", "e-2", 20, phase=ExecutionPhase.RUNNING)
    assert requester.execution("e-2").phase is ExecutionPhase.PUBLISHING
    requester.renew("n1", "e-2", 30, phase=ExecutionPhase.FETCHING_INPUTS, attempt=2)
    assert requester.execution("e-2").attempt == 2


def test_a_renewal_confirms_an_award_whose_answer_was_lost(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.bid("n1", now=10)
    requester.renew("n1", "e-2", 20)
    assert requester.execution_state("e-2") is ExecutionState.RUNNING
    requester.expire(seconds(6))
    assert requester.execution_state("e-2") is ExecutionState.RUNNING


def _lapsed(requester: Requester) -> None:
    """n1's lease on e-2 has ended at 30 s; n2 is live."""
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n2", 200, now=0)
    requester.running("n1", now=0)
    requester.hear("n2", now=seconds(29))
    requester.expire(seconds(30))


def test_the_work_is_offered_again_when_the_lease_has_ended_not_before(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n2", 200, now=0)
    requester.running("n1", now=0)
    requester.hear("n2", now=seconds(29))
    requester.expire(seconds(30) - 1)
    assert requester.last.sends == []
    requester.expire(seconds(30))
    assert [send.to for send in requester.sent(fx.SendOffer)] == [("n2",)]
    assert requester.execution_state("e-2") is ExecutionState.RUNNING


def test_a_report_after_the_lease_but_before_the_next_award_counts_and_closes_the_auction(
    requester: Requester,
) -> None:
    _lapsed(requester)
    requester.report("n1", "e-2", now=seconds(31))
    assert requester.refusal() is None
    assert [send.to for send in requester.sent(fx.SendOfferClosed)] == [("n2",)]
    requester.expire(seconds(4000))
    requester.tell(ev.ResultFetched("e-2"), seconds(4001))
    assert requester.state() is JobState.COMPLETED


def test_a_report_after_the_work_was_awarded_again_is_kept_refused_and_unpaid(requester: Requester) -> None:
    _lapsed(requester)
    requester.running("n2", now=seconds(31))
    assert requester.execution_state("e-2") is ExecutionState.FAILED
    requester.report("n1", "e-2", now=seconds(32))
    assert requester.refusal() is RefusalReason.LEASE_ENDED
    kept = requester.execution("e-2")
    assert (kept.report, kept.late, kept.state) == (a_report("e-2"), True, ExecutionState.FAILED)
    requester.report("n1", "e-2", now=seconds(33))
    assert (requester.refusal(), requester.last.writes) == (RefusalReason.LEASE_ENDED, [])
    requester.renew("n1", "e-2", seconds(33))
    assert requester.refusal() is RefusalReason.LEASE_ENDED
    assert requester.execution("e-2").charged_microcredits == 0


def test_a_renewal_that_comes_back_before_the_next_award_takes_the_work_up_again(
    requester: Requester,
) -> None:
    _lapsed(requester)
    assert requester.state() is JobState.PENDING
    requester.renew("n1", "e-2", seconds(31))
    assert requester.state() is JobState.RUNNING
    requester.bid("n2", now=seconds(31))
    assert requester.refusal() is RefusalReason.OFFER_CLOSED


def test_a_vacant_slot_is_filled_before_a_lapsed_execution_is_given_up(requester: Requester) -> None:
    requester.hear("n1", "n2", "n3", "n4")
    requester.submit(a_spec(count=2), now=0)
    for node_id, price in (("n1", 100), ("n2", 200), ("n3", 300), ("n4", 400)):
        requester.bid(node_id, price, now=0)
    requester.confirm("e-2", now=0)
    requester.confirm("e-3", now=0)
    requester.renew("n2", "e-3", seconds(20))
    requester.hear("n3", "n4", now=seconds(29))
    requester.expire(seconds(30))
    requester.report("n2", "e-3", now=seconds(30), fault=BROKEN)
    requester.bid("n3", 300, id="b-3", now=seconds(30) + 10)
    requester.expire(seconds(31))
    assert requester.awards() == [("n3", 300)]
    assert requester.execution_state("e-2") is ExecutionState.RUNNING
    requester.bid("n4", 400, id="b-4", now=seconds(31) + 10)
    assert requester.execution_state("e-2") is ExecutionState.FAILED


def test_a_job_whose_only_node_is_lost_fails_as_node_lost(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=0)
    while (due := requester.machine.deadline()) is not None:
        requester.expire(due)
    assert requester.failure().kind is FaultKind.NODE_LOST
    assert "not heard from until its lease ended" in requester.failure().message


# --- cancellation ---


@pytest.mark.parametrize("stage", ["auction", "queued", "awarded", "running", "lapsed", "reported"])
def test_a_job_can_be_cancelled_at_every_stage_and_leaves_nothing_behind(stage: str) -> None:
    requester = Requester()
    requester.hear("n1")
    requester.submit(a_spec(queue_us=seconds(600), total_us=seconds(900)), now=0)
    match stage:
        case "queued":
            requester.decline("n1", RefusalReason.BUSY, now=10)
        case "awarded":
            requester.bid("n1", now=10)
        case "running" | "lapsed" | "reported":
            requester.running("n1", now=10)
    if stage == "lapsed":
        requester.expire(seconds(31))
    if stage == "reported":
        requester.report("n1", "e-2", now=20)
    requester.tell(ev.JobCancelled("j-1"), seconds(32))
    assert requester.state() is JobState.CANCELLED
    assert requester.history()[-1] is JobEventType.CANCELLED
    told = [send.to for send in requester.sent(fx.SendCancellation)]
    assert told == (["n1"] if stage in ("awarded", "running", "lapsed", "reported") else [])
    requester.sign(seconds(33))
    assert (requester.machine.deadline(), requester.machine.open_jobs) == (None, 0)
    requester.tell(ev.ResultFetched("e-2"), seconds(33))
    assert requester.last.writes == []


def test_cancelling_a_job_that_has_ended_is_refused(requester: Requester) -> None:
    requester.submit(now=0)
    requester.tell(ev.JobCancelled("j-1"), 10)
    requester.tell(ev.JobCancelled("j-1"), 20)
    assert requester.refusal() is RefusalReason.WRONG_STATE


# --- restart ---


def _restarted(requester: Requester, now: int) -> tuple[RequesterMachine, fx.Effects]:
    """A new machine from what the old one wrote."""
    journal = Journal()
    journal.commit(requester.all.writes)
    machine = RequesterMachine(requester.config, lambda prefix: f"{prefix}-new")
    effects = machine.restore(journal.open_jobs(), journal.executions_of_open_jobs(), now=now)
    machine.check()
    return machine, effects


def test_a_restart_sends_an_unconfirmed_award_again(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.bid("n1", now=10)
    award = requester.sent(fx.SendAward)[0]
    _, effects = _restarted(requester, now=seconds(100))
    assert effects.sends == [award]


def test_a_restart_grants_a_full_lease_of_grace(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=0)
    machine, effects = _restarted(requester, now=seconds(100))
    assert effects.sends == []
    assert machine.deadline() == seconds(130)


def test_a_restart_fetches_a_reported_result_again(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    requester.running("n1", now=0)
    requester.report("n1", "e-2", now=10)
    machine, effects = _restarted(requester, now=20)
    assert effects.starts == [fx.FetchResult("e-2", "n1", RESULT, a_spec().resources.disk_bytes)]
    done = machine.handle(ev.ResultFetched("e-2"), now=30)
    assert [w.charged_microcredits for w in done.writes if isinstance(w, ExecutionRecord)] == [10]


def test_a_restart_waits_for_nodes_to_be_heard_before_it_fails_a_job(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=0)
    machine, _ = _restarted(requester, now=seconds(100))
    machine.expire(now=seconds(101))
    assert machine.open_jobs == 1
    offers = machine.handle(ev.PeerHeard("n1"), now=seconds(110)).sends
    assert [send.to for send in offers if isinstance(send, fx.SendOffer)] == [("n1",)]


def test_a_restart_counts_what_was_charged_before(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(a_spec(count=2), now=0)
    requester.bid("n1", now=10)
    requester.bid("n2", now=10)
    requester.report("n1", "e-2", now=20)
    requester.tell(ev.ResultFetched("e-2"), 30)
    assert requester.changes()[-1].charged_microcredits == 10
    machine, _ = _restarted(requester, now=40)
    machine.handle(ev.ReportReceived("n2", a_report("e-3")), now=50)
    done = machine.handle(ev.ResultFetched("e-3"), now=60)
    assert [w.charged_microcredits for w in done.writes if isinstance(w, JobChanged)][-1] == 20


def test_a_restart_remembers_which_nodes_failed(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n2", 200, now=5)
    requester.running("n1", now=10)
    requester.report("n1", "e-2", now=20, fault=BROKEN)
    machine, _ = _restarted(requester, now=30)
    assert machine.handle(ev.PeerHeard("n1"), now=40).sends == []
    assert len(machine.handle(ev.PeerHeard("n2"), now=40).sends) == 1


def test_a_total_timeout_that_passed_during_the_restart_ends_the_job(requester: Requester) -> None:
    requester.submit(a_spec(total_us=seconds(10)), now=0)
    machine, _ = _restarted(requester, now=seconds(100))
    machine.expire(now=seconds(100))
    assert machine.open_jobs == 0
