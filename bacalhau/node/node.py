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
from bacalhau.config import Settings, machine_capacity
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.ipfs.pins import Pins
from bacalhau.model.node import NodeRecord
from bacalhau.model.refusals import Refused
from bacalhau.node import startup
from bacalhau.node.asks import Asks, Programs
from bacalhau.node.bidding import pricing_of
from bacalhau.node.clock import Clock
from bacalhau.node.contents import Contents
from bacalhau.node.driver import CLOCK_META, Driver
from bacalhau.node.engines import Engines
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
from bacalhau.node.views import NodeViews
from bacalhau.node.works import Works
from bacalhau.rpc.call_meter import CallMeter
from bacalhau.rpc.ipfs_service import IpfsServicer
from bacalhau.rpc.job_service import JobServicer
from bacalhau.rpc.ledger_service import LedgerServicer
from bacalhau.rpc.market_service import MarketServicer
from bacalhau.rpc.node_service import NodeServicer
from bacalhau.rpc.servers import start_client_api, start_peer_api
from bacalhau.rpc.tls import load_or_make
from bacalhau.runtime.executor import EngineFault
from bacalhau.runtime.workspace import Workspaces
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler.compute import ComputeMachine
from bacalhau.scheduler.events import ShutdownBegun
from bacalhau.scheduler.requester import RequesterMachine
from bacalhau.store.errors import StoreError
from bacalhau.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping
    from typing import Any

    from bacalhau.ipfs.pins import Collected
    from bacalhau.model.cid import Cid
    from bacalhau.node.driver import Journal
    from bacalhau.node.metrics import Metrics
    from bacalhau.node.trace import Trace
    from bacalhau.p2p.port import Network
    from bacalhau.scheduler.records import Write
    from bacalhau.wire.identity import NodeKey

log = logging.getLogger(__name__)

_GRACE_S = 0.5
"""For calls that are being answered when the node stops."""


def draw_id(prefix: str) -> str:
    """A new id such as "j-5f0c…": the prefix says of what."""
    # As a version 4 UUID, by hand: a job draws a dozen, and uuid4 takes five times as long.
    drawn = os.urandom(16).hex()
    return f"{prefix}-{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-a{drawn[17:20]}-{drawn[20:]}"


