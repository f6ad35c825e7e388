"""Pack files: large blocks end to end in numbered files, only the newest appended to.

Owns appending, reading, syncing and removing them; knows nothing of what the bytes are.
Where each block stands is the index's to know (packstore). Not safe for several writers:
the store serialises them; readers may come from any thread at any time.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bacalhau.ipfs.dagpb import Block

# A pack is compacted in one go, so its size bounds how long writers wait for that.
_PACK_BYTES: Final = 128 * 1024 * 1024
_OPEN_FOR_READING_MAX: Final = 64
_IOVEC_MAX: Final = 512
# So much is handed to the disk at a time while more is being hashed, so that the sync at the end is short.
_WRITEBACK_BYTES: Final = 16 * 1024 * 1024
# Linux alone can say that a read would wait for the disk.
_NO_WAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)


class _ReadHandle:
    """A descriptor that is closed when nobody refers to it any more: also not by a read under way."""

    __slots__ = ("descriptor",)

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class Packs:
    """The pack files of `directory`; `ends` says up to where each is known to the index."""

    def __init__(self, directory: Path, ends: dict[int, int]) -> None:
        self._directory = directory
        self._sizes: dict[int, int] = {}
        for path in directory.glob("*.pack"):
            number = int(path.stem)
            if number not in ends:
                path.unlink()
                continue
            size = path.stat().st_size
            if size > ends[number]:
                os.truncate(path, ends[number])  # the tail that a crash left
            self._sizes[number] = min(size, ends[number])
        self._newest = max(ends, default=0)
        self._open_for_append: BinaryIO | None = None
        self._is_sealed = True
        if self._sizes.get(self._newest, _PACK_BYTES) < _PACK_BYTES:
            self._open_for_append = self._path(self._newest).open("r+b", buffering=0)
            self._is_sealed = False
        self._dirty: list[BinaryIO] = []
        self._is_directory_dirty = False
        self._written_back = 0
        # A reader keeps its handle alive by its reference, so one may be evicted or removed meanwhile.
        self._open_for_reading: OrderedDict[int, _ReadHandle] = OrderedDict()
        self._reading_lock = threading.Lock()

    def numbers(self) -> list[int]:
        """The packs that are there, oldest first."""
        return sorted(self._sizes)

    def size(self, number: int) -> int:
        """The length of a pack in bytes; 0 for one that is not there."""
        return self._sizes.get(number, 0)

    def mark(self) -> tuple[int, int]:
        """Where the next block would go, for `cut`."""
        return self._newest, self.size(self._newest)

    def append(self, blocks: Sequence[Block]) -> list[tuple[int, int]]:
        """Write blocks; return the pack and offset of each. On OSError nothing was written."""
        before = self.mark()
        places: list[tuple[int, int]] = []
        try:
            start = 0
            while start < len(blocks):
                file = self._appendable()
                offset = self._sizes[self._newest]
                end = start
                while end < len(blocks) and end - start < _IOVEC_MAX and offset < _PACK_BYTES:
                    places.append((self._newest, offset))
                    offset += len(blocks[end])
                    end += 1
                _write_at(file.fileno(), blocks[start:end], self._sizes[self._newest])
                self._sizes[self._newest] = offset
                self._start_writeback(file, offset)
                start = end
        except OSError:
            self.cut(before)
            raise
        return places

    def cut(self, mark: tuple[int, int]) -> None:
        """Undo appends since `mark` was taken; nothing of them may be in the index."""
        number, size = mark
        for newer in [other for other in self._sizes if other > number]:
            self.remove(newer)
        if self._newest != number:
            self._newest = number
            self._is_sealed = True
        if number in self._sizes:
            os.truncate(self._path(number), size)
            self._sizes[number] = size

    def sync(self) -> None:
        """Make what was appended survive a crash."""
        for file in self._dirty:
            os.fdatasync(file.fileno())
            if file is not self._open_for_append:
                file.close()
        self._dirty.clear()
        if self._is_directory_dirty:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._is_directory_dirty = False

    def read(self, number: int, offset: int, size: int) -> bytes | None:
        """The bytes of a block, or None where the pack is gone or too short."""
        handle = self._reading(number)
        block = os.pread(handle.descriptor, size, offset) if handle is not None else b""
        return block if len(block) == size else None

    def read_cached(self, number: int, offset: int, size: int) -> bytes | None:
        """As `read`; None also where the bytes are on the disk alone."""
        handle = self._reading(number)
        if handle is None or _NO_WAIT is None:
            return None
        block = bytearray(size)
        try:
            read = os.preadv(handle.descriptor, [block], offset, _NO_WAIT)
        except OSError:
            # It would wait, or the file system cannot say whether it would; what else there is `read` gets to know.
            return None
        return bytes(block) if read == size else None

    def _reading(self, number: int) -> _ReadHandle | None:
        """A pack for reading; None where it is gone."""
        with self._reading_lock:
            handle = self._open_for_reading.get(number)
            if handle is None:
                try:
                    handle = _ReadHandle(self._path(number))
                except FileNotFoundError:
                    return None
                self._open_for_reading[number] = handle
                if len(self._open_for_reading) > _OPEN_FOR_READING_MAX:
                    self._open_for_reading.popitem(last=False)
            else:
                self._open_for_reading.move_to_end(number)
        return handle

    def seal(self) -> None:
        """Let the next append start a new pack, so that all of the present ones can be removed."""
        self._is_sealed = True

    def remove(self, number: int) -> None:
        """Delete a pack; reads that are under way still end well."""
        with self._reading_lock:
            self._open_for_reading.pop(number, None)
        if number == self._newest:
            self._is_sealed = True
        self._path(number).unlink(missing_ok=True)
        self._sizes.pop(number, None)

    def close(self) -> None:
        """Release the files."""
        for file in (*self._dirty, self._open_for_append):
            if file is not None:
                file.close()
        self._dirty.clear()
        self._open_for_append = None
        with self._reading_lock:
            self._open_for_reading.clear()

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:08d}.pack"

    def _start_writeback(self, file: BinaryIO, end: int) -> None:
        """Let the kernel start writing dirty pages; Linux does so on this advice, and keeps them cached."""
        if end - self._written_back >= _WRITEBACK_BYTES:
            os.posix_fadvise(
                file.fileno(), self._written_back, end - self._written_back, os.POSIX_FADV_DONTNEED
            )
            self._written_back = end

    def _appendable(self) -> BinaryIO:
        """The newest pack, or a new one where that is full or sealed; marked as to be synced."""
        file = self._open_for_append
        if file is None or self._is_sealed or self._sizes[self._newest] >= _PACK_BYTES:
            if file is not None and file not in self._dirty:
                file.close()
            self._newest += 1
            file = self._path(self._newest).open("w+b", buffering=0)
            self._open_for_append = file
            self._is_sealed = False
            self._is_directory_dirty = True
            self._sizes[self._newest] = 0
            self._written_back = 0
        if file not in self._dirty:
            self._dirty.append(file)
        return file


def _write_at(descriptor: int, blocks: Sequence[Block], offset: int) -> None:
    rest = [memoryview(block) for block in blocks]
    while rest:
        written = os.pwritev(descriptor, rest, offset)
        offset += written
        while rest and written >= len(rest[0]):
            written -= len(rest[0])
            del rest[0]
        if rest and written:
            rest[0] = rest[0][written:]
