"""gRPC over a connection that the other side opened: bytes both ways, ends, and limits."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from bacalhau.p2p import tunnel
from bacalhau.p2p.host import Host
from bacalhau.p2p.port import CannotConnect
from bacalhau.p2p.tunnel import Tunnels
from bacalhau.wire.identity import NodeKey
from tests.node.live import until
from tests.p2p.hosts import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Echoes:
    """A TCP server that sends back what it gets, in the place of a peer API."""

    def __init__(self) -> None:
        self.open = 0
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self.open -= 1
            writer.close()


@contextlib.asynccontextmanager
async def callers_and_called() -> AsyncIterator[tuple[Host, Tunnels, Host, Echoes]]:
    """Two hosts: the second, whose tunnels end in the echo, has dialled the first."""
    echoes = Echoes()
    server = await asyncio.start_server(echoes.answer, "127.0.0.1", 0)
    echoes.port = server.sockets[0].getsockname()[1]
    tunnels = Tunnels(("127.0.0.1", 9))
    caller = Host(NodeKey.generate(), (LOOPBACK,), (tunnels,))
    called = Host(NodeKey.generate(), (LOOPBACK,), (Tunnels(("127.0.0.1", echoes.port)),))
    await caller.start()
    await called.start()
    try:
        await called.connect((await caller.addresses())[0])
        await until_here(caller, called.node_id)
        yield caller, tunnels, called, echoes
    finally:
        await caller.stop()
        await called.stop()
        server.close()
        await server.wait_closed()


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def until_here(host: Host, node_id: str) -> None:
    """The side that is dialled has the connection a moment later than the one that dials."""
    for _ in range(300):
        if node_id in await host.connected():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{node_id} is not connected")


async def until_gone(host: Host, node_id: str) -> None:
    for _ in range(300):
        if node_id not in await host.connected():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{node_id} is still connected")


async def close(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_mebibyte_goes_there_and_back_and_the_end_of_one_side_is_the_end_of_the_other() -> None:
    async with callers_and_called() as (caller, tunnels, called, echoes):
        address = await caller.bridge.call(tunnels.open, called.node_id)
        assert await caller.bridge.call(tunnels.open, called.node_id) == address
        reader, writer = await dial(address)
        sent = bytes(range(256)) * 4096

        async def send() -> None:
            writer.write(sent)
            await writer.drain()
            writer.write_eof()

        _, got = await asyncio.gather(send(), reader.read(-1))
        assert got == sent
        await close(writer)
        await until(lambda: echoes.open == 0, "the server's side is closed")


async def test_two_first_calls_at_once_share_one_tunnel() -> None:
    async with callers_and_called() as (caller, tunnels, called, _):
        opened = [caller.bridge.call(tunnels.open, called.node_id) for _ in range(2)]
        first, second = await asyncio.gather(*opened)
        assert first == second


async def test_a_peer_that_is_not_connected_cannot_be_called() -> None:
    async with callers_and_called() as (caller, tunnels, _, _):
        with pytest.raises(CannotConnect, match="no connection"):
            await caller.bridge.call(tunnels.open, NodeKey.generate().node_id)


async def test_one_peer_gets_so_many_streams_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "STREAMS_PER_PEER_MAX", 2)
    async with callers_and_called() as (caller, tunnels, called, echoes):
        address = await caller.bridge.call(tunnels.open, called.node_id)
        first, second = await dial(address), await dial(address)
        for reader, writer in (first, second):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        reader, third = await dial(address)
        third.write(b"x")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read(1) == b""
        assert echoes.open == 2
        await close(first[1], third)
        await until(lambda: echoes.open == 1, "one is closed")
        reader, fourth = await dial(address)
        fourth.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await close(second[1], fourth)


async def test_tunnels_end_with_the_host_and_open_again_after_its_restart() -> None:
    async with callers_and_called() as (caller, tunnels, called, _):
        address = await caller.bridge.call(tunnels.open, called.node_id)
        await caller.restart()
        with pytest.raises(ConnectionRefusedError):
            await dial(address)
        await until_gone(called, caller.node_id)
        await called.connect((await caller.addresses())[0])
        await until_here(caller, called.node_id)
        reader, writer = await dial(await caller.bridge.call(tunnels.open, called.node_id))
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await close(writer)
