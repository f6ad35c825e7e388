"""What the node counts, for Prometheus: a page of text on a port of its own.

Parts count in plain integers and know nothing of this; a scrape reads them, on the event loop, where they change. So
counting costs nothing worth naming, and without `--metrics-port` there is nothing of this at all: Prometheus' client
library is imported here, and this module where it is wanted.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import start_http_server
from prometheus_client.registry import Collector

from bacalhau import __version__
from bacalhau.model.execution import ExecutionState
from bacalhau.model.job import JobEventType
from bacalhau.rpc.servers import CannotListen
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler.records import (
    AnswerReceived,
    ExecutionRecord,
    JobAccepted,
    JobHappening,
    WorkRecord,
    WorkState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from bacalhau.market.ledger import Ledger
    from bacalhau.node.driver import Journal
    from bacalhau.node.node import Node
    from bacalhau.p2p.port import Network
    from bacalhau.scheduler.records import Write

    Values = Mapping[tuple[str, ...], int]
    """By the values of the labels, in their order; one with the key () where there are none."""

HOST: Final = "127.0.0.1"
_SAMPLE_S: Final = 5.0
_COMMIT_BUCKETS_S: Final = (
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)
_CALL_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_EXECUTION_ENDS: Final = {
    JobEventType.EXECUTION_COMPLETED: ExecutionState.COMPLETED,
    JobEventType.EXECUTION_FAILED: ExecutionState.FAILED,
    JobEventType.EXECUTION_CANCELLED: ExecutionState.CANCELLED,
    JobEventType.AWARD_REFUSED: ExecutionState.REFUSED,
}
_BITSWAP_REFUSED: Final = (
    "unsolicited_blocks",
    "unread_want_bytes",
    "refused_streams",
    "faulty_streams",
    "dropped_peers",
)


@dataclass(slots=True)
class MarketCounts:
    """What has happened to jobs, offers and executions since the node started; by label where there is one."""

    jobs_submitted: int = 0
    jobs_ended: Counter[str] = field(default_factory=Counter)
    bids_received: int = 0
    declines_received: Counter[str] = field(default_factory=Counter)
    awards: int = 0
    executions: Counter[str] = field(default_factory=Counter)
    charged_microcredits: int = 0
    bids_sent: int = 0
    declines: Counter[str] = field(default_factory=Counter)
    bids_won: int = 0
    reports: Counter[str] = field(default_factory=Counter)

    def committed(self, write: Write) -> None:
        """Takes what is on disk now."""
        match write:
            case JobAccepted():
                self.jobs_submitted += 1
            case JobHappening():
                self._happened(write)
            case AnswerReceived(bid=None, refusal=refusal):
                self.declines_received[refusal.reason.name if refusal is not None else ""] += 1
            case AnswerReceived():
                self.bids_received += 1
            case ExecutionRecord(state=ExecutionState.COMPLETED):
                self.charged_microcredits += write.charged_microcredits
            case WorkRecord(state=WorkState.ACCEPTED, attempt=1):
                self.bids_won += 1
            case WorkRecord(state=WorkState.SETTLED):
                self.reports["accepted" if write.refusal is None else "refused"] += 1

    def _happened(self, write: JobHappening) -> None:
        if write.type is JobEventType.AWARDED:
            self.awards += 1
        elif write.type in _EXECUTION_ENDS:
            self.executions[_EXECUTION_ENDS[write.type].name.lower()] += 1
        if write.ends_job:
            self.jobs_ended[write.state.name.lower()] += 1

    def counting(self, deliver: Callable[[fx.Send], fx.Send | None]) -> Callable[[fx.Send], fx.Send | None]:
        """`deliver`, which sees every message that the machines send, and counts what this node bids or declines."""

        def counted(send: fx.Send) -> fx.Send | None:
            match send:
                case fx.SendBid():
                    self.bids_sent += 1
                case fx.SendDecline(decline=decline):
                    self.declines[decline.refusal.reason.name] += 1
            return deliver(send)

        return counted


class TimedJournal:
    """A journal whose commits are timed."""

    def __init__(self, journal: Journal, observe: Callable[[float], None]) -> None:
        self.stage = journal.stage
        self.roll_back_staged = journal.roll_back_staged
        self._commit = journal.commit_staged
        self._observe = observe

    def commit_staged(self) -> None:
        started = time.perf_counter()
        self._commit()
        self._observe(time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class _Family:
    """A metric that is read when it is scraped."""

    name: str
    help: str
    labels: tuple[str, ...]
    is_counter: bool
    read: Callable[[], Values]


class Metrics(Collector):
    """The metrics of one node, and the page that shows them."""

    def __init__(self) -> None:
        self.market = MarketCounts()
        self.address = ""
        self._loop = asyncio.get_running_loop()
        self._families: list[_Family] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._commit_seconds = Histogram(
            "bacalhau_journal_commit_seconds",
            "Time that a transaction of the journal takes to be on disk.",
            buckets=_COMMIT_BUCKETS_S,
            registry=self._registry,
        )
        self._calls = Histogram(
            "grpc_server_handling_seconds",
            "Time from a call's arrival to its end.",
            ("grpc_service", "grpc_method"),
            buckets=_CALL_BUCKETS_S,
            registry=self._registry,
        )
        self._codes: Counter[tuple[str, ...]] = Counter()
        self.counter(
            "grpc_server_handled",
            "Calls that have ended, by status code.",
            lambda: self._codes,
            ("grpc_service", "grpc_method", "grpc_code"),
        )

    def called(self, service: str, method: str, code: str, seconds: float) -> None:
        """A call of one of the listeners has ended."""
        self._codes[service, method, code] += 1
        self._calls.labels(service, method).observe(seconds)

    # --- what there is to read ---

    def counter(self, name: str, help: str, read: Callable[[], Values], labels: Sequence[str] = ()) -> None:
        """A number that only grows; its name gets `_total`."""
        self._families.append(_Family(name, help, tuple(labels), True, read))

    def gauge(self, name: str, help: str, read: Callable[[], Values], labels: Sequence[str] = ()) -> None:
        """A number that goes up and down."""
        self._families.append(_Family(name, help, tuple(labels), False, read))

    def describe(self) -> Iterable[Metric]:
        """For the registry, which would read everything to learn the names: at this time there is nothing to read."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """In the thread of a scrape."""

        async def sample() -> list[Values]:
            return [dict(family.read()) for family in self._families]

        sampled = asyncio.run_coroutine_threadsafe(sample(), self._loop).result(_SAMPLE_S)
        for family, values in zip(self._families, sampled, strict=True):
            kind = CounterMetricFamily if family.is_counter else GaugeMetricFamily
            metric = kind(family.name, family.help, labels=family.labels)
            for key, value in sorted(values.items()):
                metric.add_metric(key, value)
            yield metric

    # --- the page ---

    def timed(self, journal: Journal) -> TimedJournal:
        return TimedJournal(journal, self._commit_seconds.observe)

    async def serve(self, node: Node, port: int) -> None:
        """Shows those of `node` at 127.0.0.1. Raises CannotListen."""
        register_market(self)
        register_node(self, node)
        register_money(self, node)
        register_network(self, lambda: node.membership.network)
        try:
            self._server, self._thread = await asyncio.to_thread(
                start_http_server, port, HOST, self._registry
            )
        except OSError as error:
            raise CannotListen(
                f"cannot listen on {HOST}:{port}: {error.strerror}; choose another with --metrics-port"
            ) from error
        self.address = f"{HOST}:{self._server.server_port}"

    async def close(self) -> None:
        if self.address:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()
            self._thread.join()


def one(value: int) -> Values:
    """A metric without labels."""
    return {(): value}


def by(counts: Mapping[str, int]) -> Values:
    """A metric with one label."""
    return {(key,): value for key, value in counts.items()}


def register_market(metrics: Metrics) -> None:
    """What the market's two sides have done."""
    counts, counter = metrics.market, metrics.counter
    counter("bacalhau_jobs_submitted", "Jobs accepted.", lambda: one(counts.jobs_submitted))
    counter("bacalhau_jobs_ended", "Jobs ended.", lambda: by(counts.jobs_ended), ("state",))
    counter("bacalhau_bids_received", "Bids on offers of this node.", lambda: one(counts.bids_received))
    counter(
        "bacalhau_declines_received",
        "Offers of this node that others declined.",
        lambda: by(counts.declines_received),
        ("reason",),
    )
    counter("bacalhau_awards", "Executions awarded.", lambda: one(counts.awards))
    counter("bacalhau_executions", "Executions ended.", lambda: by(counts.executions), ("state",))
    counter(
        "bacalhau_charged_microcredits",
        "Charged to jobs of this node.",
        lambda: one(counts.charged_microcredits),
    )
    counter("bacalhau_bids_sent", "Bids of this node.", lambda: one(counts.bids_sent))
    counter("bacalhau_bids_won", "Bids of this node that got the award.", lambda: one(counts.bids_won))
    counter("bacalhau_declines", "Offers that this node declined.", lambda: by(counts.declines), ("reason",))
    counter(
        "bacalhau_reports",
        "Reports of executions on this node that their requesters have answered.",
        lambda: by(counts.reports),
        ("outcome",),
    )


