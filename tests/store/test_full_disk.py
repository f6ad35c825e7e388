"""What SQLite says of a disk is judged once, for the journal and for the block store."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs.errors import StoreFull as BlocksFull
from bacalhau.ipfs.fulldisk import full_disk_is_store_full
from bacalhau.store.errors import StoreFailed, StoreFull, explained
from tests.e2e.nodes import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


def failure(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


def judged(error: sqlite3.OperationalError, path: Path) -> tuple[bool, bool]:
    """Whether the block store takes it for a full disk, and whether the journal does."""
    try:
        with full_disk_is_store_full(path):
            raise error
    except BlocksFull:
        blocks = True
    except sqlite3.OperationalError:
        blocks = False
    reason = explained(error, path)
    assert isinstance(reason, StoreFull | StoreFailed)
    return blocks, isinstance(reason, StoreFull)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE])
def test_a_failed_write_is_a_full_disk_only_where_the_file_system_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "some.sqlite"
    assert judged(failure(code), path) == (False, False)
    real = list(os.statvfs(tmp_path))
    real[4] = 10  # f_bavail: blocks that are free
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(real))
    assert judged(failure(code), path) == (True, True)


def test_a_broken_disk_is_none_that_is_full(tmp_path: Path) -> None:
    assert judged(failure(sqlite3.SQLITE_IOERR_FSYNC), tmp_path / "some.sqlite") == (False, False)
    with pytest.raises(OSError, match="broken"), full_disk_is_store_full(tmp_path / "some.sqlite"):
        raise OSError(errno.EIO, "broken")


CHILD = """
import resource, sys
from pathlib import Path
from bacalhau.store.errors import StoreFull
from bacalhau.store.store import Store
store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
try:
    store.set_meta("large", "x" * 1_000_000)
except StoreFull as error:
    print(error)
store.close()
"""


def test_the_limit_on_the_size_of_files_is_a_full_disk_for_the_journal_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "journal.sqlite")],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "no room to write" in done.stdout, done.stderr
