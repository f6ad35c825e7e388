"""gRPC over a libp2p stream: how a node that nobody can dial is called, on a connection that it opened itself.

A tunnel is a listener on this machine's loopback interface. Each TCP connection to it becomes a stream to the peer,
which connects it to its own peer API; the bytes are TLS from end to end, and the certificate is checked as ever. It is
what `ipfs p2p forward` does.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID

from bacalhau.p2p.port import CannotConnect

if TYPE_CHECKING:
    from libp2p.abc import IHost, INetStream

log = logging.getLogger(__name__)

PROTOCOL = TProtocol("/bacalhau/grpc/1.0.0")
CHUNK_BYTES = 64 * 1024
STREAMS_MAX = 256
"""Streams of all peers that are connected to the peer API at once."""
STREAMS_PER_PEER_MAX = 8
TUNNELS_MAX = 256
OPEN_TIMEOUT_S = 10.0
LINGER_S = 5.0
"""How long one direction goes on when the other has ended."""


class Tunnels:
    """A service of the host; see the module. `target` is where the peer API listens: (host, port)."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._host: IHost | None = None
        self._nursery: trio.Nursery | None = None
        self._streams: Counter[str] = Counter()
        self._open: dict[str, tuple[int, trio.CancelScope]] = {}
        self._opening = trio.Lock()
        """One at a time: two first calls to a node share its tunnel."""

    async def run(self, host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
        self._open.clear()
        self._streams.clear()
        async with trio.open_nursery() as nursery:
            self._host, self._nursery = host, nursery
            host.set_stream_handler(PROTOCOL, self._accept)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._host = self._nursery = None

    async def open(self, node_id: str) -> str:
        """HOST:PORT where the peer API of a connected peer answers, until the host stops. Raises CannotConnect."""
        if self._host is None or self._nursery is None:
            raise CannotConnect("libp2p is down")
        peer_id = ID.from_string(node_id)
        if not self._host.get_network().get_connections(peer_id):
            raise CannotConnect(f"there is no connection with {node_id}")
        async with self._opening:
            known = self._open.pop(node_id, None) or await self._begin(peer_id)
            self._open[node_id] = known
        return f"127.0.0.1:{known[0]}"

    async def _begin(self, peer_id: ID) -> tuple[int, trio.CancelScope]:
        if self._nursery is None:
            raise CannotConnect("libp2p is down")
        if len(self._open) >= TUNNELS_MAX:
            _, scope = self._open.pop(next(iter(self._open)))
            scope.cancel()
        scope = trio.CancelScope()
        return await self._nursery.start(self._listen, peer_id, scope), scope

    async def _listen(
        self, peer_id: ID, scope: trio.CancelScope, *, task_status: trio.TaskStatus[int]
    ) -> None:
        async def serve(socket: trio.SocketStream) -> None:
            try:
                with trio.fail_after(OPEN_TIMEOUT_S):
                    stream = await self._host.new_stream(peer_id, [PROTOCOL])  # type: ignore[union-attr]
            except Exception as failure:  # the library raises a dozen kinds; whoever connected sees it close
                log.debug("no tunnel to %s: %s", peer_id, failure)
                await socket.aclose()
                return
            await _join(stream, socket)

        with scope:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            task_status.started(listeners[0].socket.getsockname()[1])
            await trio.serve_listeners(serve, listeners)

    async def _accept(self, stream: INetStream) -> None:
        peer = str(stream.muxed_conn.peer_id)
        if self._streams[peer] >= STREAMS_PER_PEER_MAX or self._streams.total() >= STREAMS_MAX:
            await stream.reset()
            return
        self._streams[peer] += 1
        try:
            with trio.fail_after(OPEN_TIMEOUT_S):
                socket = await trio.open_tcp_stream(*self._target)
            await _join(stream, socket)
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]


async def _join(stream: INetStream, socket: trio.SocketStream) -> None:
    """Carries bytes both ways until both have ended, or either fails."""

    async def inwards() -> None:
        with contextlib.suppress(Exception):  # the stream or the socket has ended, however it says so
            while data := await stream.read(CHUNK_BYTES):
                await socket.send_all(data)
        with contextlib.suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            await socket.send_eof()

    async def outwards() -> None:
        with contextlib.suppress(Exception):  # as above
            async for data in socket:
                await stream.write(bytes(data))
            await stream.close()

    async def one(direction: object) -> None:
        await direction()  # type: ignore[operator]
        nursery.cancel_scope.deadline = min(nursery.cancel_scope.deadline, trio.current_time() + LINGER_S)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, inwards)
            nursery.start_soon(one, outwards)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await socket.aclose()
            with contextlib.suppress(Exception):  # it has ended already
                await stream.reset()
