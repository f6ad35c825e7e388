"""What a store answers to wants, from the disk and without it."""

from __future__ import annotations

import random

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.model.cid import RAW, Cid
from bacalhau.p2p.bitswap.answers import answer, answer_at_once
from bacalhau.p2p.bitswap.exchange import everything
from bacalhau.p2p.bitswap.messages import Want

BLOCKS = [random.Random(number).randbytes(200_000) for number in range(4)]
CIDS = [Cid.of(RAW, block) for block in BLOCKS]
WANTS = [Want(cid, dont_have=True) for cid in CIDS]


class OnDisk(MemoryBlockStore):
    """Has one of the blocks on the disk alone."""

    def at_hand(self, cid: Cid) -> bytes | None:  # type: ignore[override]
        return None if cid == CIDS[1] else super().at_hand(cid)


def filled(store: MemoryBlockStore) -> MemoryBlockStore:
    store.put_many(zip(CIDS, BLOCKS, strict=True))
    return store


def test_what_is_in_memory_is_answered_without_the_disk_until_a_message_is_full() -> None:
    store = filled(MemoryBlockStore())
    found = answer_at_once(store, WANTS, everything)
    assert found == answer(store, WANTS, everything)
    assert [block for _, block in found.blocks] == BLOCKS[:3]
    assert (found.left, found.is_on_disk) == (WANTS[3:], False)


def test_what_is_on_the_disk_and_all_after_it_is_left_for_a_thread() -> None:
    store = filled(OnDisk())
    found = answer_at_once(store, WANTS, everything)
    assert [block for _, block in found.blocks] == BLOCKS[:1]
    assert (found.left, found.is_on_disk) == (WANTS[1:], True)
    assert [block for _, block in answer(store, found.left, everything).blocks] == BLOCKS[1:]


def test_whether_a_block_is_there_is_asked_in_a_thread_and_says_nothing_of_the_disk() -> None:
    store = filled(MemoryBlockStore())
    asked = [WANTS[0], Want(CIDS[1], have=True)]
    found = answer_at_once(store, asked, everything)
    assert [block for _, block in found.blocks] == BLOCKS[:1]
    assert (found.left, found.is_on_disk) == (asked[1:], False)
    assert answer(store, asked[1:], everything).presences == [(CIDS[1], True)]


def test_what_is_held_back_is_as_what_is_not_there() -> None:
    store = filled(MemoryBlockStore())
    for found in (
        answer_at_once(store, WANTS[:2], lambda cid: cid != CIDS[0]),
        answer_at_once(MemoryBlockStore(), WANTS[:1], everything),
    ):
        assert found.unmet == WANTS[:1]
        assert found.presences == [(CIDS[0], False)]
