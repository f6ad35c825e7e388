"""The Kubo node that keeps this node's content, where the operator has named one.

What the node keeps for good (pins, results, what open jobs read) is put into Kubo and pinned there, under this node's
name, before the call that asks for it returns. The node's own folder is a buffer: it holds what is in use, and what
waits for a Kubo that does not answer, so that nothing is lost and everything goes there when it does. What is asked
for is looked for in the buffer, then in Kubo, then at the other nodes, and at last in Kubo's own network.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

from bacalhau.background import Background
from bacalhau.ipfs.dag import iter_dag
from bacalhau.ipfs.errors import IpfsError, KuboError, KuboRefused, KuboUnavailable
from bacalhau.ipfs.kubo_store import BackedStore, KuboBlockStore, KuboSource
from bacalhau.model.execution import ExecutionState
from bacalhau.scheduler.records import ExecutionRecord, WorkRecord, WorkState
from bacalhau.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bacalhau.ipfs.blockstore import ServedStore
    from bacalhau.ipfs.kubo_rpc import KuboRpc
    from bacalhau.model.cid import Cid
    from bacalhau.scheduler.records import Write

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

log = logging.getLogger(__name__)

CHECK_S: Final = 10.0
AWAY_CHECK_S: Final = 1.0
KEEP_S: Final = 60.0
"""So long a caller waits for a slow Kubo to take content; then it goes on in the background."""
RETURN_S: Final = 30.0
"""So long work that needs what only Kubo has waits for a Kubo that does not answer."""
_THREADS: Final = 8


class Kubo:
    """See the module. Every method is for the event loop; what blocks is done in threads of its own, those that may
    wait for strangers apart from the others."""

    def __init__(self, rpc: KuboRpc, buffer: ServedStore, node_id: str) -> None:
        self._rpc = rpc
        self._pin_name = f"bacalhau {node_id}"
        self._threads = ThreadPoolExecutor(_THREADS, "kubo")
        self._searching = ThreadPoolExecutor(_THREADS, "kubo-search")
        self._kubo_store = KuboBlockStore(rpc)
        self.store = BackedStore(buffer, self._kubo_store)
        """The buffer with Kubo behind it: for threads."""
        self.source = KuboSource(rpc, self._threads, online=False)
        self.network = KuboSource(rpc, self._searching, online=True)
        """What Kubo does not have and may find."""
        self._answers = asyncio.Event()
        self._changed = asyncio.Event()
        self._keeping: dict[tuple[Cid, bool], asyncio.Task[None]] = {}
        self._background = Background()
        self._absence = ""
        """Why it does not answer, if so."""
        self._refusal = ""
        """What it would not take last."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What is wrong, for people."""
        return tuple(f"ipfs: {notice}" for notice in (self._absence, self._refusal) if notice)

    # --- whether it answers ---

    @property
    def answers(self) -> bool:
        return self._answers.is_set()

    async def check(self) -> None:
        """Asks Kubo whether it is there."""
        try:
            version = await self._call(self._rpc.version)
        except KuboError as error:
            self._failed(error)
            return
        if not self._answers.is_set():
            log.info("%s answers: version %s", self._rpc.name, version)
            self._absence = ""
            self._answers.set()

    async def run(self, wanted: Callable[[], Iterable[Cid]]) -> None:
        """Until it is cancelled: looks whether Kubo answers, and puts there what it had to wait with."""
        was_there = False
        while True:
            if self._answers.is_set() and not was_there:
                try:
                    await self.reconcile(wanted)
                except StoreError as error:
                    log.warning("what is kept is put into Kubo later: %s", error)
            if self._answers.is_set():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_S):
                        await self._changed.wait()
            else:
                await asyncio.sleep(AWAY_CHECK_S)
            was_there = self._answers.is_set()
            await self.check()

    async def wait_return(self) -> bool:
        """Waits for a Kubo that does not answer; whether it does now and did not before."""
        if self._answers.is_set():
            return False
        try:
            async with asyncio.timeout(RETURN_S):
                await self._answers.wait()
        except TimeoutError:
            return False
        return True

    def _failed(self, error: KuboError) -> None:
        if not isinstance(error, KuboUnavailable):
            log.warning("%s", error)
            self._refusal = str(error)
            return
        if not self._absence:
            log.warning("%s", error)
        self._absence = str(error)
        self._answers.clear()
        self._changed.set()

    # --- what it keeps ---

    async def keep(self, root: Cid, *, pin: bool = True) -> None:
        """Puts a DAG into Kubo, and pins it there. Where Kubo does not answer it stays in the buffer, to go there
        later (`reconcile`); where it is slow, it goes on after KEEP_S."""
        if not self._answers.is_set():
            return
        task = self._keeping.get((root, pin))
        if task is None:
            task = self._background.start(f"putting {root} into Kubo", self._keep(root, pin))
            self._keeping[root, pin] = task
            task.add_done_callback(lambda _: self._keeping.pop((root, pin)))
        await asyncio.wait([task], timeout=KEEP_S)

    def committed(self, write: Write) -> None:
        """What this node ran for others goes into its Kubo when they have taken the report, and not before."""
        match write:
            case WorkRecord(state=WorkState.TAKEN, refusal=None, report=report) if not write.commitment:
                pass
            case WorkRecord(state=WorkState.SETTLED, refusal=None, report=report):
                pass
            case ExecutionRecord(state=ExecutionState.COMPLETED, report=report) if write.compared:
                pass  # a result that was compared with others, and has won
            case _:
                return
        if report is not None and report.result is not None:
            self._background.start(f"keeping {report.result} in Kubo", self.keep(report.result))

    def release_soon(self, root: Cid) -> None:
        """Lets it go in Kubo, in the background, if the pin there is this node's."""
        self._background.start(f"releasing {root} in Kubo", self._tried(self._release, root))

    async def reconcile(self, wanted: Callable[[], Iterable[Cid]]) -> set[Cid]:
        """Pins in Kubo what is `wanted` and not there yet, as far as it is here or in Kubo, and lets go what this
        node has pinned there and does not want any more; all that it has pinned there then. Nothing where Kubo does
        not answer."""
        # Before the look at what is wanted: what is pinned meanwhile must not be let go.
        pinned = await self._tried(self._rpc.pins, self._pin_name)
        if pinned is None:
            return set()
        roots = set(await self._call(wanted))
        for root in pinned - roots:
            await self._tried(self._release, root)
        kept = pinned & roots
        for root in roots - pinned:
            if self._answers.is_set() and await self._tried(self._put_and_pin, root):
                kept.add(root)
        return kept

    async def collect_garbage(self) -> tuple[int, int]:
        """Has Kubo collect its garbage; (blocks, bytes) deleted."""
        return await self._tried(self._collect_garbage) or (0, 0)

    async def having(self, cids: Iterable[Cid]) -> set[Cid]:
        """Those of these blocks that Kubo has; none where it does not answer."""
        asked = list(dict.fromkeys(cids))
        there = await asyncio.gather(*(self._tried(self._kubo_store.has, cid) for cid in asked))
        return {cid for cid, has in zip(asked, there, strict=True) if has}

    async def pinned(self, root: Cid) -> bool:
        """Whether it is pinned in Kubo, by whomever."""
        return await self._tried(self._rpc.pin_name, root) is not None

    async def close(self) -> None:
        """Breaks off what goes on; what has to be kept is, at the next start."""
        self._rpc.close()
        await self._background.close()
        self._threads.shutdown(wait=False)
        self._searching.shutdown(wait=False)

    async def _keep(self, root: Cid, pin: bool) -> None:
        await self._tried(self._put_and_pin if pin else self._put, root)

    async def _tried(self, work: Callable[[*Ts], R], *args: *Ts) -> R | None:
        """What `work` returns, in a thread; None where that fails, which is written down."""
        try:
            return await self._call(work, *args)
        except KuboError as error:
            self._failed(error)
        except IpfsError as error:  # a DAG that is not here as a whole, or of a kind that cannot be followed
            log.info("%s does not get it: %s", self._rpc.name, error)
        return None

    async def _call(self, work: Callable[[*Ts], R], *args: *Ts) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    # --- in threads ---

    def _put(self, root: Cid) -> None:
        self._kubo_store.put_many(iter_dag(self.store, root))

    def _put_and_pin(self, root: Cid) -> bool:
        """Whether this node has it pinned. A pin of somebody else is left as it is: a DAG has one there."""
        name = self._rpc.pin_name(root)
        if name is None and not self._rpc.pin(root, self._pin_name):
            self._put(root)
            if not self._rpc.pin(root, self._pin_name):
                raise KuboRefused(f"{self._rpc.name} has not pinned {root}, all of which it was given")
        self._refusal = ""
        return name in (None, self._pin_name)

    def _release(self, root: Cid) -> None:
        if self._rpc.pin_name(root) == self._pin_name:
            self._rpc.unpin(root)

    def _collect_garbage(self) -> tuple[int, int]:
        before = self._rpc.repository_bytes()
        blocks = self._rpc.collect_garbage()
        return blocks, max(0, before - self._rpc.repository_bytes())
