"""Records of the journal as the messages that clients read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.bidding import Quote
from bacalhau.model.job import JobState
from bacalhau.model.refusals import Refusal
from bacalhau.v1 import execution_pb2, job_pb2, job_service_pb2
from bacalhau.wire import fields
from bacalhau.wire.execution import fault_to_proto, report_to_proto
from bacalhau.wire.job import spec_to_proto
from bacalhau.wire.refusal import refusal_to_proto

if TYPE_CHECKING:
    from bacalhau.model.execution import ExecutionPhase
    from bacalhau.model.job import JobSpec
    from bacalhau.rpc.job_service import Estimate, Quoted
    from bacalhau.scheduler.history import StoredAnswer, StoredJob
    from bacalhau.scheduler.records import ExecutionRecord, JobAccepted, JobHappening


def accepted_to_proto(accepted: JobAccepted, requester_id: str) -> job_pb2.Job:
    """A job that was accepted just now."""
    time = fields.timestamp(accepted.created_us)
    return job_pb2.Job(
        id=accepted.id,
        spec=spec_to_proto(accepted.spec),
        state=fields.number(JobState.PENDING),
        create_time=time,
        update_time=time,
        requester_id=requester_id,
    )


def job_to_proto(job: StoredJob, requester_id: str) -> job_pb2.Job:
    message = accepted_to_proto(job.accepted, requester_id)
    message.state = fields.number(job.state)
    message.update_time.CopyFrom(fields.timestamp(job.changed.updated_us))
    message.charged_microcredits = job.charged_microcredits
    if job.changed.failure is not None:
        message.failure.CopyFrom(fault_to_proto(job.changed.failure))
    message.executions.extend(execution_to_proto(execution) for execution in job.executions)
    return message


def execution_to_proto(execution: ExecutionRecord) -> execution_pb2.Execution:
    message = execution_pb2.Execution(
        id=execution.id,
        job_id=execution.job_id,
        node_id=execution.node_id,
        state=fields.number(execution.state),
        price_microcredits=execution.price_microcredits,
        charged_microcredits=execution.charged_microcredits,
        create_time=fields.timestamp(execution.created_us),
        update_time=fields.timestamp(execution.updated_us),
        offer_id=execution.offer_id,
        bond_microcredits=execution.bond_microcredits,
        penalty_microcredits=execution.penalty_microcredits,
    )
    if execution.phase is not None:
        message.phase = fields.number(execution.phase)
    if execution.report is not None:
        message.report.CopyFrom(report_to_proto(execution.report))
    if execution.failure is not None:
        message.failure.CopyFrom(fault_to_proto(execution.failure))
    return message


def happening_to_proto(happening: JobHappening) -> job_pb2.JobEvent:
    message = job_pb2.JobEvent(
        sequence=happening.sequence,
        type=fields.number(happening.type),
        time=fields.timestamp(happening.time_us),
        node_id=happening.node_id,
        execution_id=happening.execution_id,
        message=happening.message,
        state=fields.number(happening.state),
    )
    if happening.price_microcredits is not None:
        message.price_microcredits = happening.price_microcredits
    if happening.refusal is not None:
        message.refusal.CopyFrom(refusal_to_proto(happening.refusal))
    if happening.phase is not None:
        message.phase = fields.number(happening.phase)
    if happening.fault is not None:
        message.fault.CopyFrom(fault_to_proto(happening.fault))
    return message


def progress_to_proto(
    time_us: int,
    node_id: str,
    execution_id: str,
    phase: ExecutionPhase,
    done_bytes: int,
    total_bytes: int,
) -> job_pb2.JobEvent:
    """An event that is not part of the history."""
    return job_pb2.JobEvent(
        type=job_pb2.JOB_EVENT_TYPE_PROGRESS,
        time=fields.timestamp(time_us),
        node_id=node_id,
        execution_id=execution_id,
        phase=fields.number(phase),
        done_bytes=done_bytes,
        total_bytes=total_bytes,
        state=fields.number(JobState.RUNNING),
    )


def answer_to_proto(answer: StoredAnswer) -> job_service_pb2.OfferAnswer:
    message = job_service_pb2.OfferAnswer(
        offer_id=answer.offer_id,
        node_id=answer.node_id,
        receive_time=fields.timestamp(answer.received_us),
        won=answer.won,
    )
    if answer.bid is not None:
        message.price_microcredits = answer.bid.price_microcredits
        message.bid_id = answer.bid.id
        message.start_delay.CopyFrom(fields.duration(answer.bid.start_delay_us))
        message.missing_input_bytes = answer.bid.missing_input_bytes
        message.bond_microcredits = answer.bid.bond_microcredits
    if answer.refusal is not None:
        message.refusal.CopyFrom(refusal_to_proto(answer.refusal))
    return message


def estimate_to_proto(estimate: Estimate, spec: JobSpec) -> job_service_pb2.EstimatePriceResponse:
    return job_service_pb2.EstimatePriceResponse(
        quotes=[_quoted_to_proto(quoted) for quoted in estimate.quotes],
        wanted=spec.count,
        total_microcredits=sum(quoted.paid_microcredits or 0 for quoted in estimate.quotes),
        clearing_rule=fields.number(spec.auction.rule),
    )


def _quoted_to_proto(quoted: Quoted) -> job_service_pb2.NodeQuote:
    message = job_service_pb2.NodeQuote(node_id=quoted.node_id)
    match quoted.answer:
        case str():
            message.unanswered = fields.sent_message(quoted.answer)
        case Refusal():
            message.refusal.CopyFrom(refusal_to_proto(quoted.answer))
        case Quote():
            message.price_microcredits = quoted.answer.price_microcredits
            message.start_delay.CopyFrom(fields.duration(quoted.answer.start_delay_us))
            message.missing_input_bytes = quoted.answer.missing_input_bytes
    if quoted.paid_microcredits is not None:
        message.paid_microcredits = quoted.paid_microcredits
    return message
