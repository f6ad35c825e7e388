"""`scripts/demo` shows what it promises, with and without a Docker engine, and leaves nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.e2e.nodes import REPOSITORY, environment

if TYPE_CHECKING:
    from pathlib import Path

    import docker

# What `scripts/demo` calls once its environment is there.
DEMO = (sys.executable, str(REPOSITORY / "scripts" / "demo.d" / "demo.py"))
DEMO_SECONDS = 180.0
NO_ENGINE = "(no Docker engine answers here, so only WASM is shown)"


@dataclass(frozen=True, slots=True)
class Shown:
    """What one run printed, its exit code, and what was there after it."""

    exit_code: int
    text: str
    left_running: list[list[str]]
    left_files: list[Path]

    def jobs(self) -> list[str]:
        """The part of the text that each job printed."""
        return re.split(r"^\$ bacalhau (?:wasm|docker) run .*$", self.text, flags=re.MULTILINE)[1:]


def run_demo(folder: Path, **variables: str) -> Shown:
    """Runs the demonstration with its temporary files in `folder`, by which its nodes are known."""
    process = subprocess.Popen(
        DEMO,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(TMPDIR=str(folder), **variables),
    )
    try:
        text, _ = process.communicate(timeout=DEMO_SECONDS)
        left = [node.info["cmdline"] for node in nodes_below(folder)]
    finally:
        process.kill()
        process.wait()
        for node in nodes_below(folder):
            node.kill()
    return Shown(process.returncode, text, left, list(folder.iterdir()))


def nodes_below(folder: Path) -> list[psutil.Process]:
    """The processes that were started with a place in the folder."""
    found = psutil.process_iter(["cmdline"])
    return [
        process for process in found if any(str(folder) in word for word in process.info["cmdline"] or ())
    ]


def check_job(text: str) -> None:
    """Two nodes bid, the third declines, the cheaper one wins, and the job has a price and a result."""
    bids = {
        node: Decimal(price) for node, price in re.findall(r"^bid: (\w+) asks ([\d.]+) credits$", text, re.M)
    }
    assert len(bids) == 2, text
    declined = re.findall(r"^declined: (\w+): this node is too small: .* \(INFEASIBLE\)$", text, re.M)
    assert len(declined) == 1, text
    assert declined[0] not in bids
    (won,) = re.findall(r"^winner: (\w+) for ([\d.]+) credits$", text, re.M)
    cheapest = min(bids, key=lambda node: bids[node])
    assert (won[0], Decimal(won[1])) == (cheapest, bids[cheapest])
    (price,) = re.findall(r"^price ([\d.]+) credits$", text, re.M)
    assert 0 < Decimal(price) <= bids[cheapest]
    assert len(re.findall(r"^result Qm\w{44}$", text, re.M)) == 1, text


def check_end(shown: Shown) -> None:
    assert shown.exit_code == 0, shown.text
    assert shown.text.endswith("nothing is left running.\n"), shown.text
    assert shown.left_running == []
    assert shown.left_files == []


@pytest.mark.timeout(2 * DEMO_SECONDS)
def test_the_demo_shows_a_job_of_each_engine_with_its_bids_price_and_result(
    docker_engine: docker.DockerClient, tmp_path: Path
) -> None:
    shown = run_demo(tmp_path)
    check_end(shown)
    wasm, container = shown.jobs()
    check_job(wasm)
    check_job(container)
    assert "outputs/copy.txt: Bacalhau, dried and salted cod, …" in wasm
    assert "outputs/sorted.txt: Bacalhau, dried and salted cod, …" in container
    assert NO_ENGINE not in shown.text


@pytest.mark.timeout(2 * DEMO_SECONDS)
def test_the_demo_says_that_no_docker_engine_answers_and_shows_wasm_alone(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    shown = run_demo(folder, DOCKER_HOST=f"unix://{tmp_path}/nothing.sock")
    check_end(shown)
    assert shown.text.splitlines().count(NO_ENGINE) == 1
    (wasm,) = shown.jobs()
    check_job(wasm)
