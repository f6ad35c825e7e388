"""What is left of a run on disk: tables, plots, a page. The only place that needs the extra `simulation`."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

from bacalhau import __version__
from bacalhau.simulation.statistics import CONFIDENCE

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.simulation.experiment import Result

_PARTS = ("numpy", "polars", "matplotlib")


class PartsMissing(Exception):
    """The extra is not installed; says how to install it."""


def check_parts() -> None:
    """Raises PartsMissing."""
    missing = [name for name in _PARTS if importlib.util.find_spec(name) is None]
    if missing:
        raise PartsMissing(
            f"tables and plots need {', '.join(missing)}: install them with `pip install 'bacalhau[simulation]'`"
        )


def write_report(result: Result, scenario_text: str, folder: Path) -> list[Path]:
    """Everything about one scenario, in a folder that is made where it is not there. Tables and plots are of the
    first seed, figures of all. Raises PartsMissing, OSError."""
    check_parts()
    from bacalhau.simulation.report import page, plots, tables

    folder.mkdir(parents=True, exist_ok=True)
    run = result.runs[0]
    scenario = folder / "scenario.yaml"
    scenario.write_text(scenario_text, "utf-8")
    summary = folder / "summary.json"
    summary.write_text(json.dumps(plain_summary(result), indent=2, ensure_ascii=False) + "\n", "utf-8")
    written = [scenario, summary, tables.write_jobs(run, folder / "jobs.csv")]
    if run.events is not None:
        written.append(tables.write_events(run, folder / "events.parquet"))
    pictures = plots.write_plots(run, folder)
    written += pictures
    written.append(page.write_page(result, scenario_text, pictures, folder / "report.html"))
    return written


def plain_summary(result: Result) -> dict[str, object]:
    """The figures of a scenario as JSON data."""
    return {
        "scenario": result.scenario.name,
        "version": __version__,
        "seeds": [run.seed for run in result.runs],
        "digests": [run.digest for run in result.runs],
        "confidence": CONFIDENCE,
        "figures": {
            name: {"mean": found.mean, "half_width": found.half_width, "runs": found.runs}
            for name, found in result.estimates().items()
        },
        "messages": result.runs[0].sent,
    }
