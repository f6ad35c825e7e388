"""The simulated driver of one node: what node/driver.py is to a live one.

Hands events to the machines and does what they answer, in order: commit, then send, then start, but for what
is UNBOUND, which goes first. Where commits take time, the steps that come meanwhile are gathered for the next one, as a
live node does. A crash keeps what was committed, and programs that outlive their node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bacalhau.model.units import SECOND_US
from bacalhau.scheduler.effects import UNBOUND
from bacalhau.scheduler.records import WorkState
from bacalhau.simulation import engine, messages
from bacalhau.simulation.backups import Forgotten
from bacalhau.simulation.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bacalhau.model.cid import Cid
    from bacalhau.model.refusals import Refusal
    from bacalhau.scheduler.compute import ComputeMachine
    from bacalhau.scheduler.effects import Effects, Send, Start
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.scheduler.records import WorkRecord, Write
    from bacalhau.scheduler.requester import RequesterMachine
    from bacalhau.simulation.engine import Program
    from bacalhau.simulation.profile import Profile
    from bacalhau.simulation.world import World

_FULL_DISK_RETRY_US = SECOND_US


class Crash(Exception):
    """The node's process dies here."""


@dataclass(slots=True)
class _Step:
    effects: Effects
    answer: Callable[[Refusal | None], None] | None


