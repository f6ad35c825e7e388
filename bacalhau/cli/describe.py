"""`bacalhau describe` and `bacalhau job describe`: a job with its bids, refusals and executions."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from bacalhau.cli.failures import OK
from bacalhau.cli.parsing import Subparsers, add_switch, add_verb

if TYPE_CHECKING:
    from bacalhau.cli.connection import Node
    from bacalhau.v1.execution_pb2 import Execution
    from bacalhau.v1.job_pb2 import Job, JobEvent
    from bacalhau.v1.job_service_pb2 import OfferAnswer

_EXAMPLE = """\
bacalhau describe j-1a2b3c4d
bacalhau describe --spec j-1a2b3c4d > job.yaml
bacalhau describe --json --include-events j-1a2b3c4d"""


def register(verbs: Subparsers) -> None:
    add_describe(verbs, _EXAMPLE)


def add_describe(verbs: Subparsers, example: str) -> None:
    """The verb, on its own or in the group `job`."""
    parser = add_verb(
        verbs, "describe", run, help="show a job with its bids, executions and results", example=example
    )
    parser.add_argument("id", metavar="ID", help="the job's id, or the beginning of it")
    add_switch(parser, "--spec", help="only the job itself, as a file that `bacalhau create` takes")
    add_switch(parser, "--include-events", help="with everything that happened to it")
    add_switch(parser, "--json", help="as JSON")
    parser.add_argument("--output", choices=("yaml", "json"), default="yaml", help="yaml or json (yaml)")
    add_switch(parser, "--pretty", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    from bacalhau.cli.auctionterms import plain_terms
    from bacalhau.cli.connection import Node
    from bacalhau.cli.jobfile_write import plain_job_file
    from bacalhau.cli.names import job_id
    from bacalhau.cli.output import print_plain
    from bacalhau.v1.job_service_pb2 import GetJobRequest

    node = Node.of(args)
    job = node.call(node.jobs.GetJob, GetJobRequest(job_id=job_id(args.id))).job
    form = "json" if args.json else args.output
    if args.spec:
        value = plain_job_file(job.spec)
        print(json.dumps(value, indent=2)) if form == "json" else print_plain(value, "yaml")
        return OK
    shown = plain_job(job)
    shown["Auction"] = plain_terms(job.spec.auction)
    shown["Bids"], shown["Declines"] = _answers(list_answers(node, job.id))
    if args.include_events:
        shown["Events"] = [plain_event(event) for event in history(node, job.id)]
    shown["Spec"] = plain_job_file(job.spec)
    print_plain(shown, form)
    return OK


def list_answers(node: Node, job_id: str) -> list[OfferAnswer]:
    """Every bid and decline that a job's offers got. Raises NodeFailure."""
    from bacalhau.v1.job_service_pb2 import ListBidsRequest

    return list(node.listed(node.jobs.ListBids, ListBidsRequest(job_id=job_id), "answers"))


def history(node: Node, job_id: str) -> list[JobEvent]:
    """What has happened to a job. Raises NodeFailure."""
    from bacalhau.v1.job_service_pb2 import WatchJobRequest

    request = WatchJobRequest(job_id=job_id, history_only=True)
    return [event for answer in node.stream(node.jobs.WatchJob, request) for event in answer.events]


def plain_job(job: Job) -> dict[str, Any]:
    """A job without its spec, as plain data for people."""
    from bacalhau.cli.names import enum_name
    from bacalhau.cli.output import time_text
    from bacalhau.v1.job_pb2 import JobState

    shown: dict[str, Any] = {
        "ID": job.id,
        "State": enum_name(JobState, job.state),
        "Created": time_text(job.create_time),
        "Updated": time_text(job.update_time),
        "Requester": job.requester_id,
        "ChargedMicrocredits": job.charged_microcredits,
    }
    if job.HasField("failure"):
        shown["Failure"] = _fault(job.failure)
    shown["Executions"] = [plain_execution(execution) for execution in job.executions]
    return shown


