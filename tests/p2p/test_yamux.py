"""Two ends of a connection in one trio run, and an end that breaks the protocol."""

from __future__ import annotations

import contextlib
import functools
import random
import struct
from typing import TYPE_CHECKING, ParamSpec

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamEOF, MuxedStreamReset

from bacalhau.p2p.yamux import Yamux

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from bacalhau.p2p.yamux_stream import YamuxStream

P = ParamSpec("P")
WINDOW = 512 * 1024
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


class Pipe:
    """One end of a secured connection."""

    def __init__(self, stream: trio.abc.Stream, *, is_initiator: bool) -> None:
        self.is_initiator = is_initiator
        self._stream = stream

    async def read(self, n: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(n or 65_519))

    async def write(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def close(self) -> None:
        await self._stream.aclose()


def in_trio(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            with trio.fail_after(30):
                await test(*args, **kwargs)

        trio.run(main)

    return run


def two_ends() -> tuple[Yamux, Yamux]:
    left, right = trio.testing.memory_stream_pair()
    peer = ID.from_string("12D3KooWHkvZpqwKsfpXzHWnyZPTPMn3Ya9VRqz7xroWXqwqyYPN")
    return Yamux(Pipe(left, is_initiator=True), peer), Yamux(Pipe(right, is_initiator=False), peer)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def two_running_ends() -> AsyncIterator[tuple[Yamux, Yamux, trio.Nursery]]:
    """Until both ends are closed, and what else the test starts has ended."""
    left, right = two_ends()
    async with trio.open_nursery() as nursery:
        for end in (left, right):
            nursery.start_soon(end.start)
        yield left, right, nursery


def stranger() -> tuple[Yamux, trio.abc.Stream]:
    """An end, and the raw stream of its peer."""
    left, right = trio.testing.memory_stream_pair()
    peer = ID.from_string("12D3KooWHkvZpqwKsfpXzHWnyZPTPMn3Ya9VRqz7xroWXqwqyYPN")
    return Yamux(Pipe(left, is_initiator=False), peer), right  # type: ignore[arg-type]


def frame(kind: int, flags: int, stream_id: int, length: int, data: bytes = b"") -> bytes:
    return struct.pack("!BBHII", 0, kind, flags, stream_id, length) + data


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 700_000), min_size=1, max_size=5), st.integers(100, 200_000))
@in_trio
async def test_what_is_written_on_many_streams_is_read_on_each(sizes: list[int], step: int) -> None:
    sent = {number: random.Random(number).randbytes(size) for number, size in enumerate(sizes)}
    got: dict[int, bytes] = {}

    async def write(number: int) -> None:
        stream = await left.open_stream()
        await stream.write(bytes((number,)) + sent[number])
        await stream.close()

    async def read() -> None:
        stream = await right.accept_stream()
        whole = b""
        with contextlib.suppress(MuxedStreamEOF):
            while part := await stream.read(step):
                assert len(part) <= step
                whole += part
        await stream.close()
        got[whole[0]] = whole[1:]

    async with two_running_ends() as (left, right, _):
        async with trio.open_nursery() as work:
            for number in sent:
                work.start_soon(write, number)
                work.start_soon(read)
        assert got == sent
        await left.close()
    assert left.is_closed
    assert right.is_closed
    with pytest.raises(MuxedConnUnavailable):
        await right.accept_stream()


@in_trio
async def test_a_writer_waits_for_a_reader_and_no_more_than_a_window_waits_unread() -> None:
    async with two_running_ends() as (left, right, nursery):
        stream = await left.open_stream()
        other = await right.accept_stream()
        written = trio.Event()

        async def write() -> None:
            await stream.write(bytes(3 * WINDOW))
            written.set()

        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        assert not written.is_set()
        first = await other.read()
        assert 0 < len(first) <= WINDOW
        size = len(first)
        while size < 3 * WINDOW:
            size += len(await other.read(100_000))
        await written.wait()
        # One that is not read holds up no other.
        nursery.start_soon(stream.write, bytes(2 * WINDOW))
        quick = await right.open_stream()
        await quick.write(b"quick")
        assert await (await left.accept_stream()).read() == b"quick"
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@in_trio
async def test_what_several_tasks_write_on_one_stream_arrives_piece_by_piece_and_each_is_whole() -> None:
    pieces = [bytes((number,)) * 700_000 for number in range(3)]
    got = b""
    async with two_running_ends() as (left, right, nursery):
        stream = await left.open_stream()
        async with trio.open_nursery() as writers:
            for piece in pieces:
                writers.start_soon(stream.write, piece)
            reading = await right.accept_stream()
            while len(got) < 2_100_000:
                got += await reading.read(50_000)
        await left.close()
        await right.close()
        nursery.cancel_scope.cancel()
    assert sorted(got[start : start + 700_000] for start in range(0, 2_100_000, 700_000)) == pieces


