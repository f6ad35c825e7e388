"""What the operating system and SQLite say of a full disk, as the one error that callers know."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs.errors import StoreFull

if TYPE_CHECKING:
    from collections.abc import Iterator

_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# SQLite says "I/O error" and not "full" where the file size limit of the process is hit, and where the index that the
# connections to a database share cannot grow.
_SQLITE_CODES: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
)


@contextlib.contextmanager
def full_disk_is_store_full() -> Iterator[None]:
    """Raises StoreFull in place of an error that a full disk makes; any other passes."""
    message = "the disk of the block store is full; free some space, or unpin content and collect garbage"
    try:
        yield
    except OSError as error:
        if error.errno in _ERRNOS:
            raise StoreFull(message) from error
        raise
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode in _SQLITE_CODES:
            raise StoreFull(message) from error
        raise
