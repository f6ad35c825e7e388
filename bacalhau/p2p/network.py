"""The network of strangers: the host and its services, put together, kept running, and told of to the node.

It is `port.Network`. Whatever goes wrong in libp2p ends at most its thread, which is started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
from typing import TYPE_CHECKING, Any

import ifaddr

from bacalhau.background import Background
from bacalhau.p2p.bitswap.exchange import Bitswap
from bacalhau.p2p.bitswap.source import BitswapExchange
from bacalhau.p2p.bridge import BridgeDown
from bacalhau.p2p.connector import Connector
from bacalhau.p2p.dht import Dht
from bacalhau.p2p.gossip import Gossip, Topic
from bacalhau.p2p.host import Host, id_of
from bacalhau.p2p.mdns import Mdns
from bacalhau.p2p.port import CannotConnect, CannotListen, Counts
from bacalhau.p2p.tunnel import Tunnels
from bacalhau.wire import broadcast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from libp2p.abc import IHost

    from bacalhau.ipfs.blockstore import ServedStore
    from bacalhau.model.cid import Cid
    from bacalhau.model.node import NodeRecord
    from bacalhau.p2p.host import Service
    from bacalhau.p2p.port import Listener
    from bacalhau.wire.envelope import SignedEnvelope
    from bacalhau.wire.identity import NodeKey

log = logging.getLogger(__name__)

RECORDS_TOPIC = "/bacalhau/records/1"
OFFERS_TOPIC = "/bacalhau/offers/1"
# A node publishes its record at each heartbeat and its offers five times a second at most.
RECORDS_PER_S, RECORDS_BURST = 5.0, 20
OFFERS_PER_S, OFFERS_BURST = 10.0, 30
OFFERS_INTERVAL_S = 0.2
"""Between two messages with offers: those that come meanwhile travel together."""
PROVIDE_INTERVAL_S = 0.2
"""What is provided meanwhile is told to libp2p together, beside the report of a job's result and not during it."""
RESTART_FIRST_S, RESTART_LAST_S = 1.0, 30.0


