"""Who may say how much, and who is cut off: token buckets, and penalties that fade."""

from __future__ import annotations

from dataclasses import dataclass

PENALTY_MAX = 100.0
"""A peer that has collected as much is cut off."""
PENALTY_FADES_PER_S = 2.0
BAN_S = 60.0
PEERS_MAX = 4096
"""Peers whose penalties are remembered; of more, the oldest are forgotten."""


class Bucket:
    """A token bucket: `burst` at once, `rate_per_s` in the long run. Times are seconds of one monotonic clock."""

    __slots__ = ("_burst", "_rate", "_tokens", "_when")

    def __init__(self, rate_per_s: float, burst: int, now: float) -> None:
        self._rate = rate_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._when = now

    def has_one(self, now: float) -> bool:
        self._tokens = min(self._burst, self._tokens + (now - self._when) * self._rate)
        self._when = now
        return self._tokens >= 1

    def take(self, now: float) -> bool:
        """Takes a token; False where there is none."""
        if not self.has_one(now):
            return False
        self._tokens -= 1
        return True

    def is_full(self, now: float) -> bool:
        self.has_one(now)
        return self._tokens >= self._burst


@dataclass(slots=True)
class _Standing:
    penalty: float
    when: float
    banned_until: float = 0.0


class Bans:
    """Penalties by peer. A peer whose ban ends starts anew."""

    def __init__(self) -> None:
        self._peers: dict[str, _Standing] = {}

    def penalise(self, peer: str, penalty: float, now: float) -> bool:
        """Adds to what the peer has; whether it is cut off by this one."""
        if penalty <= 0:
            return False
        standing = self._peers.pop(peer, None) or _Standing(0.0, now)
        self._peers[peer] = standing
        if len(self._peers) > PEERS_MAX:
            del self._peers[next(iter(self._peers))]
        standing.penalty = max(0.0, standing.penalty - (now - standing.when) * PENALTY_FADES_PER_S) + penalty
        standing.when = now
        if standing.penalty < PENALTY_MAX or standing.banned_until > now:
            return False
        standing.banned_until = now + BAN_S
        standing.penalty = 0.0
        return True

    def banned(self, peer: str, now: float) -> bool:
        standing = self._peers.get(peer)
        return standing is not None and standing.banned_until > now
