"""Lists: what they contain, in which order, page by page, while rows come and go."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacalhau.market.clearing import SealedBid, bid_set_digest
from bacalhau.model.auction import BidStanding, ClearedAward, Clearing, ClearingRule
from bacalhau.model.execution import ExecutionState
from bacalhau.model.job import Engine, JobState
from bacalhau.model.market import Bid
from bacalhau.model.refusals import RefusalReason, Refused
from bacalhau.scheduler.history import JobOrder, JobQuery
from bacalhau.scheduler.records import AnswerReceived, AuctionCleared, BidKept, JobChanged
from bacalhau.store import paging
from bacalhau.store.store import Store
from tests.store import histories as h

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bacalhau.scheduler.history import StoredClearing


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "node.db", durable=False)
    yield store
    store.close()


def ids(store: Store, query: JobQuery) -> list[str]:
    """The ids of every page, one after the other."""
    found, token = [], ""
    while True:
        page, token = store.list_jobs(replace(query, page_token=token))
        found += [job.id for job in page]
        if not token:
            return found


def add(store: Store, name: str, at_us: int, state: JobState = JobState.PENDING, **labels: str) -> None:
    spec = replace(h.SPEC, labels=tuple(labels.items()))
    job = h.accepted(name, at_us, spec)
    store.commit([job, JobChanged(job.id, state, at_us, None, 0)])


def test_jobs_are_listed_newest_first_unless_said_otherwise(store: Store) -> None:
    for name, at_us in (("b", 1), ("c", 3), ("a", 2), ("d", 3)):
        add(store, name, at_us)
    newest = ["j-d", "j-c", "j-a", "j-b"]
    for size in (0, 1, 2, 3, 4, 5):
        assert ids(store, JobQuery(page_size=size)) == newest
        assert ids(store, JobQuery(page_size=size, ascending=True)) == newest[::-1]
        by_id = JobQuery(page_size=size, order=JobOrder.ID, ascending=True)
        assert ids(store, by_id) == ["j-a", "j-b", "j-c", "j-d"]
        assert ids(store, replace(by_id, ascending=False)) == ["j-d", "j-c", "j-b", "j-a"]


def test_filters_of_a_list_hold_together(store: Store) -> None:
    add(store, "aa", 1, JobState.RUNNING, team="x", night="")
    add(store, "ab", 2, JobState.FAILED, team="y")
    add(store, "ac", 3, JobState.RUNNING)
    add(store, "b", 4, JobState.COMPLETED, night="1")
    assert ids(store, JobQuery(id_filter="a")) == ["j-ac", "j-ab", "j-aa"]
    assert ids(store, JobQuery(id_filter="j-a")) == ["j-ac", "j-ab", "j-aa"]
    assert ids(store, JobQuery(id_filter="j-ab%")) == []
    assert ids(store, JobQuery(include_labels=("team",))) == ["j-ab", "j-aa"]
    assert ids(store, JobQuery(include_labels=("team", "night"))) == ["j-b", "j-ab", "j-aa"]
    assert ids(store, JobQuery(include_labels=("team=y", "night=1"))) == ["j-b", "j-ab"]
    assert ids(store, JobQuery(include_labels=("team=", "team=z", "=y"))) == []
    assert ids(store, JobQuery(exclude_labels=("night",))) == ["j-ac", "j-ab"]
    assert ids(store, JobQuery(exclude_labels=("night=1",))) == ["j-ac", "j-ab", "j-aa"]
    assert ids(store, JobQuery(include_labels=("team",), exclude_labels=("night",))) == ["j-ab"]
    assert ids(store, JobQuery(states=(JobState.RUNNING, JobState.COMPLETED))) == ["j-b", "j-ac", "j-aa"]
    assert ids(store, JobQuery(id_filter="a", states=(JobState.RUNNING,), include_labels=("team",))) == [
        "j-aa"
    ]


def test_a_page_stays_in_place_while_jobs_come_and_go(store: Store) -> None:
    for number in range(6):
        add(store, f"old{number}", number)
    first, token = store.list_jobs(JobQuery(page_size=3))
    add(store, "new", 100)
    store.commit([JobChanged("j-old3", JobState.FAILED, 100, None, 0)])
    assert store.prune(200, 0, 0).jobs == 1  # the job that the token names is gone
    second, end = store.list_jobs(JobQuery(page_size=3, page_token=token))
    assert [job.id for job in first] == ["j-old5", "j-old4", "j-old3"]
    assert [job.id for job in second] == ["j-old2", "j-old1", "j-old0"]
    assert end == ""


def test_a_page_has_at_most_so_many_jobs_however_many_are_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE_SIZE_MAX", 3)
    for number in range(12):
        add(store, f"{number:02}", number)
    assert len(store.list_jobs(JobQuery(page_size=100))[0]) == 3
    assert len(store.list_jobs(JobQuery())[0]) == 10


def test_a_token_of_another_list_is_refused(store: Store) -> None:
    add(store, "a", 1)
    add(store, "b", 2)
    _, token = store.list_jobs(JobQuery(page_size=1))
    assert token
    uses: list[Callable[[], object]] = [
        lambda: store.list_jobs(JobQuery(page_size=1, ascending=True, page_token=token)),
        lambda: store.list_jobs(JobQuery(page_size=1, order=JobOrder.ID, page_token=token)),
        lambda: store.executions("j-a", page_token=token),
        lambda: store.answers("j-a", page_token=token),
        lambda: store.offers(page_token=token),
        lambda: store.own_bids(page_token=token),
    ]
    for use in uses:
        with pytest.raises(Refused) as refused:
            use()
        assert refused.value.refusal.reason is RefusalReason.MALFORMED


@pytest.fixture(scope="module")
def one_job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store(tmp_path_factory.mktemp("tokens") / "node.db", durable=False)
    add(store, "a", 1)
    yield store
    store.close()


_json = st.recursive(
    st.integers() | st.text(max_size=5) | st.booleans() | st.none(), lambda part: st.lists(part, max_size=4)
)


@settings(max_examples=150, deadline=None)
@given(
    token=st.text(max_size=60)
    | st.builds(lambda key: paging.page_token("jobs-1-DESC", tuple(key)), st.lists(_json, max_size=3))
)
def test_a_token_is_read_or_refused(one_job: Store, token: str) -> None:
    with contextlib.suppress(Refused):
        found, _ = one_job.list_jobs(JobQuery(page_token=token))
        assert [job.id for job in found] in ([], ["j-a"])


def test_a_nested_or_overlong_token_is_refused() -> None:
    for token in ("W1tb" * 500, "W1tb" * 100_000):
        with pytest.raises(Refused):
            paging.page_key("jobs", token, (str,))


def test_ids_are_matched_by_their_beginning(store: Store) -> None:
    for name in ("abc", "abd", "b"):
        store.commit(h.history(name).writes())
    for prefix in ("ab", "j-ab"):
        assert store.match_job_ids(prefix) == ["j-abc", "j-abd"]
    assert store.match_job_ids("abc") == ["j-abc"]
    assert store.match_job_ids("j-abcd") == []
    assert store.match_job_ids("c") == []
    assert store.match_job_ids("", limit=5) == store.match_job_ids("j", limit=5) == ["j-abc", "j-abd", "j-b"]
    assert store.match_execution_ids("e-ab") == store.match_execution_ids("ab") == ["e-abc", "e-abd"]
    assert store.match_execution_ids("b") == ["e-b"]


def test_a_request_id_finds_the_job_of_its_client_only(store: Store) -> None:
    job = replace(h.accepted("a", 1), request_id="r", client="c")
    store.commit([job, h.accepted("b", 2)])
    found = store.job_by_request_id("r", "c")
    assert found is not None
    assert found.accepted == job
    assert store.job_by_request_id("r", "d") is None
    assert store.job_by_request_id("", "client") is None


def test_executions_are_paged_oldest_first(store: Store) -> None:
    job = h.history("a")
    records = [replace(job.execution, id=f"e-{n}", created_us=n // 2) for n in range(7)]
    store.commit([*job.writes(1), *reversed(records)])
    found, token = store.executions(job.id, page_size=3)
    store.commit([replace(job.execution, id="e-7", created_us=9)])
    while token:
        page, token = store.executions(job.id, page_size=3, page_token=token)
        found += page
    assert [record.id for record in found] == [f"e-{n}" for n in range(8)]


def test_answers_are_paged_oldest_first_and_say_who_won(store: Store) -> None:
    job = h.history("a", 10)
    # It bids under the winner's bid id, which is its own choice: that wins nothing.
    mimic = AnswerReceived(job.offer.id, job.id, "node-3", 12, job.bid, None, b"")
    store.commit([*job.writes(), mimic])
    found, token = store.answers(job.id, page_size=2)
    rest, end = store.answers(job.id, page_size=2, page_token=token)
    assert end == ""
    assert [(one.node_id, one.won) for one in found + rest] == [
        ("node-2", False),
        ("node-1", True),
        ("node-3", False),
    ]
    assert (found[0].refusal, found[0].bid) == (h.BUSY, None)
    assert (found[1].refusal, found[1].bid) == (None, job.bid)


def bid(job: h.History, node: str, id: str, at_us: int) -> AnswerReceived:
    evidence = f"{node} {id}".encode()
    return AnswerReceived(
        job.offer.id, job.id, node, at_us, Bid(id, job.offer.id, 5, 1_000_000), None, evidence
    )


def cleared(job: h.History, sequence: int, bids: list[tuple[AnswerReceived, BidStanding]]) -> AuctionCleared:
    """A clearing from these bids, whose envelopes have the digests of `bid`."""
    bid_set = tuple(
        (SealedBid(one.node_id, one.bid, one.received_us, one.evidence, position), standing)
        for position, (one, standing) in enumerate(bids, start=1)
        if one.bid is not None
    )
    award = ClearedAward(f"e-{sequence}", "b-1", "n3", 5)
    digest = bid_set_digest(bid_set)
    rule, at_us = ClearingRule.FIRST_PRICE, 100 * sequence
    clearing = Clearing(job.offer.id, job.id, rule, at_us, 1, len(bids), digest, (award,))
    return AuctionCleared(sequence, clearing, bid_set)


def test_each_clearing_shows_the_bids_that_its_awards_commit_to(store: Store) -> None:
    """Node 2 bids and then declines; node 1 bids again after the first clearing."""
    job = h.history("a", 0)
    decline = AnswerReceived(job.offer.id, job.id, "n2", 25, None, h.BUSY, b"no")
    first = [bid(job, "n2", "b-3", 10), bid(job, "n1", "b-4", 20), bid(job, "n3", "b-1", 20)]
    second = bid(job, "n1", "b-2", 130)
    stands, withdrawn = BidStanding.STANDS, BidStanding.WITHDRAWN
    clearings = [
        cleared(job, 1, [(first[0], withdrawn), (first[1], stands), (first[2], stands)]),
        cleared(job, 2, [(first[0], withdrawn), (second, stands), (first[2], BidStanding.AWARDED)]),
    ]
    store.commit([*job.writes(1), *first, decline, second, *clearings])
    found = store.clearings(job.id)
    assert [(one.sequence, one.clearing) for one in found] == [(c.sequence, c.clearing) for c in clearings]

    def shown(clearing: StoredClearing, size: int) -> list[tuple[str, BidStanding]]:
        bids, token = store.cleared_bids(clearing, page_size=size)
        while token:
            more, token = store.cleared_bids(clearing, page_size=size, page_token=token)
            bids += more
        for one in bids:
            assert one.evidence == f"{one.entry.node_id} {one.entry.bid_id}".encode()
            assert one.decline_evidence == (b"no" if one.entry.node_id == "n2" else b"")
        return [(one.entry.bid_id, one.entry.standing) for one in bids]

    for size in (1, 2, 9):
        assert shown(found[0], size) == [("b-1", stands), ("b-3", withdrawn), ("b-4", stands)]
        assert shown(found[1], size) == [
            ("b-1", BidStanding.AWARDED),
            ("b-2", stands),
            ("b-3", withdrawn),
        ]


def test_offers_are_paged_newest_first_with_what_they_got(store: Store) -> None:
    for number in range(3):
        store.commit(h.history(str(number), at_us=10 * number).writes())
    page, token = store.offers(page_size=2)
    rest, end = store.offers(page_size=2, page_token=token)
    assert end == ""
    assert [(one.offer.id, one.bids, one.declines, one.awards) for one in page + rest] == [
        (f"o-{number}", 1, 1, 1) for number in (2, 1, 0)
    ]


def test_own_bids_are_paged_newest_first_by_the_beginning_of_a_jobs_id(store: Store) -> None:
    kept = [
        BidKept(
            f"b-{n}", f"o-{n}", f"j-{n % 2}x", "r1", n, 5, b"offer", b"bid", b"ack", None if n else h.BUSY
        )
        for n in range(5)
    ]
    store.commit(kept)
    page, token = store.own_bids(page_size=3)
    rest, end = store.own_bids(page_size=3, page_token=token)
    assert end == ""
    assert [one.bid_id for one in page + rest] == ["b-4", "b-3", "b-2", "b-1", "b-0"]
    assert rest[-1] == BidKept("b-0", "o-0", "j-0x", "r1", 0, 5, b"offer", b"bid", b"ack", h.BUSY)
    assert [one.bid_id for one in store.own_bids("1")[0]] == ["b-3", "b-1"]


def test_prices_are_those_of_completed_executions_since_then(store: Store) -> None:
    for number in range(3):
        store.commit(h.history(str(number), at_us=10 * number).writes())
    running = h.history("running", at_us=90)
    store.commit(running.writes(3))
    found = store.traded_prices(since_us=13)
    assert [(one.time_us, one.price_microcredits) for one in found] == [(23, 7), (13, 7)]
    assert (found[0].engine, found[0].resources) == (Engine.DOCKER, h.SPEC.resources)


def test_a_reading_sees_one_state_though_a_commit_comes_in_its_middle(store: Store) -> None:
    """The job's last commit comes between the query for jobs and the query for their executions."""
    job = h.history("a")
    store.commit(job.writes(3))
    queries: list[str] = []

    def commit_between(statement: str) -> None:
        queries.append(statement)
        if "FROM executions" in statement:
            store.commit(job.steps[3])

    store._reader.set_trace_callback(commit_between)
    (before,), _ = store.list_jobs(JobQuery())
    store._reader.set_trace_callback(None)
    assert any("FROM executions" in statement for statement in queries)
    assert before.state is JobState.RUNNING
    assert [one.state for one in before.executions] == [ExecutionState.RUNNING]
    after = store.job(job.id)
    assert after is not None
    assert after.state is JobState.COMPLETED
    assert after.executions == (job.execution,)


def test_threads_read_and_commit_at_the_same_time(store: Store) -> None:
    def write(name: str) -> None:
        for number in range(20):
            store.commit(h.history(f"{name}{number}", number).writes())

    def read(_: int) -> int:
        return max(len(store.list_jobs(JobQuery(page_size=1000))[0]) for _ in range(20))

    with ThreadPoolExecutor(6) as threads:
        writers = [threads.submit(write, name) for name in "abc"]
        assert all(count <= 60 for count in threads.map(read, range(3)))
        for writer in writers:
            writer.result()
    assert read(0) == 60
