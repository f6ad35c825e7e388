"""Blocks of small results: readable before the step that tells of them, on disk with it, later in the block store."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.model.cid import RAW, Cid
from bacalhau.model.refusals import Refused
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.store.errors import StoreFailed
from tests.builders import a_spec
from tests.node.live import until
from tests.node.slow_disk import Outside, some_turns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def a_block(content: bytes) -> tuple[Cid, bytes]:
    return Cid.of(RAW, content), content


@pytest.fixture
def blocks(tmp_path: Path, outside: Outside) -> Iterator[PackBlockStore]:
    """The block store of the driver in `outside`; one that holds 100 bytes."""
    made = PackBlockStore(tmp_path / "blocks", limit_bytes=100)

    def store(some: list[tuple[Cid, bytes]]) -> None:
        made.put_many(some, sync=False, reserved=True)
        outside.disk.calls.append("blocks stored")

    def sync() -> None:
        made.sync()
        outside.disk.calls.append("blocks synced")

    outside.driver.store_blocks = store
    outside.driver.sync_blocks = sync
    yield made
    made.close()


async def test_blocks_can_be_read_before_the_step_that_tells_of_them_and_are_on_disk_with_it(
    outside: Outside, blocks: PackBlockStore
) -> None:
    cid, content = a_block(b"a result")
    outside.disk.calls.clear()
    outside.disk.may_go_on.clear()
    outside.driver.keep([(cid, content)])
    submitting = asyncio.ensure_future(outside.submit("j-1"))
    await until(lambda: blocks.has(cid), "the blocks are stored")
    assert outside.disk.calls == ["staged", "blocks stored"]
    assert not submitting.done()
    outside.disk.may_go_on.set()
    await submitting
    assert outside.disk.calls == ["staged", "blocks stored", "committed"]
    assert outside.disk.small_blocks() == [(cid, content)]


async def test_the_journal_forgets_blocks_once_the_block_store_has_them_on_disk(
    outside: Outside, blocks: PackBlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bacalhau.node.driver.BLOCKS_WAIT_S", 0.05)
    outside.driver.keep([a_block(b"first")])
    await outside.submit("j-1")
    outside.driver.keep([a_block(b"second")])
    await outside.submit("j-2")
    assert outside.disk.small_blocks() == [a_block(b"first"), a_block(b"second")]
    outside.disk.calls.clear()
    await until(lambda: outside.disk.small_blocks() == [], "they are forgotten")
    await until(lambda: "committed" in outside.disk.calls, "that is known")
    assert outside.disk.calls == ["blocks synced", "committed"]
    outside.driver.keep([a_block(b"third")])
    await outside.submit("j-3")
    await until(lambda: outside.disk.small_blocks() == [], "later ones are, too")


@pytest.mark.usefixtures("short_pause")
async def test_where_the_blocks_have_no_room_nothing_of_the_step_is_committed_and_nothing_leaves(
    outside: Outside, blocks: PackBlockStore, tmp_path: Path
) -> None:
    cid, content = a_block(bytes(101))
    outside.driver.keep([(cid, content)])
    submitting = asyncio.ensure_future(outside.submit("j-1"))
    await until(lambda: outside.disk.calls.count("staged") > 2, "it was tried again")
    assert not submitting.done()
    assert outside.disk.job("j-1") is None
    assert [type(send) for send in outside.sent] == [fx.SendOffer]
    assert (outside.started, outside.happened) == ([], [])
    assert not blocks.has(cid)
    outside.disk.set_meta("the file", "is free meanwhile")  # were the transaction open, this would wait
    with contextlib.closing(PackBlockStore(tmp_path / "larger")) as larger:
        outside.driver.store_blocks = larger.put_many
        await submitting
        assert larger.has(cid)
    assert outside.disk.job("j-1") is not None
    assert outside.failures == []


@pytest.mark.parametrize("at_once", [True, False])
async def test_where_the_journal_fails_blocks_may_be_there_and_nothing_tells_of_them(
    outside: Outside, blocks: PackBlockStore, at_once: bool
) -> None:
    failure = StoreFailed("input/output error")
    if at_once:
        outside.disk.fails_at_once = failure
    else:
        outside.disk.failure = failure
    cid, content = a_block(b"a result")
    outside.driver.keep([(cid, content)])
    with pytest.raises(Refused, match="input/output error"):
        await outside.submit("j-1")
    assert blocks.has(cid) is not at_once
    assert outside.disk.job("j-1") is None
    assert [type(send) for send in outside.sent] == [fx.SendOffer]
    assert (outside.started, outside.happened) == ([], [])
    assert outside.failures == [failure]


async def test_blocks_wait_for_the_transaction_of_their_own_turn(
    outside: Outside, blocks: PackBlockStore
) -> None:
    outside.disk.may_go_on.clear()
    outside.driver.keep([a_block(b"first")])
    first = asyncio.ensure_future(outside.submit("j-1"))
    await until(lambda: blocks.has(a_block(b"first")[0]), "the first are stored")
    outside.driver.keep([a_block(b"second")])
    second = asyncio.ensure_future(outside.submit("j-2"))
    await some_turns()
    assert not blocks.has(a_block(b"second")[0])
    outside.disk.may_go_on.set()
    await asyncio.gather(first, second)
    assert blocks.has(a_block(b"second")[0])


async def test_blocks_of_a_step_that_writes_nothing_are_stored_with_the_next_that_does(
    outside: Outside, blocks: PackBlockStore
) -> None:
    """Others may take it that they will be: their root is remembered as being here."""
    cid, content = a_block(b"a result")
    outside.driver.keep([(cid, content)])
    for _ in range(3):  # the clock is written down now and then
        outside.driver.tell_requester(ev.PeerHeard("n1"))
        await outside.driver.committed()
    await outside.submit("j-1")
    assert blocks.has(cid)


async def test_blocks_of_a_refused_step_are_stored_with_the_next(
    outside: Outside, blocks: PackBlockStore
) -> None:
    await outside.submit("j-1")
    cid, content = a_block(b"a result")
    outside.driver.keep([(cid, content)])
    refusal = await outside.driver.ask_requester(ev.JobSubmitted("j-1", a_spec(), (), bytes(32)))
    assert refusal is not None
    await outside.submit("j-2")
    assert blocks.has(cid)
