"""`serve --trace FILE`: every event of the machines as a line of JSON, so that a live run can be replayed.

A line is `{"now": us, "event": {"@": type, ...}, "ids": [...]}`, or `"expire": machine` in place of the event; `ids`
are those that the machine drew in that step. A life of the node begins with what the machines were given to restore.
Values are written by their type's shape: dataclasses as objects with "@", enums as {"enum": [type, name]}, bytes as
{"hex": …}, CIDs as {"cid": …}, dicts as {"dict": pairs}, tuples as lists.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING

from bacalhau.model.cid import Cid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TextIO

    from bacalhau.model.reputation import Reputation
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.scheduler.jobs import Job
    from bacalhau.scheduler.records import Books, ExecutionRecord, WorkRecord

log = logging.getLogger(__name__)

FORMAT = 1


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

    def event(self, event: RequesterEvent | ComputeEvent, now: int) -> None:
        self._write({"now": now, "event": to_plain(event), "ids": self._ids})
        self._ids.clear()

    def expiry(self, machine: object, now: int) -> None:
        self._write({"now": now, "expire": type(machine).__name__, "ids": self._ids})
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
        """What the machines start from; the ids that they draw for it are those of the next line."""
        restored = {
            "work": to_plain(work),
            "jobs": to_plain(jobs),
            "executions": to_plain(executions),
            "reputations": to_plain(reputations),
            "books": to_plain(books),
        }
        self._write({"now": now, "restore": restored})

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


def to_plain(value: object) -> object:
    """A model value as JSON data, by the shape that the module describes."""
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, Cid):
        return {"cid": str(value)}
    if isinstance(value, Enum):
        return {"enum": [type(value).__name__, value.name]}
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {"dict": [[to_plain(key), to_plain(item)] for key, item in value.items()]}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        plain: dict[str, object] = {"@": type(value).__name__}
        for field in fields(value):
            plain[field.name] = to_plain(getattr(value, field.name))
        return plain
    raise TypeError(f"a trace holds no {type(value).__name__}")
