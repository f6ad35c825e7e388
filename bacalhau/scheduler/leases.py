"""The leases of the work that a compute node runs: renewed while it runs, and what happens when one ends.

A lease is counted from when its renewal was sent: the requester counts it from when that came, so the holder's always
ends first. A renewal tells the phase of the work too, and how far it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.model.execution import ExecutionPhase
from bacalhau.model.market import LeaseRenewal
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.effects import Effects, SendRenewal, StopExecution

if TYPE_CHECKING:
    from bacalhau.model.refusals import Refusal
    from bacalhau.scheduler.deadlines import Deadlines
    from bacalhau.scheduler.records import WorkRecord

_RENEWALS_PER_LEASE: Final = 3
_TRIES_PER_LEASE: Final = 10
"""A renewal that is not answered is repeated so often, so that some lost messages cost no lease."""


@dataclass(slots=True)
class Work:
    """Work that is not settled. `phase` and the progress figures are only for renewals, and not written."""

    record: WorkRecord
    lease_end_us: int
    phase: ExecutionPhase = ExecutionPhase.FETCHING_INPUTS
    told: ExecutionPhase | None = None
    """The phase that the last renewal named."""
    done_bytes: int = 0
    total_bytes: int = 0
    stopping: bool = False
    abandoned: Refusal | None = None
    """Why the requester wants it no more: how it ends interests nobody."""
    report_retries: int = 0


class Leases:
    """See the module. Shares the machine's deadlines: "lease" and "renew", each with the execution's id. A new phase is
    told within `first_renewal_us`."""

    __slots__ = ("_deadlines", "_first_renewal_us")

    def __init__(self, deadlines: Deadlines[tuple[str, str]], first_renewal_us: int) -> None:
        self._deadlines = deadlines
        self._first_renewal_us = first_renewal_us

    def begin(self, work: Work, now: int) -> None:
        """The award is the first term."""
        lease_us = work.record.award.lease_us
        self._deadlines.set(("lease", work.record.id), work.lease_end_us)
        self._deadlines.set(("renew", work.record.id), now + lease_us // _RENEWALS_PER_LEASE)

    def resume(self, work: Work, now: int) -> Effects:
        """After a restart."""
        self._deadlines.set(("lease", work.record.id), work.lease_end_us)
        return self.renew(work, now)

    def handle(
        self, event: ev.PhaseEntered | ev.ProgressMade | ev.LeaseRenewed, work: Work, now: int
    ) -> Effects:
        match event:
            case ev.PhaseEntered(phase=phase):
                self._phase_entered(work, phase, now)
            case ev.LeaseRenewed():
                self._renewed(work, event)
            case ev.ProgressMade():
                work.done_bytes, work.total_bytes = event.done_bytes, event.total_bytes
                return self.renew(work, now)
        return Effects()

    def _phase_entered(self, work: Work, phase: ExecutionPhase, now: int) -> None:
        work.phase, work.done_bytes, work.total_bytes = phase, 0, 0
        key = ("renew", work.record.id)
        due, soon = self._deadlines.get(key), now + self._first_renewal_us
        if due is None or soon < due:
            self._deadlines.set(key, soon)

    def renew(self, work: Work, now: int) -> Effects:
        """Asks for another term; asks again soon, unless LeaseRenewed says that the requester has answered."""
        record = work.record
        work.told = work.phase
        self._deadlines.set(("renew", record.id), now + record.award.lease_us // _TRIES_PER_LEASE)
        renewal = LeaseRenewal(record.id, work.phase, record.attempt, work.done_bytes, work.total_bytes)
        return Effects(sends=[SendRenewal(record.requester_id, renewal)])

    def _renewed(self, work: Work, event: ev.LeaseRenewed) -> None:
        end = event.sent_us + event.lease_us
        if end > work.lease_end_us:
            work.lease_end_us = end
            self._deadlines.set(("lease", event.execution_id), end)
        # The next renewal is only ever put off: answers that took long must not set off more of them.
        due = event.sent_us + event.lease_us // _RENEWALS_PER_LEASE
        key = ("renew", event.execution_id)
        if work.told is work.phase and due > (self._deadlines.get(key) or 0):
            self._deadlines.set(key, due)

    def ended(self, work: Work) -> Effects:
        """No new term in time: stop, and report it, for the requester may come back before it awards again."""
        work.stopping = True
        self._deadlines.clear(("renew", work.record.id))
        return Effects(starts=[StopExecution(work.record.id)])

    def clear(self, execution_id: str) -> None:
        """The work has ended, or is stopped: no lease of it runs."""
        self._deadlines.clear(("renew", execution_id))
        self._deadlines.clear(("lease", execution_id))

    def check(self, work: Work, *, runs: bool) -> None:
        for kind in ("lease", "renew"):
            assert (self._deadlines.get((kind, work.record.id)) is not None) is runs, work
