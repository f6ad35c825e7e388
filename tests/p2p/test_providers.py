"""What strangers announce to the DHT is bounded, ends in time, and one peer's announcements are kept once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from libp2p.kad_dht.common import BUCKET_SIZE
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


def at(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "time", SimpleNamespace(time=lambda: seconds))


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


def test_what_one_peer_announces_about_one_time_is_one_record_for_all_of_its_keys(
    store: BoundedProviders, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = [a_peer() for _ in range(5)]
    for number in range(1000):
        at(1000.0 + number, monkeypatch)
        store.add_provider(b"key %d" % number, announced(peers[number % 5]))
    assert len(store._keys) == 1000
    assert len({id(known) for known in store._keys.values()}) == 5 * 2
    assert len({id(one.peer) for known in store._keys.values() for one in known}) == 5


def test_a_key_has_each_of_its_providers_once_and_no_more_than_the_dht_names(store: BoundedProviders) -> None:
    first, *others = peers = [a_peer() for _ in range(BUCKET_SIZE)]
    for peer in (*peers, a_peer()):
        store.add_provider(b"key", announced(peer))
    store.add_provider(b"key", announced(first, 4002))
    assert [known.peer_id for known in store.get_providers(b"key")] == [*others, first]
    assert str(store.get_providers(b"key")[-1].addrs[0]).endswith("/4002")


def test_an_announcement_ends_after_two_days_and_its_key_with_the_last(
    store: BoundedProviders, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = 24 * 3600.0
    early, late = a_peer(), a_peer()
    at(0.0, monkeypatch)
    store.add_provider(b"both", announced(early))
    store.add_provider(b"early", announced(early))
    at(1 * day, monkeypatch)
    store.add_provider(b"both", announced(late))
    at(2 * day - 1, monkeypatch)
    assert [known.peer_id for known in store.get_providers(b"both")] == [early, late]
    at(2 * day, monkeypatch)
    assert [known.peer_id for known in store.get_providers(b"both")] == [late]
    assert store.get_providers(b"early") == []
    store.cleanup_expired()
    assert set(store._keys) == {b"both"}
    at(3 * day, monkeypatch)
    store.cleanup_expired()
    assert not store._keys


def test_what_this_node_announces_is_not_announced_again_by_the_library(store: BoundedProviders) -> None:
    store.providing_keys.add(b"key")  # as its `provide` does, before it adds the provider
    store.add_provider(b"key", announced(a_peer()))
    assert not store.providing_keys
