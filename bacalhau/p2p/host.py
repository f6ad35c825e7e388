"""The libp2p host of a node: its key, its listeners, its connections, and the services that speak on them.

A service (gossip, DHT, Bitswap, …) is written against libp2p's own `IHost`, in trio, and is given to the host before
it starts:

    class Echo:
        async def run(self, host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
            host.set_stream_handler(TProtocol("/echo/1.0.0"), self._answer)
            task_status.started()
            await trio.sleep_forever()

`run` is called for each life of the host, once it listens, and is cancelled when the host stops. When it raises, the
host ends and is started anew: a service guards its own tasks against what peers do to them. Stream handlers need no
guard, for the host wraps them all. Who comes and goes is told to a `PeerWatch`. From asyncio, a service is reached
by `host.bridge.call(service.method, …)`.

Everything that py-libp2p 0.8.1 does wrong for connections and lifecycle is worked around here, each with the place
(`file:line` of the installed package) to look at when it is fixed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Protocol

import trio
from libp2p import new_host
from libp2p.abc import INotifee
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from libp2p.rcmgr import ResourceManager
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from bacalhau.p2p import negotiate
from bacalhau.p2p.bridge import Bridge, BridgeDown
from bacalhau.p2p.port import CannotConnect, CannotListen
from bacalhau.p2p.yamux import PROTOCOL_ID as YAMUX
from bacalhau.p2p.yamux import Muxers, Yamux

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from libp2p.abc import IHost, INetConn, INetStream, INetwork

    from bacalhau.wire.identity import NodeKey

log = logging.getLogger(__name__)
if not os.environ.get("LIBP2P_DEBUG"):
    # What peers and networks do is an error to libp2p, and without a handler it would stand on stderr.
    logging.getLogger("libp2p").addHandler(logging.NullHandler())

CONNECTIONS_MAX = 300
DIAL_TIMEOUT_S = 10.0
"""A busy machine takes seconds for a handshake, and one that is given up has cost the other side as much."""
CLOSE_TIMEOUT_S = 5.0


class Service(Protocol):
    """Speaks protocols on the host; see the module."""

    async def run(self, host: IHost, *, task_status: trio.TaskStatus[None]) -> None: ...


class PeerWatch(INotifee):
    """Tells of peers: `joined` with the first connection to one, `left` when its last has closed. Both in trio.

    Register it by `host.get_network().register_notifee(watch)`.
    """

    def __init__(self, joined: Callable[[ID], None], left: Callable[[ID], None]) -> None:
        self._joined = joined
        self._left = left
        self._here: set[ID] = set()

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        peer_id = conn.muxed_conn.peer_id
        if peer_id not in self._here:
            self._here.add(peer_id)
            self._joined(peer_id)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        peer_id = conn.muxed_conn.peer_id
        if peer_id in self._here and not network.get_connections(peer_id):
            self._here.discard(peer_id)
            self._left(peer_id)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None: ...
    async def closed_stream(self, network: INetwork, stream: INetStream) -> None: ...
    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None: ...
    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None: ...


class Host:
    """See the module. Its methods are for the asyncio loop; `key` is the node's, so that both have one id."""

    def __init__(self, key: NodeKey, listen: Sequence[str], services: Iterable[Service] = ()) -> None:
        self.bridge = Bridge()
        self.node_id = key.node_id
        self._key = key
        self._listen = tuple(listen)
        self._services = tuple(services)
        self._ihost: IHost | None = None
        self._stopping = False

    @property
    def ihost(self) -> IHost:
        """The host of this life, for trio code only."""
        assert self._ihost is not None, "the host does not run"
        return self._ihost

    @property
    def stopped(self) -> bool:
        """It was told to stop, and not to start since."""
        return self._stopping

    async def start(self) -> None:
        """Listens, and starts the services. Raises CannotListen."""
        self._stopping = False
        await self.bridge.start(self._live)
        # The next life listens on the ports that this one was given.
        self._listen = tuple(address.partition("/p2p/")[0] for address in await self.addresses())

    async def stop(self) -> None:
        """Closes every connection and listener; the ports are free afterwards. Idempotent."""
        self._stopping = True
        # Winds down before it is cancelled: what py-libp2p closes while it is cancelled stays open, for it waits for a
        # lock first (stream_muxer/yamux/yamux.py:788).
        with contextlib.suppress(BridgeDown):
            await self.bridge.call(self._wind_down)
        await self.bridge.stop()

    async def _wind_down(self) -> None:
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            if self._ihost is not None:
                await self._ihost.close()

    async def restart(self) -> None:
        """Another life, with the same key and on the same ports."""
        await self.stop()
        await self.start()

    async def addresses(self) -> list[str]:
        """Where it listens, as multiaddrs that end on /p2p/ID. Raises BridgeDown, as the following do."""

        async def ask() -> list[str]:
            return [str(address) for address in self.ihost.get_addrs()]

        return await self.bridge.call(ask)

    async def connect(self, address: str) -> str:
        """Connects to a multiaddr that ends on /p2p/ID; the id. Raises CannotConnect."""
        return await self.bridge.call(lambda: dial(self.ihost, address))

    async def disconnect(self, node_id: str) -> None:
        await self.bridge.call(lambda: self.ihost.disconnect(ID.from_string(node_id)))

    async def connected(self) -> list[str]:
        """Ids of the peers that it has a connection with, in order."""

        async def ask() -> list[str]:
            return sorted(map(str, self.ihost.get_connected_peers()))

        return await self.bridge.call(ask)

    # --- in trio ---

    def is_connected(self, node_id: str) -> bool:
        return bool(self.ihost.get_network().get_connections(ID.from_string(node_id)))

    async def _live(self, *, task_status: trio.TaskStatus[None]) -> None:
        """One life of the host, until it is cancelled."""
        addresses = [_listenable(address) for address in self._listen]
        host = self._ihost = _make_host(self._key)
        try:
            async with host.run(addresses), trio.open_nursery() as nursery:
                if len(host.get_transport_addrs()) < len(addresses):
                    raise CannotListen(f"libp2p cannot listen on all of {', '.join(self._listen)}")
                for service in self._services:
                    await nursery.start(_run_service, service, host)
                task_status.started()
                await trio.sleep_forever()
        except* Exception as failures:  # whatever ends it; who started it is told
            if not self._stopping:
                raise _only(failures) from failures
            # Tasks of the library that find their nursery closed: what it stops is stopped all the same.
            log.debug("libp2p said while it stopped: %s", failures)
        finally:
            # Leaving run() does not stop the listeners, which are system tasks (transport/tcp/tcp.py:303).
            with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                await host.close()


