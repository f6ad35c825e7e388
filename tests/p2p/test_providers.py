"""What strangers announce to the DHT is bounded, and one peer's addresses are kept once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from bacalhau.p2p import providers
from bacalhau.p2p.providers import BoundedProviders
from bacalhau.wire.identity import NodeKey

if TYPE_CHECKING:
    from libp2p.abc import IHost


class _Named:
    """All that the store asks of a host."""

    def get_id(self) -> ID:
        return a_peer()


def a_peer() -> ID:
    return ID.from_string(NodeKey.generate().node_id)


def announced(peer: ID, port: int = 4001) -> PeerInfo:
    return PeerInfo(peer, [Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")])


@pytest.fixture
def store() -> BoundedProviders:
    return BoundedProviders(cast("IHost", _Named()), cast("Any", None))


def test_of_too_many_keys_those_announced_longest_ago_give_way(
    store: BoundedProviders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "KEYS_MAX", 3)
    for number in (0, 1, 2, 0, 3, 4):
        store.add_provider(b"key %d" % number, announced(a_peer()))
    assert [number for number in range(5) if store.get_providers(b"key %d" % number)] == [0, 3, 4]


def test_the_records_of_one_peer_share_its_addresses_until_they_change(store: BoundedProviders) -> None:
    peer = a_peer()
    for number, port in enumerate((1, 1, 2)):
        store.add_provider(b"key %d" % number, announced(peer, port))
    first, second, third = (store.get_providers(b"key %d" % number)[0].addrs for number in range(3))
    assert first[0] is second[0]
    assert str(third[0]).endswith("/2")


def test_peers_whose_addresses_are_shared_are_bounded(
    store: BoundedProviders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "PEERS_MAX", 2)
    for number in range(5):
        store.add_provider(b"key", announced(a_peer(), number + 1))
    assert len(store._peers) == 2
    assert len(store.get_providers(b"key")) == 5
