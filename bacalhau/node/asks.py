"""Finds out for the bidding engine what it asks: which inputs are here, and what the operator's two programs say.

The probe decides whether a job is taken, the price script for how much. Each is run once for an offer, with the
question as JSON on its stdin, for a bounded time, and few at once: strangers decide how many offers there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.background import Background
from bacalhau.market.bidding import Answers
from bacalhau.scheduler.events import AskAnswered, PriceAnswered
from bacalhau.scheduler.plain import to_plain
from bacalhau.wire.limits import MAX_PRICE_MICROCREDITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bacalhau.market.bidding import Ask
    from bacalhau.model.market import ClaimedInput, JobOffer
    from bacalhau.model.resources import Resources
    from bacalhau.node.contents import Contents
    from bacalhau.node.driver import Driver
    from bacalhau.scheduler.effects import AskPrice

OUTPUT_SHOWN_MAX: Final = 500
PROGRAMS_AT_ONCE: Final = 4
_READ_BYTES: Final = 1024 * 1024
_PRICE: Final = re.compile(rb"\s*([0-9]{1,16})\s*")


@dataclass(frozen=True, slots=True)
class Programs:
    """The operator's programs as command lines, None where there is none; each may take `timeout_us`."""

    probe: str | None = None
    price_script: str | None = None
    timeout_us: int = 5_000_000


class _ProgramFailed(Exception):
    """It could not be run, or not in time; the message says so."""


