"""Files, folders and streams into a block store, with the CIDs of `ipfs add`.

Owns reading them: safely (nothing is followed out of the folder), in constant memory, and
fast (two threads hash, for hashlib frees the GIL, while this one reads and writes). What
decides a CID is in `layout`.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol, Self, runtime_checkable

from bacalhau.ipfs import unixfs
from bacalhau.ipfs.chunkfile import ChunkFile
from bacalhau.ipfs.dagpb import Block
from bacalhau.ipfs.errors import ImportRefused
from bacalhau.ipfs.layout import (
    FileLayout,
    Imported,
    ImportOptions,
    leaf_of,
    make_directory,
    make_leaf,
    make_symlink,
)

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from bacalhau.ipfs.blockstore import BlockSink, BlockStore
    from bacalhau.model.cid import Cid

# Three frames a level have to fit into the interpreter's stack.
MAX_DEPTH: Final = 128

_DEFAULT: Final = ImportOptions()
_GROUP_BYTES: Final = 2 * 1024 * 1024
# Of tiny chunks fewer bytes make a group, for their frames would outweigh them.
_GROUP_CHUNKS: Final = 1024
_FRAME_BYTES: Final = 16
_GROUPS_IN_FLIGHT: Final = 2
_BATCH_BYTES: Final = 2 * 1024 * 1024
_BATCH_BLOCKS: Final = 1024
_HASH_THREADS: Final = 2

Progress = Callable[[int], None]
"""Called with the number of content bytes read so far."""

_Leaf = tuple[Imported, Block]


@runtime_checkable
class ByteReader(Protocol):
    """What a file opened in binary mode offers."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the start of `buffer`; return how many bytes that were, 0 at the end."""


def import_path(
    store: BlockStore, path: Path, *, options: ImportOptions = _DEFAULT, progress: Progress | None = None
) -> Imported:
    """Import the file, folder or symlink at `path`; it survives a crash when this returns.

    A symlink is imported as one, not what it points to. Raises ImportRefused for what is
    none of these (sockets, devices), or cannot be read, and StoreFull.
    """
    with _Import(store, options, progress) as run:
        root = run.entry(None, str(path), str(path), 0)
        if options.wrap:
            name = os.path.basename(os.path.abspath(path))
            unixfs.check_name(name)
            root = make_directory([(name, root)], run.emit, options)
        return root


def import_stream(
    store: BlockStore,
    source: ByteReader | Iterable[bytes],
    *,
    options: ImportOptions = _DEFAULT,
    progress: Progress | None = None,
) -> Imported:
    """Import one file from an open reader or from chunks of any size."""
    reader = source if isinstance(source, ByteReader) else ChunkFile(source)
    with _Import(store, options, progress) as run:
        return run.file(reader)


def import_files(
    store: BlockSink,
    files: Mapping[str, bytes],
    *,
    extra: Mapping[str, Imported] | None = None,
    options: ImportOptions = _DEFAULT,
    sync: bool = True,
) -> Imported:
    """A folder of small files in memory, and of `extra` entries imported before: one store write.

    Raises UnsafePath for a name that is none, ImportRefused for a name given twice.
    """
    blocks: list[tuple[Cid, Block]] = []
    entries: list[tuple[str, Imported]] = []
    twice = files.keys() & extra.keys() if extra else None
    if twice:
        raise ImportRefused(f"the name {min(twice)!r} is given twice")
    for name, content in files.items():
        unixfs.check_name(name)
        if len(content) <= options.chunk_size_bytes:
            leaf, block = make_leaf(content, options)
            blocks.append((leaf.cid, block))
            entries.append((name, leaf))
            continue
        layout = FileLayout(lambda cid, block: blocks.append((cid, block)), options)
        view = memoryview(content)
        for start in range(0, len(content), options.chunk_size_bytes):
            leaf, block = make_leaf(view[start : start + options.chunk_size_bytes], options)
            blocks.append((leaf.cid, block))
            layout.add_leaf(leaf)
        entries.append((name, layout.finish()))
    for name, imported in (extra or {}).items():
        unixfs.check_name(name)
        entries.append((name, imported))
    root = make_directory(entries, lambda cid, block: blocks.append((cid, block)), options)
    store.put_many(blocks, sync=sync)
    return root


