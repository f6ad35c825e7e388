"""What a store answers to wants: blocks, whether they are there, or that they are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs.errors import BlockNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bacalhau.ipfs.blockstore import BlockStore
    from bacalhau.model.cid import Cid
    from bacalhau.p2p.bitswap.messages import Want

_ANSWER_BYTES: Final = 512 * 1024
"""A message is full when its blocks weigh this, or one weighs more: what a peer that takes nothing holds in memory."""
ANSWER_WANTS: Final = 512
# Whoever asks whether a block of this size is there is sent the block, as by Kubo and Helia.
_SMALL_BYTES: Final = 1024


@dataclass(slots=True)
class Answer:
    """What one message answers; `left` are wants that did not fit, `unmet` those for what is not here."""

    blocks: list[tuple[bytes, bytes]] = field(default_factory=list)
    presences: list[tuple[Cid, bool]] = field(default_factory=list)
    answered: list[Want] = field(default_factory=list)
    unmet: list[Want] = field(default_factory=list)
    left: Sequence[Want] = ()
    block_bytes: int = 0


def answer(store: BlockStore, wants: Sequence[Want], may_serve: Callable[[Cid], bool]) -> Answer:
    """Look up `wants` in their order until a message is full. Reads the disk: for a thread.

    What `may_serve` denies is as what is not there, so that nobody learns of it.
    """
    result = Answer()
    for position, want in enumerate(wants):
        if result.block_bytes >= _ANSWER_BYTES:
            result.left = wants[position:]
            break
        cid = want.cid
        try:
            if not may_serve(cid):
                raise BlockNotFound(cid)
            if want.have and store.size(cid) > _SMALL_BYTES:
                result.presences.append((cid, True))
            else:
                block = store.get(cid)
                result.blocks.append((cid.prefix, block))
                result.block_bytes += len(block)
        except BlockNotFound:
            result.unmet.append(want)
            if want.dont_have:
                result.presences.append((cid, False))
            continue
        result.answered.append(want)
    return result
