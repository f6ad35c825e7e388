"""Steady jobs on a network of nodes for as long as told: are memory and open files of each node flat?

As a command: `scripts/soak_network --minutes 60 --nodes 5`. The first quarter of the time warms caches and fills what
is kept; growth is that from the second quarter's median to the last's. What is kept is full after some 5,000 jobs on
five nodes, most of it after 700 (docs/operations.md, Memory): a run with fewer in its first quarter shows it filling.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import wasmtime

from bacalhau.v1.job_pb2 import JobSpec, JobState, OutputPath, WasmTask
from bacalhau.v1.job_service_pb2 import GetJobRequest, SubmitJobRequest
from tests.e2e.nodes import WAIT_SECONDS, Network, NodeProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = 200
ENDING_S = 60.0
MAX_GROWTH = 0.10
"""Of memory, as a share; what a busier garbage collector or a larger cache may cost."""
MAX_MORE_FILES = 5
# Writes its argument to stdout, so that no two results are equal.
PROGRAM = """
(module
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $args_get (i32.const 64) (i32.const 128)))
    (i32.store (i32.const 0) (i32.load (i32.const 68)))
    (i32.store (i32.const 4) (i32.const 10))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one node used at one time."""

    minute: float
    rss_bytes: int
    open_files: int
    threads: int


def sample(node: NodeProcess, begun: float) -> Sample:
    process = psutil.Process(node.pid)
    return Sample(
        (time.monotonic() - begun) / 60,
        process.memory_info().rss,
        process.num_fds(),
        process.num_threads(),
    )


def submit(requester: NodeProcess, module: str, number: int) -> str:
    task = WasmTask(module_cid=module, arguments=[f"{number:010}"])
    spec = JobSpec(name=f"steady-{number}", wasm=task, outputs=[OutputPath(name="outputs", path="/outputs")])
    spec.resources.cpu_millicores = 100
    spec.resources.memory_bytes = 64 << 20
    return str(requester.jobs.SubmitJob(SubmitJobRequest(spec=spec), timeout=WAIT_SECONDS).job.id)


def run(
    nodes: Sequence[NodeProcess], *, seconds: float, pause_s: float
) -> tuple[list[list[Sample]], Counter[str]]:
    """Each node in turn asks for a job, until the time is over. The samples of each node, and how the jobs ended."""
    module_path = nodes[0].folder.with_name("steady.wasm")
    module_path.write_bytes(bytes(wasmtime.wat2wasm(PROGRAM)))
    module = ""
    for node in nodes:
        module = node.cli("ipfs", "add", "-Q", str(module_path)).stdout.strip()
    samples: list[list[Sample]] = [[] for _ in nodes]
    submitted: list[tuple[NodeProcess, str]] = []
    begun = due = time.monotonic()
    while time.monotonic() - begun < seconds:
        requester = nodes[len(submitted) % len(nodes)]
        submitted.append((requester, submit(requester, module, len(submitted))))
        if time.monotonic() >= due:
            due += seconds / SAMPLES
            for node, taken in zip(nodes, samples, strict=True):
                taken.append(sample(node, begun))
        time.sleep(pause_s)
    states: Counter[str] = Counter()
    deadline = time.monotonic() + ENDING_S
    for requester, job_id in submitted:
        while True:
            state = requester.jobs.GetJob(GetJobRequest(job_id=job_id)).job.state
            if state >= JobState.JOB_STATE_COMPLETED or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        states[JobState.Name(state).removeprefix("JOB_STATE_").lower()] += 1
    return samples, states


def growth(taken: Sequence[Sample]) -> tuple[float, int]:
    """From the second quarter's median to the last's: of memory as a share, and of open files."""
    quarter = len(taken) // 4
    early, late = taken[quarter : 2 * quarter], taken[-quarter:]
    memory = [statistics.median(one.rss_bytes for one in part) for part in (early, late)]
    files = [statistics.median(one.open_files for one in part) for part in (early, late)]
    return memory[1] / memory[0] - 1, round(files[1] - files[0])


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak_network", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.15, help="seconds between two jobs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        network = Network(Path(folder))
        try:
            flags = ("--p2p-listen", "/ip4/127.0.0.1/tcp/0")
            first = network.start("node-1", *flags)
            others = [network.node(f"node-{number}", *flags) for number in range(2, args.nodes + 1)]
            network.join(first, *others)
            samples, states = run((first, *others), seconds=args.minutes * 60, pause_s=args.pause)
        finally:
            network.end()
    flat = True
    print("node  memory MiB: at first, after a quarter, at last   growth   open files  threads")
    for number, taken in enumerate(samples, 1):
        more_memory, more_files = growth(taken)
        flat = flat and more_memory <= MAX_GROWTH and more_files <= MAX_MORE_FILES
        at = [taken[index].rss_bytes / 2**20 for index in (0, len(taken) // 4, -1)]
        print(
            f"{number:4}  {at[0]:.0f}, {at[1]:.0f}, {at[2]:.0f}   {more_memory:+.1%}   "
            f"{taken[0].open_files} to {taken[-1].open_files} ({more_files:+})   {taken[-1].threads}"
        )
    print("jobs:", ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
    return 0 if flat and set(states) == {"completed"} else 1


if __name__ == "__main__":
    sys.exit(main())
