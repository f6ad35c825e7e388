"""What a run of a market is measured by: a Recorder that turns committed records into figures.

Holds a row for each job that has ended, and more only of those that are open. Money of a figure is in credits,
time in seconds; both are floats, for nothing here is decided.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from bacalhau.model.execution import ExecutionState, FaultKind, Usage
from bacalhau.model.job import JobState
from bacalhau.model.units import HOUR_US, MICROCREDITS_PER_CREDIT, SECOND_US
from bacalhau.scheduler.records import (
    AnswerReceived,
    ExecutionRecord,
    JobChanged,
    JobHappening,
    WorkRecord,
    WorkState,
)
from bacalhau.simulation.honesty import honest_result, used_of
from bacalhau.simulation.statistics import gini, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bacalhau.model.resources import Resources
    from bacalhau.scheduler.records import Write
    from bacalhau.simulation.economy import Costs
    from bacalhau.simulation.node import SimulatedNode
    from bacalhau.simulation.scenario import Scenario
    from bacalhau.simulation.workload import Arrival
    from bacalhau.simulation.world import World

CPU_CLASSES = ((1000, "up to 1 CPU"), (4000, "up to 4 CPU"), (2**62, "more than 4 CPU"))
_COMPLETED = JobState.COMPLETED.name.lower()
_REFUSED = tuple(kind.name.lower() for kind in (FaultKind.NO_NODE, FaultKind.QUEUE_TIMEOUT))
NEVER = -1
"""A time in a column that never came."""


class JobRow(NamedTuple):
    """A job that has ended; the names are those of JobColumns, in their order."""

    id: str
    state: str
    fault: str
    submitted_us: int
    started_us: int
    ended_us: int
    cpu_millicores: int
    run_us: int
    value_microcredits: int
    charged_microcredits: int
    bids: int
    fetched_bytes: int
    sound: int


@dataclass(slots=True)
class JobColumns:
    """A row for each ended job: times in microseconds, money in microcredits."""

    id: list[str] = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    fault: list[str] = field(default_factory=list)
    submitted_us: array[int] = field(default_factory=lambda: array("q"))
    started_us: array[int] = field(default_factory=lambda: array("q"))
    ended_us: array[int] = field(default_factory=lambda: array("q"))
    cpu_millicores: array[int] = field(default_factory=lambda: array("q"))
    run_us: array[int] = field(default_factory=lambda: array("q"))
    value_microcredits: array[int] = field(default_factory=lambda: array("q"))
    charged_microcredits: array[int] = field(default_factory=lambda: array("q"))
    bids: array[int] = field(default_factory=lambda: array("q"))
    fetched_bytes: array[int] = field(default_factory=lambda: array("q"))
    sound: array[int] = field(default_factory=lambda: array("q"))
    """1 where every accepted result is the one that the program really gives."""

    def names(self) -> tuple[str, ...]:
        return JobRow._fields

    def rows(self) -> list[JobRow]:
        columns = (getattr(self, name) for name in self.names())
        return [JobRow._make(row) for row in zip(*columns, strict=True)]

    def digest(self) -> str:
        """Equal runs have equal digests."""
        digest = hashlib.sha256()
        for row in self.rows():
            digest.update(repr(tuple(row)).encode())
        return digest.hexdigest()


@dataclass(slots=True)
class EventColumns:
    """A row for each entry of each job's history."""

    time_us: array[int] = field(default_factory=lambda: array("q"))
    job_id: list[str] = field(default_factory=list)
    sequence: array[int] = field(default_factory=lambda: array("q"))
    type: list[str] = field(default_factory=list)
    node_id: list[str] = field(default_factory=list)
    execution_id: list[str] = field(default_factory=list)
    price_microcredits: list[int | None] = field(default_factory=list)
    refusal: list[str | None] = field(default_factory=list)

    def add(self, entry: JobHappening) -> None:
        self.time_us.append(entry.time_us)
        self.job_id.append(entry.job_id)
        self.sequence.append(entry.sequence)
        self.type.append(entry.type.name.lower())
        self.node_id.append(entry.node_id)
        self.execution_id.append(entry.execution_id)
        self.price_microcredits.append(entry.price_microcredits)
        self.refusal.append(entry.refusal.reason.name.lower() if entry.refusal else None)


