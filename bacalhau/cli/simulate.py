"""`bacalhau simulate`: markets and faults in simulated time. Parsing and printing; the work is bacalhau.simulation."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK, SYSTEM_FAILURE, CommandFailure, UsageFailure
from bacalhau.cli.parsing import Subparsers, add_switch, add_verb, whole_number

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bacalhau.simulation.experiment import Result
    from bacalhau.simulation.scenario import Scenario

_EXAMPLE = """\
bacalhau simulate --list
bacalhau simulate busy-day --out ./busy-day
bacalhau simulate my-market.yaml --seed 7 --replications 20
bacalhau simulate busy-day --sweep market.offers_to=2,5,10,all
bacalhau simulate compare before.yaml after.yaml
bacalhau simulate faults --seeds 100
bacalhau simulate replay ./node.trace"""
_DESCRIPTION = """\
Run a marketplace in simulated time: the code of live nodes, thousands of them. SCENARIO is a file, or the name
of a ready scenario. Instead of it may stand:

  compare A B     the differences of two scenarios, seed by seed
  faults          stories of lost messages, crashes and full disks, each checked; see --seeds
  replay TRACE    events that `bacalhau serve --trace` has written, and whether they have the same effects again"""
_FAULTS_PROGRESS_S = 5.0
_FLAGS = {
    "a scenario": ("seed", "replications", "set", "sweep", "workers", "out", "output"),
    "compare": ("seed", "replications", "set", "workers", "output"),
    "faults": ("seed", "seeds", "seconds", "short_leases", "short_credit", "compared", "restored"),
    "replay": (),
    "--list": ("list",),
}
"""Which flags each of them takes."""


def register(verbs: Subparsers) -> None:
    parser = add_verb(
        verbs,
        "simulate",
        run_simulate,
        help="run a marketplace in simulated time",
        description=_DESCRIPTION,
        example=_EXAMPLE,
        node=False,
    )
    parser.add_argument("words", nargs="*", metavar="SCENARIO", help="what to simulate")
    add_switch(parser, "--list", help="print the ready scenarios")
    parser.add_argument("--seed", type=whole_number(0, 2**63 - 1), help="the first seed (the scenario's)")
    parser.add_argument("--replications", type=whole_number(1), help="runs, one a seed (the scenario's)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="replace a value of the scenario"
    )
    parser.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="FIELD=A,B,C",
        help="run with each; several make a grid",
    )
    parser.add_argument("--workers", type=whole_number(1), help="runs at the same time (as many as cores)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write tables, plots and a page there; needs the extra simulation",
    )
    parser.add_argument("--output", choices=("table", "json", "yaml"), default="table", help="(table)")
    faults = parser.add_argument_group("of faults")
    faults.add_argument("--seeds", type=whole_number(1), help="how many stories (1)")
    faults.add_argument(
        "--seconds", type=whole_number(1), help="go on for so long instead, with one seed after the other"
    )
    add_switch(faults, "--short-leases", help="leases of three seconds: work is awarded again and again")
    add_switch(faults, "--short-credit", help="nodes give little credit, and refuse what would be more")
    add_switch(faults, "--compared", help="jobs compare their results, and some nodes cheat")
    add_switch(faults, "--restored", help="nodes are restored from backups, and forget what came since")


def run_simulate(args: argparse.Namespace) -> int:
    from bacalhau.simulation.report import PartsMissing
    from bacalhau.simulation.workload import TraceFailure
    from bacalhau.yamlfile import FileFailure

    try:
        return _run(args)
    except (FileFailure, TraceFailure) as failure:
        raise UsageFailure(str(failure)) from failure
    except PartsMissing as missing:
        raise CommandFailure(str(missing)) from missing


def _run(args: argparse.Namespace) -> int:
    match args.words:
        case [] if args.list:
            _check_flags(args, "--list")
            return _list()
        case ["compare", first, second]:
            _check_flags(args, "compare")
            return _compare(args, first, second)
        case ["faults"]:
            _check_flags(args, "faults")
            return _faults(args)
        case ["replay", trace]:
            _check_flags(args, "replay")
            return _replay(Path(trace))
        case [scenario] if scenario not in ("compare", "faults", "replay"):
            _check_flags(args, "a scenario")
            return _simulate(args, scenario)
    raise UsageFailure("name one scenario, or see `bacalhau simulate --list` and `bacalhau simulate --help`")


def _check_flags(args: argparse.Namespace, what: str) -> None:
    """Raises UsageFailure for a flag that would change nothing of it."""
    for name in dict.fromkeys(name for names in _FLAGS.values() for name in names):
        value = getattr(args, name)
        given = not (value is None or value is False or value in ([], "table"))
        if given and name not in _FLAGS[what]:
            takers = " and ".join(taker for taker, names in _FLAGS.items() if name in names)
            raise UsageFailure(f"--{name.replace('_', '-')} is nothing that {what} takes: it is for {takers}")
    if args.seeds is not None and args.seconds is not None:
        raise UsageFailure("--seeds and --seconds both say how many stories: leave out one")


def _list() -> int:
    from bacalhau.cli.output import print_table
    from bacalhau.simulation.reading import ready_scenarios

    print_table(("NAME", "ABOUT"), [(found.name, found.about) for found in ready_scenarios()])
    return OK


# --- scenarios ---


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for word in words:
        field, equals, value = word.partition("=")
        if not equals or not field:
            raise UsageFailure(f"{word!r} should be FIELD=VALUE, for instance market.offers_to=10")
        pairs.append((field, value))
    return pairs


def _read(args: argparse.Namespace, name: str, *settings: tuple[str, str]) -> tuple[Scenario, str]:
    """The scenario with what the command line says of it, and as YAML that runs so again."""
    from bacalhau.simulation.reading import find_scenario, read_scenario, written_scenario

    text, file = find_scenario(name)
    given = [*_pairs(args.set), *settings]
    given += [
        (field, str(value))
        for field in ("seed", "replications")
        if (value := getattr(args, field)) is not None
    ]
    return read_scenario(text, file, given), written_scenario(text, file, given)


def _simulate(args: argparse.Namespace, name: str) -> int:
    from bacalhau.simulation.experiment import grid, run_all

    if args.out is not None:
        from bacalhau.simulation.report import check_parts

        check_parts()
    sweeps = _sweeps(args)
    points = list(grid(sweeps))
    read = [_read(args, name, *point) for point in points]
    scenarios = [scenario for scenario, _ in read]
    if args.out is not None:  # it is told now, and not after hours, that nothing can be written there
        args.out.mkdir(parents=True, exist_ok=True)
    with _Bar("simulating") as progress:
        results = run_all(
            scenarios, keep_events=args.out is not None, workers=args.workers, progress=progress
        )
    if sweeps:
        _print_sweep(args, points, results)
    else:
        _print_result(args, results[0])
    if args.out is not None:
        _write(args.out, points, read, results)
    return OK


def _sweeps(args: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """Fields and their values. Raises UsageFailure where something else would take their place."""
    sweeps = [(field, _values(values)) for field, values in _pairs(args.sweep)]
    fields = [field for field, _ in sweeps]
    for field in fields:
        if fields.count(field) > 1:
            raise UsageFailure(f"--sweep {field} comes twice: name all of its values at once")
        if field in ("seed", "replications") and getattr(args, field) is not None:
            raise UsageFailure(f"--{field} and --sweep {field} both say it: leave out one")
    return sweeps


def _values(text: str) -> list[str]:
    """Separated by commas that are not inside of brackets."""
    values, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            values.append("")
        else:
            values[-1] += letter
    return values


def _write(
    out: Path,
    points: list[tuple[tuple[str, str], ...]],
    read: list[tuple[Scenario, str]],
    results: list[Result],
) -> None:
    from bacalhau.simulation.report import write_report

    for point, (_, text), result in zip(points, read, results, strict=True):
        name = ",".join(f"{field}={value}" for field, value in point).replace("/", "_")
        for path in write_report(result, text, out / name if point else out):
            print(path, file=sys.stderr)


def _print_result(args: argparse.Namespace, result: Result) -> None:
    from bacalhau.cli.output import print_plain, print_table
    from bacalhau.simulation.report import plain_summary
    from bacalhau.simulation.report.numbers import interval, number

    if args.output != "table":
        print_plain(plain_summary(result), args.output)
        return
    print(f"{result.scenario.name}: {result.scenario.about} ({_seeds([result])})\n")
    rows = [
        (name, number(found.mean), interval(found, len(result.runs)))
        for name, found in result.estimates().items()
    ]
    print_table(("FIGURE", "MEAN", ""), rows)
    print(f"\ndigest of seed {result.runs[0].seed}: {result.runs[0].digest}")


def _seeds(results: list[Result]) -> str:
    """All that ran, for people: a sweep may be over seeds too."""
    seeds = sorted({run.seed for result in results for run in result.runs})
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    gapless = seeds[-1] - seeds[0] + 1 == len(seeds)
    shown = f"{seeds[0]} to {seeds[-1]}" if gapless else ", ".join(map(str, seeds))
    return f"seeds {shown}, intervals of 95%"


def _print_sweep(
    args: argparse.Namespace, points: list[tuple[tuple[str, str], ...]], results: list[Result]
) -> None:
    from bacalhau.cli.output import print_plain, print_table
    from bacalhau.simulation.report import plain_summary
    from bacalhau.simulation.report.numbers import interval, number

    if args.output != "table":
        plain = [
            {"settings": dict(point), **plain_summary(result)}
            for point, result in zip(points, results, strict=True)
        ]
        print_plain(plain, args.output)
        return
    print(f"{results[0].scenario.name}: {results[0].scenario.about} ({_seeds(results)})\n")
    header = ["FIGURE", *(" ".join(f"{_short(field, p)}={value}" for field, value in p) for p in points)]
    columns = [
        {
            name: f"{number(e.mean)} {interval(e, len(result.runs))}".strip()
            for name, e in result.estimates().items()
        }
        for result in results
    ]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    print_table(header, rows)


def _short(field: str, point: tuple[tuple[str, str], ...]) -> str:
    """The last word of the field, where no other of them ends with it."""
    last = field.rpartition(".")[2]
    return last if [other.rpartition(".")[2] for other, _ in point].count(last) == 1 else field


def _compare(args: argparse.Namespace, first: str, second: str) -> int:
    from bacalhau.cli.output import print_plain, print_table
    from bacalhau.simulation.experiment import compare, run_all
    from bacalhau.simulation.report.numbers import interval, number
    from bacalhau.simulation.statistics import CONFIDENCE

    scenarios = [_read(args, name)[0] for name in (first, second)]
    if (scenarios[0].seed, scenarios[0].replications) != (scenarios[1].seed, scenarios[1].replications):
        raise UsageFailure("paired differences want the same seeds: give both --seed and --replications")
    with _Bar("simulating") as progress:
        results = run_all(scenarios, workers=args.workers, progress=progress)
    differences = compare(results[0], results[1])
    names = [scenario.name for scenario in scenarios]
    if names[0] == names[1]:  # two files of one scenario
        names = [first, second]
    if args.output != "table":
        figures = {
            name: {"first": d.first.mean, "second": d.second.mean, "difference": d.paired.mean,
                   "half_width": d.paired.half_width, "runs": d.paired.runs}
            for name, d in differences.items()
        }  # fmt: skip
        seeds = [run.seed for run in results[0].runs]
        plain = {"scenarios": names, "seeds": seeds, "confidence": CONFIDENCE, "figures": figures}
        print_plain(plain, args.output)
        return OK
    print(f"{names[1]} less {names[0]}, seed by seed ({_seeds(results)})\n")
    rows = [
        (name, number(d.first.mean), number(d.second.mean), number(d.paired.mean),
         interval(d.paired, scenarios[0].replications),
         "clear" if d.is_clear else "")
        for name, d in differences.items()
    ]  # fmt: skip
    print_table(("FIGURE", *names, "DIFFERENCE", "", ""), rows)
    return OK


# --- faults and traces ---


def _faults(args: argparse.Namespace) -> int:
    from bacalhau.simulation.stories import SHORT_CREDIT, SHORT_LEASES, BrokenPromise, tell

    config = SHORT_LEASES if args.short_leases else None
    credit = SHORT_CREDIT if args.short_credit else None
    first = args.seed or 0
    began = said = time.monotonic()
    seed, broken, last = first, 0, first + (args.seeds or 1) - 1
    while time.monotonic() - began < args.seconds if args.seconds is not None else seed <= last:
        try:
            tell(seed, requester=config, compared=args.compared, credit=credit, restored=args.restored)
        except BrokenPromise as failure:
            broken += 1
            print(failure, flush=True)
        seed += 1
        if time.monotonic() - said > _FAULTS_PROGRESS_S:
            said = time.monotonic()
            print(f"{seed - first} stories, {broken} broken promises", file=sys.stderr, flush=True)
    print(f"seeds {first} to {seed - 1}: {seed - first} stories, {broken} broken promises")
    return SYSTEM_FAILURE if broken else OK


def _replay(path: Path) -> int:
    from bacalhau.simulation.replay import ReplayFailure, replay

    try:
        replayed = replay(path)
    except ReplayFailure as failure:
        raise CommandFailure(str(failure)) from failure
    print(
        f"{replayed.steps} steps in {replayed.lives} lives of node {replayed.node}: the same effects, byte for byte"
    )
    return OK


class _Bar:
    """A progress bar on a terminal; nothing on a pipe."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: object = None

    def __enter__(self) -> Callable[[int, int], None]:
        if not sys.stderr.isatty():
            return lambda done, all: None
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(self._what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=Console(stderr=True), transient=True)
        bar.start()
        task = bar.add_task(self._what, total=None)
        self._bar = bar
        return lambda done, all: bar.update(task, completed=done, total=all)

    def __exit__(self, *failure: object) -> None:
        from rich.progress import Progress

        if isinstance(self._bar, Progress):
            self._bar.stop()
