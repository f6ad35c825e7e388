"""Who is asked for what, and what one peer may want: without a network."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.model.cid import RAW, Cid
from bacalhau.p2p.bitswap.messages import Message, Want, cancels
from bacalhau.p2p.bitswap.spread import PROVIDERS_MAX, Spread
from bacalhau.p2p.bitswap.wantlist import WANTS_MAX, WantList

BLOCKS = [Cid.of(RAW, str(number).encode()) for number in range(60)]
KEYS = [cid.multihash for cid in BLOCKS]
ROOM = dict.fromkeys("abcdef", 1000)


@given(
    st.integers(0, 2**32), st.lists(st.sampled_from(["silent", "denies", "leaves"]), min_size=3, max_size=3)
)
def test_every_block_that_an_honest_peer_has_comes_whatever_the_others_do(
    seed: int, faults: list[str]
) -> None:
    drawn = random.Random(seed)
    has = {peer: set(drawn.sample(KEYS, drawn.randint(0, len(KEYS)))) for peer in "abc"}
    bad = dict(zip("def", faults, strict=True))
    spread = Spread()
    spread.want(BLOCKS)
    for peer in drawn.sample("abcdef", 6):
        assert spread.add(peer)
    now = 0.0
    asked: dict[str, list[bytes]] = {peer: [] for peer in "abcdef"}
    for _ in range(400):
        now += 0.4
        for peer, cids in spread.assign(now, ROOM).items():
            assert not any(spread.is_denied(peer, cid.multihash) for cid in cids)
            asked[peer] += [cid.multihash for cid in cids]
        for peer in spread.silent(now, 8.0):
            spread.drop(peer)
        for peer in drawn.sample("abcdef", 6):
            for key in asked[peer][: drawn.randint(1, 20)]:
                asked[peer].remove(key)
                if not spread.wants(key):
                    continue
                if bad.get(peer) == "leaves":
                    spread.drop(peer)
                elif bad.get(peer) == "denies" or (peer in has and key not in has[peer]):
                    spread.denies(peer, key)
                elif peer in has:
                    spread.came(peer, key, 1000, now)
        if spread.is_stuck or not len(spread):
            break
    assert set(spread.keys()) == set(KEYS) - has["a"] - has["b"] - has["c"]
    assert set(spread.homeless(100)) == set(spread.keys())


def test_asks_stay_within_the_window_that_the_size_of_blocks_allows() -> None:
    spread = Spread()
    spread.want(BLOCKS)
    spread.add("a")
    first = spread.assign(0, ROOM)["a"]
    assert len(first) == 16
    for cid in first:
        spread.came("a", cid.multihash, 2 << 20, 1)
    assert len(spread.assign(1, ROOM)["a"]) == 8
    assert spread.assign(1, ROOM) == {}


def test_asks_stay_within_the_room_that_a_peer_has() -> None:
    spread = Spread()
    spread.want(BLOCKS)
    spread.add("a")
    assert len(spread.assign(0, {"a": 3})["a"]) == 3
    assert spread.assign(0, {"a": 0}) == {}


def test_what_a_slow_peer_keeps_back_is_asked_of_one_that_has_nothing_to_do() -> None:
    spread = Spread()
    spread.want(BLOCKS[:10])
    spread.add("slow")
    spread.assign(0, {"slow": 1000})
    spread.add("fast")
    room = {"slow": 1000, "fast": 1000}
    assert spread.assign(0.5, room) == {}
    assert spread.assign(1.5, room) == {"fast": BLOCKS[:10]}
    assert spread.assign(3, room) == {}
    assert spread.came("fast", KEYS[0], 10, 2) == ([BLOCKS[0]], {"slow"})


def test_a_peer_is_silent_from_its_first_unanswered_ask_or_its_last_block() -> None:
    spread = Spread()
    spread.want(BLOCKS)
    spread.add("a")
    assert spread.silent(100, 8) == []
    spread.assign(100, ROOM)
    assert spread.silent(107, 8) == []
    assert spread.silent(108, 8) == ["a"]
    spread.came("a", KEYS[0], 10, 107)
    assert spread.silent(114, 8) == []
    spread.excuse(114)
    assert spread.silent(121, 8) == []
    assert spread.silent(122, 8) == ["a"]


def test_there_are_only_so_many_providers() -> None:
    spread = Spread()
    assert all(spread.add(str(number)) for number in range(PROVIDERS_MAX))
    assert not spread.add("one more")
    assert not spread.add("0")
    spread.drop("0")
    assert spread.add("one more")


wants = st.builds(
    Want, st.sampled_from(BLOCKS), priority=st.integers(0, 3), cancel=st.booleans(), have=st.booleans()
)
updates = st.lists(st.builds(Message, wants=st.lists(wants, max_size=9), full=st.booleans()), max_size=9)


@given(updates)
def test_a_want_list_holds_what_was_said_last_of_each_block(messages: list[Message]) -> None:
    listed = WantList()
    expected: dict[Cid, bool] = {}
    for message in messages:
        listed.update(message)
        if message.full:
            expected.clear()
        for want in message.wants:
            if want.cancel:
                expected.pop(want.cid, None)
            else:
                # A want for the block stands above one for the news that it is there.
                expected[want.cid] = want.have and expected.get(want.cid, True)
    taken = listed.take(1000)
    assert {want.cid: want.have for want in taken} == expected
    assert len(taken) == len(expected)
    assert [want.priority for want in taken] == sorted((want.priority for want in taken), reverse=True)
    assert not len(listed)


def test_wants_are_answered_by_priority_and_then_in_the_order_of_their_coming() -> None:
    listed = WantList()
    listed.update(Message([Want(BLOCKS[0], 1), Want(BLOCKS[1], 2), Want(BLOCKS[2], 1)]))
    first = listed.take(1)
    assert [want.cid for want in first] == [BLOCKS[1]]
    listed.put_back(first)
    assert [want.cid for want in listed.take(9)] == [BLOCKS[1], BLOCKS[0], BLOCKS[2]]


def test_a_want_that_is_taken_back_while_it_is_answered_stays_gone_and_one_said_anew_counts() -> None:
    listed = WantList()
    listed.update(Message([Want(BLOCKS[0]), Want(BLOCKS[1])]))
    taken = listed.take(9)
    listed.update(Message([Want(BLOCKS[1], have=True)]))
    listed.put_back(taken)
    assert {want.cid: want.have for want in listed.take(9)} == {BLOCKS[0]: False, BLOCKS[1]: True}


def test_a_full_list_says_so() -> None:
    listed = WantList()
    many = [Want(Cid.of(RAW, b"many" + str(number).encode())) for number in range(WANTS_MAX)]
    listed.update(Message(many[1:]))
    before = listed.is_full
    listed.update(Message(many[:1]))
    full = listed.is_full
    listed.update(Message(cancels([many[0].cid])))
    assert [before, full, listed.is_full] == [False, True, False]


def test_a_want_for_what_is_not_here_waits_until_it_comes_or_is_taken_back() -> None:
    listed = WantList()
    listed.update(Message([Want(BLOCKS[0]), Want(BLOCKS[1])]))
    listed.keep_unmet(listed.take(9))
    listed.update(Message(cancels([BLOCKS[1]])))
    assert not listed.came(BLOCKS[1:])
    assert listed.came(BLOCKS)
    assert [want.cid for want in listed.take(9)] == [BLOCKS[0]]
    assert not listed.came(BLOCKS)


@pytest.mark.parametrize("count", [1024, 5000])
def test_only_so_many_wants_for_what_is_not_here_are_remembered(count: int) -> None:
    listed = WantList()
    many = [Want(Cid.of(RAW, str(number).encode())) for number in range(count)]
    listed.keep_unmet(many)
    assert not listed.came([many[0].cid]) or count == 1024
    assert listed.came([want.cid for want in many])
    assert len(listed) <= 1024
