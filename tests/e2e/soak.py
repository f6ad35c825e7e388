"""Jobs on one node that is killed (SIGKILL) at random moments and restarted: how many complete, and what of the rest.

As a command: `scripts/soak_restarts --jobs 100 --kills 12 --seed 1`.
"""

from __future__ import annotations

import argparse
import random as randomness
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import wasmtime

from bacalhau.v1.execution_pb2 import EXECUTION_STATE_COMPLETED
from bacalhau.v1.job_pb2 import DockerTask, Job, JobSpec, JobState, WasmTask
from bacalhau.v1.job_service_pb2 import GetJobRequest, ListJobsRequest, SubmitJobRequest
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.e2e.nodes import Network, NodeProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

SUBMISSIONS_PER_SECOND = 2.0
KILL_PAUSE_S = (2.0, 6.0)
LIFE_S = (0.0, 3.0)
ENDING_SECONDS = 120.0
RETRY_SECONDS = 0.2
WASM_OUTPUT = b"soaked\n"
# Writes a line, then spins for about half a second.
PROGRAM = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "soaked\\n")
  (func (export "_start") (local $turns i64)
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 7))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $turns (i64.const 300000000))
    (loop $again
      (local.set $turns (i64.sub (local.get $turns) (i64.const 1)))
      (br_if $again (i64.ne (local.get $turns) (i64.const 0))))))
