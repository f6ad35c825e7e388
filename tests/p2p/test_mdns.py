"""Nodes of a local network find each other: in a network namespace that the test makes, for multicast leaves it not."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.parts import missing_part

if TYPE_CHECKING:
    from collections.abc import Iterator


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@pytest.fixture
def local_network() -> Iterator[str]:
    """A namespace with one interface that does multicast, and no way out."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        missing_part("a network namespace", "run as root, with iproute2 installed")
    name = f"bacalhau-test-{secrets.token_hex(4)}"
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        missing_part("a network namespace", f"it cannot be made here: {error.stderr.decode().strip()}")
    try:
        inside = ("-n", name)
        ip(*inside, "link", "set", "lo", "up")
        ip(*inside, "link", "add", "lan", "type", "veth", "peer", "name", "other")
        ip(*inside, "address", "add", "10.77.0.1/24", "dev", "lan")
        ip(*inside, "link", "set", "lan", "up")
        ip(*inside, "link", "set", "other", "up")
        ip(*inside, "route", "add", "224.0.0.0/4", "dev", "lan")
        yield name
    finally:
        ip("netns", "delete", name)


def test_two_nodes_of_a_local_network_find_each_other_by_mdns(local_network: str) -> None:
    done = subprocess.run(
        ["ip", "netns", "exec", local_network, sys.executable, "-m", "tests.p2p.mdns_pair"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "met by mdns\n"), done.stderr
