"""What a store answers to wants: blocks, whether they are there, or that they are not."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs.errors import BlockNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bacalhau.ipfs.blockstore import BlockStore, ServedStore
    from bacalhau.model.cid import Cid
    from bacalhau.p2p.bitswap.messages import Want

_ANSWER_BYTES: Final = 512 * 1024
"""A message is full when its blocks weigh this, or one weighs more: what a peer that takes nothing holds in memory."""
ANSWER_WANTS: Final = 512
_AT_ONCE_SECONDS: Final = 0.02
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
    is_on_disk: bool = False
    """The first of `left` is a block that has to be read there."""
    block_bytes: int = 0

    def __bool__(self) -> bool:
        """There is something to say."""
        return bool(self.blocks or self.presences)


def answer(store: BlockStore, wants: Sequence[Want], may_serve: Callable[[Cid], bool]) -> Answer:
    """Look up `wants` in their order until a message is full. Reads the disk: for a thread.

    What `may_serve` denies is as what is not there, so that nobody learns of it.
    """

    def find(want: Want) -> bytes | bool:
        return (want.have and store.size(want.cid) > _SMALL_BYTES) or store.get(want.cid)

    return _answer(wants, may_serve, find)


def answer_at_once(store: ServedStore, wants: Sequence[Want], may_serve: Callable[[Cid], bool]) -> Answer:
    """As `answer`, up to the first block that is not in memory, or a want to know whether one is there: reading it
    costs less than a thread to read it in. Waits for nothing but the index, and for that not long."""
    until = time.monotonic() + _AT_ONCE_SECONDS

    def find(want: Want) -> bytes | None:
        return None if want.have or time.monotonic() >= until else store.at_hand(want.cid)

    return _answer(wants, may_serve, find)


def _answer(
    wants: Sequence[Want], may_serve: Callable[[Cid], bool], find: Callable[[Want], bytes | bool | None]
) -> Answer:
    """`find` gives the block, True to say only that it is there, or None where it cannot tell."""
    result = Answer()
    for position, want in enumerate(wants):
        if result.block_bytes >= _ANSWER_BYTES:
            result.left = wants[position:]
            break
        cid = want.cid
        try:
            if not may_serve(cid):
                raise BlockNotFound(cid)
            found = find(want)
        except BlockNotFound:
            result.unmet.append(want)
            if want.dont_have:
                result.presences.append((cid, False))
            continue
        if found is None:
            result.left = wants[position:]
            result.is_on_disk = not want.have
            break
        if isinstance(found, bytes):
            result.blocks.append((cid.prefix, found))
            result.block_bytes += len(found)
        else:
            result.presences.append((cid, True))
        result.answered.append(want)
    return result