class Asks:
    """See the module."""

    def __init__(self, driver: Driver, contents: Contents, node_id: str, programs: Programs) -> None:
        self._driver = driver
        self._contents = contents
        self._node_id = node_id
        self._probe = shlex.split(programs.probe) if programs.probe else []
        self._script = shlex.split(programs.price_script) if programs.price_script else []
        self._timeout_s = programs.timeout_us / 1e6
        self._at_once = asyncio.Semaphore(PROGRAMS_AT_ONCE)
        self._background = Background()

    # --- for the compute machine ---

    def answer_here(self, offer: JobOffer, ask: Ask) -> bool:
        """Answers at once where only the block store has to be asked."""
        found = None if ask.probe else self._contents.missing_at_once(offer.inputs)
        if found is not None:
            missing, missing_bytes = found
            self._driver.tell_compute(AskAnswered(offer.id, Answers(missing_bytes, missing)))
        return found is not None

    def answer(self, offer: JobOffer, ask: Ask) -> None:
        self._background.start(f"what offer {offer.id} asks outside", self._answer(offer, ask))

    def answer_price(self, ask: AskPrice) -> None:
        self._background.start(f"the price of offer {ask.offer.id}", self._answer_price(ask))

    async def close(self) -> None:
        """Ends the programs that still think."""
        await self._background.close()

    async def _answer(self, offer: JobOffer, ask: Ask) -> None:
        answers = await self.answers(offer, ask)
        self._driver.tell_compute(AskAnswered(offer.id, answers))

    async def _answer_price(self, ask: AskPrice) -> None:
        price = await self.price(ask)
        if isinstance(price, str):
            self._driver.tell_compute(PriceAnswered(ask.offer.id, 0, price))
        else:
            self._driver.tell_compute(PriceAnswered(ask.offer.id, price))

    # --- the answers ---

    async def answers(self, offer: JobOffer, ask: Ask) -> Answers:
        """Which inputs are here, or at Kubo, and, where it is asked, the probe's refusal."""
        missing, missing_bytes = await self._contents.missing(offer.inputs)
        refusal = await self._ask_probe(offer) if ask.probe else None
        return Answers(missing_bytes, missing, refusal)

    async def price(self, ask: AskPrice) -> int | str:
        """What the script names in microcredits; else, in a sentence, why that is no price."""
        try:
            question = await self._price_question(ask)
            code, output, errors = await self._run(self._script, question, merged=False)
        except _ProgramFailed as failure:
            return str(failure)
        if code != 0:
            said = _shown(errors)
            return f"exit code {code}: {said}" if said else f"exit code {code}"
        named = _PRICE.fullmatch(output)
        if named is None:
            return f"it printed {_shown(output)!r}, which is no whole number of microcredits"
        price = int(named[1])
        return (
            price if price <= MAX_PRICE_MICROCREDITS else f"{price} microcredits are more than a bid can ask"
        )

    async def _price_question(self, ask: AskPrice) -> dict[str, object]:
        """What docs/market.md says that the script gets."""
        offer = ask.offer
        return {
            "node_id": self._node_id,
            "requester_id": ask.requester_id,
            "job_id": offer.job_id,
            "offer_id": offer.id,
            "engine": offer.engine.name.lower(),
            "image_or_module": offer.image_or_module,
            "resources": _plain(offer.resources),
            "execution_timeout_us": offer.execution_timeout_us,
            "winners": offer.winners,
            "clearing_rule": offer.clearing_rule.name.lower(),
            "max_price_microcredits": offer.max_price_microcredits,
            "inputs": [await self._input(claimed) for claimed in offer.inputs],
            "free": _plain(ask.situation.free),
            "capacity": _plain(ask.situation.capacity),
            "price_microcredits": ask.price_microcredits,
        }

    async def _input(self, claimed: ClaimedInput) -> dict[str, object]:
        _, missing_bytes = await self._contents.missing((claimed,))
        held_bytes = claimed.size_bytes - missing_bytes
        return {"cid": str(claimed.cid), "held_bytes": held_bytes, "missing_bytes": missing_bytes}

    async def _ask_probe(self, offer: JobOffer) -> str | None:
        """Why not; None is a yes. What goes wrong with the probe is a no, with the reason."""
        question = {"node_id": self._node_id, "offer": to_plain(offer)}
        try:
            code, output, _ = await self._run(self._probe, question, merged=True)
        except _ProgramFailed as failure:
            return str(failure)
        return None if code == 0 else _shown(output) or f"exit code {code}"

    async def _run(
        self, command: list[str], question: dict[str, object], *, merged: bool
    ) -> tuple[int, bytes, bytes]:
        """Exit code, output and errors; with `merged` the errors are in the output. Raises _ProgramFailed."""
        async with self._at_once:
            with contextlib.ExitStack() as ends:
                try:
                    asked = ends.enter_context(tempfile.TemporaryFile(buffering=0))
                    asked.write(json.dumps(question).encode())
                    asked.seek(0)
                    output, errors = ends.enter_context(_output()), ends.enter_context(_output())
                    process = await asyncio.create_subprocess_exec(
                        *command,
                        stdin=asked,
                        stdout=output.write_end,
                        stderr=asyncio.subprocess.STDOUT if merged else errors.write_end,
                        start_new_session=True,
                    )
                except OSError as error:
                    raise _ProgramFailed(f"it cannot be run: {error}") from error
                try:
                    async with asyncio.timeout(self._timeout_s):
                        await process.wait()
                except TimeoutError as error:
                    raise _ProgramFailed(f"it gave no answer within {self._timeout_s:g} seconds") from error
                finally:
                    # With whatever it has started, also where it has left that behind.
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
                return process.returncode or 0, output.read(), errors.read()


class _Output:
    """What is written into a pipe. Unlike those of asyncio, whose wait() is for their end as well, it can be read while
    somebody holds it open: a program has answered when it ends, and not when all that it has started do."""

    def __init__(self, read_end: int, write_end: int) -> None:
        self._read_end = read_end
        self.write_end = write_end
        self._pieces: list[bytes] = []

    def take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._pieces.append(os.read(self._read_end, _READ_BYTES))

    def read(self) -> bytes:
        self.take()
        return b"".join(self._pieces)


@contextlib.contextmanager
def _output() -> Iterator[_Output]:
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    output = _Output(read_end, write_end)
    loop.add_reader(read_end, output.take)
    try:
        yield output
    finally:
        loop.remove_reader(read_end)
        os.close(read_end)
        os.close(write_end)


def _plain(resources: Resources) -> dict[str, int]:
    return dict(resources.items())


def _shown(output: bytes) -> str:
    return output.decode("utf-8", "replace").strip()[:OUTPUT_SHOWN_MAX]
