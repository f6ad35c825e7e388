"""Offers of many jobs at once: they wait until those who submitted the jobs have their answers.

A submission is a step of a millisecond; the auction that its offer sets off on this very node, and the start of the
work, are several. And gRPC hands over one call in each turn of the event loop (its aio server asks for one at a time).
Were each offer made with its job, the last of many clients would be answered when most of the work is done.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from bacalhau.scheduler.effects import SendOffer

if TYPE_CHECKING:
    from bacalhau.scheduler.effects import Effects, Send

FEW = 4
"""A turn with more to do is one of many jobs at once: the answers that wait for it go first."""
AT_ONCE = 8
"""So many of those that wait go in a turn that brings no new one."""


class OfferQueue:
    """An offer waits for half its bid window at most: what remains is for the bids."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, SendOffer]] = deque()
        """When each goes at the latest, and the offer."""

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, effects: Effects, now_s: float) -> int:
        """Takes the offers out of what a step asks for, and says how many there were."""
        others: list[Send] = []
        for send in effects.sends:
            if isinstance(send, SendOffer):
                self._waiting.append((now_s + send.offer.bid_window_us / 2e6, send))
            else:
                others.append(send)
        taken = len(effects.sends) - len(others)
        if taken:
            effects.sends = others
        return taken

    def due(self, new: int, now_s: float) -> list[SendOffer]:
        """Those that go in a turn which brought so many new ones, the oldest first."""
        if not new:
            least = AT_ONCE
        elif new == len(self._waiting) <= FEW:
            least = new
        else:
            least = 0
        going: list[SendOffer] = []
        while self._waiting and (len(going) < least or self._waiting[0][0] <= now_s):
            going.append(self._waiting.popleft()[1])
        return going