def register_money(metrics: Metrics, node: Node) -> None:
    """What is set aside, owed and doubtful now, by the books of both sides."""
    payables, receivables = node.driver.requester.payables, node.driver.compute.receivables

    def total(ledger: Ledger, prefix: str, sign: int = 1) -> Values:
        """Of accounts on one side of the books: what is owed to this node stands there below zero."""
        return one(sign * ledger.total(prefix))

    for name, about, value in (
        (
            "escrow",
            "Set aside for executions that are not settled.",
            lambda: total(payables.ledger, "escrow:"),
        ),
        ("payable", "What this node owes others for their work.", lambda: total(payables.ledger, "payable:")),
        (
            "receivable",
            "What others owe this node for its work.",
            lambda: total(receivables.ledger, "receivable:", -1),
        ),
        (
            "disputed",
            "Pay that others left out or have not signed in time.",
            lambda: one(sum(record.disputed_microcredits for record in receivables.records.values())),
        ),
        (
            "unproven_exposure",
            "What peers without a limit of their own may come to owe, together.",
            lambda: one(receivables.credit.unproven_exposure),
        ),
        (
            "unproven_limit",
            "The most that it may be.",
            lambda: one(receivables.credit.unproven_limit),
        ),
    ):
        metrics.gauge(f"bacalhau_{name}_microcredits", about, value)


