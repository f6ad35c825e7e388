"""What can go wrong in the store, as one tree. Each message names the file and says what to do.

StoreError
├── StoreFull       the disk, or the file's own limit, is full: nothing of the commit was written
├── StoreBusy       another process holds the file's write lock
├── StoreTooNew     a later version of this program wrote the file
├── StoreCorrupt    the file is no database, another program's, or damaged
└── StoreFailed     any other failure of the disk or the file system
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from bacalhau.ipfs.fulldisk import is_full

if TYPE_CHECKING:
    from pathlib import Path


class StoreError(Exception):
    """Base of everything that the store raises on purpose, beside `Refused` for a bad page token."""


class StoreFull(StoreError):
    """No room: nothing of the commit was written, and the store can be used on."""


class StoreBusy(StoreError):
    """Another process held the write lock for too long."""


class StoreTooNew(StoreError):
    """The file has a schema that this version does not know."""


class StoreCorrupt(StoreError):
    """The file is no database of this program, or is damaged."""


class StoreFailed(StoreError):
    """The disk or the file system failed."""


def explained(error: sqlite3.Error, path: Path) -> Exception:
    """The store's error for SQLite's, by its primary result code; a breach of the schema, a bug, stays."""
    if is_full(error, path):
        return StoreFull(f"no room to write {path}: free some space on its disk, nothing was written")
    # Errors of the Python module itself (closed connection, bad binding) carry no code: they are bugs too.
    code = getattr(error, "sqlite_errorcode", None)
    match code & 0xFF if code is not None else None:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreBusy(f"another process is writing {path}: end the other node on this data directory")
        case sqlite3.SQLITE_NOTADB:
            return StoreCorrupt(f"{path} is no database: move it away to start anew, or restore a backup")
        case sqlite3.SQLITE_CORRUPT:
            return damaged(path, str(error))
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return StoreFailed(f"cannot use {path} ({error}): check its disk, and who may write there")
        case _:
            return error


def damaged(path: Path, problem: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"{path} is damaged ({problem}): restore a backup, or move it away to start with a new one"
    )
