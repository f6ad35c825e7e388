"""Which compute nodes are live, and samples of them.

A node is live for a while after it was heard. A sample is picked by a hash of a key that is handed in, an
offer's id, so that it is as random as ids are, and the same again in a replay.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_DRAWS_PER_NODE = 20
_BLOCK = Struct(">4Q")
_DRAWS_PER_BLOCK = 4


class LiveNodes:
    """See the module. Hearing, losing and picking a node cost the same however many there are."""

    def __init__(self, live_for_us: int) -> None:
        self.emptied_us = 0
        """When the last one was found silent. After a pause of this node's own all are, until they are heard again."""
        self.heard_us: int | None = None
        """When any was heard last."""
        self._live_for_us = live_for_us
        self._heard: OrderedDict[str, int] = OrderedDict()
        """By node: when it was last heard, longest ago first. In a plain dictionary whoever asks for the first passes
        the gaps of all that were moved to its end."""
        self._nodes: list[str] = []
        """The same nodes in an order that only changes when one comes or goes: what samples index."""
        self._places: dict[str, int] = {}

    def hear(self, node_id: str, now: int) -> bool:
        """The node was heard. Whether it was not live before."""
        self.drop_silent(now)
        known = node_id in self._heard
        self._heard[node_id] = self.heard_us = now
        if known:
            self._heard.move_to_end(node_id)
        else:
            self._places[node_id] = len(self._nodes)
            self._nodes.append(node_id)
        return not known

    def lose(self, node_id: str) -> None:
        """The node counts as live again when it is heard."""
        if self._heard.pop(node_id, None) is None:
            return
        place, last = self._places.pop(node_id), self._nodes.pop()
        if last != node_id:
            self._nodes[place] = last
            self._places[last] = place

    def drop_silent(self, now: int) -> None:
        silent: list[str] = []
        for node_id, heard_us in self._heard.items():
            if now - heard_us <= self._live_for_us:
                break
            silent.append(node_id)
        for node_id in silent:
            self.lose(node_id)
        if silent and not self._nodes:
            self.emptied_us = now

    def all(self, now: int) -> tuple[str, ...]:
        """Longest not heard first."""
        self.drop_silent(now)
        return tuple(self._heard)

    def count(self, now: int) -> int:
        self.drop_silent(now)
        return len(self._heard)

    def unordered(self, now: int) -> Iterable[str]:
        """All of them without a copy, for whoever looks at few."""
        self.drop_silent(now)
        return self._nodes

    def sample(
        self, size: int, key: str, now: int, *, excludes: Callable[[str], bool] | None
    ) -> tuple[str, ...]:
        """Up to `size` different nodes, each as likely as another. Where most are excluded it may find fewer
        than there are."""
        self.drop_silent(now)
        nodes = self._nodes
        if len(nodes) <= size:
            return tuple(node_id for node_id in nodes if excludes is None or not excludes(node_id))
        picked: dict[str, None] = {}
        for number in _draws(key, size * _DRAWS_PER_NODE):
            node_id = nodes[number % len(nodes)]
            if node_id not in picked and (excludes is None or not excludes(node_id)):
                picked[node_id] = None
                if len(picked) == size:
                    break
        return tuple(picked)


def _draws(key: str, count: int) -> Iterable[int]:
    """At least so many numbers below 2**64 that the key determines."""
    for index in range(0, count, _DRAWS_PER_BLOCK):
        yield from _BLOCK.unpack(hashlib.sha256(f"{key}/{index}".encode()).digest())
