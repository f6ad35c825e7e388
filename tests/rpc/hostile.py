"""A stranger on the peer API of a node, as a process: `python -m tests.rpc.hostile ATTACK HOST:PORT`.

It says so when its attack is at its height, and holds what it has until it is killed.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from typing import TYPE_CHECKING

from bacalhau.rpc import limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def silent(address: str) -> object:
    """Connections that say nothing, half as many again as a node takes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host, _, port = address.rpartition(":")
    return [socket.create_connection((host, int(port))) for _ in range(limits.PEER_CONNECTIONS_MAX * 3 // 2)]


ATTACKS: dict[str, Callable[[str], Awaitable[object]]] = {"silent": silent}


async def main(attack: str, address: str) -> None:
    held = await ATTACKS[attack](address)
    print("attacking", flush=True)
    await asyncio.Event().wait()
    del held


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
