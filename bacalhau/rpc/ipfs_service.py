"""IpfsService: the node's IPFS store, for clients.

Owns translating, and the order in which the parts of a stream may come; the rest is the port's. Content streams
as it comes: nothing here holds more than a message.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeVar

from bacalhau.ipfs.layout import ImportOptions
from bacalhau.ipfs.unixfs import EntryKind
from bacalhau.model.cid import RAW, Cid
from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.rpc.limits import ADD_CHUNK_BYTES_MAX, IPFS_PAGE_SIZE_DEFAULT, IPFS_PAGE_SIZE_MAX
from bacalhau.rpc.paging import read_page
from bacalhau.rpc.status import abort
from bacalhau.v1 import ipfs_service_pb2 as pb
from bacalhau.v1 import ipfs_service_pb2_grpc
from bacalhau.wire import fields

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from grpc.aio import ServicerContext

    from bacalhau.ipfs.car import CarImported
    from bacalhau.ipfs.pins import Collected
    from bacalhau.ipfs.reader import Stat, WalkedEntry

    Context = ServicerContext[Any, Any]

R = TypeVar("R")

_KINDS: Final[dict[int, EntryKind]] = {
    pb.ENTRY_TYPE_FILE: EntryKind.FILE,
    pb.ENTRY_TYPE_DIRECTORY: EntryKind.DIRECTORY,
    pb.ENTRY_TYPE_SYMLINK: EntryKind.SYMLINK,
}
_TYPES: Final = {kind: number for number, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class ContentPath:
    """Content by CID, or by a path ("a/b", "" for none) inside of it."""

    root: Cid
    inner: str


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to be stored; the bytes that follow are its content, at least `size_bytes`. `path` is the
    sender's, unchecked."""

    path: str
    kind: EntryKind
    target: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Added:
    """What an Add stored; `size_bytes` is the content of all files."""

    cid: Cid
    size_bytes: int
    entries: int


@dataclass(frozen=True, slots=True)
class ListedEntry:
    """An entry of a folder. `is_block` where it is no UnixFS; not that, and no kind, where nobody has it."""

    name: str
    cid: Cid
    size_bytes: int
    kind: EntryKind | None
    is_block: bool


@dataclass(frozen=True, slots=True)
class ContentStat:
    """What a CID is, whether all of it is here, and whether it or the root of the path is pinned."""

    stat: Stat
    local: bool
    pinned: bool


@dataclass(frozen=True, slots=True)
class Fetching:
    """How far content is that comes from other nodes: blocks that have come, and all of them as the root claims."""

    done_bytes: int
    total_bytes: int


class IpfsPort(Protocol):
    """What the node does for IpfsService. Methods raise Refused, the streams as they are read.

    Streams that are returned are to be closed where they are left early. A stream that is given
    and raises leaves no pin.
    """

    async def add(
        self, options: ImportOptions, parts: AsyncIterator[NewEntry | bytes], *, pin: bool
    ) -> Added: ...
    def get(
        self, path: ContentPath, offset_bytes: int, length_bytes: int | None, *, progress: bool = False
    ) -> AsyncGenerator[list[WalkedEntry | bytes | Fetching], None]: ...
    async def list_folder(
        self, path: ContentPath, start: int, count: int
    ) -> tuple[list[ListedEntry], bool]: ...
    async def stat(self, path: ContentPath) -> ContentStat: ...
    async def import_car(self, chunks: AsyncIterator[bytes]) -> CarImported: ...
    def export_car(self, cid: Cid) -> AsyncGenerator[list[bytes], None]: ...
    async def pin(self, cid: Cid) -> None: ...
    async def unpin(self, cid: Cid) -> None: ...
    async def collect_garbage(self) -> Collected: ...


