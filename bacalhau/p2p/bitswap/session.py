"""A session: blocks that one caller wants, from all peers that have them at once.

Owns the search for peers that have the content, their asks, and the blocks that have come and nobody has taken yet.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from bacalhau.model.cid import UnsupportedHash
from bacalhau.p2p.bitswap.messages import Want, cancels
from bacalhau.p2p.bitswap.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.model.cid import Cid
    from bacalhau.p2p.bitswap.exchange import Bitswap

log = logging.getLogger(__name__)

_WAITING_BYTES_MAX: Final = 8 * 1024 * 1024
_TICK_SECONDS: Final = 0.5
_SILENT_SECONDS: Final = 8.0
# Where nobody else has it: a Kubo that syncs thousands of blocks on a busy disk says nothing meanwhile.
_ALONE_SILENT_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 4.0
"""How long peers that are asked whether they have something may take to say so."""
_PROBES: Final = 16
_ASKED_PEERS_MAX: Final = 64
_GATHER_SECONDS: Final = 0.01
_GATHER_BYTES: Final = 1024 * 1024
_TAKEN_BYTES_MAX: Final = 4 * 1024 * 1024
_PRIORITY_MAX: Final = 2**31 - 1


class Session:
    """See the module. Used in one trio task, beside the exchange's own; ended by `close`."""

    def __init__(self, exchange: Bitswap) -> None:
        self.reasons: dict[str, str] = {}
        """By peer: why it was of no use."""
        self._exchange = exchange
        self._spread = Spread()
        self._come: deque[tuple[Cid, bytes]] = deque()
        self._come_bytes = 0
        self._changed = trio.Event()
        self._waiting_for_room = trio.lowlevel.ParkingLot()
        self._spare: dict[str, None] = {}
        self._probed: dict[bytes, tuple[set[str], float]] = {}
        """By a missing block that nobody known has: who is asked whether it has it, and until when."""
        self._samples: set[bytes] = set()
        """Every block that peers were asked about."""
        self._looked_up: set[bytes] = set()
        self._lookups = 0
        self._priority = _PRIORITY_MAX
        self._is_over = False
        self._scope = trio.CancelScope()

    # --- for the caller ---

    def want(self, cids: Iterable[Cid]) -> None:
        """Ask for blocks; they come in any order."""
        missing: list[Cid] = []
        for cid in cids:
            # Kubo answers a want for the block of no bytes by saying that it has it (boxo engine.go, isWantBlock).
            if _is_empty(cid):
                self._come.append((cid, b""))
            else:
                missing.append(cid)
        self._exchange.interested(self, self._spread.want(missing))
        self._is_over = False
        self.step()

    async def receive(self) -> list[tuple[Cid, bytes]]:
        """Blocks that have come, at least one; none when what is still missing cannot be had."""
        while not self._come and not self._is_over:
            self._changed = trio.Event()
            await self._changed.wait()
        with trio.move_on_after(_GATHER_SECONDS):
            # Each crossing to who takes them costs as much as a block.
            while self._come_bytes < _GATHER_BYTES and self._spread.is_asking and not self._is_over:
                self._changed = trio.Event()
                await self._changed.wait()
        taken: list[tuple[Cid, bytes]] = []
        size = 0
        while self._come and size < _TAKEN_BYTES_MAX:
            found = self._come.popleft()
            size += len(found[1])
            taken.append(found)
        was_full = self.is_full
        self._come_bytes -= size
        if was_full and not self.is_full:
            self._spread.excuse(trio.current_time())
            self._waiting_for_room.unpark_all()
            self.step()
        return taken

    def close(self) -> None:
        """Take back what is still asked for."""
        self._scope.cancel()
        self._waiting_for_room.unpark_all()
        self._exchange.forget(self, self._spread.keys())
        for peer in self._exchange.peers():
            probed = [self._spread.cid(key) for key, (asked, _) in self._probed.items() if peer in asked]
            self._exchange.tell(peer, cancels([*self._spread.asked(peer), *probed]))

    # --- for the exchange ---

    @property
    def is_full(self) -> bool:
        """Nothing more should be read for this session before it is taken."""
        return self._come_bytes >= _WAITING_BYTES_MAX

    async def room(self) -> None:
        """Wait until there is room for more blocks. Every peer's messages may wait here."""
        while self.is_full and not self._scope.cancel_called:
            await self._waiting_for_room.park()

    def came(self, peer: str, key: bytes, block: bytes) -> list[Cid]:
        """A block that is missing here has come: what it was asked for by. `step` is called when all of a message
        have come."""
        self._probed.pop(key, None)
        cids, others = self._spread.came(peer, key, len(block), trio.current_time())
        # One that was asked whether it has it, and sent it at once, will have more.
        self._have(peer)
        for cid in cids:
            self._come.append((cid, block))
            self._come_bytes += len(block)
        for other in others:
            self._exchange.tell(other, cancels(cids[:1]))
        return cids

    def says(self, peer: str, key: bytes, *, is_there: bool) -> None:
        """A peer says whether it has a block; `step` is called when it has said all."""
        if is_there:
            # Also where the block has come meanwhile: who has a part will have more.
            if key in self._samples:
                self._have(peer)
        elif self._spread.wants(key):
            self._spread.denies(peer, key)
            if key in self._probed:
                self._probed[key][0].discard(peer)

    def joined(self, peer: str) -> None:
        """A peer is connected now: it is asked for what nobody has, or for a sample of the rest."""
        self.reasons.pop(peer, None)
        probes = self._spread.homeless(_PROBES) or self._spread.keys()[:1]
        self._probe(peer, probes)
        self._is_over = False

    def left(self, peer: str, reason: str) -> None:
        """A peer is gone, or of no more use."""
        if peer in self._spread.providers:
            self.reasons[peer] = reason
        self._spread.drop(peer)
        self._spare.pop(peer, None)
        for asked, _ in self._probed.values():
            asked.discard(peer)
        for spare in list(self._spare):
            if self._spread.add(spare):
                del self._spare[spare]
        self.step()

    async def run(self) -> None:
        """Watch over peers that are silent and searches that take too long, until closed."""
        with self._scope:
            while True:
                await trio.sleep(_TICK_SECONDS)
                if self.is_full:
                    self._spread.excuse(trio.current_time())
                    continue
                alone = len(self._spread.providers) == 1
                patience_s = _ALONE_SILENT_SECONDS if alone else _SILENT_SECONDS
                for peer in self._spread.silent(trio.current_time(), patience_s):
                    log.info("%s sent nothing for %g s and is asked no more", peer, patience_s)
                    self.left(peer, f"silent for {patience_s:g} s")
                self.step()

    def step(self) -> None:
        """Send what asks there are to send, search for what nobody has, and wake the caller."""
        now = trio.current_time()
        if not self.is_full:
            room = {peer: self._exchange.room(peer) for peer in self._spread.providers}
            for peer, cids in self._spread.assign(now, room).items():
                first = self._priority
                self._priority -= len(cids)
                self._exchange.tell(
                    peer, [Want(cid, first - place, dont_have=True) for place, cid in enumerate(cids)]
                )
        self._search(now)
        if self._come or self._is_over:
            self._changed.set()

    def _have(self, peer: str) -> None:
        if peer in self.reasons:
            return
        if not self._spread.add(peer) and peer not in self._spread.providers:
            self._spare[peer] = None

    def _search(self, now: float) -> None:
        homeless = self._spread.homeless(_PROBES)
        for key in homeless:
            if key not in self._probed:
                self._probed[key] = (set(), now + _ANSWER_SECONDS)
                for peer in self._exchange.peers()[:_ASKED_PEERS_MAX]:
                    self._probe(peer, [key])
        unanswered = [key for key in homeless if self._probed[key][0] and now < self._probed[key][1]]
        if homeless and not unanswered:
            self._look_up(homeless[0])
        if self._spread.is_stuck and not unanswered and not self._lookups:
            self._is_over = True

    def _probe(self, peer: str, keys: Iterable[bytes]) -> None:
        if peer in self.reasons:
            return
        wants = []
        for key in keys:
            if self._spread.is_denied(peer, key):
                continue
            self._samples.add(key)
            asked, _ = self._probed.get(key, (set(), 0.0))
            self._probed[key] = (asked | {peer}, trio.current_time() + _ANSWER_SECONDS)
            wants.append(Want(self._spread.cid(key), self._priority, have=True, dont_have=True))
        self._exchange.tell(peer, wants)

    def _look_up(self, key: bytes) -> None:
        """Ask the routing who has a block that no connected peer has; each block once."""
        if key in self._looked_up or len(self._looked_up) >= _PROBES:
            return
        self._looked_up.add(key)
        self._lookups += 1
        self._exchange.start_lookup(self, self._spread.cid(key))

    def looked_up(self) -> None:
        """A look-up has ended; peers that it found have joined."""
        self._lookups -= 1
        self.step()


def _is_empty(cid: Cid) -> bool:
    try:
        return cid.verify(b"")
    except UnsupportedHash:
        return False
