"""Fetches reported results to the requester before anything is accepted."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from bacalhau.background import Background
from bacalhau.ipfs.errors import IpfsError, NoPeerHas, UnsupportedDag
from bacalhau.ipfs.fetch import FetchLimit, FetchLimits
from bacalhau.node.comparing import compare
from bacalhau.scheduler.events import ResultFetched, ResultUnavailable

if TYPE_CHECKING:
    from bacalhau.model.verification import Compared
    from bacalhau.node.contents import Contents
    from bacalhau.node.driver import Driver
    from bacalhau.node.serving import Serving
    from bacalhau.scheduler.effects import FetchResult

log = logging.getLogger(__name__)

ATTEMPTS = 4
FIRST_PAUSE_S = 0.5
RESULT_BYTES_MAX = 64 << 30
_SLACK_BYTES = 1 << 20


class Results:
    """One task a result."""

    def __init__(self, driver: Driver, contents: Contents, serving: Serving, node_id: str) -> None:
        self._driver = driver
        self._contents = contents
        self._serving = serving
        self._node_id = node_id
        self._background = Background()

    def answer_here(self, start: FetchResult) -> bool:
        """A result of this node's own is here already, and a small one came with its report."""
        if start.verification is not None or self._contents.kubo is not None:
            return False  # its blocks have to be read, or Kubo told
        own = start.node_id == self._node_id and self._contents.store.has(start.result)
        here = own or self._contents.small_results.remembers(start.result)
        if here:
            self._driver.tell_requester(ResultFetched(start.execution_id))
        return here

    def fetch(self, start: FetchResult) -> None:
        self._background.start(f"fetching the result of {start.execution_id}", self._fetch(start))

    async def _fetch(self, start: FetchResult) -> None:
        try:
            await self._fetch_and_tell(start)
        except Exception as bug:
            # A bug in the node, or what a compute node found to report, must not leave the job without an end.
            log.exception("fetching the result %s of %s failed", start.result, start.execution_id)
            self._tell_unavailable(start, f"the node failed: {type(bug).__name__}: {bug}")

    def _tell_unavailable(self, start: FetchResult, why: object) -> None:
        message = f"the result {start.result} could not be fetched: {why}"
        self._driver.tell_requester(ResultUnavailable(start.execution_id, message))

    async def _fetch_and_tell(self, start: FetchResult) -> None:
        if start.verification is not None:
            self._serving.seal_fetched(start.execution_id, start.result)
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._contents.fetch(
                    start.result, first=(start.node_id,), limits=FetchLimits(max_bytes=_bound_bytes(start))
                )
            except IpfsError as failure:
                log.info("result %s of %s: %s", start.result, start.execution_id, failure)
                in_vain = isinstance(failure, FetchLimit | UnsupportedDag) or (
                    isinstance(failure, NoPeerHas) and failure.broke_off
                )
                if attempt == ATTEMPTS or in_vain:
                    self._tell_unavailable(start, failure)
                    return
                await asyncio.sleep(pause_s)
                pause_s *= 2
            else:
                if start.verification is None:  # else when there is a verdict: see Node
                    await self._contents.keep(start.result)
                self._driver.tell_requester(ResultFetched(start.execution_id, await self._compared(start)))
                return

    async def _compared(self, start: FetchResult) -> Compared | None:
        """What is compared of the result, if its job compares results and it is one."""
        if start.verification is None:
            return None
        try:
            return await asyncio.to_thread(compare, self._contents.store, start.result, start.verification)
        except IpfsError as error:
            log.info("result %s of %s: %s", start.result, start.execution_id, error)
            return None

    async def close(self) -> None:
        await self._background.close()


def _bound_bytes(start: FetchResult) -> int:
    """What a result may weigh: its job's disk once more for what was written before the limit was noticed, and for the
    blocks around the content."""
    return min(2 * start.disk_bytes + _SLACK_BYTES, RESULT_BYTES_MAX)
