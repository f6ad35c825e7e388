"""Run as a program: commits one history after the other to a store, and says so after each commit.

python -m tests.store.writer FILE NAME COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path

from bacalhau.store.store import Store
from tests.store.histories import history


def main(path: Path, name: str, count: int) -> None:
    store = Store(path)
    print("open", flush=True)
    for number in range(count):
        for step, writes in enumerate(history(f"{name}-{number}", number).steps, start=1):
            store.commit(writes, meta={f"last-{name}": f"{number} {step}"})
            print(number, step, flush=True)
    store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
