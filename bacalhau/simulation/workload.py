"""The jobs of a simulated market: when they come, what they ask for, what they are worth.

Generated one after the other, so that memory holds the open ones only. Traces are read line by line.
"""

from __future__ import annotations

import csv
import math
import reprlib
from pathlib import Path
from typing import TYPE_CHECKING

from bacalhau.model.auction import AuctionTerms
from bacalhau.model.cid import RAW, Cid
from bacalhau.model.frozen import dataclass
from bacalhau.model.job import DockerTask, Engine, InputSource, JobSpec, Timeouts, WasmTask
from bacalhau.model.market import ClaimedInput
from bacalhau.model.resources import Resources
from bacalhau.model.units import DAY_US, HOUR_US, KIB, SECOND_US
from bacalhau.simulation.scenario import ArrivalKind
from bacalhau.simulation.world import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from bacalhau.simulation.scenario import Arrivals, Scenario, Trace, Workload

_LIMIT_MIN_US = SECOND_US
_SWF_FIELDS = 18
_SWF_PARTIAL = (2, 3, 4)
_SWF_CANCELLED = 5
_SWF_ROUNDED_TO_0_S = 0.25
"""A run time of 0 is one of less than half a second."""
_NUMBER_MAX = 9e12
"""Of what a trace says: so many seconds are still microseconds of 64 bits."""
_GAP_DAYS_MAX = 366
"""Between two jobs of a trace. Seconds since 1970, or what is no seconds, would be decades of heartbeats."""
_MODULE = Cid.of(RAW, b"module")


class TraceFailure(Exception):
    """The trace cannot be read: names the file, the line, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job that comes at `at_us`, for the requester with this number."""

    at_us: int
    requester: int
    plan: Plan
    value_microcredits: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a job asks for, as drawn or traced."""

    at_us: int
    cpu_millicores: int
    memory_bytes: int
    run_us: int
    limit_us: int
    value_microcredits: int | None = None


def data_sets(scenario: Scenario, random: Random) -> tuple[ClaimedInput, ...]:
    """The data of a scenario: every set with its size."""
    data = scenario.workload.data
    if data is None:
        return ()
    return tuple(
        ClaimedInput(Cid.of(RAW, f"data set {index}".encode()), data.size_bytes.draw(random))
        for index in range(data.count)
    )


def arrivals(scenario: Scenario, sets: tuple[ClaimedInput, ...], random: Random) -> Iterator[Arrival]:
    """The jobs in the order in which they come, until the scenario's number or duration. Raises TraceFailure."""
    workload = scenario.workload
    asked = _traced(workload, random) if workload.trace is not None else _drawn(workload, random)
    weights = _zipf(len(sets)) if workload.data is not None and workload.data.skewed else None
    task = DockerTask("busybox") if workload.engine is Engine.DOCKER else WasmTask(_MODULE)
    terms = AuctionTerms(scenario.market.rule, scenario.market.weights)
    for number, job in enumerate(asked):
        if scenario.jobs is not None and number >= scenario.jobs:
            return
        if scenario.duration_us is not None and job.at_us >= scenario.duration_us:
            return
        inputs: tuple[ClaimedInput, ...] = ()
        if workload.data is not None:
            picked = random.choices(sets, cum_weights=weights, k=workload.data.per_job)
            inputs = tuple({claimed.cid: claimed for claimed in picked}.values())
        value = _value(workload, job, random) if job.value_microcredits is None else job.value_microcredits
        budget = workload.value.budget_percent
        spec = JobSpec(
            task=task,
            count=workload.replicas,
            inputs=tuple(InputSource(claimed.cid, f"/inputs/{i}") for i, claimed in enumerate(inputs)),
            resources=Resources(job.cpu_millicores, job.memory_bytes, workload.disk_bytes.draw(random)),
            timeouts=Timeouts(execution_us=job.limit_us, queue_us=workload.queue_us),
            max_price_microcredits=None if budget is None else value * budget // 100,
            auction=terms,
            verification=scenario.market.verification,
        )
        if workload.engine is Engine.WASM:
            inputs = (*inputs, ClaimedInput(_MODULE, 0))
        plan = Plan(spec, job.run_us, inputs, workload.result_bytes.draw(random))
        yield Arrival(job.at_us, random.randrange(scenario.market.requesters), plan, value)


