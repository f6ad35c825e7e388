"""The driver: nothing that binds leaves before it is on disk, one transaction a turn, a full disk is waited for, and
one that fails stops the node."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bacalhau.model.job import Engine, JobEventType, JobState
from bacalhau.model.refusals import RefusalReason, Refused
from bacalhau.node.driver import LINGER_S
from bacalhau.node.offer_queue import FEW
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.records import JobAccepted, JobChanged, JobHappening, WorkRecord, WorkState
from bacalhau.store.errors import StoreError, StoreFailed, StoreFull
from bacalhau.wire.job import spec_digest
from tests.builders import a_report, a_spec, an_award, an_offer
from tests.node.live import until
from tests.node.slow_disk import Outside, some_turns

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.scheduler.records import Write


async def test_nothing_that_binds_leaves_and_nobody_is_answered_before_the_step_is_on_disk(
    outside: Outside,
) -> None:
    await outside.submit("j-1")
    outside.sent.clear()
    outside.happened.clear()
    outside.disk.may_go_on.clear()
    cancelling = asyncio.ensure_future(outside.driver.ask_requester(ev.JobCancelled("j-1", "")))
    await some_turns()
    assert (outside.sent, outside.happened, cancelling.done()) == ([], [], False)
    outside.disk.may_go_on.set()
    assert await cancelling is None
    assert [type(send) for send in outside.sent] == [fx.SendOfferClosed]
    assert isinstance(outside.happened[0], JobChanged)


async def test_an_offer_binds_nobody_and_does_not_wait_for_the_disk(outside: Outside) -> None:
    outside.disk.may_go_on.clear()
    submitting = asyncio.ensure_future(outside.submit("j-1"))
    await some_turns()
    assert [type(send) for send in outside.sent] == [fx.SendOffer]
    assert (outside.happened, submitting.done()) == ([], False)
    assert outside.disk.job("j-1") is None
    outside.disk.may_go_on.set()
    await submitting
    assert [type(send) for send in outside.sent] == [fx.SendOffer]
    assert outside.disk.job("j-1") is not None
    assert isinstance(outside.happened[0], JobAccepted)


async def test_where_many_jobs_come_at_once_their_answers_go_before_their_offers(outside: Outside) -> None:
    outside.disk.may_go_on.clear()
    submitting = [asyncio.ensure_future(outside.submit(f"j-{n}")) for n in range(3 * FEW)]
    await some_turns()
    assert outside.sent == []
    answered_before: list[bool] = []
    outside.driver.on_send = lambda send: answered_before.append(all(one.done() for one in submitting))
    outside.disk.may_go_on.set()
    await asyncio.gather(*submitting)
    await until(lambda: len(answered_before) == 3 * FEW, "each offer is made")
    assert all(answered_before)


async def test_offers_that_wait_are_made_before_a_node_stops(outside: Outside) -> None:
    submitting = [asyncio.ensure_future(outside.submit(f"j-{n}")) for n in range(10 * FEW)]
    await asyncio.sleep(0)
    await outside.driver.stop()
    await asyncio.gather(*submitting)
    assert len([send for send in outside.sent if isinstance(send, fx.SendOffer)]) == 10 * FEW


async def an_award_of_a_bid(outside: Outside) -> ev.AwardReceived:
    """The award of a bid that the node has just made."""
    driver = outside.driver
    spec = a_spec()
    offer = an_offer(spec_digest=spec_digest(spec))
    driver.tell_compute(ev.EnginesChanged((offer.engine,)))
    driver.tell_compute(ev.OfferReceived("r", offer))
    await driver.committed()
    [bid] = [send.bid for send in outside.sent if isinstance(send, fx.SendBid)]
    award = an_award(bid_id=bid.id, price_microcredits=bid.price_microcredits, spec=spec)
    award = replace(award, bid_set_digest=bytes(32))
    return ev.AwardReceived("r", award, offer.spec_digest)


async def test_what_waits_for_the_disk_is_made_ready_while_the_disk_works(outside: Outside) -> None:
    awarded = await an_award_of_a_bid(outside)
    outside.driver.tell_compute(awarded)
    outside.disk.may_go_on.clear()
    outside.driver.tell_compute(ev.ExecutionEnded(a_report(awarded.award.execution_id)))
    await until(lambda: bool(outside.made_ready), "it is made ready")
    assert [type(send) for send in outside.made_ready] == [fx.SendReport]
    assert outside.made_ready[0] not in outside.sent
    outside.disk.may_go_on.set()
    await until(lambda: outside.made_ready[0] in outside.sent, "it leaves")


async def test_work_begins_while_its_award_goes_to_the_disk_and_nobody_is_told(outside: Outside) -> None:
    awarded = await an_award_of_a_bid(outside)
    outside.disk.may_go_on.clear()
    awarding = asyncio.ensure_future(outside.driver.ask_compute(awarded))
    await some_turns()
    assert outside.started == [fx.StartExecution(awarded.award.execution_id, 1)]
    assert (outside.happened, awarding.done()) == ([], False)
    outside.disk.may_go_on.set()
    assert await awarding is None
    assert outside.started == [fx.StartExecution(awarded.award.execution_id, 1)]
    assert WorkState.ACCEPTED in [write.state for write in outside.happened if isinstance(write, WorkRecord)]


async def test_an_award_that_nobody_waits_for_is_written_with_the_report_of_its_work(
    outside: Outside,
) -> None:
    awarded = await an_award_of_a_bid(outside)
    written = len(outside.disk.staged)
    assert outside.driver.tell_compute(awarded) is None
    await asyncio.sleep(0)
    assert outside.started == [fx.StartExecution(awarded.award.execution_id, 1)]
    outside.driver.tell_compute(ev.ExecutionEnded(a_report(awarded.award.execution_id)))
    await until(lambda: isinstance(outside.sent[-1], fx.SendReport), "the report leaves")
    assert len(outside.disk.staged) == written + 1


async def test_an_award_is_written_while_its_work_runs(outside: Outside) -> None:
    awarded = await an_award_of_a_bid(outside)
    assert outside.driver.tell_compute(awarded) is None
    await until(lambda: outside.disk.work(awarded.award.execution_id) is not None, "it is on disk")


async def test_the_steps_of_one_turn_are_one_transaction(outside: Outside) -> None:
    await asyncio.gather(*(outside.submit(f"j-{n}") for n in range(20)))
    assert len(outside.disk.staged) == 1
    assert len(outside.disk.open_jobs()) == 20


async def test_steps_that_come_while_the_disk_works_gather_for_the_next_transaction(outside: Outside) -> None:
    outside.disk.may_go_on.clear()
    first = asyncio.ensure_future(outside.submit("j-0"))
    await some_turns()
    later = [asyncio.ensure_future(outside.submit(f"j-{n}")) for n in range(1, 20)]
    await some_turns()
    outside.disk.may_go_on.set()
    await asyncio.gather(first, *later)
    assert len(outside.disk.staged) == 2
    assert len(outside.disk.open_jobs()) == 20


async def test_what_nobody_waits_for_is_written_with_what_comes_next_or_soon(outside: Outside) -> None:
    seen: list[Write] = []
    outside.driver.on_written = seen.append
    notes = [JobHappening(f"j-{n}", 1, JobEventType.QUEUED, 1, JobState.PENDING) for n in range(2)]
    outside.driver.write(notes[:1])
    await some_turns()
    assert (outside.disk.staged, seen) == ([], [])
    await outside.submit("j-9")
    assert len(outside.disk.staged) == 1
    assert seen[0] == notes[0]
    outside.driver.write(notes[1:])
    await until(lambda: len(outside.disk.staged) == 2, "it is written by itself")
    outside.driver.write(notes[:1])
    await outside.driver.committed()
    assert len(outside.disk.staged) == 3


async def test_who_watches_hears_of_a_turn_before_its_callers_are_answered(outside: Outside) -> None:
    """A client waits for the end of its job, nobody for the answer to the report that has ended it."""
    outside.driver.write([JobHappening("j-1", 1, JobEventType.QUEUED, 1, JobState.PENDING)])
    answer = outside.driver.commit()
    answered_then: list[bool] = []
    outside.driver.on_written = lambda _: answered_then.append(answer.done())
    await answer
    assert answered_then == [False]


async def test_steps_that_follow_within_a_turn_hold_up_nothing_that_lingers_later(outside: Outside) -> None:
    """What a send to this node itself sets off belongs to the turn that is being flushed."""

    def answered_here(send: fx.Send) -> fx.Send:
        outside.driver.tell_requester(ev.PeerHeard("n1"))
        return send

    outside.driver.deliver_here = answered_here
    outside.disk.may_go_on.clear()
    submitting = asyncio.ensure_future(outside.submit("j-1"))
    await asyncio.sleep(3 * LINGER_S)
    outside.disk.may_go_on.set()
    await submitting
    outside.driver.write([JobHappening("j-1", 9, JobEventType.QUEUED, 1, JobState.PENDING)])
    await until(lambda: len(outside.disk.staged) == 2, "it is written by itself")


async def test_a_step_taken_by_a_hook_is_written_too(outside: Outside) -> None:
    """What a committed turn sets off must not meet a second transaction that is still under way."""
    submitted: list[asyncio.Future[None]] = []

    def submit_another(_: object) -> None:
        if len(submitted) < 5:
            submitted.append(asyncio.ensure_future(outside.submit(f"j-next-{len(submitted)}")))
            outside.driver.tell_requester(ev.PeerHeard("n1"))

    outside.driver.on_written = submit_another
    await outside.submit("j-1")
    while len(submitted) < 5 or not all(one.done() for one in submitted):
        await asyncio.gather(*submitted)
    assert len(outside.disk.open_jobs()) == 6


async def test_a_refused_step_is_answered_at_once_and_writes_nothing(outside: Outside) -> None:
    await outside.submit("j-1")
    written = len(outside.disk.staged)
    refusal = await outside.driver.ask_requester(ev.JobSubmitted("j-1", a_spec(), (), bytes(32)))
    assert refusal is not None
    assert refusal.reason is RefusalReason.ID_REUSED
    assert len(outside.disk.staged) == written


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_failing_disk_stops_the_node_and_nothing_of_the_step_leaves_that_binds(
    outside: Outside, at_once: bool
) -> None:
    failure: StoreError = StoreFailed("input/output error")
    if at_once:
        outside.disk.fails_at_once = failure
    else:
        outside.disk.failure = failure
    with pytest.raises(Refused) as caught:
        await outside.submit("j-1")
    assert caught.value.refusal.reason is RefusalReason.SHUTTING_DOWN
    assert "input/output error" in caught.value.refusal.message
    assert outside.failures == [failure]
    assert [type(send) for send in outside.sent] == [fx.SendOffer]
    assert (outside.started, outside.happened) == ([], [])
    for after in (outside.submit("j-2"), outside.driver.committed()):
        with pytest.raises(Refused, match="input/output error"):
            await after
    assert outside.failures == [failure]


@pytest.mark.usefixtures("short_pause")
@pytest.mark.parametrize("at_once", [True, False])
async def test_on_a_full_disk_steps_wait_and_are_written_when_there_is_room(
    outside: Outside, at_once: bool
) -> None:
    if at_once:
        outside.disk.fails_at_once = StoreFull("no room")
    else:
        outside.disk.failure = StoreFull("no room")
    first = asyncio.ensure_future(outside.submit("j-1"))
    await until(lambda: outside.disk.refusals > 1, "the disk has refused the step, and again")
    second = asyncio.ensure_future(outside.submit("j-2"))
    await some_turns()
    assert (first.done(), second.done(), outside.failures) == (False, False, [])
    assert [type(send) for send in outside.sent] == [fx.SendOffer]
    assert (outside.started, outside.happened) == ([], [])
    refusal = await outside.driver.ask_requester(ev.JobSubmitted("j-1", a_spec(), (), bytes(32)))
    assert refusal is not None, "the node does not answer while it waits"
    outside.disk.fails_at_once = outside.disk.failure = None
    await asyncio.gather(first, second)
    assert len(outside.disk.open_jobs()) == 2
    assert [type(send) for send in outside.sent] == [fx.SendOffer, fx.SendOffer]


@pytest.mark.parametrize("room_comes", [True, False])
async def test_what_waits_for_room_is_tried_once_more_when_the_node_stops(
    tmp_path: Path, room_comes: bool
) -> None:
    outside = Outside(tmp_path)
    with contextlib.closing(outside.disk):
        outside.disk.fails_at_once = StoreFull("no room")
        submitting = asyncio.ensure_future(outside.submit("j-1"))
        await some_turns()
        if room_comes:
            outside.disk.fails_at_once = None
        await outside.driver.stop()
        if room_comes:
            await submitting
        else:
            with pytest.raises(Refused, match="no room"):
                await submitting
        assert (outside.disk.job("j-1") is not None) is room_comes


async def test_a_step_that_decides_nothing_lasting_needs_no_disk(outside: Outside) -> None:
    outside.disk.fails_at_once = StoreFull("no room")
    outside.driver.tell_compute(ev.EnginesChanged((Engine.WASM,)))
    outside.driver.tell_compute(ev.OfferReceived("r", an_offer(engine=Engine.DOCKER)))
    await outside.driver.committed()
    assert [type(send) for send in outside.sent] == [fx.SendDecline]


async def test_a_bug_in_a_machine_stops_the_node_for_its_memory_cannot_be_trusted(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = AssertionError("an invariant broke")

    def broken(event: object, *, now: int) -> fx.Effects:
        raise bug

    monkeypatch.setattr(outside.driver.requester, "handle", broken)
    with pytest.raises(AssertionError):
        outside.driver.tell_requester(ev.PeerHeard("n1"))
    assert outside.failures == [bug]


async def test_who_waits_for_room_on_disk_hears_that_the_node_stops_for_another_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(event: object, *, now: int) -> fx.Effects:
        raise AssertionError("an invariant broke")

    outside = Outside(tmp_path)
    with contextlib.closing(outside.disk):
        outside.disk.fails_at_once = StoreFull("no room")
        submitting = asyncio.ensure_future(outside.submit("j-1"))
        await some_turns()
        monkeypatch.setattr(outside.driver.requester, "handle", broken)
        with pytest.raises(AssertionError):
            outside.driver.tell_requester(ev.PeerHeard("n1"))
        await outside.driver.stop()
        with pytest.raises(Refused, match="has not kept this"):
            async with asyncio.timeout(5):
                await submitting


async def test_what_was_committed_and_not_sent_is_sent_by_the_next_life(tmp_path: Path) -> None:
    """A kill between the commit and the sending."""
    first = Outside(tmp_path)

    first.driver.on_send = lambda _: None
    first.driver.tell_requester(ev.PeerHeard("n1"))
    await first.submit("j-1")
    await first.driver.stop()
    second = Outside.__new__(Outside)
    second.disk, second.sent, second.started, second.happened = first.disk, [], [], []
    second.made_ready, second.failures, second.numbers = [], [], iter(range(1000, 2000))
    second.driver = second.make_driver()
    second.driver.restore((), first.disk.open_jobs(), first.disk.open_executions(), (), first.disk.books())
    second.driver.tell_requester(ev.PeerHeard("n1"))
    await second.driver.committed()
    await until(
        lambda: any(isinstance(send, fx.SendOffer) and send.offer.job_id == "j-1" for send in second.sent),
        "the job is offered again",
    )
    await second.driver.stop()
    first.disk.close()


async def test_a_timer_never_fires_before_its_deadline(outside: Outside) -> None:
    seen: list[tuple[int, int]] = []
    machine = outside.driver.compute
    expire = machine.expire

    def noted(*, now: int) -> fx.Effects:
        due = machine.deadline()
        assert due is not None
        seen.append((due, now))
        return expire(now=now)

    machine.expire = noted  # type: ignore[method-assign]
    for n in range(20):
        offer = an_offer(id=f"o-{n}", open_for_us=1_000 * (n + 1))
        outside.driver.tell_compute(ev.EnginesChanged((offer.engine,)))
        outside.driver.tell_compute(ev.OfferReceived("r", offer))
    await until(lambda: machine.deadline() is None, "all deadlines have passed")
    assert seen
    assert all(now >= due for due, now in seen)


async def test_stopping_writes_what_is_gathered(tmp_path: Path) -> None:
    outside = Outside(tmp_path)
    with contextlib.closing(outside.disk):
        outside.driver.tell_requester(ev.JobSubmitted("j-1", a_spec(), (), bytes(32)))
        await outside.driver.stop()
        assert outside.disk.job("j-1") is not None
