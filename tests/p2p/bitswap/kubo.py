"""A Kubo daemon with a repository of its own, on ports of 127.0.0.1 that are free."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.model.cid import Cid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class KuboDaemon:
    """A running daemon. `address` is where it listens for libp2p, with its peer id."""

    binary: Path
    repository: Path
    process: subprocess.Popen[str]
    address: str = ""
    peer_id: str = ""

    def run(self, *arguments: str | Path) -> bytes:
        return _run(self.binary, self.repository, *arguments)

    def blocks(self) -> set[bytes]:
        """The multihashes of the blocks in its store."""
        return {Cid.parse(cid).multihash for cid in self.run("refs", "local").decode().split()}

    def received(self) -> int:
        """How many blocks came to it by Bitswap."""
        return int(json.loads(self.run("bitswap", "stat", "--enc=json"))["BlocksReceived"])


def _run(binary: Path, repository: Path, *arguments: str | Path) -> bytes:
    command = [str(binary), *map(str, arguments)]
    environment = {**os.environ, "IPFS_PATH": str(repository)}
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
    return done.stdout


@contextmanager
def running_kubo(binary: Path, folder: Path) -> Iterator[KuboDaemon]:
    repository = folder / "kubo"
    _run(binary, repository, "init", "--profile=test")
    for key, value in (("Swarm.DisableNatPortMap", "true"), ("Swarm.RelayClient.Enabled", "false")):
        _run(binary, repository, "config", "--json", key, value)
    process = subprocess.Popen(
        [binary, "daemon"],
        env={**os.environ, "IPFS_PATH": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if "Daemon is ready" in line:
                break
        else:
            raise AssertionError("Kubo did not start:\n" + "".join(said))
        daemon = KuboDaemon(binary, repository, process)
        known = json.loads(daemon.run("id"))
        daemon.peer_id = known["ID"]
        daemon.address = next(address for address in known["Addresses"] if "/ip4/127.0.0.1/tcp/" in address)
        yield daemon
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()