@in_trio
async def test_a_writer_whose_connection_is_closed_under_it_is_told_that_it_was_reset() -> None:
    async with two_running_ends() as (left, right, nursery):
        stream = await left.open_stream()
        other = await right.accept_stream()
        told = []

        async def write() -> None:
            try:
                while True:
                    await stream.write(bytes(1000))
            except MuxedStreamReset:
                told.append("writer")

        async def read() -> None:
            try:
                while True:
                    await other.read()
            except MuxedStreamReset:
                told.append("reader")

        nursery.start_soon(write)
        nursery.start_soon(read)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        # The transport goes first: it tells the writer in words of its own.
        await left.secured_conn.close()
    assert sorted(told) == ["reader", "writer"]


@in_trio
async def test_a_reset_ends_both_directions_at_once() -> None:
    async with two_running_ends() as (left, right, _):
        stream = await left.open_stream()
        other = await right.accept_stream()
        await stream.write(b"unread")
        await stream.reset()
        await trio.testing.wait_all_tasks_blocked()
        for ended in (stream, other):
            with pytest.raises(MuxedStreamReset):
                await ended.read()
            with pytest.raises(MuxedStreamReset):
                await ended.write(b"more")
        await left.close()


@in_trio
async def test_a_half_closed_stream_can_still_be_answered() -> None:
    async with two_running_ends() as (left, right, _):
        stream = await left.open_stream()
        await stream.write(b"question")
        await stream.close()
        other = await right.accept_stream()
        assert await other.read() == b"question"
        with pytest.raises(MuxedStreamEOF):
            await other.read()
        await other.write(b"answer")
        await other.close()
        assert await stream.read() == b"answer"
        await left.close()


@pytest.mark.parametrize(
    "frames",
    [
        frame(DATA, SYN, 1, WINDOW + 1),
        frame(DATA, SYN, 1, WINDOW, bytes(WINDOW)) + frame(DATA, 0, 1, 1, b"x"),
        frame(DATA, 0, 7, 1 << 31),
        frame(DATA, SYN, 2, 0),
        frame(DATA, SYN, 1, 0) * 2,
        frame(9, 0, 0, 0),
        b"\x07" + frame(PING, SYN, 0, 0)[1:],
    ],
    ids=["too long", "beyond the window", "too long for nobody", "our number", "twice", "kind", "version"],
)
@in_trio
async def test_a_peer_that_breaks_the_protocol_is_disconnected(frames: bytes) -> None:
    end, raw = stranger()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.start)
        nursery.start_soon(raw.send_all, frames)
        while await raw.receive_some(65_536):
            pass
    assert end.is_closed


@in_trio
async def test_a_ping_is_answered_and_streams_that_are_over_are_read_past() -> None:
    end, raw = stranger()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.start)
        await raw.send_all(frame(DATA, 0, 9, 3, b"abc") + frame(PING, SYN, 0, 77))
        assert await raw.receive_some(12) == frame(PING, ACK, 0, 77)
        await raw.send_all(frame(GO_AWAY, 0, 0, 0))
    assert end.is_closed


@in_trio
async def test_a_peer_may_begin_only_so_many_streams() -> None:
    end, raw = stranger()
    refused = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.start)
        nursery.start_soon(
            raw.send_all, b"".join(frame(WINDOW_UPDATE, SYN, 2 * n + 1, 0) for n in range(300))
        )
        answers = bytearray()
        while len(answers) < 300 * 12:
            answers += await raw.receive_some(65_536)
        for position in range(0, len(answers), 12):
            _, _, flags, _, _ = struct.unpack_from("!BBHII", answers, position)
            refused += flags == RST
        await end.close()
    assert refused == 300 - 256


@in_trio
async def test_what_one_connection_sends_and_nobody_reads_is_bounded_over_all_its_streams() -> None:
    end, raw = stranger()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.start)

        async def flood() -> None:
            for number in range(200):
                await raw.send_all(frame(DATA, SYN, 2 * number + 1, WINDOW, bytes(WINDOW)))

        async def drop_answers() -> None:
            while await raw.receive_some(65_536):
                pass

        streams: list[YamuxStream] = []

        async def accept() -> None:
            while True:
                streams.append(await end.accept_stream())

        for task in (flood, drop_answers, accept):
            nursery.start_soon(task)
        await trio.testing.wait_all_tasks_blocked()
        held = len(streams)
        assert 30 <= held <= 33
        await streams[0].read()
        await trio.testing.wait_all_tasks_blocked()
        assert len(streams) == held + 1
        nursery.cancel_scope.cancel()


