"""What other nodes hear and get of this node's content: what is announced, what is under seal, and blocks for those
who ask.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bacalhau.ipfs.dag import iter_cids, next_batch, serve_blocks
from bacalhau.ipfs.errors import IpfsError
from bacalhau.node.seals import Seals
from bacalhau.scheduler.records import ExecutionRecord, WorkRecord, WorkState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence

    from bacalhau.ipfs.blockstore import ServedStore
    from bacalhau.model.cid import Cid
    from bacalhau.node.membership import Membership
    from bacalhau.scheduler.records import Write

log = logging.getLogger(__name__)

_BATCH_BYTES = 1024 * 1024
_BATCH_BLOCKS = 4096
_SERVING_THREADS = 4


class Serving:
    """See the module. `store` has all that this node has, wherever it keeps it."""

    def __init__(self, store: ServedStore, membership: Membership) -> None:
        self.store = store
        self.seals = Seals()
        self._membership = membership
        # Of their own: strangers who read blocks hold up no execution of this node.
        self._threads = ThreadPoolExecutor(_SERVING_THREADS, "blocks")

    def provide(self, root: Cid) -> None:
        """Content of this node's own is here: libp2p peers hear of it, too."""
        if self._membership.network is not None:
            self._membership.network.provide(root)

    def provide_again(self, roots: Sequence[Cid]) -> None:
        if self._membership.network is not None:
            self._membership.network.provide_again(roots)

    def may_serve(self, cid: Cid) -> bool:
        """Whether other nodes may have the block, should it be here: not while its result is sealed."""
        return self.seals.may_serve(cid)

    def committed(self, write: Write) -> None:
        """Opens what is under seal no more: a result that was revealed, or that there is a verdict on. Of the first
        libp2p peers hear when its requester has taken it."""
        match write:
            case WorkRecord() if write.state is not WorkState.ACCEPTED and not write.sealed:
                self.seals.open(write.id)
                taken = write.commitment and write.state is WorkState.SETTLED and write.refusal is None
                if taken and write.report is not None and write.report.result is not None:
                    self.provide(write.report.result)
            case ExecutionRecord() if write.commitment and write.state.ended:
                self.seals.open(_fetched(write.id))

    def seal_fetched(self, execution_id: str, result: Cid) -> None:
        """The requester's copy of a result that is compared: until there is a verdict."""
        self.seals.seal(_fetched(execution_id), [result])

    def seal_again(self, works: Iterable[WorkRecord], executions: Iterable[ExecutionRecord]) -> None:
        """After a restart: every block of the results that are not revealed yet, for nobody knows any more which of
        them are new; and the roots of those that this requester has no verdict on. Not for the event loop."""
        for execution in executions:
            report = execution.report
            if execution.commitment and not execution.state.ended and report is not None and report.result:
                self.seal_fetched(execution.id, report.result)
        for work in works:
            if work.sealed and work.report is not None and work.report.result is not None:
                try:
                    self.seals.seal(work.id, (cid for cid, _ in iter_cids(self.store, work.report.result)))
                except IpfsError as error:
                    log.warning("the result %s of %s is damaged: %s", work.report.result, work.id, error)

    async def blocks(
        self, cids: Sequence[Cid], *, recursive: bool
    ) -> AsyncGenerator[list[tuple[Cid, bytes]], None]:
        """Blocks that are here and may be served, in batches of a bounded size, each block once.

        Whoever knows a CID may read what is below it: a CID of secret content is a secret.
        """
        served = [cid for cid in cids if self.may_serve(cid)]
        walk = serve_blocks(self.store, served, recursive=recursive)
        loop = asyncio.get_running_loop()
        while batch := await loop.run_in_executor(
            self._threads, next_batch, walk, _BATCH_BYTES, _BATCH_BLOCKS
        ):
            yield batch

    def close(self) -> None:
        self._threads.shutdown(wait=False)


def _fetched(execution_id: str) -> str:
    """The name of that seal: whoever asked for the execution may have run it too, and sealed its own copy."""
    return f"fetched {execution_id}"
