"""Reputation: what this node has seen of others, as compute nodes and as requesters."""

from __future__ import annotations

from enum import Enum

from bacalhau.model.frozen import dataclass


class Role(Enum):
    """As what a node is judged; the numbers are those in the journal."""

    COMPUTE = 1
    REQUESTER = 2


class Conduct(Enum):
    """What a node did in one trade; numbers are those of reputation.proto."""

    COMPLETED = 1
    FAILED = 2
    LATE = 3
    CHEATED = 4
    REFUSED = 5
    PAID = 6
    DISPUTED = 7
    ABANDONED = 8

    @property
    def role(self) -> Role:
        return Role.REQUESTER if self in _OF_REQUESTERS else Role.COMPUTE


_OF_REQUESTERS = (Conduct.PAID, Conduct.DISPUTED, Conduct.ABANDONED)


@dataclass(frozen=True, slots=True)
class ConductCount:
    """How often it was seen, and how much of that is left after decay, in millionths of one time."""

    conduct: Conduct
    count: int
    recent_ppm: int


@dataclass(frozen=True, slots=True)
class Reputation:
    """A node in one role; `counts` in order of Conduct, as they were at `updated_us`."""

    node_id: str
    role: Role
    updated_us: int
    counts: tuple[ConductCount, ...] = ()
    consecutive_valid: int = 0
    """Results in a row that were checked against those of others and found valid."""

    def count(self, conduct: Conduct) -> int:
        return sum(known.count for known in self.counts if known.conduct is conduct)
