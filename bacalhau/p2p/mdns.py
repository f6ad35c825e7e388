"""Nodes of the local network, by multicast DNS: each answers for a service of its own name, which lists its multiaddrs.

The layout is that of the libp2p specification (discovery/mdns.md: TXT attributes `dnsaddr=…/p2p/ID`), under a service
name of this network's own. py-libp2p's own discovery announces 0.0.0.0 as it stands (discovery/mdns/broadcaster.py:83)
and tells every host of the process (discovery/events/peerDiscovery.py:40), so only zeroconf is used.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

import trio
from zeroconf import ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from bacalhau.p2p.port import CannotConnect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libp2p.abc import IHost

log = logging.getLogger(__name__)

SERVICE = "_bacalhau._udp.local."
ADDRESSES_MAX = 16


class Mdns:
    """A service of the host; see the module. `announced` gives the multiaddrs to announce, without the peer id;
    `found` hears in trio of each address of others, which ends on its peer id."""

    def __init__(
        self, node_id: str, announced: Callable[[IHost], Sequence[str]], found: Callable[[str], None]
    ) -> None:
        self._node_id = node_id
        self._announced = announced
        self._found = found

    async def run(self, host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            zeroconf = await trio.to_thread.run_sync(Zeroconf)
        except OSError as error:
            log.error("mDNS does not run, for there is no network to multicast on: %s", error)
            task_status.started()
            return
        token = trio.lowlevel.current_trio_token()
        try:
            info = self._service(self._announced(host))
            await trio.to_thread.run_sync(zeroconf.register_service, info)
            ears = _Ears(lambda address: token.run_sync_soon(self._heard, address), info.name)
            ServiceBrowser(zeroconf, SERVICE, ears)
            task_status.started()
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(zeroconf.close)

    def _service(self, addresses: Sequence[str]) -> ServiceInfo:
        name = secrets.token_hex(20)  # says nothing of the node, as the specification wants it
        complete = [f"{address}/p2p/{self._node_id}" for address in addresses[:ADDRESSES_MAX]]
        properties = {"dnsaddr" if not n else f"dnsaddr{n}": text for n, text in enumerate(complete)}
        return ServiceInfo(
            SERVICE, f"{name}.{SERVICE}", port=0, properties=properties, server=f"{name}.local."
        )

    def _heard(self, address: str) -> None:
        try:
            self._found(address)
        except CannotConnect as failure:
            log.info("mDNS: %s", failure)


class _Ears(ServiceListener):
    """Lives in zeroconf's thread."""

    def __init__(self, heard: Callable[[str], None], own_name: str) -> None:
        self._heard = heard
        self._own_name = own_name

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        if name == self._own_name:
            return
        info = zc.get_service_info(type_, name)
        for key, value in list((info.properties if info is not None else {}).items())[:ADDRESSES_MAX]:
            if key.startswith(b"dnsaddr") and value:
                self._heard(value.decode("ascii", errors="replace"))

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.add_service(zc, type_, name)

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """A node that goes says so by other ways, too."""
