"""The ledger of reservations, and the compute machine's use of it under any order of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacalhau.market.bidding import Answers
from bacalhau.model.cid import DAG_PB, Cid
from bacalhau.model.execution import ExecutionPhase
from bacalhau.model.job import Engine, InputSource
from bacalhau.model.market import ClaimedInput
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.resources import Resources
from bacalhau.model.units import SECOND_US
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.capacity import CapacityLedger
from bacalhau.scheduler.deadlines import Deadlines
from tests.builders import NODE_CAPACITY, SPEC_DIGEST, a_report, a_spec, an_award, an_offer
from tests.scheduler.driven import Compute

if TYPE_CHECKING:
    from random import Random

TWO = Resources(cpu_millicores=2)
ONE = Resources(cpu_millicores=1)


def test_what_does_not_fit_is_not_reserved_and_changes_nothing() -> None:
    ledger = CapacityLedger(ONE)
    assert not ledger.reserve("o-1", TWO)
    assert ledger.free == ONE


def test_a_hard_reservation_takes_the_place_of_the_soft_one() -> None:
    ledger = CapacityLedger(TWO)
    assert ledger.reserve("o-1", ONE)
    ledger.harden("o-1", "e-1")
    assert (ledger.keys(hard=False), ledger.keys(hard=True), ledger.free) == ((), ("e-1",), ONE)
    assert not ledger.release("o-1")
    assert ledger.release("e-1", hard=True)
    assert ledger.free == TWO


def test_reserving_twice_under_one_key_is_a_bug_and_raises() -> None:
    ledger = CapacityLedger(TWO)
    ledger.reserve("o-1", ONE)
    with pytest.raises(AssertionError, match="o-1 holds a reservation already"):
        ledger.reserve("o-1", ONE)


def test_the_ledgers_check_sees_a_leak() -> None:
    ledger = CapacityLedger(TWO)
    ledger.reserve("o-1", ONE)
    ledger.free = TWO
    with pytest.raises(AssertionError):
        ledger.check()


def test_what_is_due_comes_in_order_and_sees_what_earlier_ones_changed() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, due in (("c", 3), ("a", 1), ("b", 1), ("late", 9)):
        deadlines.set(key, due)
    popped = deadlines.pop_due(5)
    assert next(popped) == "a"
    deadlines.clear("b")
    assert list(popped) == ["c"]
    assert (deadlines.next(), deadlines.keys) == (9, ("late",))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50) | st.none())))
def test_deadlines_agree_with_a_plain_dictionary(changes: list[tuple[int, int | None]]) -> None:
    _agree_with_a_plain_dictionary(changes)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5) | st.none(), st.booleans())))
def test_whoever_asks_seldom_hears_of_the_earliest_deadline_too(
    changes: list[tuple[int, int | None, bool]],
) -> None:
    deadlines: Deadlines[int] = Deadlines()
    plain: dict[int, int] = {}
    for key, due, asks in changes:
        _change(deadlines, plain, key, due)
        assert not asks or deadlines.next() == min(plain.values(), default=None)


@given(st.randoms(use_true_random=False), st.integers(1, 60), st.integers(0, 300))
def test_few_and_many_deadlines_agree_with_a_plain_dictionary(random: Random, keys: int, count: int) -> None:
    """The number of keys grows beyond what is looked through, and shrinks below it again."""
    changes: list[tuple[int, int | None]] = []
    clears = 0.1
    for _ in range(count):
        clears = random.choice((0.1, 0.9)) if random.random() < 0.05 else clears
        due = None if random.random() < clears else random.randrange(51)
        changes.append((random.randrange(keys), due))
    _agree_with_a_plain_dictionary(changes)


def _change(deadlines: Deadlines[int], plain: dict[int, int], key: int, due: int | None) -> None:
    if due is None:
        deadlines.clear(key)
        plain.pop(key, None)
    else:
        deadlines.set(key, due)
        plain[key] = due


def _agree_with_a_plain_dictionary(changes: list[tuple[int, int | None]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    plain: dict[int, int] = {}
    for key, due in changes:
        _change(deadlines, plain, key, due)
        assert deadlines.next() == min(plain.values(), default=None)
    assert list(deadlines.pop_due(50)) == [
        key for key, _ in sorted(plain.items(), key=lambda item: item[::-1])
    ]


# --- any order of events ---

INPUT = Cid.of(DAG_PB, b"an input")
_NO = Refusal(RefusalReason.LEASE_ENDED, "no")


def _offer(number: int) -> ev.OfferReceived:
    """Three sizes, with and without inputs to ask about, from two requesters."""
    resources = (Resources(500), Resources(1000), NODE_CAPACITY)[number % 3]
    inputs = (ClaimedInput(INPUT, 1),) if number % 2 else ()
    return ev.OfferReceived(f"r{number % 2}", an_offer(id=f"o-{number}", resources=resources, inputs=inputs))


def _event(kind: str, number: int, compute: Compute) -> ev.ComputeEvent:
    offer_id, execution_id = f"o-{number}", f"e-{number}"
    running = compute.machine.capacity.keys(hard=True)
    if number < len(running):
        execution_id = running[number]
    match kind:
        case "offer":
            return _offer(number)
        case "answer":
            return ev.AskAnswered(offer_id, Answers())
        case "award":
            return _award(number, execution_id, compute)
        case "close":
            return ev.OfferClosedReceived(f"r{number % 2}", offer_id)
        case "refuse bid":
            return ev.BidRefused(offer_id, _NO)
        case "cancel":
            return ev.CancellationReceived(f"r{number % 2}", execution_id)
        case "end":
            return ev.ExecutionEnded(a_report(execution_id, cancelled=bool(number % 3)))
        case "gone":
            return ev.ExecutionGone(execution_id)
        case "answer report":
            return ev.ReportAnswered(execution_id)
        case "refuse renewal":
            return ev.RenewalRefused(execution_id, _NO)
        case "renew":
            return ev.LeaseRenewed(execution_id, 0, 60_000_000)
        case "phase":
            return ev.PhaseEntered(execution_id, ExecutionPhase.RUNNING)
        case "progress":
            return ev.ProgressMade(execution_id, 1, 2)
        case _:
            return ev.EnginesChanged((Engine.DOCKER, Engine.WASM) if number % 2 else (Engine.WASM,))


def _award(number: int, execution_id: str, compute: Compute) -> ev.AwardReceived:
    """Mostly of a bid that stands, at times of one that does no more."""
    standing = compute.machine.capacity.keys(hard=False)
    bids = [send for send in compute.all.sends if isinstance(send, fx.SendBid)]
    if number < 7:
        bids = [send for send in bids if send.bid.offer_id in standing]
    if not bids:
        return ev.AwardReceived("r0", an_award(), SPEC_DIGEST)
    send = bids[-1 - number % len(bids)]
    offer = _offer(int(send.bid.offer_id.removeprefix("o-"))).offer
    inputs = (InputSource(INPUT, "/in"),) if offer.inputs else ()
    spec = a_spec(resources=offer.resources, inputs=inputs)
    award = an_award(execution_id=execution_id, offer_id=offer.id, bid_id=send.bid.id, spec=spec)
    return ev.AwardReceived(send.to, award, SPEC_DIGEST)


_KINDS = (
    *("offer", "offer", "offer", "answer", "answer", "award", "award", "award", "end", "end", "expire"),
    *(
        "close",
        "refuse bid",
        "cancel",
        "gone",
        "answer report",
        "refuse renewal",
        "renew",
        "phase",
        "progress",
    ),
    "engines",
)
_PAUSES_US = st.sampled_from((0, 1, 1_000, 1_000_000, 11_000_000, 31_000_000))
_STEPS = st.lists(st.tuples(st.sampled_from(_KINDS), st.integers(0, 7), _PAUSES_US), min_size=20, max_size=80)


@settings(max_examples=200, deadline=None)
@given(_STEPS)
def test_capacity_is_never_oversubscribed_nor_leaked_under_any_order_of_events(
    steps: list[tuple[str, int, int]],
) -> None:
    """The driver checks after each step; at the end everything is called off, and all of it is free again."""
    compute, now = Compute(), 0
    for kind, number, pause_us in steps:
        now += pause_us
        if kind == "expire":
            compute.expire(now)
        else:
            compute.tell(_event(kind, number, compute), now)
    compute.tell(ev.ShutdownBegun(), now)
    for number in range(8):
        compute.tell(ev.ExecutionEnded(a_report(f"e-{number}")), now)
        compute.tell(ev.ReportAnswered(f"e-{number}"), now)
    assert compute.free == NODE_CAPACITY
    # Nobody sends a receipt: what was reported is disputed in the end.
    compute.expire(now + 3600 * SECOND_US)
    assert compute.machine.deadline() is None
