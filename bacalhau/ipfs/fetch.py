"""Blocks from outside: the ports for those who have them, and fetching a DAG through them.

Owns the trust: every block is checked against its CID (what an exchange brings, by the
exchange, which knows it by its hash), and only blocks that were asked for, or that verified
blocks link to, are taken. Knows no network. A source is one node that
sends whole DAGs (BlockService, a Kubo node); an exchange asks many for single blocks at once
(Bitswap). The only asynchronous part of this package: the store is called from
threads, once a batch, so that a DAG of a few blocks costs two such calls.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from bacalhau.ipfs.dag import child_cids
from bacalhau.ipfs.dagpb import MAX_BLOCK_BYTES
from bacalhau.ipfs.errors import IpfsError, LimitExceeded, NoPeerHas, UnsupportedDag
from bacalhau.model.cid import RAW, Cid, UnsupportedHash

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from bacalhau.ipfs.blockstore import BlockStore

_BATCH_BYTES: Final = 2 * 1024 * 1024
_BATCH_BLOCKS: Final = 512
_ASK_CIDS: Final = 1000
# What a crash may cost of a long fetch.
_SYNC_BYTES: Final = 256 * 1024 * 1024
_CLOSE_SECONDS: Final = 1.0
_SILENT_AT_ONCE: Final = 8

log = logging.getLogger(__name__)

_Found = tuple[Cid, bytes]

Progress = Callable[[int, int], None]
"""Called with the numbers of blocks and bytes fetched so far, once a batch."""


class BlockSource(Protocol):
    """Somebody who may have blocks. `name` is how messages call it."""

    @property
    def name(self) -> str:
        """For people: a peer id, or what kind of source it is."""

    def get_blocks(self, cids: Sequence[Cid], *, recursive: bool) -> AsyncIterator[tuple[Cid, bytes]]:
        """Those blocks of `cids` that it has, with `recursive` also what is below them, parents first.

        At most 1000 CIDs are asked for at once. A source that cannot do `recursive` leaves that
        out and is asked again. What it does not have is left out; what it raises ends its part.
        """


class BlockSession(Protocol):
    """Blocks that one fetch wants of an exchange."""

    @property
    def reasons(self) -> Mapping[str, str]:
        """By the name of a peer: why it was of no use."""

    async def want(self, cids: Sequence[Cid]) -> None:
        """Ask for more blocks. At most 1000 are open at once."""

    async def receive(self) -> list[tuple[Cid, bytes]]:
        """Blocks that have come, in any order and each once, checked against their CIDs; none when what is still open
        cannot be had."""


class BlockExchange(BlockSource, Protocol):
    """Many peers that are asked for blocks together: whoever has one sends it. It bounds its own silence, and is a
    source of single blocks, too."""

    def session(self) -> AbstractAsyncContextManager[BlockSession]:
        """Blocks wanted from now until the context ends."""


class FetchLimit(LimitExceeded):
    """The DAG is larger or deeper than the caller allows, or a source sent more than that."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What a DAG may at most weigh, and how long a source may be silent: at its beginning the next is asked as well
    after `next_source_seconds`, a few at once, and the first that answers is taken."""

    max_bytes: int = 64 << 30
    max_blocks: int = 2_000_000
    max_depth: int = 1024
    next_source_seconds: float = 0.4
    first_block_seconds: float = 3.0
    stall_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came from outside; nothing where the DAG was in the store."""

    blocks: int
    block_bytes: int


class _SourceFailed(Exception):
    """The source is of no more use; the message says why."""


class _SourceBroke(_SourceFailed):
    """It raised or fell silent: it may be of use again later."""


@dataclass(frozen=True, slots=True)
class _Answering:
    """A source that has begun to answer."""

    source: BlockSource
    stream: AsyncIterator[_Found]
    first: _Found


_DEFAULT_LIMITS: Final = FetchLimits()


async def fetch_dag(
    root: Cid,
    store: BlockStore,
    sources: Sequence[BlockSource],
    *,
    exchange: BlockExchange | None = None,
    limits: FetchLimits = _DEFAULT_LIMITS,
    progress: Progress | None = None,
) -> Fetched:
    """Bring all blocks below `root` into `store`; what is there already is not fetched again.

    Sources are asked in order, and none waits long for one that is silent; one that lies, stalls,
    fails or has nothing more is left for the next, and what it sent and proved stays. What they do
    not have the exchange is asked for.
    The caller holds `root` (Pins.hold) meanwhile.
    Raises NoPeerHas, FetchLimit, UnsupportedDag (also for a hash that cannot be checked), InvalidBlock
    (the DAG itself is malformed), StoreFull.
    """
    run = _Fetch(root, store, limits, progress)
    if store.has(root):
        await asyncio.to_thread(run.walk_stored)
    else:
        run.want(root, 0)
    reasons: dict[str, str] = {}
    broke_off = False
    left = list(sources)

    def failed(source: BlockSource, failure: _SourceFailed) -> None:
        nonlocal broke_off
        log.info("fetching %s from %s: %s", root, source.name, failure)
        reasons[source.name] = str(failure)
        broke_off |= isinstance(failure, _SourceBroke)
        left.remove(source)

    while run.wanted and left:
        answering = await _first_to_answer(tuple(left), run.next_cids(), limits, failed)
        if answering is not None:
            try:
                await run.ask(answering)
            except _SourceFailed as failure:
                failed(answering.source, failure)
    if run.wanted and exchange is not None:
        reasons |= await run.ask_exchange(exchange)
    if run.wanted:
        raise NoPeerHas(next(iter(run.wanted)), root, reasons, broke_off=broke_off)
    if run.has_unsynced:
        await asyncio.to_thread(store.sync)
    return Fetched(run.blocks, run.block_bytes)


