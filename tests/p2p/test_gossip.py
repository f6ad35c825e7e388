"""What is passed on and what is dropped: each message is checked first, each drop counted, and a flooder cut off.

The hostile peers send the real bytes, by hosts of their own that check nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING

from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2

from bacalhau.model.node import NodeRecord
from bacalhau.model.units import SECOND_US
from bacalhau.p2p import gossip
from bacalhau.p2p.bans import BAN_S, PENALTY_MAX, Bans, Bucket
from bacalhau.p2p.host import Host
from bacalhau.p2p.network import OFFERS_TOPIC, RECORDS_BURST, RECORDS_TOPIC
from bacalhau.wire import broadcast
from bacalhau.wire.identity import NodeKey
from tests import builders
from tests.node.live import Stranger, until
from tests.p2p.hostile import Hostile
from tests.p2p.hosts import LOOPBACK
from tests.p2p.networks import member, members, now_us

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bacalhau.model.market import JobOffer
    from tests.p2p.networks import Member


def an_offer(id: str = "o-1") -> JobOffer:
    """With a digest as it travels."""
    return builders.an_offer(id=id, spec_digest=bytes(32))


@contextlib.asynccontextmanager
async def hostile_to(victim: Member, key: NodeKey | None = None) -> AsyncIterator[tuple[Host, Hostile]]:
    hostile = Hostile()
    host = Host(key or NodeKey.generate(), (LOOPBACK,), (hostile,))
    await host.start()
    try:
        await host.connect(victim.address)
        peer = ID.from_string(victim.node_id)
        for topic in (RECORDS_TOPIC, OFFERS_TOPIC):
            await host.bridge.call(hostile.pubsub.wait_for_mesh, peer, topic)
        yield host, hostile
    finally:
        await host.stop()


def dropped(member: Member, topic: str, reason: str) -> int:
    return member.network.counts.dropped[topic, reason]


async def test_an_offer_reaches_every_member_and_is_counted() -> None:
    async with members(5) as everyone:
        speaker = everyone[3]
        others = [one for one in everyone if one is not speaker]
        offer = an_offer()
        for _ in range(100):
            speaker.network.publish_offers([speaker.seal(offer, at_us=now_us())])
            await asyncio.sleep(0.1)
            if all(offer in one.ears.offers for one in others):
                break
        assert all(offer in one.ears.offers for one in others)
        assert all(one.network.counts.accepted["offers"] for one in others)
        assert speaker.ears.offers == []
        assert not any(one.network.counts.dropped for one in everyone)


async def test_offers_that_wait_travel_in_one_message() -> None:
    async with members(2) as (a, b):
        await heard(b, a)
        offers = [an_offer(f"o-{number}") for number in range(150)]
        a.network.publish_offers([a.seal(offer, at_us=now_us()) for offer in offers])
        await until(lambda: len(b.ears.offers) == 150, "all are heard")
        # The second message may overtake the first.
        assert sorted(offer.id for offer in b.ears.offers) == sorted(offer.id for offer in offers)
        assert b.network.counts.accepted["offers"] == 2
        assert a.network.counts.published["offers"] == 2


async def heard(listener: Member, speaker: Member) -> None:
    for _ in range(100):
        speaker.publish_record()
        await asyncio.sleep(0.05)
        if listener.ears.records:
            return
    raise AssertionError("nothing is heard")


async def test_what_a_stranger_did_not_sign_itself_is_dropped_as_forged() -> None:
    """Its own gossip message with somebody else's record, or with an offer whose signature is broken."""
    async with member() as victim, hostile_to(victim) as (host, hostile):
        stolen = victim.seal(victim.record(), at_us=now_us())
        await host.bridge.call(hostile.publish, RECORDS_TOPIC, stolen.SerializeToString())
        await until(lambda: dropped(victim, "records", "forged") == 1, "the record is dropped")
        envelope = victim.seal(an_offer(), at_us=now_us())
        envelope.signature = bytes(64)
        [data] = broadcast.encode_offers([envelope])
        await host.bridge.call(hostile.publish, OFFERS_TOPIC, data)
        await until(lambda: dropped(victim, "offers", "forged") == 1, "the offer is dropped")
        assert not victim.ears.records
        assert not victim.ears.offers


