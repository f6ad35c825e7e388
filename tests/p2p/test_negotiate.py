"""Streams as other implementations open them: in one go, line by line, for what is not spoken here, and never."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.peer.id import ID

from tests.p2p.hosts import running

if TYPE_CHECKING:
    from libp2p.abc import IHost, INetStream

    from bacalhau.p2p.host import Host

HEADER = b"\x13/multistream/1.0.0\n"
ECHO = b"\x0c/echo/1.0.0\n"
NOT_HERE = b"\x03na\n"
GONE = (StreamEOF, StreamReset)


class Echo:
    """Says again what it is told until the end of the stream."""

    async def run(
        self, host: IHost, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        host.set_stream_handler(TProtocol("/echo/1.0.0"), self._answer)
        task_status.started()
        await trio.sleep_forever()

    async def _answer(self, stream: INetStream) -> None:
        assert stream.get_protocol() == "/echo/1.0.0"
        with contextlib.suppress(StreamEOF):
            while said := await stream.read(1000):
                await stream.write(said)
        await stream.close()


async def conversation(asker: Host, answerer: Host, steps: list[tuple[bytes, bytes]]) -> bool:
    """Whether each of what is said is answered so. A stream on which nothing is agreed before."""

    async def talk() -> bool:
        peer = ID.from_string(answerer.node_id)
        stream = await asker.ihost.get_network().new_stream(peer)
        with trio.move_on_after(20), contextlib.suppress(*GONE):
            for said, answer in steps:
                await stream.write(said)
                got = b""
                while len(got) < len(answer):
                    got += await stream.read(len(answer) - len(got))
                assert got == answer
            await stream.reset()
            return True
        return False

    return await asker.bridge.call(talk)


@pytest.mark.parametrize(
    "steps",
    [
        [(HEADER + ECHO + b"hello", HEADER + ECHO + b"hello")],
        [(HEADER, HEADER), (ECHO, ECHO), (b"hello", b"hello")],
        [(HEADER[:7], b""), (HEADER[7:] + b"\x06/no/1\n" + ECHO, HEADER + NOT_HERE + ECHO), (b"x", b"x")],
        [(HEADER + b"\x06/no/1\n", HEADER + NOT_HERE), (ECHO, ECHO), (b"x", b"x")],
    ],
    ids=["at once", "line by line", "a second proposal", "a second proposal after the answer"],
)
async def test_a_protocol_is_agreed_on_however_the_peer_asks(steps: list[tuple[bytes, bytes]]) -> None:
    async with running(Echo()) as answerer, running() as asker:
        await asker.connect((await answerer.addresses())[0])
        assert await conversation(asker, answerer, steps)


async def test_what_is_spoken_here_is_listed() -> None:
    async with running(Echo()) as answerer, running() as asker:
        await asker.connect((await answerer.addresses())[0])

        async def ask() -> bytes:
            stream = await asker.ihost.get_network().new_stream(ID.from_string(answerer.node_id))
            await stream.write(HEADER + b"\x03ls\n" + ECHO)
            listed = b""
            while not listed.endswith(ECHO):
                listed += await stream.read(1000)
            await stream.reset()
            return listed

        listed = await asker.bridge.call(ask)
        assert b"\n/echo/1.0.0\n" in listed.removeprefix(HEADER)
        assert b"/ipfs/id/1.0.0\n" in listed


@pytest.mark.parametrize(
    "said",
    [
        b"\x13/multistream/2.0.0\n",
        b"\xff\xff\xff\xff" + bytes(100),
        b"\x00",
        HEADER + b"\x04abcd",
        HEADER + b"\x06/no/1\n" * 100,
    ],
    ids=["another version", "a line without end", "no line", "no newline", "proposals without end"],
)
async def test_a_stream_that_agrees_on_nothing_is_ended_and_the_connection_stays(said: bytes) -> None:
    async with running(Echo()) as answerer, running() as asker:
        await asker.connect((await answerer.addresses())[0])
        never = bytes(1 << 16)
        assert not await conversation(asker, answerer, [(said, never)])
        assert await conversation(asker, answerer, [(HEADER + ECHO + b"x", HEADER + ECHO + b"x")])


@settings(max_examples=8, deadline=None)
@given(st.lists(st.binary(max_size=80), min_size=30, max_size=30))
async def test_whatever_bytes_come_the_host_lives(noise: list[bytes]) -> None:
    async with running(Echo()) as answerer, running() as asker:
        await asker.connect((await answerer.addresses())[0])
        for said in noise:
            await conversation(asker, answerer, [(said, b""), (HEADER, b"")])
        assert await conversation(asker, answerer, [(HEADER + ECHO + b"x", HEADER + ECHO + b"x")])
