"""Networks of strangers in this process, without nodes: who hears what."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.model.node import NodeRecord
from bacalhau.p2p.network import StrangerNetwork
from tests.node.live import Stranger
from tests.p2p.hosts import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bacalhau.model.market import JobOffer
    from bacalhau.wire.envelope import Opened, SignedEnvelope

NOWHERE = ("127.0.0.1", 9)


def now_us() -> int:
    return time.time_ns() // 1000


class Ears:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.records: list[NodeRecord] = []
        self.offers: list[JobOffer] = []
        self.met: list[tuple[str, str]] = []

    def record_gossiped(self, opened: Opened[NodeRecord], envelope: SignedEnvelope) -> None:
        self.records.append(opened.body)

    def offers_gossiped(self, offers: Sequence[Opened[JobOffer]]) -> None:
        self.offers += [opened.body for opened in offers]

    def peer_met(self, node_id: str, found_by: str) -> None:
        self.met.append((node_id, found_by))


class Member(Stranger):
    """A key, a network and what it hears."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.ears = Ears()
        self.network = StrangerNetwork(
            self.key,
            self.ears,
            now_us,
            blocks=MemoryBlockStore(),
            may_serve=lambda _: False,
            **({"listen": (LOOPBACK,), "peer_api": NOWHERE} | settings),
        )
        self._sequence = 0

    @property
    def node_id(self) -> str:
        return self.key.node_id

    @property
    def address(self) -> str:
        return f"{self.network.addresses[0]}/p2p/{self.node_id}"

    def record(self, **changes: Any) -> NodeRecord:
        self._sequence += 1
        fields: dict[str, Any] = {
            "compute": True,
            "requester": True,
            "multiaddrs": self.network.addresses,
        } | changes
        return NodeRecord(self.node_id, (), bytes(32), self._sequence, **fields)

    def publish_record(self, **changes: Any) -> None:
        self.network.publish_record(self.seal(self.record(**changes), at_us=now_us()))


@contextlib.asynccontextmanager
async def member(**settings: Any) -> AsyncIterator[Member]:
    """A member of a network that listens."""
    one = Member(**settings)
    await one.network.start()
    try:
        yield one
    finally:
        await one.network.stop()


@contextlib.asynccontextmanager
async def members(count: int, **settings: Any) -> AsyncIterator[list[Member]]:
    """Members of which each but the first is connected to the first."""
    async with contextlib.AsyncExitStack() as stack:
        everyone = [await stack.enter_async_context(member(**settings)) for _ in range(count)]
        for one in everyone[1:]:
            await one.network.connect(everyone[0].address)
        yield everyone
