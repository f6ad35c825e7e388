"""The live driver: feeds events to the two machines, and does what they answer, in order.

One event is one step, never interleaved with another. All steps of one turn of the event loop are gathered into one
transaction; only when that is on disk do their messages leave, their work start and their callers get an answer.
What the machines of one node tell each other, and what they ask that is known here, never leaves: it is handled
before the commit, in the same transaction.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.records import JobAccepted, JobChanged, JobHappening
from bacalhau.scheduler.requester import RequesterMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bacalhau.model.refusals import Refusal
    from bacalhau.node.clock import Clock
    from bacalhau.node.trace import Trace
    from bacalhau.scheduler.effects import Effects, Send, Start
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.scheduler.records import Write

log = logging.getLogger(__name__)


class Journal(Protocol):
    """Where writes go."""

    def commit(self, writes: Sequence[Write], *, meta: dict[str, str] | None = None) -> None: ...


CLOCK_META = "clock_us"
_CLOCK_SAVE_US = 1_000_000


class Driver:
    """Owns the machines. The `on_…` and `…_here` hooks are set once, before the first event.

    `deliver_here` handles what a send holds for this node and returns what is left for others, None for nothing;
    `settle_here` answers a start from what is known here, and says whether it could.
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
        self.settle_here: Callable[[Start], bool]
        self.on_send: Callable[[Send], None]
        self.on_start: Callable[[Start], None]
        self.on_happening: Callable[[JobAccepted | JobChanged | JobHappening], None]
        self.on_failure: Callable[[BaseException], None]
        self._journal = journal
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self._writes: list[Write] = []
        self._fresh: list[Effects] = []
        """Effects whose sends and starts were not looked at yet."""
        self._sends: list[Send] = []
        self._starts: list[Start] = []
        self._replies: list[asyncio.Future[Refusal | None]] = []
        self._flush_due = False
        self._clock_saved_us = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us: int | None = None
        self._failed: BaseException | None = None

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
        return refusal or await self._committed()

    async def ask_compute(self, event: ComputeEvent) -> Refusal | None:
        """As tell_compute, and waits until the step is on disk."""
        refusal = self.tell_compute(event)
        return refusal or await self._committed()

    def take(self, effects: Effects) -> None:
        """Effects that were not asked for by an event: those of a restart."""
        self._gather(effects)

    # --- the turn ---

    def _step(self, machine: RequesterMachine | ComputeMachine, event: RequesterEvent | ComputeEvent) -> Refusal | None:
        if self._failed is not None:
            raise RuntimeError("the node is stopping after a failure") from self._failed
        now = self.clock.now()
        effects = machine.handle(event, now=now)  # type: ignore[arg-type]
        if self._trace is not None:
            self._trace.event(event, now)
        if effects.refusal is None:
            self._gather(effects)
        return effects.refusal

    def _gather(self, effects: Effects) -> None:
        self._writes += effects.writes
        if effects.sends or effects.starts:
            self._fresh.append(effects)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    async def _committed(self) -> None:
        if self._flush_due:
            reply: asyncio.Future[Refusal | None] = self._loop.create_future()
            self._replies.append(reply)
            await reply

    def _handle_what_stays(self) -> None:
        """Until nothing is left that this node can answer itself. It ends: each offer is answered once a turn."""
        while self._fresh:
            fresh, self._fresh = self._fresh, []
            for effects in fresh:
                for send in effects.sends:
                    left = self.deliver_here(send)
                    if left is not None:
                        self._sends.append(left)
                self._starts += [start for start in effects.starts if not self.settle_here(start)]

    def _flush(self) -> None:
        self._handle_what_stays()
        self._flush_due = False
        writes, sends, starts, replies = self._writes, self._sends, self._starts, self._replies
        self._writes, self._sends, self._starts, self._replies = [], [], [], []
        if writes:
            try:
                self._commit(writes)
            except Exception as failure:
                # The machines are ahead of the disk: nothing that follows would be true. The node stops, and
                # the next start takes up what was committed.
                self._fail(failure, replies)
                return
        for reply in replies:
            if not reply.done():
                reply.set_result(None)
        for write in writes:
            if isinstance(write, (JobHappening, JobChanged, JobAccepted)):
                self.on_happening(write)
        for send in sends:
            self.on_send(send)
        for start in starts:
            self.on_start(start)
        self._arm()

    def _commit(self, writes: list[Write]) -> None:
        now = self.clock.now()
        meta = None
        if now - self._clock_saved_us > _CLOCK_SAVE_US:
            self._clock_saved_us = now
            meta = {CLOCK_META: str(now)}
        self._journal.commit(writes, meta=meta)

    def _fail(self, failure: BaseException, replies: list[asyncio.Future[Refusal | None]]) -> None:
        self._failed = failure
        log.critical("the journal cannot be written, the node stops: %s", failure)
        for reply in replies:
            if not reply.done():
                reply.set_exception(RuntimeError("the node cannot write its journal"))
        self.on_failure(failure)

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
        # A timer never fires before its deadline, whatever the event loop's clock says.
        now = max(due, self.clock.now())
        for machine in (self.requester, self.compute):
            deadline = machine.deadline()
            if deadline is not None and deadline <= now:
                effects = machine.expire(now=now)
                if self._trace is not None:
                    self._trace.expiry(machine, now)
                self._gather(effects)
        if not self._flush_due:
            self._arm()

    def stop(self) -> None:
        """Writes what is gathered and lets the timer go."""
        if self._flush_due and self._failed is None:
            self._flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