def plain_execution(execution: Execution) -> dict[str, Any]:
    """An execution as plain data for people."""
    from bacalhau.cli.names import enum_name
    from bacalhau.cli.output import plain, time_text
    from bacalhau.v1.execution_pb2 import ExecutionPhase, ExecutionState

    shown: dict[str, Any] = {
        "ID": execution.id,
        "Node": execution.node_id,
        "State": enum_name(ExecutionState, execution.state),
        "Created": time_text(execution.create_time),
        "Updated": time_text(execution.update_time),
        **_money(execution),
    }
    if execution.phase:
        shown["Phase"] = enum_name(ExecutionPhase, execution.phase)
    if execution.HasField("report"):
        report = execution.report
        if not report.HasField("fault") and not report.cancelled:
            shown["ExitCode"] = report.exit_code
        if report.result_cid:
            shown["ResultCID"] = report.result_cid
        shown["Attempt"] = report.attempt
        shown["Usage"] = plain(report.usage)
    if execution.HasField("failure"):
        shown["Failure"] = _fault(execution.failure)
    return shown


def _money(execution: Execution) -> dict[str, int]:
    """Where the execution's price is: set aside until it ends, then charged and returned; and what became of a bond."""
    from bacalhau.v1.execution_pb2 import ExecutionState

    ended = execution.state in (
        ExecutionState.EXECUTION_STATE_COMPLETED,
        ExecutionState.EXECUTION_STATE_FAILED,
        ExecutionState.EXECUTION_STATE_CANCELLED,
        ExecutionState.EXECUTION_STATE_REFUSED,
    )
    price, charged = execution.price_microcredits, execution.charged_microcredits
    money = {
        "PriceMicrocredits": price,
        "SetAsideMicrocredits": 0 if ended else price,
        "ChargedMicrocredits": charged,
        "ReturnedMicrocredits": price - charged if ended else 0,
    }
    if execution.bond_microcredits:
        money["BondMicrocredits"] = execution.bond_microcredits
    if execution.penalty_microcredits:
        money["PenaltyMicrocredits"] = execution.penalty_microcredits
    return money


def plain_event(event: JobEvent) -> dict[str, Any]:
    """An event as plain data for people; what it does not say is left out."""
    from bacalhau.cli.names import enum_name
    from bacalhau.cli.output import time_text
    from bacalhau.cli.progress import refusal_line
    from bacalhau.v1.execution_pb2 import ExecutionPhase
    from bacalhau.v1.job_pb2 import JobEventType

    shown: dict[str, Any] = {
        "Sequence": event.sequence,
        "Time": time_text(event.time),
        "Type": enum_name(JobEventType, event.type),
        "Node": event.node_id,
        "Execution": event.execution_id,
        "Phase": enum_name(ExecutionPhase, event.phase) if event.phase else "",
        "Message": event.message,
    }
    if event.HasField("price_microcredits"):
        shown["PriceMicrocredits"] = event.price_microcredits
    if event.HasField("refusal"):
        shown["Refusal"] = refusal_line(event.refusal)
    if event.HasField("fault"):
        shown["Failure"] = _fault(event.fault)
    return {key: value for key, value in shown.items() if value != ""}


def _answers(answers: list[OfferAnswer]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Bids and declines, apart."""
    from bacalhau.cli.output import duration_text, time_text
    from bacalhau.v1.refusal_pb2 import RefusalReason

    bids: list[dict[str, Any]] = []
    declines: list[dict[str, Any]] = []
    for answer in answers:
        shown: dict[str, Any] = {"Node": answer.node_id, "Time": time_text(answer.receive_time)}
        if answer.HasField("price_microcredits"):
            shown |= {"PriceMicrocredits": answer.price_microcredits, "Won": answer.won}
            if answer.HasField("start_delay") and answer.start_delay.ToMicroseconds():
                shown["StartDelay"] = duration_text(answer.start_delay)
            if answer.missing_input_bytes:
                shown["MissingInputBytes"] = answer.missing_input_bytes
            if answer.bond_microcredits:
                shown["BondMicrocredits"] = answer.bond_microcredits
            bids.append(shown)
            continue
        reason = RefusalReason.Name(answer.refusal.reason).removeprefix("REFUSAL_REASON_")
        figures = {figure.name: figure.value for figure in answer.refusal.figures}
        declines.append(shown | {"Reason": reason, "Message": answer.refusal.message, "Figures": figures})
    return bids, declines


def _fault(fault: Any) -> dict[str, str]:
    from bacalhau.cli.names import enum_name
    from bacalhau.v1.execution_pb2 import FaultKind

    return {"Kind": enum_name(FaultKind, fault.kind), "Message": fault.message}
