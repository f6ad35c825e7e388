"""The queue of offers: none is lost or made twice, a few jobs never wait, and none waits beyond half its bid window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bacalhau.node.offer_queue import AT_ONCE, FEW, OfferQueue
from bacalhau.scheduler.effects import Effects, SendOffer, SendOfferClosed
from tests.builders import an_offer


def step(*offer_ids: str) -> Effects:
    """What a step asks for that makes these offers and closes another."""
    closed = SendOfferClosed(("n1",), "closed")
    return Effects(sends=[closed, *(SendOffer(an_offer(id=one), ("n1",)) for one in offer_ids)])


def ids(offers: list[SendOffer]) -> list[str]:
    return [send.offer.id for send in offers]


def test_the_offers_of_a_few_jobs_go_in_their_turn() -> None:
    queue = OfferQueue()
    for turn in range(3):
        effects = step(*(f"{turn}-{n}" for n in range(FEW)))
        new = queue.take(effects, turn)
        assert ids(queue.due(new, turn)) == [f"{turn}-{n}" for n in range(FEW)]
        assert [type(send) for send in effects.sends] == [SendOfferClosed]


def test_those_of_many_wait_while_more_come_and_then_go_some_in_each_turn() -> None:
    queue = OfferQueue()
    many = [f"o-{n:02}" for n in range(AT_ONCE + FEW)]
    assert queue.due(queue.take(step(*many), 0.0), 0.0) == []
    assert queue.due(queue.take(step("later"), 0.1), 0.1) == []
    assert ids(queue.due(0, 0.2)) == many[:AT_ONCE]
    assert ids(queue.due(0, 0.2)) == [*many[AT_ONCE:], "later"]
    assert len(queue) == 0


turns = st.lists(st.tuples(st.integers(0, 3 * FEW), st.floats(0, 0.3)), max_size=40)


@given(turns)
def test_each_offer_is_made_once_in_order_and_within_half_its_bid_window_where_there_is_a_turn(
    turns: list[tuple[int, float]],
) -> None:
    queue = OfferQueue()
    window_s = an_offer().bid_window_us / 1e6
    made: list[str] = []
    taken: list[tuple[str, float]] = []
    now_s = 0.0
    for new, pause_s in turns:
        now_s += pause_s
        fresh = [f"o-{len(taken) + n}" for n in range(new)]
        taken += [(one, now_s) for one in fresh]
        made += ids(queue.due(queue.take(step(*fresh), now_s), now_s))
        assert all(now_s < since_s + window_s / 2 for _, since_s in taken[len(made) :])
    while len(queue):
        made += ids(queue.due(0, now_s))
    assert made == [one for one, _ in taken]
