"""Every record comes back as it was written, and replaces the earlier one of its key."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacalhau.model.execution import ExecutionReport, ExecutionState, Fault, FaultKind, Usage
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.scheduler.history import StoredAnswer, StoredJob
from bacalhau.scheduler.records import (
    AnswerReceived,
    ExecutionRecord,
    JobAccepted,
    JobChanged,
    JobHappening,
    OfferMade,
    WorkRecord,
    WorkState,
)
from bacalhau.store.store import Store
from tests.store import histories as h
from tests.wire import strategies as wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bacalhau.model.market import JobOffer
    from bacalhau.model.reputation import Reputation


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One file for all examples of a module; each example writes under ids of its own."""
    store = Store(tmp_path_factory.mktemp("store") / "node.db", durable=False)
    yield store
    store.close()


_numbers = itertools.count()


def fresh() -> str:
    """An id that no other example has."""
    return f"x{next(_numbers)}"


examples = settings(max_examples=40, deadline=None)


@examples
@given(record=h.jobs_accepted)
def test_an_accepted_job_comes_back_as_pending(store: Store, record: JobAccepted) -> None:
    record = replace(record, id=fresh())
    store.commit([record])
    pending = JobChanged(record.id, JobState.PENDING, record.created_us, None, 0)
    assert store.job(record.id) == StoredJob(record, pending, ())


@examples
@given(first=h.jobs_changed, second=h.jobs_changed)
def test_the_latest_change_of_a_job_comes_back(store: Store, first: JobChanged, second: JobChanged) -> None:
    job = h.accepted(fresh(), 5)
    first, second = replace(first, id=job.id), replace(second, id=job.id)
    store.commit([first, job, second])
    assert store.job(job.id) == StoredJob(job, second, ())
    store.commit([first])
    assert store.job(job.id) == StoredJob(job, first, ())


@examples
@given(records=st.lists(h.happenings, min_size=1, max_size=4, unique_by=lambda one: one.sequence))
def test_a_jobs_history_comes_back_in_order(store: Store, records: list[JobHappening]) -> None:
    job_id = fresh()
    records = [replace(record, job_id=job_id) for record in records]
    store.commit(records)
    ordered = sorted(records, key=lambda record: record.sequence)
    assert store.happenings(job_id) == ordered
    assert store.happenings(job_id, after_sequence=ordered[0].sequence) == ordered[1:]
    assert store.happenings(job_id, limit=1) == ordered[:1]


@examples
@given(offer=wire.offers(), made_us=h.times_us)
def test_an_offer_comes_back(store: Store, offer: JobOffer, made_us: int) -> None:
    offer = replace(offer, id=fresh())
    store.commit([OfferMade(offer, made_us)])
    assert store.offer(offer.id) == offer


@examples
@given(bid=h.bids_received, decline=h.declines_received)
def test_a_bid_and_a_later_decline_of_a_node_both_come_back(
    store: Store, bid: AnswerReceived, decline: AnswerReceived
) -> None:
    job_id = fresh()
    bid, decline = replace(bid, job_id=job_id), replace(decline, job_id=job_id)
    store.commit([bid, decline])
    found, token = store.answers(job_id)
    assert token == ""
    assert [one.received_us for one in found] == sorted([bid.received_us, decline.received_us])
    for answer in (bid, decline):
        expected = StoredAnswer(
            answer.offer_id, answer.node_id, answer.received_us, answer.bid, answer.refusal, False
        )
        assert expected in found


@examples
@given(first=h.executions, second=h.executions)
def test_an_execution_is_replaced_in_all_that_changes(
    store: Store, first: ExecutionRecord, second: ExecutionRecord
) -> None:
    first = replace(first, id=fresh())
    store.commit([first])
    assert store.execution(first.id) == first
    second = replace(
        second,
        id=first.id,
        job_id=first.job_id,
        offer_id=first.offer_id,
        bid_id=first.bid_id,
        node_id=first.node_id,
        price_microcredits=first.price_microcredits,
        created_us=first.created_us,
        bid_set_digest=first.bid_set_digest,
        payment=first.payment,
        bond_microcredits=first.bond_microcredits,
    )
    store.commit([first])
    store.commit([first, second])
    assert store.execution(first.id) == second


@examples
@given(first=h.works, second=h.works)
def test_work_is_replaced_in_all_that_changes(store: Store, first: WorkRecord, second: WorkRecord) -> None:
    first = replace(first, award=replace(first.award, execution_id=fresh()))
    store.commit([first])
    assert store.work(first.id) == first
    second = replace(
        second, award=first.award, requester_id=first.requester_id, accepted_us=first.accepted_us
    )
    store.commit([first, second])
    assert store.work(first.id) == second


