"""Content for jobs: whether it is here, how large it is, and bringing it here from other nodes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from bacalhau.ipfs import reader
from bacalhau.ipfs.dag import find_missing
from bacalhau.ipfs.errors import BlockNotFound, IpfsError, NoPeerHas
from bacalhau.ipfs.fetch import FetchLimits, fetch_dag
from bacalhau.ipfs.importer import import_stream
from bacalhau.ipfs.kubo_rpc import FIND_S
from bacalhau.model.market import ClaimedInput
from bacalhau.model.refusals import RefusalReason, refused
from bacalhau.node.small_results import SmallResults
from bacalhau.rpc.peer_client import PeerUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bacalhau.ipfs.blockstore import CollectableStore, ServedStore
    from bacalhau.ipfs.fetch import BlockExchange, BlockSource, Fetched
    from bacalhau.ipfs.pins import Pins
    from bacalhau.model.cid import Cid
    from bacalhau.node.kubo import Kubo
    from bacalhau.node.membership import Membership

log = logging.getLogger(__name__)

FIND_TIMEOUT_S = 4.0
"""How long peers are asked for content that nobody may have: "no peer has CID …" comes within seconds."""

_EXCHANGE_TIMEOUT_S = 20.0
"""The exchange knows when nobody has something, but for looking up who may: that can take a while."""

LINK_S = 1.5
"""How long a look-up waits for connections with nodes that there is none with: anybody can say that they are one."""

SEARCH_S = 30.0
"""Patience with Kubo, which looks for each block among all nodes of its network."""

_RETURN_S = 15.0
"""How long a node that must have the content is waited for while it does not answer: a restart, with some to spare."""

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 2.0


class Contents:
    """The block store with the other nodes behind it; with `kubo`, that is a buffer of what Kubo keeps."""

    def __init__(
        self, store: CollectableStore, pins: Pins, membership: Membership, kubo: Kubo | None = None
    ) -> None:
        self.store = store
        self.pins = pins
        self.kubo = kubo
        self.whole_store: ServedStore = store if kubo is None else kubo.store
        """All that this node has: for threads."""
        self.small_results = SmallResults(store)
        self._membership = membership

    # --- who can be asked ---

    async def sources(self, first: Iterable[str] = ()) -> list[BlockSource]:
        """Live nodes as sources of blocks, those named first in front. Unreachable ones are left out; so are those, but
        for the first, with which a connection takes longer than LINK_S: that goes on for whoever asks next."""
        first = tuple(first)
        node_ids = dict.fromkeys([*first, *self._membership.live_ids()])
        node_ids.pop(self._membership.node_id, None)
        links = {node_id: asyncio.create_task(self._membership.link(node_id)) for node_id in node_ids}
        found: list[BlockSource] = []
        try:
            await asyncio.gather(*(links[id] for id in first if id in links), return_exceptions=True)
            if links:
                await asyncio.wait(links.values(), timeout=LINK_S)
            for link in links.values():
                with contextlib.suppress(PeerUnreachable):
                    if link.done():
                        found.append(link.result())
        finally:
            for link in links.values():
                link.cancel()
        return found

    def own_sources(self) -> list[BlockSource]:
        """What this node has beside the store."""
        return [] if self.kubo is None else [self.kubo.source]

    async def everybody(self) -> list[BlockSource]:
        """Whoever can be asked for single blocks: Kubo, live nodes, and the exchange as one."""
        exchange = [] if self._exchange is None else [self._exchange]
        return [*self.own_sources(), *await self.sources(), *exchange]

    @property
    def _exchange(self) -> BlockExchange | None:
        network = self._membership.network
        return network.exchange if network is not None else None

    # --- what is here ---

    def complete(self, cid: Cid) -> bool:
        """Every block of it is here. Reads the DAG's inner blocks: not for the event loop."""
        return self.store.has(cid) and find_missing(self.store, cid) is None

    def missing_at_once(self, claimed: Sequence[ClaimedInput]) -> tuple[int, int] | None:
        """As missing; None where Kubo has to be asked."""
        absent = [item for item in claimed if not self.store.has(item.cid)]
        if absent and self.kubo is not None:
            return None
        return len(absent), sum(item.size_bytes for item in absent)

    async def missing(self, claimed: Sequence[ClaimedInput]) -> tuple[int, int]:
        """(how many, how many bytes) of an offer's inputs are not here; judged by their roots."""
        absent = [item for item in claimed if not self.store.has(item.cid)]
        if absent and self.kubo is not None:
            having = await self.kubo.having(item.cid for item in absent)
            absent = [item for item in absent if item.cid not in having]
        return len(absent), sum(item.size_bytes for item in absent)

    async def at_hand(self, root: Cid) -> bool:
        """Whether a result is in the store, or out of Kubo is now."""
        if self.store.has(root):
            return True
        with self.pins.hold(root):
            return await self._bring_from_kubo(root, FetchLimits())

    # --- bringing it here ---

    async def claim(self, cid: Cid) -> ClaimedInput:
        """The content's size, as its root claims it. Raises Refused(CONTENT_UNAVAILABLE) within seconds where no
        node has it."""
        if not self.store.has(cid):
            await self._find_root(cid)
        try:
            return ClaimedInput(cid, reader.stat(self.store, cid).dag_bytes)
        except BlockNotFound as error:
            raise _unavailable(cid) from error
        except IpfsError as error:
            raise refused(RefusalReason.MALFORMED, f"{cid} cannot be an input: {error}") from error

    async def need(self, cid: Cid, progress: Callable[[int, int], None] | None = None) -> None:
        """As fetch, for a client: raises Refused(CONTENT_UNAVAILABLE) where no node has all of it."""
        try:
            if not self.store.has(cid):
                await self._find_root(cid)
            await self.fetch(cid, progress=progress)
        except NoPeerHas as error:
            raise refused(RefusalReason.CONTENT_UNAVAILABLE, str(error)) from error

    async def _find_root(self, cid: Cid) -> None:
        if await self._first_block(cid, await self.everybody(), FIND_TIMEOUT_S):
            return
        if self.kubo is None:
            raise _unavailable(cid)
        if await self._first_block(cid, [self.kubo.network], FIND_S):
            return
        await self.kubo.check()
        raise _unavailable(cid, self.kubo.notices)

    async def _first_block(self, cid: Cid, sources: Sequence[BlockSource], timeout_s: float) -> bool:
        """Stores the block from the first source that has it; whether one has. The exchange has a patience of its
        own."""

        async def ask(source: BlockSource) -> bytes | None:
            patience_s = _EXCHANGE_TIMEOUT_S if source is self._exchange else timeout_s
            try:
                async with asyncio.timeout(patience_s):
                    async for found, block in source.get_blocks([cid], recursive=False):
                        if found == cid and cid.verify(block):
                            return block
            except Exception:  # it says only that this source is no help; the others are asked all the same
                return None
            return None

        asks = [asyncio.create_task(ask(source)) for source in sources]
        try:
            for asked in asyncio.as_completed(asks):
                block = await asked
                if block is not None:
                    self.store.put_many([(cid, block)], sync=False)
                    return True
            return False
        finally:
            for late in asks:
                late.cancel()

    async def fetch(
        self,
        cid: Cid,
        *,
        first: Sequence[str] = (),
        limits: FetchLimits | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Fetched | None:
        """Brings a whole DAG here, asking the nodes in `first` before others and the exchange last; None where it was
        here already. Those in `first` are waited for while they do not answer: they may be starting again. Raises
        what fetch_dag raises."""
        if await asyncio.to_thread(self.complete, cid):
            return None
        limits = limits or FetchLimits()
        with self.pins.hold(cid):
            if await self._bring_from_kubo(cid, limits):
                return None
            try:
                return await self._fetch_patiently(cid, first, limits, progress)
            except NoPeerHas as failure:
                if self.kubo is None:
                    raise
                return await self._search(self.kubo, cid, limits, progress, failure)

    async def _fetch_patiently(
        self,
        cid: Cid,
        first: Sequence[str],
        limits: FetchLimits,
        progress: Callable[[int, int], None] | None,
    ) -> Fetched:
        clock = asyncio.get_running_loop()
        give_up_at = clock.time() + _RETURN_S
        pause_s = _FIRST_PAUSE_S
        while True:
            sources = await self.sources(first)
            try:
                return await fetch_dag(
                    cid, self.store, sources, exchange=self._exchange, limits=limits, progress=progress
                )
            except NoPeerHas as failure:
                failure.broke_off |= not await self._reached(first)
                if not first or not failure.broke_off or clock.time() >= give_up_at:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _reached(self, node_ids: Sequence[str]) -> bool:
        """Whether all of them can be connected to."""
        try:
            for node_id in node_ids:
                if node_id != self._membership.node_id:
                    await self._membership.link(node_id)
        except PeerUnreachable:
            return False
        return True

    async def _bring_from_kubo(self, cid: Cid, limits: FetchLimits) -> bool:
        """Brings a DAG out of Kubo into the buffer; whether it is all there. Raises what fetch_dag raises but
        NoPeerHas."""
        if self.kubo is None:
            return False
        try:
            await fetch_dag(cid, self.store, self.own_sources(), limits=limits)
        except NoPeerHas:
            return False
        return True

    async def _search(
        self,
        kubo: Kubo,
        cid: Cid,
        limits: FetchLimits,
        progress: Callable[[int, int], None] | None,
        failure: NoPeerHas,
    ) -> Fetched | None:
        """What is nowhere else may be in Kubo's network; and where Kubo does not answer it may soon."""
        await kubo.check()
        if await kubo.wait_return() and await self._bring_from_kubo(cid, limits):
            return None
        limits = replace(limits, first_block_seconds=SEARCH_S, stall_seconds=SEARCH_S)
        try:
            return await fetch_dag(cid, self.store, [kubo.network], limits=limits, progress=progress)
        except NoPeerHas as last:
            raise NoPeerHas(last.cid, cid, {**failure.reasons, **last.reasons}) from last

    # --- keeping it ---

    def store_inline(self, data: bytes) -> Cid:
        """Content that came with a job becomes a file of the store."""
        return import_stream(self.store, [data]).cid

    async def keep(self, root: Cid, *, pin: bool = True) -> None:
        """Puts what is in the store where it is kept: see Kubo.keep."""
        if self.kubo is not None:
            await self.kubo.keep(root, pin=pin)


def _unavailable(cid: Cid, notices: Sequence[str] = ()) -> Exception:
    return refused(
        RefusalReason.CONTENT_UNAVAILABLE,
        f"no peer has CID {cid}: add the content with `bacalhau ipfs add`, or connect to a node that has it"
        + "".join(f" ({notice})" for notice in notices),
    )
