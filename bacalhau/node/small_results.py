"""Small results: those whose blocks travel with their report, and go to disk with the step that tells of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from bacalhau.ipfs.dag import child_cids, serve_blocks
from bacalhau.ipfs.errors import IpfsError
from bacalhau.model.cid import UnsupportedHash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bacalhau.ipfs.blockstore import BlockStore
    from bacalhau.model.cid import Cid

SMALL_RESULT_BYTES = 64 * 1024
_REMEMBERED_MAX = 1_000


class SmallResults:
    """See the module. `store` is where the driver keeps their blocks."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._whole: OrderedDict[Cid, None] = OrderedDict()
        """Those that are here, or will be with the step that is being taken."""

    def remember(self, root: Cid) -> None:
        """The driver keeps every block of this result."""
        self._whole[root] = None
        if len(self._whole) > _REMEMBERED_MAX:
            self._whole.popitem(last=False)

    def remembers(self, root: Cid) -> bool:
        return root in self._whole

    def forget_all(self) -> None:
        """Before garbage is collected: what is kept later is younger than what is deleted."""
        self._whole.clear()

    def blocks_of(self, root: Cid) -> list[tuple[Cid, bytes]]:
        """Every block of a small result, to send along with its report; none where it is not small."""
        blocks: list[tuple[Cid, bytes]] = []
        size = 0
        for cid, block in serve_blocks(self._store, [root], recursive=True):
            size += len(block)
            if size > SMALL_RESULT_BYTES:
                return []
            blocks.append((cid, block))
        return blocks

    def accepted(self, root: Cid, blocks: Sequence[tuple[Cid, bytes]]) -> list[tuple[Cid, bytes]]:
        """Those of the blocks sent along with a report that are the result, if they are all of it and what their
        CIDs say; else none, and the result is fetched."""
        sent = dict(blocks)
        if sum(map(len, sent.values())) > SMALL_RESULT_BYTES:
            return []
        whole: dict[Cid, bytes] = {}
        wanted = [root]
        try:
            while wanted:
                cid = wanted.pop()
                if cid in whole:
                    continue
                block = sent.get(cid)
                if block is None or not cid.verify(block):
                    return []
                whole[cid] = block
                wanted += child_cids(cid, block)
        except (IpfsError, UnsupportedHash):
            return []
        return list(whole.items())
