"""Writes content from IPFS to this machine's disk: beside its final place first, then there in one step.

Every name comes from a stranger. None leaves the folder: no `..`, no absolute name, no way through a link, no
link to the outside; nothing that exists is written over.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from bacalhau.cli.failures import CommandFailure, UsageFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from bacalhau.cli.connection import Node
    from bacalhau.v1.ipfs_service_pb2 import EntryHeader, GetResponse


class UnsafeEntry(CommandFailure):
    """The content holds a name or link that would leave its folder."""


def fetch(
    node: Node,
    path: str,
    target: Path,
    *,
    received: Callable[[int], None],
    coming: Callable[[int, int], None],
    timeout_seconds: float | None = None,
) -> None:
    """Fetch a CID, or CID/path/in/it, as the file or folder `target`. `coming` hears (done, all) bytes while the node
    itself fetches it.

    Raises NodeFailure, UnsafeEntry, UsageFailure.
    """
    from bacalhau.v1.ipfs_service_pb2 import GetRequest

    refuse_existing(target)
    request = GetRequest(path=path, progress=True)
    stream = node.ipfs.Get(request, metadata=node.metadata, timeout=timeout_seconds)
    answers = _content(node.read(stream), coming)
    first = list(islice(answers, 1))  # where there is no such content, no folder is made for it
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        with writing(target):
            unpack(chain(first, answers), Path(folder) / "content", received=received)
        refuse_existing(target)
        os.rename(Path(folder) / "content", target)


def _content(answers: Iterator[GetResponse], coming: Callable[[int, int], None]) -> Iterator[GetResponse]:
    for answer in answers:
        if answer.HasField("progress"):
            coming(answer.progress.done_bytes, answer.progress.total_bytes)
        else:
            yield answer


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """A disk that is full names no file, and others name one that the user never heard of: raises CommandFailure."""
    try:
        yield
    except OSError as error:
        raise CommandFailure(f"{target} cannot be written: {error.strerror or error}") from error


def refuse_existing(target: Path) -> None:
    """Raises UsageFailure where `target` is there: nothing is written over."""
    if os.path.lexists(target):
        raise UsageFailure(f"{target} exists: name another place (--output-dir, -o), or move it away")


def unpack(
    answers: Iterator[GetResponse], root: Path, *, received: Callable[[int], None] | None = None
) -> None:
    """Write a stream of entries as the file or folder `root`, which must not exist. Raises UnsafeEntry."""
    writer = _Writer(root)
    try:
        for answer in answers:
            if answer.HasField("entry"):
                writer.begin(answer.entry)
            else:
                writer.write(answer.chunk)
                if received is not None:
                    received(len(answer.chunk))
    finally:
        writer.end_file()
    if not os.path.lexists(root):
        raise CommandFailure("the node sent nothing: it has no such content")


def copy(answers: Iterator[GetResponse], out: BinaryIO) -> None:
    """Write the content of a stream that is one file. Raises CommandFailure where it is none."""
    from bacalhau.v1.ipfs_service_pb2 import ENTRY_TYPE_FILE

    for answer in answers:
        if answer.HasField("chunk"):
            out.write(answer.chunk)
        elif answer.entry.type != ENTRY_TYPE_FILE:
            raise CommandFailure("this is no file: see what is in it with `bacalhau ipfs ls`")


class _Writer:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._file: BinaryIO | None = None
        self._folders: set[tuple[str, ...]] = set()

    def begin(self, entry: EntryHeader) -> None:
        from bacalhau.v1 import ipfs_service_pb2 as ipfs

        self.end_file()
        path = os.fsdecode(entry.path_bytes) if entry.path_bytes else entry.path
        parts = _parts(path)
        # Only a folder that this stream made is written into: never the target of a link.
        if parts and parts[:-1] not in self._folders:
            raise UnsafeEntry(f"the content is refused: {path!r} is in no folder of it")
        place = self._root.joinpath(*parts)
        if os.path.lexists(place):
            raise UnsafeEntry(f"the content is refused: {path!r} comes twice, or differs only in letter case")
        match entry.type:
            case ipfs.ENTRY_TYPE_DIRECTORY:
                place.mkdir()
                self._folders.add(parts)
            case ipfs.ENTRY_TYPE_FILE:
                descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
                self._file = os.fdopen(descriptor, "wb", buffering=0)
            case ipfs.ENTRY_TYPE_SYMLINK:
                raw = entry.link_target_bytes
                target = os.fsdecode(raw) if raw else entry.link_target
                _check_link(parts, target)
                place.symlink_to(target)
            case _:
                raise UnsafeEntry(f"the content is refused: {path!r} is no file, folder or link")

    def write(self, chunk: bytes) -> None:
        if self._file is None:
            raise UnsafeEntry("the content is refused: bytes came that belong to no file")
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]

    def end_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _parts(path: str) -> tuple[str, ...]:
    """The components of an entry's path. Raises UnsafeEntry."""
    if not path:
        return ()
    parts = tuple(path.split("/"))
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise UnsafeEntry(f"the content is refused: the name {path!r} would leave its folder")
    return parts


def _check_link(parts: tuple[str, ...], target: str) -> None:
    """Raises UnsafeEntry where a link leads out of the folder that is fetched."""
    steps = [step for step in target.split("/") if step not in ("", ".")]
    climbs = next((index for index, step in enumerate(steps) if step != ".."), len(steps))
    # Only at its beginning may a link climb: there it passes folders that this stream made. After a name,
    # which may
    # be a link itself, nobody can say where ".." is.
    outside = climbs > len(parts) - 1 or ".." in steps[climbs:]
    if not target or target.startswith("/") or "\0" in target or outside or not parts:
        raise UnsafeEntry(
            f"the content is refused: the link {'/'.join(parts)!r} leads out of it, to {target!r}; "
            "`bacalhau ipfs export` fetches it without unpacking"
        )
