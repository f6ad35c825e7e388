"""What a node needs before it can start: its folder to itself, the files that its settings name, its Kubo.

Each function raises CannotStart.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import resource
import sqlite3
import ssl
import stat
from typing import TYPE_CHECKING

from bacalhau.ipfs.errors import StoreFull
from bacalhau.ipfs.kubo_rpc import InvalidAddress, KuboRpc, PackageMissing
from bacalhau.node.kubo import Kubo
from bacalhau.node.trace import Trace
from bacalhau.store.errors import explained
from bacalhau.wire.identity import NodeKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AsyncExitStack
    from pathlib import Path

    from bacalhau.config import Settings
    from bacalhau.ipfs.blockstore import ServedStore
    from bacalhau.ipfs.packstore import PackBlockStore
    from bacalhau.store.store import Store


log = logging.getLogger(__name__)


class CannotStart(Exception):
    """The node cannot start as it is set up; the message says what to do."""


OPEN_FILES_MAX = 65_536
"""As many as a node opens at the very most; more would make programs slow that close all that they might have open."""


def allow_open_files() -> None:
    """Lets this process open as many files as it may: each connection is one, and the usual 1024 are soon used up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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


def open_trace(settings: Settings, node_id: str) -> Trace | None:
    if settings.trace is None:
        return None
    try:
        return Trace(settings.trace, node_id)
    except OSError as error:
        raise CannotStart(f"the trace {settings.trace} cannot be written: {error.strerror}") from error


def read_token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CannotStart(f"the token file {path} cannot be read: {error.strerror}") from error
    if len(token) < 16 or not token.isascii() or not token.isprintable():
        raise CannotStart(f"the token in {path} must be at least 16 printable ASCII characters")
    _warn_of_readers(path)
    return token


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    """Around the opening of a database of the node's folder. Raises StoreError, which says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise explained(error, path) from error


def read_tls(settings: Settings) -> tuple[bytes, bytes] | None:
    if settings.tls_cert is None and settings.tls_key is None:
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        raise CannotStart("TLS needs a certificate and its key: give both --tls-cert and --tls-key")
    try:
        pair = settings.tls_cert.read_bytes(), settings.tls_key.read_bytes()
    except OSError as error:
        raise CannotStart(f"{error.filename} cannot be read: {error.strerror}") from error
    try:
        # gRPC would say no more than that it cannot listen. No password: there is nobody to ask for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert, settings.tls_key, password=""
        )
    except (ssl.SSLError, ValueError) as error:
        raise CannotStart(
            f"{settings.tls_cert} and {settings.tls_key} are no certificate (PEM) and its key, without a password: "
            f"{error}"
        ) from error
    _warn_of_readers(settings.tls_key)
    return pair


def _warn_of_readers(path: Path) -> None:
    """A word only: where a group of users or a container's user is to read a secret is the operator's to know."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        log.warning("others can read the secret in %s (mode %04o): run chmod 600 %s", path, mode, path)


async def connect_kubo(settings: Settings, buffer: ServedStore, node_id: str) -> Kubo | None:
    """The Kubo that keeps the content, whether it answers or not; None where the node keeps it itself."""
    if settings.ipfs_api is None:
        return None
    try:
        kubo = Kubo(KuboRpc(settings.ipfs_api), buffer, node_id)
    except (PackageMissing, InvalidAddress) as error:
        raise CannotStart(str(error)) from error
    await kubo.check()
    return kubo


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