async def dial(host: IHost, address: str) -> str:
    """Connects to a multiaddr that ends on /p2p/ID, unless there is a connection; the id. Raises CannotConnect."""
    peer = _peer_of(address)
    network: Any = host.get_network()
    if not network.get_connections(peer.peer_id):
        # network/swarm.py:751 refuses a peer for a minute after one address failed, whatever the next one is, and
        # network/swarm.py:884 dials the oldest address known rather than this one.
        network.unblock_peer(peer.peer_id)
        host.get_peerstore().clear_addrs(peer.peer_id)
    try:
        with trio.fail_after(DIAL_TIMEOUT_S):
            await host.connect(peer)
    except trio.TooSlowError as error:
        raise CannotConnect(f"no node answers at {address} within {DIAL_TIMEOUT_S:g} seconds") from error
    except SwarmException as error:
        raise CannotConnect(f"no node answers at {address}: {error.__cause__ or error}") from error
    return str(peer.peer_id)


async def _run_service(service: Service, host: IHost, *, task_status: trio.TaskStatus[None]) -> None:
    await service.run(host, task_status=task_status)


def _only(failures: BaseExceptionGroup[Exception]) -> BaseException:
    """The failure itself, where a group of groups holds one."""
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure


def _make_host(key: NodeKey) -> IHost:
    """TCP, noise and yamux, and nothing else."""
    seed = key.seed
    key_pair = create_new_key_pair(seed)
    noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
    host = new_host(
        key_pair=key_pair,
        sec_opt={NOISE: noise},
        muxer_opt={YAMUX: Yamux},
        disable_identify_address_discovery=True,
        connection_config=ConnectionConfig(
            # With the default of three, each dial waits 250 ms for nothing (network/swarm.py:936).
            max_connections_per_peer=1,
            max_connections=CONNECTIONS_MAX,
            high_watermark=CONNECTIONS_MAX,
            dial_timeout=DIAL_TIMEOUT_S,
        ),
        resource_manager=ResourceManager(
            enable_metrics=False,
            enable_memory_limits=False,
            enable_circuit_breaker=False,
            enable_graceful_degradation=False,
        ),
    )
    network: Any = host.get_network()
    network.upgrader.muxer_multistream = Muxers()
    # The node decides whom it dials. network/auto_connector.py:297 dials whatever it has heard of, up to half of the
    # high watermark, whatever the other settings are.
    network.auto_connector.maybe_connect = _dial_nobody
    network.retry_config = RetryConfig(max_retries=0)  # whoever dials tries again
    # Nobody here listens for streams, and telling so to each listener costs a nursery twice a stream
    # (network/swarm.py:3180).
    network._notify = _only_of_peers(network._notify)
    handlers: Any = host.get_mux().handlers
    network.set_stream_handler(_guarded(lambda stream: negotiate.serve(stream, handlers)))
    return host


