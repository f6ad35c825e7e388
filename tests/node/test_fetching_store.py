"""The store that brings what is missing while a thread reads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.model.cid import RAW, Cid
from bacalhau.node.handoff import StreamBroken
from bacalhau.node.ipfs import _FetchingStore

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future


async def test_a_block_that_is_asked_for_while_the_store_is_closed_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = asyncio.run_coroutine_threadsafe
    store = _FetchingStore(MemoryBlockStore(), lambda cid: asyncio.sleep(2))

    def begin_late(work: Coroutine[Any, Any, object], loop: asyncio.AbstractEventLoop) -> Future[object]:
        store.close()
        return begin(work, loop)

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", begin_late)
    with pytest.raises(StreamBroken):
        await asyncio.to_thread(store.get, Cid.of(RAW, b"missing"))
