"""`bacalhau logs`: what a job's program has written, and with -f what it writes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bacalhau.cli.failures import INTERRUPTED, OK
from bacalhau.cli.parsing import Subparsers, add_switch, add_verb, whole_number

if TYPE_CHECKING:
    import argparse

_EXAMPLE = """\
bacalhau logs j-1a2b3c4d
bacalhau logs -f --tail 10 j-1a2b3c4d"""


def register(verbs: Subparsers) -> None:
    add_logs(verbs, _EXAMPLE)


def add_logs(verbs: Subparsers, example: str) -> None:
    """The verb, on its own or in the group `job`."""
    parser = add_verb(verbs, "logs", run, help="print what a job's program writes", example=example)
    parser.add_argument("id", metavar="ID", help="the job's id, or the beginning of it")
    add_switch(parser, "-f", "--follow", help="go on until the program ends; Ctrl-C leaves the job running")
    parser.add_argument(
        "-t", "--tail", type=whole_number(0), default=0, metavar="N", help="only the last N lines"
    )
    parser.add_argument(
        "-e", "--execution-id", default="", metavar="ID", help="of this execution (the newest)"
    )


def run(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.names import job_id
    from bacalhau.v1.job_service_pb2 import LOG_STREAM_STDERR, StreamLogsRequest

    node = Node.of(args)
    request = StreamLogsRequest(
        job_id=job_id(args.id), follow=args.follow, execution_id=args.execution_id, tail=args.tail
    )
    try:
        for piece in node.stream(node.jobs.StreamLogs, request):
            out = sys.stderr.buffer if piece.stream == LOG_STREAM_STDERR else sys.stdout.buffer
            out.write(piece.data)
            out.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK
