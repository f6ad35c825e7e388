"""Whether and how libp2p runs in this node. Imports it only where it does."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from typing import TYPE_CHECKING

from bacalhau.node.startup import CannotStart
from bacalhau.p2p.port import CannotListen as CannotListenP2p
from bacalhau.rpc.servers import CannotListen

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.config import Settings
    from bacalhau.ipfs.blockstore import ServedStore
    from bacalhau.model.cid import Cid
    from bacalhau.p2p.port import Listener, Network
    from bacalhau.wire.identity import NodeKey

P2P_MISSING = (
    "libp2p is not installed, so nodes join by HOST:PORT only; it needs a C compiler and the GMP headers: "
    "pip install 'bacalhau[p2p]'"
)


def p2p_installed() -> bool:
    return importlib.util.find_spec("libp2p") is not None


async def start_network(
    settings: Settings,
    key: NodeKey,
    listener: Listener,
    now_us: Callable[[], int],
    peer_address: str,
    blocks: ServedStore,
    may_serve: Callable[[Cid], bool],
) -> Network | None:
    """libp2p, listening, or None where the settings name no address for it. `peer_address` is the peer API's. Raises
    CannotStart and CannotListen."""
    if not settings.p2p_listen:
        why = "it was turned off" if p2p_installed() else P2P_MISSING
        multiaddr = next((address for address in settings.peers if address.startswith("/")), None)
        if multiaddr is not None:
            raise CannotStart(f"{multiaddr} can only be joined over libp2p: {why}")
        if settings.mdns:
            raise CannotStart(f"--mdns finds nodes over libp2p only: {why}")
        return None
    if not p2p_installed():
        raise CannotStart(P2P_MISSING)
    # It takes a second, in which the node already answers.
    module = await asyncio.to_thread(importlib.import_module, "bacalhau.p2p.network")
    host, _, port = peer_address.rpartition(":")
    if host in ("0.0.0.0", "[::]"):
        host = "127.0.0.1"
    network = module.StrangerNetwork(
        key,
        listener,
        now_us,
        blocks=blocks,
        may_serve=may_serve,
        listen=settings.p2p_listen,
        peer_api=(host.strip("[]"), int(port)),
        reachable=settings.advertised,
        mdns=settings.mdns,
        dht=settings.dht,
    )
    try:
        await network.start()
    except CannotListenP2p as error:
        raise CannotListen(f"{error}; choose another address with --p2p-listen") from error
    return network  # type: ignore[no-any-return]  # by its module's name, mypy cannot know it