@examples
@given(first=wire.reputations, second=wire.reputations)
def test_a_reputation_is_replaced_in_its_role_alone(
    store: Store, first: Reputation, second: Reputation
) -> None:
    node_id = fresh()
    first, second = replace(first, node_id=node_id), replace(second, node_id=node_id)
    store.commit([first, second])
    found = [known for known in store.reputations() if known.node_id == node_id]
    expected = [second] if first.role is second.role else [first, second]
    assert sorted(found, key=lambda known: known.role.value) == sorted(
        expected, key=lambda known: known.role.value
    )


def test_text_that_is_no_unicode_is_stored_readable(store: Store) -> None:
    """A file name in an engine's message may hold any bytes; Python shows them as lone surrogates."""
    job = h.history(fresh())
    message = "no such file: caf\udce9"
    fault = Fault(FaultKind.ENGINE_FAILED, message)
    failed = JobHappening(
        job.id,
        6,
        JobEventType.FAILED,
        9,
        JobState.FAILED,
        message,
        refusal=Refusal(RefusalReason.BUSY, message),
        fault=fault,
    )
    store.commit([*job.writes(), failed, JobChanged(job.id, JobState.FAILED, 9, fault, 0)])
    (found,) = store.happenings(job.id, after_sequence=5)
    stored = store.job(job.id)
    assert found.message == "no such file: caf?"
    assert found.fault is not None
    assert found.fault.message == found.message
    assert found.refusal is not None
    assert found.refusal.message == found.message
    assert stored is not None
    assert stored.changed.failure == found.fault


def test_a_job_comes_back_with_its_executions_oldest_first(store: Store) -> None:
    job = h.history(fresh())
    second = replace(job.execution, id=fresh(), created_us=job.execution.created_us - 1)
    store.commit([*job.writes(), second])
    stored = store.job(job.id)
    assert stored is not None
    assert stored.executions == (second, job.execution)
    assert stored.charged_microcredits == 14
    assert stored.state is JobState.COMPLETED


def test_nothing_is_found_under_an_unknown_id(store: Store) -> None:
    assert store.job("j-none") is None
    assert store.execution("e-none") is None
    assert store.offer("o-none") is None
    assert store.work("e-none") is None
    assert store.happenings("j-none") == []
    assert store.answers("j-none") == ([], "")
    assert store.executions("j-none") == ([], "")
    assert store.clearings("j-none") == []
    assert store.own_bids("j-none") == ([], "")


def test_open_jobs_come_back_as_the_machine_takes_them_up(tmp_path: Path) -> None:
    """One execution has completed and one runs: the job's own row does not yet say what was charged."""
    store = Store(tmp_path / "node.db", durable=False)
    running, done = h.history("running", 10), h.history("done", 5)
    again = replace(running.execution, id="e-again", state=ExecutionState.RUNNING, charged_microcredits=0)
    pending = h.accepted("pending", 20)
    store.commit([*running.writes(3), running.execution, again, *done.writes(), pending])
    first, second = store.open_jobs()
    assert (first.id, second.id) == (running.id, pending.id)
    assert (first.state, first.sequence, first.charged_microcredits) == (JobState.RUNNING, 4, 7)
    assert (second.state, second.sequence, second.charged_microcredits) == (JobState.PENDING, 0, 0)
    assert (first.spec, first.inputs) == (running.accepted.spec, running.accepted.inputs)
    assert (first.spec_digest, first.created_us) == (h.DIGEST, 10)
    assert store.open_executions() == [again, running.execution]
    store.close()


def test_unsettled_work_comes_back_and_what_is_settled_by_its_id(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", durable=False)
    old, new = h.history("old", 10), h.history("new", 20)
    reported = replace(
        new.work,
        state=WorkState.REPORTED,
        report=ExecutionReport(new.work.id, 1, None, 1, Usage()),
    )
    store.commit([*old.writes(), reported])
    settled = store.work(old.work.id)
    assert settled is not None
    assert settled.state is WorkState.SETTLED
    assert store.unsettled_work() == [reported]
    store.close()


def test_meta_is_set_alone_or_beside_records(store: Store) -> None:
    assert store.get_meta("clock_us") is None
    store.set_meta("clock_us", "12")
    assert store.get_meta("clock_us") == "12"
    job = h.accepted(fresh(), 1)
    store.commit([job], meta={"clock_us": "13", "sequence": "1"})
    assert (store.get_meta("clock_us"), store.get_meta("sequence")) == ("13", "1")
    assert store.job(job.id) is not None


def test_a_commit_that_fails_writes_nothing(store: Store) -> None:
    """The second acceptance of a job is a bug; what stands beside it must not be written without it."""
    job, other = h.accepted(fresh(), 1), h.accepted(fresh(), 1)
    store.commit([job])
    with pytest.raises(sqlite3.IntegrityError):
        store.commit([other, job], meta={"half": "yes"})
    assert store.job(other.id) is None
    assert store.get_meta("half") is None
    changed = JobChanged(fresh(), JobState.FAILED, 2, None, 0)
    with pytest.raises(LookupError, match=changed.id):
        store.commit([other, changed])
    assert store.job(other.id) is None
    store.commit([other])
    assert store.job(other.id) is not None
