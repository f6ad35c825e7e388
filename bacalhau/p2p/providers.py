"""What other peers say that they provide: the library's provider store, with a bound.

kad_dht/provider_store.py keeps whatever any peer announces for 48 hours, with multiaddrs of its own for each record,
and announces everything that this node ever provided again, also what is not here any more. Here the keys that were
announced longest ago give way, records of one peer share its addresses, and `Dht` alone says what is announced.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from libp2p.kad_dht.provider_store import ProviderStore

if TYPE_CHECKING:
    from libp2p.abc import IHost
    from libp2p.kad_dht.peer_routing import PeerRouting
    from libp2p.peer.id import ID
    from libp2p.peer.peerinfo import PeerInfo

KEYS_MAX = 20_000
"""About a kilobyte each."""
PEERS_MAX = 1_000


class BoundedProviders(ProviderStore):
    """See the module."""

    def __init__(self, host: IHost, peer_routing: PeerRouting) -> None:
        super().__init__(host, peer_routing)
        self._peers: OrderedDict[ID, PeerInfo] = OrderedDict()

    def add_provider(self, key: bytes, provider: PeerInfo) -> None:
        """See ProviderStore."""
        if key in self.providers:
            self.providers[key] = self.providers.pop(key)
        super().add_provider(key, self._shared(provider))
        if len(self.providers) > KEYS_MAX:
            del self.providers[next(iter(self.providers))]

    def _shared(self, provider: PeerInfo) -> PeerInfo:
        """The same, as it was seen before."""
        known = self._peers.get(provider.peer_id)
        if known is not None and known.addrs == provider.addrs:
            return known
        self._peers[provider.peer_id] = provider
        if len(self._peers) > PEERS_MAX:
            self._peers.popitem(last=False)
        return provider

    async def _republish_provider_records(self) -> None:
        self.providing_keys.clear()
