"""Jobs whose results are compared: commitments, reveals, verdicts, at the requester and at the compute node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bacalhau.market.verification import TRUSTED_AFTER
from bacalhau.model.cid import DAG_PB, Cid
from bacalhau.model.execution import ExecutionState, Fault, FaultKind
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.reputation import Reputation
from bacalhau.model.verification import Compared, ResultCommitment, Verification, VerificationPolicy
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.config import RequesterConfig
from bacalhau.scheduler.jobs import Job
from bacalhau.scheduler.records import ExecutionRecord, WorkRecord, WorkState
from bacalhau.scheduler.requester import RequesterMachine
from tests.builders import NODE_CAPACITY, RESULT, SPEC_DIGEST, a_compute_config, a_report, a_spec, an_award
from tests.scheduler.driven import SALT, Compute, Requester, seconds

OTHER = Cid.of(DAG_PB, b"another result")
THIRD = Cid.of(DAG_PB, b"a third result")
REPLICATED = Verification(VerificationPolicy.REPLICATED, 2)
ADAPTIVE = Verification(VerificationPolicy.ADAPTIVE, 2)
NODES = ("n1", "n2", "n3")


def three_running(config: RequesterConfig | None = None) -> tuple[Requester, dict[str, str]]:
    """A job on three nodes, of which two have to agree; execution ids by node."""
    requester = Requester(config)
    requester.hear(*NODES)
    requester.submit(a_spec(count=3, verification=REPLICATED))
    for node_id in NODES:
        requester.bid(node_id, now=0)
    awards = {send.to: send.award.execution_id for send in requester.sent(fx.SendAward)}
    for execution_id in awards.values():
        requester.confirm(execution_id, 0)
    return requester, awards


def all_committed(**results: Cid) -> tuple[Requester, dict[str, str]]:
    requester, awards = three_running()
    for node_id, execution_id in awards.items():
        requester.commit(node_id, execution_id, seconds(1), result=results.get(node_id, RESULT))
    return requester, awards


# --- commitments ---


def test_nobody_is_asked_before_all_have_committed_and_then_everybody() -> None:
    requester, awards = three_running()
    requester.commit("n1", awards["n1"], seconds(1))
    requester.commit("n2", awards["n2"], seconds(2))
    assert requester.asked() == []
    assert requester.execution_state(awards["n1"]) is ExecutionState.COMMITTED
    requester.commit("n3", awards["n3"], seconds(3))
    assert sorted(requester.asked()) == list(NODES)
    assert requester.history()[-2:] == [JobEventType.COMMITTED, JobEventType.VERIFYING]


def test_what_is_paid_for_ends_with_the_commitment_however_late_the_others_are() -> None:
    requester, awards = three_running()
    for node_id, at_s in (("n1", 6), ("n2", 12), ("n3", 29)):
        requester.commit(node_id, awards[node_id], seconds(at_s))
    for node_id, execution_id in awards.items():
        requester.reveal(node_id, execution_id, seconds(30), wall_us=seconds(60))
    paid = {send.to: send.receipts[0] for send in requester.all.sends if isinstance(send, fx.SendReceipts)}
    assert {node_id: receipt.usage.wall_us for node_id, receipt in paid.items()} == {
        "n1": seconds(6),
        "n2": seconds(12),
        "n3": seconds(29),
    }


def test_a_commitment_that_is_repeated_is_known_and_another_one_is_refused() -> None:
    requester, awards = three_running()
    requester.commit("n1", awards["n1"], seconds(1))
    requester.commit("n1", awards["n1"], seconds(2))
    assert (requester.refusal(), requester.last.writes) == (None, [])
    requester.commit("n1", awards["n1"], seconds(3), result=OTHER)
    assert requester.refusal() is RefusalReason.ID_REUSED


def test_a_commitment_of_another_node_or_for_a_job_that_compares_nothing_is_refused() -> None:
    requester, awards = three_running()
    requester.commit("n2", awards["n1"], seconds(1))
    assert requester.refusal() is RefusalReason.NOT_FOUND
    requester.submit(id="j-2", now=seconds(2))
    requester.decline("n2", now=seconds(2))
    requester.decline("n3", now=seconds(2))
    plain = requester.running("n1", seconds(2))
    requester.commit("n1", plain, seconds(3))
    assert requester.refusal() is RefusalReason.MALFORMED


def test_a_result_that_was_not_committed_to_is_not_taken() -> None:
    requester, awards = three_running()
    requester.report("n1", awards["n1"], seconds(1))
    assert requester.refusal() is RefusalReason.MALFORMED
    assert requester.execution_state(awards["n1"]) is ExecutionState.RUNNING


def test_the_lease_ends_with_the_commitment() -> None:
    requester, awards = three_running()
    requester.commit("n1", awards["n1"], seconds(1))
    requester.expire(seconds(31))
    assert requester.execution_state(awards["n1"]) is ExecutionState.COMMITTED
    assert requester.machine.deadline() != seconds(30)


# --- verdicts ---


def test_the_agreeing_group_is_paid_and_the_other_refuted_and_known_as_a_cheater() -> None:
    requester, awards = all_committed(n3=OTHER)
    requester.reveal("n1", awards["n1"], seconds(2))
    requester.reveal("n3", awards["n3"], seconds(2), result=OTHER)
    assert requester.execution_state(awards["n3"]) is ExecutionState.REVEALED
    requester.reveal("n2", awards["n2"], seconds(3))
    assert requester.state() is JobState.COMPLETED
    assert [requester.execution(awards[n]).charged_microcredits for n in NODES] == [10, 10, 0]
    refuted = requester.execution(awards["n3"])
    assert refuted.state is ExecutionState.FAILED
    assert refuted.failure is not None
    assert refuted.failure.kind is FaultKind.RESULT_REFUTED
    assert requester.conduct("n3") == {"CHEATED": 1}
    assert requester.conduct("n1") == {"COMPLETED": 1}
    assert [requester.machine.reputations.consecutive_valid(n) for n in NODES] == [1, 1, 0]
    assert requester.changes()[-1].charged_microcredits == 20


def test_a_job_whose_results_all_differ_fails_with_the_groups_and_blames_nobody() -> None:
    requester, awards = all_committed(n2=OTHER, n3=THIRD)
    for node_id, result in (("n1", RESULT), ("n2", OTHER), ("n3", THIRD)):
        requester.reveal(node_id, awards[node_id], seconds(2), result=result)
    assert requester.state() is JobState.FAILED
    assert requester.failure().kind is FaultKind.NO_AGREEMENT
    assert "n1 | n2 | n3" in requester.failure().message
    assert requester.changes()[-1].charged_microcredits == 0
    assert [requester.conduct(node_id) for node_id in NODES] == [{}, {}, {}]


def test_a_node_that_reveals_another_result_than_it_committed_to_is_refuted_and_replaced() -> None:
    requester, awards = all_committed()
    requester.reveal("n1", awards["n1"], seconds(2))
    requester.hear("n4", now=seconds(2))
    requester.reveal("n3", awards["n3"], seconds(3), result=OTHER)
    assert requester.conduct("n3") == {"CHEATED": 1}
    assert [send.to for send in requester.sent(fx.SendOffer)] == [("n4",)]
    assert requester.state() is JobState.RUNNING
    fresh = requester.running("n4", seconds(4))
    requester.reveal("n2", awards["n2"], seconds(5))
    requester.commit("n4", fresh, seconds(6))
    assert requester.asked() == ["n4"]
    requester.reveal("n4", fresh, seconds(7))
    assert requester.state() is JobState.COMPLETED


def test_whoever_opens_the_commitment_of_another_node_is_refuted() -> None:
    """n3 repeats what n1 has sent, learns its result and its salt, and opens it as n1 did."""
    requester, awards = three_running()
    requester.commit("n1", awards["n1"], seconds(1))
    copied = requester.execution(awards["n1"]).commitment
    requester.tell(ev.CommitmentReceived("n3", ResultCommitment(awards["n3"], 1, copied)), seconds(1))
    requester.commit("n2", awards["n2"], seconds(1))
    assert sorted(requester.asked()) == list(NODES)
    requester.reveal("n3", awards["n3"], seconds(2))
    assert requester.conduct("n3") == {"CHEATED": 1}


def test_an_exit_code_that_is_not_that_of_the_result_is_refuted() -> None:
    requester, awards = all_committed()
    report = replace(a_report(awards["n1"], exit_code=1), salt=SALT)
    requester.tell(ev.ReportReceived("n1", report), seconds(2))
    (fetch,) = requester.started(fx.FetchResult)
    assert fetch.verification == REPLICATED
    compared = Compared(b"d" * 32, 0)
    requester.tell(ev.ResultFetched(awards["n1"], compared), seconds(3))
    failure = requester.execution(awards["n1"]).failure
    assert failure is not None
    assert failure.message == "the node reported exit code 1, and its result says 0"


def test_what_is_no_result_folder_is_refuted() -> None:
    requester, awards = all_committed()
    requester.tell(ev.ReportReceived("n1", replace(a_report(awards["n1"]), salt=SALT)), seconds(2))
    requester.tell(ev.ResultFetched(awards["n1"], None), seconds(3))
    assert requester.conduct("n1") == {"CHEATED": 1}


# --- reveals that do not come ---


def test_a_node_that_does_not_reveal_is_asked_again_and_given_up_after_a_minute() -> None:
    requester, awards = all_committed()
    requester.reveal("n1", awards["n1"], seconds(2))
    requester.reveal("n2", awards["n2"], seconds(2))
    asked = []
    while (due := requester.machine.deadline()) is not None and due < seconds(61):
        requester.expire(due)
        asked += [due // seconds(1)] * len(requester.asked())
    assert asked == [6, 11, 16, 21, 26, 31, 36, 41, 46, 51, 56]
    requester.expire(seconds(61))
    failure = requester.execution(awards["n3"]).failure
    assert failure is not None
    assert failure.kind is FaultKind.NOT_REVEALED
    assert requester.conduct("n3") == {"REFUSED": 1}
    # Nobody else is heard of, and two of three agree.
    while (due := requester.machine.deadline()) is not None and due < seconds(70):
        requester.expire(due)
    assert requester.state() is JobState.COMPLETED
    assert requester.changes()[-1].charged_microcredits == 20


def test_a_node_that_has_lost_its_result_is_not_waited_for() -> None:
    requester, awards = all_committed()
    requester.tell(ev.RevealRefused(awards["n1"], Refusal(RefusalReason.WRONG_STATE, "not yet")), seconds(2))
    assert requester.execution_state(awards["n1"]) is ExecutionState.COMMITTED
    requester.tell(ev.RevealRefused(awards["n1"], Refusal(RefusalReason.NOT_FOUND, "gone")), seconds(2))
    assert requester.execution_state(awards["n1"]) is ExecutionState.FAILED


def test_a_job_whose_confidence_cannot_be_reached_any_more_fails() -> None:
    requester, awards = all_committed(n2=OTHER)
    requester.reveal("n1", awards["n1"], seconds(2))
    requester.reveal("n2", awards["n2"], seconds(2), result=OTHER)
    requester.tell(ev.RevealRefused(awards["n3"], Refusal(RefusalReason.NOT_FOUND, "gone")), seconds(3))
    assert requester.state() is JobState.FAILED
    assert requester.failure().kind is FaultKind.NO_AGREEMENT


# --- faults ---


def test_one_node_that_blames_the_job_does_not_end_it_where_two_have_to_agree() -> None:
    requester, awards = three_running()
    fault = Fault(FaultKind.OUT_OF_MEMORY, "too much")
    requester.report("n1", awards["n1"], seconds(1), fault=fault)
    assert requester.changes()[-1].state is JobState.RUNNING
    requester.report("n2", awards["n2"], seconds(1), fault=fault)
    assert requester.state() is JobState.FAILED
    assert requester.failure().kind is FaultKind.OUT_OF_MEMORY


def test_a_node_that_is_lost_before_it_commits_is_replaced() -> None:
    requester, awards = three_running()
    requester.commit("n1", awards["n1"], seconds(1))
    requester.commit("n2", awards["n2"], seconds(1))
    requester.hear("n1", "n2", "n4", now=seconds(29))
    requester.expire(seconds(30))
    fresh = requester.running("n4", seconds(31))
    requester.commit("n4", fresh, seconds(32))
    assert sorted(requester.asked()) == ["n1", "n2", "n4"]


# --- adaptive ---


def adaptive(valid: int = 0) -> tuple[Requester, str]:
    """A job on n1, which has so many valid results behind it; n2 and n3 are there."""
    requester = Requester()
    for _ in range(valid):
        requester.machine.reputations.note_valid("n1", 0)
    requester.hear(*NODES)
    requester.submit(a_spec(verification=ADAPTIVE))
    requester.bid("n2", 300, now=0)
    requester.bid("n3", 300, now=0)
    requester.bid("n1", 100, now=0)
    (award,) = requester.sent(fx.SendAward)
    assert award.to == "n1"
    requester.confirm(award.award.execution_id, 0)
    requester.commit("n1", award.award.execution_id, seconds(1))
    return requester, award.award.execution_id


def test_the_result_of_an_unknown_node_is_checked_by_another_before_it_is_shown() -> None:
    requester, first = adaptive()
    assert requester.asked() == []
    second = requester.running("n2", seconds(2))
    requester.commit("n2", second, seconds(3))
    assert sorted(requester.asked()) == ["n1", "n2"]
    requester.reveal("n1", first, seconds(4))
    requester.reveal("n2", second, seconds(4))
    assert requester.state() is JobState.COMPLETED
    assert requester.machine.reputations.consecutive_valid("n1") == 1


def test_where_two_differ_a_third_one_decides() -> None:
    requester, first = adaptive()
    second = requester.running("n2", seconds(2))
    requester.commit("n2", second, seconds(3), result=OTHER)
    requester.reveal("n1", first, seconds(4))
    requester.reveal("n2", second, seconds(4), result=OTHER)
    third = requester.running("n3", seconds(5))
    requester.commit("n3", third, seconds(6), result=OTHER)
    requester.reveal("n3", third, seconds(7), result=OTHER)
    assert requester.state() is JobState.COMPLETED
    assert requester.conduct("n1") == {"CHEATED": 1}
    assert requester.changes()[-1].charged_microcredits == 20


def test_a_trusted_node_is_paid_unchecked_but_now_and_then() -> None:
    """With a thousand valid results behind it one in a thousand is checked: not this one."""
    requester, first = adaptive(valid=1000)
    assert requester.asked() == ["n1"]
    requester.reveal("n1", first, seconds(2))
    assert requester.state() is JobState.COMPLETED
    # What was not checked proves nothing.
    assert requester.machine.reputations.consecutive_valid("n1") == 1000


def test_ten_valid_results_are_the_least_that_earns_trust() -> None:
    requester, _ = adaptive(valid=TRUSTED_AFTER - 1)
    assert requester.asked() == []


# --- restart ---


def restarted(
    before: Requester, now: int, spec_of_job: Verification, count: int, *, old_journal: bool = False
) -> Requester:
    """From what is written; an old journal does not say how many executions the job wants."""
    after = Requester()
    after._ids = 1000
    spec = a_spec(count=count, verification=spec_of_job)
    job = Job("j-1", spec, (), SPEC_DIGEST, 0, state=JobState.RUNNING)
    job.replicas = 0 if old_journal else before.changes()[-1].replicas
    job.sequence = len(before.history())
    executions = {w.id: w for w in before.all.writes if isinstance(w, ExecutionRecord)}
    after.took(after.machine.restore([job], executions.values(), now=now))
    after.all.writes = [*before.all.writes, *after.all.writes]
    after.machine.check()
    return after


def test_after_a_restart_those_that_have_not_revealed_are_asked_again_and_the_verdict_is_given() -> None:
    before, awards = all_committed()
    before.reveal("n1", awards["n1"], seconds(2))
    after = restarted(before, seconds(10), REPLICATED, 3)
    assert sorted(after.asked()) == ["n2", "n3"]
    after.reveal("n2", awards["n2"], seconds(11))
    after.reveal("n3", awards["n3"], seconds(11))
    assert after.state() is JobState.COMPLETED


def test_after_a_restart_a_job_that_settled_for_fewer_results_goes_on_with_them() -> None:
    before = Requester()
    before.hear("n1", "n2")
    before.submit(a_spec(count=3, queue_us=seconds(600), verification=REPLICATED))
    before.bid("n1", now=0)
    before.bid("n2", now=0)
    awards = {send.to: send.award.execution_id for send in before.sent(fx.SendAward)}
    for node_id, execution_id in awards.items():
        before.confirm(execution_id, seconds(1))
        before.commit(node_id, execution_id, seconds(2))
    while not before.asked():
        before.expire(before.machine.deadline() or 0)
    assert sorted(before.asked()) == ["n1", "n2"]
    after = restarted(before, seconds(601), REPLICATED, 3)
    assert sorted(after.asked()) == ["n1", "n2"]
    for node_id, execution_id in awards.items():
        after.reveal(node_id, execution_id, seconds(602))
    assert after.state() is JobState.COMPLETED


@pytest.mark.parametrize("old_journal", [False, True])
def test_after_a_restart_a_checked_result_is_not_taken_unchecked(old_journal: bool) -> None:
    before, first = adaptive()
    second = before.running("n2", seconds(2))
    before.commit("n2", second, seconds(3))
    before.reveal("n1", first, seconds(4))
    before.tell(ev.RevealRefused(second, Refusal(RefusalReason.NOT_FOUND, "gone")), seconds(5))
    after = restarted(before, seconds(10), ADAPTIVE, 1, old_journal=old_journal)
    assert after.changes()[-1].state is JobState.RUNNING
    assert after.execution_state(first) is ExecutionState.REVEALED


# --- the compute node ---


@pytest.fixture
def compute() -> Compute:
    compute = Compute(a_compute_config())
    compute.offer(now=0)
    bid = compute.sent(fx.SendBid)[-1].bid
    compute.award(an_award(bid_id=bid.id, spec=a_spec(count=3, verification=REPLICATED)), 0)
    assert compute.refusal() is None
    return compute


COMMITMENT = b"c" * 32


def ended(compute: Compute, now: int) -> None:
    compute.tell(
        ev.ExecutionEnded(replace(a_report(), salt=SALT), ResultCommitment("e-1", 1, COMMITMENT)), now
    )


def test_a_result_that_is_compared_is_committed_to_and_not_reported_until_it_is_asked_for(
    compute: Compute,
) -> None:
    ended(compute, seconds(1))
    assert compute.sent(fx.SendCommitment) == [
        fx.SendCommitment("r1", ResultCommitment("e-1", 1, COMMITMENT))
    ]
    assert compute.sent(fx.SendReport) == []
    assert compute.free == NODE_CAPACITY
    work = compute.machine.work("e-1")
    assert work is not None
    assert work.sealed
    compute.tell(ev.RevealRequested("r1", "e-1"), seconds(5))
    (sent,) = compute.sent(fx.SendReport)
    assert (sent.report.salt, sent.report.result) == (SALT, RESULT)
    work = compute.machine.work("e-1")
    assert work is not None
    assert not work.sealed
    compute.tell(ev.ReportAnswered("e-1"), seconds(6))
    work = compute.machine.work("e-1")
    assert work is not None
    assert work.state is WorkState.TAKEN


def test_a_commitment_is_repeated_until_it_is_answered_and_seldom_after_that(compute: Compute) -> None:
    ended(compute, 0)
    times: list[int] = []

    def repeat_until(end: int) -> None:
        while (due := compute.machine.deadline()) is not None and due < end:
            compute.expire(due)
            times.extend([due // seconds(1)] * len(compute.sent(fx.SendCommitment)))

    repeat_until(seconds(10))
    assert times == [1, 3, 7]
    compute.tell(ev.CommitmentAnswered("e-1"), seconds(10))
    repeat_until(seconds(80))
    assert times == [1, 3, 7, 70]


def test_a_reveal_is_refused_for_another_requester_and_before_there_is_a_result(compute: Compute) -> None:
    compute.tell(ev.RevealRequested("r1", "e-1"), seconds(1))
    assert compute.refusal() is RefusalReason.WRONG_STATE
    ended(compute, seconds(2))
    compute.tell(ev.RevealRequested("r2", "e-1"), seconds(3))
    assert compute.refusal() is RefusalReason.NOT_FOUND
    work = compute.machine.work("e-1")
    assert work is not None
    assert work.sealed


def test_a_commitment_that_comes_too_late_settles_the_work(compute: Compute) -> None:
    ended(compute, seconds(1))
    compute.tell(ev.CommitmentAnswered("e-1", Refusal(RefusalReason.LEASE_ENDED, "late")), seconds(2))
    assert compute.machine.unsettled == ()


def test_a_committed_result_is_let_go_when_the_requester_calls_the_work_off(compute: Compute) -> None:
    ended(compute, seconds(1))
    compute.tell(ev.CancellationReceived("r1", "e-1"), seconds(2))
    assert compute.machine.unsettled == ()


def test_a_fault_is_reported_at_once(compute: Compute) -> None:
    report = a_report(result=None, fault=Fault(FaultKind.ENGINE_FAILED, "no"))
    compute.tell(ev.ExecutionEnded(report), seconds(1))
    assert compute.sent(fx.SendReport) == [fx.SendReport("r1", report)]


@pytest.mark.parametrize("revealed", [False, True])
def test_after_a_restart_the_node_goes_on_where_it_was(revealed: bool) -> None:
    award = an_award(spec=a_spec(count=3, verification=REPLICATED))
    report = replace(a_report(), salt=SALT)
    record = WorkRecord(
        award, "r1", WorkState.REPORTED, 1, 0, 0, report, commitment=COMMITMENT, revealed=revealed
    )
    compute = Compute()
    compute.took(compute.machine.restore([record], now=seconds(1)))
    compute.machine.check()
    assert len(compute.sent(fx.SendCommitment)) == (0 if revealed else 1)
    assert len(compute.sent(fx.SendReport)) == (1 if revealed else 0)


def test_the_machine_is_the_same_whether_reputations_are_restored_or_seen() -> None:
    requester, awards = all_committed(n3=OTHER)
    for node_id, result in (("n1", RESULT), ("n2", RESULT), ("n3", OTHER)):
        requester.reveal(node_id, awards[node_id], seconds(2), result=result)
    written = [w for w in requester.all.writes if isinstance(w, Reputation)]
    machine = RequesterMachine(RequesterConfig(), lambda prefix: prefix)
    machine.restore([], [], written, now=0)
    for node_id in NODES:
        assert machine.reputations.of(node_id) == requester.machine.reputations.of(node_id)
