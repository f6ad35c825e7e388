"""What a program may use, and the sentences for when it used more.

Owns measuring disk use and the faults for memory, time and disk, each with used against allowed and the flag
that raises it. Stops nothing: the engine does.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from bacalhau.model.execution import Fault, FaultKind
from bacalhau.model.units import MIB, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

DEFAULT_OUTPUT_LIMIT_BYTES: Final = 10 * MIB
"""How much of stdout, and as much of stderr, is kept of a program. The program may write more and is not held
up.
"""

SAMPLE_INTERVAL_S: Final = 1.0
# Measuring a large tree must not become the node's main work: it rests this many times as long as it took.
_REST_FACTOR: Final = 10
# As deep as the importer goes.
DEPTH_MAX: Final = 128
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# What a file, folder or link costs at least, so that a million empty files are not free.
ENTRY_BYTES: Final = 4096
_DISK_BLOCK_BYTES: Final = 512  # the unit of st_blocks, whatever the file system's own


def duration_text(duration_us: int) -> str:
    """Such as "30 s", "1.5 s", "30 min"."""
    seconds = duration_us / 1_000_000
    if seconds >= 120 and seconds % 60 == 0:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.1f}".removesuffix(".0") + " s"


def memory_fault(used_bytes: int, allowed_bytes: int) -> Fault:
    """The program was killed for its memory. `used_bytes` is its peak, 0 where that is not known."""
    used = size_text(max(used_bytes, allowed_bytes))
    return Fault(
        FaultKind.OUT_OF_MEMORY,
        f"the program was killed for its memory: it used {used} of {size_text(allowed_bytes)} and wanted "
        "more; raise the limit with --memory",
    )


def timeout_fault(used_us: int, allowed_us: int) -> Fault:
    """The program was killed for its time."""
    return Fault(
        FaultKind.EXECUTION_TIMEOUT,
        f"the program was killed for its time: it ran for {duration_text(used_us)} of "
        f"{duration_text(allowed_us)}; raise the limit with --timeout",
    )


def disk_fault(used_bytes: int, allowed_bytes: int) -> Fault:
    """The program was killed for what it wrote, or wrote too much shortly before its end."""
    return Fault(
        FaultKind.OUT_OF_DISK,
        f"the program wrote too much to disk: it used {size_text(used_bytes)} of {size_text(allowed_bytes)}; "
        "raise the limit with --disk",
    )


class TooDeep(Exception):
    """Folders are nested deeper than is measured or published."""

    def __init__(self, path: str) -> None:
        super().__init__(f"folders are nested more than {DEPTH_MAX} deep at {path[:200]}…; nest them less")


def entry_bytes(status: os.stat_result) -> int:
    """What an entry counts: a sparse file counts in full, for publishing would read all of it."""
    if stat.S_ISREG(status.st_mode):
        return max(status.st_size, status.st_blocks * _DISK_BLOCK_BYTES, ENTRY_BYTES)
    return ENTRY_BYTES


def disk_used_bytes(paths: Iterable[Path | str], *, stop_above_bytes: int | None = None) -> int:
    """What files and folders use, all below included, while a program may be changing them.

    Never follows a symlink, also not one that takes a folder's place meanwhile; a hard-linked file counts
    once. A path given here costs nothing as such; what is missing or may not be read counts nothing. Counting
    ends early above `stop_above_bytes`. Raises TooDeep."""
    meter = _Meter(stop_above_bytes)
    for path in paths:
        try:
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                meter.folder(os.open(path, _FOLDER_FLAGS), os.fspath(path), 0)
            else:
                meter.used += max(status.st_size, status.st_blocks * _DISK_BLOCK_BYTES)
        except OSError:
            continue
    return meter.used


class _Meter:
    """Adds up a tree, folder by folder, each opened from the one above so that no link is followed."""

    def __init__(self, stop_above_bytes: int | None) -> None:
        self.used = 0
        self._stop_above_bytes = stop_above_bytes
        self._seen: set[tuple[int, int]] = set()

    def folder(self, descriptor: int, shown: str, depth: int) -> None:
        try:
            if depth > DEPTH_MAX:
                raise TooDeep(shown)
            for name in os.listdir(descriptor):
                if self._stop_above_bytes is not None and self.used > self._stop_above_bytes:
                    return
                try:
                    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    self.used += self._count(status)
                    if stat.S_ISDIR(status.st_mode):
                        below = os.open(name, _FOLDER_FLAGS, dir_fd=descriptor)
                        self.folder(below, f"{shown}/{name}", depth + 1)
                except OSError:  # it has vanished, or may not be read
                    continue
        finally:
            os.close(descriptor)

    def _count(self, status: os.stat_result) -> int:
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            key = (status.st_dev, status.st_ino)
            if key in self._seen:
                return 0
            self._seen.add(key)
        return entry_bytes(status)


async def disk_exceeded(measure: Callable[[], int], allowed_bytes: int) -> Fault:
    """Calls `measure` (blocking, in a thread) each second; returns, with the fault, once it is above the
    limit.
    """
    rest_s = SAMPLE_INTERVAL_S
    while True:
        await asyncio.sleep(rest_s)
        began = time.monotonic()
        try:
            used = await asyncio.to_thread(measure)
        except TooDeep as error:
            return Fault(FaultKind.OUT_OF_DISK, f"disk use cannot be measured: {error}")
        if used > allowed_bytes:
            return disk_fault(used, allowed_bytes)
        rest_s = max(SAMPLE_INTERVAL_S, _REST_FACTOR * (time.monotonic() - began))
