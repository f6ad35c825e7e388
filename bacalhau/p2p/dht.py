"""The Kademlia DHT: peers that nobody told of, and who provides which content.

It speaks /ipfs/kad/1.0.0 whatever prefix it is given (kad_dht/common.py names one protocol), so the nodes form one DHT
with Kubo nodes that they are connected with.
"""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.tools.anyio_service import background_trio_service

from bacalhau.p2p.host import PeerWatch
from bacalhau.p2p.providers import BoundedProviders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from libp2p.abc import IHost
    from libp2p.peer.id import ID

    from bacalhau.model.cid import Cid

log = logging.getLogger(__name__)

FIRST_LOOK_S = 10.0
LOOK_INTERVAL_S = 300.0
QUERY_TIMEOUT_S = 20.0
PROVIDERS_MAX = 20
WAITING_MAX = 10_000
"""Announcements that wait; of more, the oldest are given up."""
INTERVAL_S = 1.25
"""From one announcement to the next. Of ten seconds peers with this library take ten of one node, and drop the others
without a word (kad_dht/kad_dht.py:1258); and jobs need the same processor."""
RETRY_S = 10.0
"""After an announcement of which nobody took note."""


@dataclass(frozen=True, slots=True)
class Provider:
    """Who has content, and the multiaddrs to dial for it; none where there is a connection already."""

    node_id: str
    addresses: tuple[str, ...]


class Dht:
    """A service of the host; see the module. `found` hears in trio of peers and their multiaddrs.

    `serves`: it answers others; a node that nobody can dial must not.
    """

    def __init__(self, found: Callable[[str, tuple[str, ...]], None], *, serves: bool) -> None:
        self._found = found
        self._serves = serves
        self._dht: KadDHT | None = None
        self._host: IHost | None = None
        self._waiting: OrderedDict[Cid, None] = OrderedDict()
        self._again: OrderedDict[Cid, None] = OrderedDict()
        self._woken = trio.Event()

    async def run(self, host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
        # Nodes of one office or machine share a subnet, of which the default takes two a bucket.
        mode = DHTMode.SERVER if self._serves else DHTMode.CLIENT
        dht = KadDHT(host, mode, max_peers_per_subnet=0)
        dht.provider_store = BoundedProviders(host, dht.peer_routing)
        async with trio.open_nursery() as nursery, background_trio_service(dht):
            watch = PeerWatch(lambda peer: nursery.start_soon(self._add, dht, peer), lambda _: None)
            host.get_network().register_notifee(watch)
            self._dht, self._host = dht, host
            task_status.started()
            nursery.start_soon(self._announce, dht)
            try:
                await self._look(host, dht)
            finally:
                self._dht = self._host = None

    async def provide(self, cids: Iterable[Cid]) -> None:
        """Announces that this node has the content, each when its turn has come and until somebody takes note. In
        trio."""
        self._waiting.update(dict.fromkeys(cids))
        while len(self._waiting) > WAITING_MAX:
            self._waiting.popitem(last=False)
        self._woken.set()

    async def provide_again(self, cids: Sequence[Cid]) -> None:
        """Announces once more what this node still has, for others forget it: when nothing new waits, and first what
        has not had its turn since the last time. In trio."""
        kept = dict.fromkeys(cids)
        for gone in self._again.keys() - kept.keys():
            del self._again[gone]
        self._again.update(kept)
        self._woken.set()

    async def find_providers(self, cid: Cid, count: int = PROVIDERS_MAX) -> list[Provider]:
        """Others that say that they have the content. In trio."""
        if self._dht is None or self._host is None:
            return []
        found = []
        try:
            with trio.move_on_after(QUERY_TIMEOUT_S):
                found = await self._dht.find_providers(str(cid), count)
        except Exception as failure:  # as in _announce_one
            log.info("providers of %s could not be looked up: %s", cid, failure)
        # The library names one provider as often as it is told of it (kad_dht/provider_store.py:343).
        addresses: dict[str, dict[str, None]] = {}
        for peer in found:
            addresses.setdefault(str(peer.peer_id), {}).update(dict.fromkeys(map(str, peer.addrs)))
        addresses.pop(str(self._host.get_id()), None)
        return [Provider(node_id, tuple(known)) for node_id, known in addresses.items()]

    async def _announce(self, dht: KadDHT) -> None:
        """What waits, one after another."""
        while True:
            await trio.sleep(INTERVAL_S)
            while not (self._waiting or self._again):
                self._woken = trio.Event()
                await self._woken.wait()
            queue = self._waiting or self._again
            cid = next(iter(queue))
            if await self._announce_one(dht, cid):
                queue.pop(cid, None)
            else:
                if cid in queue:
                    queue.move_to_end(cid)
                await trio.sleep(RETRY_S)

    async def _announce_one(self, dht: KadDHT, cid: Cid) -> bool:
        try:
            with trio.move_on_after(QUERY_TIMEOUT_S):
                return bool(await dht.provide(str(cid)))
        except Exception as failure:  # what peers answer makes it raise a dozen kinds
            log.info("%s could not be announced to the DHT: %s", cid, failure)
        return False

    async def _add(self, dht: KadDHT, peer: ID) -> None:
        try:
            # Whether it serves is known once it was identified (host/basic_host.py:1090), soon after it connects.
            for _ in range(5):
                await trio.sleep(1)
                if await dht.add_peer(peer):
                    return
        except Exception as failure:  # the peer is gone, or broke off
            log.debug("%s is not taken into the DHT: %s", peer, failure)

    async def _look(self, host: IHost, dht: KadDHT) -> None:
        """Asks for a random key again and again, and tells of everybody who is near it."""
        await trio.sleep(FIRST_LOOK_S)
        while True:
            try:
                with trio.move_on_after(QUERY_TIMEOUT_S):
                    peers = await dht.peer_routing.find_closest_peers_network(secrets.token_bytes(32))
                    for peer in peers:
                        known = host.get_peerstore().addrs(peer)
                        self._found(str(peer), tuple(map(str, known)))
            except Exception as failure:  # as in _announce_one
                log.debug("looking for peers in the DHT: %s", failure)
            await trio.sleep(LOOK_INTERVAL_S)
