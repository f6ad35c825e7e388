"""Nodes of the libp2p network with a store and Bitswap, for tests: as the node makes them."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bacalhau.ipfs.blockstore import CollectableStore, MemoryBlockStore
from bacalhau.ipfs.fetch import Fetched, fetch_dag
from bacalhau.p2p.bitswap.exchange import Bitswap
from bacalhau.p2p.bitswap.source import BitswapExchange
from tests.p2p.hosts import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from bacalhau.model.cid import Cid
    from bacalhau.p2p.bitswap.counters import Counters
    from bacalhau.p2p.dht import Dht
    from bacalhau.p2p.host import Host, Service


@dataclass
class Swapper:
    """A host, its store and its Bitswap."""

    host: Host
    store: CollectableStore
    bitswap: Bitswap
    exchange: BitswapExchange

    @property
    def counters(self) -> Counters:
        return self.bitswap.counters

    async def connect(self, other: Swapper | str) -> None:
        address = other if isinstance(other, str) else (await other.host.addresses())[0]
        await self.host.connect(address)

    async def fetch(self, root: Cid, **settings: Any) -> Fetched:
        return await fetch_dag(root, self.store, [], exchange=self.exchange, **settings)

    async def ask_for(self, cids: Sequence[Cid]) -> tuple[dict[Cid, bytes], Mapping[str, str]]:
        """These blocks, when all have come, and by their ids why peers were of no use; nothing is stored."""
        come: dict[Cid, bytes] = {}
        async with self.exchange.session() as session:
            await session.want(cids)
            while len(come) < len(cids):
                come.update(await session.receive())
            return come, session.reasons


@asynccontextmanager
async def swapping(
    store: CollectableStore | None = None, dht: Dht | None = None, **settings: Any
) -> AsyncIterator[Swapper]:
    store = MemoryBlockStore() if store is None else store
    bitswap = Bitswap(store, routing=dht, **settings)
    services: list[Service] = [bitswap] if dht is None else [dht, bitswap]
    async with running(*services) as host:
        yield Swapper(host, store, bitswap, BitswapExchange(host.bridge, bitswap))


async def connected(
    stack: AsyncExitStack, stores: Sequence[CollectableStore]
) -> tuple[Swapper, list[Swapper]]:
    """One with an empty store, connected to one for each of `stores`."""
    empty = await stack.enter_async_context(swapping())
    others = [await stack.enter_async_context(swapping(store)) for store in stores]
    for other in others:
        await empty.connect(other)
    return empty, others
