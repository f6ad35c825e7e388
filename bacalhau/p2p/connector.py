"""Whom the host dials: the configured addresses always, and enough others that the network outlives any one node."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from libp2p.peer.id import ID

from bacalhau.p2p.host import dial
from bacalhau.p2p.port import CannotConnect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from libp2p.abc import IHost

log = logging.getLogger(__name__)

NEIGHBOURS = 8
"""Connections that it keeps up, whoever began them: gossip passes each message on to three to six."""
CALLERS_MAX = 100
"""Requesters that a node which nobody can dial keeps a connection with, so that they can call it."""
CANDIDATES_MAX = 4096
ROUND_S = 1.0
RETRY_FIRST_S, RETRY_LAST_S = 1.0, 30.0


@dataclass(slots=True)
class _Candidate:
    node_id: str
    addresses: tuple[str, ...]
    found_by: str
    wanted: bool = False
    """It is dialled however many others there are."""
    failures: int = 0
    next_try: float = 0.0
    dialling: bool = False


class Connector:
    """A service of the host; see the module. `met` hears in trio of each connection that this node began.

    `reachable`: others can dial this node.
    """

    def __init__(self, node_id: str, met: Callable[[str, str], None], *, reachable: bool) -> None:
        self._node_id = node_id
        self._met = met
        self._reachable = reachable
        self._candidates: dict[str, _Candidate] = {}
        self._host: IHost | None = None
        self._wake = trio.Event()

    async def run(self, host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
        for candidate in self._candidates.values():
            candidate.dialling, candidate.failures, candidate.next_try = False, 0, 0.0
        self._host = host
        task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                for candidate in self._due(host):
                    candidate.dialling = True
                    nursery.start_soon(self._dial, host, candidate)
                with trio.move_on_after(ROUND_S):
                    await self._wake.wait()
                self._wake = trio.Event()

    def keep(self, node_id: str, address: str) -> None:
        """A configured address: the connection is kept up, and tried again for ever."""
        candidate = self._candidates.get(node_id)
        known = candidate.addresses if candidate is not None else ()
        addresses = tuple(dict.fromkeys((address, *known)))
        self._candidates[node_id] = _Candidate(node_id, addresses, "configured", wanted=True)
        self._wake.set()

    def add(self, node_id: str, addresses: Iterable[str], found_by: str, *, calls: bool = False) -> None:
        """Where a peer can be dialled: multiaddrs, with its id at their end or without. `calls`: it may want to call
        this node."""
        complete = tuple(a if "/p2p/" in a else f"{a}/p2p/{node_id}" for a in addresses)
        if node_id == self._node_id or not complete:
            return
        known = self._candidates.get(node_id)
        if known is None:
            if len(self._candidates) >= CANDIDATES_MAX and not self._forget_one():
                return
            known = self._candidates[node_id] = _Candidate(node_id, complete, found_by)
        elif known.found_by != "configured":
            known.addresses = complete
        if calls and not self._reachable:
            known.wanted = True

    async def reach(self, node_id: str) -> None:
        """Dials a peer now, if it is known where and there is no connection."""
        candidate, host = self._candidates.get(node_id), self._host
        if candidate is None or host is None or candidate.dialling:
            return
        if not host.get_network().get_connections(ID.from_string(node_id)):
            candidate.dialling = True
            await self._dial(host, candidate)

    def _forget_one(self) -> bool:
        for candidate in self._candidates.values():
            if candidate.failures and candidate.found_by != "configured":
                del self._candidates[candidate.node_id]
                return True
        return False

    def _due(self, host: IHost) -> Sequence[_Candidate]:
        """Whom to dial now."""
        now = trio.current_time()
        here = {str(peer) for peer in host.get_connected_peers()}
        idle = [c for c in self._candidates.values() if c.node_id not in here]
        free = [c for c in idle if not c.dialling and c.next_try <= now]
        wanted = [c for c in free if c.wanted][:CALLERS_MAX]
        missing = NEIGHBOURS - len(here) - sum(c.dialling for c in idle) - len(wanted)
        others = [c for c in free if not c.wanted]
        # Any of them, not the first: or all would gather around the oldest members.
        return wanted + random.sample(others, max(0, min(missing, len(others))))

    async def _dial(self, host: IHost, candidate: _Candidate) -> None:
        try:
            for address in candidate.addresses:
                try:
                    await dial(host, address)
                except CannotConnect as failure:
                    say = (
                        log.warning
                        if candidate.found_by == "configured" and not candidate.failures
                        else log.debug
                    )
                    say("%s (tried again)", failure)
                    continue
                candidate.failures, candidate.next_try = 0, 0.0
                self._met(candidate.node_id, candidate.found_by)
                return
            wait_s = min(RETRY_LAST_S, RETRY_FIRST_S * 2**candidate.failures)
            candidate.failures = min(candidate.failures + 1, 10)
            candidate.next_try = trio.current_time() + wait_s
        finally:
            candidate.dialling = False
