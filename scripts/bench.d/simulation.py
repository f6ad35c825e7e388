"""The speed of simulated markets: bid decisions through the full machines on one core, and the bare event loop.

Each run is a process of its own, so that its memory is its own. Speed is counted in time of the processor, for that is
what one core gives; SimPy's timeouts are measured in the same rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from claims import CannotMeasure, Claim, Finding, Goal, Round
from nodes import REPOSITORY

EVERYBODY_S = Claim("1,000 nodes × 1,000 jobs, offers to all", "", "s", Goal.AT_MOST, 60)
EVERYBODY_MIB = Claim("peak memory of that", "", "MiB", Goal.AT_MOST, 1024)
SWARM_S = Claim("10,000 nodes × 100,000 jobs, each offer to ten", "", "s", Goal.AT_MOST, 120)
DECISIONS = Claim("bid decisions a minute", "", "decisions/min", Goal.AT_LEAST, 1_000_000)
LINEAR = Claim("time of a decision among 1,000 nodes", "among 100 nodes", "µs", Goal.AT_MOST, 1.5)
LOOP = Claim("bare event loop, events a second", "SimPy timeouts a second", "1/s", Goal.AT_LEAST, 1.0)
CLAIMS = (EVERYBODY_S, EVERYBODY_MIB, SWARM_S, DECISIONS, LINEAR, LOOP)

_RUN = """
import json, sys, time
from memory import peak_kib
from bacalhau.simulation.reading import find_scenario, read_scenario
from bacalhau.simulation.run import simulate
scenario = read_scenario(*find_scenario(sys.argv[1]), [tuple(word.split("=", 1)) for word in sys.argv[2:]])
began = time.process_time()
run = simulate(scenario)
spent = time.process_time() - began
print(json.dumps({
    "seconds": spent, "decisions": run.sent["offer"], "events": run.handled,
    "completed": run.figures["jobs completed"],
    "mib": peak_kib() / 1024,
}))
"""
_LOOPS = """
import json, time
import simpy
from bacalhau.simulation.loop import EventLoop
COUNT, PROCESSES = 400_000, 100

def ours():
    loop, left = EventLoop(), [COUNT]
    def tick(period):
        left[0] -= 1
        if left[0] > 0:
            loop.after(period, tick, period)
    for number in range(PROCESSES):
        loop.after(number, tick, 100 + number)
    began = time.process_time()
    loop.run(10**12)
    return loop.handled / (time.process_time() - began)

def theirs():
    world, left = simpy.Environment(), [COUNT]
    def process(period):
        while left[0] > 0:
            left[0] -= 1
            yield world.timeout(period)
    for number in range(PROCESSES):
        world.process(process(100 + number))
    began = time.process_time()
    world.run()
    return COUNT / (time.process_time() - began)

print(json.dumps([ours(), theirs()]))
"""


def measure(folder: Path, *, quick: bool) -> list[Finding]:
    """`quick` runs a tenth of the jobs of the two large runs, and scales their time, that of building the world too."""
    share = 10 if quick else 1
    everybody, swarm = Finding(EVERYBODY_S), Finding(SWARM_S)
    memory, decisions, linear, loop = (
        Finding(EVERYBODY_MIB),
        Finding(DECISIONS),
        Finding(LINEAR),
        Finding(LOOP),
    )
    for _ in range(2 if quick else 3):
        ours, theirs = _python(_LOOPS)
        loop.rounds.append(Round(ours, theirs))
        many, few = (
            _run("everybody", f"nodes.node.count={count}", f"jobs={50_000 // count}") for count in (1000, 100)
        )
        linear.rounds.append(Round(*(run["seconds"] / run["decisions"] * 1e6 for run in (many, few))))
    found = _run("everybody", f"jobs={1000 // share}")
    everybody.rounds.append(Round(found["seconds"] * share))
    if found["mib"]:
        memory.rounds.append(Round(found["mib"]))
    else:
        memory.missing = "there is no /proc here"
    decisions.rounds.append(Round(found["decisions"] / found["seconds"] * 60))
    found = _run("swarm", f"jobs={100_000 // share}")
    swarm.rounds.append(Round(found["seconds"] * share))
    swarm.notes.append(f"peak memory {found['mib']:.0f} MiB, {found['events']} events")
    decisions.notes.append("from the run with offers to all")
    for count in (100, 1000, 10_000):
        run = _run("swarm", f"nodes.node.count={count}", "jobs=2000", "workload.arrivals.poisson.every=200ms")
        linear.notes.append(
            f"{count} nodes, 2,000 jobs to ten of them: {run['decisions']} decisions, {run['seconds']:.1f} s, "
            f"{run['mib']:.0f} MiB"
        )
    return [everybody, memory, swarm, decisions, linear, loop]


def _run(*words: str) -> dict[str, float]:
    found = _python(_RUN, *words)
    if not isinstance(found, dict) or not found["completed"]:
        raise CannotMeasure(f"the simulation {' '.join(words)} completed no job")
    return found


def _python(code: str, *words: str) -> dict[str, float] | list[float]:
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        check=False,
    )
    if done.returncode:
        raise CannotMeasure(f"the simulation failed: {done.stderr.strip().splitlines()[-1:]}")
    result: dict[str, float] | list[float] = json.loads(done.stdout)
    return result
