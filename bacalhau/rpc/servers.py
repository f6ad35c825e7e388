"""The two listeners: the client API, and the peer API over TLS. Reflection and health are always on."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import resource
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.rpc import limits
from bacalhau.rpc.guard import Guard
from bacalhau.rpc.peer_api import BlockServicer, ComputeServicer, Gate, PeerServicer, RequesterServicer
from bacalhau.rpc.status import abort
from bacalhau.rpc.tools import AnsweredHealth, BriefReflection
from bacalhau.v1 import (
    block_service_pb2,
    block_service_pb2_grpc,
    compute_service_pb2,
    compute_service_pb2_grpc,
    ipfs_service_pb2,
    ipfs_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    ledger_service_pb2,
    ledger_service_pb2_grpc,
    market_service_pb2,
    market_service_pb2_grpc,
    node_service_pb2,
    node_service_pb2_grpc,
    peer_service_pb2,
    peer_service_pb2_grpc,
    requester_service_pb2,
    requester_service_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from bacalhau.rpc.call_meter import CallMeter
    from bacalhau.rpc.ipfs_service import IpfsServicer
    from bacalhau.rpc.job_service import JobServicer
    from bacalhau.rpc.ledger_service import LedgerServicer
    from bacalhau.rpc.market_service import MarketServicer
    from bacalhau.rpc.node_service import NodeServicer
    from bacalhau.rpc.peer_api import PeerPort
    from bacalhau.rpc.tls import Certificate


class CannotListen(Exception):
    """The address is taken or not this machine's, or the settings do not allow to listen there."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A started server and the HOST:PORT that it listens on, with what watches over it."""

    server: grpc.aio.Server
    address: str
    watch: asyncio.Task[None] | None = None

    async def stop(self, grace: float | None = None) -> None:
        await self.server.stop(grace)
        if self.watch is not None:
            self.watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.watch


_OPTIONS = (
    ("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", limits.MESSAGE_BYTES_MAX),
    ("grpc.so_reuseport", 0),
    # In place of a window that grows with what gRPC takes for the bandwidth: content that came faster than the disk
    # takes it waited in memory, some 30 MiB of it.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", limits.STREAM_BYTES_WAITING_MAX),
)


def _peer_connections_max() -> int:
    files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files_max == resource.RLIM_INFINITY:
        return limits.PEER_CONNECTIONS_MAX
    # Half of the files are for all else: a node that cannot open one more cannot go on.
    return min(limits.PEER_CONNECTIONS_MAX, files_max // 2)


def _peer_options(connections_max: int) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_receive_message_length", limits.PEER_MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", limits.MESSAGE_BYTES_MAX),
        ("grpc.max_concurrent_streams", limits.PEER_STREAMS_MAX),
        ("grpc.max_allowed_incoming_connections", connections_max),
        ("grpc.server_handshake_timeout_ms", int(limits.PEER_HANDSHAKE_TIMEOUT_S * 1000)),
        ("grpc.so_reuseport", 0),
    )


async def start_client_api(
    host: str,
    port: int,
    *,
    jobs: JobServicer,
    node: NodeServicer,
    ipfs: IpfsServicer,
    ledger: LedgerServicer,
    market: MarketServicer,
    token: str | None,
    tls: tuple[bytes, bytes] | None,
    meter: CallMeter | None = None,
) -> Listener:
    """Starts the client API; `tls` is (certificate chain, key), both PEM. Raises CannotListen.

    It can do everything that its user can, so elsewhere than on the loopback interface it demands TLS and a token.
    """
    if not _is_loopback(host) and (token is None or tls is None):
        raise CannotListen(
            f"the client API may listen on {host} only with TLS and a token: "
            "give --tls-cert, --tls-key and --api-token-file, or listen on 127.0.0.1"
        )
    interceptors: list[grpc.aio.ServerInterceptor] = [] if meter is None else [meter]
    if token is not None:
        interceptors.append(TokenInterceptor(token))
    server = grpc.aio.server(options=_OPTIONS, interceptors=interceptors)
    job_service_pb2_grpc.add_JobServiceServicer_to_server(jobs, server)
    node_service_pb2_grpc.add_NodeServiceServicer_to_server(node, server)
    ipfs_service_pb2_grpc.add_IpfsServiceServicer_to_server(ipfs, server)
    ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server(ledger, server)
    market_service_pb2_grpc.add_MarketServiceServicer_to_server(market, server)
    names = _names(
        job_service_pb2, node_service_pb2, ipfs_service_pb2, ledger_service_pb2, market_service_pb2
    )
    await _add_health(server, health.aio.HealthServicer(), names)
    reflection.enable_server_reflection(names, server)
    credentials = None
    if tls is not None:
        certificate, key = tls
        credentials = grpc.ssl_server_credentials([(key, certificate)])
    return await _start(server, host, port, credentials, "--api-port")