class StrangerNetwork:
    """See the module. Made by `start`."""

    def __init__(
        self,
        key: NodeKey,
        listener: Listener,
        now_us: Callable[[], int],
        *,
        blocks: ServedStore,
        may_serve: Callable[[Cid], bool],
        listen: Sequence[str],
        peer_api: tuple[str, int],
        reachable: bool = True,
        mdns: bool = False,
        dht: bool = False,
        services: Sequence[Service] = (),
    ) -> None:
        self.counts = Counts()
        self.addresses: tuple[str, ...] = ()
        self.gossip = Gossip(self._topics(now_us), self.counts)
        self.tunnels = Tunnels(peer_api)
        self.connector = Connector(key.node_id, self._met, reachable=reachable)
        self.dht = Dht(self._found_in_dht, serves=reachable) if dht else None
        found: list[Service] = [self.dht] if self.dht is not None else []
        if mdns:
            found.append(Mdns(key.node_id, _dialable_addresses, self._found_by_mdns))
        bitswap = Bitswap(blocks, may_serve=may_serve, routing=self.dht)
        self.host = Host(key, listen, (self.tunnels, self.gossip, bitswap, *found, *services, self.connector))
        self.exchange = BitswapExchange(self.host.bridge, bitswap)
        self.exchanged = bitswap.counters
        self._listener = listener
        self._offers: list[SignedEnvelope] = []
        self._offers_due: asyncio.TimerHandle | None = None
        self._offers_sent_s = 0.0
        self._provided: list[Cid] = []
        self._provided_due: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._background = Background()

    def _topics(self, now_us: Callable[[], int]) -> tuple[Topic, Topic]:
        return (
            Topic(
                RECORDS_TOPIC,
                "records",
                False,
                lambda data, publisher: broadcast.open_record(data, publisher, now_us=now_us()),
                lambda held: self._tell(self._record_gossiped, held),
                broadcast.RECORD_BYTES_MAX,
                RECORDS_PER_S,
                RECORDS_BURST,
            ),
            Topic(
                OFFERS_TOPIC,
                "offers",
                True,
                lambda data, publisher: broadcast.open_offers(data, publisher, now_us=now_us()),
                lambda held: self._tell(self._offers_gossiped, held),
                broadcast.OFFERS_BYTES_MAX,
                OFFERS_PER_S,
                OFFERS_BURST,
            ),
        )

    async def start(self) -> None:
        """Raises CannotListen."""
        await self._start_host()
        self._background.start("keeping libp2p running", self._keep_running())

    async def stop(self) -> None:
        for due in (self._offers_due, self._provided_due):
            if due is not None:
                due.cancel()
        await self._background.close()
        await self.host.stop()
        self.addresses = ()

    async def restart(self) -> None:
        """Another life of the host, while the node goes on."""
        await self.host.stop()
        await self._start_host()

    async def _start_host(self) -> None:
        await self.host.start()
        self.addresses = tuple(await self.host.bridge.call(_now(_dialable_addresses), self.host.ihost))

    async def _keep_running(self) -> None:
        """Starts the host anew when it has ended by itself."""
        wait_s = RESTART_FIRST_S
        while True:
            ended = self.host.bridge.ended
            await asyncio.wait((ended,))
            await asyncio.sleep(0)
            if self.host.stopped or self.host.bridge.ended is not ended:
                # Somebody restarts it.
                await asyncio.sleep(0.1)
                continue
            log.error(
                "libp2p has ended and is started anew: %s", ended.exception(), exc_info=ended.exception()
            )
            self.addresses = ()
            self.counts.restarts += 1
            await asyncio.sleep(wait_s)
            try:
                await self._start_host()
            except (CannotListen, BridgeDown) as failure:
                log.error("%s (tried again)", failure)
                wait_s = min(RESTART_LAST_S, 2 * wait_s)
            else:
                wait_s = RESTART_FIRST_S

    # --- port.Network ---

    async def connect(self, address: str) -> str:
        node_id = id_of(address)
        try:
            await self.host.bridge.call(_now(self.connector.keep), node_id, address)
            await self.host.bridge.call(self.connector.reach, node_id)
        except BridgeDown as down:
            raise CannotConnect("libp2p is down") from down
        return node_id

    async def reach(self, node_id: str) -> None:
        with contextlib.suppress(BridgeDown, CannotConnect):
            await self.host.bridge.call(self.connector.reach, node_id)

    async def tunnel(self, node_id: str) -> str:
        try:
            await self.host.bridge.call(self.connector.reach, node_id)
            return await self.host.bridge.call(self.tunnels.open, node_id)
        except BridgeDown as down:
            raise CannotConnect("libp2p is down") from down

    def publish_record(self, envelope: SignedEnvelope) -> None:
        data = broadcast.encode_record(envelope)
        if len(data) <= broadcast.RECORD_BYTES_MAX:
            self._call(self.gossip.publish, RECORDS_TOPIC, data)

    def publish_offers(self, offers: Sequence[SignedEnvelope]) -> None:
        self._offers += offers
        if self._offers_due is None:
            due = max(self._loop.time(), self._offers_sent_s + OFFERS_INTERVAL_S)
            self._offers_due = self._loop.call_at(due, self._publish_waiting)

    def _publish_waiting(self) -> None:
        self._offers_due = None
        self._offers_sent_s = self._loop.time()
        offers, self._offers = self._offers, []
        messages = list(broadcast.encode_offers(offers))
        for data in messages:
            self._call(self.gossip.publish, OFFERS_TOPIC, data)
        # More than one message: whoever counts them would drop the next.
        self._offers_sent_s += OFFERS_INTERVAL_S * max(0, len(messages) - 1)

    def learned(self, record: NodeRecord) -> None:
        add = functools.partial(self.connector.add, calls=record.requester)
        self.host.bridge.post(add, record.node_id, record.multiaddrs, "gossip")

    def provide(self, cid: Cid) -> None:
        self._provided.append(cid)
        if self._provided_due is None:
            self._provided_due = self._loop.call_later(PROVIDE_INTERVAL_S, self._provide_waiting)

    def _provide_waiting(self) -> None:
        self._provided_due = None
        provided, self._provided = self._provided, []
        self._call(self.exchange.announce_in_trio, provided)
        if self.dht is not None:
            self._call(self.dht.provide, provided)

    def provide_again(self, cids: Sequence[Cid]) -> None:
        if self.dht is not None:
            self._call(self.dht.provide_again, cids)

    # --- between the loops ---

    def _call(self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> None:
        """Runs it in trio, and does not wait; nothing where libp2p is down."""

        async def call() -> None:
            with contextlib.suppress(BridgeDown):
                await self.host.bridge.call(function, *arguments)

        # A bug, or one of the library's: the next call may fare better.
        self._background.start(f"libp2p: {function.__qualname__}", call())

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        self.host.bridge.tell(function, *arguments)

    def _record_gossiped(self, held: Any) -> None:
        self._listener.record_gossiped(*held)

    def _offers_gossiped(self, held: Any) -> None:
        self._listener.offers_gossiped(held)

    def _found_in_dht(self, node_id: str, addresses: tuple[str, ...]) -> None:
        self.connector.add(node_id, addresses, "dht")
        # The look-up itself connects to most of those that it finds, and then nothing dials them.
        if self.host.is_connected(node_id):
            self._met(node_id, "dht")

    def _found_by_mdns(self, address: str) -> None:
        self.connector.add(id_of(address), (address,), "mdns")

    def _met(self, node_id: str, found_by: str) -> None:
        self._tell(self._listener.peer_met, node_id, found_by)


def _now(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """A function that does not wait, as one that trio can run."""

    async def run(*arguments: Any) -> Any:
        return function(*arguments)

    return run


def _dialable_addresses(host: IHost) -> list[str]:
    return [expanded for address in host.get_transport_addrs() for expanded in _dialable(str(address))]


def _dialable(address: str) -> list[str]:
    """Where others can dial what listens there, without the peer id: of "all interfaces" the addresses of each, or
    the loopback address where there is no other."""
    _, protocol, text, *rest = address.split("/")
    if not ipaddress.ip_address(text).is_unspecified:
        return [address]
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if (protocol == "ip4") is ip.is_IPv4:
                parsed = ipaddress.ip_address(str(ip.ip) if ip.is_IPv4 else ip.ip[0])
                if not (parsed.is_loopback or parsed.is_link_local):
                    found.append(f"/{protocol}/{parsed}/{'/'.join(rest)}")
    return found or [f"/{protocol}/{'127.0.0.1' if protocol == 'ip4' else '::1'}/{'/'.join(rest)}"]
