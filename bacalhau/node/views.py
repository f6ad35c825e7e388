"""What the node tells its clients of itself and of the other nodes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from bacalhau.model.refusals import RefusalReason, refused
from bacalhau.rpc.node_service import NodeView
from bacalhau.rpc.peer_client import PeerUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.model.reputation import Reputation
    from bacalhau.node.driver import Driver
    from bacalhau.node.membership import Membership, Peer


class NodeViews:
    """See the module and NodePort. `notices` says what is wrong with this node, for people."""

    def __init__(
        self, driver: Driver, membership: Membership, notices: Callable[[], tuple[str, ...]]
    ) -> None:
        self._driver = driver
        self._membership = membership
        self._notices = notices

    def self_view(self) -> NodeView:
        compute = self._driver.compute
        return NodeView(
            record=self._membership.record,
            heard_us=self._driver.clock.now(),
            live=True,
            is_self=True,
            found_by="self",
            free=compute.capacity.free,
            running_executions=compute.running_executions,
            notices=self._notices(),
            reputations=self._reputations(self._membership.node_id),
        )

    def peer_views(self) -> list[NodeView]:
        return [self._peer_view(peer) for peer in self._membership.peers()]

    def exchanged(self) -> dict[str, int] | None:
        network = self._membership.network
        return asdict(network.exchanged) if network is not None else None

    async def connect(self, address: str) -> NodeView:
        try:
            return self._peer_view(await self._membership.connect(address))
        except PeerUnreachable as failure:
            raise refused(RefusalReason.NOT_FOUND, str(failure)) from failure

    def _peer_view(self, peer: Peer) -> NodeView:
        return NodeView(
            peer.record,
            peer.heard_us,
            self._membership.live(peer),
            False,
            peer.found_by,
            reputations=self._reputations(peer.record.node_id),
        )

    def _reputations(self, node_id: str) -> tuple[tuple[Reputation, int], ...]:
        """What was seen of a node, in each role of which anything was, with its score now."""
        books = (self._driver.requester.reputations, self._driver.compute.reputations)
        now = self._driver.clock.now()
        return tuple(
            (known, book.score_ppm(node_id, now)) for book in books if (known := book.of(node_id)) is not None
        )
