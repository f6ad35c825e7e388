"""A real gRPC server whose jobs go as a test says, for what a real node does rarely.

It serves the client API only, keeps what it was asked, and holds content in memory.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from bacalhau.v1 import (
    execution_pb2,
    ipfs_service_pb2,
    ipfs_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    node_pb2,
    node_service_pb2,
    node_service_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

JOB_ID = "j-1a2b3c4d-0000-4000-8000-000000000001"
NODE_ID = "12D3KooWScriptedNodeScriptedNode"
RESULT_CID = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"

Step = (
    job_service_pb2.WatchJobResponse | job_service_pb2.StreamLogsResponse | threading.Event | grpc.StatusCode
)


def event(kind: str, **fields: Any) -> job_service_pb2.WatchJobResponse:
    """A step of a job's history, by the end of its type's name."""
    return job_service_pb2.WatchJobResponse(
        events=[job_pb2.JobEvent(type=f"JOB_EVENT_TYPE_{kind}", **fields)]
    )


def output(data: bytes, *, stream: int = 1) -> job_service_pb2.StreamLogsResponse:
    """A piece of what a program writes."""
    return job_service_pb2.StreamLogsResponse(stream=stream, data=data)  # type: ignore[arg-type]


def execution(
    identifier: str = "e-1", *, exit_code: int = 0, cid: str = RESULT_CID
) -> execution_pb2.Execution:
    """An execution that completed."""
    report = execution_pb2.ExecutionReport(
        execution_id=identifier, result_cid=cid, exit_code=exit_code, attempt=1
    )
    return execution_pb2.Execution(
        id=identifier,
        job_id=JOB_ID,
        node_id=NODE_ID,
        state=execution_pb2.EXECUTION_STATE_COMPLETED,
        price_microcredits=2500,
        charged_microcredits=2500,
        report=report,
    )


def ended(
    *executions: execution_pb2.Execution, state: str = "COMPLETED", **fields: Any
) -> job_service_pb2.WatchJobResponse:
    """The last step of a job."""
    last = event(state)
    last.job.CopyFrom(
        job_pb2.Job(
            id=JOB_ID,
            state=f"JOB_STATE_{state}",
            executions=executions,
            charged_microcredits=sum(item.charged_microcredits for item in executions),
            **fields,
        )
    )
    return last


@dataclass(slots=True)
class Script:
    """The steps of the job, the output of its executions, what lists answer, what IPFS holds; how many submissions come
    and are not answered."""

    history: list[Step] = field(
        default_factory=lambda: [event("AWARD_CONFIRMED", execution_id="e-1"), ended(execution())]
    )
    logs: dict[str, list[Step]] = field(default_factory=dict)
    jobs: list[job_pb2.Job] = field(default_factory=list)
    answers: list[job_service_pb2.OfferAnswer] = field(default_factory=list)
    content: dict[str, Iterable[ipfs_service_pb2.GetResponse]] = field(default_factory=dict)
    unanswered: int = 0


class ScriptedNode(
    job_service_pb2_grpc.JobServiceServicer,
    node_service_pb2_grpc.NodeServiceServicer,
    ipfs_service_pb2_grpc.IpfsServiceServicer,
):
    """See the module. `asked` holds every request in order; `metadata` what came with the last one."""

    def __init__(self, script: Script, port: int = 0) -> None:
        self.script = script
        self.asked: list[Any] = []
        self.metadata: dict[str, str | bytes] = {}
        self.cancelled = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(16))
        job_service_pb2_grpc.add_JobServiceServicer_to_server(self, self._server)
        node_service_pb2_grpc.add_NodeServiceServicer_to_server(self, self._server)
        ipfs_service_pb2_grpc.add_IpfsServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()

    def asked_for(self, kind: type) -> list[Any]:
        return [request for request in self.asked if isinstance(request, kind)]

    def _heard(self, request: Any, context: grpc.ServicerContext) -> None:
        self.asked.append(request)
        self.metadata = dict(context.invocation_metadata())

    def SubmitJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.SubmitJobResponse:
        self._heard(request, context)
        if self.script.unanswered:
            self.script.unanswered -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the script says so")
        return job_service_pb2.SubmitJobResponse(job=job_pb2.Job(id=JOB_ID, spec=request.spec))

    def WatchJob(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self._heard(request, context)
        yield from self._play(
            [
                step
                for step in self.script.history
                if not isinstance(step, job_service_pb2.WatchJobResponse)
                or not step.events[-1].sequence
                or step.events[-1].sequence > request.after_sequence
            ],
            context,
        )

    def StreamLogs(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self._heard(request, context)
        yield from self._play(self.script.logs.get(request.execution_id, []), context)

    def _play(self, steps: list[Step], context: grpc.ServicerContext) -> Iterator[Any]:
        for step in steps:
            if isinstance(step, threading.Event):
                while not step.wait(0.02):
                    if not context.is_active():
                        return
            elif isinstance(step, grpc.StatusCode):
                self.script.history = [left for left in self.script.history if left is not step]
                context.abort(step, "the script says so")
            else:
                yield step

    def CancelJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.CancelJobResponse:
        self._heard(request, context)
        self.cancelled.set()
        return job_service_pb2.CancelJobResponse(job=job_pb2.Job(id=JOB_ID))

    def GetJob(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.GetJobResponse:
        self._heard(request, context)
        found = [job for job in self.script.jobs if job.id.startswith(request.job_id)]
        if not found:
            refuse(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", f"no job {request.job_id} is known here")
        return job_service_pb2.GetJobResponse(job=found[0])

    def ListJobs(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.ListJobsResponse:
        self._heard(request, context)
        found = [job for job in self.script.jobs if job.id.startswith(request.id_filter)]
        return job_service_pb2.ListJobsResponse(jobs=found[: request.page_size])

    def ListExecutions(
        self, request: Any, context: grpc.ServicerContext
    ) -> job_service_pb2.ListExecutionsResponse:
        self._heard(request, context)
        return job_service_pb2.ListExecutionsResponse(executions=self.script.jobs[0].executions)

    def ListBids(self, request: Any, context: grpc.ServicerContext) -> job_service_pb2.ListBidsResponse:
        self._heard(request, context)
        return job_service_pb2.ListBidsResponse(answers=self.script.answers)

    def GetNode(self, request: Any, context: grpc.ServicerContext) -> node_service_pb2.GetNodeResponse:
        self._heard(request, context)
        return node_service_pb2.GetNodeResponse(node=self._node())

    def ListPeers(self, request: Any, context: grpc.ServicerContext) -> node_service_pb2.ListPeersResponse:
        self._heard(request, context)
        return node_service_pb2.ListPeersResponse(nodes=[self._node()])

    def _node(self) -> node_pb2.Node:
        record = node_pb2.NodeRecord(
            node_id=NODE_ID, version="0.1.0", compute=True, requester=True, engines=["ENGINE_WASM"]
        )
        return node_pb2.Node(record=record, live=True, self=True)

    def Add(self, requests: Any, context: grpc.ServicerContext) -> ipfs_service_pb2.AddResponse:
        """Keeps the entries under a name made of their bytes: it has the shape of a CID, and is none."""
        parts: list[ipfs_service_pb2.GetResponse] = []
        digest, size, entries = hashlib.sha256(), 0, 0
        for request in requests:
            self._heard(request, context)
            match request.WhichOneof("part"):
                case "entry":
                    parts.append(ipfs_service_pb2.GetResponse(entry=request.entry))
                    entries += 1
                case "chunk":
                    parts.append(ipfs_service_pb2.GetResponse(chunk=request.chunk))
                    size += len(request.chunk)
            digest.update(request.SerializeToString(deterministic=True))
        cid = "b" + digest.hexdigest().translate(str.maketrans("0189", "wxyz"))[:58]
        self.script.content[cid] = parts
        return ipfs_service_pb2.AddResponse(cid=cid, size_bytes=size, entries=entries)

    def Get(self, request: Any, context: grpc.ServicerContext) -> Iterator[ipfs_service_pb2.GetResponse]:
        self._heard(request, context)
        if request.path not in self.script.content:
            refuse(
                context, grpc.StatusCode.NOT_FOUND, "CONTENT_UNAVAILABLE", f"no peer has CID {request.path}"
            )
        skip = request.offset_bytes
        for part in self.script.content[request.path]:
            if part.HasField("chunk"):
                yield ipfs_service_pb2.GetResponse(chunk=part.chunk[skip:])
                skip = max(0, skip - len(part.chunk))
            else:
                yield part


def refuse(context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, message: str) -> NoReturn:
    """Ends a call as a node refuses it: with google.rpc.ErrorInfo."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="bacalhau"))
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message, details=[detail])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)
