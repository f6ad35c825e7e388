"""The composition root: one node, put together from its settings, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from bacalhau import __version__
from bacalhau.background import Background
from bacalhau.config import Settings, machine_capacity
from bacalhau.model.node import NodeRecord
from bacalhau.model.refusals import Refused
from bacalhau.node import startup
from bacalhau.node.asks import Asks, Programs
from bacalhau.node.bidding import pricing_of
from bacalhau.node.clock import Clock
from bacalhau.node.contents import Contents
from bacalhau.node.driver import CLOCK_META, Driver
from bacalhau.node.engines import Engines
from bacalhau.node.folder import open_folder
from bacalhau.node.happenings import Happenings
from bacalhau.node.inbound import Inbound
from bacalhau.node.ipfs import Ipfs
from bacalhau.node.joblogs import JobLogs
from bacalhau.node.jobs import Jobs
from bacalhau.node.ledger import LedgerViews
from bacalhau.node.machines import compute_config, requester_config
from bacalhau.node.market import Market
from bacalhau.node.membership import Membership
from bacalhau.node.needed import Needed
from bacalhau.node.network import start_network
from bacalhau.node.outbox import Outbox
from bacalhau.node.quotes import Quotes
from bacalhau.node.recent import RecentJobs
from bacalhau.node.results import Results
from bacalhau.node.room import DiskRoom
from bacalhau.node.serving import Serving
from bacalhau.node.signer import Signer
from bacalhau.node.views import NodeViews
from bacalhau.node.works import Works
from bacalhau.rpc.call_meter import CallMeter
from bacalhau.rpc.ipfs_service import IpfsServicer
from bacalhau.rpc.job_service import JobServicer
from bacalhau.rpc.ledger_service import LedgerServicer
from bacalhau.rpc.market_service import MarketServicer
from bacalhau.rpc.node_service import NodeServicer
from bacalhau.rpc.servers import start_client_api, start_peer_api
from bacalhau.runtime.executor import EngineFault
from bacalhau.runtime.workspace import Workspaces
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.events import ShutdownBegun
from bacalhau.scheduler.requester import RequesterMachine
from bacalhau.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from bacalhau.ipfs.pins import Collected
    from bacalhau.market.pricing import PricingStrategy
    from bacalhau.model.cid import Cid
    from bacalhau.node.driver import Journal
    from bacalhau.node.folder import DataFolder
    from bacalhau.node.kubo import Kubo
    from bacalhau.node.metrics import Metrics
    from bacalhau.node.trace import Trace
    from bacalhau.p2p.port import Network
    from bacalhau.scheduler.records import Write

log = logging.getLogger(__name__)

_GRACE_S = 0.5
"""For calls that are being answered when the node stops."""


_RANDOMS_AT_ONCE = 64
_randoms: list[str] = []
"""For the next ids. Asking the kernel lets go of Python's lock, each time: a fortieth of a burst of jobs."""


def draw_id(prefix: str) -> str:
    """A new id such as "j-5f0c…": the prefix says of what."""
    # As a version 4 UUID, by hand: a job draws a dozen, and uuid4 takes five times as long.
    try:
        drawn = _randoms.pop()
    except IndexError:
        randoms = os.urandom(16 * _RANDOMS_AT_ONCE).hex()
        fresh = [randoms[start : start + 32] for start in range(0, len(randoms), 32)]
        drawn = fresh.pop()
        _randoms.extend(fresh)
    return f"{prefix}-{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-a{drawn[17:20]}-{drawn[20:]}"


