"""What a node needs before it can start, beside its folder: the files that its settings name, its Kubo.

Each function raises CannotStart.
"""

from __future__ import annotations

import logging
import resource
import ssl
import stat
from typing import TYPE_CHECKING

from bacalhau.ipfs.kubo_rpc import InvalidAddress, KuboRpc, PackageMissing
from bacalhau.node.kubo import Kubo
from bacalhau.node.trace import Trace

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from bacalhau.config import Settings
    from bacalhau.ipfs.blockstore import ServedStore


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


def open_trace(settings: Settings, node_id: str, stack: AsyncExitStack) -> Trace | None:
    if settings.trace is None:
        return None
    try:
        trace = Trace(settings.trace, node_id)
    except OSError as error:
        raise CannotStart(f"the trace {settings.trace} cannot be written: {error.strerror}") from error
    stack.callback(trace.close)
    return trace


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


async def connect_kubo(
    settings: Settings, buffer: ServedStore, node_id: str, stack: AsyncExitStack
) -> Kubo | None:
    """The Kubo that keeps the content, whether it answers or not; None where the node keeps it itself."""
    if settings.ipfs_api is None:
        return None
    try:
        kubo = Kubo(KuboRpc(settings.ipfs_api), buffer, node_id)
    except (PackageMissing, InvalidAddress) as error:
        raise CannotStart(str(error)) from error
    stack.push_async_callback(kubo.close)
    await kubo.check()
    return kubo
