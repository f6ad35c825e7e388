"""A noise connection over a real socket: this side's messages against the library's own."""

from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.noise.transport import Transport

from bacalhau.p2p.secured import NoiseChannel, channel_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from libp2p.abc import ISecureConn


def in_trio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def main() -> None:
            with trio.fail_after(30):
                await test(*args, **kwargs)

        trio.run(main)

    return run


async def two_ends() -> tuple[ISecureConn, ISecureConn, trio.SocketStream]:
    """A secured connection, and the socket below its second end."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        left = await trio.open_tcp_stream(*listener.socket.getsockname())
        right = await listener.accept()
    keys = [create_new_key_pair(), create_new_key_pair()]
    first, second = (Transport(pair, noise_privkey=create_noise_key_pair().private_key) for pair in keys)
    ends: list[Any] = [None, None]

    async def dial() -> None:
        ends[0] = await first.secure_outbound(
            RawConnection(TrioTCPStream(left), True), ID.from_pubkey(keys[1].public_key)
        )

    async def answer() -> None:
        ends[1] = await second.secure_inbound(RawConnection(TrioTCPStream(right), False))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(answer)
    return ends[0], ends[1], right


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=5))
@in_trio
async def test_what_one_side_writes_the_librarys_reads_and_the_other_way_round(sizes: list[int]) -> None:
    ours, theirs, _ = await two_ends()
    channel = channel_of(ours)
    assert isinstance(channel, NoiseChannel)
    sent = [random.Random(size).randbytes(size) for size in sizes]
    whole = b"".join(sent)

    async def answer() -> None:
        assert await theirs.read(len(whole)) == whole
        for part in sent:
            await theirs.write(part)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        for part in sent:
            channel.begin([part[:1], part[1:]])
            if channel.is_behind:
                await channel.finish()
        got = b""
        while len(got) < len(whole):
            got += await channel.read()
        assert got == whole
    await theirs.close()
    assert await channel.read() == b""
    await ours.close()


@in_trio
async def test_what_the_socket_does_not_take_at_once_is_sent_when_it_does() -> None:
    ours, theirs, _ = await two_ends()
    channel = channel_of(ours)
    sent: list[bytes] = []
    while not channel.is_behind:
        sent.append(random.Random(len(sent)).randbytes(200_000))
        channel.begin(sent[-1:])
    whole = b"".join(sent)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.finish)
        assert await theirs.read(len(whole)) == whole
    channel.begin([b"and more"])
    assert await theirs.read(8) == b"and more"
    await ours.close()
    await theirs.close()


@in_trio
async def test_what_follows_the_agreement_on_a_multiplexer_in_one_message_is_not_lost() -> None:
    ours, theirs, _ = await two_ends()
    await theirs.write(b"/yamux/1.0.0\nand its first frames")
    await theirs.write(b"more")
    assert await ours.read(13) == b"/yamux/1.0.0\n"
    channel = channel_of(ours)
    assert await channel.read() == b"and its first frames"
    assert await channel.read() == b"more"
    await ours.close()
    await theirs.close()


@in_trio
async def test_a_message_that_is_not_the_peers_is_refused_and_one_that_is_cut_off_is_the_end() -> None:
    ours, theirs, socket = await two_ends()
    channel = channel_of(ours)
    await socket.send_all(b"\x00\x20" + bytes(32))
    with pytest.raises(InvalidTag):
        await channel.read()
    await socket.send_all(b"\x00\x20" + bytes(31))
    await theirs.close()
    assert await channel.read() == b""
    await ours.close()
