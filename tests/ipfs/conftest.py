"""What the tests of the embedded IPFS share: stores, a Kubo repository, and a folder of all shapes."""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs.blockstore import BlockStore, CollectableStore, MemoryBlockStore
from bacalhau.ipfs.kubo_rpc import KuboRpc
from bacalhau.ipfs.kubo_store import KuboBlockStore
from bacalhau.ipfs.packstore import PackBlockStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.kubo import KuboDaemon


@dataclass(frozen=True)
class KuboRepository:
    """Kubo with a repository of its own, never online."""

    binary: Path
    directory: Path

    def run(self, *arguments: str | Path, stdin: bytes | None = None) -> bytes:
        finished = subprocess.run(
            [self.binary, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            env={**os.environ, "IPFS_PATH": str(self.directory)},
            check=True,
            timeout=60,
        )
        return finished.stdout


@pytest.fixture(scope="session")
def kubo_repository(kubo: Path, tmp_path_factory: pytest.TempPathFactory) -> KuboRepository:
    repository = KuboRepository(kubo, tmp_path_factory.mktemp("kubo") / "repository")
    repository.run("init", "--profile=test")
    return repository


@pytest.fixture
def pack_store(tmp_path: Path) -> Iterator[PackBlockStore]:
    store = PackBlockStore(tmp_path / "blocks")
    yield store
    store.close()


@pytest.fixture(params=["memory", "pack"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CollectableStore]:
    """Each test that takes this runs on both embedded stores."""
    made: CollectableStore = (
        MemoryBlockStore() if request.param == "memory" else PackBlockStore(tmp_path / "blocks")
    )
    yield made
    made.close()


@pytest.fixture
def kubo_rpc(kubo_daemon: KuboDaemon) -> Iterator[KuboRpc]:
    """An empty Kubo: what a test leaves without a pin is deleted."""
    rpc = KuboRpc(kubo_daemon.url)
    yield rpc
    rpc.collect_garbage()
    rpc.close()


@pytest.fixture(params=["memory", "pack", "kubo"])
def any_store(request: pytest.FixtureRequest) -> BlockStore:
    """Each test that takes this runs on both embedded stores and on Kubo."""
    if request.param == "memory":
        return MemoryBlockStore()
    if request.param == "pack":
        pack_store: PackBlockStore = request.getfixturevalue("pack_store")
        return pack_store
    return KuboBlockStore(request.getfixturevalue("kubo_rpc"))


def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def make_tree(folder: Path) -> None:
    """Files of telling sizes, folders in folders, hidden and unicode names, symlinks, an empty folder."""
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "empty folder").mkdir()
    (folder / "empty").write_bytes(b"")
    (folder / "héllo-世界").write_text("unicode\n")
    (folder / ".hidden").write_text("hidden\n")
    (folder / "deep" / "chunks").write_bytes(random_bytes(600_000))
    (folder / "deep" / "er" / "one").write_bytes(b"1")
    (folder / "deep" / "er" / "up").symlink_to("../chunks")
    (folder / "dangling").symlink_to("nowhere")
