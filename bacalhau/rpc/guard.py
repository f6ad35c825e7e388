"""What gRPC's servers lack against strangers: a bound on how long a call waits for its caller, and on what one host
holds of a listener's calls and connections.

A call of which only the headers have come holds a place among all calls, and so does one whose answer nobody takes.
gRPC calls a handler of one request when that is there, so those are made handlers of streams here, which are called at
once, and wait for their request themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.rpc import limits
from bacalhau.rpc.connections import count_at, shut, shut_beyond
from bacalhau.rpc.status import abort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

log = logging.getLogger(__name__)

_TOO_MANY = Refusal(
    RefusalReason.LIMIT_REACHED, "too many calls of this host wait for their request, or to be read: end some"
)
_NO_REQUEST = Refusal(RefusalReason.MALFORMED, "the call came without its request")


@dataclass(slots=True)
class _Call:
    """A call that is under way, of a caller as gRPC says it."""

    peer: str
    host: str
    waits_since: float | None
    """For its caller: to send the request, or to take the answer."""


class Guard:
    """Of a listener that takes `connections_max` connections: servicers are added to it, and it adds them to the
    server. An interceptor would cost each call more."""

    def __init__(self, server: grpc.aio.Server, connections_max: int) -> None:
        self._server = server
        self._connections_max = connections_max
        self._calls: dict[object, _Call] = {}
        """By context."""

    # --- as generated code knows a server ---

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """The same handlers come by name as well."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        patient = {
            name: handler if handler.request_streaming else self._patiently(handler)
            for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, patient),))

    # --- calls ---

    def _patiently(self, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        if handler.response_streaming:
            stream: Any = handler.unary_stream

            async def answers(_requests: object, context: Any) -> AsyncIterator[Any]:
                request = await self._request(context, self._begin(context))
                async with contextlib.aclosing(stream(request, context)) as responses:
                    async for response in responses:
                        yield response

            return grpc.stream_stream_rpc_method_handler(
                answers, handler.request_deserializer, handler.response_serializer
            )
        method: Any = handler.unary_unary

        async def answer(_requests: object, context: Any) -> Any:
            call = self._begin(context)
            response = await method(await self._request(context, call), context)
            call.waits_since = time.monotonic()
            return response

        return grpc.stream_unary_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )

    def _begin(self, context: Any) -> _Call:
        peer = context.peer()
        call = self._calls[context] = _Call(peer, peer.rpartition(":")[0], time.monotonic())
        context.add_done_callback(self._calls.pop)
        return call

    async def _request(self, context: Any, call: _Call) -> Any:
        most = limits.PEER_CALLS_WAITING_PER_HOST_MAX
        if len(self._calls) > most and self._waiting(call.host) > most:
            await abort(context, _TOO_MANY)
        request = await context.read()
        call.waits_since = None
        if request is grpc.aio.EOF:
            await abort(context, _NO_REQUEST)
        return request

    def _waiting(self, host: str) -> int:
        return sum(call.waits_since is not None and call.host == host for call in self._calls.values())

    # --- connections ---

    async def run(self, port: int) -> None:
        """Shuts, until it is cancelled, the connections to `port` that hold up calls; and those of a host that has more
        than its share, where there has been little room for others at two looks one after the other."""
        share = self._connections_max // 4
        was_crowded = False
        while True:
            await asyncio.sleep(limits.PEER_LOOK_S)
            for peer in self._overdue(time.monotonic() - limits.PEER_PATIENCE_S):
                log.info("%s sends no request, or takes no answer: its connection is shut", peer)
                shut(peer)
            is_crowded = count_at(port) >= 3 * share
            if is_crowded and was_crowded:
                for host, count in shut_beyond(port, share).items():
                    log.info("%d connections of %s are shut, to leave room for other hosts", count, host)
            was_crowded = is_crowded

    def _overdue(self, began_by: float) -> set[str]:
        calls = self._calls.values()
        return {call.peer for call in calls if call.waits_since is not None and call.waits_since < began_by}