class IpfsServicer(ipfs_service_pb2_grpc.IpfsServiceServicer):
    """See ipfs_service.proto."""

    def __init__(self, port: IpfsPort) -> None:
        self._port = port

    async def Add(self, request_iterator: AsyncIterator[pb.AddRequest], context: Context) -> pb.AddResponse:
        try:
            requests = _whole(request_iterator, context)
            first = await anext(requests, None)
            options, pin = ImportOptions(), True
            if first is not None and first.HasField("options"):
                options, pin = _options(first.options), not first.options.no_pin
                first = None
            added = await self._port.add(options, _parts(first, requests), pin=pin)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.AddResponse(cid=str(added.cid), size_bytes=added.size_bytes, entries=added.entries)

    async def Get(self, request: pb.GetRequest, context: Context) -> AsyncIterator[pb.GetResponse]:
        try:
            if request.offset_bytes < 0 or request.length_bytes < 0:
                raise refused(RefusalReason.MALFORMED, "offset_bytes and length_bytes must not be negative")
            found = self._port.get(
                _content_path(request.path),
                request.offset_bytes,
                request.length_bytes or None,
                progress=request.progress,
            )
            async with contextlib.aclosing(found) as batches:
                async for batch in batches:
                    for part in batch:
                        if isinstance(part, bytes):
                            yield pb.GetResponse(chunk=part)
                        elif isinstance(part, Fetching):
                            yield pb.GetResponse(
                                progress=pb.FetchProgress(
                                    done_bytes=part.done_bytes, total_bytes=part.total_bytes
                                )
                            )
                        else:
                            yield pb.GetResponse(entry=_header(part))
        except Refused as error:
            await abort(context, error.refusal)

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        try:
            start, count = read_page(
                request.page_token, request.page_size, IPFS_PAGE_SIZE_MAX, default=IPFS_PAGE_SIZE_DEFAULT
            )
            entries, has_more = await self._port.list_folder(_content_path(request.path), start, count)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.ListResponse(
            entries=[
                pb.DirectoryEntry(
                    name=_as_text(entry.name)[0],
                    cid=str(entry.cid),
                    size_bytes=entry.size_bytes,
                    type=_type(entry.kind, is_block=entry.is_block),  # type: ignore[arg-type]
                )
                for entry in entries
            ],
            next_page_token=str(start + len(entries)) if has_more else "",
        )

    async def Stat(self, request: pb.StatRequest, context: Context) -> pb.StatResponse:
        try:
            found = await self._port.stat(_content_path(request.path))
        except Refused as error:
            await abort(context, error.refusal)
        return pb.StatResponse(
            cid=str(found.stat.cid),
            type=_type(  # type: ignore[arg-type]
                found.stat.kind, is_block=found.stat.kind is None or found.stat.cid.codec == RAW
            ),
            size_bytes=found.stat.size_bytes,
            dag_bytes=found.stat.dag_bytes,
            link_count=found.stat.link_count,
            local=found.local,
            pinned=found.pinned,
        )

    async def ImportCar(
        self, request_iterator: AsyncIterator[pb.ImportCarRequest], context: Context
    ) -> pb.ImportCarResponse:
        try:
            imported = await self._port.import_car(_chunks(_whole(request_iterator, context)))
        except Refused as error:
            await abort(context, error.refusal)
        return pb.ImportCarResponse(roots=[str(root) for root in imported.roots], blocks=imported.blocks)

    async def ExportCar(
        self, request: pb.ExportCarRequest, context: Context
    ) -> AsyncIterator[pb.ExportCarResponse]:
        try:
            found = self._port.export_car(fields.cid(request.cid, "cid"))
            async with contextlib.aclosing(found) as batches:
                async for batch in batches:
                    for chunk in batch:
                        yield pb.ExportCarResponse(chunk=chunk)
        except Refused as error:
            await abort(context, error.refusal)

    async def Pin(self, request: pb.PinRequest, context: Context) -> pb.PinResponse:
        try:
            cid = fields.cid(request.cid, "cid")
            await (self._port.unpin(cid) if request.remove else self._port.pin(cid))
        except Refused as error:
            await abort(context, error.refusal)
        return pb.PinResponse(pinned=not request.remove)

    async def CollectGarbage(
        self, request: pb.CollectGarbageRequest, context: Context
    ) -> pb.CollectGarbageResponse:
        try:
            collected = await self._port.collect_garbage()
        except Refused as error:
            await abort(context, error.refusal)
        return pb.CollectGarbageResponse(blocks=collected.deleted_blocks, freed_bytes=collected.deleted_bytes)


