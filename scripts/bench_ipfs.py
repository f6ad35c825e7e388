#!/usr/bin/env python3
"""Measures the embedded IPFS against Kubo on the same disk, side by side: 1 GiB in, 1 GiB out, small folders.

Run from the root of the checkout; takes Kubo's `ipfs` from BACALHAU_KUBO or the path, and some
4 GiB of the disk that --directory names. Each pair is measured in turn, so that both meet the
same weather; the middle of the rounds counts, and the CPU time says what other work on the machine
blurs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.dag import iter_dag
from bacalhau.ipfs.exporter import export
from bacalhau.ipfs.fetch import fetch_dag
from bacalhau.ipfs.importer import import_files, import_path
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.model.cid import Cid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MIB = 1024 * 1024


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu_seconds() -> float:
    """What this process and the children it has waited for have used: says most on a busy machine."""
    return sum(os.times()[:4])


class Kubo:
    """Kubo's command with a fresh repository of its own, offline."""

    def __init__(self, binary: Path, repository: Path) -> None:
        self._binary = binary
        self._environment = {**os.environ, "IPFS_PATH": str(repository)}
        self.run("init", "--profile=test")

    def run(self, *arguments: str | Path) -> str:
        finished = subprocess.run(
            [self._binary, *map(str, arguments)], env=self._environment, capture_output=True, check=True
        )
        return finished.stdout.decode().strip()


def measure_round(binary: Path, file: Path, folder: Path, *, ours_first: bool) -> dict[str, float]:
    """One round of both: seconds by name. What is dirty is written out before each measurement."""
    kubo = Kubo(binary, folder / "kubo")
    store = PackBlockStore(folder / "blocks")
    roots: list[str] = []
    pairs: list[list[tuple[str, Callable[[], object]]]] = [
        [
            ("ipfs add", lambda: roots.append(kubo.run("add", "-Q", file))),
            ("import_path", lambda: roots.append(str(import_path(store, file).cid))),
        ],
        [
            ("ipfs get", lambda: kubo.run("get", "-o", folder / "got", roots[0])),
            ("export", lambda: export(store, Cid.parse(roots[0]), folder / "exported")),
        ],
    ]
    found: dict[str, float] = {}
    for pair in pairs:
        for name, work in reversed(pair) if ours_first else pair:
            os.sync()
            used = cpu_seconds()
            found[name] = seconds(work)
            found[name + " cpu"] = cpu_seconds() - used
    if len(set(roots)) != 1:
        sys.exit(f"the CIDs differ: {roots}")
    store.close()
    return found


class _Source:
    """Serves a store's blocks from memory."""

    name = "memory"

    def __init__(self, store: MemoryBlockStore) -> None:
        self._store = store

    async def get_blocks(self, cids, *, recursive):  # type: ignore[no-untyped-def]
        for root in cids:
            for found in iter_dag(self._store, root):
                yield found


def measure_small(folder: Path, count: int = 300) -> dict[str, float]:
    """Microseconds for the result folder of a job: stored, and fetched by another node."""
    store, remote = PackBlockStore(folder / "small"), MemoryBlockStore()

    def files(number: int) -> dict[str, bytes]:
        return {"stdout": b"output %d\n" % number, "stderr": b"", "exitCode": b"0"}

    synced = seconds(lambda: [import_files(store, files(number)) for number in range(count)])
    unsynced = seconds(
        lambda: [import_files(store, files(count + number), sync=False) for number in range(count)]
    )
    roots = [import_files(remote, files(2 * count + number)).cid for number in range(count)]

    async def fetch_all(into: MemoryBlockStore | PackBlockStore) -> None:
        for root in roots:
            await fetch_dag(root, into, [_Source(remote)])

    in_memory = MemoryBlockStore()
    fetched_to_memory = seconds(lambda: asyncio.run(fetch_all(in_memory)))
    fetched = seconds(lambda: asyncio.run(fetch_all(store)))
    store.close()
    return {
        "import_files, synced": synced / count * 1e6,
        "import_files": unsynced / count * 1e6,
        "fetch_dag to memory": fetched_to_memory / count * 1e6,
        "fetch_dag, synced": fetched / count * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the file")
    parser.add_argument(
        "--directory", type=Path, help="on the disk to measure (default: the temporary folder)"
    )
    arguments = parser.parse_args()
    binary = os.environ.get("BACALHAU_KUBO") or shutil.which("ipfs")
    if binary is None:
        sys.exit("Kubo is missing: install it, or set BACALHAU_KUBO to the path of its ipfs command")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        folder = Path(name)
        file = folder / "file"
        with file.open("wb") as out:
            for _ in range(arguments.mebibytes):
                out.write(os.urandom(MIB))
        rounds = []
        for number in range(arguments.rounds):
            place = folder / f"round {number}"
            place.mkdir()
            rounds.append(measure_round(Path(binary), file, place, ours_first=number % 2 == 1))
            shutil.rmtree(place)
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{arguments.mebibytes} MiB, {arguments.rounds} rounds")
        for ours, theirs in (("import_path", "ipfs add"), ("export", "ipfs get")):
            kinds: list[tuple[str, str, Callable[[Iterable[float]], float]]] = [
                ("wall, middle", "", statistics.median),
                ("wall, best", "", min),
                ("CPU, middle", " cpu", statistics.median),
            ]
            for kind, suffix, choose in kinds:
                mine = choose([found[ours + suffix] for found in rounds])
                other = choose([found[theirs + suffix] for found in rounds])
                print(f"{kind:13} {ours:12} {mine:5.2f} s  {theirs} {other:5.2f} s  ratio {other / mine:.2f}")
        print(f"peak memory of this process: {peak_mib:.0f} MiB")
        for what, microseconds in measure_small(folder).items():
            print(f"{what:22} {microseconds:7.0f} µs a folder of 4 blocks")


if __name__ == "__main__":
    main()
