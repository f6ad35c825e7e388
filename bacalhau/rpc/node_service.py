"""NodeService: the node and its peers, for clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bacalhau.model.refusals import Refused
from bacalhau.model.reputation import Role
from bacalhau.rpc.limits import PAGE_SIZE_MAX
from bacalhau.rpc.paging import read_page
from bacalhau.rpc.status import abort
from bacalhau.v1 import exchange_pb2, node_pb2, node_service_pb2, node_service_pb2_grpc
from bacalhau.wire import fields
from bacalhau.wire.node import record_to_proto
from bacalhau.wire.resources import resources_to_proto
from bacalhau.wire.verification import reputation_to_proto

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grpc.aio import ServicerContext

    from bacalhau.model.node import NodeRecord
    from bacalhau.model.reputation import Reputation
    from bacalhau.model.resources import Resources

    Context = ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as this one knows it; `free`, `running_executions` and `notices` only for itself. `reputations` are what
    was seen of it, in each role, with the score of now."""

    record: NodeRecord
    heard_us: int
    live: bool
    is_self: bool
    found_by: str
    free: Resources | None = None
    running_executions: int = 0
    notices: tuple[str, ...] = ()
    reputations: tuple[tuple[Reputation, int], ...] = ()


class NodePort(Protocol):
    """What the node tells of itself and others; `exchanged` by the fields of ExchangeCounters. `connect` raises
    Refused."""

    def self_view(self) -> NodeView: ...
    def peer_views(self) -> list[NodeView]: ...
    def exchanged(self) -> Mapping[str, int] | None: ...
    async def connect(self, address: str) -> NodeView: ...


class NodeServicer(node_service_pb2_grpc.NodeServiceServicer):
    """See node_service.proto."""

    def __init__(self, port: NodePort) -> None:
        self._port = port

    async def GetNode(
        self, request: node_service_pb2.GetNodeRequest, context: Context
    ) -> node_service_pb2.GetNodeResponse:
        exchanged = self._port.exchanged()
        return node_service_pb2.GetNodeResponse(
            node=_view_to_proto(self._port.self_view()),
            exchange=None if exchanged is None else exchange_pb2.ExchangeCounters(**exchanged),
        )

    async def ListPeers(
        self, request: node_service_pb2.ListPeersRequest, context: Context
    ) -> node_service_pb2.ListPeersResponse:
        try:
            start, size = read_page(request.page_token, request.page_size, PAGE_SIZE_MAX, default=100)
        except Refused as error:
            await abort(context, error.refusal)
        views = [self._port.self_view(), *self._port.peer_views()]
        end = start + size
        return node_service_pb2.ListPeersResponse(
            nodes=[_view_to_proto(view) for view in views[start:end]],
            next_page_token=str(end) if end < len(views) else "",
        )

    async def Connect(
        self, request: node_service_pb2.ConnectRequest, context: Context
    ) -> node_service_pb2.ConnectResponse:
        try:
            view = await self._port.connect(request.address)
        except Refused as error:
            await abort(context, error.refusal)
        return node_service_pb2.ConnectResponse(node=_view_to_proto(view))


def _view_to_proto(view: NodeView) -> node_pb2.Node:
    message = node_pb2.Node(
        record=record_to_proto(view.record),
        heard_time=fields.timestamp(view.heard_us),
        live=view.live,
        found_by=view.found_by,
        running_executions=view.running_executions,
        notices=view.notices,
    )
    message.self = view.is_self
    if view.free is not None:
        message.free.CopyFrom(resources_to_proto(view.free))
    for reputation, score_ppm in view.reputations:
        seen = reputation_to_proto(reputation, score_ppm)
        if reputation.role is Role.COMPUTE:
            message.compute_reputation.CopyFrom(seen)
        else:
            message.requester_reputation.CopyFrom(seen)
    return message
