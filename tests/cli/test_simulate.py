"""`bacalhau simulate`: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import polars
import psutil
import pytest

from bacalhau.cli.main import run
from bacalhau.scheduler.records import ExecutionRecord
from bacalhau.scheduler.requester import RequesterMachine
from bacalhau.simulation.profile import Machines
from tests.e2e.nodes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.scheduler import effects as fx
    from bacalhau.scheduler.events import RequesterEvent

SMALL = ["--set", "jobs=30", "--set", "nodes.seller.count=2"]


class Page(HTMLParser):
    """The pictures and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]


def test_ready_scenarios_are_listed_with_what_they_are_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--list"]) == 0
    assert re.search(r"^busy-day +A day of a small market", capsys.readouterr().out, re.MULTILINE)


def test_a_scenario_is_summed_up_with_intervals_and_its_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["simulate", "first-price", "--replications", "3", "--seed", "5", "--workers", "1", *SMALL]) == 0
    )
    shown = capsys.readouterr().out
    assert "seeds 5 to 7" in shown
    assert re.search(r"^price mean, credits +0\.\d+ +± 0\.\d+$", shown, re.MULTILINE)
    assert re.search(r"^digest of seed 5: [0-9a-f]{64}$", shown, re.MULTILINE)


def test_programs_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["simulate", "first-price", "--replications", "2", "--workers", "1", "--output", "json", *SMALL])
        == 0
    )
    summary = json.loads(capsys.readouterr().out)
    assert (summary["scenario"], summary["seeds"]) == ("first-price", [1, 2])
    assert summary["figures"]["jobs completed"]["mean"] == 30


