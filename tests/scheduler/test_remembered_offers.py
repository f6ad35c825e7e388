"""The offers that a node remembers: each requester has its share of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bacalhau.model.refusals import RefusalReason
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from tests.builders import a_compute_config, an_offer
from tests.scheduler.driven import Compute


def refused_for_lack_of_room(compute: Compute) -> list[tuple[str, str]]:
    return [
        (send.to, send.decline.offer_id)
        for send in compute.all.sends
        if isinstance(send, fx.SendDecline) and send.decline.refusal.reason is RefusalReason.LIMIT_REACHED
    ]


def test_a_requester_that_fills_the_memory_makes_room_for_others_by_its_newest_offers() -> None:
    compute = Compute(a_compute_config(remembered_offers_max=4))
    for number in (1, 2, 3, 4, 5):
        compute.offer(an_offer(id=f"o-{number}"), requester_id="flooder")
    for number in (6, 7, 8):
        compute.offer(an_offer(id=f"o-{number}"), requester_id="r2")
    # When each has its half, the next of either is refused.
    assert refused_for_lack_of_room(compute) == [
        ("flooder", "o-5"),
        ("flooder", "o-4"),
        ("flooder", "o-3"),
        ("r2", "o-8"),
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60))
def test_whoever_asks_for_no_more_than_its_share_of_the_memory_has_it(steps: list[tuple[int, bool]]) -> None:
    """Four requesters and room for eight: one that never has more than two offers loses none."""
    compute = Compute(a_compute_config(remembered_offers_max=8))
    most: dict[str, int] = {}
    open_offers: dict[str, list[str]] = {}
    for number, (requester, closes) in enumerate(steps):
        requester_id = f"r{requester}"
        theirs = open_offers.setdefault(requester_id, [])
        if closes and theirs:
            compute.tell(ev.OfferClosedReceived(requester_id, theirs.pop(0)), number)
        else:
            theirs.append(f"o-{number}")
            compute.offer(an_offer(id=f"o-{number}"), number, requester_id=requester_id)
        most[requester_id] = max(most.get(requester_id, 0), len(theirs))
    for requester_id, _ in refused_for_lack_of_room(compute):
        assert most[requester_id] > 2
