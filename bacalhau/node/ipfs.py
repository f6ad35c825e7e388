"""The node's IPFS store as clients use it: what IpfsService does, on the store and the other nodes behind it.

Blocking work is done in threads of its own, so that a slow client holds up nobody else, and what is not here
is fetched where it is met. Nothing here knows messages, and no CID is made here: that is `bacalhau.ipfs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bacalhau.ipfs import car, errors, reader
from bacalhau.ipfs.blockstore import wall_clock_us
from bacalhau.ipfs.dag import find_missing
from bacalhau.ipfs.importer import TreeImport
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.ipfs.pins import DEFAULT_GRACE_US, Collected, garbage_collect
from bacalhau.ipfs.reader import TreeLimits, WalkedEntry
from bacalhau.ipfs.unixfs import EntryKind
from bacalhau.model.cid import Cid, InvalidCid, UnsupportedHash
from bacalhau.model.refusals import Refusal, RefusalReason, Refused, refused
from bacalhau.node.contents import FIND_TIMEOUT_S
from bacalhau.node.handoff import StreamBroken, drain, feed
from bacalhau.node.needed import Needed
from bacalhau.rpc.ipfs_service import Added, ContentStat, Fetching, ListedEntry, NewEntry
from bacalhau.rpc.limits import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator

    from bacalhau.ipfs.blockstore import BlockStore
    from bacalhau.ipfs.car import CarImported
    from bacalhau.ipfs.dagpb import Link
    from bacalhau.ipfs.fetch import BlockSource
    from bacalhau.ipfs.layout import ImportOptions
    from bacalhau.node.contents import Contents
    from bacalhau.node.serving import Serving
    from bacalhau.rpc.ipfs_service import ContentPath

R = TypeVar("R")

log = logging.getLogger(__name__)

STREAMS_MAX: Final = 16
"""Streams in each direction that have a thread at once; more wait for one, in the order of their coming."""

ADD_LIMITS: Final = TreeLimits()

_R = RefusalReason
# The first that fits counts.
_REASONS: Final[tuple[tuple[type[Exception], RefusalReason], ...]] = (
    (InvalidCid, _R.MALFORMED),
    (UnsupportedHash, _R.UNSUPPORTED),
    (errors.UnsupportedDag, _R.UNSUPPORTED),
    (errors.BlockNotFound, _R.CONTENT_UNAVAILABLE),
    (errors.NoPeerHas, _R.CONTENT_UNAVAILABLE),
    (errors.PathNotFound, _R.NOT_FOUND),
    (errors.UnsafePath, _R.UNSAFE_PATH),
    (errors.LimitExceeded, _R.TOO_LARGE),
    (errors.StoreFull, _R.STORAGE_FULL),
    # What was sent or asked for is wrong: InvalidBlock, InvalidCar, WrongKind, ImportRefused, ExportRefused.
    (errors.IpfsError, _R.MALFORMED),
)


def refusal_from(error: errors.IpfsError | InvalidCid | UnsupportedHash) -> Refusal:
    """What a client is told of a failure of the embedded IPFS."""
    reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
    if isinstance(error, errors.BlockNotFound):
        return Refusal(reason, f"no peer has CID {error.cid}, a part of what was asked for")
    return Refusal(reason, str(error))


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Raises Refused in place of what the embedded IPFS raises."""
    try:
        yield
    except (errors.IpfsError, InvalidCid, UnsupportedHash) as error:
        raise Refused(refusal_from(error)) from error


