"""`bacalhau get`: fetches the results of a job into a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK
from bacalhau.cli.parsing import Subparsers, add_switch, add_verb

if TYPE_CHECKING:
    import argparse

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
    from bacalhau.cli.results import fetch_results
    from bacalhau.v1.job_service_pb2 import GetJobRequest

    identifier, _, path = args.id.partition("/")
    node = Node.of(args)
    job = node.call(node.jobs.GetJob, GetJobRequest(job_id=job_id(identifier))).job
    fetch_results(node, job, args, path.strip("/"))
    return OK
