"""What the operating system and SQLite say of a full disk: judged here for the block store and for the journal."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sqlite3
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs.errors import StoreFull

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# SQLite says "I/O error" and not "full" where the file size limit of the process is hit, and where the index that the
# connections to a database share cannot grow; but also where the disk is broken.
_UNCLEAR: Final = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
_ROOM_BYTES: Final = 1024 * 1024


@contextlib.contextmanager
def full_disk_is_store_full(database: Path) -> Iterator[None]:
    """Raises StoreFull in place of an error that a full disk makes; any other passes. `database` is what SQLite writes,
    with other files beside it."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        if is_full(error, database):
            raise StoreFull(
                "the disk of the block store is full; free some space, or unpin content and collect garbage"
            ) from error
        raise


def is_full(error: OSError | sqlite3.Error, database: Path) -> bool:
    """Whether an error at writing means that there is no room; what SQLite calls an I/O error only where the file
    system says so as well."""
    if isinstance(error, OSError):
        return error.errno in _ERRNOS
    # Errors of the Python module itself (closed connection, bad binding) carry no code.
    code = getattr(error, "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_FULL or (code in _UNCLEAR and not _has_room(database))


def _has_room(database: Path) -> bool:
    try:
        disk = os.statvfs(database.parent)
        largest = max((file.stat().st_size for file in database.parent.glob(f"{database.name}*")), default=0)
    except OSError:
        return True  # it is worse than full
    file_limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    may_grow = file_limit == resource.RLIM_INFINITY or largest + _ROOM_BYTES <= file_limit
    return may_grow and disk.f_bavail * disk.f_frsize >= _ROOM_BYTES
