"""`bacalhau list` and `bacalhau job list`: the jobs that the node has accepted."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK
from bacalhau.cli.parsing import Subparsers, add_switch, add_verb, refuse, whole_number

if TYPE_CHECKING:
    from bacalhau.v1.job_pb2 import Job

HEADER = ("CREATED", "ID", "JOB", "STATE", "PUBLISHED")
SHOWN = 10
SHORT_COLUMN = 24
_EXAMPLE = """\
bacalhau list
bacalhau list --id-filter=j-1a2b3c4d
bacalhau list -n 100 --include-tag nightly --exclude-tag team=a --output json"""


def register(verbs: Subparsers) -> None:
    add_list(verbs, "list", _EXAMPLE)


def add_list(verbs: Subparsers, name: str, example: str) -> None:
    """The verb, under either of its names."""
    from bacalhau.cli.output import add_list_flags

    parser = add_verb(verbs, name, run, help="list jobs", example=example)
    parser.add_argument("--id-filter", default="", metavar="ID", help="only jobs whose id is or begins so")
    parser.add_argument(
        "--include-tag",
        "--labels",
        dest="include",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="only jobs with one of these labels; repeatable",
    )
    parser.add_argument(
        "--exclude-tag",
        dest="exclude",
        action="append",
        default=[],
        metavar="KEY[=VALUE]",
        help="no jobs with one of these labels; repeatable",
    )
    parser.add_argument(
        "-n", "--number", "--limit", type=whole_number(1), metavar="N", help=f"how many ({SHOWN})"
    )
    add_switch(parser, "--all", help="every job of the node, not only the newest")
    parser.add_argument(
        "--sort-by",
        "--order-by",
        dest="sort_by",
        choices=("id", "created_at"),
        default="created_at",
        help="what to sort by (created_at)",
    )
    add_switch(
        parser, "--reverse", default=True, help="newest first (the default); --reverse=false: oldest first"
    )
    add_switch(parser, "--order-reversed", help=argparse.SUPPRESS)
    refuse(parser, "--next-token", instead="ask for more with --number")
    add_list_flags(parser)


def run(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.names import job_id
    from bacalhau.cli.output import print_list
    from bacalhau.v1.job_service_pb2 import JOB_ORDER_CREATE_TIME, JOB_ORDER_ID, ListJobsRequest

    wanted = args.number or (None if args.all else SHOWN)
    request = ListJobsRequest(
        id_filter=job_id(args.id_filter) if args.id_filter else "",
        include_labels=_keys(args.include),
        exclude_labels=_keys(args.exclude),
        order=JOB_ORDER_ID if args.sort_by == "id" else JOB_ORDER_CREATE_TIME,
        ascending=not args.reverse or args.order_reversed,
    )
    node = Node.of(args)
    jobs = list(node.listed(node.jobs.ListJobs, request, "jobs", wanted))
    print_list(args, jobs, HEADER, (_row(job, wide=args.wide) for job in jobs))
    return OK


def _keys(texts: list[str]) -> list[str]:
    return [key.strip() for text in texts for key in text.split(",") if key.strip()]


def _row(job: Job, *, wide: bool) -> tuple[str, ...]:
    from bacalhau.cli.names import enum_name, short_id
    from bacalhau.cli.output import time_text
    from bacalhau.v1.job_pb2 import JobState

    created = time_text(job.create_time)
    return (
        created if wide else created[:19].replace("T", " "),
        job.id if wide else short_id(job.id),
        _shortened(job_text(job), wide=wide),
        enum_name(JobState, job.state),
        published(job),  # whole: it is there to be copied
    )


def job_text(job: Job) -> str:
    """What a job runs, in a line: `Docker ubuntu echo Hello World`."""
    spec = job.spec
    if spec.HasField("docker"):
        return " ".join(["Docker", spec.docker.image, *spec.docker.entrypoint, *spec.docker.command])
    return " ".join(["Wasm", spec.wasm.module_cid, *spec.wasm.arguments])


def published(job: Job) -> str:
    """The result's path in IPFS, and how many more there are."""
    from bacalhau.v1.execution_pb2 import EXECUTION_STATE_COMPLETED

    cids = [
        execution.report.result_cid
        for execution in job.executions
        if execution.state == EXECUTION_STATE_COMPLETED and execution.report.result_cid
    ]
    if not cids:
        return ""
    return f"/ipfs/{cids[0]}" + (f" +{len(cids) - 1}" if len(cids) > 1 else "")


def _shortened(text: str, *, wide: bool) -> str:
    return text if wide or len(text) <= SHORT_COLUMN else text[: SHORT_COLUMN - 1] + "…"