async def start_peer_api(
    host: str, port: int, *, peers: PeerPort, certificate: Certificate, meter: CallMeter | None = None
) -> Listener:
    """Starts the peer API. Raises CannotListen."""
    connections_max = _peer_connections_max()
    server = grpc.aio.server(
        options=_peer_options(connections_max),
        maximum_concurrent_rpcs=limits.PEER_CALLS_MAX,
        interceptors=[] if meter is None else [meter],
    )
    guard: Any = Guard(server, connections_max)
    gate = Gate(peers)
    peer_service_pb2_grpc.add_PeerServiceServicer_to_server(PeerServicer(peers, gate), guard)
    requester_service_pb2_grpc.add_RequesterServiceServicer_to_server(RequesterServicer(peers, gate), guard)
    compute_service_pb2_grpc.add_ComputeServiceServicer_to_server(ComputeServicer(peers, gate), guard)
    block_service_pb2_grpc.add_BlockServiceServicer_to_server(BlockServicer(peers), guard)
    names = _names(peer_service_pb2, requester_service_pb2, compute_service_pb2, block_service_pb2)
    await _add_health(guard, AnsweredHealth(), names)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(BriefReflection(names), guard)
    credentials = grpc.ssl_server_credentials([(certificate.key_pem, certificate.certificate_pem)])
    listener = await _start(server, host, port, credentials, "--peer-port")
    port = int(listener.address.rpartition(":")[2])
    return replace(listener, watch=asyncio.get_running_loop().create_task(guard.run(port)))


async def _start(
    server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None, flag: str
) -> Listener:
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    try:
        if credentials is None:
            bound = server.add_insecure_port(f"{shown}:{port}")
        else:
            bound = server.add_secure_port(f"{shown}:{port}", credentials)
    except RuntimeError as error:
        raise CannotListen(
            f"cannot listen on {shown}:{port}: the port is in use or the address is not this machine's; "
            f"choose another with {flag} (0 takes a free one)"
        ) from error
    await server.start()
    return Listener(server, f"{shown}:{bound}")


def _names(*modules: Any) -> tuple[str, ...]:
    """Of the services of these modules, and of those for tools."""
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    return (*(service.full_name for service in services), health.SERVICE_NAME, reflection.SERVICE_NAME)


async def _add_health(
    server: grpc.aio.Server, servicer: health.aio.HealthServicer, names: Sequence[str]
) -> None:
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", *names):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Lets only calls in that carry `authorization: Bearer TOKEN`. Reflection and health need it too."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(details)
        for key, value in details.invocation_metadata or ():
            given = value if isinstance(value, bytes) else value.encode()
            if key == "authorization" and hmac.compare_digest(given, self._expected):
                return handler
        return _refusing(handler) if handler is not None else None


_UNAUTHENTICATED = Refusal(
    RefusalReason.UNAUTHENTICATED,
    "this API demands a token: give --api-token-file, or send the metadata authorization: Bearer TOKEN",
)


def _refusing(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of the same shape that refuses: gRPC calls it as it would have called the real one."""

    async def refuse(_request: object, context: Any) -> None:
        await abort(context, _UNAUTHENTICATED)

    async def refuse_stream(_request: object, context: Any) -> AsyncIterator[None]:
        await abort(context, _UNAUTHENTICATED)
        yield  # type: ignore[unreachable]  # makes it a stream

    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse_stream)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse_stream)
    return grpc.unary_unary_rpc_method_handler(refuse)
