"""Ids, of which many are drawn at once."""

from __future__ import annotations

import uuid

from bacalhau.node.node import draw_id


def test_ids_are_random_uuids_behind_their_prefix_and_none_comes_twice() -> None:
    drawn = [draw_id("j") for _ in range(1000)]
    assert len(set(drawn)) == 1000
    for id in drawn:
        prefix, _, rest = id.partition("-")
        parsed = uuid.UUID(rest)
        assert (prefix, str(parsed)) == ("j", rest)
        assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
