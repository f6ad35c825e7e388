"""The tables of a run: jobs as CSV, the history of every job as Parquet. Each row has scenario and seed."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.simulation.run import Run


def write_jobs(run: Run, path: Path) -> Path:
    """A row a job; times in microseconds, -1 where it never came to that."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("scenario", "seed", *run.jobs.names()))
        for row in run.jobs.rows():
            writer.writerow((run.scenario.name, run.seed, *row))
    return path


def write_events(run: Run, path: Path) -> Path:
    """A row for each entry of each job's history, in the order of time."""
    import polars

    events = run.events
    if events is None:
        raise ValueError("the run kept no events")
    frame = polars.DataFrame(
        {
            "time_us": polars.Series(events.time_us, dtype=polars.Int64),
            "job_id": events.job_id,
            "sequence": polars.Series(events.sequence, dtype=polars.Int64),
            "type": polars.Series(events.type, dtype=polars.Categorical),
            "node_id": events.node_id,
            "execution_id": events.execution_id,
            "price_microcredits": polars.Series(events.price_microcredits, dtype=polars.Int64),
            "refusal": polars.Series(events.refusal, dtype=polars.String),
        }
    )
    frame = frame.with_columns(
        polars.lit(run.scenario.name).alias("scenario"),
        polars.lit(run.seed, dtype=polars.Int64).alias(
            "seed"
        ),  # the same type for every seed: files are joined
    )
    frame.write_parquet(path)
    return path
