"""Statements between drivers that the core never sees: they begin or end an exchange, and decide nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bacalhau.model.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The signed answer to a bid or decline: its statement's id, and SHA-256 of its envelope (Opened.digest).

    With a `refusal` the bid has no effect. Of a bid that takes part it says when it was received, which of the
    offer's bids it was, and what its node counts as: what the clearing is computed from.
    """

    statement_id: str
    digest: bytes
    refusal: Refusal | None = None
    received_us: int | None = None
    position: int = 0
    reputation_permille: int = 0


@dataclass(frozen=True, slots=True)
class OfferClosed:
    """Bids on this offer will not be used."""

    offer_id: str


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The requester wants an execution stopped; `message` is for the node's operator."""

    execution_id: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class RevealRequest:
    """The requester asks for a result that was committed to."""

    execution_id: str


@dataclass(frozen=True, slots=True)
class LogRequest:
    """The requester asks for the output of an execution, with `follow` until the program ends."""

    execution_id: str
    follow: bool = False