def _value(workload: Workload, job: _Asked, random: Random) -> int:
    amount = workload.value.amount.draw(random)
    if not workload.value.per_cpu_hour:
        return amount
    return amount * job.cpu_millicores * job.run_us // (1000 * HOUR_US)


def _zipf(count: int) -> list[float]:
    total, cumulated = 0.0, []
    for rank in range(1, count + 1):
        total += 1 / rank
        cumulated.append(total)
    return cumulated


# --- drawn ---


def _drawn(workload: Workload, random: Random) -> Iterator[_Asked]:
    for at_us in _times(workload.arrivals, random):
        run_us = max(1, workload.run_us.draw(random))
        limit_us = max(_LIMIT_MIN_US, run_us * workload.overestimate_percent // 100)
        cpu, memory = workload.cpu_millicores.draw(random), workload.memory_bytes.draw(random)
        yield _Asked(at_us, cpu, memory, run_us, limit_us)


def _times(arrivals: Arrivals, random: Random) -> Iterator[int]:
    at = 0.0
    every = arrivals.every_us
    match arrivals.kind:
        case ArrivalKind.POISSON:
            while True:
                at += random.expovariate(1.0) * every
                yield int(at)
        case ArrivalKind.FIXED:
            while True:
                yield int(at)
                at += every
        case ArrivalKind.BURSTS:
            while True:
                at += random.expovariate(1.0) * every
                for _ in range(arrivals.size):
                    yield int(at)
        case ArrivalKind.DIURNAL:
            # Thinning (Lewis and Shedler 1979): candidates at twice the mean rate, kept with the rate's share of it.
            while True:
                at += random.expovariate(2.0) * every
                share = (1 - math.cos(2 * math.pi * at / arrivals.period_us)) / 2
                if random.random() < share:
                    yield int(at)


# --- traced ---


def _traced(workload: Workload, random: Random) -> Iterator[_Asked]:
    trace = workload.trace
    if trace is None:
        raise AssertionError("there is no trace")
    return _swf(trace, workload, random) if trace.form == "swf" else _csv(trace, workload, random)


def _swf(trace: Trace, workload: Workload, random: Random) -> Iterator[_Asked]:
    """The Standard Workload Format, version 2.2: 18 numbers a line, -1 is unknown, `;` begins a comment
    (https://www.cs.huji.ac.il/labs/parallel/workload/swf.html). Processors are cores, memory is per processor.
    Jobs that never ran are left out (no processors, no known run time, or none and cancelled), and so are the lines of
    parts of a job that was swapped out: one line before them sums it up."""
    with Path(trace.path).open(encoding="utf-8", errors="replace") as file:
        last_us = 0
        for number, line in enumerate(file, 1):
            text = line.partition(";")[0].split()
            if not text:
                continue
            if len(text) != _SWF_FIELDS:
                raise TraceFailure(f"{trace.path}:{number}: a job has 18 fields, here are {len(text)}")
            try:
                fields = [_number(f"field {index}", field) for index, field in enumerate(text, 1)]
            except ValueError as error:
                raise TraceFailure(f"{trace.path}:{number}: a field is no number: {error}") from error
            submit, run, status = fields[1], fields[3], int(fields[10])
            processors = int(fields[4] if fields[4] > 0 else fields[7])
            used_kib, asked_kib, limit = fields[6], fields[9], fields[8]
            if status in _SWF_PARTIAL or (run == 0 and status == _SWF_CANCELLED):
                continue
            if run < 0 or processors <= 0 or submit < 0:
                continue
            kib = asked_kib if asked_kib > 0 else used_kib
            memory = int(kib * KIB) * processors if kib > 0 else workload.memory_bytes.draw(random)
            run_us = max(1, int((run or _SWF_ROUNDED_TO_0_S) * SECOND_US))
            limit_us = int(limit * SECOND_US) if limit > 0 else run_us * workload.overestimate_percent // 100
            last_us = _submitted_us(trace, number, submit, last_us)
            yield _Asked(
                last_us,
                processors * 1000,
                memory,
                run_us,
                max(limit_us, _LIMIT_MIN_US),
            )


def _number(name: str, text: str) -> float:
    """Raises ValueError for what is no number of a size that can be used."""
    try:
        number = float(text)
    except (TypeError, ValueError):  # a row that is too long has a list
        raise ValueError(f"{name} is {reprlib.repr(text)}") from None
    if not abs(number) <= _NUMBER_MAX:
        raise ValueError(f"{name} is {reprlib.repr(text)}, which is not up to {_NUMBER_MAX:g}")
    return number


def _submitted_us(trace: Trace, line: int, submit_s: float, last_us: int) -> int:
    """When the job comes. Raises TraceFailure where that is before the job of the line above, or long after it."""
    at_us = int(submit_s * SECOND_US) * trace.scale_percent // 100
    if at_us < last_us:
        raise TraceFailure(f"{trace.path}:{line}: comes before the job above: sort by the time of submission")
    if at_us - last_us > _GAP_DAYS_MAX * DAY_US:
        days = (at_us - last_us) // DAY_US
        raise TraceFailure(
            f"{trace.path}:{line}: comes {days} days after what is above, more than {_GAP_DAYS_MAX}: submission is"
            " in seconds from the beginning of the trace, and workload.trace.scale below 1 shortens it"
        )
    return at_us


_CSV_COLUMNS = {"submit_s": 0, "run_s": 1e-6, "cpu": 0.001, "memory_bytes": 1, "limit_s": 1e-6, "value": 0}
"""With the least of each."""


def _csv(trace: Trace, workload: Workload, random: Random) -> Iterator[_Asked]:
    """Columns submit_s and run_s, and where they are there cpu (cores), memory_bytes, limit_s and value (credits);
    the others are drawn."""
    # Excel begins the file with a byte order mark.
    with Path(trace.path).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        try:
            yield from _rows(trace, reader, workload, random)
        except csv.Error as error:
            line = reader.line_num + 1  # which is not counted yet
            raise TraceFailure(f"{trace.path}:{line}: this is no CSV: {error}") from error


def _rows(trace: Trace, reader: csv.DictReader[str], workload: Workload, random: Random) -> Iterator[_Asked]:
    last_us, names = 0, reader.fieldnames or ()
    for needed in ("submit_s", "run_s"):
        if needed not in names:
            raise TraceFailure(f"{trace.path}:1: there is no column {needed}")
    for name in names:
        if name not in _CSV_COLUMNS:
            raise TraceFailure(f"{trace.path}:1: unknown column {name}; known: {', '.join(_CSV_COLUMNS)}")
    for row in reader:
        try:
            given = {name: _number(name, text) for name, text in row.items() if text}
        except ValueError as error:
            raise TraceFailure(f"{trace.path}:{reader.line_num}: a field is no number: {error}") from error
        if given.get("run_s", 0) <= 0 or given.get("submit_s", -1) < 0:
            raise TraceFailure(f"{trace.path}:{reader.line_num}: needs submit_s from 0 and run_s above 0")
        for name, number in given.items():
            if number < _CSV_COLUMNS[name]:
                least = f"{name} should be at least {_CSV_COLUMNS[name]:g}, not {row[name]}"
                raise TraceFailure(f"{trace.path}:{reader.line_num}: {least}")
        run_us = int(given["run_s"] * SECOND_US)
        limit_us = int(given["limit_s"] * SECOND_US) if "limit_s" in given else 0
        last_us = _submitted_us(trace, reader.line_num, given["submit_s"], last_us)
        yield _Asked(
            last_us,
            int(given["cpu"] * 1000) if "cpu" in given else workload.cpu_millicores.draw(random),
            int(given["memory_bytes"]) if "memory_bytes" in given else workload.memory_bytes.draw(random),
            run_us,
            max(limit_us or run_us * workload.overestimate_percent // 100, _LIMIT_MIN_US),
            int(given["value"] * 1_000_000) if "value" in given else None,
        )