async def test_a_message_in_the_name_of_another_is_dropped_and_does_not_keep_the_true_one_out() -> None:
    async with members(2) as (victim, honest), hostile_to(victim) as (host, hostile):
        record = honest.seal(honest.record(), at_us=now_us()).SerializeToString()
        counter = honest.network.gossip._pubsub.counter  # type: ignore[union-attr]
        for ahead in range(1, 4):
            message = rpc_pb2.Message(
                data=record,
                topicIDs=[RECORDS_TOPIC],
                from_id=ID.from_string(honest.node_id).to_bytes(),
                seqno=(counter + ahead).to_bytes(8, "big"),
                signature=bytes(64),
            )
            await host.bridge.call(hostile.send, message)
        await until(lambda: dropped(victim, "records", "forged") == 3, "the forgeries are dropped")
        await heard(victim, honest)
        assert {record.node_id for record in victim.ears.records} == {honest.node_id}


async def test_what_is_too_large_too_old_or_no_message_at_all_is_dropped_and_not_passed_on() -> None:
    key = NodeKey.generate()
    async with members(2) as (victim, neighbour), hostile_to(victim, key) as (host, hostile):
        stranger = Stranger()
        stranger.key = key
        old = stranger.seal(an_offer(), at_us=now_us() - 120 * SECOND_US, valid_for_us=SECOND_US)
        [expired] = broadcast.encode_offers([old])
        cases = {
            "oversized": bytes(broadcast.OFFERS_BYTES_MAX + 1),
            "malformed": b"\xff" * 99,
            "expired": expired,
        }
        for reason, data in cases.items():
            await host.bridge.call(hostile.publish, OFFERS_TOPIC, data)
            await until(functools.partial(dropped, victim, "offers", reason), f"it is {reason}")
        assert victim.network.counts.accepted["offers"] == 0
        assert neighbour.ears.offers == []
        assert not neighbour.network.counts.dropped


async def test_garbage_in_place_of_keys_and_ids_ends_nothing() -> None:
    async with member() as victim, hostile_to(victim) as (host, hostile):
        for number in range(4):
            message = rpc_pb2.Message(
                data=b"x",
                topicIDs=[RECORDS_TOPIC],
                from_id=b"\x00\x01\xff",
                seqno=bytes([number]),
                key=b"\xff",
            )
            await host.bridge.call(hostile.send, message)
        await until(lambda: dropped(victim, "records", "forged") == 4, "all are dropped")
        assert victim.network.counts.restarts == 0


async def test_a_flooder_is_dropped_as_too_frequent_cut_off_and_kept_out_while_a_bystander_is_heard() -> None:
    key = NodeKey.generate()
    async with members(2) as (victim, bystander), hostile_to(victim, key) as (host, hostile):
        stranger = Stranger()
        stranger.key = key
        record = stranger.seal(NodeRecord(key.node_id, (), bytes(32), 1, True, True), at_us=now_us())
        data = record.SerializeToString()
        with contextlib.suppress(Exception):  # it is cut off in the middle
            await host.bridge.call(hostile.publish, RECORDS_TOPIC, data, 400)
        await until(lambda: victim.network.counts.bans == 1, "it is cut off")
        accepted = victim.network.counts.accepted["records"]
        assert RECORDS_BURST <= accepted <= RECORDS_BURST + 20
        assert dropped(victim, "records", "frequent") >= PENALTY_MAX / gossip.PENALTIES["frequent"]
        await until_gone(victim, key.node_id)
        with contextlib.suppress(Exception):  # it may connect, and is sent away
            await host.connect(victim.address)
        await until_gone(victim, key.node_id)
        victim.ears.records.clear()
        await heard(victim, bystander)


async def until_gone(member: Member, node_id: str) -> None:
    for _ in range(300):
        if node_id not in await member.network.host.connected():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{node_id} is still connected")


def test_a_bucket_gives_its_burst_at_once_and_its_rate_in_the_long_run() -> None:
    bucket = Bucket(2.0, 3, 100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(100.4)
    assert bucket.take(100.5)
    assert not bucket.is_full(101.9)
    assert bucket.is_full(102.0)
    assert [bucket.take(500.0) for _ in range(4)] == [True, True, True, False]


def test_penalties_fade_and_a_ban_ends() -> None:
    bans = Bans()
    assert not bans.penalise("a", PENALTY_MAX - 1, 0.0)
    assert not bans.penalise("a", 1.0, 1.0), "two points had faded"
    assert bans.penalise("a", 2.0, 1.0)
    assert bans.banned("a", 1.0 + BAN_S - 0.1)
    assert not bans.penalise("a", PENALTY_MAX, 2.0), "it is cut off already"
    assert not bans.banned("a", 1.0 + BAN_S)
    assert not bans.banned("b", 0.0)
    assert not bans.penalise("b", 0, 0.0)
