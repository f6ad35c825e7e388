"""libp2p hosts with a Bitswap of their own, in trio, for tests: as the node makes them."""

from __future__ import annotations

import functools
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec

import pytest

from bacalhau.ipfs.blockstore import BlockStore, MemoryBlockStore
from bacalhau.ipfs.dag import child_cids

trio = pytest.importorskip("trio", reason="the extra p2p is not installed")
pytest.importorskip("libp2p", reason="the extra p2p is not installed")

from libp2p import new_host  # noqa: E402
from libp2p.network.config import ConnectionConfig  # noqa: E402
from libp2p.peer.peerinfo import info_from_p2p_addr  # noqa: E402
from multiaddr import Multiaddr  # noqa: E402

from bacalhau.p2p.bitswap.exchange import Bitswap  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from libp2p.abc import IHost

    from bacalhau.model.cid import Cid

P = ParamSpec("P")


def in_trio(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """A test that runs in trio, and not on the event loop of the others."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            with trio.fail_after(60):
                await test(*args, **kwargs)

        try:
            trio.run(main)
        except BaseExceptionGroup as group:
            raise _only(group) from None

    return run


def _only(error: BaseException) -> BaseException:
    """The failure itself, which each nursery around it has put into a group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@dataclass
class Host:
    """A host, its store and its Bitswap."""

    host: IHost
    store: BlockStore
    bitswap: Bitswap

    @property
    def address(self) -> str:
        return str(self.host.get_addrs()[0])

    @property
    def name(self) -> str:
        return str(self.host.get_id())

    async def connect(self, address: str) -> None:
        await self.host.connect(info_from_p2p_addr(Multiaddr(address)))

    async def fetch(self, *roots: Cid) -> dict[Cid, bytes]:
        """What is below `roots`, as far as it can be had."""
        got: dict[Cid, bytes] = {}
        session = self.bitswap.session()
        try:
            wanted = set(roots)
            session.want(roots)
            while wanted and (batch := await session.receive()):
                for cid, block in batch:
                    assert cid in wanted, "came twice, or was not asked for"
                    assert cid.verify(block)
                    got[cid] = block
                    wanted.remove(cid)
                    new = [child for child in dict.fromkeys(child_cids(cid, block)) if child not in got]
                    session.want([child for child in new if child not in wanted])
                    wanted.update(new)
        finally:
            session.close()
        return got


@asynccontextmanager
async def running_host(store: BlockStore | None = None, **settings: Any) -> AsyncIterator[Host]:
    host = new_host(muxer_preference="YAMUX", connection_config=ConnectionConfig(max_connections_per_peer=1))
    store = store or MemoryBlockStore()
    bitswap = Bitswap(store, **settings)
    async with host.run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(bitswap.run, host)
                yield Host(host, store, bitswap)
                nursery.cancel_scope.cancel()
        finally:
            # The listener outlives `run` otherwise.
            with trio.CancelScope(shield=True):
                await host.close()
