"""`bacalhau logs`: what a job's program has written, and with -f what it writes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bacalhau.cli.failures import INTERRUPTED, OK
from bacalhau.cli.parsing import Subparsers, add_switch, add_verb, whole_number

if TYPE_CHECKING:
    import argparse

    from bacalhau.cli.connection import Node
    from bacalhau.v1.job_pb2 import Job
    from bacalhau.v1.job_service_pb2 import StreamLogsRequest

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
    from bacalhau.v1.job_service_pb2 import GetJobRequest, StreamLogsRequest

    node = Node.of(args)
    asked = GetJobRequest(job_id=job_id(args.id))
    request = StreamLogsRequest(
        job_id=asked.job_id, follow=args.follow, execution_id=args.execution_id, tail=args.tail
    )
    try:
        told = _tell(node.call(node.jobs.GetJob, asked).job) if args.follow else ""
        if not _copy(node, request):
            _tell(node.call(node.jobs.GetJob, asked).job, told)
    except KeyboardInterrupt:
        return INTERRUPTED
    return OK


def _copy(node: Node, request: StreamLogsRequest) -> bool:
    """Prints the output; whether there was any."""
    from bacalhau.v1.job_service_pb2 import LOG_STREAM_STDERR

    anything = False
    for piece in node.stream(node.jobs.StreamLogs, request):
        out = sys.stderr.buffer if piece.stream == LOG_STREAM_STDERR else sys.stdout.buffer
        out.write(piece.data)
        out.flush()
        anything = True
    return anything


def _tell(job: Job, told: str = "") -> str:
    """Says why there is no output, where a program that wrote none is not the reason, and it was not said before."""
    why = _why_silent(job)
    if why and why != told:
        print(f"job {job.id} {why}", file=sys.stderr)
    return why


def _why_silent(job: Job) -> str:
    from bacalhau.cli.names import enum_name
    from bacalhau.v1 import execution_pb2 as e
    from bacalhau.v1 import job_pb2 as j

    unconfirmed = (e.EXECUTION_STATE_AWARDED, e.EXECUTION_STATE_REFUSED)
    has_run = any(execution.state not in unconfirmed for execution in job.executions)
    match job.state:
        case j.JOB_STATE_CANCELLED:
            return "was cancelled, and left no output" if has_run else "was cancelled before it ran"
        case j.JOB_STATE_FAILED:
            return f"failed{'' if has_run else ' before it ran'}: {job.failure.message}"
        case j.JOB_STATE_PENDING | j.JOB_STATE_QUEUED | j.JOB_STATE_RUNNING if not has_run:
            return f"has written nothing yet: it is {enum_name(j.JobState, job.state)}, and on no node so far"
        case _:
            return ""
