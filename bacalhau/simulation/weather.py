"""What goes wrong in a simulated world at present: messages, disks, processes, programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


@dataclass(slots=True)
class Weather:
    """Chances are in a thousand, each drawn from the world's generator when it counts."""

    latency_us: int = 0
    jitter_us: Callable[[Random], int] | None = None
    """Drawn for each message and added to its latency, so that messages overtake each other."""
    loss: int = 0
    duplication: int = 0
    straggling: int = 0
    """Messages that take up to twenty seconds."""
    partitioned: tuple[tuple[str, str], ...] = ()
    """Pairs of nodes that do not hear each other."""
    apart: frozenset[str] = frozenset()
    """Nodes that hear each other and none of the others."""
    late_wakes_us: int = 0
    """How much later than its deadline a node may wake: its process stood still."""
    crashes: int = 0
    """Nodes that die between two of commit, send and start."""
    commit_us: int = 0
    """A commit takes up to so long; what comes meanwhile waits for the next, and a crash loses both."""
    program_faults: int = 0
    """Executions that fail for a reason of their node."""

    def delay_us(self, random: Random) -> int:
        """How long the next message takes."""
        return self.latency_us if self.jitter_us is None else self.latency_us + self.jitter_us(random)

    @property
    def calm(self) -> bool:
        """Every message arrives once."""
        return not (self.loss or self.duplication or self.straggling or self.partitioned or self.apart)
