"""A stranger on the peer API of a node, as a process: `python -m tests.rpc.hostile ATTACK HOST:PORT`.

It says so when its attack is at its height, and holds what it has until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import sys
from typing import TYPE_CHECKING

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from bacalhau.rpc import limits
from bacalhau.rpc.tls import SERVER_NAME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STRANGER = "127.0.0.2"
"""Another host than the one that everybody else in a test is at."""


async def silent(address: str) -> object:
    """Connections that say nothing, half as many again as a node takes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host, _, port = address.rpartition(":")
    return [socket.create_connection((host, int(port))) for _ in range(limits.PEER_CONNECTIONS_MAX * 3 // 2)]


def channel(address: str) -> grpc.aio.Channel:
    host, _, port = address.rpartition(":")
    certificate = ssl.get_server_certificate((host, int(port))).encode()
    return grpc.aio.secure_channel(
        address,
        grpc.ssl_channel_credentials(root_certificates=certificate),
        options=[("grpc.ssl_target_name_override", SERVER_NAME), *limits.CHANNEL_OPTIONS],
    )


CHECK = "/grpc.health.v1.Health/Check"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_INITIAL_WINDOW_SIZE = 4


def connect(address: str, *, source: str = "127.0.0.1", window_bytes: int = 65_535) -> ssl.SSLSocket:
    """A connection of HTTP/2 over TLS from this address, settled on both sides, that gives each answer so much room."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection((host, int(port)), source_address=(source, 0))
    secure = context.wrap_socket(plain)
    settings = _INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window_bytes.to_bytes(4, "big")
    secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, settings))
    secure.recv(1)  # its settings
    secure.sendall(_frame(_SETTINGS, _ACK, 0, b""))
    return secure


def call(stream: int, method: str, request: bytes | None) -> bytes:
    """The frames of a call, of the headers alone where there is no request; `stream` is odd and grows."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": method,
        ":authority": SERVER_NAME,
        "te": "trailers",
        "content-type": "application/grpc",
    }
    headers = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
    frames = _frame(_HEADERS, _END_HEADERS, stream, headers)
    if request is not None:
        frames += _frame(_DATA, _END_STREAM, stream, b"\0" + len(request).to_bytes(4, "big") + request)
    return frames


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + content


def _text(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


async def finished(address: str) -> object:
    """Connections with all that TLS and HTTP/2 want, and no call: as many as a node takes."""
    opened = []
    for _ in range(limits.PEER_CONNECTIONS_MAX):
        with contextlib.suppress(OSError):  # it has enough of them
            opened.append(connect(address, source=STRANGER))
    return opened


async def half_calls(address: str) -> object:
    """Calls that never send their request, and such as never take their answer: more than a node handles at once."""
    opened = [
        connect(address, source=STRANGER, window_bytes=0)
        for _ in range(1 + limits.PEER_CALLS_MAX // limits.PEER_STREAMS_MAX)
    ]
    for connection in opened:
        calls = [
            call(2 * number + 1, CHECK, None if number % 2 else b"")
            for number in range(limits.PEER_STREAMS_MAX - 1)
        ]
        connection.sendall(b"".join(calls))
    return opened


async def endless(address: str) -> object:
    """Calls that need no key and would last as long as their caller likes, more than a node handles at once."""
    channels = [channel(address) for _ in range(1 + limits.PEER_CALLS_MAX // limits.PEER_STREAMS_MAX)]
    watches = [
        health_pb2_grpc.HealthStub(one).Watch(health_pb2.HealthCheckRequest())
        for one in channels
        for _ in range(limits.PEER_STREAMS_MAX - 100)
    ]
    reflections = [
        reflection_pb2_grpc.ServerReflectionStub(one).ServerReflectionInfo()
        for one in channels
        for _ in range(50)
    ]
    await asyncio.gather(*(watch.read() for watch in watches), return_exceptions=True)
    return channels, watches, reflections


ATTACKS: dict[str, Callable[[str], Awaitable[object]]] = {
    "silent": silent,
    "endless": endless,
    "finished": finished,
    "half_calls": half_calls,
}


async def main(attack: str, address: str) -> None:
    held = await ATTACKS[attack](address)
    print("attacking", flush=True)
    await asyncio.Event().wait()
    del held


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
