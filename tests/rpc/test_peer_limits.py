"""What one stranger without a key can use up of the peer API: what is bounded stays free for everybody else."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from typing import TYPE_CHECKING

from bacalhau.node.node import Node
from bacalhau.rpc import limits
from bacalhau.rpc.peer_client import PeerLink
from tests.node.live import running, settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest


@contextlib.contextmanager
def silent_connections(node: Node, count: int) -> Iterator[list[socket.socket]]:
    host, _, port = node.peer_address.rpartition(":")
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(count)]
        for one in opened:
            one.setblocking(False)
        yield opened


async def how_many_closed(connections: list[socket.socket], seconds: float) -> int:
    """By the node, within so many seconds."""

    async def closed(connection: socket.socket) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().sock_recv(connection, 1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    return sum(await asyncio.gather(*map(closed, connections)))


async def test_silent_connections_are_bounded_in_number_and_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PEER_CONNECTIONS_MAX", 5)
    monkeypatch.setattr(limits, "PEER_HANDSHAKE_TIMEOUT_S", 2.0)
    async with running(tmp_path) as node:
        with silent_connections(node, 20) as silent:
            assert await how_many_closed(silent, 1) == 15
            assert await how_many_closed(silent, 10) == 20
        link = await PeerLink.open(node.peer_address)
        assert await link.get_peers() == []
        await link.close()


async def test_connections_leave_half_of_the_files_that_a_process_may_open_for_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(limits, "PEER_CONNECTIONS_MAX", 100_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        node = await Node.start(settings(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        with silent_connections(node, 150) as silent:
            assert await how_many_closed(silent, 1) == 150 - 128
    finally:
        await node.stop()