def register_node(metrics: Metrics, node: Node) -> None:
    """How the node is, and what it has refused."""
    requester, compute = node.driver.requester, node.driver.compute
    gauge = metrics.gauge
    metrics.counter(
        "bacalhau_envelopes_refused",
        "Statements of other nodes that were refused as they arrived.",
        lambda: by(node.envelopes_refused),
        ("reason",),
    )
    metrics.counter(
        "bacalhau_offers_passed_over",
        "Gossiped offers that were left to their repetition, for one requester made too many.",
        lambda: one(node.offers_passed_over),
    )
    gauge("bacalhau_open_jobs", "Jobs that have not ended.", lambda: one(requester.open_jobs))
    gauge(
        "bacalhau_running_executions",
        "Executions that this node runs.",
        lambda: one(compute.running_executions),
    )
    for what, unit in (("cpu", "millicores"), ("memory", "bytes"), ("disk", "bytes")):
        name = f"{what}_{unit}"
        gauge(
            f"bacalhau_capacity_{name}",
            f"What the node gives in all: {what}.",
            lambda name=name: one(getattr(compute.capacity.capacity, name)),  # type: ignore[misc]
        )
        gauge(
            f"bacalhau_reserved_{name}",
            f"Held by bids and executions: {what}.",
            lambda name=name: one(  # type: ignore[misc]
                getattr(compute.capacity.capacity, name) - getattr(compute.capacity.free, name)
            ),
        )
    gauge("bacalhau_live_nodes", "Other nodes that are live.", lambda: one(len(node.membership.live_ids())))
    gauge(
        "bacalhau_engine_available",
        "1 where the engine answers.",
        lambda: by({engine.name.lower(): 1 for engine in node.membership.record.engines}),
        ("engine",),
    )
    gauge("bacalhau_stored_bytes", "Blocks in the data folder.", lambda: one(node.blocks.stored_bytes))
    gauge(
        "bacalhau_kubo_answers",
        "1 where the Kubo node of --ipfs-api answers, 0 where it does not.",
        lambda: {} if node.kubo is None else one(int(node.kubo.answers)),
    )
    gauge(
        "bacalhau_build_info",
        "1, with what runs.",
        lambda: {(__version__, node.node_id): 1},
        ("version", "node_id"),
    )


def register_network(metrics: Metrics, network: Callable[[], Network | None]) -> None:
    """What libp2p has passed on and refused; nothing where it does not run."""

    def counter(name: str, help: str, read: Callable[[Network], Values], labels: Sequence[str] = ()) -> None:
        def read_if_running() -> Values:
            running = network()
            return {} if running is None else read(running)

        metrics.counter(name, help, read_if_running, labels)

    # The thread of libp2p adds to these meanwhile: a copy made in one step is safe to go through, they are not.
    counter(
        "bacalhau_gossip_published",
        "Gossip messages of this node.",
        lambda network: by(dict(network.counts.published)),
        ("topic",),
    )
    counter(
        "bacalhau_gossip_received",
        "Gossip messages of others that were right, and passed on.",
        lambda network: by(dict(network.counts.accepted)),
        ("topic",),
    )
    counter(
        "bacalhau_gossip_dropped",
        "Gossip messages of others that were not passed on.",
        lambda network: {key: count for key, count in dict(network.counts.dropped).items()},
        ("topic", "reason"),
    )
    counter(
        "bacalhau_gossip_peers_cut_off",
        "How often a peer was cut off for its gossip.",
        lambda network: one(network.counts.bans),
    )
    counter(
        "bacalhau_libp2p_restarts",
        "How often libp2p had ended by itself and was started anew.",
        lambda network: one(network.counts.restarts),
    )
    counter(
        "bacalhau_bitswap_bytes",
        "Blocks on the wire.",
        lambda network: by(
            {"sent": network.exchanged.bytes_sent, "received": network.exchanged.bytes_received}
        ),
        ("direction",),
    )
    counter(
        "bacalhau_bitswap_refused",
        "What peers sent by Bitswap that was not taken.",
        lambda network: by({what: getattr(network.exchanged, what) for what in _BITSWAP_REFUSED}),
        ("what",),
    )
