"""Messages of several streams wait until what came before them is taken: each of them goes on, not the last alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import trio
import trio.testing
from libp2p.peer.id import ID

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.p2p.bitswap.counters import Counters
from bacalhau.p2p.bitswap.exchange import Bitswap, everything
from bacalhau.p2p.bitswap.messages import Message, Want
from bacalhau.p2p.bitswap.peer import Peer
from bacalhau.p2p.bitswap.session import Session
from bacalhau.p2p.bitswap.wantlist import WANTS_MAX
from tests.p2p.bitswap.contents import raw_blocks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest
    from libp2p.abc import IHost


async def all_go_on(wait: Callable[[], Awaitable[object]], let_them: Callable[[], Awaitable[object]]) -> None:
    """Three wait; then they are let go on."""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            gone_on: list[int] = []

            async def one(number: int) -> None:
                await wait()
                gone_on.append(number)

            for number in range(3):
                nursery.start_soon(one, number)
            await trio.testing.wait_all_tasks_blocked()
            assert gone_on == []
            await let_them()


def test_all_who_wait_for_room_in_a_session_go_on_when_blocks_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bacalhau.p2p.bitswap.session._WAITING_BYTES_MAX", 100_000)

    async def story() -> None:
        session = Session(Bitswap(MemoryBlockStore()))
        blocks = raw_blocks(3, 60_000)
        session.want(blocks)
        for cid in list(blocks)[:2]:
            session.came("peer", cid.multihash, blocks[cid])
        assert session.is_full
        await all_go_on(session.room, session.receive)

    trio.run(story)


def test_all_who_wait_for_room_in_a_session_go_on_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bacalhau.p2p.bitswap.session._WAITING_BYTES_MAX", 100_000)

    async def story() -> None:
        session = Session(Bitswap(MemoryBlockStore()))
        ((cid, block),) = raw_blocks(1, 120_000).items()
        session.want([cid])
        session.came("peer", cid.multihash, block)

        async def close() -> None:
            session.close()

        await all_go_on(session.room, close)

    trio.run(story)


def test_all_messages_of_a_peer_with_too_many_wants_are_let_go_when_it_leaves() -> None:
    async def story() -> None:
        host = cast("IHost", None)  # nothing is sent
        limiter = trio.CapacityLimiter(1)
        peer = Peer(host, ID(b"peer"), MemoryBlockStore(), everything, Counters(), limiter)
        peer.wants.update(Message([Want(cid) for cid in raw_blocks(WANTS_MAX, 8)]))
        assert peer.wants.is_full

        async def leave() -> None:
            peer.stop()

        await all_go_on(lambda: peer.heard(Message()), leave)

    trio.run(story)
