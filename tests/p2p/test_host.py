"""The libp2p host: identity, connections, restarts, and what peers cannot do to it."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID

from bacalhau.p2p.host import Host, PeerWatch
from bacalhau.p2p.port import CannotConnect, CannotListen
from bacalhau.wire.identity import NodeKey
from tests.node.live import until
from tests.p2p.hosts import LOOPBACK, running

if TYPE_CHECKING:
    from libp2p.abc import IHost, INetStream

ECHO = TProtocol("/bacalhau-test/echo/1.0.0")
CHUNK = 4096


class Echo:
    """Sends back what it gets, and raises at b"raise"; tells who came and went."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.lives = 0

    async def run(self, host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
        self.lives += 1
        host.set_stream_handler(ECHO, self._answer)
        watch = PeerWatch(
            lambda peer: self.seen.append(f"+{peer}"), lambda peer: self.seen.append(f"-{peer}")
        )
        host.get_network().register_notifee(watch)
        task_status.started()
        await trio.sleep_forever()

    async def _answer(self, stream: INetStream) -> None:
        while data := await stream.read(CHUNK):
            if data == b"raise":
                raise ZeroDivisionError("the handler has a bug")
            await stream.write(data)


async def say(host: Host, to: str, data: bytes) -> bytes:
    async def exchange() -> bytes:
        stream = await host.ihost.new_stream(ID.from_string(to), [ECHO])
        await stream.write(data)
        answer = await stream.read(CHUNK)
        await stream.close()
        return answer or b""

    return await host.bridge.call(exchange)


def port_of(address: str) -> int:
    return int(address.split("/")[4])


async def test_its_peer_id_is_the_node_id() -> None:
    key = NodeKey.generate()
    async with running(key=key) as host:
        [address] = await host.addresses()
        assert address.endswith(f"/p2p/{key.node_id}")
        assert host.node_id == key.node_id


async def test_two_hosts_connect_speak_and_hear_of_each_other() -> None:
    echo = Echo()
    async with running(echo) as a, running() as b:
        assert await b.connect((await a.addresses())[0]) == a.node_id
        assert await b.connected() == [a.node_id]
        assert await say(b, a.node_id, b"hello") == b"hello"
        await b.disconnect(a.node_id)
        await until(lambda: len(echo.seen) == 2, "a saw b come and go")
    assert echo.seen == [f"+{b.node_id}", f"-{b.node_id}"]


async def test_a_handler_that_raises_ends_its_stream_and_nothing_else() -> None:
    async with running(Echo()) as a, running() as b:
        await b.connect((await a.addresses())[0])
        with pytest.raises(StreamError):
            await say(b, a.node_id, b"raise")
        assert await say(b, a.node_id, b"again") == b"again"
        assert not a.bridge.ended.done()


async def test_an_address_where_another_node_answers_is_refused() -> None:
    async with running() as a, running() as b:
        [address] = await a.addresses()
        other = NodeKey.generate().node_id
        with pytest.raises(CannotConnect):
            await b.connect(address.replace(a.node_id, other))
        assert await b.connect(address) == a.node_id


async def test_a_dead_address_does_not_bar_the_right_one() -> None:
    async with running() as a, running() as b:
        [address] = await a.addresses()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(CannotConnect, match=str(port)):
            await b.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{a.node_id}")
        assert await b.connect(address) == a.node_id


@pytest.mark.parametrize("text", ["", "127.0.0.1:1", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/p2p/x"])
async def test_what_is_no_multiaddr_of_a_node_is_refused_as_that(text: str) -> None:
    async with running() as host:
        with pytest.raises(CannotConnect, match="is no multiaddr"):
            await host.connect(text)


async def test_a_port_that_is_taken_is_refused_also_by_another_host() -> None:
    async with running() as a:
        port = port_of((await a.addresses())[0])
        host = Host(NodeKey.generate(), (f"/ip4/127.0.0.1/tcp/{port}",))
        with pytest.raises(CannotListen, match="Address already in use"):
            await host.start()


async def test_a_host_restarts_on_its_port_and_its_services_with_it() -> None:
    echo = Echo()
    async with running(echo) as a, running() as b:
        [address] = await a.addresses()
        listening = Host(NodeKey.generate(), (f"/ip4/127.0.0.1/tcp/{port_of(address)}",), (echo,))
        await a.stop()
        await listening.start()
        try:
            [address] = await listening.addresses()
            for life in (2, 3):
                assert echo.lives == life
                await b.connect(address)
                assert await say(b, listening.node_id, b"x") == b"x"
                await listening.restart()
        finally:
            await listening.stop()


async def test_its_port_is_free_after_it_stopped_in_the_middle_of_traffic() -> None:
    async with running() as b:
        for _ in range(3):
            async with running(Echo()) as a:
                [address] = await a.addresses()
                await b.connect(address)
                assert await say(b, a.node_id, b"x") == b"x"

                async def flood(to: str) -> None:
                    while True:
                        await say(b, to, b"y" * CHUNK)

                floods = [asyncio.create_task(flood(a.node_id)) for _ in range(4)]
                await asyncio.sleep(0.05)
            assert a.bridge.ended.exception() is None
            for task in floods:
                task.cancel()
            await asyncio.gather(*floods, return_exceptions=True)
            with socket.create_server(("127.0.0.1", port_of(address))):
                pass
            await until_unconnected(b)


async def until_unconnected(host: Host) -> None:
    for _ in range(500):
        if not await host.connected():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the peer is gone, and its connection is not")


async def test_a_service_that_raises_ends_the_host_and_it_starts_again() -> None:
    class Failing:
        def __init__(self) -> None:
            self.fail = trio.Event()

        async def run(self, host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            await self.fail.wait()
            raise ValueError("a bug in a service")

    failing = Failing()
    host = Host(NodeKey.generate(), (LOOPBACK,), (failing,))
    await host.start()
    port = port_of((await host.addresses())[0])

    async def set_off() -> None:
        failing.fail.set()

    await host.bridge.call(set_off)
    await asyncio.wait((host.bridge.ended,))
    assert "a bug in a service" in str(host.bridge.ended.exception()) + repr(host.bridge.ended.exception())
    with socket.create_server(("127.0.0.1", port)):
        pass
    failing.fail = trio.Event()
    await host.start()
    assert await host.addresses()
    await host.stop()
