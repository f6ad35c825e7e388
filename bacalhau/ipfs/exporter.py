"""A file or folder out of a store onto the disk, from a DAG that a stranger may have made.

Owns writing it safely: never outside the destination, never through a symlink, never more
than the limits allow, and whole or not at all (written beside the destination, renamed).
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs import reader
from bacalhau.ipfs.errors import ExportRefused, UnsafePath
from bacalhau.ipfs.reader import Measured, TreeLimits
from bacalhau.ipfs.unixfs import EntryKind

if TYPE_CHECKING:
    from bacalhau.ipfs.blockstore import BlockStore
    from bacalhau.model.cid import Cid

_DEFAULT_LIMITS: Final = TreeLimits()

Progress = Callable[[int], None]
"""Called with the number of content bytes written so far."""


def export(
    store: BlockStore,
    cid: Cid,
    dest: Path,
    *,
    limits: TreeLimits = _DEFAULT_LIMITS,
    progress: Progress | None = None,
    verify: bool = False,
) -> Measured:
    """Write the file or folder `cid` to `dest`, which must not be there yet, its parent must.

    A symlink may point within the exported folder only. Returns what was written. Raises
    ExportRefused, UnsafePath, LimitExceeded, BlockNotFound, InvalidBlock; then nothing is left.
    """
    dest = dest.absolute()
    if not dest.parent.is_dir():
        raise ExportRefused(f"{dest.parent} is not a folder; make it first")
    if os.path.lexists(dest):
        raise ExportRefused(f"{dest} is there already; remove it or name another place")
    measured = reader.measure(store, cid, limits)
    try:
        free_bytes = shutil.disk_usage(dest.parent).free
        if measured.size_bytes > free_bytes:
            raise ExportRefused(
                f"{cid} needs {measured.size_bytes} bytes, the disk of {dest} has {free_bytes} free"
            )
        # Private to this user, so that nobody can put a symlink where a file is about to be written.
        with tempfile.TemporaryDirectory(prefix=f".{dest.name[:40]}.partial-", dir=dest.parent) as partial:
            content = Path(partial, "content")
            _write(store, cid, content, progress, verify)
            if os.path.lexists(dest):
                raise ExportRefused(f"{dest} has appeared meanwhile; name another place")
            content.rename(dest)
    except OSError as error:
        hint = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise ExportRefused(f"{dest} cannot be written: {error.strerror}{hint}") from error
    return measured


def check_symlink(path: str, target: str) -> None:
    """Refuse a symlink at `path` in a tree whose `target` can lead out of it. Raises UnsafePath.

    ".." is allowed at the start only: after a name it means the parent of whatever that name
    leads to, which through another symlink can be anywhere.
    """
    names = [name for name in target.split("/") if name not in ("", ".")]
    climbs = next((index for index, name in enumerate(names) if name != ".."), len(names))
    if target.startswith("/") or "\0" in target or not target:
        raise UnsafePath(f"the symlink {path!r} points to {target!r}, which is not inside the folder")
    if climbs > path.count("/") or ".." in names[climbs:] or not path:
        raise UnsafePath(f"the symlink {path!r} points to {target!r}, which can be outside the folder")


def _write(store: BlockStore, cid: Cid, content: Path, progress: Progress | None, verify: bool) -> None:
    """Write `cid`, whose size the caller has measured, to `content`."""
    symlinks: list[tuple[Path, str]] = []
    written_bytes = 0
    for entry in reader.walk(store, cid, limits=None):
        place = content / entry.path if entry.path else content
        if entry.kind is EntryKind.DIRECTORY:
            place.mkdir()
        elif entry.kind is EntryKind.SYMLINK:
            check_symlink(entry.path, entry.target)
            symlinks.append((place, entry.target))
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(place, flags, 0o666), "wb", buffering=0) as file:
                for piece in reader.read_file(store, entry.cid, verify=verify):
                    _write_all(file.fileno(), piece)
                    written_bytes += len(piece)
                    if progress is not None:
                        progress(written_bytes)
    # Last, so that no path above can lead through one of them.
    for place, target in symlinks:
        os.symlink(target, place)


def _write_all(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
