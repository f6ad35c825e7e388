"""The embedded IPFS against Kubo on the same disk: 1 GiB in and out, and the memory that it takes.

Each round has fresh stores, for blocks that are there already are not written again. What is dirty is written out
before each measurement; nothing is dropped from the page cache, so that both read the file from memory, and both find
memory to write into.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from claims import CannotMeasure, Claim, Finding, Goal, Round
from memory import peak_kib
from nodes import COMMAND, ENVIRONMENT, last_line, running_node, stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_MIB = 1024 * 1024
_START_S = 30
# More than either side writes.
_TOUCHED_SHARE = 1.5
_IMPORTER = Path(__file__).with_name("import_file.py")

IMPORTER = Claim("1 GiB in: importer alone", "`ipfs add`, no daemon", "MiB/s", Goal.AT_LEAST, 2)
ADD = Claim("1 GiB in: `bacalhau ipfs add`", "`ipfs add` to a daemon", "MiB/s", Goal.AT_LEAST, 1.2)
GET = Claim("1 GiB out: `bacalhau ipfs get`", "`ipfs get` from a daemon", "MiB/s", Goal.AT_LEAST, 1)
MEMORY = Claim("peak memory of the node, 1 GiB in and out", "", "MiB", Goal.AT_MOST, 150)
CLAIMS = (IMPORTER, ADD, GET, MEMORY)


def measure(folder: Path, *, quick: bool) -> Iterator[Finding]:
    """Raises CannotMeasure where Kubo is missing."""
    binary = os.environ.get("BACALHAU_KUBO") or shutil.which("ipfs")
    if not binary:
        raise CannotMeasure("Kubo is missing; set BACALHAU_KUBO to the path of its ipfs command")
    mebibytes = 128 if quick else 1024
    file = folder / "file"
    with file.open("wb") as out:
        for _ in range(mebibytes):
            out.write(os.urandom(_MIB))
    findings = {claim: Finding(claim) for claim in CLAIMS}
    if quick:
        for claim in CLAIMS:
            findings[claim].notes.append(f"measured with {mebibytes} MiB")
    for number in range(2 if quick else 5):
        measurement = _Measurement(binary, file, folder / "side", mebibytes, ours_first=number % 2 == 1)
        measurement.measure(findings)
    yield from findings.values()


class _Measurement:
    """One round. Sides of a pair are measured one after the other, and which comes first changes by round."""

    def __init__(self, binary: str, file: Path, place: Path, mebibytes: int, *, ours_first: bool) -> None:
        self._binary = binary
        self._file = file
        self._place = place
        self._mebibytes = mebibytes
        self._ours_first = ours_first
        self._roots: set[str] = set()
        self._peaks_kib: list[int] = []

    def measure(self, findings: dict[Claim, Finding]) -> None:
        ((ours, theirs),) = self._pair(self._import, self._kubo_add_alone)
        findings[IMPORTER].rounds.append(Round(ours, theirs))
        for claim, (ours, theirs) in zip(
            (ADD, GET), self._pair(self._through_node, self._through_kubo), strict=True
        ):
            findings[claim].rounds.append(Round(ours, theirs))
        importer_kib, node_kib = self._peaks_kib
        if not all(self._peaks_kib):
            findings[MEMORY].missing = "there is no /proc here"
            return
        findings[MEMORY].rounds.append(Round(node_kib / 1024))
        findings[MEMORY].notes = [f"the importer alone took {importer_kib / 1024:.0f} MiB"]

    def _pair(
        self, ours: Callable[[], Sequence[float]], theirs: Callable[[], Sequence[float]]
    ) -> list[tuple[float, float]]:
        """Rates of both, in MiB a second, of each thing that they do. Everything that a side has written goes away
        before the next one starts, which so finds the same memory and the same disk."""
        taken: dict[Callable[[], Sequence[float]], Sequence[float]] = {}
        for side in (ours, theirs) if self._ours_first else (theirs, ours):
            self._place.mkdir()
            taken[side] = side()
            shutil.rmtree(self._place)
        if len(self._roots) != 1:
            raise CannotMeasure(f"the CIDs differ: {sorted(self._roots)}")
        return [
            (self._mebibytes / here, self._mebibytes / there)
            for here, there in zip(taken[ours], taken[theirs], strict=True)
        ]

    def _import(self) -> tuple[float]:
        command = [sys.executable, str(_IMPORTER), str(self._place / "blocks"), str(self._file)]
        taken_s, printed = self._time(command, ENVIRONMENT)
        root, peak = printed.split()
        self._roots.add(root)
        self._peaks_kib.append(int(peak))
        return (taken_s,)

    def _kubo_add_alone(self) -> tuple[float]:
        return (self._add([self._binary, "add", "-Q", str(self._file)], self._kubo_repository()),)

    def _through_node(self) -> tuple[float, float]:
        got = self._place / "got"
        with running_node(self._place / "node") as node:
            added_s = self._add([*COMMAND, "ipfs", "add", "-Q", str(self._file)], node.environment)
            (root,) = self._roots
            got_s, _ = self._time([*COMMAND, "ipfs", "get", "-q", "-o", str(got), root], node.environment)
            self._peaks_kib.append(peak_kib(node.process_id))
        self._check(got)
        return added_s, got_s

    def _through_kubo(self) -> tuple[float, float]:
        got = self._place / "got"
        with self._kubo_daemon() as kubo:
            added_s = self._add([self._binary, "add", "-Q", str(self._file)], kubo)
            (root,) = self._roots
            got_s, _ = self._time([self._binary, "get", "--progress=false", "-o", str(got), root], kubo)
        self._check(got)
        return added_s, got_s

    def _check(self, got: Path) -> None:
        if got.stat().st_size != self._file.stat().st_size:
            raise CannotMeasure("what came out is not what went in")

    def _kubo_repository(self) -> dict[str, str]:
        """A fresh one that reaches nobody, as the environment that names it."""
        environment = ENVIRONMENT | {"IPFS_PATH": str(self._place / "kubo")}
        self._output([self._binary, "init", "--profile=test"], environment)
        return environment

    @contextmanager
    def _kubo_daemon(self) -> Iterator[dict[str, str]]:
        environment = self._kubo_repository()
        log = self._place / "kubo.log"
        with log.open("wb") as output:
            daemon = subprocess.Popen(
                [self._binary, "daemon", "--offline"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            deadline = time.monotonic() + _START_S
            while "Daemon is ready" not in log.read_text(errors="replace"):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise CannotMeasure(f"Kubo's daemon did not start: {last_line(log)}")
                time.sleep(0.05)
            yield environment
        finally:
            stop(daemon)

    def _add(self, command: list[str], environment: dict[str, str]) -> float:
        """Seconds; the CID that the command prints is kept, to be compared."""
        taken_s, printed = self._time(command, environment)
        self._roots.add(printed.strip())
        return taken_s

    def _time(self, command: list[str], environment: dict[str, str]) -> tuple[float, str]:
        """Seconds that the command takes, and what it prints."""
        os.sync()
        self._touch_memory()
        start = time.perf_counter()
        printed = self._output(command, environment)
        return time.perf_counter() - start, printed

    def _touch_memory(self) -> None:
        """Fill some page cache and let go of it: it is taken first when somebody writes.

        The host of a virtual machine takes memory back that was free for some seconds. Getting it again makes a write
        up to five times as slow, for whichever side comes upon it.
        """
        touched = self._file.with_name("touched")
        zeros = bytes(_MIB)
        with touched.open("wb") as out:
            for _ in range(int(self._mebibytes * _TOUCHED_SHARE)):
                out.write(zeros)
        touched.unlink()

    def _output(self, command: list[str], environment: dict[str, str]) -> str:
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if finished.returncode:
            reason = finished.stderr.strip().splitlines() or ["it said nothing"]
            raise CannotMeasure(f"{Path(command[0]).name} failed: {reason[-1]}")
        return finished.stdout
