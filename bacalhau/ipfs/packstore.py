"""The durable block store: an index in SQLite, small blocks inside it, large ones in pack files.

    blocks.sqlite   multihash -> size, and the block itself or where in which pack it stands
    00000001.pack   blocks end to end, nothing else; only the newest is appended to

A file a block with a sync each costs a millisecond a block; this costs one sync a batch.
The order of writing makes it safe: bytes to the pack, sync, then the index in one
transaction. What a crash leaves in a pack without an index entry is cut off at the next
start. Between `put_many(sync=False)` and the sync, index entries wait in memory.

One process has the store open; whoever opens it (the node) holds the lock file for that.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import sqlite3
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs.blockstore import check_limit, wall_clock_us
from bacalhau.ipfs.errors import BlockNotFound, StoreFull
from bacalhau.ipfs.fulldisk import full_disk_is_store_full
from bacalhau.ipfs.packs import Packs
from bacalhau.ipfs.recent import RecentBlocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from bacalhau.ipfs.dagpb import Block
    from bacalhau.model.cid import Cid

# Below this a block is cheaper as a row than as a read of another file.
_INLINE_BYTES: Final = 16 * 1024
_WAITING_BLOCKS_MAX: Final = 50_000
_WAITING_INLINE_BYTES_MAX: Final = 32 * 1024 * 1024
_DELETE_BATCH: Final = 500
_MOVE_BATCH: Final = 64
_FOREVER_US: Final = 2**63 - 1
# SQLite would keep 2 MiB, and a node's memory grow with its jobs until then.
_CACHE_KIB: Final = 512
# A pack is written anew when less than this share of it is in use.
_LIVE_SHARE_MIN_PERCENT: Final = 60

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS blocks (
    key BLOB PRIMARY KEY,        -- multihash
    size INTEGER NOT NULL,       -- bytes
    touched_us INTEGER NOT NULL, -- commit of the last put, microseconds since the epoch
    pack INTEGER,                -- NULL: the block is in `block`
    offset INTEGER,
    block BLOB
);
CREATE INDEX IF NOT EXISTS blocks_by_pack ON blocks (pack, offset, size) WHERE pack IS NOT NULL;
"""
_INSERT: Final = "INSERT INTO blocks (key, size, touched_us, pack, offset, block) VALUES (?, ?, ?, ?, ?, ?)"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Row:
    """Where a block is: `block` holds it, or it stands in `pack` at `offset`."""

    size: int
    pack: int | None
    offset: int | None
    block: bytes | None