class TreeImport:
    """Imports a tree that arrives entry by entry, such as a stream from a client.

    Use as a context manager: `file`, `directory` and `symlink` in any order, then `finish`.
    Paths are relative, joined by "/"; folders above an entry are made by themselves, and the
    path "" is the root itself. Raises UnsafePath and ImportRefused for paths that are none.
    """

    def __init__(
        self, store: BlockStore, *, options: ImportOptions = _DEFAULT, progress: Progress | None = None
    ) -> None:
        self._run = _Import(store, options, progress)
        self._root: _Folder = {}

    def __enter__(self) -> Self:
        self._run.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.__exit__(kind, error, trace)

    def file(self, path: str, source: ByteReader | Iterable[bytes]) -> Imported:
        """Import a file at `path`."""
        parent, name = self._place(path)
        reader = source if isinstance(source, ByteReader) else ChunkFile(source)
        imported = self._run.file(reader)
        parent[name] = imported
        return imported

    def symlink(self, path: str, target: str) -> None:
        """Import a symlink at `path`."""
        parent, name = self._place(path)
        parent[name] = self._run.symlink(os.fsencode(target))

    def directory(self, path: str) -> None:
        """Make a folder at `path`, where it is not there yet."""
        self._make(_components(path), path)

    def finish(self) -> Imported:
        """Build the folders, make everything durable, and return the root."""
        single = self._root.get("")
        if isinstance(single, Imported):
            if len(self._root) > 1:
                raise ImportRefused("the root is a file, and has entries below it")
            root = single
        else:
            root = self._folder(self._root)
        self._run.flush(sync=True)
        return root

    def _place(self, path: str) -> tuple[_Folder, str]:
        names = _components(path) or [""]
        parent = self._make(names[:-1], path)
        if names[-1] in parent:
            raise ImportRefused(f"the path {path!r} is given twice")
        return parent, names[-1]

    def _make(self, names: list[str], path: str) -> _Folder:
        """The folder `names` below the root, made where it is not there; `path` is for messages."""
        folder = self._root
        for name in names:
            below = folder.setdefault(name, {})
            if not isinstance(below, dict):
                raise ImportRefused(f"{path!r} lies at or below something that is no folder")
            folder = below
        return folder

    def _folder(self, folder: _Folder) -> Imported:
        entries = [
            (name, self._folder(entry) if isinstance(entry, dict) else entry)
            for name, entry in folder.items()
        ]
        return make_directory(entries, self._run.emit, self._run.options)


_Folder = dict[str, "Imported | _Folder"]


def _components(path: str) -> list[str]:
    names = path.split("/") if path else []
    for name in names:
        unixfs.check_name(name)
    if len(names) > MAX_DEPTH:
        raise ImportRefused(f"a path of {len(names)} folders is deeper than the limit of {MAX_DEPTH}")
    return names


def _unreadable(shown: str, error: OSError) -> ImportRefused:
    return ImportRefused(f"{shown} cannot be read: {error.strerror}")


class _DescriptorReader:
    """Reads from a file descriptor without a buffer between; `shown` is its path in messages."""

    def __init__(self, descriptor: int, shown: str) -> None:
        self._descriptor = descriptor
        self._shown = shown

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            return os.readv(self._descriptor, [buffer])
        except OSError as error:
            raise _unreadable(self._shown, error) from error


