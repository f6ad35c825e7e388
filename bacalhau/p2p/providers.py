"""What other peers say that they provide: the library's provider store, with a bound.

kad_dht/provider_store.py keeps whatever any peer announces for 48 hours, in a dictionary, a record and multiaddrs for
each announcement, and announces everything that this node ever provided again, also what is not here any more. Here the
keys that were announced longest ago give way, what one peer announces within ten minutes is one record for all of its
keys, and `Dht` alone says what is announced. A network announces the result of each of its jobs, so that a key is to
cost next to nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from libp2p.kad_dht.common import BUCKET_SIZE
from libp2p.kad_dht.provider_store import PROVIDER_RECORD_EXPIRATION_INTERVAL, ProviderStore

if TYPE_CHECKING:
    from libp2p.abc import IHost
    from libp2p.kad_dht.peer_routing import PeerRouting
    from libp2p.peer.id import ID
    from libp2p.peer.peerinfo import PeerInfo

KEYS_MAX = 20_000
"""About 150 bytes each while one peer provides it."""
PEERS_MAX = 1_000
SHARED_S = 600
"""By so much too early a record may end, of its 48 hours."""


@dataclass(frozen=True, slots=True)
class _Announcement:
    """What a peer has said of itself, and when; of all the keys that it announced about then."""

    peer: PeerInfo
    announced_s: float

    def is_valid(self, now_s: float) -> bool:
        return now_s - self.announced_s < PROVIDER_RECORD_EXPIRATION_INTERVAL


_Announcements = tuple[_Announcement, ...]


class BoundedProviders(ProviderStore):
    """See the module. It replaces all of the library's store that the DHT calls, which is less than there is."""

    def __init__(self, host: IHost, peer_routing: PeerRouting) -> None:
        super().__init__(host, peer_routing)
        self._keys: dict[bytes, _Announcements] = {}
        """Those announced last at the end."""
        self._peers: OrderedDict[ID, _Announcements] = OrderedDict()
        """Of each the last, as the only one of a key: keys that nobody else announces share this tuple."""

    def add_provider(self, key: bytes, provider: PeerInfo) -> None:
        """See ProviderStore."""
        self.providing_keys.clear()  # what the library would announce again
        known = self._keys.pop(key, ())
        others = tuple(one for one in known if one.peer.peer_id != provider.peer_id)
        if len(others) < BUCKET_SIZE:
            known = others + self._announced(provider, time.time())
        self._keys[key] = known
        if len(self._keys) > KEYS_MAX:
            del self._keys[next(iter(self._keys))]

    def _announced(self, provider: PeerInfo, now_s: float) -> _Announcements:
        """The same as of the peer's last keys, where it says the same a little later."""
        last = self._peers.get(provider.peer_id)
        if last is not None and last[0].peer.addrs == provider.addrs:
            if 0 <= now_s - last[0].announced_s < SHARED_S:
                return last
            provider = last[0].peer
        self._peers[provider.peer_id] = (_Announcement(provider, now_s),)
        if len(self._peers) > PEERS_MAX:
            self._peers.popitem(last=False)
        return self._peers[provider.peer_id]

    def get_providers(self, key: bytes) -> list[PeerInfo]:
        """See ProviderStore."""
        now_s = time.time()
        return [one.peer for one in self._keys.get(key, ()) if one.is_valid(now_s)]

    def cleanup_expired(self) -> None:
        """See ProviderStore. A key goes with the last of its providers."""
        now_s = time.time()
        expired = [key for key, known in self._keys.items() if not any(one.is_valid(now_s) for one in known)]
        for key in expired:
            del self._keys[key]