"""


@dataclass(slots=True)
class Figures:
    """What came of a run. `wrong` names each promise that was broken; `unfinished` says why jobs did not complete."""

    kills: int = 0
    completed: int = 0
    seconds: float = 0
    attempts: Counter[int] = field(default_factory=Counter)
    states: Counter[int] = field(default_factory=Counter)
    unfinished: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def run(node: NodeProcess, *, jobs: int, kills: int, random: Random) -> Figures:
    """Submits so many jobs while the node is killed so many times; returns when all have ended, or after a time."""
    begun = time.monotonic()
    figures = Figures()
    node.start()
    module = _add_module(node)
    specs = [_spec(number, module, random) for number in range(jobs)]
    submitted: list[tuple[str, bytes]] = []
    submitting = threading.Thread(target=_submit_all, args=(node.api_address, specs, submitted))
    submitting.start()
    for _ in range(kills):
        time.sleep(random.uniform(*KILL_PAUSE_S))
        node.kill()
        figures.kills += 1
        if random.random() < 0.3:  # the next life is killed too, while it still takes up its work
            node.begin()
            time.sleep(random.uniform(*LIFE_S))
            node.kill()
            figures.kills += 1
        node.start()
    submitting.join(ENDING_SECONDS)
    _judge(node, jobs, submitted, figures)
    figures.seconds = time.monotonic() - begun
    return figures


def _add_module(node: NodeProcess) -> str:
    path = node.folder.with_name("soak.wasm")
    path.write_bytes(bytes(wasmtime.wat2wasm(PROGRAM)))
    added = node.cli("ipfs", "add", "-Q", str(path))
    assert added.returncode == 0, added.stderr
    return added.stdout.strip()


def _spec(number: int, module: str, random: Random) -> tuple[JobSpec, bytes]:
    """A job, and what its stdout must be: one line from its only run."""
    spec = JobSpec(name=f"soak-{number}", count=1)
    spec.resources.cpu_millicores = 100
    spec.resources.memory_bytes = 64 << 20
    if number % 3 == 2:
        spec.wasm.CopyFrom(WasmTask(module_cid=module))
        return spec, WASM_OUTPUT
    script = f"echo job {number}; sleep {random.uniform(0, 3):.2f}; echo ended"
    spec.docker.CopyFrom(DockerTask(image="busybox", command=["sh", "-c", script]))
    return spec, f"job {number}\nended\n".encode()


def _again(call: Callable[[JobServiceStub], Job], address: str, seconds: float) -> Job:
    """Calls until the node answers, on a new connection each time."""
    deadline = time.monotonic() + seconds
    while True:
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                return call(JobServiceStub(channel))
            except grpc.RpcError as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"no answer for {seconds:g} seconds: {error}") from error
        time.sleep(RETRY_SECONDS)


def _submit_all(address: str, specs: list[tuple[JobSpec, bytes]], submitted: list[tuple[str, bytes]]) -> None:
    for number, (spec, expected) in enumerate(specs):
        request = SubmitJobRequest(spec=spec, request_id=f"soak-{number}")

        def submit(jobs: JobServiceStub, request: SubmitJobRequest = request) -> Job:
            job: Job = jobs.SubmitJob(request, timeout=10).job
            return job

        submitted.append((_again(submit, address, ENDING_SECONDS).id, expected))
        time.sleep(1 / SUBMISSIONS_PER_SECOND)


def _judge(node: NodeProcess, jobs: int, submitted: list[tuple[str, bytes]], figures: Figures) -> None:
    if len(submitted) != jobs:
        figures.wrong.append(f"only {len(submitted)} of {jobs} jobs could be submitted")
    deadline = time.monotonic() + ENDING_SECONDS
    for job_id, expected in submitted:
        job = _until_ended(node, job_id, deadline)
        figures.states[job.state] += 1
        if job.state != JobState.JOB_STATE_COMPLETED:
            figures.unfinished.append(f"{job_id} {JobState.Name(job.state)}: {job.failure.message}")
            if job.state == JobState.JOB_STATE_FAILED and not job.failure.message:
                figures.wrong.append(f"{job_id} failed and does not say why")
            continue
        figures.completed += 1
        figures.wrong += _broken_promises(node, job, expected, figures)
    listed = node.jobs.ListJobs(ListJobsRequest(page_size=1000)).jobs
    if len(listed) != len(submitted):
        figures.wrong.append(f"{len(submitted)} jobs were submitted and {len(listed)} are listed")
    try:
        node.wait_idle()
    except AssertionError as error:
        figures.wrong.append(str(error))


def _until_ended(node: NodeProcess, job_id: str, deadline: float) -> Job:
    while True:
        job: Job = node.jobs.GetJob(GetJobRequest(job_id=job_id)).job
        if job.state >= JobState.JOB_STATE_COMPLETED or time.monotonic() > deadline:
            return job
        time.sleep(RETRY_SECONDS)


def _broken_promises(node: NodeProcess, job: Job, expected: bytes, figures: Figures) -> list[str]:
    completed = [execution for execution in job.executions if execution.state == EXECUTION_STATE_COMPLETED]
    wrong = []
    if len(completed) != 1:
        wrong.append(f"{job.id} has {len(completed)} completed executions")
    if (
        not 0
        < job.charged_microcredits
        == completed[0].charged_microcredits
        <= completed[0].price_microcredits
    ):
        wrong.append(
            f"{job.id} was charged {job.charged_microcredits}, its price {completed[0].price_microcredits}"
        )
    figures.attempts[completed[0].report.attempt] += 1
    output = node.cli("ipfs", "cat", f"{completed[0].report.result_cid}/stdout")
    if output.stdout.encode() != expected:
        wrong.append(f"{job.id} wrote {output.stdout!r}, not {expected!r} ({output.stderr})")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak_restarts", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument(
        "--kills", type=int, default=12, help="at least so many; some lives are killed at once again"
    )
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        network = Network(Path(folder))
        try:
            node = network.node("node", "--heartbeat", "500ms")
            figures = run(node, jobs=args.jobs, kills=args.kills, random=randomness.Random(args.seed))
        finally:
            network.end()
    print(f"jobs {args.jobs}, kills {figures.kills}, completed {figures.completed}, {figures.seconds:.0f} s")
    print(
        "attempts:",
        ", ".join(f"{count} with {attempt}" for attempt, count in sorted(figures.attempts.items())),
    )
    for line in (*figures.unfinished, *figures.wrong):
        print(" ", line)
    return 0 if figures.completed * 100 >= args.jobs * 95 and not figures.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
