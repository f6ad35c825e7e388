"""The driver: nothing leaves before it is on disk, one transaction a turn, a full disk is waited for, and one that
fails stops the node."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.market.pricing import FlatPrice
from bacalhau.model.cid import RAW, Cid
from bacalhau.model.job import Engine, JobEventType, JobState
from bacalhau.model.refusals import RefusalReason, Refused
from bacalhau.node.clock import Clock
from bacalhau.node.driver import LINGER_S, Driver
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.records import JobAccepted, JobHappening
from bacalhau.scheduler.requester import RequesterConfig, RequesterMachine
from bacalhau.store.errors import StoreError, StoreFailed, StoreFull
from bacalhau.store.store import Store
from tests.builders import a_compute_config, a_spec, an_offer
from tests.node.live import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from bacalhau.scheduler.records import Write


class SlowDisk(Store):
    """A store whose disk waits until it may go on, and fails when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.failure: Exception | None = None
        self.fails_at_once: Exception | None = None
        self.refusals = 0
        self.staged: list[int] = []
        self.calls: list[str] = []

    def stage(self, writes: Sequence[Write], *, meta: dict[str, str] | None = None) -> bool:  # type: ignore[override]
        if self.fails_at_once is not None:
            self.refusals += 1
            raise self.fails_at_once
        if writes:
            self.staged.append(len(writes))
            self.calls.append("staged")
        return super().stage(writes, meta=meta)

    def commit_staged(self) -> None:
        self.may_go_on.wait(10)
        if self.failure is not None:
            self._end_staged()
            self.refusals += 1
            raise self.failure
        super().commit_staged()
        self.calls.append("committed")


class Outside:
    """What a driver's hooks were told."""

    def __init__(self, folder: Path) -> None:
        self.disk = SlowDisk(folder / "journal.sqlite")
        self.sent: list[fx.Send] = []
        self.started: list[fx.Start] = []
        self.happened: list[object] = []
        self.failures: list[BaseException] = []
        self.numbers = iter(range(1, 1_000_000))
        self.driver = self.make_driver()

    def make_driver(self) -> Driver:
        def ids(prefix: str) -> str:
            return f"{prefix}-{next(self.numbers)}"

        requester = RequesterMachine(RequesterConfig(), ids)
        compute = ComputeMachine(a_compute_config(), FlatPrice(1), ids)
        driver = Driver(requester, compute, self.disk, Clock())
        driver.deliver_here = lambda send: send
        driver.settle_here = lambda start: False
        driver.on_send = self.sent.append
        driver.on_start = self.started.append
        driver.on_written = self.happened.append
        driver.on_failure = self.failures.append
        return driver

    async def submit(self, job_id: str) -> None:
        refusal = await self.driver.ask_requester(ev.JobSubmitted(job_id, a_spec(), (), bytes(32)))
        assert refusal is None


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    made = Outside(tmp_path)
    made.driver.tell_requester(ev.PeerHeard("n1"))
    await made.driver.committed()
    yield made
    made.disk.may_go_on.set()
    await made.driver.stop()
    made.disk.close()


