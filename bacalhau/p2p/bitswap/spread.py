"""Which peer is asked for which block: the wants of one session spread over those who have the content.

Owns windows, who said no to what, and who is too slow. Reads no clock and sends nothing: the session does. Ties end on
the peer's id, so that the same story gives the same asks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.model.cid import Cid

# Blocks of this many bytes are asked of one peer at once: enough for a long line, and little to lose to a slow one.
_WINDOW_BYTES: Final = 4 * 1024 * 1024
_WINDOW_MIN: Final = 8
# Two sessions with one peer stay within the 1024 wants that Kubo and this node take.
_WINDOW_MAX: Final = 512
_FIRST_BLOCK_BYTES: Final = 256 * 1024
_DOUBLE_AFTER_SECONDS: Final = 1.0
PROVIDERS_MAX: Final = 16


@dataclass(slots=True)
class _Wanted:
    """A block that is missing: the CIDs that name it, who is asked for it, and who does not have it."""

    cids: list[Cid]
    asked: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Provider:
    """A peer that has at least a part. `open` are its unanswered asks and when they were made, oldest first."""

    open: dict[bytes, float] = field(default_factory=dict)
    silent_since: float = 0.0
    mean_bytes: int = _FIRST_BLOCK_BYTES

    @property
    def window(self) -> int:
        return min(max(_WINDOW_BYTES // max(self.mean_bytes, 1), _WINDOW_MIN), _WINDOW_MAX)


class Spread:
    """See the module. Blocks are known by their multihash, peers by their id; times are seconds of one clock."""

    def __init__(self) -> None:
        self._wanted: dict[bytes, _Wanted] = {}
        # Wanted, asked of nobody, and somebody may have it; those that nobody known has are left out.
        self._queue: deque[bytes] = deque()
        self._homeless: dict[bytes, None] = {}
        self._providers: dict[str, _Provider] = {}

    # --- what is wanted ---

    def __len__(self) -> int:
        return len(self._wanted)

    def want(self, cids: Iterable[Cid]) -> list[bytes]:
        """Add what is missing; the multihashes that are new."""
        new: list[bytes] = []
        for cid in cids:
            wanted = self._wanted.get(cid.multihash)
            if wanted is None:
                self._wanted[cid.multihash] = _Wanted([cid])
                self._queue.append(cid.multihash)
                new.append(cid.multihash)
            elif cid not in wanted.cids:
                wanted.cids.append(cid)
        return new

    def wants(self, key: bytes) -> bool:
        """Whether the block is missing."""
        return key in self._wanted

    def cid(self, key: bytes) -> Cid:
        """What a missing block is asked for by."""
        return self._wanted[key].cids[0]

    def keys(self) -> list[bytes]:
        """Everything that is missing."""
        return list(self._wanted)

    def asked(self, peer: str) -> list[Cid]:
        """What a peer is asked for."""
        provider = self._providers.get(peer)
        return [] if provider is None else [self.cid(key) for key in provider.open]

    def is_denied(self, peer: str, key: bytes) -> bool:
        """The peer has said that it does not have the block."""
        return peer in self._wanted[key].denied

    def homeless(self, count: int) -> list[bytes]:
        """Up to `count` missing blocks that no provider is left for."""
        if not self._providers:
            self._homeless.update(dict.fromkeys(self._queue))
            self._queue.clear()
        return [key for key, _ in zip(self._homeless, range(count), strict=False)]

    @property
    def is_asking(self) -> bool:
        """Somebody is asked for something."""
        return any(peer.open for peer in self._providers.values())

    @property
    def is_stuck(self) -> bool:
        """Nothing is asked of anybody, and nothing can be."""
        return bool(self._wanted) and not self._queue and not self.is_asking

    # --- what peers say ---

    @property
    def providers(self) -> list[str]:
        return list(self._providers)

    def add(self, peer: str) -> bool:
        """A peer that has some of it. False where it is known or there are enough."""
        if peer in self._providers or len(self._providers) >= PROVIDERS_MAX:
            return False
        self._providers[peer] = _Provider()
        self._requeue(self._homeless)
        return True

    def drop(self, peer: str) -> None:
        """It is of no more use; what it was asked for is asked of others."""
        provider = self._providers.pop(peer, None)
        if provider is not None:
            for key in reversed(provider.open):
                self._unask(key, peer)

    def denies(self, peer: str, key: bytes) -> None:
        """The peer does not have that block."""
        wanted = self._wanted.get(key)
        if wanted is None:
            return
        wanted.denied.add(peer)
        provider = self._providers.get(peer)
        if provider is not None and provider.open.pop(key, None) is not None:
            self._unask(key, peer)

    def came(self, peer: str, key: bytes, size_bytes: int, now: float) -> tuple[list[Cid], set[str]]:
        """A missing block has come: the CIDs that name it, and who else was asked for it."""
        wanted = self._wanted.pop(key)
        self._homeless.pop(key, None)
        for asked in wanted.asked:
            self._providers[asked].open.pop(key, None)
        provider = self._providers.get(peer)
        if provider is not None:
            provider.silent_since = now
            provider.mean_bytes += (size_bytes - provider.mean_bytes) // 4
        return wanted.cids, wanted.asked - {peer}

    # --- whom to ask ---

    def assign(self, now: float, room: dict[str, int]) -> dict[str, list[Cid]]:
        """New asks by peer; `room` says how many each may get at most, whatever its window."""
        free = {
            peer: min(provider.window - len(provider.open), room.get(peer, 0))
            for peer, provider in self._providers.items()
            # Asks go out by the quarter of a window, not one for each block that came.
            if len(provider.open) * 4 <= provider.window * 3
        }
        asks: dict[str, list[Cid]] = {}
        passed: list[bytes] = []
        while self._queue and any(count > 0 for count in free.values()) and len(passed) < _WINDOW_MAX:
            key = self._queue.popleft()
            wanted = self._wanted.get(key)
            if wanted is None:
                continue
            if not self._providers.keys() - wanted.denied:
                self._homeless[key] = None
                continue
            peer = self._least_loaded([peer for peer in free if free[peer] > 0 and peer not in wanted.denied])
            if peer is None:
                passed.append(key)
                continue
            self._ask(key, wanted, peer, now)
            free[peer] -= 1
            asks.setdefault(peer, []).append(wanted.cids[0])
        self._queue.extendleft(reversed(passed))
        if not self._queue:
            self._double(now, free, asks)
        return asks

    def silent(self, now: float, seconds: float) -> list[str]:
        """Peers that were asked, and have sent nothing that was wanted for so long."""
        return [
            peer
            for peer, provider in self._providers.items()
            if provider.open and now - provider.silent_since >= seconds
        ]

    def excuse(self, now: float) -> None:
        """Nobody could have sent anything until now, for nothing was taken."""
        for provider in self._providers.values():
            provider.silent_since = now

    def _least_loaded(self, peers: list[str]) -> str | None:
        def load(peer: str) -> tuple[int, str]:
            provider = self._providers[peer]
            return len(provider.open) * 10_000 // provider.window, peer

        return min(peers, key=load, default=None)

    def _ask(self, key: bytes, wanted: _Wanted, peer: str, now: float) -> None:
        provider = self._providers[peer]
        if not provider.open:
            provider.silent_since = now
        provider.open[key] = now
        wanted.asked.add(peer)

    def _double(self, now: float, free: dict[str, int], asks: dict[str, list[Cid]]) -> None:
        """At the end, ask those who have nothing left to do for what others are slow to send."""
        late = [
            key
            for provider in self._providers.values()
            for key, asked in provider.open.items()
            if now - asked >= _DOUBLE_AFTER_SECONDS and len(self._wanted[key].asked) == 1
        ]
        for peer in sorted(self._providers):
            if self._providers[peer].open:
                continue
            for key in late[: max(free.get(peer, 0), 0)]:
                wanted = self._wanted[key]
                if len(wanted.asked) == 1 and peer not in wanted.asked and peer not in wanted.denied:
                    self._ask(key, wanted, peer, now)
                    asks.setdefault(peer, []).append(wanted.cids[0])

    def _unask(self, key: bytes, peer: str) -> None:
        wanted = self._wanted[key]
        wanted.asked.discard(peer)
        if not wanted.asked:
            self._queue.appendleft(key)

    def _requeue(self, keys: Iterable[bytes]) -> None:
        back = list(keys)
        for key in back:
            del self._homeless[key]
        self._queue.extendleft(reversed(back))
