"""`bacalhau cancel` and `bacalhau job stop`: stop a job at whatever stage it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK
from bacalhau.cli.parsing import Subparsers, add_switch, add_verb

if TYPE_CHECKING:
    import argparse


def register(verbs: Subparsers) -> None:
    add_cancel(verbs, "cancel", "bacalhau cancel j-1a2b3c4d")


def add_cancel(verbs: Subparsers, name: str, example: str) -> None:
    """The verb, under either of its names."""
    parser = add_verb(verbs, name, run, help="stop a job", example=example)
    parser.add_argument("id", metavar="ID", help="the job's id, or the beginning of it")
    parser.add_argument("-m", "--message", default="", metavar="TEXT", help="why, for its history")
    add_switch(parser, "-q", "--quiet", help="print nothing")


def run(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.names import job_id
    from bacalhau.v1.job_service_pb2 import CancelJobRequest

    node = Node.of(args)
    request = CancelJobRequest(job_id=job_id(args.id), message=args.message)
    job = node.call(node.jobs.CancelJob, request).job
    if not args.quiet:
        print(f"job {job.id} cancelled")
    return OK