async def _dial_nobody() -> None:
    return


def _only_of_peers(notify: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def told(event: str, *arguments: Any) -> None:
        if event not in ("opened_stream", "closed_stream"):
            await notify(event, *arguments)

    return told


def _guarded(handler: Callable[[INetStream], Any]) -> Callable[[INetStream], Any]:
    """What a stream handler raises would end the host (network/connection/swarm_connection.py:271 runs it in the
    swarm's nursery), and any peer can make one raise."""

    async def guarded(stream: INetStream) -> None:
        try:
            await handler(stream)
        except Exception as failure:  # whatever a peer made it raise ends its stream, nothing else
            log.debug("a stream of %s failed: %s", stream.muxed_conn.peer_id, failure, exc_info=failure)
            with contextlib.suppress(Exception):  # it is gone already
                await stream.reset()

    return guarded


def id_of(address: str) -> str:
    """The peer id at the end of a multiaddr. Raises CannotConnect."""
    return str(_peer_of(address).peer_id)


def _peer_of(address: str) -> PeerInfo:
    try:
        return info_from_p2p_addr(Multiaddr(address))
    except Exception as error:  # the libraries raise a dozen kinds for a text that is no such multiaddr
        raise CannotConnect(
            f"{address} is no multiaddr of a node: write /ip4/ADDRESS/tcp/PORT/p2p/ID"
        ) from error


def _listenable(text: str) -> Multiaddr:
    """The multiaddr to listen on; refuses a port that is taken.

    libp2p shares a port with whoever has it (transport/tcp/tcp.py:59 sets SO_REUSEPORT), so that each of two nodes
    would get half of the other's connections.
    """
    try:
        address = Multiaddr(text)
        protocol, host = next((p.name, v) for p, v in address.items() if p.name in ("ip4", "ip6"))
        port = int(address.value_for_protocol("tcp") or "")
    except Exception as error:  # as in _peer_of
        raise CannotListen(f"{text} is no multiaddr to listen on: write /ip4/ADDRESS/tcp/PORT") from error
    family = socket.AF_INET if protocol == "ip4" else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise CannotListen(f"libp2p cannot listen on {text}: {error.strerror}") from error
    return address
