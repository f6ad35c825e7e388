"""Offers whose work comes back with a renewal, and what wakes them where it is missing again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.model.execution import Fault, FaultKind
from bacalhau.scheduler import effects as fx
from tests.builders import a_spec
from tests.scheduler.driven import seconds

if TYPE_CHECKING:
    from tests.scheduler.driven import Requester

BROKEN = Fault(FaultKind.ENGINE_FAILED, "the engine fell over")


def test_an_offer_that_was_needed_no_more_and_is_again_is_cleared_when_its_window_ends(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2")
    requester.submit(a_spec(count=2), now=0)
    requester.bid("n1", now=0)
    requester.bid("n2", now=0)
    requester.confirm("e-2", now=0)
    requester.confirm("e-3", now=0)
    requester.renew("n2", "e-3", seconds(20))
    requester.hear("n3", "n4", "n5", now=seconds(29))
    requester.report("n2", "e-3", now=seconds(29), fault=BROKEN)
    requester.bid("n3", now=seconds(29))
    requester.expire(seconds(30))  # n3 gets the award, and the lease of n1 ends: its work is offered again
    assert [send.to for send in requester.sent(fx.SendOffer)] == [("n4", "n5")]
    requester.renew("n1", "e-2", seconds(30) + 10)
    assert requester.sent(fx.SendOfferClosed) == []  # for n3 has not confirmed its award
    requester.report("n1", "e-2", now=seconds(30) + 20, fault=BROKEN)
    requester.bid("n4", id="b-4", now=seconds(30) + 30)
    assert requester.machine.deadline() == seconds(31)
    requester.expire(seconds(31))
    assert requester.awards() == [("n4", 100)]
