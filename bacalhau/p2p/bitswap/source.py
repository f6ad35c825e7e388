"""Bitswap as asyncio sees it: the exchange that `fetch_dag` asks, with the bridge to trio between."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from bacalhau.p2p.bridge import BridgeDown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence

    from bacalhau.model.cid import Cid
    from bacalhau.p2p.bitswap.exchange import Bitswap
    from bacalhau.p2p.bitswap.session import Session
    from bacalhau.p2p.bridge import Bridge

_CLOSE_SECONDS: Final = 1.0


class BitswapExchange:
    """A BlockExchange. Sessions fail with BridgeDown when the host stops."""

    name = "Bitswap"

    def __init__(self, bridge: Bridge, bitswap: Bitswap) -> None:
        self._bridge = bridge
        self._bitswap = bitswap

    @asynccontextmanager
    async def session(self) -> AsyncIterator[BridgedSession]:
        """See BlockExchange."""

        async def opened() -> Session:
            return self._bitswap.session()

        async def closed(session: Session) -> None:
            session.close()

        session = await self._bridge.call(opened)
        try:
            yield BridgedSession(self._bridge, session)
        finally:
            # Also where the fetch is cancelled: peers must not go on sending.
            with contextlib.suppress(BridgeDown, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await asyncio.shield(self._bridge.call(closed, session))

    async def get_blocks(
        self, cids: Sequence[Cid], *, recursive: bool
    ) -> AsyncGenerator[tuple[Cid, bytes], None]:
        """See BlockSource; what is below is for a session."""
        left = len(set(cids))
        async with self.session() as session:
            await session.want(cids)
            while left and (batch := await session.receive()):
                left -= len(batch)
                for found in batch:
                    yield found

    async def announce(self, cids: Iterable[Cid]) -> None:
        """Blocks are here that were not: whoever wanted them is answered."""
        with contextlib.suppress(BridgeDown):
            await self._bridge.call(self.announce_in_trio, cids)

    async def announce_in_trio(self, cids: Iterable[Cid]) -> None:
        """As `announce`, for trio."""
        self._bitswap.announce(cids)


class BridgedSession:
    """A BlockSession. What is wanted is told with the next look at what has come: one crossing of the bridge for
    both."""

    def __init__(self, bridge: Bridge, session: Session) -> None:
        self._bridge = bridge
        self._session = session
        self._wanted: list[Cid] = []

    @property
    def reasons(self) -> Mapping[str, str]:
        return dict(self._session.reasons)

    async def want(self, cids: Sequence[Cid]) -> None:
        """See BlockSession."""
        self._wanted += cids

    async def receive(self) -> list[tuple[Cid, bytes]]:
        """See BlockSession."""
        wanted, self._wanted = self._wanted, []
        return await self._bridge.call(self._turn, wanted)

    async def _turn(self, wanted: list[Cid]) -> list[tuple[Cid, bytes]]:
        if wanted:
            self._session.want(wanted)
        return await self._session.receive()
