"""Refusals: the closed set of ordinary noes, with the figures that explain them."""

from __future__ import annotations

from enum import Enum
from typing import Final

from bacalhau.model.frozen import dataclass


class RefusalReason(Enum):
    """Why something was refused; the numbers are those of refusal.proto. Which is found first, where there are several,
    the code that looks says, and docs/market.md: no order of the numbers."""

    MALFORMED = 1
    TOO_LARGE = 2
    UNAUTHENTICATED = 3
    BAD_SIGNATURE = 4
    WRONG_RECIPIENT = 5
    STALE = 6
    ID_REUSED = 7
    LIMIT_REACHED = 8
    NOT_FOUND = 9
    AMBIGUOUS_ID = 10
    WRONG_STATE = 11
    UNSUPPORTED = 12
    ENGINE_MISSING = 13
    NETWORK_POLICY = 14
    IMAGE_POLICY = 15
    CONSTRAINT = 16
    LOCALITY_POLICY = 17
    PROBE = 18
    INFEASIBLE = 19
    TIMEOUT_POLICY = 20
    PRICE_CEILING = 21
    BUSY = 22
    SHUTTING_DOWN = 23
    OFFER_CLOSED = 24
    BID_UNKNOWN = 25
    LEASE_ENDED = 26
    CONTENT_UNAVAILABLE = 27
    UNSAFE_PATH = 28
    STORAGE_FULL = 29
    PRICE_SCRIPT = 40
    REPUTATION = 31
    CREDIT_LIMIT = 30


PASSING: Final = (
    RefusalReason.BUSY,
    RefusalReason.LIMIT_REACHED,
    RefusalReason.SHUTTING_DOWN,
    RefusalReason.STORAGE_FULL,
    RefusalReason.CREDIT_LIMIT,
)
"""Declines that may turn into bids while the offer is open."""

ENDS_WORK: Final = (
    RefusalReason.LEASE_ENDED,
    RefusalReason.NOT_FOUND,
    RefusalReason.ID_REUSED,
    RefusalReason.MALFORMED,
)
"""Refusals of a report, a commitment or a renewal after which it is not repeated: the requester has no use for it."""

TAKES_BID_BACK: Final = (
    RefusalReason.BID_UNKNOWN,
    RefusalReason.SHUTTING_DOWN,
    RefusalReason.CREDIT_LIMIT,
)
"""Refusals of an award that say nothing of its node's conduct: the bid had ended by its own terms, or by what the
requester owes."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An explained no: one sentence in the refusing node's voice, and figures as (name with unit, value)."""

    reason: RefusalReason
    message: str
    figures: tuple[tuple[str, int], ...] = ()


class Refused(Exception):
    """Carries a refusal through code that answers by returning; the edge turns it into a status or a message."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def refused(reason: RefusalReason, message: str, **figures: int) -> Refused:
    """Shorthand for raising: `raise refused(RefusalReason.NOT_FOUND, "…")`."""
    return Refused(Refusal(reason, message, tuple(figures.items())))
