"""Experiments: scenarios with several seeds each, on as many cores as there are, and what differs between them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bacalhau.simulation.measures import JobColumns
from bacalhau.simulation.run import simulate
from bacalhau.simulation.statistics import estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bacalhau.simulation.run import Run
    from bacalhau.simulation.scenario import Scenario
    from bacalhau.simulation.statistics import Estimate


@dataclass(frozen=True, slots=True)
class Result:
    """The runs of one scenario, one a seed. Only the first keeps its jobs and events."""

    scenario: Scenario
    runs: tuple[Run, ...]

    def estimates(self) -> dict[str, Estimate]:
        """Every figure, with its confidence interval over the seeds that have it: its `runs` says how many."""
        names = dict.fromkeys(name for run in self.runs for name in run.figures)
        return {
            name: estimate([run.figures[name] for run in self.runs if name in run.figures]) for name in names
        }


def run_all(
    scenarios: Sequence[Scenario],
    *,
    keep_events: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, all: None,
) -> list[Result]:
    """Runs each with its seeds, from its own on. `progress` is told (done, all) after each run. Raises what
    `simulate` raises."""
    tasks = [
        (index, scenario.seed + number)
        for index, scenario in enumerate(scenarios)
        for number in range(scenario.replications)
    ]
    workers = min(workers or os.cpu_count() or 1, len(tasks))
    found: dict[tuple[int, int], Run] = {}
    progress(0, len(tasks))
    if workers == 1:
        for index, seed in tasks:
            found[index, seed] = _run(scenarios[index], seed, keep_events)
            progress(len(found), len(tasks))
    else:
        with _pool(workers) as pool:
            futures = {
                pool.submit(_run, scenarios[index], seed, keep_events): (index, seed) for index, seed in tasks
            }
            for future in as_completed(futures):
                found[futures[future]] = future.result()
                progress(len(found), len(tasks))
    return [
        Result(scenario, tuple(found[task] for task in tasks if task[0] == index))
        for index, scenario in enumerate(scenarios)
    ]


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Where a run fails or the user interrupts, the workers end at once: the other runs may take hours."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, initializer=_begin_worker)
    try:
        yield pool
    except BaseException:  # Ctrl-C too
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()
        raise
    pool.shutdown()


def _begin_worker() -> None:
    """A worker leaves Ctrl-C to the process that began it, and ends with that one, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(scenario: Scenario, seed: int, keep_events: bool) -> Run:
    first = seed == scenario.seed
    run = simulate(scenario, seed, keep_events=keep_events and first)
    return run if first else replace(run, jobs=JobColumns(), prices=[], load=[], nodes=())


def grid(sweeps: Sequence[tuple[str, Sequence[str]]]) -> Iterable[tuple[tuple[str, str], ...]]:
    """Every combination of the values: (field, value) of each."""
    return itertools.product(*[[(field, value) for value in values] for field, values in sweeps])


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of two scenarios that ran with the same seeds, of those seeds that have it on both sides; `paired`
    is of second minus first, seed by seed."""

    first: Estimate
    second: Estimate
    paired: Estimate

    @property
    def is_clear(self) -> bool:
        """Nothing is outside of the interval."""
        return self.paired.half_width is not None and not self.paired.holds(0.0)


def compare(first: Result, second: Result) -> dict[str, Difference]:
    """Of every figure that both have with the same seed. Raises ValueError where the seeds are not the same."""
    seeds = [[run.seed for run in result.runs] for result in (first, second)]
    if seeds[0] != seeds[1]:
        raise ValueError("paired differences want the same seeds on both sides")
    differences = {}
    for name in first.estimates():
        pairs = [
            (before.figures[name], after.figures[name])
            for before, after in zip(first.runs, second.runs, strict=True)
            if name in before.figures and name in after.figures
        ]
        if pairs:
            ours, theirs = zip(*pairs, strict=True)
            apart = [after - before for before, after in pairs]
            differences[name] = Difference(estimate(ours), estimate(theirs), estimate(apart))
    return differences
