"""A Kubo daemon of a test's own: on 127.0.0.1 only, started, killed, restarted and always ended."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

START_SECONDS = 30.0
STOP_SECONDS = 20.0
LOOPBACK = "/ip4/127.0.0.1/tcp/"


class KuboDaemon:
    """`ipfs daemon` with a repository below `folder`. After the first start its RPC API stays at `url`."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary = binary
        self._repository = folder / "repository"
        self._log = folder / "kubo.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.run("init", "--profile=test")
        self.run("config", "Addresses.API", LOOPBACK + "0")
        self.run("config", "Addresses.Gateway", LOOPBACK + "0")
        self.run("config", "--json", "Addresses.Swarm", f'["{LOOPBACK}0"]')

    def run(self, *words: str | Path, stdin: bytes | None = None) -> bytes:
        """One command of `ipfs`, which the daemon does where it runs; what it prints."""
        done = subprocess.run(
            [self._binary, *map(str, words)],
            input=stdin,
            capture_output=True,
            env=self._environment(),
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr.decode(errors="replace"))
        return done.stdout

    def start(self) -> KuboDaemon:
        """Starts it, and waits until it is ready."""
        api = self._repository / "api"
        api.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self._binary, "daemon"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
            )
        deadline = time.monotonic() + START_SECONDS
        while b"Daemon is ready" not in self._log.read_bytes():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)
        if not self.url:
            port = api.read_text().strip().removeprefix(LOOPBACK)
            self.url = f"http://127.0.0.1:{port}"
            self.run("config", "Addresses.API", LOOPBACK + port)
        return self

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def connect(self, other: KuboDaemon) -> None:
        """Makes the other one a peer of this one."""
        address = other.run("id", "--format=<addrs>").decode().split()[0]
        self.run("swarm", "connect", address)

    def has(self, cid: str) -> bool:
        """Whether the block is on its disk."""
        done = subprocess.run(
            [self._binary, "block", "stat", "--offline", cid],
            capture_output=True,
            env=self._environment(),
            timeout=60,
            check=False,
        )
        return done.returncode == 0

    def pins(self) -> dict[str, str]:
        """Its recursive pins: names by CID."""
        found = {}
        for line in self.run("pin", "ls", "--type=recursive", "--names").decode().splitlines():
            cid, _, name = line.partition(" recursive")
            found[cid] = name.strip()
        return found

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "IPFS_PATH": str(self._repository)}


@pytest.fixture
def make_kubo(kubo: Path, tmp_path: Path) -> Iterator[Callable[[], KuboDaemon]]:
    """Makes daemons, which are running; for tests that kill or fill theirs."""
    made: list[KuboDaemon] = []

    def make() -> KuboDaemon:
        folder = tmp_path / f"kubo-{len(made)}"
        folder.mkdir()
        daemon = KuboDaemon(kubo, folder)
        made.append(daemon)
        return daemon.start()

    yield make
    for daemon in made:
        daemon.end()


@pytest.fixture(scope="module")
def kubo_daemon(kubo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KuboDaemon]:
    """A daemon that a module's tests share."""
    daemon = KuboDaemon(kubo, tmp_path_factory.mktemp("kubo"))
    yield daemon.start()
    daemon.end()
