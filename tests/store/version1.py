"""What the committed file of version 1 holds. It was made by this program when version 1 was the newest:

    python -m tests.store.version1 FILE

It is never made again: the tests open what that version wrote. `histories` must go on giving the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bacalhau.store.store import Store
from tests.store.histories import History, history

VERSION_1_FILE = Path(__file__).parent / "data" / "version1.db"


def written_by_version_1() -> tuple[History, History]:
    """A job that completed, and one that runs."""
    return history("done", 1_000), history("running", 2_000)


def main(path: Path) -> None:
    store = Store(path)
    done, running = written_by_version_1()
    store.commit([*done.writes(), *running.writes(3)], meta={"clock_us": "1003"})
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