class _SlowPipe(Pipe):
    """One whose writes are counted, and wait until they are let go."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream, is_initiator=False)
        self.writes: list[bytes] = []
        self.let_go = trio.Event()

    async def write(self, data: bytes) -> None:
        self.writes.append(data)
        await self.let_go.wait()
        await super().write(data)


def slow_stranger() -> tuple[Yamux, _SlowPipe, trio.abc.Stream]:
    """As `stranger`, over a pipe that takes nothing until it is let go."""
    left, right = trio.testing.memory_stream_pair()
    pipe = _SlowPipe(left)
    peer = ID.from_string("12D3KooWHkvZpqwKsfpXzHWnyZPTPMn3Ya9VRqz7xroWXqwqyYPN")
    return Yamux(pipe, peer), pipe, right  # type: ignore[arg-type]


@in_trio
async def test_frames_that_are_ready_together_are_one_write() -> None:
    end, pipe, raw = slow_stranger()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.start)
        await raw.send_all(b"".join(frame(WINDOW_UPDATE, SYN, 2 * n + 1, 0) for n in range(40)))
        streams = [await end.accept_stream() for _ in range(40)]
        async with trio.open_nursery() as work:
            for number, stream in enumerate(streams):
                work.start_soon(stream.write, bytes((number,)) * 100)
        await trio.testing.wait_all_tasks_blocked()
        assert len(pipe.writes) == 1
        pipe.let_go.set()
        await end.close()
        told = b"".join(pipe.writes)
        assert len(pipe.writes) <= 3
        assert len(told) == 40 * 12 + 40 * 112 + 12
        assert told.endswith(frame(GO_AWAY, 0, 0, 0))


@in_trio
async def test_a_frame_that_nobody_waits_for_is_sent_all_the_same() -> None:
    async with two_running_ends() as (left, right, _):
        stream = await left.open_stream()
        other = await right.accept_stream()
        await stream.close()
        with pytest.raises(MuxedStreamEOF):
            await other.read()
        await left.close()


@in_trio
async def test_what_a_peer_makes_this_end_say_is_bounded_while_it_takes_nothing() -> None:
    end, pipe, raw = slow_stranger()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end.start)
        await raw.send_all(frame(PING, SYN, 0, 1))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(raw.send_all, b"".join(frame(PING, SYN, 0, n) for n in range(100_000)))
        await trio.testing.wait_all_tasks_blocked()
        assert end.unsent_bytes <= 256 * 1024 + 12
        pipe.let_go.set()
        answers = 0
        while answers < 100_001 * 12:
            answers += len(await raw.receive_some(1 << 20))
        nursery.cancel_scope.cancel()


@in_trio
async def test_a_long_message_is_read_whole_and_one_that_ends_early_as_far_as_it_came() -> None:
    sent = random.Random(7).randbytes(3 * WINDOW)

    async def write(stream: YamuxStream) -> None:
        await stream.write(sent)
        await stream.write(b"short")
        await stream.close()

    async with two_running_ends() as (left, right, nursery):
        nursery.start_soon(write, await left.open_stream())
        other = await right.accept_stream()
        assert await other.read_whole(len(sent)) == sent
        assert await other.read_whole(100) == b"short"
        assert await other.read_whole(100) == b""
        broken = await left.open_stream()
        await broken.reset()
        with pytest.raises(MuxedStreamReset):
            await (await right.accept_stream()).read_whole(100)
        await left.close()


@in_trio
async def test_a_long_message_is_read_on_a_connection_where_others_are_not() -> None:
    got: list[bytes] = []

    async def read(stream: YamuxStream) -> None:
        got.append(await stream.read_whole(200_000))

    async with two_running_ends() as (left, right, nursery):
        stream = await left.open_stream()
        await stream.write(bytes(100_000))
        nursery.start_soon(read, await right.accept_stream())
        # With what is unread of the message, these are more than a connection takes.
        for size in (WINDOW - 50_000, *[WINDOW] * 31):
            nursery.start_soon((await left.open_stream()).write, bytes(size))
        await trio.testing.wait_all_tasks_blocked()
        await stream.write(bytes(100_000))
        await trio.testing.wait_all_tasks_blocked()
        assert got == [bytes(200_000)]
        await left.close()
