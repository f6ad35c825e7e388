"""Which DAGs are kept, and the collection of everything else.

Owns recursive pins (in SQLite, they survive a restart) and holds (in memory, for a DAG in
use by a fetch, a job or an export). Collection is mark and sweep, safe beside imports and
fetches: blocks put within the grace stay, and pins and holds that come while it runs count.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs.blockstore import BlockStore, CollectableStore, wall_clock_us
from bacalhau.ipfs.dag import iter_cids
from bacalhau.ipfs.errors import InvalidBlock, UnsupportedDag
from bacalhau.ipfs.fulldisk import full_disk_is_store_full
from bacalhau.model.cid import Cid
from bacalhau.model.units import HOUR_US

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Set as AbstractSet
    from pathlib import Path

log = logging.getLogger(__name__)

DEFAULT_GRACE_US: Final = HOUR_US
_SWEEP_BATCH: Final = 500

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS pins (
    cid BLOB PRIMARY KEY,        -- binary form
    name TEXT NOT NULL,
    pinned_us INTEGER NOT NULL   -- microseconds since the epoch
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Pin:
    """A DAG that is kept. `name` is for people."""

    cid: Cid
    name: str
    pinned_us: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection deleted, and how many blocks pins and holds kept."""

    deleted_blocks: int
    deleted_bytes: int
    kept_blocks: int


class Pins:
    """The pins in the SQLite file `path`. Every method may be called from any thread."""

    def __init__(self, path: Path, *, clock_us: Callable[[], int] = wall_clock_us) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._clock_us = clock_us
        self._lock = threading.RLock()
        self._holds_lock = threading.Lock()
        """Of its own, and never held for long: holds are taken on the event loop."""
        self._holds: Counter[Cid] = Counter()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_SCHEMA)

    def add(self, cid: Cid, name: str = "") -> None:
        """Keep `cid` and all below it; whether that is here is not checked. Raises StoreFull."""
        with self._lock, full_disk_is_store_full(self._path):
            self._database.execute(
                "INSERT INTO pins (cid, name, pinned_us) VALUES (?, ?, ?) "
                "ON CONFLICT (cid) DO UPDATE SET name = excluded.name",
                (cid.raw, name, self._clock_us()),
            )

    def remove(self, cid: Cid) -> bool:
        """Let `cid` go; whether it was pinned. Raises StoreFull, for SQLite writes also what it deletes."""
        with self._lock, full_disk_is_store_full(self._path):
            return self._database.execute("DELETE FROM pins WHERE cid = ?", (cid.raw,)).rowcount > 0

    def __contains__(self, cid: Cid) -> bool:
        with self._lock:
            row = self._database.execute("SELECT 1 FROM pins WHERE cid = ?", (cid.raw,)).fetchone()
        return row is not None

    def all(self) -> list[Pin]:
        """All pins, oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT cid, name, pinned_us FROM pins ORDER BY pinned_us, cid"
            ).fetchall()
        return [Pin(Cid.from_raw(raw), name, pinned_us) for raw, name, pinned_us in rows]

    @contextlib.contextmanager
    def hold(self, cid: Cid) -> Iterator[None]:
        """Keep `cid` and what is there below it for as long as the context is open."""
        with self._holds_lock:
            self._holds[cid] += 1
        try:
            yield
        finally:
            with self._holds_lock:
                self._holds[cid] -= 1
                if not self._holds[cid]:
                    del self._holds[cid]

    @contextlib.contextmanager
    def frozen_roots(self, elsewhere: AbstractSet[Cid] = frozenset()) -> Iterator[set[Cid]]:
        """All pinned roots that are not kept `elsewhere`, and all held ones; none can be added until the context is
        left, which should be soon."""
        with self._lock:
            pinned = {pin.cid for pin in self.all()} - elsewhere
            with self._holds_lock:
                yield pinned | set(self._holds)

    def close(self) -> None:
        """Release the database."""
        with self._lock:
            self._database.close()


def garbage_collect(
    store: CollectableStore,
    pins: Pins,
    *,
    grace_us: int = DEFAULT_GRACE_US,
    clock_us: Callable[[], int] = wall_clock_us,
    also: Callable[[], Iterable[Cid]] = tuple,
    lately: Callable[[], Iterable[Cid]] = tuple,
    elsewhere: AbstractSet[Cid] = frozenset(),
) -> Collected:
    """Delete the blocks that no pin, hold or root in `also` reaches and that were not put within the last `grace_us`.

    An import must be pinned, or held, within the grace of its first block. `also` is asked once,
    `lately`, which must be quick, again and again for what has come to it, as pins are; what they name came from
    others, so that one which cannot be followed keeps what can be, and stops nothing.
    Roots that another store keeps, `elsewhere`, keep nothing here unless they are held.
    Raises UnsupportedDag where a pinned DAG cannot be followed; then nothing more is deleted.
    """
    untouched_since_us = clock_us() - grace_us
    mark = _Mark(store, elsewhere)
    with pins.frozen_roots(elsewhere) as roots:
        new_roots = roots
    mark.follow(new_roots)
    mark.follow_what_can_be(set(also()))
    blocks = size = 0
    candidates = itertools.filterfalse(mark.keys.__contains__, store.keys())
    while batch := list(itertools.islice(candidates, _SWEEP_BATCH)):
        deleted = None
        while deleted is None:
            # In this order: what a fetch held may be needed by whom it was fetched for before it is let go.
            with pins.frozen_roots(elsewhere) as roots:
                new_roots, new_also = roots - mark.roots, set(lately()) - mark.also
                if not new_roots and not new_also:
                    doomed = [key for key in batch if key not in mark.keys]
                    deleted = store.delete_many(doomed, untouched_since_us=untouched_since_us)
            # Nothing is deleted meanwhile, so that what is below them is still there.
            mark.follow(new_roots)
            mark.follow_what_can_be(new_also)
        blocks, size = blocks + deleted[0], size + deleted[1]
        time.sleep(0)  # let those wait for the pins have them
    return Collected(blocks, size, len(mark.keys))


class _Mark:
    """The blocks that are kept, by their multihashes. To follow a root can take long: it is done while nobody has to
    wait for it."""

    def __init__(self, store: BlockStore, elsewhere: AbstractSet[Cid]) -> None:
        self.keys: set[bytes] = set()
        self.roots: set[Cid] = set()
        """Pins and holds that were followed."""
        self.also = set(elsewhere)
        """Other roots that were, and those that keep nothing here."""
        self._store = store

    def follow(self, roots: set[Cid]) -> None:
        for root in roots:
            self._follow(root)
        self.roots |= roots

    def follow_what_can_be(self, roots: set[Cid]) -> None:
        for root in roots - self.also:
            try:
                self._follow(root)
            except (UnsupportedDag, InvalidBlock) as error:
                log.info("of %s only a part is kept: %s", root, error)
        self.also |= roots

    def _follow(self, root: Cid) -> None:
        self.keys.update(cid.multihash for cid, is_there in iter_cids(self._store, root) if is_there)
