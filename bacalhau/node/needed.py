"""Content that the journal names: what jobs run from, and their results.

To read all of it takes seconds where there are many jobs. So a collection of garbage does it once, at its start, and
then asks before each of its steps for what has been committed meanwhile.
"""

from __future__ import annotations

import contextlib
from queue import SimpleQueue
from typing import TYPE_CHECKING

from bacalhau.scheduler.records import ExecutionRecord, JobAccepted, WorkRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bacalhau.model.cid import Cid
    from bacalhau.model.execution import ExecutionReport
    from bacalhau.scheduler.records import Write


class Needed:
    """See the module. `everything` reads it, now and for as long as it is kept."""

    def __init__(self, everything: Callable[[], Iterable[Cid]] = tuple) -> None:
        self.everything = everything
        self._lately: SimpleQueue[Cid] | None = None

    def committed(self, write: Write) -> None:
        """On the event loop, while a collection may run in a thread."""
        lately = self._lately
        if lately is not None:
            for cid in _named(write):
                lately.put(cid)

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[], set[Cid]]]:
        """For one collection: what gives the content that was named since the call before."""
        lately = self._lately = SimpleQueue()
        try:
            yield lambda: {lately.get_nowait() for _ in range(lately.qsize())}
        finally:
            self._lately = None


def _named(write: Write) -> Iterable[Cid]:
    match write:
        case JobAccepted():
            return write.spec.contents()
        case ExecutionRecord():
            return _result(write.report)
        case WorkRecord():
            return (*write.award.spec.contents(), *_result(write.report))
    return ()


def _result(report: ExecutionReport | None) -> tuple[Cid, ...]:
    return () if report is None or report.result is None else (report.result,)
