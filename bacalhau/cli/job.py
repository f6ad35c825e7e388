"""`bacalhau job …`: the verbs for jobs under the names of v1.9, and those that only it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK
from bacalhau.cli.parsing import Subparsers, add_group, add_verb, refuse, whole_number

if TYPE_CHECKING:
    import argparse

    from bacalhau.v1.job_pb2 import JobEvent

EXECUTION_HEADER = ("CREATED", "ID", "NODE", "STATE", "EXIT", "PRICE", "RESULT")
EVENT_HEADER = ("TIME", "TYPE", "NODE", "EXECUTION", "MESSAGE")


def register(verbs: Subparsers) -> None:
    from bacalhau.cli.cancel import add_cancel
    from bacalhau.cli.create import add_submit, add_validate
    from bacalhau.cli.describe import add_describe
    from bacalhau.cli.get import add_get
    from bacalhau.cli.list import add_list
    from bacalhau.cli.logs import add_logs
    from bacalhau.cli.output import add_list_flags

    group = add_group(
        verbs, "job", help="work with jobs", example="bacalhau job run job.yaml\nbacalhau job list"
    )
    add_submit(group, "run", "bacalhau job run job.yaml")
    add_list(group, "list", "bacalhau job list --limit 100")
    add_describe(group, "bacalhau job describe j-1a2b3c4d")
    add_logs(group, "bacalhau job logs -f j-1a2b3c4d")
    add_cancel(group, "stop", "bacalhau job stop j-1a2b3c4d")
    add_get(group, "bacalhau job get j-1a2b3c4d")
    add_validate(group, "bacalhau job validate job.yaml")
    for name, run, what in (
        ("executions", run_executions, "list the executions of a job"),
        ("history", run_history, "list what happened to a job"),
    ):
        parser = add_verb(group, name, run, help=what, example=f"bacalhau job {name} j-1a2b3c4d")
        parser.add_argument("id", metavar="ID", help="the job's id, or the beginning of it")
        parser.add_argument("--limit", type=whole_number(1), metavar="N", help="only the last N")
        parser.add_argument("--execution-id", default="", metavar="ID", help="only this execution")
        refuse(parser, "--next-token", instead="all are listed; see the last with --limit")
        refuse(
            parser, "--event-type", harmless=("all",), instead="all are listed; see one with --execution-id"
        )
        refuse(parser, "--order-by", harmless=("created_at",), instead="the oldest comes first")
        add_list_flags(parser)


def _event_text(event: JobEvent) -> str:
    """What an event says: a refusal or failure, a price, a phase, or its sentence."""
    from bacalhau.cli.progress import phase_text, refusal_text
    from bacalhau.model.quantities import format_price

    text = refusal_text(event) or event.fault.message
    if not text and event.HasField("price_microcredits"):
        text = f"{format_price(event.price_microcredits)} credits"
    return text or (phase_text(event.phase) if event.phase else "")


def run_executions(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.names import enum_name, job_id, short_node
    from bacalhau.cli.output import print_list, time_text
    from bacalhau.model.quantities import format_price
    from bacalhau.v1.execution_pb2 import Execution, ExecutionState
    from bacalhau.v1.job_service_pb2 import ListExecutionsRequest

    node = Node.of(args)
    request = ListExecutionsRequest(job_id=job_id(args.id))
    found = node.listed(node.jobs.ListExecutions, request, "executions")
    executions = [item for item in found if item.id.startswith(args.execution_id)]
    executions = executions[-args.limit :] if args.limit else executions

    def row(item: Execution) -> tuple[str, ...]:
        ran = item.HasField("report") and not item.report.HasField("fault") and not item.report.cancelled
        return (
            time_text(item.create_time)[: None if args.wide else 19],
            item.id,
            item.node_id if args.wide else short_node(item.node_id),
            enum_name(ExecutionState, item.state),
            str(item.report.exit_code) if ran else "",
            format_price(item.price_microcredits),
            item.report.result_cid,
        )

    print_list(args, executions, EXECUTION_HEADER, map(row, executions))
    return OK


def run_history(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.describe import history
    from bacalhau.cli.names import enum_name, job_id, short_node
    from bacalhau.cli.output import print_list, time_text
    from bacalhau.v1.job_pb2 import JobEventType

    node = Node.of(args)
    events = [
        event for event in history(node, job_id(args.id)) if event.execution_id.startswith(args.execution_id)
    ]
    events = events[-args.limit :] if args.limit else events

    def row(event: JobEvent) -> tuple[str, ...]:
        return (
            time_text(event.time)[: None if args.wide else 23],
            enum_name(JobEventType, event.type),
            event.node_id if args.wide else short_node(event.node_id),
            event.execution_id,
            _event_text(event),
        )

    print_list(args, events, EVENT_HEADER, map(row, events))
    return OK
