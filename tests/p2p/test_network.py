"""The network of strangers: records and offers reach everybody, also late, and it outlives its parts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.p2p.networks import members

if TYPE_CHECKING:
    from tests.p2p.networks import Member


async def until_heard(listener: Member, speaker: Member) -> None:
    """Speaks again and again, as nodes do, until it is heard."""
    for _ in range(100):
        if any(record.node_id == speaker.node_id for record in listener.ears.records):
            return
        speaker.publish_record()
        await asyncio.sleep(0.1)
    raise AssertionError(f"{speaker.node_id} was not heard")


async def test_a_record_reaches_members_that_are_not_connected_to_its_node() -> None:
    async with members(4) as (_, b, c, d):
        for listener in (c, d):
            await until_heard(listener, b)
