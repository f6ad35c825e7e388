"""Finds out for the bidding engine what it asks: which inputs are here, and what the operator's probe says."""

from __future__ import annotations

import asyncio
import json
import shlex
from typing import TYPE_CHECKING

from bacalhau.market.bidding import Answers
from bacalhau.scheduler.events import AskAnswered
from bacalhau.scheduler.plain import to_plain

if TYPE_CHECKING:
    from bacalhau.market.bidding import Ask
    from bacalhau.model.market import JobOffer
    from bacalhau.node.contents import Contents
    from bacalhau.node.driver import Driver

PROBE_OUTPUT_MAX = 500
PROBES_AT_ONCE = 4


class Asks:
    """`probe_command` is run for each offer, with the offer as JSON on its stdin; exit code 0 is a yes."""

    def __init__(
        self,
        driver: Driver,
        contents: Contents,
        node_id: str,
        probe_command: str | None,
        probe_timeout_us: int,
    ) -> None:
        self._driver = driver
        self._contents = contents
        self._node_id = node_id
        self._probe = shlex.split(probe_command) if probe_command else []
        self._probe_timeout_s = probe_timeout_us / 1e6
        self._probing = asyncio.Semaphore(PROBES_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def settle_here(self, offer: JobOffer, ask: Ask) -> bool:
        """Answers at once where only the block store has to be asked."""
        if not ask.probe:
            missing, missing_bytes = self._contents.missing(offer.inputs)
            self._driver.tell_compute(AskAnswered(offer.id, Answers(missing_bytes, missing)))
        return not ask.probe

    def answer(self, offer: JobOffer, ask: Ask) -> None:
        """Asks the probe, and answers when that has."""
        missing, missing_bytes = self._contents.missing(offer.inputs)
        task = asyncio.get_running_loop().create_task(self._ask_probe(offer, missing, missing_bytes))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ends the probes that still think."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask_probe(self, offer: JobOffer, missing: int, missing_bytes: int) -> None:
        async with self._probing:
            refusal = await self._run_probe(offer)
        self._driver.tell_compute(AskAnswered(offer.id, Answers(missing_bytes, missing, refusal)))

    async def _run_probe(self, offer: JobOffer) -> str | None:
        """Why not; None is a yes. What goes wrong with the probe is a no, with the reason."""
        question = json.dumps({"node_id": self._node_id, "offer": to_plain(offer)}).encode()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._probe,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            return f"it cannot be run: {error}"
        try:
            async with asyncio.timeout(self._probe_timeout_s):
                output, _ = await process.communicate(question)
        except TimeoutError:
            return f"it gave no answer within {self._probe_timeout_s:g} seconds"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0:
            return None
        said = output.decode("utf-8", "replace").strip()[:PROBE_OUTPUT_MAX]
        return said or f"exit code {process.returncode}"