class _Fetch:
    """One fetch: which CIDs are known to be missing (with their depth), and which are known at all."""

    def __init__(self, root: Cid, store: BlockStore, limits: FetchLimits, progress: Progress | None) -> None:
        self.wanted: dict[Cid, int] = {}
        self.blocks = 0
        self.block_bytes = 0
        self.has_unsynced = False
        self._root = root
        self._store = store
        self._limits = limits
        self._progress = progress
        self._seen = {root}
        self._repeated_bytes = 0

    def walk_stored(self) -> None:
        """Walk what is in the store already, from the root."""
        self._follow([(self._root, 0)])

    def want(self, cid: Cid, depth: int) -> None:
        """Raises UnsupportedDag where no block could ever be checked against this CID."""
        try:
            cid.check_hash()
        except UnsupportedHash as error:
            raise UnsupportedDag(str(error)) from error
        self.wanted[cid] = depth

    def next_cids(self) -> list[Cid]:
        """Of what is missing as much as one request may name."""
        return list(itertools.islice(self.wanted, _ASK_CIDS))

    async def ask(self, answering: _Answering) -> None:
        """Ask one source until nothing is missing. Raises _SourceFailed when it is of no more use."""
        source, stream, first = answering.source, answering.stream, [answering.first]
        while True:
            blocks_before = self.blocks
            await self._take_all(stream, first)
            if not self.wanted:
                return
            if self.blocks == blocks_before:
                raise _SourceFailed("does not have it")
            stream, first = source.get_blocks(self.next_cids(), recursive=True), []

    async def _take_all(self, stream: AsyncIterator[_Found], batch: list[_Found]) -> None:
        """Take what a source sends; `batch` is what it has sent already."""
        batch_bytes = sum(len(block) for _, block in batch)
        delivered: set[Cid] = set()
        silence_seconds = self._limits.stall_seconds if batch else self._limits.first_block_seconds
        try:
            while (found := await _next_block(stream, silence_seconds)) is not None:
                silence_seconds = self._limits.stall_seconds
                batch.append(found)
                batch_bytes += len(found[1])
                if batch_bytes >= _BATCH_BYTES or len(batch) >= _BATCH_BLOCKS:
                    full_batch, batch, batch_bytes = batch, [], 0
                    await self._take(full_batch, delivered, sync=False)
        except _SourceFailed:
            await self._take(batch, delivered, sync=False)
            raise
        finally:
            await _close(stream)
        # Synced here, not after: where this was all, that saves a second call.
        await self._take(batch, delivered, sync=True)

    async def ask_exchange(self, exchange: BlockExchange) -> dict[str, str]:
        """Ask an exchange until nothing is missing, or what is cannot be had: then why, by the names of peers."""
        reasons: dict[str, str] = {}
        open_cids: set[Cid] = set()
        unsynced_bytes = 0
        try:
            async with exchange.session() as session:
                while self.wanted:
                    asked = [cid for cid in itertools.islice(self.wanted, _ASK_CIDS) if cid not in open_cids]
                    open_cids.update(asked)
                    await session.want(asked)
                    batch = await session.receive()
                    if not batch:
                        break
                    open_cids.difference_update(cid for cid, _ in batch)
                    unsynced_bytes += sum(len(block) for _, block in batch)
                    await self._take(batch, set(), sync=unsynced_bytes >= _SYNC_BYTES, is_verified=True)
                    unsynced_bytes %= _SYNC_BYTES
                reasons.update(session.reasons)
        except IpfsError:
            raise
        except _SourceFailed as failure:
            reasons[exchange.name] = str(failure)
        except Exception as error:
            # As for a source: whatever an exchange raises says only that it is of no use now.
            log.warning("fetching %s by %s failed", self._root, exchange.name, exc_info=True)
            reasons[exchange.name] = f"failed: {error}"
        return reasons

    async def _take(
        self, batch: list[tuple[Cid, bytes]], delivered: set[Cid], *, sync: bool, is_verified: bool = False
    ) -> None:
        if batch:
            await asyncio.to_thread(self._take_in_thread, batch, delivered, sync, is_verified)
            if self._progress is not None:
                self._progress(self.blocks, self.block_bytes)

    def _take_in_thread(
        self, batch: list[tuple[Cid, bytes]], delivered: set[Cid], sync: bool, is_verified: bool
    ) -> None:
        """Verify and store a batch; what came before a block that is refused stays."""
        good: list[tuple[Cid, bytes]] = []
        new_bytes = 0
        try:
            for cid, block in batch:
                if self._is_new(cid, block, delivered, is_verified):
                    new_bytes += len(block)
                    if self.block_bytes + new_bytes > self._limits.max_bytes:
                        raise FetchLimit(f"{self._root} weighs more than {self._limits.max_bytes} bytes")
                    children = child_cids(cid, block)
                    good.append((cid, block))
                    depth = self.wanted.pop(cid)
                    self._follow([(child, depth + 1) for child in self._unseen(children)])
        finally:
            if good:
                self._store.put_many(good, sync=sync)
                self.has_unsynced = not sync
                self.blocks += len(good)
                self.block_bytes += sum(len(block) for _, block in good)

    def _is_new(self, cid: Cid, block: bytes, delivered: set[Cid], is_verified: bool) -> bool:
        """Whether a received block is one that is missing. Raises _SourceFailed for one never asked for."""
        if cid not in self._seen:
            raise _SourceFailed(f"sent {cid}, which nobody asked for")
        if cid in delivered:
            raise _SourceFailed(f"sent {cid} twice")
        delivered.add(cid)
        if cid not in self.wanted:
            # A source does not know what is here already; one that only sends such is no use.
            self._repeated_bytes += len(block)
            if self._repeated_bytes > self._limits.max_bytes:
                raise _SourceFailed("sends again what was here")
            return False
        if not is_verified and not cid.verify(block):
            raise _SourceFailed(f"sent other bytes for {cid}")
        return True

    def _unseen(self, cids: Sequence[Cid]) -> list[Cid]:
        """Those of `cids` that are met for the first time; now they are known."""
        new = list(dict.fromkeys(cid for cid in cids if cid not in self._seen))
        self._seen.update(new)
        if len(self._seen) > self._limits.max_blocks:
            raise FetchLimit(f"{self._root} has more than {self._limits.max_blocks} blocks")
        return new

    def _follow(self, stack: list[tuple[Cid, int]]) -> None:
        """Follow CIDs and their depth through the store; what is missing there is wanted."""
        stack.reverse()
        while stack:
            cid, depth = stack.pop()
            if depth > self._limits.max_depth:
                raise FetchLimit(f"{self._root} is deeper than {self._limits.max_depth} blocks")
            if not self._store.has(cid):
                self.want(cid, depth)
            elif cid.codec != RAW:
                below = self._unseen(child_cids(cid, self._store.get(cid)))
                stack += ((child, depth + 1) for child in reversed(below))


