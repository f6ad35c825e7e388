"""Awards at the compute node: what binds it, and what it is bound by when the same comes again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bacalhau.model.refusals import RefusalReason
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from tests.builders import SPEC_DIGEST, an_award
from tests.scheduler.driven import Compute, seconds

if TYPE_CHECKING:
    from bacalhau.scheduler.records import WorkRecord


def _work(compute: Compute) -> WorkRecord:
    work = compute.machine.work("e-1")
    assert work is not None
    return work


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
