"""Stories of faults whose nodes are restored from backups, with fixed seeds; and that the checkers see broken ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from bacalhau.scheduler import effects as fx
from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.events import (
    ComputeEvent,
    NoteReturned,
    ReceiptReceived,
    ReceiptsReturned,
    RequesterEvent,
)
from bacalhau.scheduler.records import ReceiptRecord
from bacalhau.scheduler.requester import RequesterMachine
from bacalhau.simulation.profile import Machines
from bacalhau.simulation.stories import SHORT_CREDIT, SHORT_LEASES, BrokenPromise, tell


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_a_restored_node_forgets_what_is_documented_and_takes_back_the_rest(first: int) -> None:
    for seed in range(first, first + 10):
        tell(seed, restored=True)


@pytest.mark.parametrize("first", range(0, 20, 5))
def test_the_same_holds_where_results_are_compared_and_bonds_are_staked(first: int) -> None:
    for seed in range(first, first + 5):
        tell(seed, restored=True, compared=True)


@pytest.mark.parametrize("first", range(0, 20, 10))
def test_the_same_holds_where_leases_and_credit_are_short(first: int) -> None:
    for seed in range(first, first + 10):
        tell(seed, restored=True, requester=SHORT_LEASES, credit=SHORT_CREDIT)


def test_a_node_that_is_restored_to_before_its_first_job_keeps_what_it_took_since() -> None:
    """Found by this seed, in the simulator: it started such a node with empty books."""
    tell(1070, restored=True)


SEEN: Counter[str] = Counter()
"""What the machines below were told."""


class SeesReceipts(RequesterMachine):
    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        if isinstance(event, ReceiptsReturned):
            receipts = [write for write in effects.writes if isinstance(write, ReceiptRecord)]
            SEEN["receipts that came back"] += sum(1 for record in receipts if record.evidence is not None)
            SEEN["receipts with a later number"] += sum(1 for record in receipts if record.evidence is None)
        return effects


class SeesWhatWasSigned(ComputeMachine):
    def handle(self, event: ComputeEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        if isinstance(event, ReceiptReceived) and event.signed_before and effects.writes:
            SEEN["receipts that were signed before"] += 1
        return effects


def test_the_stories_give_back_receipts_to_both_sides() -> None:
    """Else the tests above would hold for want of anything happening."""
    SEEN.clear()
    for seed in range(40):
        story = tell(seed, Machines(SeesReceipts, SeesWhatWasSigned), restored=True)
        for node in story.world.nodes.values():
            SEEN["jobs that are gone"] += len(node.forgotten.jobs)
    assert SEEN["receipts that came back"] >= 3
    assert SEEN["receipts with a later number"] >= 3
    assert SEEN["receipts that were signed before"] >= 3
    assert SEEN["jobs that are gone"] >= 20


# --- the checkers see broken machines ---


class TakesNoReceiptBack(RequesterMachine):
    def handle(self, event: RequesterEvent, *, now: int) -> fx.Effects:
        return fx.Effects() if isinstance(event, ReceiptsReturned) else super().handle(event, now=now)


class TakesNoNoteBack(ComputeMachine):
    def handle(self, event: ComputeEvent, *, now: int) -> fx.Effects:
        return fx.Effects() if isinstance(event, NoteReturned) else super().handle(event, now=now)


class DoubtsItsOwnSignature(ComputeMachine):
    """Judges a second time what it had signed before: of work that it has forgotten it signs no penalty."""

    def handle(self, event: ComputeEvent, *, now: int) -> fx.Effects:
        if isinstance(event, ReceiptReceived):
            event = replace(event, signed_before=False)
        return super().handle(event, now=now)


class MissesReceipts(ComputeMachine):
    """Has every receipt that is not the next one for such as it knows."""

    def handle(self, event: ComputeEvent, *, now: int) -> fx.Effects:
        effects = super().handle(event, now=now)
        return fx.Effects() if isinstance(event, ReceiptReceived) and effects.refusal else effects


@pytest.mark.parametrize(
    ("machines", "complaint", "seed", "compared"),
    [
        (Machines(requester=TakesNoReceiptBack), "waits for something that has ended", 1, False),
        (Machines(compute=TakesNoNoteBack), "owes", 112, False),
        (Machines(compute=MissesReceipts), "owes", 0, False),
        (Machines(compute=DoubtsItsOwnSignature), "waits for something that has ended", 23, True),
    ],
    ids=["no receipt back", "no note back", "receipts missed", "own signature in doubt"],
)
def test_the_checkers_find_a_broken_machine(
    machines: Machines, complaint: str, seed: int, compared: bool
) -> None:
    found = []
    for each in range(seed, seed + 20):
        try:
            tell(each, machines, restored=True, compared=compared)
        except BrokenPromise as failure:
            found.append(str(failure))
            if complaint in found[-1]:
                return
    pytest.fail(f"none of 20 stories found it; complaints were {found}")
