"""`serve --trace FILE`: every event of the machines as a line of JSON, so that a live run can be replayed.

A line is `{"now": us, "event": {"@": type, ...}, "ids": [...], "effects": digest}`, or `"expire": machine` in place of
the event; `ids` are those that the machine drew in that step, `effects` the digest of what it answered. A life of the
node begins with what its machines were made with, and what they were given to restore. Values have the form of
scheduler/plain.py. simulation/replay.py reads it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING

from bacalhau.scheduler.plain import digest, to_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TextIO

    from bacalhau.model.reputation import Reputation
    from bacalhau.scheduler.effects import Effects
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.scheduler.jobs import Job
    from bacalhau.scheduler.records import Books, ExecutionRecord, WorkRecord

log = logging.getLogger(__name__)

FORMAT = 2


class Trace:
    """Appends to one file, line-buffered: a killed node leaves whole lines but for the last."""

    def __init__(self, path: Path, node_id: str) -> None:
        # Specs hold environments, so it is for its owner alone.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file: TextIO | None = os.fdopen(descriptor, "a", encoding="utf-8", buffering=1)
        self._path = path
        self._ids: list[str] = []
        self._write({"format": FORMAT, "node": node_id})

    def recording(self, ids: Callable[[str], str]) -> Callable[[str], str]:
        """The id source, with what it gives out noted for the step in which it does."""

        def draw(prefix: str) -> str:
            id = ids(prefix)
            self._ids.append(id)
            return id

        return draw

    def machines(self, requester: dict[str, object], compute: dict[str, object]) -> None:
        """What the two are made with, ids aside."""
        self._write({"machines": {"requester": to_plain(requester), "compute": to_plain(compute)}})

    def event(self, event: RequesterEvent | ComputeEvent, now: int, effects: Effects) -> None:
        self._write({"now": now, "event": to_plain(event), "ids": self._ids, "effects": digest(effects)})
        self._ids.clear()

    def expiry(self, machine: object, now: int, effects: Effects) -> None:
        name = type(machine).__name__
        self._write({"now": now, "expire": name, "ids": self._ids, "effects": digest(effects)})
        self._ids.clear()

    def restored(
        self,
        work: Sequence[WorkRecord],
        jobs: Sequence[Job],
        executions: Sequence[ExecutionRecord],
        reputations: Sequence[Reputation],
        books: Books,
        now: int,
    ) -> None:
        """What the machines start from; written before they are told, for they take it over."""
        restored = {
            "work": to_plain(work),
            "jobs": to_plain(jobs),
            "executions": to_plain(executions),
            "reputations": to_plain(reputations),
            "books": to_plain(books),
        }
        self._write({"now": now, "restore": restored})

    def restored_to(self, compute: Effects, requester: Effects) -> None:
        """What they answered to that, the compute machine first."""
        self._write({"restored": [digest(compute), digest(requester)], "ids": self._ids})
        self._ids.clear()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, line: dict[str, object]) -> None:
        if self._file is None:
            return
        text = json.dumps(line, separators=(",", ":"))
        try:
            self._file.write(text + "\n")
        except OSError as error:
            # The machine has taken the step: what is written about it must not stop the node.
            log.error("the trace %s ends here: %s", self._path, error)
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.close()
