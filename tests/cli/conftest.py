"""A scripted node, and commands run against it in processes of their own, as users run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.scripted_node import Script, ScriptedNode

REPOSITORY = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def scripted() -> Iterator[ScriptedNode]:
    node = ScriptedNode(Script())
    yield node
    node.stop()


def environment(port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BACALHAU_API")}
    return kept | {"BACALHAU_API_PORT": str(port), "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture
def bacalhau(scripted: ScriptedNode, tmp_path: Path) -> Command:
    """Runs one command line against the scripted node, in `tmp_path`."""

    def run(*words: str, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "bacalhau", *words],
            input=stdin,
            capture_output=True,
            timeout=30,
            check=False,
            cwd=tmp_path,
            env=environment(scripted.port) | variables,
        )

    return run


@pytest.fixture
def start(scripted: ScriptedNode, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command line that goes on; it is ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "bacalhau", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment(scripted.port),
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()
