"""Jobs of this life of the node as the journal has them, in memory: those that clients ask for are mostly the last.

Fed with what was committed, after it was, so that what it says is what a reading of the journal would give.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bacalhau.model.job import JobState
from bacalhau.scheduler.history import StoredJob
from bacalhau.scheduler.records import ExecutionRecord, JobAccepted, JobChanged, JobHappening

if TYPE_CHECKING:
    from bacalhau.scheduler.records import Write

JOBS_MAX = 500
"""Two and a half megabytes of short jobs; specs and histories may be larger."""
HAPPENINGS_MAX = 200
"""A job with a longer history is left to the journal."""


@dataclass(slots=True)
class _Recent:
    accepted: JobAccepted
    changed: JobChanged
    executions: dict[str, ExecutionRecord] = field(default_factory=dict)
    happenings: list[JobHappening] = field(default_factory=list)


class RecentJobs:
    """See the module."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, _Recent] = OrderedDict()

    def committed(self, write: Write) -> None:
        match write:
            case JobHappening(job_id=job_id):
                recent = self._jobs.get(job_id)
                if recent is not None:
                    recent.happenings.append(write)
                    if len(recent.happenings) > HAPPENINGS_MAX:
                        del self._jobs[job_id]
            case ExecutionRecord(job_id=job_id):
                if job_id in self._jobs:
                    self._jobs[job_id].executions[write.id] = write
            case JobChanged(id=job_id):
                if job_id in self._jobs:
                    self._jobs[job_id].changed = write
            case JobAccepted(id=job_id):
                changed = JobChanged(job_id, JobState.PENDING, write.created_us, None, 0)
                self._jobs[job_id] = _Recent(write, changed)
                if len(self._jobs) > JOBS_MAX:
                    self._jobs.popitem(last=False)

    def holds(self, job_id: str) -> bool:
        """Whether it is here: by the whole id."""
        return job_id in self._jobs

    def job(self, job_id: str) -> StoredJob | None:
        """The job; None where only the journal may know it."""
        recent = self._jobs.get(job_id)
        if recent is None:
            return None
        # In the journal's order: those of one award have one time, and ids in no order.
        executions = sorted(recent.executions.values(), key=lambda record: (record.created_us, record.id))
        return StoredJob(recent.accepted, recent.changed, tuple(executions))

    def happenings(self, job_id: str, after_sequence: int) -> list[JobHappening] | None:
        """The history after that entry; None where only the journal may know it."""
        recent = self._jobs.get(job_id)
        # Entry N is at N - 1: a history begins with the job, and has no gaps.
        return recent.happenings[max(0, after_sequence) :] if recent is not None else None

    def clear(self) -> None:
        """Jobs were removed from the journal."""
        self._jobs.clear()
