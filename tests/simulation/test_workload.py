"""Jobs as drawn and as traced."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.model.units import HOUR_US, SECOND_US
from bacalhau.simulation.distributions import Constant
from bacalhau.simulation.run import simulate
from bacalhau.simulation.scenario import (
    ArrivalKind,
    Arrivals,
    Market,
    NodeGroup,
    Scenario,
    Trace,
    ValueModel,
    Workload,
)
from bacalhau.simulation.workload import TraceFailure, arrivals

if TYPE_CHECKING:
    from pathlib import Path

SWF = """\
; Version: 2.2
; Computer: a made-up one
1 0    5 100 4 -1 512 4 300 1024 1 7 1 -1 1 -1 -1 -1
2 60  -1  30 -1 -1 -1 2 -1  -1   1 7 1 -1 1 -1 -1 -1
3 90  -1  -1 8 -1 -1 8 60  -1   0 7 1 -1 1 -1 -1 -1

4 120 1  10.5 1 -1 -1 1 20 -1 1 7 1 -1 1 -1 -1 -1 ; the last
"""


def scenario(workload: Workload, jobs: int = 1000) -> Scenario:
    return Scenario("test", (NodeGroup("node", 1),), workload=workload, jobs=jobs)


def traced(path: Path, form: str, **changes: int) -> Workload:
    return Workload(
        trace=Trace(str(path), form, **changes), memory_bytes=Constant(7), overestimate_percent=300
    )


def test_a_trace_in_the_standard_workload_format_is_read_as_its_definition_says(tmp_path: Path) -> None:
    path = tmp_path / "trace.swf"
    path.write_text(SWF)
    jobs = list(arrivals(scenario(traced(path, "swf")), (), Random(1)))
    asked = [
        (
            job.at_us // SECOND_US,
            job.plan.spec.resources.cpu_millicores,
            job.plan.spec.resources.memory_bytes,
            job.plan.run_us,
            job.plan.spec.timeouts.execution_us // SECOND_US,
        )
        for job in jobs
    ]
    # The third never ran; unknown memory and limits are the workload's.
    assert asked == [
        (0, 4000, 4 * 1024 * 1024, 100 * SECOND_US, 300),
        (60, 2000, 7, 30 * SECOND_US, 90),
        (120, 1000, 7, 10_500_000, 20),
    ]


def test_a_job_that_was_swapped_out_or_ran_for_less_than_a_second_comes_once(tmp_path: Path) -> None:
    """Status is the eleventh field: 2 to 4 are parts of the job whose line with 1 stands before them."""
    path = tmp_path / "trace.swf"
    rest = "-1 -1 2 60 -1 {} -1 -1 -1 -1 -1 -1 -1\n"
    lines = [("1 0 3 30 2", 1), ("1 0 3 10 2", 2), ("1 -1 3 20 2", 3), ("2 5 3 0 2", 1), ("3 6 3 0 2", 5)]
    path.write_text("".join(f"{job} {rest.format(status)}" for job, status in lines))
    jobs = list(arrivals(scenario(traced(path, "swf")), (), Random(1)))
    assert [(job.at_us, job.plan.run_us) for job in jobs] == [
        (0, 30 * SECOND_US),
        (5 * SECOND_US, SECOND_US // 4),
    ]


def test_a_trace_can_be_stretched(tmp_path: Path) -> None:
    path = tmp_path / "trace.swf"
    path.write_text(SWF)
    jobs = list(arrivals(scenario(traced(path, "swf", scale_percent=50)), (), Random(1)))
    assert [job.at_us // SECOND_US for job in jobs] == [0, 30, 60]


def test_a_csv_of_jobs_may_say_what_each_is_worth(tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("submit_s,run_s,cpu,value\n0,10,2,0.5\n1.5,20,,\n")
    first, second = arrivals(scenario(traced(path, "csv")), (), Random(1))
    assert (first.plan.spec.resources.cpu_millicores, first.value_microcredits) == (2000, 500_000)
    assert (second.at_us, second.plan.spec.resources.cpu_millicores) == (1_500_000, 1000)
    assert second.value_microcredits == 1_000_000


def test_a_csv_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_bytes(b"\xef\xbb\xbfsubmit_s,run_s\r\n0,10\r\n")
    (job,) = arrivals(scenario(traced(path, "csv")), (), Random(1))
    assert job.plan.run_us == 10 * SECOND_US


@pytest.mark.parametrize(
    ("form", "text", "complaint"),
    [
        ("swf", "; nothing\n1 2 3\n", "trace:2: a job has 18 fields, here are 3"),
        ("swf", SWF + "x 0 5 1 4 -1 5 4 3 1 1 7 1 -1 1 -1 -1 -1\n", "trace:8: a field is no number"),
        ("csv", "run_s\n1\n", "trace:1: there is no column submit_s"),
        ("csv", "submit_s,run_s,colour\n1,1,red\n", "trace:1: unknown column colour"),
        ("csv", "submit_s,run_s\n1,0\n", "trace:2: needs submit_s from 0 and run_s above 0"),
        ("csv", "submit_s,run_s\nnan,1\n", "trace:2: a field is no number: submit_s is 'nan'"),
        ("csv", "submit_s,run_s,cpu\n0,1,1\n1,1,inf\n", "trace:3: a field is no number: cpu is 'inf'"),
        ("csv", "submit_s,run_s\n1,1e300\n", "trace:2: a field is no number: run_s is '1e300'"),
        ("csv", "submit_s,run_s\n1,1,7\n", "trace:2: a field is no number"),
        ("csv", "submit_s,run_s,cpu\n0,1,-1\n", "trace:2: cpu should be at least 0.001, not -1"),
        ("csv", "submit_s,run_s,cpu\n0,1,0\n", "trace:2: cpu should be at least 0.001, not 0"),
        ("csv", "submit_s,run_s,memory_bytes\n0,1,-5\n", "trace:2: memory_bytes should be at least 1"),
        ("csv", "submit_s,run_s,limit_s\n0,1,0\n", "trace:2: limit_s should be"),
        ("csv", "submit_s,run_s,value\n0,1,-0.5\n", "trace:2: value should be at least 0"),
        ("csv", "submit_s,run_s\n5,1\n9,1\n7,1\n", "trace:4: comes before the job above"),
        ("csv", f"submit_s,run_s\n0,1\n1,{'7' * 200_000}\n", "trace:3: this is no CSV: field larger than"),
        ("csv", f"submit_s,{'run_s' * 40_000}\n0,1\n", "trace:1: this is no CSV: field larger than"),
        ("csv", "submit_s,run_s\n0,1\n1,1\0\n", r"trace:3: a field is no number: run_s is '1.x00'"),
        ("csv", "submit_s,run_s\n0,1\n1,\udcff\n", "trace:3: a field is no number: run_s is '\ufffd'"),
        ("csv", f"submit_s,run_s\n1,{'x' * 200}\n", r"trace:2: a field is no number: run_s is '.{0,30}'$"),
        (
            "csv",
            "submit_s,run_s\n1700000000,1\n",
            "trace:2: comes 19675 days after what is above, more than 366: submission is in seconds from the"
            " beginning of the trace, and workload.trace.scale below 1 shortens it",
        ),
        (
            "swf",
            SWF + "5 nan 5 1 4 -1 5 4 3 1 1 7 1 -1 1 -1 -1 -1\n",
            "trace:8: a field is no number: field 2 is",
        ),
        (
            "swf",
            SWF + "5 200 5 inf 4 -1 5 4 3 1 1 7 1 -1 1 -1 -1 -1\n",
            "trace:8: a field is no number: field 4",
        ),
        ("swf", SWF + "5 60 5 1 4 -1 5 4 3 1 1 7 1 -1 1 -1 -1 -1\n", "trace:8: comes before the job above"),
    ],
)
def test_a_wrong_trace_is_refused_with_its_line(form: str, text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(TraceFailure, match=complaint):
        list(arrivals(scenario(traced(path, form)), (), Random(1)))


def test_a_trace_of_years_runs_to_its_last_job(tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    days = (0, 300, 366, 600, 960)
    path.write_text("submit_s,run_s\n" + "".join(f"{day * 24 * 3600},60\n" for day in days))
    heartbeats = Market(heartbeat_us=24 * HOUR_US)
    run = simulate(replace(scenario(traced(path, "csv")), market=heartbeats))
    assert [at_us // (24 * HOUR_US) for at_us in run.jobs.submitted_us] == list(days)
    assert run.figures["jobs completed"] == len(days)


@pytest.mark.parametrize("kind", list(ArrivalKind))
def test_jobs_come_in_order_and_as_often_as_said(kind: ArrivalKind) -> None:
    rhythm = Arrivals(kind, every_us=SECOND_US, size=1, period_us=100 * SECOND_US)
    jobs = list(arrivals(scenario(Workload(arrivals=rhythm), jobs=4000), (), Random(3)))
    assert all(earlier.at_us <= later.at_us for earlier, later in pairwise(jobs))
    assert jobs[-1].at_us / 4000 == pytest.approx(SECOND_US, rel=0.06)


def test_a_day_has_its_rush_at_noon() -> None:
    rhythm = Arrivals(ArrivalKind.DIURNAL, every_us=SECOND_US, period_us=1000 * SECOND_US)
    jobs = list(arrivals(scenario(Workload(arrivals=rhythm), jobs=20_000), (), Random(3)))
    phases = [job.at_us % (1000 * SECOND_US) for job in jobs]
    noon = sum(1 for phase in phases if abs(phase - 500 * SECOND_US) < 100 * SECOND_US)
    night = sum(1 for phase in phases if min(phase, 1000 * SECOND_US - phase) < 100 * SECOND_US)
    assert noon > 20 * night


@given(st.integers(0, 10**6), st.integers(1, 100), st.booleans())
def test_nobody_is_asked_for_more_than_the_budget(seed: int, percent: int, per_hour: bool) -> None:
    value = ValueModel(Constant(500_000), per_cpu_hour=per_hour, budget_percent=percent)
    workload = replace(Workload(), value=value)
    for job in islice(arrivals(scenario(workload), (), Random(seed)), 5):
        assert job.plan.spec.max_price_microcredits == job.value_microcredits * percent // 100