class SimulatedNode:
    """See the module. What an earlier life waited for does not reach a later one: `life` tells them apart."""

    __slots__ = (
        "_committing",
        "_gathered",
        "_wakes_us",
        "compute",
        "disk_full",
        "forgotten",
        "held",
        "id",
        "index",
        "journal",
        "life",
        "profile",
        "programs",
        "requester",
        "restored",
        "up",
        "world",
    )

    def __init__(self, world: World, id: str, index: int, profile: Profile) -> None:
        self.world = world
        self.id = id
        self.index = index
        self.profile = profile
        self.journal = Journal(keep_ended=world.keep_ended)
        self.programs: dict[str, Program] = {}
        self.held: dict[Cid, None] = {}
        """Input data that is on its disk."""
        self.restored = 0
        """How often a backup was put back."""
        self.forgotten = Forgotten()
        self.life = 0
        self.up = False
        self.disk_full = False
        self.requester: RequesterMachine | None = None
        self.compute: ComputeMachine | None = None
        self._gathered: list[_Step] = []
        self._committing = False
        self._wakes_us: int | None = None

    # --- life ---

    def start(self) -> None:
        """Starts the node from what it has on disk."""
        if self.up:
            return
        self.up, self.life = True, self.life + 1
        self._gathered, self._committing, self._wakes_us = [], False, None
        world, profile, journal = self.world, self.profile, self.journal
        works = journal.unsettled_works()
        wanted = [work.id for work in works if work.state is WorkState.ACCEPTED]
        self.programs = {id: program for id, program in self.programs.items() if id in wanted}
        if profile.requester is not None:
            requester = replace(profile.requester, node_id=self.id)
            self.requester = world.machines.requester(requester, world.new_id)
        if profile.compute is not None:
            compute = replace(profile.compute, node_id=self.id)
            self.compute = world.machines.compute(compute, profile.pricing, world.new_id, profile.engines)
        if not self.journal.empty:
            self._restore(works)

    def _restore(self, works: list[WorkRecord]) -> None:
        now, known = self.world.loop.now, tuple(self.journal.reputations.values())
        executions = self.journal.executions_of_open_jobs()
        books = self.journal.books.as_restored(one for one in executions if not one.state.ended)
        if self.compute is not None:
            self._took(self.compute, None, self.compute.restore(works, known, books, now=now), None)
        if self.requester is not None and self.up:
            jobs = self.journal.open_jobs()
            self._took(
                self.requester, None, self.requester.restore(jobs, executions, known, books, now=now), None
            )

    def lives(self, life: int) -> bool:
        """It is up, and was not restarted since its life had this number."""
        return self.up and self.life == life

    def crash(self) -> None:
        """The process is gone at once."""
        self.up = False
        lost = [id for id, program in self.programs.items() if not program.outlives]
        for execution_id in lost:
            del self.programs[execution_id]
            if self.world.recorder is not None:
                self.world.recorder.ended(self, execution_id)

    # --- events ---

    def tell_requester(
        self, event: RequesterEvent, answer: Callable[[Refusal | None], None] | None = None
    ) -> Refusal | None:
        """One step of the requester machine; its refusal, where it refuses. `answer` is called with that, else
        once the step is on disk. A node that is down hears nothing."""
        if not self.up:
            return None
        machine = self.requester
        if machine is None:
            raise AssertionError(f"{self.id} takes no jobs")
        return self._took(machine, event, machine.handle(event, now=self.world.loop.now), answer)

    def tell_compute(
        self, event: ComputeEvent, answer: Callable[[Refusal | None], None] | None = None
    ) -> Refusal | None:
        """One step of the compute machine, as tell_requester."""
        if not self.up:
            return None
        machine = self.compute
        if machine is None:
            raise AssertionError(f"{self.id} runs nothing")
        return self._took(machine, event, machine.handle(event, now=self.world.loop.now), answer)

    def take_late(self, effects: Effects, answer: Callable[[Refusal | None], None]) -> None:
        """What a report gets that came after its job had ended: written and answered by the driver itself."""
        machine = self.requester
        if machine is None:
            raise AssertionError(f"{self.id} takes no jobs")
        self._took(machine, None, effects, answer)

    def ended_work(self, execution_id: str) -> WorkRecord | None:
        """As a live driver does: work that the machine no longer holds is looked up on disk."""
        if self.compute is None or self.compute.work(execution_id) is not None:
            return None
        return self.journal.works.get(execution_id)

    # --- steps ---

    def _took(
        self,
        machine: RequesterMachine | ComputeMachine,
        event: RequesterEvent | ComputeEvent | None,
        effects: Effects,
        answer: Callable[[Refusal | None], None] | None,
    ) -> Refusal | None:
        world = self.world
        if world.watch is not None:
            world.watch.stepped(self, machine, event, effects)
        refusal = effects.refusal
        if refusal is not None:
            if not effects.writes:
                if answer is not None:
                    answer(refusal)
                return refusal
            # A refusal may keep what it refused: it is answered when that is on disk.
            told = answer
            answer = (lambda _: told(refusal)) if told is not None else None
        if self._committing or self.disk_full or not world.prompt:
            try:
                self._take_to_disk(self._begin(effects), answer)
            except Crash:
                return None
        else:
            writes = effects.writes
            if writes:
                self.journal.commit(writes)
                if world.recorder is not None:
                    world.recorder.written(self, writes)
            if answer is not None:
                answer(None)
            if effects.sends:
                for send in effects.sends:
                    messages.SENDS[type(send)](world, self, send)
            if effects.starts:
                for start in effects.starts:
                    engine.STARTS[type(start)](world, self, start)
        due, wakes = machine.deadline(), self._wakes_us
        if due is not None and (wakes is None or due < wakes):
            self._arm(due)
        return refusal

    def _begin(self, effects: Effects) -> Effects:
        """Does what need not wait for the disk; what is left."""
        sends = [send for send in effects.sends if isinstance(send, UNBOUND)]
        starts = [start for start in effects.starts if isinstance(start, UNBOUND)]
        if not (sends or starts):
            return effects
        self._send_and_start(sends, starts)
        return replace(
            effects,
            sends=[send for send in effects.sends if not isinstance(send, UNBOUND)],
            starts=[start for start in effects.starts if not isinstance(start, UNBOUND)],
        )

    def _write(self, writes: list[Write]) -> None:
        self.journal.commit(writes)
        recorder = self.world.recorder
        if recorder is not None:
            recorder.written(self, writes)

    def _take_to_disk(self, effects: Effects, answer: Callable[[Refusal | None], None] | None) -> None:
        world = self.world
        if world.weather.commit_us or self._committing or self.disk_full:
            self._gather(effects, answer)
            return
        world.may_crash(self)
        if effects.writes:
            self._write(effects.writes)
            world.may_crash(self)
        if answer is not None:
            answer(None)
        self._send_and_start(effects.sends, effects.starts)

    def _send_and_start(self, sends: Iterable[Send], starts: Iterable[Start]) -> None:
        world = self.world
        crashes = world.weather.crashes
        for send in sends:
            if crashes:
                world.may_crash(self)
            messages.SENDS[type(send)](world, self, send)
        for start in starts:
            if crashes:
                world.may_crash(self)
            engine.STARTS[type(start)](world, self, start)

    # --- a disk that takes its time ---

    def _gather(self, effects: Effects, answer: Callable[[Refusal | None], None] | None) -> None:
        self._gathered.append(_Step(effects, answer))
        if not self._committing:
            self._begin_commit()

    def _begin_commit(self) -> None:
        turn, self._gathered = self._gathered, []
        self._committing = True
        world = self.world
        world.loop.after(
            world.random.randint(1, max(1, world.weather.commit_us)), self._end_commit, self.life, turn
        )

    def _end_commit(self, life: int, turn: list[_Step]) -> None:
        """One transaction for all that was gathered. On a full disk it waits for room, and what comes meanwhile
        gathers behind it."""
        if not self.lives(life):
            return
        world = self.world
        if self.disk_full:
            world.loop.after(_FULL_DISK_RETRY_US, self._end_commit, life, turn)
            return
        self._committing = False
        try:
            if world.weather.crashes:
                world.may_crash(self)
            writes = [write for step in turn for write in step.effects.writes]
            self._write(writes)
            for step in turn:
                if step.answer is not None:
                    step.answer(None)
            for step in turn:
                self._send_and_start(step.effects.sends, step.effects.starts)
        except Crash:
            return
        if self._gathered and not self._committing:
            self._begin_commit()

    # --- time ---

    def _arm(self, due_us: int) -> None:
        """One timer, for the earlier deadline of the two machines."""
        if self._wakes_us is not None and self._wakes_us <= due_us:
            return
        world = self.world
        self._wakes_us = due_us
        late_us = world.weather.late_wakes_us
        now = world.loop.now
        wake_us = due_us if due_us > now else now
        if late_us:
            wake_us += world.random.randrange(late_us + 1)
        world.loop.put(wake_us, self._wake, (self.life, due_us))

    def _wake(self, life: int, due_us: int) -> None:
        if due_us != self._wakes_us or not self.lives(life):
            return
        self._wakes_us = None
        now = self.world.loop.now
        for machine in (self.requester, self.compute):
            if machine is None or not self.lives(life):
                continue
            due = machine.deadline()
            if due is not None and due <= now:
                self._took(machine, None, machine.expire(now=now), None)
            elif due is not None:
                self._arm(due)
