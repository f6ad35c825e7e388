"""Offers to some of the live nodes: how many are asked at a time."""

from __future__ import annotations

from bacalhau.scheduler import effects as fx
from bacalhau.scheduler.requester import RequesterConfig
from tests.builders import a_spec
from tests.scheduler.driven import Requester, seconds


def test_an_offer_goes_to_as_many_nodes_as_its_job_wants_and_then_as_it_misses() -> None:
    requester = Requester(RequesterConfig(offer_sample=2))
    nodes = tuple(f"n{number}" for number in range(10))
    requester.hear(*nodes)
    requester.submit(a_spec(count=5), now=0)
    (offered,) = requester.sent(fx.SendOffer)
    assert len(set(offered.to)) == 5
    first, *others = offered.to
    for node_id in others:
        requester.bid(node_id, now=10)
    requester.decline(first, now=20)
    awarded = requester.sent(fx.SendAward)
    for send in awarded:
        requester.confirm(send.award.execution_id, now=30)
    assert {send.to for send in awarded} == set(others)
    requester.hear(*nodes, now=seconds(4))
    requester.expire(seconds(6))
    # One is missing, so that it is the two of the sample; four of the ten work already.
    (again,) = requester.sent(fx.SendOffer)
    assert len(again.to) == 2
    assert not set(again.to) & set(others)


def test_a_new_node_hears_of_an_open_offer_that_wants_more_nodes_than_were_asked() -> None:
    requester = Requester(RequesterConfig(offer_sample=1))
    requester.hear("n1")
    requester.submit(a_spec(count=2, queue_us=seconds(60)), now=0)
    requester.hear("n2", now=10)
    assert [send.to for send in requester.sent(fx.SendOffer)] == [("n2",)]
    requester.hear("n3", now=20)
    assert requester.sent(fx.SendOffer) == []