async def some_turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_nothing_leaves_and_nobody_is_answered_before_the_step_is_on_disk(outside: Outside) -> None:
    outside.disk.may_go_on.clear()
    submitting = asyncio.ensure_future(outside.submit("j-1"))
    await some_turns()
    assert (outside.sent, outside.started, outside.happened, submitting.done()) == ([], [], [], False)
    assert outside.disk.job("j-1") is None
    outside.disk.may_go_on.set()
    await submitting
    assert outside.disk.job("j-1") is not None
    assert [type(send) for send in outside.sent] == [fx.SendOffer]
    assert isinstance(outside.happened[0], JobAccepted)


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
async def test_a_failing_disk_stops_the_node_and_nothing_of_the_step_leaves(
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
    assert (outside.sent, outside.started, outside.happened) == ([], [], [])
    for after in (outside.submit("j-2"), outside.driver.committed()):
        with pytest.raises(Refused, match="input/output error"):
            await after
    assert outside.failures == [failure]


@pytest.fixture
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bacalhau.node.driver.FULL_DISK_RETRY_S", 0.01)


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
    assert (outside.sent, outside.started, outside.happened) == ([], [], [])
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


async def test_what_was_committed_and_not_sent_is_sent_by_the_next_life(tmp_path: Path) -> None:
    """A kill between the commit and the sending."""
    first = Outside(tmp_path)

    first.driver.on_send = lambda _: None
    first.driver.tell_requester(ev.PeerHeard("n1"))
    await first.submit("j-1")
    await first.driver.stop()
    second = Outside.__new__(Outside)
    second.disk, second.sent, second.started, second.happened = first.disk, [], [], []
    second.failures, second.numbers = [], iter(range(1000, 2000))
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


# --- blocks that a step tells of ---


def a_block(content: bytes) -> tuple[Cid, bytes]:
    return Cid.of(RAW, content), content


@pytest.fixture
def blocks(tmp_path: Path, outside: Outside) -> Iterator[PackBlockStore]:
    """The block store of the driver in `outside`; one that holds 100 bytes."""
    made = PackBlockStore(tmp_path / "blocks", limit_bytes=100)

    def store(some: list[tuple[Cid, bytes]]) -> None:
        made.put_many(some, reserved=True)
        outside.disk.calls.append("blocks stored")

    outside.driver.store_blocks = store
    yield made
    made.close()


async def test_blocks_are_on_disk_before_the_step_that_tells_of_them(
    outside: Outside, blocks: PackBlockStore
) -> None:
    cid, content = a_block(b"a result")
    outside.driver.on_send = lambda _: outside.disk.calls.append(f"sent, blocks {blocks.has(cid)}")
    outside.disk.calls.clear()
    outside.disk.may_go_on.clear()
    outside.driver.keep([(cid, content)])
    submitting = asyncio.ensure_future(outside.submit("j-1"))
    await until(lambda: blocks.has(cid), "the blocks are stored")
    assert outside.disk.calls == ["staged", "blocks stored"]
    assert not submitting.done()
    outside.disk.may_go_on.set()
    await submitting
    assert outside.disk.calls == ["staged", "blocks stored", "committed", "sent, blocks True"]


@pytest.mark.usefixtures("short_pause")
async def test_where_the_blocks_have_no_room_nothing_of_the_step_is_committed_and_nothing_leaves(
    outside: Outside, blocks: PackBlockStore, tmp_path: Path
) -> None:
    cid, content = a_block(bytes(101))
    outside.driver.keep([(cid, content)])
    submitting = asyncio.ensure_future(outside.submit("j-1"))
    await until(lambda: outside.disk.calls.count("staged") > 2, "it was tried again")
    assert not submitting.done()
    assert outside.disk.job("j-1") is None
    assert (outside.sent, outside.started, outside.happened) == ([], [], [])
    assert not blocks.has(cid)
    outside.disk.set_meta("the file", "is free meanwhile")  # were the transaction open, this would wait
    with contextlib.closing(PackBlockStore(tmp_path / "larger")) as larger:
        outside.driver.store_blocks = larger.put_many
        await submitting
        assert larger.has(cid)
    assert outside.disk.job("j-1") is not None
    assert outside.failures == []


@pytest.mark.parametrize("at_once", [True, False])
async def test_where_the_journal_fails_blocks_may_be_there_and_nothing_tells_of_them(
    outside: Outside, blocks: PackBlockStore, at_once: bool
) -> None:
    failure = StoreFailed("input/output error")
    if at_once:
        outside.disk.fails_at_once = failure
    else:
        outside.disk.failure = failure
    cid, content = a_block(b"a result")
    outside.driver.keep([(cid, content)])
    with pytest.raises(Refused, match="input/output error"):
        await outside.submit("j-1")
    assert blocks.has(cid) is not at_once
    assert outside.disk.job("j-1") is None
    assert (outside.sent, outside.started, outside.happened) == ([], [], [])
    assert outside.failures == [failure]


async def test_blocks_wait_for_the_transaction_of_their_own_turn(
    outside: Outside, blocks: PackBlockStore
) -> None:
    outside.disk.may_go_on.clear()
    outside.driver.keep([a_block(b"first")])
    first = asyncio.ensure_future(outside.submit("j-1"))
    await until(lambda: blocks.has(a_block(b"first")[0]), "the first are stored")
    outside.driver.keep([a_block(b"second")])
    second = asyncio.ensure_future(outside.submit("j-2"))
    await some_turns()
    assert not blocks.has(a_block(b"second")[0])
    outside.disk.may_go_on.set()
    await asyncio.gather(first, second)
    assert blocks.has(a_block(b"second")[0])


async def test_blocks_of_a_step_that_writes_nothing_are_stored_with_the_next_that_does(
    outside: Outside, blocks: PackBlockStore
) -> None:
    """Others may take it that they will be: their root is remembered as being here."""
    cid, content = a_block(b"a result")
    outside.driver.keep([(cid, content)])
    for _ in range(3):  # the clock is written down now and then
        outside.driver.tell_requester(ev.PeerHeard("n1"))
        await outside.driver.committed()
    await outside.submit("j-1")
    assert blocks.has(cid)


async def test_blocks_of_a_refused_step_are_stored_with_the_next(
    outside: Outside, blocks: PackBlockStore
) -> None:
    await outside.submit("j-1")
    cid, content = a_block(b"a result")
    outside.driver.keep([(cid, content)])
    refusal = await outside.driver.ask_requester(ev.JobSubmitted("j-1", a_spec(), (), bytes(32)))
    assert refusal is not None
    await outside.submit("j-2")
    assert blocks.has(cid)
