"""Awards at the compute node: what binds it, and what it is bound by when the same comes again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bacalhau.model.job import InputSource
from bacalhau.model.refusals import RefusalReason
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from tests.builders import NODE_CAPACITY, RESULT, SPEC_DIGEST, a_spec, an_award
from tests.scheduler.driven import Compute, seconds

if TYPE_CHECKING:
    from bacalhau.model.market import Award
    from bacalhau.scheduler.records import WorkRecord


def _work(compute: Compute) -> WorkRecord:
    work = compute.machine.work("e-1")
    assert work is not None
    return work


@pytest.mark.parametrize(
    "award",
    [
        an_award(price_microcredits=99),
        an_award(price_microcredits=101),
        an_award(lease_us=0),
        replace(an_award(), job_id="j-2"),
        an_award(spec=a_spec(resources=NODE_CAPACITY)),
        an_award(spec=a_spec(execution_us=seconds(61))),
        an_award(spec=a_spec(inputs=(InputSource(RESULT, "/in"),))),
    ],
    ids=[
        "price too low",
        "price too high",
        "no lease",
        "other job",
        "more resources",
        "more time",
        "other inputs",
    ],
)
def test_an_award_of_something_else_than_was_offered_and_bid_is_refused(
    compute: Compute, award: Award
) -> None:
    compute.offer(now=0)
    compute.award(award, now=10)
    assert compute.refusal() is RefusalReason.MALFORMED
    assert compute.machine.running_executions == 0


@pytest.mark.parametrize("ended", [False, True])
def test_an_award_that_comes_again_with_another_lease_is_the_same(compute: Compute, ended: bool) -> None:
    """Its requester was restarted with another `serve --lease` before it had the answer."""
    compute.accepted(now=0)
    taken = _work(compute)
    again = replace(taken.award, lease_us=seconds(60))
    event = ev.AwardReceived("r1", again, SPEC_DIGEST)
    if ended:
        other = Compute()
        other.tell(replace(event, ended=taken), seconds(1))
        assert (other.refusal(), other.last) == (None, fx.Effects())
    compute.tell(event, seconds(1))
    assert (compute.refusal(), compute.last) == (None, fx.Effects())


def test_an_award_that_comes_again_at_another_price_is_none(compute: Compute) -> None:
    compute.accepted(now=0)
    compute.award(replace(_work(compute).award, price_microcredits=99), now=1)
    assert compute.refusal() is RefusalReason.ID_REUSED
