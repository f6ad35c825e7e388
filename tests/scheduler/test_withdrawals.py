"""Declines that come behind a bid, or again, and late copies of what they withdraw."""

from __future__ import annotations

import pytest

from bacalhau.model.auction import AuctionTerms, ClearingRule
from bacalhau.model.execution import FaultKind
from bacalhau.model.refusals import RefusalReason
from tests.builders import a_spec
from tests.scheduler.driven import Requester, seconds


def test_a_late_copy_of_a_bid_that_its_node_has_withdrawn_does_not_bring_it_back(
    requester: Requester,
) -> None:
    """It would press the uniform price, or win an award that its node has to refuse."""
    requester.hear("n1", "n2", "n3")
    uniform = AuctionTerms(ClearingRule.UNIFORM_PRICE)
    requester.submit(a_spec(max_price_microcredits=1000, auction=uniform), now=0)
    requester.bid("n2", 20, now=10, issued_us=5)
    requester.decline("n2", RefusalReason.SHUTTING_DOWN, now=20, issued_us=15)
    requester.bid("n2", 20, now=30, issued_us=14)
    requester.bid("n1", 10, now=40, issued_us=35)
    requester.bid("n3", 500, now=50, issued_us=45)
    assert requester.awards() == [("n1", 500)]


def test_a_copy_of_a_withdrawn_bid_does_not_answer_the_offer_that_came_again(requester: Requester) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.bid("n1", 100, now=10, issued_us=5)
    requester.decline("n1", RefusalReason.SHUTTING_DOWN, now=20, issued_us=15)
    requester.hear("n1", now=seconds(20))
    requester.bid("n1", 100, now=seconds(20), issued_us=14)
    assert requester.machine.awaited(requester.offer().id) == ("n2", "n1")


def test_a_node_that_is_heard_again_and_declines_word_for_word_as_before_has_answered(
    requester: Requester,
) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    requester.decline("n1", now=1)
    requester.decline("n2", RefusalReason.BUSY, now=1)
    requester.hear("n1", now=seconds(20))
    offer_id = requester.offer().id
    assert requester.machine.awaited(offer_id) == ("n1",)
    requester.decline("n1", now=seconds(20) + 1)
    assert requester.machine.awaited(offer_id) is None
    assert requester.failure().kind is FaultKind.NO_NODE
    assert "did not answer" not in requester.failure().message


@pytest.mark.parametrize("repeated", [False, True])
def test_a_bid_that_its_node_withdrew_before_it_came_takes_no_part(
    requester: Requester, repeated: bool
) -> None:
    requester.hear("n1", "n2")
    requester.submit(now=0)
    if repeated:  # word for word: busy again, after a bid that is still on its way
        requester.decline("n1", RefusalReason.BUSY, now=5, issued_us=4)
    requester.decline("n1", RefusalReason.BUSY, now=20, issued_us=15)
    requester.bid("n1", 100, now=30, issued_us=10)
    requester.bid("n2", 200, now=40, issued_us=35)
    assert requester.awards() == [("n2", 200)]
