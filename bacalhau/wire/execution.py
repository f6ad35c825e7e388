"""Reports of executions, to and from execution.proto."""

from __future__ import annotations

from bacalhau.market.verification import SALT_BYTES
from bacalhau.model.execution import ExecutionReport, Fault, FaultKind, Usage
from bacalhau.v1 import execution_pb2
from bacalhau.wire import fields, limits


def fault_to_proto(fault: Fault) -> execution_pb2.Fault:
    return execution_pb2.Fault(kind=fields.number(fault.kind), message=fields.sent_message(fault.message))


def fault_from_proto(message: execution_pb2.Fault, field: str = "fault") -> Fault:
    return Fault(
        fields.member(FaultKind, message.kind, f"{field}.kind"),
        fields.message(message.message, f"{field}.message"),
    )


def usage_to_proto(usage: Usage) -> execution_pb2.Usage:
    return execution_pb2.Usage(
        wall_us=usage.wall_us,
        cpu_us=usage.cpu_us,
        peak_memory_bytes=usage.peak_memory_bytes,
        fetched_bytes=usage.fetched_bytes,
        result_bytes=usage.result_bytes,
    )


def usage_from_proto(message: execution_pb2.Usage, field: str = "usage") -> Usage:
    return Usage(
        # A run may outlast its timeout by the time that stopping it takes, hence the factor.
        fields.whole(message.wall_us, f"{field}.wall_us", 0, 2 * limits.MAX_TIMEOUT_US),
        # CPU time is bounded by wall time and cores; a byte limit's width is wide enough for it.
        fields.whole(message.cpu_us, f"{field}.cpu_us", 0, limits.MAX_BYTES),
        fields.whole(message.peak_memory_bytes, f"{field}.peak_memory_bytes", 0, limits.MAX_BYTES),
        fields.whole(message.fetched_bytes, f"{field}.fetched_bytes", 0, limits.MAX_BYTES),
        fields.whole(message.result_bytes, f"{field}.result_bytes", 0, limits.MAX_BYTES),
    )


def report_to_proto(report: ExecutionReport) -> execution_pb2.ExecutionReport:
    return execution_pb2.ExecutionReport(
        execution_id=report.execution_id,
        attempt=report.attempt,
        result_cid="" if report.result is None else str(report.result),
        exit_code=report.exit_code,
        usage=usage_to_proto(report.usage),
        fault=None if report.fault is None else fault_to_proto(report.fault),
        cancelled=report.cancelled,
        salt=report.salt,
    )


def report_from_proto(message: execution_pb2.ExecutionReport) -> ExecutionReport:
    """Raises Refused(MALFORMED)."""
    return ExecutionReport(
        execution_id=fields.identifier(message.execution_id, "execution_id"),
        attempt=fields.whole(message.attempt, "attempt", 0, limits.MAX_ATTEMPT),
        result=fields.cid(message.result_cid, "result_cid") if message.result_cid else None,
        exit_code=message.exit_code,
        usage=usage_from_proto(message.usage),
        fault=fault_from_proto(message.fault) if message.HasField("fault") else None,
        cancelled=message.cancelled,
        salt=_salt(message.salt),
    )


def _salt(data: bytes) -> bytes:
    if len(data) not in (0, SALT_BYTES):
        raise fields.malformed("salt", f"must have {SALT_BYTES} bytes, got {len(data)}")
    return data
