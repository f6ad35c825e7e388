"""The way to the node: address, token and certificate, the channel, and what a failed call means to a person.

Owns the flags and environment variables that name a node. Calls are synchronous: a command makes few of them,
and a process that imports no more than it needs starts in a tenth of a second.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bacalhau.cli.failures import NodeFailure, UsageFailure
from bacalhau.model.units import size_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import grpc

    from bacalhau.v1.ipfs_service_pb2_grpc import IpfsServiceStub
    from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
    from bacalhau.v1.ledger_service_pb2_grpc import LedgerServiceStub
    from bacalhau.v1.market_service_pb2_grpc import MarketServiceStub
    from bacalhau.v1.node_service_pb2_grpc import NodeServiceStub

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 1234
CONNECT_TIMEOUT_MS = 5000
CALL_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Address:
    """Where the client API listens, and what it asks for; an empty `token` and no `ca_file` are unused."""

    host: str
    port: int
    token: str = ""
    ca_file: str | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def add_flags(parser: argparse.ArgumentParser, *, top: bool = False) -> None:
    """The flags that name the node; every verb takes them, so that they may stand anywhere on the line."""
    import argparse

    group = parser.add_argument_group("the node to talk to")
    for flag, metavar, meaning in (
        ("--api-host", "HOST", f"its client API's host (BACALHAU_API_HOST; {DEFAULT_HOST})"),
        ("--api-port", "PORT", f"its client API's port (BACALHAU_API_PORT; {DEFAULT_PORT})"),
        (
            "--api-token-file",
            "FILE",
            "file with the token it asks for (BACALHAU_API_TOKEN_FILE, BACALHAU_API_TOKEN)",
        ),
        ("--api-tls-ca", "FILE", "certificate that vouches for it; turns TLS on (BACALHAU_API_TLS_CA)"),
    ):
        group.add_argument(flag, metavar=metavar, default=None if top else argparse.SUPPRESS, help=meaning)


def address_of(args: argparse.Namespace) -> Address:
    """The address that the flags and, where they are silent, the environment name. Raises UsageFailure."""
    host = getattr(args, "api_host", None) or os.environ.get("BACALHAU_API_HOST") or DEFAULT_HOST
    if "/" in host or host.count(":") == 1:  # a URL, or HOST:PORT; more colons are IPv6
        raise UsageFailure(
            f"{host!r} is no host (--api-host, BACALHAU_API_HOST): write its name or address alone; its port goes into "
            "--api-port or BACALHAU_API_PORT"
        )
    port = getattr(args, "api_port", None) or os.environ.get("BACALHAU_API_PORT") or str(DEFAULT_PORT)
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageFailure(
            f"{port!r} is no port (--api-port, BACALHAU_API_PORT): write a number from 1 to 65535"
        )
    token_file = getattr(args, "api_token_file", None) or os.environ.get("BACALHAU_API_TOKEN_FILE")
    token = os.environ.get("BACALHAU_API_TOKEN", "")
    if token_file:
        token = _read(token_file, "the token file").decode("utf-8", "replace")
    token = token.strip()
    if not token.isascii() or not token.isprintable():
        raise UsageFailure("the API token has characters that cannot be sent; it must be printable ASCII")
    ca_file = getattr(args, "api_tls_ca", None) or os.environ.get("BACALHAU_API_TLS_CA") or None
    return Address(host.strip("[]"), int(port), token, ca_file)


class Node:
    """The node that a command talks to. Nothing is imported or connected before the first call."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.metadata = (("authorization", f"Bearer {address.token}"),) if address.token else ()
        self.has_answered = False
        """It is there, or was: a call that nobody answers now may be made again."""
        self._channel: grpc.Channel | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> Node:
        """The node that the command line names."""
        return cls(address_of(args))

    @property
    def channel(self) -> grpc.Channel:
        if self._channel is None:
            self._channel = self._open()
        return self._channel

    @property
    def jobs(self) -> JobServiceStub:
        from bacalhau.v1.job_service_pb2_grpc import JobServiceStub

        return JobServiceStub(self.channel)

    @property
    def market(self) -> MarketServiceStub:
        from bacalhau.v1.market_service_pb2_grpc import MarketServiceStub

        return MarketServiceStub(self.channel)

    @property
    def nodes(self) -> NodeServiceStub:
        from bacalhau.v1.node_service_pb2_grpc import NodeServiceStub

        return NodeServiceStub(self.channel)

    @property
    def ipfs(self) -> IpfsServiceStub:
        from bacalhau.v1.ipfs_service_pb2_grpc import IpfsServiceStub

        return IpfsServiceStub(self.channel)

    @property
    def ledger(self) -> LedgerServiceStub:
        from bacalhau.v1.ledger_service_pb2_grpc import LedgerServiceStub

        return LedgerServiceStub(self.channel)

    def call(self, method: Any, request: Any, *, timeout: float | None = CALL_TIMEOUT_SECONDS) -> Any:
        """One answer to `request` (or to a stream of requests). Raises NodeFailure."""
        import grpc

        try:
            answer = method(request, metadata=self.metadata, timeout=timeout)
        except grpc.RpcError as error:
            raise self.failure(error) from error
        self.has_answered = True
        return answer

    def listed(
        self, method: Any, request: Any, field: str, wanted: int | None = None, page_size: int = 1000
    ) -> Iterator[Any]:
        """What a paged list holds in this field: all, or the first that are wanted. Raises NodeFailure."""
        while wanted is None or wanted > 0:
            request.page_size = page_size if wanted is None else min(page_size, wanted)
            answer = self.call(method, request)
            found = getattr(answer, field)
            yield from found
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token
            wanted = None if wanted is None else wanted - len(found)

    def open(self, method: Any, request: Any) -> Any:
        """A stream of answers, as the gRPC call that can be cancelled; read it with `read`."""
        return method(request, metadata=self.metadata)

    def read(self, stream: Any) -> Iterator[Any]:
        """The answers of an open stream. Raises NodeFailure."""
        import grpc

        try:
            yield from stream
        except grpc.RpcError as error:
            raise self.failure(error) from error

    def stream(self, method: Any, request: Any) -> Iterator[Any]:
        """A stream of answers. Raises NodeFailure."""
        return self.read(self.open(method, request))

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def failure(self, error: grpc.RpcError) -> NodeFailure:
        """What a failed call means, told by its status and google.rpc.ErrorInfo, never by its text."""
        import grpc

        from bacalhau.rpc.limits import MESSAGE_BYTES_MAX

        call: Any = error  # what the channel raises is a grpc.Call too
        code, reason, hint = call.code(), error_reason(call), ""
        if code is grpc.StatusCode.UNAVAILABLE and not reason:
            tls = " with TLS" if self.address.ca_file else ""
            return NodeFailure(
                f"no node answers at {self.address}{tls}: start one with `bacalhau serve`, or say where it "
                "is with "
                "BACALHAU_API_HOST and BACALHAU_API_PORT (or --api-host and --api-port)",
                answered=False,
            )
        if code is grpc.StatusCode.UNIMPLEMENTED and not reason:
            hint = f"; the node at {self.address} is older than this command, or it is no Bacalhau node"
        elif code is grpc.StatusCode.UNAUTHENTICATED:
            hint = (
                "; give the node's token with --api-token-file, BACALHAU_API_TOKEN_FILE or BACALHAU_API_TOKEN"
            )
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            hint = f"; the node at {self.address} took longer than {CALL_TIMEOUT_SECONDS} seconds to answer"
        elif code is grpc.StatusCode.RESOURCE_EXHAUSTED and not reason:
            hint = f"; messages may have {size_text(MESSAGE_BYTES_MAX)}: add large content as an input"
        name = reason or (code.name if code else "UNKNOWN")
        return NodeFailure(f"{call.details() or 'the call failed'}{hint} ({name})", reason=reason)

    def _open(self) -> grpc.Channel:
        import grpc

        from bacalhau.rpc.limits import MESSAGE_BYTES_MAX

        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            # How long one attempt to connect may take: a host that swallows packets must not hold a command
            # up, and a node on a machine with more work than cores answers all the same.
            ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
            ("grpc.enable_http_proxy", 0),  # the node is local or named by its user
        ]
        if self.address.ca_file is None:
            return grpc.insecure_channel(str(self.address), options)
        root = _read(self.address.ca_file, "the certificate file")
        if b"-----BEGIN CERTIFICATE-----" not in root:
            raise UsageFailure(
                f"{self.address.ca_file} holds no certificate (PEM): give the node's, or that of who vouches for it"
            )
        return grpc.secure_channel(str(self.address), grpc.ssl_channel_credentials(root), options)


def error_reason(call: grpc.Call) -> str:
    """The `reason` of the google.rpc.ErrorInfo that came with a failed call, or nothing."""
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            from google.protobuf.message import DecodeError
            from google.rpc import error_details_pb2, status_pb2

            info = error_details_pb2.ErrorInfo()
            try:
                for detail in status_pb2.Status.FromString(value).details:
                    if detail.Unpack(info):
                        return str(info.reason)
            except DecodeError:  # whoever answers there, the status that came with it still tells something
                return ""
    return ""


def _read(name: str, what: str) -> bytes:
    try:
        return Path(name).expanduser().read_bytes()
    except OSError as error:
        raise UsageFailure(f"{what} {name} cannot be read: {error.strerror}") from error
