"""Hosts for tests, on free ports of the loopback interface, and always stopped."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bacalhau.p2p.host import Host
from bacalhau.wire.identity import NodeKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bacalhau.p2p.host import Service

LOOPBACK = "/ip4/127.0.0.1/tcp/0"


@contextlib.asynccontextmanager
async def running(
    *services: Service, key: NodeKey | None = None, listen: str = LOOPBACK
) -> AsyncIterator[Host]:
    host = Host(key or NodeKey.generate(), (listen,), services)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()
