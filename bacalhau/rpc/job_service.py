"""JobService: jobs, for clients. Translates, pages, and streams; what a job is the port knows."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bacalhau.model.job import JobState
from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.rpc.paging import page_size
from bacalhau.rpc.status import abort
from bacalhau.rpc.views import (
    accepted_to_proto,
    answer_to_proto,
    estimate_to_proto,
    execution_to_proto,
    happening_to_proto,
    job_to_proto,
    progress_to_proto,
)
from bacalhau.scheduler.history import JobOrder, JobQuery
from bacalhau.scheduler.records import JobHappening
from bacalhau.v1 import job_pb2, job_service_pb2_grpc
from bacalhau.v1 import job_service_pb2 as pb
from bacalhau.wire import fields
from bacalhau.wire.job import spec_from_proto

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from grpc.aio import ServicerContext

    from bacalhau.market.bidding import Quote
    from bacalhau.model.cid import Cid
    from bacalhau.model.execution import ExecutionPhase
    from bacalhau.model.job import JobSpec
    from bacalhau.model.refusals import Refusal
    from bacalhau.scheduler.history import StoredAnswer, StoredJob
    from bacalhau.scheduler.records import ExecutionRecord, JobAccepted

    Context = ServicerContext[Any, Any]

REQUEST_ID_CHARS_MAX = 128
TAIL_LINES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class ProgressSeen:
    """Figures of a long phase, which no journal keeps."""

    time_us: int
    node_id: str
    execution_id: str
    phase: ExecutionPhase
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Quoted:
    """What a node would answer: a quote, a refusal, or why there is no answer; and what a winner would be paid."""

    node_id: str
    answer: Quote | Refusal | str
    paid_microcredits: int | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """Winners first, then the others that would bid, then the rest."""

    quotes: tuple[Quoted, ...]


class JobPort(Protocol):
    """What the node does for JobService. Methods raise Refused; `job_id` may be the beginning of an id."""

    node_id: str

    def store_inline(self, data: bytes) -> Cid: ...
    async def submit(self, spec: JobSpec, request_id: str) -> JobAccepted: ...
    async def estimate(self, spec: JobSpec) -> Estimate: ...
    def job(self, job_id: str) -> StoredJob: ...
    def list_jobs(self, query: JobQuery) -> tuple[list[StoredJob], str]: ...
    def watch(
        self, job_id: str, after_sequence: int, *, history_only: bool
    ) -> AsyncGenerator[list[JobHappening | ProgressSeen], None]: ...
    def logs(
        self, job_id: str, *, execution_id: str, follow: bool, tail: int
    ) -> AsyncGenerator[tuple[str, int, bytes], None]: ...
    async def cancel(self, job_id: str, message: str) -> StoredJob: ...
    def executions(
        self, job_id: str, page_size: int, page_token: str
    ) -> tuple[list[ExecutionRecord], str]: ...
    def answers(self, job_id: str, page_size: int, page_token: str) -> tuple[list[StoredAnswer], str]: ...


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """See job_service.proto."""

    def __init__(self, port: JobPort) -> None:
        self._port = port

    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Context) -> pb.SubmitJobResponse:
        try:
            if len(request.request_id) > REQUEST_ID_CHARS_MAX:
                raise refused(
                    RefusalReason.MALFORMED, f"request_id has more than {REQUEST_ID_CHARS_MAX} characters"
                )
            spec = spec_from_proto(request.spec, inline=self._port.store_inline)
            accepted = await self._port.submit(spec, request.request_id)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.SubmitJobResponse(job=accepted_to_proto(accepted, self._port.node_id))

    async def EstimatePrice(
        self, request: pb.EstimatePriceRequest, context: Context
    ) -> pb.EstimatePriceResponse:
        try:
            spec = spec_from_proto(request.spec, inline=self._port.store_inline)
            estimate = await self._port.estimate(spec)
        except Refused as error:
            await abort(context, error.refusal)
        return estimate_to_proto(estimate, spec)

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        try:
            job = self._port.job(request.job_id)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.GetJobResponse(job=job_to_proto(job, self._port.node_id))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        try:
            order = (
                JobOrder.CREATE_TIME if not request.order else fields.member(JobOrder, request.order, "order")
            )
            query = JobQuery(
                id_filter=request.id_filter,
                include_labels=tuple(request.include_labels),
                exclude_labels=tuple(request.exclude_labels),
                states=tuple(fields.member(JobState, state, "states") for state in request.states),
                order=order,
                ascending=request.ascending,
                page_size=page_size(request.page_size),
                page_token=request.page_token,
            )
            jobs, token = self._port.list_jobs(query)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.ListJobsResponse(
            jobs=[job_to_proto(job, self._port.node_id) for job in jobs], next_page_token=token
        )

    async def WatchJob(
        self, request: pb.WatchJobRequest, context: Context
    ) -> AsyncIterator[pb.WatchJobResponse]:
        try:
            watch = self._port.watch(
                request.job_id, request.after_sequence, history_only=request.history_only
            )
            async with contextlib.aclosing(watch):
                async for seen in watch:
                    yield self._watched(seen)
        except Refused as error:
            await abort(context, error.refusal)

    def _watched(self, seen: list[JobHappening | ProgressSeen]) -> pb.WatchJobResponse:
        response = pb.WatchJobResponse(events=[_event_to_proto(one) for one in seen])
        for one in seen:
            if isinstance(one, JobHappening) and one.ends_job:
                response.job.CopyFrom(job_to_proto(self._port.job(one.job_id), self._port.node_id))
        return response

    async def StreamLogs(
        self, request: pb.StreamLogsRequest, context: Context
    ) -> AsyncIterator[pb.StreamLogsResponse]:
        try:
            if not 0 <= request.tail <= TAIL_LINES_MAX:
                raise refused(
                    RefusalReason.MALFORMED, f"tail must be from 0 to {TAIL_LINES_MAX}, got {request.tail}"
                )
            pieces = self._port.logs(
                request.job_id, execution_id=request.execution_id, follow=request.follow, tail=request.tail
            )
            async with contextlib.aclosing(pieces):
                async for execution_id, stream, data in pieces:
                    yield pb.StreamLogsResponse(stream=stream, data=data, execution_id=execution_id)  # type: ignore[arg-type]
        except Refused as error:
            await abort(context, error.refusal)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        try:
            message = fields.message(request.message, "message")
            job = await self._port.cancel(request.job_id, message)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.CancelJobResponse(job=job_to_proto(job, self._port.node_id))

    async def ListExecutions(
        self, request: pb.ListExecutionsRequest, context: Context
    ) -> pb.ListExecutionsResponse:
        try:
            executions, token = self._port.executions(
                request.job_id, page_size(request.page_size), request.page_token
            )
        except Refused as error:
            await abort(context, error.refusal)
        return pb.ListExecutionsResponse(
            executions=[execution_to_proto(execution) for execution in executions], next_page_token=token
        )

    async def ListBids(self, request: pb.ListBidsRequest, context: Context) -> pb.ListBidsResponse:
        try:
            answers, token = self._port.answers(
                request.job_id, page_size(request.page_size), request.page_token
            )
        except Refused as error:
            await abort(context, error.refusal)
        return pb.ListBidsResponse(
            answers=[answer_to_proto(answer) for answer in answers], next_page_token=token
        )


def _event_to_proto(seen: JobHappening | ProgressSeen) -> job_pb2.JobEvent:
    if isinstance(seen, JobHappening):
        return happening_to_proto(seen)
    return progress_to_proto(
        seen.time_us, seen.node_id, seen.execution_id, seen.phase, seen.done_bytes, seen.total_bytes
    )