class Node:
    """A running node. Made by `Node.start`; `failed` is set when it cannot go on."""

    def __init__(
        self,
        settings: Settings,
        folder: DataFolder,
        kubo: Kubo | None,
        trace: Trace | None,
        stack: AsyncExitStack,
    ) -> None:
        """Puts the parts together, each from those before it; none of them is started. `stack` closes them."""
        self.settings = settings
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.peer_address = self.api_address = ""
        """HOST:PORT of the two listeners; empty until they listen."""
        self.network: Network | None = None
        """libp2p, where it runs."""
        self._stack = stack
        # What runs as long as the node does; when it fails, the node does.
        self._background = Background(self._cannot_go_on)
        self._key = key = folder.key
        self.node_id = key.node_id
        self._certificate = folder.certificate
        self.store, self.blocks, self.pins = folder.store, folder.blocks, folder.pins
        self.kubo = kubo
        self.clock = Clock(int(self.store.get_meta(CLOCK_META) or 0))
        self._room = DiskRoom(settings.data_dir, settings.disk_reserve_bytes)
        self._metrics = self._make_metrics()
        self.capacity = machine_capacity(settings)
        self._engines = Engines(settings, self.node_id, self.capacity)
        self._tariff, pricing = pricing_of(settings)
        self.driver = driver = self._make_driver(pricing, trace)
        self._signer = signer = Signer(key, self.clock, draw_id)
        self.membership = membership = Membership(
            signer,
            driver,
            record=self._record,
            configured=settings.peers,
            heartbeat_us=settings.heartbeat_us,
        )
        self.views = NodeViews(driver, membership, self._notices)
        self.contents = contents = Contents(self.blocks, self.pins, membership, kubo)
        self.serving = serving = Serving(contents.whole_store, membership)
        self._needed = Needed(self._needed_contents)
        self._ipfs = Ipfs(contents, serving, gc_grace_us=settings.gc_grace_us, needed=self._needed)
        self._happenings = Happenings()
        self._recent = RecentJobs()
        self._workspaces = Workspaces(settings.data_dir / "workspaces")
        self.works = Works(driver, self._engines.executors, self._workspaces, contents, serving, self.node_id)
        programs = Programs(settings.probe_command, settings.price_script, settings.probe_timeout_us)
        self._asks = Asks(driver, contents, self.node_id, programs)
        quotes = Quotes(signer, driver, membership, contents, self._asks, draw_id, settings.payment)
        self.jobs = self._make_jobs(quotes)
        self._market = Market(self.node_id, self.store, membership, self.jobs, self.clock)
        small, happenings, lease_us = contents.small_results, self._happenings, settings.lease_us
        self._inbound = Inbound(
            signer,
            driver,
            self.store,
            membership,
            self.works,
            small,
            serving,
            happenings,
            quotes,
            lease_us,
        )
        self._outbox = self._make_outbox()
        self._results = Results(driver, contents, serving, self.node_id)
        self._set_hooks()
        self._close_parts_with(stack)

    def _make_jobs(self, quotes: Quotes) -> Jobs:
        logs = JobLogs(
            self._signer,
            self.driver,
            self.store,
            self.contents,
            self.membership,
            self.works,
            self._happenings,
        )
        return Jobs(
            self.node_id,
            self.driver,
            self.store,
            self.contents,
            self._happenings,
            self._recent,
            logs,
            quotes,
            draw_id,
            self._room,
        )

    def _make_outbox(self) -> Outbox:
        return Outbox(
            self._signer,
            self.driver,
            self.membership,
            self.contents.small_results,
            self._happenings,
            self.settings.lease_us,
            self.store,
            self._inbound,
            gossips_offers=not self.settings.offers_to,
        )

    def _close_parts_with(self, stack: AsyncExitStack) -> None:
        # The last one first, so that each can still use those that it was made from.
        stack.push_async_callback(self.driver.stop)
        stack.push_async_callback(self.membership.close)
        stack.callback(self.serving.close)
        stack.callback(self._ipfs.close)
        stack.push_async_callback(self.works.close)
        stack.push_async_callback(self._asks.close)
        stack.push_async_callback(self._outbox.close)
        stack.push_async_callback(self._results.close)

    @classmethod
    async def start(cls, settings: Settings) -> Node:
        """Starts a node. Raises CannotStart, CannotListen, StoreError, InvalidKey."""
        tls = startup.read_tls(settings)
        stack = AsyncExitStack()
        stop = stack.aclose
        try:
            folder = open_folder(settings, stack)
            node_id = folder.key.node_id
            trace = startup.open_trace(settings, node_id, stack)
            kubo = await startup.connect_kubo(settings, folder.blocks, node_id, stack)
            node = cls(settings, folder, kubo, trace, stack)
            stop = node.stop
            await node._start(tls)
        except BaseException:  # whatever it was, what had started is stopped
            await stop()
            raise
        return node

    async def _start(self, tls: tuple[bytes, bytes] | None) -> None:
        await self._engines.start()
        self._stack.push_async_callback(self._engines.close)
        self.driver.tell_compute(self._engines.changed())
        await self._restore()
        self._room.tell(self.driver)
        await self._listen(tls)
        go_on = self._background.start
        go_on("membership", self.membership.run())
        go_on("the watch over the engines", self._engines.watch(self._engines_changed))
        go_on("the watch over the disk", self._room.watch(self.driver))
        if self.kubo is not None:
            go_on("what is kept in Kubo", self.kubo.run(self._ipfs.wanted))
        go_on("upkeep", self._upkeep())
        go_on("announcing what is kept", self._provide_again())

    async def _listen(self, tls: tuple[bytes, bytes] | None) -> None:
        """To other nodes, by gRPC and libp2p; then to clients, and to whoever reads the metrics."""
        settings = self.settings
        meter = None if self._metrics is None else CallMeter(self._metrics.called)
        peers = await start_peer_api(
            settings.peer_host,
            settings.peer_port,
            peers=self._inbound,
            certificate=self._certificate,
            meter=meter,
        )
        self.peer_address = peers.address
        self._stack.push_async_callback(peers.stop, _GRACE_S)
        await self._start_network()
        self.membership.refresh()
        clients = await start_client_api(
            settings.api_host,
            settings.api_port,
            jobs=JobServicer(self.jobs),
            market=MarketServicer(self._market),
            node=NodeServicer(self.views),
            ipfs=IpfsServicer(self._ipfs),
            ledger=LedgerServicer(LedgerViews(self._signer, self.driver, self.store)),
            token=startup.read_token(settings.api_token_file),
            tls=tls,
            meter=meter,
        )
        self.api_address = clients.address
        self._stack.push_async_callback(clients.stop, _GRACE_S)
        if self._metrics is not None and settings.metrics_port is not None:
            await self._metrics.serve(self, settings.metrics_port)
            self._stack.push_async_callback(self._metrics.close)

    async def _start_network(self) -> None:
        network = await start_network(
            self.settings,
            self._key,
            self._inbound,
            self.clock.now,
            self.peer_address,
            self.serving.store,
            self.serving.may_serve,
        )
        if network is not None:
            self.network = self.membership.network = network
            self._stack.push_async_callback(network.stop)

    def _cannot_go_on(self, what: str, failure: BaseException) -> None:
        log.critical("%s failed, the node stops: %s", what, failure, exc_info=failure)
        self._fail(failure)

    def _set_hooks(self) -> None:
        self.driver.store_blocks = functools.partial(self.blocks.put_many, sync=False, reserved=True)
        self.driver.sync_blocks = self.blocks.sync
        here = self._outbox.deliver_here
        self.driver.deliver_here = here if self._metrics is None else self._metrics.market.counting(here)
        self.driver.answer_here = self._answer_here
        self.driver.on_waiting = self._outbox.make_ready
        self.driver.on_send = self._outbox.send
        self.driver.on_start = self._begin
        self.driver.on_written = self._written
        self.driver.on_failure = self._fail

    def _written(self, write: Write) -> None:
        self._recent.committed(write)
        self._happenings.committed(write)
        self._needed.committed(write)
        self.serving.committed(write)
        if self.kubo is not None:
            self.kubo.committed(write)
        if self._metrics is not None:
            self._metrics.market.committed(write)

    def _make_metrics(self) -> Metrics | None:
        if self.settings.metrics_port is None:
            return None
        from bacalhau.node.metrics import Metrics

        return Metrics()

    def _make_driver(self, pricing: PricingStrategy, trace: Trace | None) -> Driver:
        settings = self.settings
        ids: Callable[[str], str] = draw_id
        if trace is not None:
            ids = trace.recording(draw_id)
        requester = requester_config(settings, self.node_id)
        compute = compute_config(settings, self.node_id, self.capacity)
        if trace is not None:
            trace.machines({"config": requester}, {"config": compute, "pricing": pricing})
        journal: Journal = self.store
        if self._metrics is not None:
            journal = self._metrics.timed(self.store)
        machines = RequesterMachine(requester, ids), ComputeMachine(compute, pricing, ids)
        return Driver(*machines, journal, self.clock, trace)

    def _answer_here(self, start: fx.Start) -> bool:
        match start:
            case fx.FetchResult():
                return self._results.answer_here(start)
            case fx.AskOutside(offer, ask):
                return self._asks.answer_here(offer, ask)
            case _:
                return False

    def _begin(self, start: fx.Start) -> None:
        match start:
            case fx.StartExecution(execution_id, attempt):
                self.works.start(execution_id, attempt)
            case fx.FetchResult():
                self._results.fetch(start)
            case fx.AskOutside(offer, ask):
                self._asks.answer(offer, ask)
            case fx.AskPrice():
                self._asks.answer_price(start)
            case fx.StopExecution(execution_id):
                self.works.stop(execution_id)
            case fx.ResumeExecution(execution_id, attempt):
                self.works.start(execution_id, attempt, resume=True)

    def _fail(self, failure: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_result(failure)

    async def _restore(self) -> None:
        """Takes up what an earlier life of this node had accepted."""
        work = self.store.unsettled_work()
        jobs, executions = self.store.open_jobs(), self.store.open_executions()
        if work or jobs:
            log.info("taking up %d open jobs and %d executions after a restart", len(jobs), len(work))
        keep = [record.id for record in work]
        # Before anything new starts, which would not be among those to keep.
        await asyncio.to_thread(self._workspaces.sweep, keep)
        self._background.start("removing what was left", self._reap(keep))
        await asyncio.to_thread(self.serving.seal_again, work, executions)
        self.driver.restore(work, jobs, executions, self.store.reputations(), self.store.books())

    async def _reap(self, keep: Collection[str]) -> None:
        for engine, executor in self._engines.executors.items():
            try:
                removed = await executor.reap(keep)
            except EngineFault as fault:
                # It is not there, or does not answer: that is the user's to see, and no reason to stop.
                log.info("nothing removed from %s: %s", engine.name.lower(), fault)
                continue
            if removed:
                log.info("removed what an earlier life of this node left: %s", ", ".join(removed))

    # --- the record, and views for clients ---

    def _record(self, sequence: int) -> NodeRecord:
        settings = self.settings
        addresses = tuple(address for address in settings.advertise if not address.startswith("/"))
        multiaddrs = tuple(address for address in settings.advertise if address.startswith("/"))
        if not addresses and settings.advertised and self.peer_address:
            addresses = (self.peer_address,)
        if not multiaddrs and settings.advertised and self.network is not None:
            multiaddrs = self.network.addresses
        return NodeRecord(
            node_id=self.node_id,
            addresses=addresses,
            certificate_digest=self._certificate.digest,
            sequence=sequence,
            compute=settings.compute,
            requester=settings.requester,
            engines=self._engines.available,
            capacity=self.capacity,
            labels=settings.labels,
            version=__version__,
            tariff=self._tariff,
            multiaddrs=multiaddrs,
        )

    @property
    def p2p_addresses(self) -> tuple[str, ...]:
        """Multiaddrs at which other nodes can join this one."""
        addresses = self.network.addresses if self.network is not None else ()
        return tuple(f"{address}/p2p/{self.node_id}" for address in addresses)

    def _engines_changed(self) -> None:
        self.driver.tell_compute(self._engines.changed())
        self.membership.refresh()
        # One that came back may still run what was reported as failed while it was away.
        self._background.start("removing what was left", self._reap(self.driver.compute.unsettled))

    def _notices(self) -> tuple[str, ...]:
        """What is wrong, for people."""
        return (*self._engines.notices, *(self.kubo.notices if self.kubo is not None else ()))

    @property
    def metrics_address(self) -> str:
        """Where the metrics are shown; empty where they are not."""
        return self._metrics.address if self._metrics is not None else ""

    @property
    def envelopes_refused(self) -> Mapping[str, int]:
        return self._inbound.envelopes_refused

    @property
    def offers_passed_over(self) -> int:
        return self._inbound.offers_passed_over

    # --- upkeep and end ---

    async def _upkeep(self) -> None:
        while True:
            await asyncio.sleep(self.settings.upkeep_us / 1e6)
            try:
                await self.upkeep()
            except (StoreError, Refused) as failure:
                log.warning("upkeep is tried again later: %s", failure)

    async def upkeep(self) -> Collected:
        """Removes what has been kept for its time: jobs, work, and the blocks that nothing needs any more."""
        settings = self.settings
        pruned = await asyncio.to_thread(
            self.store.prune, self.clock.now(), settings.keep_jobs_us, settings.keep_results_us
        )
        self._recent.clear()
        collected = await self._ipfs.tidy()
        log.info("upkeep: %s, %s", pruned, collected)
        return collected

    async def _provide_again(self) -> None:
        while True:
            try:
                self.serving.provide_again(await asyncio.to_thread(self._ipfs.provided))
            except StoreError as failure:
                log.warning("what is kept is announced again later: %s", failure)
            await asyncio.sleep(self.settings.provide_again_us / 1e6)

    def _needed_contents(self) -> set[Cid]:
        return self.store.needed_contents(self.clock.now() - self.settings.keep_results_us)

    async def stop(self) -> None:
        """Stops what runs, closes both listeners and all files. Work goes on at the next start."""
        with contextlib.suppress(Refused):  # it has failed, and takes nothing in
            self.driver.tell_compute(ShutdownBegun())
        self.works.shut()
        await self._background.close()
        await self._stack.aclose()
