"""The embedded IPFS against Kubo on the same disk: 1 GiB in and out, and the memory that it takes.

Each round has fresh stores, for blocks that are there already are not written again. What is dirty is written out
before each measurement; nothing is dropped from the page cache, so that both read the file from memory.
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
    from collections.abc import Callable, Iterator

_MIB = 1024 * 1024
_START_S = 30
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
    for number in range(2 if quick else 3):
        place = folder / f"round-{number}"
        place.mkdir()
        measurement = _Measurement(binary, file, place, mebibytes, ours_first=number % 2 == 1)
        measurement.measure(findings)
        shutil.rmtree(place)
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
        self._importer_peak_kib = 0

    def measure(self, findings: dict[Claim, Finding]) -> None:
        findings[IMPORTER].rounds.append(self._pair(self._import, self._kubo_add_alone))
        for name in ("blocks", "kubo-alone"):
            shutil.rmtree(self._place / name)
        with running_node(self._place / "node") as node, self._kubo_daemon() as kubo:
            add = [*COMMAND, "ipfs", "add", "-Q", str(self._file)]
            kubo_add = [self._binary, "add", "-Q", str(self._file)]
            findings[ADD].rounds.append(
                self._pair(lambda: self._add(add, node.environment), lambda: self._add(kubo_add, kubo))
            )
            (root,) = self._roots
            got, kubo_got = str(self._place / "got"), str(self._place / "kubo-got")
            get = [*COMMAND, "ipfs", "get", "-q", "-o", got, root]
            kubo_get = [self._binary, "get", "--progress=false", "-o", kubo_got, root]
            findings[GET].rounds.append(
                self._pair(lambda: self._run(get, node.environment), lambda: self._run(kubo_get, kubo))
            )
            if Path(got).stat().st_size != self._file.stat().st_size:
                raise CannotMeasure("what came out is not what went in")
            peaks = peak_kib(node.process_id), self._importer_peak_kib
        if not all(peaks):
            findings[MEMORY].missing = "there is no /proc here"
            return
        findings[MEMORY].rounds.append(Round(peaks[0] / 1024))
        findings[MEMORY].notes = [f"the importer alone took {peaks[1] / 1024:.0f} MiB"]

    def _pair(self, ours: Callable[[], float], theirs: Callable[[], float]) -> Round:
        """Rates of both, in MiB a second."""
        taken: dict[Callable[[], float], float] = {}
        for side in (ours, theirs) if self._ours_first else (theirs, ours):
            os.sync()
            taken[side] = side()
        if len(self._roots) != 1:
            raise CannotMeasure(f"the CIDs differ: {sorted(self._roots)}")
        return Round(self._mebibytes / taken[ours], self._mebibytes / taken[theirs])

    def _import(self) -> float:
        command = [sys.executable, str(_IMPORTER), str(self._place / "blocks"), str(self._file)]
        start = time.perf_counter()
        root, peak = self._output(command, ENVIRONMENT).split()
        taken = time.perf_counter() - start
        self._roots.add(root)
        self._importer_peak_kib = int(peak)
        return taken

    def _kubo_add_alone(self) -> float:
        return self._add([self._binary, "add", "-Q", str(self._file)], self._kubo_repository("kubo-alone"))

    def _kubo_repository(self, name: str) -> dict[str, str]:
        """A fresh one that reaches nobody, as the environment that names it."""
        environment = ENVIRONMENT | {"IPFS_PATH": str(self._place / name)}
        self._run([self._binary, "init", "--profile=test"], environment)
        return environment

    @contextmanager
    def _kubo_daemon(self) -> Iterator[dict[str, str]]:
        environment = self._kubo_repository("kubo")
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
        start = time.perf_counter()
        printed = self._output(command, environment)
        taken = time.perf_counter() - start
        self._roots.add(printed.strip())
        return taken

    def _run(self, command: list[str], environment: dict[str, str]) -> float:
        start = time.perf_counter()
        self._output(command, environment)
        return time.perf_counter() - start

    def _output(self, command: list[str], environment: dict[str, str]) -> str:
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if finished.returncode:
            reason = finished.stderr.strip().splitlines() or ["it said nothing"]
            raise CannotMeasure(f"{Path(command[0]).name} failed: {reason[-1]}")
        return finished.stdout