class _Import:
    """One run: the blocks that wait for the store, the buffers and the hashing threads."""

    def __init__(self, store: BlockStore, options: ImportOptions, progress: Progress | None) -> None:
        self.options = options
        self._store = store
        self._progress = progress
        self._read_bytes = 0
        self._waiting: list[tuple[Cid, Block]] = []
        self._waiting_bytes = 0
        chunk = options.chunk_size_bytes
        # A buffer has a slot for each chunk, with room around it for what a dag-pb leaf adds: no copy.
        self._chunks = max(1, min(_GROUP_BYTES // chunk, _GROUP_CHUNKS))
        self._group_bytes = self._chunks * chunk
        self._frame_bytes = 0 if options.leaves_are_raw else _FRAME_BYTES
        self._slot_bytes = chunk + 2 * self._frame_bytes
        self._buffers: list[memoryview] = []
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        if kind is None:
            self.flush(sync=True)

    def emit(self, cid: Cid, block: Block) -> None:
        """Hand a block to the store, with others."""
        self._waiting.append((cid, block))
        self._waiting_bytes += len(block)
        if self._waiting_bytes >= _BATCH_BYTES or len(self._waiting) >= _BATCH_BLOCKS:
            self.flush()

    def flush(self, *, sync: bool = False) -> None:
        """Write what waits."""
        if self._waiting:
            self._store.put_many(self._waiting, sync=False)
            self._waiting.clear()
            self._waiting_bytes = 0
        if sync:
            self._store.sync()

    def entry(self, parent: int | None, name: str, shown: str, depth: int) -> Imported:
        """Import `name` of the folder open as `parent`; `shown` is its path in messages."""
        if depth > MAX_DEPTH:
            raise ImportRefused(f"{shown} is deeper than the limit of {MAX_DEPTH} folders")
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                return self.symlink(os.fsencode(os.readlink(name, dir_fd=parent)))
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise ImportRefused(f"{shown} is a socket, pipe or device, and cannot be imported; remove it")
            # What is opened is checked again: it may have been replaced since, even by a pipe.
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
        except OSError as error:
            raise _unreadable(shown, error) from error
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                return self._directory(descriptor, shown, depth)
            if not stat.S_ISREG(mode):
                raise ImportRefused(f"{shown} is a socket, pipe or device, and cannot be imported; remove it")
            return self.file(_DescriptorReader(descriptor, shown))
        finally:
            os.close(descriptor)

    def symlink(self, target: bytes) -> Imported:
        """Import a symlink."""
        return make_symlink(target, self.emit, self.options)

    def _directory(self, descriptor: int, shown: str, depth: int) -> Imported:
        try:
            names = os.listdir(descriptor)
        except OSError as error:
            raise _unreadable(shown, error) from error
        entries = [
            (name, self.entry(descriptor, name, f"{shown}/{name}", depth + 1))
            for name in names
            if self.options.hidden or not name.startswith(".")
        ]
        return make_directory(entries, self.emit, self.options)

    def file(self, source: ByteReader) -> Imported:
        """Import one file."""
        layout = FileLayout(self.emit, self.options)
        buffer = self._take_buffer()
        count = self._fill(source, buffer)
        if count < self._group_bytes:
            # Small: its blocks wait together with those of other files, so they are copied out.
            self._add_leaves(layout, [(leaf, bytes(block)) for leaf, block in self._hash(buffer, count)])
            self._buffers.append(buffer)
            return layout.finish()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_HASH_THREADS, thread_name_prefix="ipfs-hash")
        in_flight: deque[tuple[Future[list[_Leaf]], memoryview]] = deque()
        while count:
            in_flight.append((self._threads.submit(self._hash, buffer, count), buffer))
            if len(in_flight) == _GROUPS_IN_FLIGHT:
                self._finish_group(layout, *in_flight.popleft())
            if count < self._group_bytes:
                break
            buffer = self._take_buffer()
            count = self._fill(source, buffer)
        while in_flight:
            self._finish_group(layout, *in_flight.popleft())
        return layout.finish()

    def _take_buffer(self) -> memoryview:
        return (
            self._buffers.pop() if self._buffers else memoryview(bytearray(self._chunks * self._slot_bytes))
        )

    def _fill(self, source: ByteReader, buffer: memoryview) -> int:
        """Read chunks into the slots of `buffer`; how many bytes, fewer than all at the end of the file."""
        filled = 0
        for slot in range(self._chunks):
            start = slot * self._slot_bytes + self._frame_bytes
            rest = buffer[start : start + self.options.chunk_size_bytes]
            while rest and (count := source.readinto(rest)):
                filled += count
                rest = rest[count:]
            if rest:
                break
        self._read_bytes += filled
        if self._progress is not None:
            self._progress(self._read_bytes)
        return filled

    def _hash(self, buffer: memoryview, count: int) -> list[_Leaf]:
        """The leaves of the `count` bytes in the slots of `buffer`; their blocks are views of it."""
        chunk = self.options.chunk_size_bytes
        leaves: list[_Leaf] = []
        # An empty file is one empty leaf.
        for slot in range(max(1, -(-count // chunk))):
            size = min(chunk, count - slot * chunk)
            start = slot * self._slot_bytes + self._frame_bytes
            end = start + size
            if self._frame_bytes:
                head, tail = unixfs.file_leaf_frame(size)
                buffer[start - len(head) : start] = head
                buffer[end : end + len(tail)] = tail
                start, end = start - len(head), end + len(tail)
            block = buffer[start:end]
            leaves.append((leaf_of(block, size, self.options), block))
        return leaves

    def _add_leaves(self, layout: FileLayout, leaves: list[_Leaf]) -> None:
        for leaf, block in leaves:
            self._waiting.append((leaf.cid, block))
            self._waiting_bytes += len(block)
            layout.add_leaf(leaf)
        if self._waiting_bytes >= _BATCH_BYTES or len(self._waiting) >= _BATCH_BLOCKS:
            self.flush()

    def _finish_group(self, layout: FileLayout, hashed: Future[list[_Leaf]], buffer: memoryview) -> None:
        self._add_leaves(layout, hashed.result())
        self.flush()  # the blocks are views of the buffer, which is filled again next
        self._buffers.append(buffer)