class PackBlockStore:
    """The durable BlockStore in `directory`. `limit_bytes` bounds the total size of the blocks; `reserve_bytes` of
    the disk stay free for others."""

    def __init__(
        self,
        directory: Path,
        *,
        limit_bytes: int | None = None,
        reserve_bytes: int = 0,
        clock_us: Callable[[], int] = wall_clock_us,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._reserve_bytes = reserve_bytes
        self._clock_us = clock_us
        # Writing and reading have a connection and a lock each: a commit must not hold up readers.
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._waiting: dict[bytes, _Row] = {}
        self._waiting_inline_bytes = 0
        self._touched: set[bytes] = set()
        self._recent = RecentBlocks()
        path = self._index = directory / "blocks.sqlite"
        self._writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute("PRAGMA synchronous = FULL")
        self._writer.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._writer.executescript(_SCHEMA)
        self._reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._reader.execute("PRAGMA query_only = ON")
        ends: dict[int, int] = dict(
            self._writer.execute(
                "SELECT pack, max(offset + size) FROM blocks WHERE pack IS NOT NULL GROUP BY pack"
            ).fetchall()
        )
        self._packs = Packs(directory, ends)
        for pack, end in ends.items():
            if self._packs.size(pack) < end:
                self._forget_lost(pack)
        total = self._writer.execute("SELECT coalesce(sum(size), 0) FROM blocks").fetchone()
        self._stored_bytes = int(total[0])

    @property
    def stored_bytes(self) -> int:
        """The total size of the blocks."""
        return self._stored_bytes

    def put_many(
        self, blocks: Iterable[tuple[Cid, Block]], *, sync: bool = True, reserved: bool = False
    ) -> None:
        """As BlockStore says; with `reserved` also into the part of the disk that is kept for the node itself."""
        added = {cid.multihash: block for cid, block in blocks if cid.identity_digest is None}
        with self._write_lock:
            indexed = self._indexed(added)
            for key in [key for key in added if key in indexed or key in self._waiting]:
                del added[key]
            new_bytes = sum(map(len, added.values()))
            check_limit(self._stored_bytes, new_bytes, self._limit_bytes)
            if not reserved:
                self._check_disk(new_bytes)
            mark = self._packs.mark()
            with full_disk_is_store_full(self._index):
                rows = self._place(added)
            inline_bytes = sum(len(row.block) for row in rows.values() if row.block is not None)
            self._touched |= indexed
            if sync or self._is_too_much_waiting(len(rows), inline_bytes):
                try:
                    self._commit({**self._waiting, **rows})
                except StoreFull:
                    self._packs.cut(mark)
                    raise
            else:
                self._waiting.update(rows)
                self._waiting_inline_bytes += inline_bytes
            self._stored_bytes += new_bytes
            inline = [(key, row.block) for key, row in rows.items() if row.block is not None]
            self._recent.add(inline, self._recent.generation)

    def _check_disk(self, new_bytes: int) -> None:
        if not self._reserve_bytes or not new_bytes:
            return
        disk = os.statvfs(self._directory)
        free_bytes = disk.f_bavail * disk.f_frsize
        if free_bytes - new_bytes < self._reserve_bytes:
            raise StoreFull(
                f"the disk is full: {free_bytes} bytes are free where {self._directory} is, {self._reserve_bytes} of "
                f"them are kept for the node itself, and {new_bytes} more are wanted: free some space"
            )

    def sync(self) -> None:
        with self._write_lock:
            self._commit(self._waiting)

    def get(self, cid: Cid) -> bytes:
        # A pack can be compacted away between the look-up and the read: then look again.
        for _ in range(3):
            block = self._read(cid, self._packs.read)
            if block is not None:
                return block
        raise BlockNotFound(cid)

    def at_hand(self, cid: Cid) -> bytes | None:
        return self._read(cid, self._packs.read_cached)

    def _read(self, cid: Cid, read: Callable[[int, int, int], bytes | None]) -> bytes | None:
        """The block; None where `read` has none. Raises BlockNotFound."""
        carried = cid.identity_digest
        if carried is not None:
            return carried
        recent = self._recent.get(cid.multihash)
        if recent is not None:
            return recent
        generation = self._recent.generation
        row = self._waiting.get(cid.multihash) or self._lookup(cid.multihash)
        if row is None:
            raise BlockNotFound(cid)
        if row.block is not None:
            self._recent.add([(cid.multihash, row.block)], generation)
            return row.block
        assert row.pack is not None
        assert row.offset is not None
        return read(row.pack, row.offset, row.size)

    def has(self, cid: Cid) -> bool:
        return self._size(cid) is not None

    def size(self, cid: Cid) -> int:
        size = self._size(cid)
        if size is None:
            raise BlockNotFound(cid)
        return size

    def keys(self) -> Iterator[bytes]:
        self.sync()
        last = b""
        while True:
            with self._read_lock:
                page = self._reader.execute(
                    "SELECT key FROM blocks WHERE key > ? ORDER BY key LIMIT 1000", (last,)
                ).fetchall()
            if not page:
                return
            yield from (key for (key,) in page)
            last = page[-1][0]

    def delete_many(self, keys: Iterable[bytes], *, untouched_since_us: int | None = None) -> tuple[int, int]:
        limit_us = _FOREVER_US if untouched_since_us is None else untouched_since_us
        count = size = 0
        remaining = iter(keys)
        while batch := list(itertools.islice(remaining, _DELETE_BATCH)):
            with self._write_lock:
                self._commit(self._waiting)
                with self._transaction():
                    sizes = self._writer.execute(
                        f"DELETE FROM blocks WHERE key IN ({_marks(batch)}) AND touched_us <= ? "
                        "RETURNING size",
                        (*batch, limit_us),
                    ).fetchall()
                self._recent.clear()
                deleted_bytes = sum(row[0] for row in sizes)
                self._stored_bytes -= deleted_bytes
            count += len(sizes)
            size += deleted_bytes
        return count, size

    def compact(self) -> int:
        """Write packs anew that are mostly deleted; return how many bytes of disk that frees.

        Other calls go on meanwhile, between one pack and the next. Raises StoreFull.
        """
        freed = 0
        with self._write_lock:
            self._packs.seal()
            numbers = self._packs.numbers()
        for pack in numbers:
            with self._write_lock:
                self._commit(self._waiting)
                rows = self._writer.execute(
                    "SELECT key, offset, size FROM blocks WHERE pack = ? ORDER BY offset", (pack,)
                ).fetchall()
                held = self._packs.size(pack)
                live = sum(size for _, _, size in rows)
                if live * 100 < held * _LIVE_SHARE_MIN_PERCENT:
                    self._move(pack, rows)
                    freed += held - live
        return freed

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            try:
                self._commit(self._waiting)
            finally:
                self._packs.close()
                self._reader.close()
                self._writer.close()

    def _indexed(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of `keys` that the index on disk holds."""
        found: set[bytes] = set()
        remaining = iter(keys)
        while batch := list(itertools.islice(remaining, _DELETE_BATCH)):
            rows = self._writer.execute(f"SELECT key FROM blocks WHERE key IN ({_marks(batch)})", batch)
            found.update(key for (key,) in rows)
        return found

    def _place(self, added: dict[bytes, Block]) -> dict[bytes, _Row]:
        """Append large blocks to the pack; the index rows of all."""
        rows: dict[bytes, _Row] = {}
        large: list[tuple[bytes, Block]] = []
        for key, block in added.items():
            if len(block) <= _INLINE_BYTES:
                rows[key] = _Row(len(block), None, None, bytes(block))
            else:
                large.append((key, block))
        places = self._packs.append([block for _, block in large])
        for (key, block), (pack, offset) in zip(large, places, strict=True):
            rows[key] = _Row(len(block), pack, offset, None)
        return rows

    def _is_too_much_waiting(self, count: int, inline_bytes: int) -> bool:
        return (
            len(self._waiting) + count > _WAITING_BLOCKS_MAX
            or self._waiting_inline_bytes + inline_bytes > _WAITING_INLINE_BYTES_MAX
        )

    def _commit(self, rows: dict[bytes, _Row]) -> None:
        """Sync the packs, then write `rows` (everything that waits among them) to the index."""
        if not rows and not self._touched:
            return
        now_us = self._clock_us()
        with full_disk_is_store_full(self._index):
            self._packs.sync()
        with self._transaction():
            self._writer.executemany(
                _INSERT,
                [(key, row.size, now_us, row.pack, row.offset, row.block) for key, row in rows.items()],
            )
            if self._touched:
                self._writer.executemany(
                    "UPDATE blocks SET touched_us = ? WHERE key = ?", [(now_us, key) for key in self._touched]
                )
        # Readers look here first and into the index after, so they see each row in one or the other.
        self._waiting = {}
        self._waiting_inline_bytes = 0
        self._touched.clear()

    def _move(self, pack: int, rows: list[tuple[bytes, int, int]]) -> None:
        """Append the live blocks of `pack` to the newest one, then drop it."""
        mark = self._packs.mark()
        try:
            for start in range(0, len(rows), _MOVE_BATCH):
                batch = rows[start : start + _MOVE_BATCH]
                blocks = [self._packs.read(pack, offset, size) for _, offset, size in batch]
                if None in blocks:
                    raise OSError(errno.EIO, f"pack {pack} cannot be read")
                with full_disk_is_store_full(self._index):
                    places = self._packs.append([block for block in blocks if block is not None])
                    self._packs.sync()
                with self._transaction():
                    self._writer.executemany(
                        "UPDATE blocks SET pack = ?, offset = ? WHERE key = ?",
                        [(*place, key) for place, (key, _, _) in zip(places, batch, strict=True)],
                    )
                mark = self._packs.mark()
        except StoreFull:
            self._packs.cut(mark)
            raise
        self._packs.remove(pack)

    def _forget_lost(self, pack: int) -> None:
        """Drop what the index knows of a pack beyond its end: a damaged disk lost it."""
        end = self._packs.size(pack)
        cursor = self._writer.execute("DELETE FROM blocks WHERE pack = ? AND offset + size > ?", (pack, end))
        log.warning("pack %d ends at byte %d: %d blocks are lost", pack, end, cursor.rowcount)

    def _lookup(self, key: bytes) -> _Row | None:
        with self._read_lock:
            found = self._reader.execute(
                "SELECT size, pack, offset, block FROM blocks WHERE key = ?", (key,)
            ).fetchone()
        return None if found is None else _Row(*found)

    def _size(self, cid: Cid) -> int | None:
        carried = cid.identity_digest
        if carried is not None:
            return len(carried)
        recent = self._recent.get(cid.multihash)
        if recent is not None:
            return len(recent)
        waiting = self._waiting.get(cid.multihash)
        if waiting is not None:
            return waiting.size
        with self._read_lock:
            found = self._reader.execute("SELECT size FROM blocks WHERE key = ?", (cid.multihash,)).fetchone()
        return None if found is None else int(found[0])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with full_disk_is_store_full(self._index):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._writer.execute("COMMIT")
            except BaseException:  # whatever it was, the transaction ends as well
                # A failed COMMIT may have rolled back already.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise


def _marks(values: list[bytes]) -> str:
    return ",".join("?" * len(values))
