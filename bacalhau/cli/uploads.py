"""Adds files and folders of this machine to the node's IPFS store, and puts their CIDs into a job's draft.

Content is read as it is sent, so memory does not grow with its size. Links are added as links and never
followed; what is neither file, folder nor link is refused.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.cli.failures import NodeFailure, UsageFailure
from bacalhau.cli.mounts import DATA_REFERENCE, FILE_REFERENCE
from bacalhau.cli.progress import PLAIN_INTERVAL_SECONDS
from bacalhau.rpc.limits import ADD_CHUNK_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from bacalhau.cli.connection import Node
    from bacalhau.v1.ipfs_service_pb2 import AddOptions, AddRequest, AddResponse
    from bacalhau.v1.job_pb2 import JobSpec


@dataclass(frozen=True, slots=True)
class Source:
    """A path of this machine, as `entry` of the stream; `hidden` takes names that begin with a dot too."""

    path: str
    entry: str = ""
    hidden: bool = True


def add_source(
    node: Node,
    source: Source,
    options: AddOptions | None = None,
    *,
    sent: Callable[[int], None] | None = None,
) -> AddResponse:
    """Add a file or folder. `sent` hears of each number of bytes as it goes.

    Raises NodeFailure, UsageFailure.
    """
    return _add(node, _entries(source), options, sent)


def add_bytes(node: Node, pieces: Iterator[bytes], options: AddOptions | None = None) -> AddResponse:
    """Add one file, given as its content. Raises NodeFailure."""
    return _add(node, _file_of(pieces), options, None)


def resolve(node: Node, draft: JobSpec, *, quiet: bool = False) -> JobSpec:
    """The draft with a CID in place of each reference to this machine. Raises NodeFailure, UsageFailure."""
    from bacalhau.v1.job_pb2 import JobSpec

    spec = JobSpec()
    spec.CopyFrom(draft)
    cids: dict[str, str] = {}

    def cid_of(reference: str) -> str:
        if not reference.startswith((FILE_REFERENCE, DATA_REFERENCE)):
            return reference
        if reference not in cids:
            cids[reference] = _upload(node, reference, quiet=quiet)
        return cids[reference]

    for source in spec.inputs:
        source.cid = cid_of(source.cid)
    if spec.HasField("wasm"):
        spec.wasm.module_cid = cid_of(spec.wasm.module_cid)
        for module in spec.wasm.import_modules:
            module.cid = cid_of(module.cid)
    return spec


def read_data_url(url: str) -> bytes:
    """The content of a `data:` URL (RFC 2397). Raises UsageFailure."""
    import base64
    import binascii
    from urllib.parse import unquote_to_bytes

    header, comma, data = url.removeprefix(DATA_REFERENCE).partition(",")
    if not comma:
        raise UsageFailure("the data: URL has no comma: write data:;base64,… or data:,TEXT")
    if not header.endswith(";base64"):
        return unquote_to_bytes(data)
    try:
        return base64.b64decode(unquote_to_bytes("".join(data.split())), validate=True)
    except binascii.Error as error:
        raise UsageFailure(f"the data: URL is no base64: {error}") from error


def _upload(node: Node, reference: str, *, quiet: bool) -> str:
    if reference.startswith(DATA_REFERENCE):
        return add_bytes(node, iter([read_data_url(reference)])).cid
    from bacalhau.model.units import size_text

    path = reference.removeprefix(FILE_REFERENCE)
    with Counter(f"adding {path}", quiet=quiet) as counter:
        answer = add_source(node, Source(path), sent=counter)
    if not quiet:
        print(f"added {path} as {answer.cid} ({size_text(answer.size_bytes)})", file=sys.stderr)
    return answer.cid


class Counter:
    """How many bytes have gone, on a terminal's stderr, on one line that disappears in the end. What is `coming` to the
    node first is said on a pipe too."""

    INTERVAL_SECONDS = 0.2

    def __init__(self, what: str, *, quiet: bool = False) -> None:
        self._what = what
        self._quiet = quiet
        self._shown = not quiet and sys.stderr.isatty()
        self._bytes = 0
        self._next = 0.0

    def __enter__(self) -> Counter:
        return self

    def __call__(self, count: int) -> None:
        from bacalhau.model.units import size_text

        self._bytes += count
        if self._shown and self._due(self.INTERVAL_SECONDS):
            self._line(size_text(self._bytes))

    def coming(self, done_bytes: int, total_bytes: int) -> None:
        """How much the node has of what it fetches itself: that may take long, so that a pipe gets lines."""
        from bacalhau.model.units import size_text

        figures = f"{size_text(done_bytes)} of {size_text(total_bytes)} from other nodes"
        if self._shown and self._due(self.INTERVAL_SECONDS):
            self._line(figures)
        elif not (self._shown or self._quiet) and self._due(PLAIN_INTERVAL_SECONDS):
            print(f"{self._what}: {figures}", file=sys.stderr, flush=True)

    def _due(self, interval_seconds: float) -> bool:
        import time

        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + interval_seconds
        return True

    def _line(self, figures: str) -> None:
        print(f"\r\x1b[K{self._what}: {figures}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _add(
    node: Node,
    requests: Iterator[AddRequest],
    options: AddOptions | None,
    sent: Callable[[int], None] | None,
) -> AddResponse:
    from bacalhau.v1.ipfs_service_pb2 import AddRequest

    # gRPC reads the requests in a thread of its own and tells nothing of what failed there: keep it for here.
    failed: list[Exception] = []

    def guarded() -> Iterator[AddRequest]:
        try:
            if options is not None:
                yield AddRequest(options=options)
            for request in requests:
                yield request
                if sent is not None and request.HasField("chunk"):
                    sent(len(request.chunk))
        except Exception as error:  # whatever it is, it is raised below, in the command's own thread
            failed.append(error)
            raise

    try:
        answer: AddResponse = node.call(node.ipfs.Add, guarded(), timeout=None)
    except NodeFailure:  # the call ends so too when the requests could not be made
        if failed:
            raise failed[0] from None
        raise
    return answer


def _entries(source: Source) -> Iterator[AddRequest]:
    """Header and chunks of a path and, depth first and by name, of what is in it."""
    from bacalhau.v1.ipfs_service_pb2 import (
        ENTRY_TYPE_DIRECTORY,
        ENTRY_TYPE_FILE,
        ENTRY_TYPE_SYMLINK,
        AddRequest,
        EntryHeader,
    )

    root = not source.entry
    status = (
        os.stat(source.path) if root else os.lstat(source.path)
    )  # what the user names may be a link to it
    if stat.S_ISREG(status.st_mode):
        header = EntryHeader(path=source.entry, type=ENTRY_TYPE_FILE, size_bytes=status.st_size)
        yield AddRequest(entry=header)
        with open(source.path, "rb") as file:
            yield from _chunks(file)
    elif stat.S_ISLNK(status.st_mode):
        target = os.readlink(source.path)
        yield AddRequest(entry=EntryHeader(path=source.entry, type=ENTRY_TYPE_SYMLINK, link_target=target))
    elif stat.S_ISDIR(status.st_mode):
        yield AddRequest(entry=EntryHeader(path=source.entry, type=ENTRY_TYPE_DIRECTORY))
        for name in sorted(os.listdir(source.path), key=os.fsencode):
            if name.startswith(".") and not source.hidden:
                continue
            if "\udc80" <= max(name) <= "\udcff":
                raise UsageFailure(
                    f"{source.path} holds a name that is not UTF-8 ({name!r}): rename it first"
                )
            entry = name if root else f"{source.entry}/{name}"
            yield from _entries(Source(os.path.join(source.path, name), entry, source.hidden))
    else:
        raise UsageFailure(f"{source.path} is no file, folder or link: only these can be added")


def _file_of(pieces: Iterator[bytes]) -> Iterator[AddRequest]:
    from bacalhau.v1.ipfs_service_pb2 import ENTRY_TYPE_FILE, AddRequest, EntryHeader

    yield AddRequest(entry=EntryHeader(type=ENTRY_TYPE_FILE))
    for piece in pieces:
        for start in range(0, len(piece), ADD_CHUNK_BYTES_MAX):
            yield AddRequest(chunk=piece[start : start + ADD_CHUNK_BYTES_MAX])


def _chunks(file: BinaryIO) -> Iterator[AddRequest]:
    from bacalhau.v1.ipfs_service_pb2 import AddRequest

    while chunk := file.read(ADD_CHUNK_BYTES_MAX):
        yield AddRequest(chunk=chunk)