async def _whole(requests: AsyncIterator[R], context: Context) -> AsyncIterator[R]:
    """The messages of a stream, and its end only where the client ended it.

    grpc.aio shows a call that broke off as an ended stream too, and cancels the handler some time later. But
    nothing can be sent on such a call any more, which is told at once.
    """
    async for request in requests:
        yield request
    await context.send_initial_metadata(())


def _options(options: pb.AddOptions) -> ImportOptions:
    default = ImportOptions()
    chunk_bytes = options.chunk_bytes or default.chunk_size_bytes
    return ImportOptions(
        cid_version=fields.whole(options.cid_version, "options.cid_version", 0, 1),
        raw_leaves=options.raw_leaves if options.HasField("raw_leaves") else None,
        chunk_size_bytes=fields.whole(chunk_bytes, "options.chunk_bytes", 1, ADD_CHUNK_BYTES_MAX),
    )


async def _parts(
    first: pb.AddRequest | None, rest: AsyncIterator[pb.AddRequest]
) -> AsyncIterator[NewEntry | bytes]:
    """The stream as the port takes it, in an order that makes sense: bytes only after a file's header."""
    takes_bytes = False
    if first is not None:
        part = _part(first, takes_bytes)
        takes_bytes = isinstance(part, NewEntry) and part.kind is EntryKind.FILE
        yield part
    async for request in rest:
        part = _part(request, takes_bytes)
        if isinstance(part, NewEntry):
            takes_bytes = part.kind is EntryKind.FILE
        yield part


def _part(request: pb.AddRequest, takes_bytes: bool) -> NewEntry | bytes:
    chunk = request.chunk
    if chunk and takes_bytes:
        return _checked_chunk(chunk)
    which = request.WhichOneof("part")
    if which == "chunk":
        if takes_bytes:
            return b""
        _malformed("a chunk came that belongs to no file: send the file's entry first")
    if which == "entry":
        kind = _KINDS.get(request.entry.type)
        if kind is None:
            _malformed("entry.type must be ENTRY_TYPE_FILE, ENTRY_TYPE_DIRECTORY or ENTRY_TYPE_SYMLINK")
        return NewEntry(request.entry.path, kind, request.entry.link_target, request.entry.size_bytes)
    if which == "options":
        _malformed("options came later than as the first of the stream")
    _malformed("a message of the stream is empty: it must hold options, an entry or a chunk")


async def _chunks(requests: AsyncIterator[pb.ImportCarRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        yield _checked_chunk(request.chunk)


def _checked_chunk(chunk: bytes) -> bytes:
    if len(chunk) > ADD_CHUNK_BYTES_MAX:
        raise refused(
            RefusalReason.TOO_LARGE,
            f"a chunk has {len(chunk)} bytes, at most {ADD_CHUNK_BYTES_MAX} are taken: cut it smaller",
            chunk_bytes=len(chunk),
            limit_bytes=ADD_CHUNK_BYTES_MAX,
        )
    return chunk


def _malformed(message: str) -> NoReturn:
    raise refused(RefusalReason.MALFORMED, message)


def _content_path(text: str) -> ContentPath:
    cid, _, inner = text.partition("/")
    return ContentPath(fields.cid(cid, "path"), inner.strip("/"))


def _header(entry: WalkedEntry) -> pb.EntryHeader:
    path, path_bytes = _as_text(entry.path)
    target, target_bytes = _as_text(entry.target)
    return pb.EntryHeader(
        path=path,
        type=_type(entry.kind, is_block=False),  # type: ignore[arg-type]
        size_bytes=entry.size_bytes if entry.kind is EntryKind.FILE else 0,
        link_target=target,
        path_bytes=path_bytes,
        link_target_bytes=target_bytes,
    )


def _as_text(name: str) -> tuple[str, bytes]:
    """A name that is no UTF-8 cannot be sent as text, but seen; then its bytes as well."""
    if name.isascii():
        return name, b""
    raw = name.encode("utf-8", "surrogateescape")
    shown = raw.decode("utf-8", "replace")
    return shown, b"" if shown == name else raw


def _type(kind: EntryKind | None, *, is_block: bool) -> int:
    if is_block:
        return pb.ENTRY_TYPE_BLOCK
    return pb.ENTRY_TYPE_UNSPECIFIED if kind is None else _TYPES[kind]
