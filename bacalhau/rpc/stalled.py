"""Ends a call whose caller does not take what it has asked for.

gRPC's servers have no way to: a status waits behind the message that nobody reads, and the call holds its memory and
its place among all calls until then. So the connection is shut.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from bacalhau.rpc.connections import shut

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


@contextlib.contextmanager
def taken_within(seconds: float, peer: str) -> Iterator[None]:
    """Around the `yield` of a message. `peer` is the caller's end as gRPC says it."""
    timer = asyncio.get_running_loop().call_later(seconds, _shut, peer)
    try:
        yield
    finally:
        timer.cancel()


def _shut(peer: str) -> None:
    log.info("%s does not take what it has asked for: its connection is shut", peer)
    shut(peer)
