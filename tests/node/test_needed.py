"""What the journal names while garbage is collected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.node.needed import Needed
from bacalhau.store.store import Store
from tests.store import histories as h

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.model.cid import Cid


def test_a_collection_hears_once_of_all_that_the_journal_comes_to_need_meanwhile(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db", durable=False)
    needed = Needed(lambda: store.needed_contents(0))
    named: set[Cid] = set()
    with needed.watched() as lately:
        for steps in range(1, len(h.history("a", 0).writes()) + 1):
            writes = h.history(f"job{steps}", 0, result=b"%d" % steps).writes(steps)
            store.commit(writes)
            for write in writes:
                needed.committed(write)
            new = lately()
            assert new
            named |= new
            assert named >= store.needed_contents(0)
            assert lately() == set()
    store.close()
