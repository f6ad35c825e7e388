"""Seals: the blocks of results that this node has committed to and was not asked to reveal. Nobody gets them.

A block is sealed when the result brings it here. One that was here before is known already, and stays open: the bytes
of an exit code are in every other result too. What is below a block that may be served may be served: whoever could
name it knew what it links to.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.ipfs.blockstore import BlockStore
    from bacalhau.ipfs.dagpb import Block
    from bacalhau.model.cid import Cid


class Seals:
    """See the module. Any thread may call it."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, int] = {}
        """By multihash: how many executions seal it."""
        self._executions: dict[str, set[bytes]] = {}
        self._lock = threading.Lock()

    def seal(self, execution_id: str, cids: Iterable[Cid]) -> None:
        with self._lock:
            sealed = self._executions.setdefault(execution_id, set())
            for cid in cids:
                if cid.multihash not in sealed:
                    sealed.add(cid.multihash)
                    self._blocks[cid.multihash] = self._blocks.get(cid.multihash, 0) + 1

    def open(self, execution_id: str) -> bool:
        """The result is revealed, or nobody waits for it any more. Whether it was sealed."""
        with self._lock:
            sealed = self._executions.pop(execution_id, None)
            for key in sealed or ():
                self._blocks[key] -= 1
                if not self._blocks[key]:
                    del self._blocks[key]
        return sealed is not None

    def may_serve(self, cid: Cid) -> bool:
        return cid.multihash not in self._blocks


class SealingStore:
    """A block store that seals what is new to it, before it is there."""

    def __init__(self, store: BlockStore, seals: Seals, execution_id: str) -> None:
        self._store = store
        self._seals = seals
        self._execution_id = execution_id

    def put_many(self, blocks: Iterable[tuple[Cid, Block]], *, sync: bool = True) -> None:
        held = list(blocks)
        self._seals.seal(self._execution_id, (cid for cid, _ in held if not self._store.has(cid)))
        self._store.put_many(held, sync=sync)

    def sync(self) -> None:
        self._store.sync()

    def get(self, cid: Cid) -> bytes:
        return self._store.get(cid)

    def has(self, cid: Cid) -> bool:
        return self._store.has(cid)

    def size(self, cid: Cid) -> int:
        return self._store.size(cid)

    def close(self) -> None:
        """The store is somebody else's."""