def test_everything_about_a_scenario_is_written_with_its_seed(tmp_path: Path) -> None:
    words = ["simulate", "cheats", "--set", "jobs=60", "--replications", "2", "--workers", "1"]
    assert run([*words, "--out", str(tmp_path)]) == 0
    with (tmp_path / "jobs.csv").open(newline="") as file:
        jobs = list(csv.DictReader(file))
    assert len(jobs) == 60
    assert {(row["scenario"], row["seed"]) for row in jobs} == {("cheats", "1")}
    events = polars.read_parquet(tmp_path / "events.parquet")
    assert events["seed"].unique().to_list() == [1]
    assert events.schema["seed"] == polars.Int64  # whatever the seed: files of several can be joined
    assert events["job_id"].n_unique() == 60
    for name in ("price", "utilisation", "wait", "income"):
        png = (tmp_path / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert b"scenario cheats, seed 1" in png
    page = (tmp_path / "report.html").read_text()
    parsed = Page()
    parsed.feed(page)
    assert len(parsed.sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in parsed.sources)
    assert "seeds 1 to 2" in page
    assert json.loads((tmp_path / "summary.json").read_text())["seeds"] == [1, 2]
    assert (tmp_path / "scenario.yaml").read_text().startswith("# --set jobs=60\n# --set replications=2\n")


def test_what_was_written_runs_again_to_the_same_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--replications", "1", "--output", "json"]
    assert run(["simulate", "first-price", *SMALL, *words, "--out", str(tmp_path)]) == 0
    first = json.loads(capsys.readouterr().out)
    assert run(["simulate", str(tmp_path / "scenario.yaml"), *SMALL, *words]) == 0
    assert json.loads(capsys.readouterr().out)["digests"] == first["digests"]


def test_a_scenario_with_settings_and_a_trace_runs_again_by_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "jobs.csv").write_text("submit_s,run_s\n0,5\n3,9\n8,2\n")
    (tmp_path / "there" / "own.yaml").write_text(
        "nodes: [{cpu: 4}]\nworkload: {trace: {csv: jobs.csv}}\njobs: 3\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["--set", "nodes[0].speed=2", "--sweep", "workload.memory=1Gi,2Gi", "--seed", "4"]
    assert run(["simulate", "there/own.yaml", *words, "--output", "json", "--out", "out"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    for summary, size in ((first, "1Gi"), (second, "2Gi")):
        written = tmp_path / "out" / f"workload.memory={size}" / "scenario.yaml"
        assert run(["simulate", str(written), "--output", "json"]) == 0
        again = json.loads(capsys.readouterr().out)
        for name in ("scenario", "seeds", "digests", "figures"):
            assert again[name] == summary[name]


def test_a_scenario_that_says_no_name_and_no_seed_is_written_with_both(tmp_path: Path) -> None:
    scenario = tmp_path / "small.yaml"
    scenario.write_text("nodes: [{cpu: 2}]\njobs: 2\nname:\n")
    assert run(["simulate", str(scenario), "--out", str(tmp_path / "out")]) == 0
    written = (tmp_path / "out" / "scenario.yaml").read_text()
    assert written.splitlines()[-2:] == ['name: "small"', "seed: 1"]


def test_a_sweep_has_a_column_for_each_combination(capsys: pytest.CaptureFixture[str]) -> None:
    sweeps = [
        "--sweep",
        "nodes.seller.count=2,3",
        "--sweep",
        "nodes.seller.cost={per_job: {uniform: [0, 1]}}",
    ]
    words = ["simulate", "first-price", "--set", "jobs=20", "--replications", "1", "--workers", "1"]
    assert run([*words, *sweeps]) == 0
    title, _, header, *_ = capsys.readouterr().out.splitlines()
    assert title.startswith("first-price: Theory")
    assert title.endswith("(seed 1)")
    assert "count=2 cost={per_job: {uniform: [0, 1]}}" in header
    assert "count=3 cost=" in header


def test_fields_of_a_sweep_that_end_alike_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "cheats", "--set", "jobs=5", "--replications", "1", "--workers", "1"]
    assert run([*words, "--sweep", "nodes.honest.count=3", "--sweep", "nodes.inflator.count=1,2"]) == 0
    header = capsys.readouterr().out.splitlines()[2]
    assert "nodes.honest.count=3 nodes.inflator.count=1  " in header
    assert "nodes.honest.count=3 nodes.inflator.count=2" in header


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert run(["simulate", "first-price", *SMALL, "--out", str(tmp_path / "out")]) == 125
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"bacalhau: {tmp_path / 'out'}: File exists\n")


def _runs(process: psutil.Process) -> bool:
    """It is there, and is no zombie that nobody has waited for."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_a_sweep_that_is_interrupted_ends_at_once_with_all_its_workers(by: signal.Signals, code: int) -> None:
    grid = ["--set", "jobs=10000000", "--sweep", "seed=1,2,3,4", "--workers", "2"]
    command = [sys.executable, "-m", "bacalhau", "simulate", "first-price", *grid]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as sweep:
        try:
            parent = psutil.Process(sweep.pid)
            wait_until(lambda: len(parent.children()) == 2, "both workers run")
            workers = parent.children()
            sweep.send_signal(by)
            assert sweep.wait(timeout=30) == code
            wait_until(lambda: not any(map(_runs, workers)), "no worker runs")
            assert sweep.stderr is not None
            assert sweep.stderr.read().strip() == b""
        finally:
            sweep.kill()


def test_two_scenarios_are_compared_seed_by_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["simulate", "compare", "first-price", "second-price", "--replications", "3", "--set", "jobs=20"])
        == 0
    )
    shown = capsys.readouterr().out
    title, _, header, *_ = shown.splitlines()
    assert title == "second-price less first-price, seed by seed (seeds 1 to 3, intervals of 95%)"
    assert re.search(r"^FIGURE +first-price +second-price +DIFFERENCE", header)
    assert re.search(r"^jobs completed +20 +20 +0 ", shown, re.MULTILINE)


def test_two_files_of_one_scenario_are_told_apart_and_programs_get_their_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "before.yaml", tmp_path / "after.yaml"]
    for path, price in zip(paths, (1, 2), strict=True):
        path.write_text(
            f"name: same\nnodes: [{{pricing: {{strategy: flat, price: 0.{price}}}}}]\njobs: 3\nreplications: 2\n"
        )
    words = ["simulate", "compare", *map(str, paths), "--seed", "5", "--workers", "1"]
    assert run([*words, "--output", "json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["scenarios"], plain["seeds"]) == ([str(path) for path in paths], [5, 6])
    assert plain["figures"]["jobs completed"]["runs"] == 2
    assert run(words) == 0
    header = capsys.readouterr().out.splitlines()[2]
    assert header.split() == ["FIGURE", *map(str, paths), "DIFFERENCE"]


def test_stories_of_faults_are_told_by_their_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "faults", "--seed", "3", "--seeds", "2", "--compared"]) == 0
    assert capsys.readouterr().out == "seeds 3 to 4: 2 stories, 0 broken promises\n"


def test_stories_go_on_for_as_long_as_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "faults", "--seconds", "1"]) == 0
    told = re.fullmatch(r"seeds 0 to (\d+): (\d+) stories, 0 broken promises\n", capsys.readouterr().out)
    assert told is not None
    assert int(told[1]) + 1 == int(told[2]) >= 1


class ChargesTwice(RequesterMachine):
    """Writes each completed execution once more, at twice the price."""

    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        effects.writes += [
            replace(write, charged_microcredits=2 * write.charged_microcredits)
            for write in effects.writes
            if isinstance(write, ExecutionRecord) and write.charged_microcredits
        ]
        return effects


def test_a_broken_promise_is_shown_with_its_seed_and_the_command_that_shows_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bacalhau.simulation.stories.Machines", lambda: Machines(requester=ChargesTwice))
    flags = "--short-leases --compared --short-credit --restored"
    assert run(["simulate", "faults", "--seeds", "4", *flags.split()]) == 125
    shown = capsys.readouterr().out
    found = re.search(r"^seed (\d): (.+)\nto see it again: bacalhau (simulate .+)$", shown, re.MULTILINE)
    assert found is not None
    seed, complaint, command = found.groups()
    assert command == f"simulate faults --seed {seed} {flags}"
    assert run(command.split()) == 125
    again = capsys.readouterr().out
    assert f"seed {seed}: {complaint}\n" in again
    assert again.endswith(f"seeds {seed} to {seed}: 1 stories, 1 broken promises\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "name one scenario"),
        (["nowhere"], "no ready scenario of that name"),
        (["first-price", "--set", "jobs"], "should be FIELD=VALUE"),
        (["first-price", "--set", "jobs=["], "jobs: '[' is no YAML"),
        (["first-price", "--set", "nodes.buyer.count=2"], "the list has no buyer"),
        (["first-price", "--set", "jobs=many"], "jobs: should be a whole number"),
        (["first-price", "--sweep", "jobs=1,2", "--sweep", "jobs=3"], "--sweep jobs comes twice"),
        (["first-price", "--seed", "3", "--sweep", "seed=1,2"], "--seed and --sweep seed both say it"),
        (["/"], "/ is a folder: name the file in it, for instance /scenario.yaml"),
        (["compare", "first-price"], "name one scenario"),
        (["--list", "first-price"], "--list is nothing that a scenario takes: it is for --list"),
        (
            ["--list", "--output", "json"],
            "--output is nothing that --list takes: it is for a scenario and compare",
        ),
        (["first-price", "--seeds", "3"], "--seeds is nothing that a scenario takes: it is for faults"),
        (["first-price", "--compared"], "--compared is nothing that a scenario takes: it is for faults"),
        (["compare", "a", "b", "--out", "o"], "--out is nothing that compare takes: it is for a scenario"),
        (["compare", "a", "b", "--sweep", "jobs=1,2"], "--sweep is nothing that compare takes"),
        (["faults", "--out", "o"], "--out is nothing that faults takes: it is for a scenario"),
        (
            ["faults", "--set", "jobs=1"],
            "--set is nothing that faults takes: it is for a scenario and compare",
        ),
        (["faults", "--seeds", "1", "--seconds", "1"], "leave out one"),
        (["replay", "t", "--seed", "0"], "--seed is nothing that replay takes: it is for a scenario"),
        (["compare", "first-price", "busy-day"], "want the same seeds"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_what_to_do(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_a_trace_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace"
    path.write_text("hello\n")
    assert run(["simulate", "replay", str(path)]) == 125
    assert "trace:1: this is no JSON" in capsys.readouterr().err