@dataclass(slots=True)
class NodeTotals:
    """What a provider earned and spent."""

    id: str
    group: str
    cheat: str
    cpu_millicores: int
    income_microcredits: int = 0
    spent_microcredits: int = 0
    executions: int = 0
    busy_millicore_us: int = 0


@dataclass(slots=True)
class _Open:
    """A job that has not ended. `deadline_us` is when it is late."""

    arrival: Arrival
    deadline_us: int | None
    started_us: int = NEVER
    bids: int = 0
    fetched_bytes: int = 0
    sound: bool = True


@dataclass(frozen=True, slots=True)
class _Running:
    """A program: since when its load counts, since when it runs, and for how long it is going to."""

    job_id: str
    resources: Resources
    loaded_us: int
    from_us: int
    run_us: int


class Measures:
    """See the module. A Recorder of one world; `events` are only kept where they are wanted."""

    def __init__(self, world: World, scenario: Scenario, *, keep_events: bool = False) -> None:
        self.jobs = JobColumns()
        self.events = EventColumns() if keep_events else None
        self.nodes: dict[str, NodeTotals] = {}
        self.prices: list[tuple[int, int, float]] = []
        """(when, millicores, credits for an hour of a core) of each completed execution of a job that counts."""
        self.load: list[tuple[int, int]] = []
        """(when, change of the millicores that are in use)."""
        self.submitted = self.late = self.refused_at_once = self.executions = 0
        self.bound_microcredits: int | None = 0
        self.on_job_ended: Callable[[], None] = lambda: None
        self._world = world
        self._scenario = scenario
        self._costs: dict[str, Costs] = {}
        self._open: dict[str, _Open] = {}
        self._warmup: set[str] = set()
        """Jobs that came in the warm-up."""
        self._running: dict[str, _Running] = {}
        self._takes: dict[type, Callable[[SimulatedNode, Any], None]] = {
            AnswerReceived: self._answered,
            ExecutionRecord: self._execution,
            WorkRecord: self._work,
            JobChanged: self._job_changed,
        }
        if self.events is not None:
            self._takes[JobHappening] = self._happened

    def add_provider(self, node_id: str, costs: Costs, totals: NodeTotals) -> None:
        self.nodes[node_id] = totals
        self._costs[node_id] = costs

    def costs_of(self, node_id: str) -> Costs:
        return self._costs[node_id]

    def comes(self, job_id: str, arrival: Arrival, now: int) -> None:
        """Before it is submitted."""
        if arrival.at_us < self._scenario.warmup_us:
            self._warmup.add(job_id)
        else:
            self.submitted += 1
        late_after = self._scenario.workload.late_after_percent
        deadline = now + arrival.plan.run_us * late_after // 100 if late_after is not None else None
        self._open[job_id] = _Open(arrival, deadline)

    def refused(self, job_id: str) -> None:
        """SubmitJob refused it."""
        del self._open[job_id]
        self.refused_at_once += self.counts(job_id)
        self.on_job_ended()

    def counts(self, job_id: str) -> bool:
        """The figures are of jobs that came after the warm-up: of those, whatever came of them, and of no other."""
        return job_id not in self._warmup

    @property
    def open_jobs(self) -> int:
        return len(self._open)

    # --- Recorder ---

    def written(self, node: SimulatedNode, writes: Sequence[Write]) -> None:
        takes = self._takes
        for write in writes:
            kind = type(write)
            if kind in takes:
                takes[kind](node, write)

    def runs(self, node: SimulatedNode, execution_id: str, job_id: str, from_us: int, run_us: int) -> None:
        """The execution has its resources from now on, also while it fetches its inputs; its program is to start at
        `from_us`."""
        job = self._open.get(job_id)
        if job is None:
            return
        now, resources = self._world.loop.now, job.arrival.plan.spec.resources
        self._running[execution_id] = _Running(job_id, resources, now, from_us, run_us)
        self.load.append((now, resources.cpu_millicores))

    def begins(self, job_id: str) -> None:
        """The inputs are there, and a program of the job starts."""
        job = self._open.get(job_id)
        if job is not None and job.started_us == NEVER:
            job.started_us = self._world.loop.now

    def ended(self, node: SimulatedNode, execution_id: str) -> None:
        running = self._running.pop(execution_id, None)
        if running is None:
            return
        now, millicores = self._world.loop.now, running.resources.cpu_millicores
        self.load.append((now, -millicores))
        counted_us = now - max(running.loaded_us, self._scenario.warmup_us)
        self.nodes[node.id].busy_millicore_us += max(0, counted_us) * millicores
        ran_us = now - running.from_us
        if 0 < ran_us < running.run_us:  # interrupted: nothing reports what it used until then
            self._spent(node, running.job_id, running.resources, Usage(wall_us=ran_us))

    # --- records ---

    def _happened(self, node: SimulatedNode, entry: JobHappening) -> None:
        if self.events is not None:
            self.events.add(entry)

    def _answered(self, node: SimulatedNode, answer: AnswerReceived) -> None:
        if answer.bid is not None:
            job = self._open.get(answer.job_id)
            if job is not None:
                job.bids += 1

    def _execution(self, node: SimulatedNode, execution: ExecutionRecord) -> None:
        if execution.state is not ExecutionState.COMPLETED:
            return
        job, report = self._open.get(execution.job_id), execution.report
        if job is not None and report is not None:
            job.fetched_bytes += report.usage.fetched_bytes
            job.sound = job.sound and report.result == honest_result(execution.job_id)
        if self.counts(execution.job_id):
            self._trade(execution, job)

    def _trade(self, execution: ExecutionRecord, job: _Open | None) -> None:
        """A completed execution, and what was charged for it."""
        provider = self.nodes[execution.node_id]
        provider.income_microcredits += execution.charged_microcredits
        provider.executions += 1
        self.executions += 1
        if job is None or execution.report is None:
            return
        spec, run_us = job.arrival.plan.spec, job.arrival.plan.run_us
        core_hours = spec.resources.cpu_millicores * run_us / (1000 * HOUR_US)
        if core_hours:
            price = execution.charged_microcredits / MICROCREDITS_PER_CREDIT / core_hours
            self.prices.append((execution.updated_us, spec.resources.cpu_millicores, price))

    def _work(self, node: SimulatedNode, work: WorkRecord) -> None:
        """The provider's side: what the work cost it, paid or not. A result that is revealed was counted before."""
        ended = work.state is WorkState.REPORTED and not work.revealed
        if not ended or work.report is None:
            return
        award, used = work.award, used_of(node, work.report.usage)
        if used.wall_us:
            self._spent(node, award.job_id, award.spec.resources, used)

    def _spent(self, node: SimulatedNode, job_id: str, resources: Resources, used: Usage) -> None:
        if node.profile.honesty.computes and self.counts(job_id):
            spent = self._costs[node.id].spent(job_id, resources, used)
            self.nodes[node.id].spent_microcredits += spent

    def _job_changed(self, node: SimulatedNode, change: JobChanged) -> None:
        if not change.state.ended:
            return
        job = self._open.pop(change.id)
        plan, columns = job.arrival.plan, self.jobs
        if job.deadline_us is not None and change.updated_us > job.deadline_us:
            self.late += self.counts(change.id)
        columns.id.append(change.id)
        columns.state.append(change.state.name.lower())
        columns.fault.append(change.failure.kind.name.lower() if change.failure is not None else "")
        columns.submitted_us.append(job.arrival.at_us)
        columns.started_us.append(job.started_us)
        columns.ended_us.append(change.updated_us)
        columns.cpu_millicores.append(plan.spec.resources.cpu_millicores)
        columns.run_us.append(plan.run_us)
        columns.value_microcredits.append(job.arrival.value_microcredits)
        columns.charged_microcredits.append(change.charged_microcredits)
        columns.bids.append(job.bids)
        columns.fetched_bytes.append(job.fetched_bytes)
        columns.sound.append(int(job.sound))
        self.on_job_ended()

    # --- figures ---

    def figures(self) -> dict[str, float]:
        """Every figure by its name. What is a mean over completed jobs is left out where none was completed."""
        counted = [row for row in self.jobs.rows() if row.submitted_us >= self._scenario.warmup_us]
        completed = [row for row in counted if row.state == _COMPLETED]
        refused = [row for row in counted if row.fault in _REFUSED]
        found: dict[str, float] = {
            "jobs submitted": self.submitted,
            "jobs completed": len(completed),
            "jobs refused": len(refused) + self.refused_at_once,
            "jobs failed": len(counted) - len(completed) - len(refused),
            "jobs late": self.late,
        }
        waits = sorted((row.started_us - row.submitted_us) / SECOND_US for row in completed)
        turnarounds = sorted((row.ended_us - row.submitted_us) / SECOND_US for row in completed)
        for name, values in (("wait", waits), ("turnaround", turnarounds)) if completed else ():
            found[f"{name} mean, s"] = math.fsum(values) / len(values)
            for percent in (50, 90, 99):
                found[f"{name} p{percent}, s"] = percentile(values, percent)
        found |= self._market_figures(completed)
        found |= self._provider_figures()
        # Nobody can tell which job a heartbeat is for: all messages, by all jobs.
        sent, came = self._world.sent, max(1, self.submitted + len(self._warmup))
        found["messages a job"] = sum(sent.values()) / came
        found["messages a job, heartbeats aside"] = (sum(sent.values()) - sent["heartbeat"]) / came
        found["bid decisions"] = sent["offer"]
        found |= self._debts()
        return found

    def _debts(self) -> dict[str, float]:
        """What requesters owe by the books of the providers, and how much of that by those that never pay."""
        defaulters = self._scenario.market.defaulters
        owed = {True: 0, False: 0}
        for node in self._world.nodes.values():
            for peer_id, record in node.journal.books.receivables.items():
                owed[peer_id in defaulters] += record.balance.owed_microcredits
        found = {"owed, credits": (owed[True] + owed[False]) / MICROCREDITS_PER_CREDIT}
        if defaulters:
            found["owed by defaulters, credits"] = owed[True] / MICROCREDITS_PER_CREDIT
        return found

    def _market_figures(self, completed: list[JobRow]) -> dict[str, float]:
        found: dict[str, float] = {}
        if completed:
            charged = [row.charged_microcredits / MICROCREDITS_PER_CREDIT for row in completed]
            found["price mean, credits"] = math.fsum(charged) / len(charged)
        below = 0
        for ceiling, name in CPU_CLASSES:
            prices = [price for _, millicores, price in self.prices if below < millicores <= ceiling]
            if prices:
                found[f"price of a core hour, {name}, credits"] = math.fsum(prices) / len(prices)
            below = ceiling
        value = sum(row.value_microcredits for row in completed if row.sound)
        spent = sum(node.spent_microcredits for node in self.nodes.values())
        found["welfare, credits"] = (value - spent) / MICROCREDITS_PER_CREDIT
        if self.bound_microcredits:
            found["welfare, share of the optimum without contention"] = (
                value - spent
            ) / self.bound_microcredits
        gained = sum(row.value_microcredits - row.charged_microcredits for row in completed if row.sound)
        paid_for_nothing = sum(row.charged_microcredits for row in completed if not row.sound)
        found["users' surplus, credits"] = (gained - paid_for_nothing) / MICROCREDITS_PER_CREDIT
        found["executions a job"] = self.executions / max(1, self.submitted)
        if completed:
            found["bids a job"] = sum(row.bids for row in completed) / len(completed)
            found["fetched a job, MB"] = sum(row.fetched_bytes for row in completed) / len(completed) / 1e6
        found["jobs with a wrong result"] = sum(1 for row in completed if not row.sound)
        return found

    def _provider_figures(self) -> dict[str, float]:
        nodes = list(self.nodes.values())
        income = [node.income_microcredits / MICROCREDITS_PER_CREDIT for node in nodes]
        cheats = [node for node in nodes if node.cheat]
        lasted_us = (self.jobs.ended_us[-1] if self.jobs.ended_us else 0) - self._scenario.warmup_us
        offered = sum(node.cpu_millicores for node in nodes) * lasted_us
        found = {
            "utilisation": sum(node.busy_millicore_us for node in nodes) / offered if offered > 0 else 0.0,
            "provider income mean, credits": math.fsum(income) / max(1, len(income)),
            "provider income Gini": gini(income),
            "provider profit, credits": sum(_profit(node) for node in nodes if not node.cheat),
            "executions of the busiest provider": max((node.executions for node in nodes), default=0),
        }
        groups = dict.fromkeys(node.group for node in nodes)
        if len(groups) > 1:
            for group in groups:
                profit = sum(_profit(node) for node in nodes if node.group == group)
                found[f"profit of {group}, credits"] = profit
        if cheats:
            found["cheaters' profit, credits"] = sum(_profit(node) for node in cheats)
        return found


def _profit(node: NodeTotals) -> float:
    return (node.income_microcredits - node.spent_microcredits) / MICROCREDITS_PER_CREDIT
