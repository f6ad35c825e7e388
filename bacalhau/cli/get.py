"""`bacalhau get`: fetches the results of a job into a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK, CommandFailure, UsageFailure
from bacalhau.cli.parsing import Subparsers, add_switch, add_verb

if TYPE_CHECKING:
    import argparse

    from bacalhau.cli.connection import Node
    from bacalhau.v1.job_pb2 import Job

_EXAMPLE = """\
bacalhau get j-1a2b3c4d
bacalhau get j-1a2b3c4d/stdout
bacalhau get --output-dir ./results j-1a2b3c4d"""


def register(verbs: Subparsers) -> None:
    add_get(verbs, _EXAMPLE)


def add_get(verbs: Subparsers, example: str) -> None:
    """The verb, on its own or in the group `job`."""
    from bacalhau.cli.runflags import add_fetch_flags

    parser = add_verb(verbs, "get", run, help="fetch the results of a job", example=example)
    parser.add_argument(
        "id", metavar="ID[/PATH]", help="the job's id, or the beginning of it; a path in its result"
    )
    add_fetch_flags(parser.add_argument_group("where to"))
    add_switch(parser, "-q", "--quiet", help="print no progress")


def run(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.names import job_id
    from bacalhau.v1.job_service_pb2 import GetJobRequest

    identifier, _, path = args.id.partition("/")
    node = Node.of(args)
    job = node.call(node.jobs.GetJob, GetJobRequest(job_id=job_id(identifier))).job
    fetch_results(node, job, args, path.strip("/"))
    return OK


def fetch_results(node: Node, job: Job, args: argparse.Namespace, path: str = "") -> None:
    """Fetch the result folders of a job, or `path` in them, and say where they are.

    One result becomes the folder itself; several, or with --raw, lie in it under their executions' ids.
    Raises CommandFailure where the job has none yet, UsageFailure where the folder exists.
    """
    from bacalhau.cli.downloads import fetch
    from bacalhau.cli.follow import completed_executions
    from bacalhau.cli.names import enum_name, short_id
    from bacalhau.cli.quantities import SECOND_US
    from bacalhau.cli.uploads import Counter
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
            fetch(node, f"{cid}/{path}" if path else cid, target, received=counter, timeout_seconds=timeout)
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
