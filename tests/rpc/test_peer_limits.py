"""What one stranger without a key can use up of the peer API: what is bounded stays free for everybody else."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
from random import Random
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bacalhau.ipfs.importer import import_stream
from bacalhau.model.refusals import RefusalReason, Refused
from bacalhau.node.node import Node
from bacalhau.rpc import limits
from bacalhau.rpc.at_once import AtOnce
from bacalhau.rpc.peer_client import PeerLink, PeerUnreachable
from bacalhau.v1 import (
    block_service_pb2,
    block_service_pb2_grpc,
    peer_service_pb2,
    peer_service_pb2_grpc,
)
from tests.node.live import all_of, peer_channel, refusal_from, running, settings
from tests.rpc import hostile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


async def test_nobody_can_watch_the_health_of_the_peer_api(tmp_path: Path) -> None:
    async with running(tmp_path) as node, peer_channel(node) as peers:
        stub = health_pb2_grpc.HealthStub(peers)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Watch(health_pb2.HealthCheckRequest()).read()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        answer = await stub.Check(health_pb2.HealthCheckRequest(service="bacalhau.v1.PeerService"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_of_the_peer_api_is_for_a_few_and_not_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REFLECTIONS_MAX", 2)
    monkeypatch.setattr(limits, "REFLECTION_S", 2.0)
    async with running(tmp_path) as node, peer_channel(node) as peers:
        stub = reflection_pb2_grpc.ServerReflectionStub(peers)

        async def asked() -> Any:
            stream = stub.ServerReflectionInfo()
            await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            return stream

        first, second = [await asked() for _ in range(2)]
        assert "bacalhau.v1.PeerService" in str(await first.read())
        await second.read()
        refusal = await refusal_from((await asked()).read())
        assert refusal.reason is RefusalReason.LIMIT_REACHED
        assert await first.read() is grpc.aio.EOF
        assert "bacalhau.v1.PeerService" in str(await (await asked()).read())


async def read_on(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


async def test_whoever_does_not_read_the_blocks_that_it_asked_for_is_cut_off_and_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLOCK_STREAMS_MAX", 2)
    monkeypatch.setattr(limits, "BLOCK_STALL_S", 1.0)
    content = Random(0)
    async with running(tmp_path) as node, peer_channel(node) as stranger, peer_channel(node) as honest:
        root = import_stream(node.blocks, (content.randbytes(1024 * 1024) for _ in range(60))).cid
        request = block_service_pb2.GetBlocksRequest(cids=[root.raw], recursive=True)
        unread = [block_service_pb2_grpc.BlockServiceStub(stranger).GetBlocks(request) for _ in range(2)]
        for stream in unread:
            await stream.read()
        stub = block_service_pb2_grpc.BlockServiceStub(honest)
        assert (await refusal_from(all_of(stub.GetBlocks(request)))).reason is RefusalReason.LIMIT_REACHED
        for stream in unread:
            await asyncio.sleep(3 * limits.BLOCK_STALL_S)  # not read for so long
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await read_on(stream)
        answers = await all_of(stub.GetBlocks(request))
        assert sum(len(block.data) for answer in answers for block in answer.blocks) > 60 * 1024 * 1024


def test_one_caller_gets_a_part_of_what_is_served_at_once() -> None:
    streams = AtOnce("streams", 3, 2)
    with streams.one("a"), streams.one("a"):
        with pytest.raises(Refused, match="serves 2 streams"), streams.one("a"):
            pass
        with streams.one("b"), pytest.raises(Refused, match="serves 3 streams"), streams.one("c"):
            pass
    with streams.one("a"):
        pass


async def without_request(channel: grpc.aio.Channel) -> Any:
    """A call of which the node has got the headers, and never gets more."""
    call: Any = channel.stream_unary("/bacalhau.v1.PeerService/GetPeers")()
    await call.wait_for_connection()
    return call


async def refuses(link: PeerLink) -> bool:
    try:
        return await link.get_peers() != []
    except PeerUnreachable:
        return True


async def test_a_call_whose_request_never_comes_makes_room_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PEER_CALLS_MAX", 3)
    monkeypatch.setattr(limits, "PEER_PATIENCE_S", 1.0)
    monkeypatch.setattr(limits, "PEER_LOOK_S", 0.5)
    async with running(tmp_path) as node, peer_channel(node) as stranger:
        held = [await without_request(stranger) for _ in range(3)]
        with pytest.raises(grpc.aio.AioRpcError, match="RESOURCE_EXHAUSTED"):
            await peer_service_pb2_grpc.PeerServiceStub(stranger).GetPeers(peer_service_pb2.GetPeersRequest())
        for call in held:
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await call
        link = await PeerLink.open(node.peer_address)
        async with asyncio.timeout(20):
            while await refuses(link):
                await asyncio.sleep(0.05)
        await link.close()


async def test_calls_of_one_host_that_wait_for_their_request_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PEER_CALLS_WAITING_PER_HOST_MAX", 2)
    async with running(tmp_path) as node, peer_channel(node) as stranger:
        held = [await without_request(stranger) for _ in range(2)]
        refusal = await refusal_from(await without_request(stranger))
        assert refusal.reason is RefusalReason.LIMIT_REACHED
        await held[0].write(b"")
        assert await held[0] == b""
        await held[1].done_writing()
        assert (await refusal_from(held[1])).reason is RefusalReason.MALFORMED


async def test_an_answer_that_nobody_takes_makes_room_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PEER_PATIENCE_S", 1.0)
    monkeypatch.setattr(limits, "PEER_LOOK_S", 0.5)
    async with running(tmp_path) as node:
        stranger = await asyncio.to_thread(hostile.connect, node.peer_address, window_bytes=0)
        with stranger:
            stranger.sendall(hostile.call(1, hostile.CHECK, request=b""))
            await until_closed(stranger)


async def test_one_host_cannot_keep_all_others_out_with_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PEER_CONNECTIONS_MAX", 8)
    monkeypatch.setattr(limits, "PEER_LOOK_S", 0.5)
    async with running(tmp_path) as node:
        opened = await asyncio.to_thread(
            lambda: [hostile.connect(node.peer_address, source="127.0.0.2") for _ in range(8)]
        )
        for stranger in opened[2:]:
            await until_closed(stranger)
        link = await PeerLink.open(node.peer_address)
        assert await link.get_peers() == []
        await link.close()
        for stranger in opened:
            stranger.settimeout(0)
            assert (stranger in opened[:2]) == is_open(stranger)
            stranger.close()


async def until_closed(connection: ssl.SSLSocket) -> None:
    """By the node."""

    def read_on() -> None:
        connection.settimeout(20)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while connection.recv(4096):
                pass

    await asyncio.to_thread(read_on)


def is_open(connection: ssl.SSLSocket) -> bool:
    try:
        while connection.recv(4096):
            pass
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False
