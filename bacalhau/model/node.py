"""What a node says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.model.market import Tariff
from bacalhau.model.resources import Resources

if TYPE_CHECKING:
    from bacalhau.model.job import Engine


_NOTHING = Resources()
_FREE = Tariff()


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node's announcement: who and where it is, and what it can do. `sequence` grows with each one; `addresses`
    are of the peer API (HOST:PORT), `multiaddrs` of the libp2p host, both empty where nobody can dial it."""

    node_id: str
    addresses: tuple[str, ...]
    certificate_digest: bytes
    sequence: int
    compute: bool
    requester: bool
    engines: tuple[Engine, ...] = ()
    capacity: Resources = _NOTHING
    labels: tuple[tuple[str, str], ...] = ()
    version: str = ""
    tariff: Tariff = _FREE
    multiaddrs: tuple[str, ...] = ()
