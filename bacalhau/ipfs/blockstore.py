"""Where blocks are kept: the port that everything else uses, and the store in memory.

A store is keyed by multihash, so that the version 0 and version 1 CIDs of the same bytes
are one block. It takes the caller's word that a block fits its CID: whoever brings blocks
from outside (CAR, fetch) verifies them first.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from bacalhau.ipfs.errors import BlockNotFound, StoreFull

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bacalhau.ipfs.dagpb import Block
    from bacalhau.model.cid import Cid


class BlockSink(Protocol):
    """Where blocks go."""

    def put_many(self, blocks: Iterable[tuple[Cid, Block]], *, sync: bool = True) -> None:
        """See BlockStore."""


class BlockStore(BlockSink, Protocol):
    """A set of blocks. Every method may be called from any thread.

    A CID that carries its block (identity hash) is always there and never stored.
    """

    def put_many(self, blocks: Iterable[tuple[Cid, Block]], *, sync: bool = True) -> None:
        """Add blocks, all or (where StoreFull is raised) none of them.

        They can be read at once. They survive a crash when this returns with `sync`, else
        when a later call with `sync` or `sync()` returns. A block that is there already is
        marked as touched now. No reference to a buffer is kept.
        """

    def sync(self) -> None:
        """Make everything that was put survive a crash. Raises StoreFull."""

    def get(self, cid: Cid) -> bytes:
        """The block. Raises BlockNotFound."""

    def has(self, cid: Cid) -> bool:
        """Whether the block is there."""

    def size(self, cid: Cid) -> int:
        """The length of the block in bytes. Raises BlockNotFound."""

    def close(self) -> None:
        """Sync, and release what the store holds; afterwards it cannot be used."""


class ServedStore(BlockStore, Protocol):
    """A block store that peers are served from."""

    def at_hand(self, cid: Cid) -> bytes | None:
        """The block if it is in memory, which costs less than a thread to read it; None where it may be on the disk,
        or elsewhere. Raises BlockNotFound where it is nowhere."""


class CollectableStore(ServedStore, Protocol):
    """A block store that leaves it to `pins.garbage_collect` what it keeps."""

    def keys(self) -> Iterator[bytes]:
        """The multihashes of all blocks, in no order; what changes meanwhile may be missed."""

    def delete_many(self, keys: Iterable[bytes], *, untouched_since_us: int | None = None) -> tuple[int, int]:
        """Delete blocks by multihash; return how many blocks and bytes that were.

        With `untouched_since_us` (microseconds since the epoch) a block that was put after
        that moment stays.
        """


def wall_clock_us() -> int:
    """Microseconds since the epoch: the age of a block must outlive the process."""
    return time.time_ns() // 1000


class MemoryBlockStore:
    """Blocks in a dictionary. `limit_bytes` bounds their total size."""

    def __init__(
        self, *, limit_bytes: int | None = None, clock_us: Callable[[], int] = wall_clock_us
    ) -> None:
        self._blocks: dict[bytes, tuple[bytes, int]] = {}
        self._total_bytes = 0
        self._limit_bytes = limit_bytes
        self._clock_us = clock_us
        self._lock = threading.Lock()

    def put_many(self, blocks: Iterable[tuple[Cid, Block]], *, sync: bool = True) -> None:
        added = {cid.multihash: bytes(block) for cid, block in blocks if cid.identity_digest is None}
        now_us = self._clock_us()
        with self._lock:
            new_bytes = sum(len(block) for key, block in added.items() if key not in self._blocks)
            check_limit(self._total_bytes, new_bytes, self._limit_bytes)
            self._total_bytes += new_bytes
            self._blocks.update((key, (block, now_us)) for key, block in added.items())

    def sync(self) -> None:
        pass  # memory has no crash to survive

    def get(self, cid: Cid) -> bytes:
        carried = cid.identity_digest
        if carried is not None:
            return carried
        try:
            return self._blocks[cid.multihash][0]
        except KeyError:
            raise BlockNotFound(cid) from None

    def at_hand(self, cid: Cid) -> bytes:
        return self.get(cid)

    def has(self, cid: Cid) -> bool:
        return cid.multihash in self._blocks or cid.identity_digest is not None

    def size(self, cid: Cid) -> int:
        return len(self.get(cid))

    def keys(self) -> Iterator[bytes]:
        with self._lock:
            keys = list(self._blocks)
        return iter(keys)

    def delete_many(self, keys: Iterable[bytes], *, untouched_since_us: int | None = None) -> tuple[int, int]:
        count = size = 0
        with self._lock:
            for key in keys:
                stored = self._blocks.get(key)
                if stored is None or (untouched_since_us is not None and stored[1] > untouched_since_us):
                    continue
                del self._blocks[key]
                count += 1
                size += len(stored[0])
            self._total_bytes -= size
        return count, size

    def close(self) -> None:
        self._blocks.clear()


def check_limit(stored_bytes: int, new_bytes: int, limit_bytes: int | None) -> None:
    """Refuse what would exceed the store's own limit. Raises StoreFull."""
    if limit_bytes is not None and stored_bytes + new_bytes > limit_bytes:
        raise StoreFull(
            f"the block store is full: {stored_bytes} of {limit_bytes} bytes used, {new_bytes} more wanted; "
            "unpin what is not needed and collect garbage, or raise the limit"
        )
