"""What this node states, signed: the one way in which its other parts make envelopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.wire.envelope import seal, seal_message
from bacalhau.wire.limits import VALID_FOR_US

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.node.clock import Clock
    from bacalhau.wire.envelope import Body, SignedEnvelope
    from bacalhau.wire.identity import NodeKey


class Signer:
    """Signs with `key`. Each statement has a new id of `ids`, is issued now where no other time is given, and holds
    for `valid_for_us` microseconds. `recipient` is a node id; it is empty for what is for everyone.

    Both methods raise Refused(TOO_LARGE) for a statement above the limit of an envelope.
    """

    def __init__(self, key: NodeKey, clock: Clock, ids: Callable[[str], str]) -> None:
        self.node_id = key.node_id
        self._key = key
        self._clock = clock
        self._ids = ids

    def seal(
        self, body: Body, recipient: str, *, issued_us: int | None = None, valid_for_us: int = VALID_FOR_US
    ) -> bytes:
        """The envelope's bytes."""
        return seal(
            self._key,
            body,
            id=self._ids("s"),
            issued_at_us=self._clock.now() if issued_us is None else issued_us,
            valid_for_us=valid_for_us,
            recipient=recipient,
        )

    def seal_message(self, body: Body, recipient: str, *, valid_for_us: int = VALID_FOR_US) -> SignedEnvelope:
        """The envelope as calls carry it."""
        return seal_message(
            self._key,
            body,
            id=self._ids("s"),
            issued_at_us=self._clock.now(),
            valid_for_us=valid_for_us,
            recipient=recipient,
        )
