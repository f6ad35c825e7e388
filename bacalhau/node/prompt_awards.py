"""Awards that go back with the answer to the bid that won them: a call less where a bid ends its auction.

Nothing says that such an award has arrived, but the report of its work. Where that does not come soon, the award is
sent by a call as well, and whoever has it answers that he has.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bacalhau.model.market import Award
    from bacalhau.node.signer import Signer
    from bacalhau.scheduler.effects import SendAward
    from bacalhau.wire.envelope import SignedEnvelope

CALL_AFTER_S = 0.05
"""Work that takes longer is confirmed by a call."""


class Slot:
    """What the answer to one bid may carry."""

    award: Award | None = None
    """Set once it is on disk, and must not go before."""

    envelope: SignedEnvelope | None = None
    """The award, signed."""


class PromptAwards:
    """The bids that are being answered."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Slot] = {}

    @contextlib.contextmanager
    def answering(self, node_id: str, offer_id: str) -> Iterator[Slot]:
        """While a bid of the node on the offer waits for its answer."""
        slot = self._open[node_id, offer_id] = Slot()
        try:
            yield slot
        finally:
            if self._open.get((node_id, offer_id)) is slot:
                del self._open[node_id, offer_id]

    def make_ready(self, send: SendAward, signer: Signer) -> None:
        """Signs the award, where it is to go with an answer, while it is on its way to the disk."""
        slot = self._open.get((send.to, send.award.offer_id))
        if slot is not None:
            slot.envelope = signer.seal_message(send.award, send.to)

    def take(self, send: SendAward) -> bool:
        """Whether the award goes with an answer."""
        slot = self._open.pop((send.to, send.award.offer_id), None)
        if slot is None:
            return False
        slot.award = send.award
        return True
