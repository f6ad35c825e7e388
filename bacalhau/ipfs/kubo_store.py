"""Kubo as a block store, as a source of blocks, and behind another store.

Owns no rule of its own: what is read is checked against its CID (`kubo_rpc`), and what is put is put as CAR, some
megabytes at once. Kubo collects its garbage itself: a block that no pin there reaches may go at any time.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs.dag import next_batch
from bacalhau.ipfs.errors import BlockNotFound, InvalidCar, KuboRefused
from bacalhau.model.cid import RAW, Cid

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
    from concurrent.futures import Executor

    from bacalhau.ipfs.blockstore import ServedStore
    from bacalhau.ipfs.dagpb import Block
    from bacalhau.ipfs.kubo_rpc import KuboExport, KuboRpc

_BATCH_BYTES: Final = 4 * 1024 * 1024
_BATCH_BLOCKS: Final = 1024
_READ_BYTES: Final = 1024 * 1024
_READ_BLOCKS: Final = 256


class KuboBlockStore:
    """The BlockStore of a Kubo node: what Kubo has on its disk, and nothing that it would have to look for."""

    def __init__(self, rpc: KuboRpc) -> None:
        self._rpc = rpc

    def put_many(self, blocks: Iterable[tuple[Cid, Block]], *, sync: bool = True) -> None:
        """As BlockStore says, but for a failure between two batches, of which the first then stays."""
        left = iter(blocks)
        while batch := next_batch(left, _BATCH_BYTES, _BATCH_BLOCKS):
            self._rpc.import_blocks(batch)

    def sync(self) -> None:
        """Kubo has synced each block when it answers."""

    def get(self, cid: Cid) -> bytes:
        carried = cid.identity_digest
        return self._rpc.block(cid) if carried is None else carried

    def at_hand(self, cid: Cid) -> bytes | None:
        return cid.identity_digest

    def has(self, cid: Cid) -> bool:
        try:
            self.size(cid)
        except BlockNotFound:
            return False
        return True

    def size(self, cid: Cid) -> int:
        carried = cid.identity_digest
        return self._rpc.block_size(cid) if carried is None else len(carried)

    def close(self) -> None:
        """The connection is its owner's."""


class BackedStore:
    """A store that reads from `behind` what `front` does not have, and puts into `front`."""

    def __init__(self, front: ServedStore, behind: ServedStore) -> None:
        self._front = front
        self._behind = behind
        self.put_many = front.put_many
        self.sync = front.sync

    def get(self, cid: Cid) -> bytes:
        try:
            return self._front.get(cid)
        except BlockNotFound:
            return self._behind.get(cid)

    def at_hand(self, cid: Cid) -> bytes | None:
        try:
            return self._front.at_hand(cid)
        except BlockNotFound:
            return self._behind.at_hand(cid)

    def has(self, cid: Cid) -> bool:
        return self._front.has(cid) or self._behind.has(cid)

    def size(self, cid: Cid) -> int:
        try:
            return self._front.size(cid)
        except BlockNotFound:
            return self._behind.size(cid)

    def close(self) -> None:
        """Both are their owner's."""


class KuboSource:
    """The BlockSource of a Kubo node: what it has, or with `online` what it finds in its own network."""

    def __init__(self, rpc: KuboRpc, threads: Executor, *, online: bool) -> None:
        self.name = f"{rpc.name}, in its network" if online else rpc.name
        self._rpc = rpc
        self._threads = threads
        self._online = online

    async def get_blocks(
        self, cids: Sequence[Cid], *, recursive: bool
    ) -> AsyncGenerator[tuple[Cid, bytes], None]:
        """See BlockSource. DAGs come as CAR. Left early, its thread ends with the answer that it waits for."""
        reading = _Reading(self._rpc, cids, recursive, self._online)
        blocks = reading.blocks()
        loop = asyncio.get_running_loop()
        try:
            while batch := await loop.run_in_executor(
                self._threads, next_batch, blocks, _READ_BYTES, _READ_BLOCKS
            ):
                for found in batch:
                    yield found
        finally:
            reading.stop()


class _Reading:
    """What one call of a source reads, in a thread."""

    def __init__(self, rpc: KuboRpc, cids: Sequence[Cid], recursive: bool, online: bool) -> None:
        self._rpc = rpc
        self._cids = cids
        self._recursive = recursive
        self._online = online
        self._export: KuboExport | None = None
        self._stopped = False

    def blocks(self) -> Iterator[tuple[Cid, bytes]]:
        """Each block once; what Kubo does not have is left out."""
        sent: set[Cid] = set()
        for cid in self._cids:
            if self._stopped:
                return
            if cid not in sent:
                for found in self._below(cid) if self._recursive and cid.codec != RAW else self._one(cid):
                    if found[0] not in sent:
                        sent.add(found[0])
                        yield found

    def stop(self) -> None:
        self._stopped = True
        if self._export is not None:
            self._export.stop()

    def _one(self, cid: Cid) -> Iterator[tuple[Cid, bytes]]:
        try:
            yield cid, self._rpc.block(cid, online=self._online)
        except BlockNotFound:
            return

    def _below(self, cid: Cid) -> Iterator[tuple[Cid, bytes]]:
        try:
            self._export = self._rpc.export(cid, online=self._online)
            yield from self._export.blocks()
        except (KuboRefused, InvalidCar):
            # It breaks off where a block is missing: the rest of the DAG may be asked for by its own CIDs.
            return
        finally:
            self._export = None