class Node:
    """A running node. Made by `Node.start`; `failed` is set when it cannot go on."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, settings: Settings) -> Node:
        """Starts a node. Raises CannotStart, CannotListen, StoreError, InvalidKey."""
        node = cls(settings)
        try:
            await node._start()
        except BaseException:  # whatever it was, what had started is stopped
            await node.stop()
            raise
        return node

    async def _start(self) -> None:
        settings = self.settings
        tls = startup.read_tls(settings)
        startup.lock_folder(settings.data_dir, self._stack)
        key = startup.load_key(settings)
        certificate = load_or_make(settings.data_dir)
        self.node_id = key.node_id
        self._certificate_digest = certificate.digest
        self._open_stores()
        self._metrics = self._make_metrics()
        await self._put_together(key)
        await self._engines.start()
        self._stack.push_async_callback(self._engines.close)
        self.driver.tell_compute(self._engines.changed())
        await self._restore()
        self._room.tell(self.driver)
        meter = None if self._metrics is None else CallMeter(self._metrics.called)
        self._peer_listener = await start_peer_api(
            settings.peer_host,
            settings.peer_port,
            peers=self._inbound,
            certificate=certificate,
            meter=meter,
        )
        self._stack.push_async_callback(self._peer_listener.stop, _GRACE_S)
        await self._start_network(key)
        self.membership.refresh()
        self._client_listener = await start_client_api(
            settings.api_host,
            settings.api_port,
            jobs=JobServicer(self.jobs),
            market=MarketServicer(self._market),
            node=NodeServicer(self.views),
            ipfs=IpfsServicer(self._ipfs),
            ledger=LedgerServicer(LedgerViews(key, self.driver, self.store, draw_id)),
            token=startup.read_token(settings.api_token_file),
            tls=tls,
            meter=meter,
        )
        self._stack.push_async_callback(self._client_listener.stop, _GRACE_S)
        if self._metrics is not None and settings.metrics_port is not None:
            await self._metrics.serve(self, settings.metrics_port)
            self._stack.push_async_callback(self._metrics.close)
        self._go_on(self.membership.run())
        self._go_on(self._engines.watch(self._engines_changed))
        self._go_on(self._room.watch(self.driver))
        if self.kubo is not None:
            self._go_on(self.kubo.run(self._ipfs.wanted))
        self._go_on(self._upkeep())
        self._go_on(self._provide_again())

    async def _start_network(self, key: NodeKey) -> None:
        network = await start_network(
            self.settings,
            key,
            self._inbound,
            self.clock.now,
            self.peer_address,
            self.contents.whole_store,
            self.contents.may_serve,
        )
        if network is not None:
            self.membership.network = network
            self.contents.network = network
            self._stack.push_async_callback(network.stop)

    def _go_on(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs it as long as the node does; when it fails, the node does."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._task_done)
        self._tasks.append(task)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            log.critical("the node stops: %s", failure, exc_info=failure)
            self._fail(failure)

    def _open_stores(self) -> None:
        folder = self.settings.data_dir
        self.store = Store(folder / "journal.sqlite")
        self._stack.callback(self.store.close)
        with startup.opening(folder / "blocks" / "blocks.sqlite"):
            self.blocks = PackBlockStore(folder / "blocks", reserve_bytes=self.settings.disk_reserve_bytes)
        self._stack.callback(self.blocks.close)
        startup.take_up_blocks(self.store, self.blocks)
        with startup.opening(folder / "pins.sqlite"):
            self.pins = Pins(folder / "pins.sqlite")
        self._stack.callback(self.pins.close)
        self._room = DiskRoom(folder, self.settings.disk_reserve_bytes)
        self.clock = Clock(int(self.store.get_meta(CLOCK_META) or 0))

    async def _put_together(self, key: NodeKey) -> None:
        settings = self.settings
        ids = draw_id
        self.capacity = machine_capacity(settings)
        self._engines = Engines(settings, key.node_id, self.capacity)
        self.driver = self._make_driver(startup.open_trace(settings, key.node_id))
        self._stack.push_async_callback(self.driver.stop)
        self.membership = Membership(
            key,
            self.driver,
            record=self._record,
            ids=ids,
            configured=settings.peers,
            heartbeat_us=settings.heartbeat_us,
        )
        self._stack.push_async_callback(self.membership.close)
        self.kubo = await startup.connect_kubo(settings, self.blocks, key.node_id)
        if self.kubo is not None:
            self._stack.push_async_callback(self.kubo.close)
        self.contents = Contents(self.blocks, self.pins, self.membership, self.kubo)
        self.views = NodeViews(self.driver, self.membership, self._notices)
        self._stack.callback(self.contents.close)
        self._needed = Needed(self._needed_contents)
        self._ipfs = Ipfs(self.contents, gc_grace_us=settings.gc_grace_us, needed=self._needed)
        self._stack.callback(self._ipfs.close)
        happenings = self._happenings = Happenings()
        self._recent = RecentJobs()
        workspaces = Workspaces(settings.data_dir / "workspaces")
        self._workspaces = workspaces
        self.works = Works(self.driver, self._engines.executors, workspaces, self.contents, key.node_id)
        self._stack.push_async_callback(self.works.close)
        programs = Programs(settings.probe_command, settings.price_script, settings.probe_timeout_us)
        self._asks = Asks(self.driver, self.contents, key.node_id, programs)
        self._stack.push_async_callback(self._asks.close)
        quotes = Quotes(key, self.driver, self.membership, self.contents, self._asks, ids, settings.payment)
        logs = JobLogs(
            key, self.driver, self.store, self.contents, self.membership, self.works, happenings, ids
        )
        self.jobs = Jobs(
            key.node_id,
            self.driver,
            self.store,
            self.contents,
            happenings,
            self._recent,
            logs,
            quotes,
            ids,
            self._room,
        )
        self._market = Market(key.node_id, self.store, self.membership, self.jobs, self.clock)
        self._inbound = Inbound(
            key,
            self.driver,
            self.store,
            self.membership,
            self.works,
            self.contents,
            happenings,
            quotes,
            ids,
            settings.lease_us,
        )
        outbox = self._make_outbox(key, happenings)
        self._results = Results(self.driver, self.contents, key.node_id)
        self._stack.push_async_callback(self._results.close)
        self._set_hooks(outbox)

    def _set_hooks(self, outbox: Outbox) -> None:
        self.driver.store_blocks = functools.partial(self.blocks.put_many, sync=False, reserved=True)
        self.driver.sync_blocks = self.blocks.sync
        here = outbox.deliver_here
        self.driver.deliver_here = here if self._metrics is None else self._metrics.market.counting(here)
        self.driver.settle_here = self._settle_here
        self.driver.on_waiting = outbox.make_ready
        self.driver.on_send = outbox.send
        self.driver.on_start = self._begin
        self.driver.on_written = self._written
        self.driver.on_failure = self._fail

    def _make_outbox(self, key: NodeKey, happenings: Happenings) -> Outbox:
        outbox = Outbox(
            key,
            self.driver,
            self.membership,
            self.contents,
            happenings,
            draw_id,
            self.settings.lease_us,
            self.store,
            self._inbound,
            gossips_offers=not self.settings.offers_to,
        )
        self._stack.push_async_callback(outbox.close)
        return outbox

    def _written(self, write: Write) -> None:
        self._recent.committed(write)
        self._happenings.committed(write)
        self._needed.committed(write)
        self.contents.committed(write)
        if self.kubo is not None:
            self.kubo.committed(write)
        if self._metrics is not None:
            self._metrics.market.committed(write)

    def _make_metrics(self) -> Metrics | None:
        if self.settings.metrics_port is None:
            return None
        from bacalhau.node.metrics import Metrics

        return Metrics()

    def _make_driver(self, trace: Trace | None) -> Driver:
        settings = self.settings
        ids: Callable[[str], str] = draw_id
        if trace is not None:
            self._stack.callback(trace.close)
            ids = trace.recording(draw_id)
        requester = requester_config(settings, self.node_id)
        compute = compute_config(settings, self.node_id, self.capacity)
        self._tariff, pricing = pricing_of(settings)
        if trace is not None:
            trace.machines({"config": requester}, {"config": compute, "pricing": pricing})
        journal: Journal = self.store
        if self._metrics is not None:
            journal = self._metrics.timed(self.store)
        machines = RequesterMachine(requester, ids), ComputeMachine(compute, pricing, ids)
        return Driver(*machines, journal, self.clock, trace)

    def _settle_here(self, start: fx.Start) -> bool:
        match start:
            case fx.FetchResult():
                return self._results.settle_here(start)
            case fx.AskOutside(offer, ask):
                return self._asks.settle_here(offer, ask)
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
        self._go_on(self._reap(keep))
        await asyncio.to_thread(self.contents.seal_again, work, executions)
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
        if not addresses and settings.advertised and hasattr(self, "_peer_listener"):
            addresses = (self._peer_listener.address,)
        if not multiaddrs and settings.advertised and (network := self.network) is not None:
            multiaddrs = network.addresses
        return NodeRecord(
            node_id=self.node_id,
            addresses=addresses,
            certificate_digest=self._certificate_digest,
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
    def network(self) -> Network | None:
        """libp2p, where it runs."""
        return self.membership.network if hasattr(self, "membership") else None

    @property
    def p2p_addresses(self) -> tuple[str, ...]:
        """Multiaddrs at which other nodes can join this one."""
        network = self.network
        return tuple(f"{address}/p2p/{self.node_id}" for address in network.addresses) if network else ()

    def _engines_changed(self) -> None:
        self.driver.tell_compute(self._engines.changed())
        self.membership.refresh()
        # One that came back may still run what was reported as failed while it was away.
        self._go_on(self._reap(self.driver.compute.unsettled))

    def _notices(self) -> tuple[str, ...]:
        """What is wrong, for people."""
        return (*self._engines.notices, *(self.kubo.notices if self.kubo is not None else ()))

    @property
    def api_address(self) -> str:
        return self._client_listener.address

    @property
    def peer_address(self) -> str:
        return self._peer_listener.address

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
                self.contents.provide_again(await asyncio.to_thread(self._ipfs.provided))
            except StoreError as failure:
                log.warning("what is kept is announced again later: %s", failure)
            await asyncio.sleep(self.settings.provide_again_us / 1e6)

    def _needed_contents(self) -> set[Cid]:
        return self.store.needed_contents(self.clock.now() - self.settings.keep_results_us)

    async def stop(self) -> None:
        """Stops what runs, closes both listeners and all files. Work goes on at the next start."""
        if hasattr(self, "driver"):
            with contextlib.suppress(Refused):  # it has failed, and takes nothing in
                self.driver.tell_compute(ShutdownBegun())
        if hasattr(self, "works"):
            self.works.shut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
