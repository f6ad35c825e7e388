"""A stranger on the peer API of a node, as a process: `python -m tests.rpc.hostile ATTACK HOST:PORT`.

It says so when its attack is at its height, and holds what it has until it is killed.
"""

from __future__ import annotations

import asyncio
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


ATTACKS: dict[str, Callable[[str], Awaitable[object]]] = {"silent": silent, "endless": endless}


async def main(attack: str, address: str) -> None:
    held = await ATTACKS[attack](address)
    print("attacking", flush=True)
    await asyncio.Event().wait()
    del held


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
