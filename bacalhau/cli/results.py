"""The results of a job: which there are, and fetching them into a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bacalhau.cli.failures import CommandFailure, UsageFailure

if TYPE_CHECKING:
    import argparse

    from bacalhau.cli.connection import Node
    from bacalhau.v1.execution_pb2 import Execution
    from bacalhau.v1.job_pb2 import Job


def completed_executions(job: Job) -> list[Execution]:
    """The executions whose results were accepted, oldest first."""
    from bacalhau.v1.execution_pb2 import EXECUTION_STATE_COMPLETED

    return [execution for execution in job.executions if execution.state == EXECUTION_STATE_COMPLETED]


def fetch_results(node: Node, job: Job, args: argparse.Namespace, path: str = "") -> None:
    """Fetch the result folders of a job, or `path` in them, and say where they are.

    One result becomes the folder itself; several, or with --raw, lie in it under their executions' ids.
    Raises CommandFailure where the job has none yet, UsageFailure where the folder exists.
    """
    from bacalhau.cli.downloads import fetch
    from bacalhau.cli.names import enum_name, short_id
    from bacalhau.cli.uploads import Counter
    from bacalhau.model.units import SECOND_US
    from bacalhau.v1.job_pb2 import JobState

    results = {
        item.id: item.report.result_cid for item in completed_executions(job) if item.report.result_cid
    }
    if not results:
        state = enum_name(JobState, job.state)
        why = f": {job.failure.message}" if job.HasField("failure") else ""
        raise CommandFailure(f"job {job.id} has no result ({state}{why}); see `bacalhau describe {job.id}`")
    folder = Path(args.output_dir or f"job-{short_id(job.id).removeprefix('j-')}")
    _make_room(folder)
    timeout = args.download_timeout_secs / SECOND_US if args.download_timeout_secs else None
    with Counter(f"fetching the result of {job.id}", quiet=args.quiet) as counter:
        for execution_id, cid in results.items():
            apart = args.raw or len(results) > 1
            target = folder / execution_id if apart else folder
            if path:
                target /= os.path.basename(path)
            fetch(
                node,
                f"{cid}/{path}" if path else cid,
                target,
                received=counter,
                coming=counter.coming,
                timeout_seconds=timeout,
            )
    if not args.quiet:
        print(f"results of job {job.id} are in {folder}", file=sys.stderr)


def _make_room(folder: Path) -> None:
    """An empty folder may be given; anything else that is there is not written over."""
    if not os.path.lexists(folder):
        return
    try:
        folder.rmdir()
    except OSError as error:
        raise UsageFailure(
            f"{folder} exists and is not empty: name another folder with --output-dir, or move it away"
        ) from error
