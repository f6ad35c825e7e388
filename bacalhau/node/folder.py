"""The data folder of a node: taken for itself, and what is in it opened."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.ipfs.errors import StoreFull
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.ipfs.pins import Pins
from bacalhau.node.startup import CannotStart
from bacalhau.rpc.tls import Certificate, load_or_make
from bacalhau.store.errors import explained
from bacalhau.store.store import Store
from bacalhau.wire.identity import NodeKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AsyncExitStack
    from pathlib import Path

    from bacalhau.config import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DataFolder:
    """What a node has in its folder."""

    key: NodeKey
    certificate: Certificate
    store: Store
    blocks: PackBlockStore
    pins: Pins


def open_folder(settings: Settings, stack: AsyncExitStack) -> DataFolder:
    """Opens it, or makes what is not there yet; `stack` closes it. Raises CannotStart, InvalidKey, StoreError."""
    path = settings.data_dir
    lock_folder(path, stack)
    key = load_key(settings)
    certificate = load_or_make(path)
    store = Store(path / "journal.sqlite")
    stack.callback(store.close)
    with opening(path / "blocks" / "blocks.sqlite"):
        blocks = PackBlockStore(path / "blocks", reserve_bytes=settings.disk_reserve_bytes)
    stack.callback(blocks.close)
    take_up_blocks(store, blocks)
    with opening(path / "pins.sqlite"):
        pins = Pins(path / "pins.sqlite")
    stack.callback(pins.close)
    return DataFolder(key, certificate, store, blocks, pins)


def lock_folder(folder: Path, stack: AsyncExitStack) -> None:
    """One node a data folder: two would sign with one key and write one journal."""
    try:
        # It holds a key, and what jobs read and wrote. One that is there is its owner's: it may be /tmp.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (mode := stat.S_IMODE(folder.stat().st_mode)) & 0o022:
            log.warning(
                "others can write in the data folder %s (mode %04o): run chmod 700 %s", folder, mode, folder
            )
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"the data folder {folder} cannot be used: {error.strerror}") from error
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise CannotStart(
            f"another node runs on {folder}: stop it, or give this one its own with --data-dir"
        ) from error


def load_key(settings: Settings) -> NodeKey:
    """The key of the data folder, made or imported where there is none. Raises InvalidKey, too."""
    path = settings.data_dir / "node.key"
    if settings.import_key is None:
        return NodeKey.load_or_create(path)
    try:
        imported = NodeKey.from_foreign(settings.import_key.read_text(encoding="utf-8"))
    except OSError as error:
        raise CannotStart(f"the key in {settings.import_key} cannot be read: {error.strerror}") from error
    except ValueError as error:  # InvalidKey, or not UTF-8
        raise CannotStart(f"{settings.import_key} holds no key to import: {error}") from error
    with contextlib.suppress(FileExistsError):
        imported.save(path)
    key = NodeKey.load(path)
    if key.node_id != imported.node_id:
        raise CannotStart(
            f"{settings.data_dir} is the folder of {key.node_id} already, whose key is never replaced: "
            f"choose another with --data-dir for {imported.node_id}"
        )
    return key


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    """Around the opening of a database of the node's folder. Raises StoreError, which says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise explained(error, path) from error


def take_up_blocks(journal: Store, blocks: PackBlockStore) -> None:
    """Stores the small results that an earlier life of the node had in the journal alone when it died."""
    kept = journal.small_blocks()
    if not kept:
        return
    try:
        blocks.put_many(kept, reserved=True)
    except StoreFull as error:
        raise CannotStart(f"results of jobs that have ended cannot be stored: {error}") from error
    journal.stage((), forget_blocks=True)
    journal.commit_staged()