class Ipfs:
    """See the module and IpfsPort. Blocks younger than `gc_grace_us` are never collected, pinned or not: who
    imports elsewhere in the node has that long to pin. `needed` are the roots that are kept beside pins:
    contents and results of jobs."""

    def __init__(
        self,
        contents: Contents,
        serving: Serving,
        *,
        gc_grace_us: int = DEFAULT_GRACE_US,
        needed: Needed | None = None,
    ) -> None:
        self._contents = contents
        self._serving = serving
        self._store = contents.store
        self._pins = contents.pins
        self._gc_grace_us = gc_grace_us
        self._needed = needed or Needed()
        self._writers = ThreadPoolExecutor(STREAMS_MAX, thread_name_prefix="ipfs-in")
        self._readers = ThreadPoolExecutor(STREAMS_MAX, thread_name_prefix="ipfs-out")
        # When each import began whose root is not known, and so neither pinned nor held, yet.
        self._begun_us: dict[object, int] = {}
        self._collecting = threading.Lock()

    def close(self) -> None:
        """Lets the threads go; the streams have ended before."""
        self._writers.shutdown(wait=False)
        self._readers.shutdown(wait=False)

    async def add(
        self, options: ImportOptions, parts: AsyncIterator[NewEntry | bytes], *, pin: bool
    ) -> Added:
        with refusing(), self._unfinished():
            added = await feed(self._writers, parts, lambda items: _import_tree(self._store, options, items))
            if pin:
                await self._in_thread(lambda: self._pins.add(added.cid))
            await self._contents.keep(added.cid, pin=pin)
            self._serving.provide(added.cid)
            return added

    async def get(
        self, path: ContentPath, offset_bytes: int, length_bytes: int | None, *, progress: bool = False
    ) -> AsyncGenerator[list[WalkedEntry | bytes | Fetching], None]:
        with refusing():
            cid = await self._resolve(path)
            async with self._held(cid):
                coming = _Coming(self._store, cid) if progress else None
                store = _FetchingStore(self._store, lambda _: self._contents.need(cid, coming))
                parts: Iterator[WalkedEntry | bytes | Fetching] = _read(
                    store, cid, offset_bytes, length_bytes
                )
                drained = drain(
                    self._readers, parts, stop=store.close, meanwhile=None if coming is None else coming.news
                )
                async with contextlib.aclosing(drained) as batches:
                    async for batch in batches:
                        yield batch

    async def list_folder(self, path: ContentPath, start: int, count: int) -> tuple[list[ListedEntry], bool]:
        cid = await self._resolve(path)
        async with self._held(cid):
            links = await self._with_blocks(lambda store: _sorted_links(store, cid))
            page = links[start : start + count]
            await self._bring_roots([link.cid for link in page])
            with refusing():
                listed = await self._in_thread(lambda: [_listed(self._store, link) for link in page])
        return listed, start + len(page) < len(links)

    async def stat(self, path: ContentPath) -> ContentStat:
        cid = await self._resolve(path)
        found = await self._with_blocks(lambda store: reader.stat(store, cid))
        with refusing():
            local = await self._in_thread(lambda: self._is_local(cid))
            pinned = await self._in_thread(lambda: cid in self._pins or path.root in self._pins)
            pinned = pinned or (self._contents.kubo is not None and await self._contents.kubo.pinned(cid))
        return ContentStat(found, local, pinned)

    async def import_car(self, chunks: AsyncIterator[bytes]) -> CarImported:
        with refusing(), self._unfinished():
            imported = await feed(self._writers, chunks, lambda items: car.import_car(self._store, items))
            for root in imported.roots:
                # A CAR may leave out blocks: a pin on a part would promise more than it keeps.
                await self._contents.need(root)
                await self._in_thread(lambda root=root: self._pins.add(root))  # type: ignore[misc]
                await self._contents.keep(root)
                self._serving.provide(root)
            return imported

    async def export_car(self, cid: Cid) -> AsyncGenerator[list[bytes], None]:
        with refusing():
            async with self._held(cid):
                store = _FetchingStore(self._store, lambda _: self._contents.need(cid))
                chunks = _sized(car.write_car(store, cid))
                async with contextlib.aclosing(drain(self._readers, chunks, stop=store.close)) as batches:
                    async for batch in batches:
                        yield batch

    async def pin(self, cid: Cid) -> None:
        with refusing():
            async with self._held(cid):
                await self._contents.need(cid)
                await self._in_thread(lambda: self._pins.add(cid))
                await self._contents.keep(cid)
                self._serving.provide(cid)

    async def unpin(self, cid: Cid) -> None:
        with refusing():
            await self._in_thread(lambda: self._pins.remove(cid))
        kubo = self._contents.kubo
        if kubo is not None and cid not in await self._in_thread(lambda: set(self._needed.everything())):
            kubo.release_soon(cid)

    async def collect_garbage(self) -> Collected:
        collected = await self.tidy()
        if self._contents.kubo is None:
            return collected
        blocks, freed_bytes = await self._contents.kubo.collect_garbage()
        return replace(
            collected,
            deleted_blocks=collected.deleted_blocks + blocks,
            deleted_bytes=collected.deleted_bytes + freed_bytes,
        )

    def wanted(self) -> set[Cid]:
        """Every root that Kubo is to keep: not what is sealed, for Kubo serves all that it has, and tells of it.
        Reads databases: for threads."""
        roots = {pin.cid for pin in self._pins.all()} | set(self._needed.everything())
        return {root for root in roots if self._serving.may_serve(root)}

    def provided(self) -> list[Cid]:
        """Those of them that are here, for others to fetch. For threads, too."""
        return [root for root in self.wanted() if self._store.has(root)]

    async def tidy(self) -> Collected:
        """Collects the garbage of the store; where Kubo keeps what is wanted, that is not kept here as well."""
        self._contents.small_results.forget_all()
        kubo = self._contents.kubo
        elsewhere = frozenset[Cid]() if kubo is None else await kubo.reconcile(self.wanted)
        now_us = wall_clock_us()
        oldest_us = min(self._begun_us.values(), default=now_us)
        grace_us = max(self._gc_grace_us, now_us - oldest_us)

        def work() -> Collected:
            # What came after the look at the imports above is younger than `now_us`, and stays.
            with self._collecting, self._needed.watched() as lately:
                collected = garbage_collect(
                    self._store,
                    self._pins,
                    grace_us=grace_us,
                    clock_us=lambda: now_us,
                    also=self._needed.everything,
                    lately=lately,
                    elsewhere=elsewhere,
                )
                if isinstance(self._store, PackBlockStore):
                    self._store.compact()
                return collected

        with refusing():
            return await self._in_thread(work)

    async def _resolve(self, path: ContentPath) -> Cid:
        if not path.inner:
            return path.root
        return await self._with_blocks(lambda store: reader.resolve(store, path.root, path.inner))

    async def _with_blocks(self, work: Callable[[BlockStore], R]) -> R:
        """What `work` returns, in a thread, on a store that fetches each block that is missing, by itself."""
        store = _FetchingStore(self._store, self._contents.claim)
        with refusing(), contextlib.closing(store):
            return await self._in_thread(lambda: work(store))

    async def _in_thread(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def _bring_roots(self, cids: list[Cid]) -> None:
        """Fetch those blocks that are not here, as far as somebody has them."""
        missing = [cid for cid in dict.fromkeys(cids) if not self._store.has(cid)]
        if not missing:
            return
        for source in await self._contents.everybody():
            for first in range(0, len(missing), 1000):
                found = await _blocks_from(source, missing[first : first + 1000])
                await self._in_thread(lambda found=found: self._store.put_many(found, sync=False))  # type: ignore[misc]
            missing = [cid for cid in missing if not self._store.has(cid)]
            if not missing:
                return

    def _is_local(self, cid: Cid) -> bool:
        try:
            return find_missing(self._contents.whole_store, cid) is None
        except errors.UnsupportedDag:
            # What its links are nobody here can tell; the block itself is here.
            return True

    @contextlib.asynccontextmanager
    async def _held(self, cid: Cid) -> AsyncIterator[None]:
        """Pins.hold for the event loop, which must not wait for the lock that garbage collection has."""
        hold = self._pins.hold(cid)
        entered = self._readers.submit(hold.__enter__)
        try:
            await asyncio.shield(asyncio.wrap_future(entered))
            yield
        finally:
            # After the entering, even where that is cancelled while it waits.
            entered.add_done_callback(lambda _: self._readers.submit(hold.__exit__, None, None, None))

    @contextlib.contextmanager
    def _unfinished(self) -> Iterator[None]:
        """While open, garbage collection keeps what is put, which no pin reaches yet."""
        key = object()
        self._begun_us[key] = wall_clock_us()
        try:
            yield
        finally:
            del self._begun_us[key]


class _FetchingStore:
    """A store to read from, in one thread, that has missing blocks brought by the loop it was made on."""

    def __init__(self, store: BlockStore, bring: Callable[[Cid], Coroutine[Any, Any, object]]) -> None:
        self._store = store
        self._bring = bring
        self._loop = asyncio.get_running_loop()
        self._running: Future[object] | None = None
        self._closed = False
        # The rest of a BlockStore, for readers.
        self.has = store.has
        self.put_many = store.put_many
        self.sync = store.sync

    def get(self, cid: Cid) -> bytes:
        try:
            return self._store.get(cid)
        except errors.BlockNotFound:
            self._fetch(cid)
        return self._store.get(cid)

    def size(self, cid: Cid) -> int:
        try:
            return self._store.size(cid)
        except errors.BlockNotFound:
            self._fetch(cid)
        return self._store.size(cid)

    def close(self) -> None:
        """Nobody waits for the blocks any more; the store behind this stays open."""
        self._closed = True
        if self._running is not None:
            self._running.cancel()

    def _fetch(self, cid: Cid) -> None:
        self._running = asyncio.run_coroutine_threadsafe(self._bring(cid), self._loop)
        if self._closed:  # looked at last, for close() may come at any time and cancels only what it finds
            self._running.cancel()
        try:
            self._running.result()
        except CancelledError as error:
            raise StreamBroken from error


class _Coming:
    """How far the blocks of a CID are that come from other nodes: called with each, asked for what is new."""

    def __init__(self, store: BlockStore, cid: Cid) -> None:
        self._store = store
        self._cid = cid
        self._total_bytes = 0
        self._news: Fetching | None = None

    def __call__(self, _blocks: int, done_bytes: int) -> None:
        if not self._total_bytes:  # the root is here by now
            self._total_bytes = reader.stat(self._store, self._cid).dag_bytes
        self._news = Fetching(done_bytes, self._total_bytes)

    def news(self) -> Fetching | None:
        news, self._news = self._news, None
        return news


def _import_tree(store: BlockStore, options: ImportOptions, items: Iterator[NewEntry | bytes]) -> Added:
    stream = _EntryStream(items)
    size_bytes = entries = 0
    with TreeImport(store, options=options) as tree:
        while (entry := stream.next_entry()) is not None:
            entries += 1
            if entries > ADD_LIMITS.max_entries:
                raise errors.LimitExceeded(
                    f"more than {ADD_LIMITS.max_entries} entries are not taken at once: add them in parts"
                )
            match entry.kind:
                case EntryKind.DIRECTORY:
                    tree.directory(entry.path)
                case EntryKind.SYMLINK:
                    tree.symlink(entry.path, entry.target)
                case EntryKind.FILE:
                    stored_bytes = tree.file(entry.path, stream.content()).size_bytes
                    if stored_bytes < entry.size_bytes:
                        raise errors.ImportRefused(
                            f"the content of {entry.path!r} ended after {stored_bytes} of {entry.size_bytes} "
                            "bytes: it was cut off, or the file changed while it was read; add it again"
                        )
                    size_bytes += stored_bytes
        if not entries:
            raise errors.ImportRefused("the stream holds no entry: nothing was added")
        return Added(tree.finish().cid, size_bytes, entries)


class _EntryStream:
    """Entries, each with its bytes, out of one flat stream."""

    def __init__(self, items: Iterator[NewEntry | bytes]) -> None:
        self._items = items
        self._next: NewEntry | None = None

    def next_entry(self) -> NewEntry | None:
        if self._next is None:
            for item in self._items:
                if not isinstance(item, bytes):
                    return item
        entry, self._next = self._next, None
        return entry

    def content(self) -> Iterator[bytes]:
        for item in self._items:
            if not isinstance(item, bytes):
                self._next = item
                return
            yield item


def _read(
    store: BlockStore, cid: Cid, offset_bytes: int, length_bytes: int | None
) -> Iterator[WalkedEntry | bytes]:
    is_part = offset_bytes > 0 or length_bytes is not None
    for entry in reader.walk(store, cid):
        if is_part and entry.kind is not EntryKind.FILE:
            raise refused(
                _R.MALFORMED,
                f"{cid} is a {entry.kind.value}: offset_bytes and length_bytes are for files",
            )
        yield entry
        if entry.kind is EntryKind.FILE:
            yield from _sized(reader.read_file(store, entry.cid, offset_bytes, length_bytes))


def _sized(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of CHUNK_BYTES: small ones joined, large ones cut; the last may be shorter."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        if not waiting and len(piece) == CHUNK_BYTES:
            yield piece  # by far the most frequent
            continue
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            joined = b"".join(waiting)
            end = size - size % CHUNK_BYTES
            for start in range(0, end, CHUNK_BYTES):
                yield joined[start : start + CHUNK_BYTES]
            waiting, size = ([joined[end:]] if end < size else []), size - end
    if waiting:
        yield b"".join(waiting)


def _sorted_links(store: BlockStore, cid: Cid) -> list[Link]:
    return sorted(reader.links(store, cid), key=lambda link: os.fsencode(link.name))


def _listed(store: BlockStore, link: Link) -> ListedEntry:
    try:
        found = reader.stat(store, link.cid)
    except errors.BlockNotFound:
        return ListedEntry(link.name, link.cid, 0, None, is_block=False)
    return ListedEntry(link.name, link.cid, found.size_bytes, found.kind, is_block=found.kind is None)


async def _blocks_from(source: BlockSource, cids: list[Cid]) -> list[tuple[Cid, bytes]]:
    """What the source has of them; a source that fails or lies is of no help, and that is all."""
    found: list[tuple[Cid, bytes]] = []
    asked = set(cids)
    try:
        async with asyncio.timeout(FIND_TIMEOUT_S):
            async for cid, block in source.get_blocks(cids, recursive=False):
                if cid in asked and cid.verify(block):
                    found.append((cid, block))
    except Exception:  # whatever a source raises, entries are only shown with less detail for it
        log.info("%s did not give the entries of a folder", source.name, exc_info=True)
    return found