async def _first_to_answer(
    sources: Sequence[BlockSource],
    asked: list[Cid],
    limits: FetchLimits,
    failed: Callable[[BlockSource, _SourceFailed], None],
) -> _Answering | None:
    """Ask each source while those before it are silent, until one sends a block; None where none does. The others are
    let go, and can be asked again; `failed` hears of those that cannot."""
    coming = iter(sources)
    silent: dict[asyncio.Task[_Found | None], tuple[BlockSource, AsyncIterator[_Found]]] = {}
    next_source = next(coming, None)
    try:
        while silent or next_source is not None:
            if next_source is not None and len(silent) < _SILENT_AT_ONCE:
                stream = next_source.get_blocks(asked, recursive=True)
                first = asyncio.ensure_future(_next_block(stream, limits.first_block_seconds))
                silent[first] = (next_source, stream)
                next_source = next(coming, None)
            has_room = next_source is not None and len(silent) < _SILENT_AT_ONCE
            done, _ = await asyncio.wait(
                silent,
                timeout=limits.next_source_seconds if has_room else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for one in [one for one in silent if one in done]:
                source, stream = silent.pop(one)
                try:
                    found = one.result()
                    if found is not None:
                        return _Answering(source, stream, found)
                    failed(source, _SourceFailed("does not have it"))
                except _SourceFailed as failure:
                    failed(source, failure)
                await _close(stream)
        return None
    finally:
        for one in silent:
            one.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
        await asyncio.gather(*(_close(stream) for _, stream in silent.values()))


async def _next_block(stream: AsyncIterator[tuple[Cid, bytes]], seconds: float) -> tuple[Cid, bytes] | None:
    """The next block of a source, None at its end. Raises _SourceFailed, where it may recover _SourceBroke."""
    try:
        async with asyncio.timeout(seconds):
            found = await anext(stream, None)
    except TimeoutError as error:
        raise _SourceBroke(f"silent for {seconds:g} s") from error
    except Exception as error:
        # Whatever a source raises (gRPC, a socket, its own bug) says only that it is of no use now.
        raise _SourceBroke(f"failed: {error}") from error
    if found is not None and len(found[1]) > MAX_BLOCK_BYTES:
        raise _SourceFailed(f"sent a block of {len(found[1])} bytes, above the limit of {MAX_BLOCK_BYTES}")
    return found


async def _close(stream: AsyncIterator[tuple[Cid, bytes]]) -> None:
    """End a generator now, not when it is collected, so that its connection is released."""
    if isinstance(stream, AsyncGenerator):
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await stream.aclose()
        except Exception:  # what was fetched is verified and stored: how badly a source ends matters no more
            log.debug("a block source did not end well", exc_info=True)
