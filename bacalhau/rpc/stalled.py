"""Ends a call whose caller does not take what it has asked for.

gRPC's servers have no way to: a status waits behind the message that nobody reads, and the call holds its memory and
its place among all calls until then. So the connection is shut, below gRPC, which then ends all calls on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


@contextlib.contextmanager
def taken_within(seconds: float, peer: str) -> Iterator[None]:
    """Around the `yield` of a message. `peer` is the caller's end as gRPC says it: ipv4:ADDRESS:PORT."""
    timer = asyncio.get_running_loop().call_later(seconds, _shut, peer)
    try:
        yield
    finally:
        timer.cancel()


def _shut(peer: str) -> None:
    log.info("%s does not take what it has asked for: its connection is shut", peer)
    address, _, port = unquote(peer).partition(":")[2].rpartition(":")
    remote = address.strip("[]"), int(port)
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError, ValueError):  # no socket of IP, not connected, or closed meanwhile
            connection = socket.socket(fileno=int(name))
            try:
                host, remote_port, *_ = connection.getpeername()
                # gRPC listens by IPv6 also where its address is one of IPv4.
                if (host.removeprefix("::ffff:"), remote_port) == remote:
                    connection.shutdown(socket.SHUT_RDWR)
            finally:
                connection.detach()  # it is gRPC's to close
