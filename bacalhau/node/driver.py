"""The live driver: feeds events to the two machines, and does what they answer, in order.

One event is one step, never interleaved with another. All steps of one turn of the event loop are gathered into one
transaction; only when that is on disk do their messages leave and their callers get an answer, but for what binds
nobody (see `UNBOUND`), which goes first.
What the machines of one node tell each other, and what they ask that is known here, never leaves: it is handled
before the commit, in the same transaction; the offers of many jobs at once in later ones, when those who submitted the
jobs have their answers (`offer_queue`). What nobody waits for, and nothing follows from but what has begun, is
written with what comes next, or soon. A turn for which a full disk has no room waits for it; any other failure
of the disk stops the node.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bacalhau.ipfs.errors import StoreFull as BlocksFull
from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.node.offer_queue import FEW, OfferQueue
from bacalhau.scheduler.effects import UNBOUND, Effects
from bacalhau.store.errors import StoreFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bacalhau.model.cid import Cid
    from bacalhau.model.refusals import Refusal
    from bacalhau.model.reputation import Reputation
    from bacalhau.node.clock import Clock
    from bacalhau.node.trace import Trace
    from bacalhau.scheduler.compute import ComputeMachine
    from bacalhau.scheduler.effects import Send, Start
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.scheduler.jobs import Job
    from bacalhau.scheduler.records import Books, ExecutionRecord, WorkRecord, Write
    from bacalhau.scheduler.requester import RequesterMachine

log = logging.getLogger(__name__)


class Journal(Protocol):
    """Where writes go: staged on the event loop, committed where waiting for the disk stops nobody."""

    def stage(
        self,
        writes: Sequence[Write],
        *,
        meta: dict[str, str] | None = None,
        blocks: Sequence[tuple[Cid, bytes]] = (),
        forget_blocks: bool = False,
    ) -> bool: ...
    def commit_staged(self) -> None: ...
    def roll_back_staged(self) -> None: ...


CLOCK_META = "clock_us"
_CLOCK_SAVE_US = 1_000_000
FULL_DISK_RETRY_S = 1.0
BLOCKS_WAIT_S = 5.0
"""So long the blocks of small results are in the journal alone: one sync of the block store for many."""
LINGER_S = 0.05
"""A turn from which nothing follows waits at most this long for one from which something does: a commit less."""


@dataclass(slots=True)
class _Turn:
    """What the steps of one turn of the event loop ask for together."""

    is_urgent: bool = False
    """Something follows from it: messages, work, or an answer that somebody waits for."""

    forgets_blocks: bool = False
    """Those of earlier turns are to be on disk in the block store now."""

    blocks: list[tuple[Cid, bytes]] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    replies: list[asyncio.Future[None]] = field(default_factory=list)
    refused_by_disk: int = 0
    """How often there was no room for it."""


class Driver:
    """Owns the machines. The `on_…` and `…_here` hooks are set once, before the first event.

    `store_blocks` puts blocks where they can be read, and `sync_blocks` those of all calls on disk, until when the
    journal has them; both are called in the journal's thread. `deliver_here` handles what a send
    holds for this node and returns what is left for others, None for nothing;
    `answer_here` answers a start from what is known here, and says whether it could. `on_waiting` gets, while the disk
    works, what `on_send` gets when it is done; it may hear of the same send again, or of one that never leaves.
    """

    def __init__(
        self,
        requester: RequesterMachine,
        compute: ComputeMachine,
        journal: Journal,
        clock: Clock,
        trace: Trace | None = None,
    ) -> None:
        self.requester = requester
        self.compute = compute
        self.clock = clock
        self.deliver_here: Callable[[Send], Send | None]
        self.answer_here: Callable[[Start], bool]
        self.store_blocks: Callable[[list[tuple[Cid, bytes]]], None]
        self.sync_blocks: Callable[[], None]
        self.on_waiting: Callable[[Send], None]
        self.on_send: Callable[[Send], None]
        self.on_start: Callable[[Start], None]
        self.on_written: Callable[[Write], None]
        self.on_failure: Callable[[BaseException], None]
        self._journal = journal
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self._turn = _Turn()
        self._fresh: list[Effects] = []
        """Effects of this turn whose sends and starts were not looked at yet."""
        self._offers = OfferQueue()
        self._flush_due = False
        self._lingering: asyncio.TimerHandle | None = None
        self._committing = False
        """A turn is under way to the disk, or waits for room on it; the steps that come gather for the next."""
        self._without_room: tuple[_Turn, asyncio.TimerHandle] | None = None
        """The turn that waits for room, and when it is tried again."""
        self._ending = False
        self._disk = ThreadPoolExecutor(1, "journal")
        self._blocks_wait: asyncio.TimerHandle | None = None
        self._clock_saved_us = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us: int | None = None
        self._failed: BaseException | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    # --- events in ---

    def tell_requester(self, event: RequesterEvent) -> Refusal | None:
        """One step of the requester machine; what it asks for is done soon. The refusal, where it refused."""
        return self._step(self.requester, event)

    def tell_compute(self, event: ComputeEvent) -> Refusal | None:
        """One step of the compute machine; what it asks for is done soon. The refusal, where it refused."""
        return self._step(self.compute, event)

    async def ask_requester(self, event: RequesterEvent) -> Refusal | None:
        """As tell_requester, and waits until the step is on disk."""
        refusal = self.tell_requester(event)
        if refusal is None:
            await self.committed()
        return refusal

    async def ask_compute(self, event: ComputeEvent) -> Refusal | None:
        """As tell_compute, and waits until the step is on disk."""
        refusal = self.tell_compute(event)
        if refusal is None:
            await self.committed()
        return refusal

    async def committed(self) -> None:
        """Waits until every step so far is on disk. Raises Refused(SHUTTING_DOWN) where that will never be."""
        reply = self.commit()
        if not reply.done():
            await reply

    def commit(self) -> asyncio.Future[None]:
        """As committed, for a caller with something to do meanwhile; the disk is at work one step of the event loop
        later. Raises as it does, at once or from the future."""
        if self._failed is not None:
            raise self._stopping() from self._failed
        reply: asyncio.Future[None] = self._loop.create_future()
        if not self._flush_due:
            if not self._committing:
                reply.set_result(None)
                return reply
            self._gather(Effects())
        self._turn.replies.append(reply)
        self._hurry()
        return reply

    def keep(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        """Small blocks that the next step tells of: they are on disk before it is."""
        self._turn.blocks += blocks

    def write(self, writes: Sequence[Write]) -> None:
        """What is to be kept of something that the machines know no longer."""
        self._gather(Effects(writes=[*writes]))

    def restore(
        self,
        work: Sequence[WorkRecord],
        jobs: Sequence[Job],
        executions: Sequence[ExecutionRecord],
        reputations: Sequence[Reputation],
        books: Books,
    ) -> None:
        """Before the first event: hands the machines what an earlier life of this node had accepted."""
        now = self.clock.now()
        if self._trace is not None:
            self._trace.restored(work, jobs, executions, reputations, books, now)
        compute = self.compute.restore(work, reputations, books, now=now)
        requester = self.requester.restore(jobs, executions, reputations, books, now=now)
        if self._trace is not None:
            self._trace.restored_to(compute, requester)
        self._gather(compute)
        self._gather(requester)

    # --- the turn ---

    def _step(
        self, machine: RequesterMachine | ComputeMachine, event: RequesterEvent | ComputeEvent
    ) -> Refusal | None:
        if self._failed is not None:
            raise self._stopping() from self._failed
        now = self.clock.now()
        try:
            effects = machine.handle(event, now=now)  # type: ignore[arg-type]
            if self._trace is not None:
                self._trace.event(event, now, effects)
        except BaseException as bug:  # raised again
            # Half of a step may be in the machine's memory, and its writes are lost.
            self._fail(bug)
            raise
        if effects.refusal is None or effects.writes:
            self._gather(effects)
        return effects.refusal

    def _gather(self, effects: Effects) -> None:
        self._turn.writes += effects.writes
        if not self._flush_due:
            self._flush_due = True
            self._idle.clear()
        if effects.sends or effects.starts:
            self._fresh.append(effects)
            self._hurry()
        elif not self._committing:
            self._linger()

    def _hurry(self) -> None:
        if not self._turn.is_urgent:
            self._turn.is_urgent = True
            if not self._committing:
                self._loop.call_soon(self._flush)

    def _linger(self) -> None:
        if self._lingering is None:
            self._lingering = self._loop.call_later(LINGER_S, self._lingered)

    def _lingered(self) -> None:
        self._lingering = None
        self._flush(waited=True)

    def _handle_what_stays(self) -> None:
        """Until nothing is left that this node can answer itself. It ends: each offer is answered once a turn."""
        turn = self._turn
        now_s = self._loop.time()
        new = sum([self._offers.take(effects, now_s) for effects in self._fresh])
        if offers := self._offers.due(new, now_s):
            self._fresh.append(Effects(sends=[*offers]))
        while self._fresh:
            fresh, self._fresh = self._fresh, []
            for effects in fresh:
                for send in effects.sends:
                    left = self.deliver_here(send)
                    if left is not None:
                        turn.sends.append(left)
                turn.starts += [start for start in effects.starts if not self.answer_here(start)]

    def _flush(self, *, waited: bool = False) -> None:
        """Ends the turn: its writes go to disk, while the steps that come meanwhile gather for the next."""
        if self._failed is not None or self._committing or not self._flush_due:
            return
        turn = self._turn
        try:
            self._handle_what_stays()
            begun = self._begin(turn)
        except Exception as bug:  # whatever it is, half of the turn is in the machines' memory
            self._fail(bug, turn)
            return
        left = turn.sends or turn.starts or turn.replies or self._offers
        if begun and turn.writes and not (left or waited):
            # All that there was to do is begun: its writes go with those of what comes of it, or soon.
            turn.is_urgent = False
            self._linger()
            return
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        self._flush_due = bool(self._offers)
        self._turn = _Turn(is_urgent=self._flush_due)
        if not (turn.writes or turn.forgets_blocks):
            # Nothing on disk names these blocks yet; they are stored with what will.
            self._turn.blocks += turn.blocks
            self._finish(turn)
            if self._offers:
                self._loop.call_soon(self._flush)
            return
        self._committing = True
        if begun:
            # The calls of what was begun take two steps of the event loop until they leave.
            self._loop.call_soon(self._loop.call_soon, self._write, turn)
        else:
            self._write(turn)

    def _begin(self, turn: _Turn) -> bool:
        """Does what need not wait for the disk, where that is little; whether there was any."""
        sends = [send for send in turn.sends if isinstance(send, UNBOUND)]
        starts = [start for start in turn.starts if isinstance(start, UNBOUND)]
        if len(sends) + len(starts) > FEW:
            return False
        for send in sends:
            self.on_send(send)
        for start in starts:
            self.on_start(start)
        if sends:
            turn.sends = [send for send in turn.sends if not isinstance(send, UNBOUND)]
        if starts:
            turn.starts = [start for start in turn.starts if not isinstance(start, UNBOUND)]
        return bool(sends or starts)

    def _write(self, turn: _Turn) -> None:
        try:
            self._journal.stage(
                turn.writes, meta=self._clock_meta(), blocks=turn.blocks, forget_blocks=turn.forgets_blocks
            )
        except Exception as failure:  # told apart there: a full disk is waited for
            self._not_written(turn, failure)
            return
        if turn.sends:
            self._loop.call_soon(self._prepare, turn)  # before what the disk's thread has to say
        self._disk.submit(self._commit_and_tell, turn)

    def _prepare(self, turn: _Turn) -> None:
        """What leaves when it is on disk is made ready while the disk works."""
        for send in turn.sends[:FEW]:
            self.on_waiting(send)

    def _commit_and_tell(self, turn: _Turn) -> None:
        """In the journal's thread. Tells the event loop itself: the future of an executor takes it a step more."""
        failure: BaseException | None = None
        try:
            self._commit(turn)
        except BaseException as error:  # whatever it was, the event loop decides what follows
            failure = error
        self._loop.call_soon_threadsafe(self._commit_done, turn, failure)

    def _commit(self, turn: _Turn) -> None:
        """In the journal's thread. What the transaction names can be read before it."""
        try:
            if turn.forgets_blocks:
                self.sync_blocks()
            if turn.blocks:
                self.store_blocks(turn.blocks)
        except BaseException:  # whatever it was, the transaction ends as well
            self._journal.roll_back_staged()
            raise
        self._journal.commit_staged()

    def _commit_done(self, turn: _Turn, failure: BaseException | None) -> None:
        if failure is not None:
            self._not_written(turn, failure)
            return
        if turn.refused_by_disk:
            log.warning("there is room again: what was decided is written")
        self._committing = False
        if turn.blocks and self._blocks_wait is None:
            self._blocks_wait = self._loop.call_later(BLOCKS_WAIT_S, self._forget_blocks)
        self._finish(turn)
        if self._offers:
            self._loop.call_soon(self._flush)  # after the answers, for which they wait
        elif self._turn.is_urgent:
            self._flush()
        elif self._flush_due:
            self._linger()

    def _forget_blocks(self) -> None:
        self._blocks_wait = None
        self._turn.forgets_blocks = True
        self._gather(Effects())

    def _not_written(self, turn: _Turn, failure: BaseException) -> None:
        """On a full disk the turn waits for room: nothing of it has left, so that it can be written later as it is.
        Any other failure leaves the machines ahead of a disk that may never take what they decided."""
        if not isinstance(failure, StoreFull | BlocksFull) or self._ending:
            self._fail(failure, turn)
            return
        if not turn.refused_by_disk:
            log.error("what was decided waits until it can be written: %s", failure)
        turn.refused_by_disk += 1
        self._without_room = turn, self._loop.call_later(FULL_DISK_RETRY_S, self._write_again)

    def _write_again(self) -> None:
        if self._without_room is not None:
            (turn, timer), self._without_room = self._without_room, None
            timer.cancel()
            self._write(turn)

    def _finish(self, turn: _Turn) -> None:
        """The turn is on disk: its callers hear of it, its messages leave, its work starts."""
        if not self._flush_due:
            self._idle.set()
        # In this order, for jobs wait for messages, and a client for the end of its job more than another node for the
        # answer to the report that has ended it.
        try:
            for send in turn.sends:
                self.on_send(send)
            for write in turn.writes:
                self.on_written(write)
            for reply in turn.replies:
                if not reply.done():
                    reply.set_result(None)
            for start in turn.starts:
                self.on_start(start)
        except BaseException as bug:  # raised again
            # Some of what is on disk was not begun: only a restart takes that up.
            self._fail(bug)
            raise
        self._arm()

    def _clock_meta(self) -> dict[str, str] | None:
        now = self.clock.now()
        if now - self._clock_saved_us < _CLOCK_SAVE_US:
            return None
        self._clock_saved_us = now
        return {CLOCK_META: str(now)}

    def _fail(self, failure: BaseException, turn: _Turn | None = None) -> None:
        """The machines are ahead of the disk, so nothing that follows would be true: the node stops, and its next
        start takes up what was committed."""
        first = self._failed is None
        if first:
            self._failed = failure
            self._idle.set()
            log.critical("what was decided cannot be written, the node stops: %s", failure, exc_info=failure)
        for reply in (*(turn.replies if turn is not None else ()), *self._turn.replies):
            if not reply.done():
                reply.set_exception(self._stopping())
        if first:
            self.on_failure(failure)

    def _stopping(self) -> Refused:
        return refused(RefusalReason.SHUTTING_DOWN, f"the node stops, and has not kept this: {self._failed}")

    # --- time ---

    def _arm(self) -> None:
        """One timer, for the earlier deadline of the two machines."""
        due = self.requester.deadline()
        other = self.compute.deadline()
        if other is not None and (due is None or other < due):
            due = other
        if due == self._timer_us and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_us = due
        if due is not None:
            delay_us = max(0, due - self.clock.now())
            self._timer = self._loop.call_later(delay_us / 1e6, self._expire, due)

    def _expire(self, due: int) -> None:
        self._timer = self._timer_us = None
        if self._failed is not None:
            return
        now = self.clock.now()
        if now < due:  # whatever the event loop's clock says, a timer never fires before its deadline
            self._arm()
            return
        for machine in (self.requester, self.compute):
            deadline = machine.deadline()
            if deadline is not None and deadline <= now:
                try:
                    effects = machine.expire(now=now)
                except BaseException as bug:  # raised again
                    self._fail(bug)
                    raise
                if self._trace is not None:
                    self._trace.expiry(machine, now, effects)
                self._gather(effects)
        if not self._flush_due:
            self._arm()

    async def stop(self) -> None:
        """Writes what is gathered, and lets timer and thread go. What waits for room on a full disk is tried once
        more, and then lost; nothing of it has left."""
        self._ending = True
        self._write_again()
        self._flush(waited=True)
        await self._idle.wait()
        for timer in (self._timer, self._blocks_wait):
            if timer is not None:
                timer.cancel()
        self._timer = self._blocks_wait = None
        self._disk.shutdown()
