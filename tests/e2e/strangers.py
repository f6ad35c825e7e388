"""A network of strangers as processes, measured: how soon all see each other, and how soon offers reach everybody.

As a command: `scripts/network_check --nodes 20 --offers 100`.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bacalhau.v1.job_pb2 import DockerTask, JobSpec
from bacalhau.v1.job_service_pb2 import SubmitJobRequest
from tests.e2e.nodes import Network, NodeProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LISTEN = ("--p2p-listen", "/ip4/127.0.0.1/tcp/0")
STARTING_AT_ONCE = 4
STARTING_SECONDS = 120.0
SEEING_SECONDS = 60.0
HEARING_SECONDS = 10.0
OFFERS_PER_SECOND = 5.0
"""By default: what two processors that run twenty nodes have time for."""


@dataclass(slots=True)
class Figures:
    """What was measured. Latencies are from the requester's step that made an offer to the step that received it."""

    all_seen_s: float = 0.0
    """From the moment at which the last node listened."""
    newcomer_seen_s: float = 0.0
    """The same for one that joined when the bootstrap node was gone."""
    expected: int = 0
    received: int = 0
    repeated: int = 0
    """Of the same offers, how many came to a node again."""
    latencies_ms: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def run(network: Network, *, nodes: int, offers: int, per_second: float = OFFERS_PER_SECOND) -> Figures:
    """Starts so many nodes of which all but the first know the first alone; it dies, and another joins; then one node
    makes so many offers, so many a second at most."""
    figures = Figures()
    first = _node(network, 0).start()
    others = [_node(network, number, first) for number in range(1, nodes)]
    for batch in range(0, len(others), STARTING_AT_ONCE):
        for node in others[batch : batch + STARTING_AT_ONCE]:
            node.begin()
        for node in others[batch : batch + STARTING_AT_ONCE]:
            node.wait_ready(STARTING_SECONDS)
    figures.all_seen_s = _until_all_seen([first, *others])
    first.kill()
    newcomer = _node(network, nodes, others[-1])
    newcomer.begin()
    newcomer.wait_ready(STARTING_SECONDS)
    members = [*others, newcomer]
    figures.newcomer_seen_s = _until_all_seen(members)
    _make_offers(others[0], offers, per_second)
    hearers = members[1:]
    figures.expected = offers * len(hearers)
    deadline = time.monotonic() + HEARING_SECONDS
    while figures.received < figures.expected and time.monotonic() < deadline:
        time.sleep(0.5)
        figures.latencies_ms, figures.repeated = _heard(others[0], hearers)
        figures.received = len(figures.latencies_ms)
    return figures


def trace_of(node: NodeProcess) -> Path:
    return node.folder.with_name(node.folder.name + ".trace")


def _node(network: Network, number: int, bootstrap: NodeProcess | None = None) -> NodeProcess:
    node = network.node(f"n{number}", *LISTEN, "--disable-engine", "docker", "--log-level", "warning")
    node.flags += ("--trace", str(trace_of(node)), *(("--peer", bootstrap.p2p_address) if bootstrap else ()))
    return node


def _until_all_seen(nodes: Sequence[NodeProcess]) -> float:
    begun = time.monotonic()
    wanted = {node.node_id for node in nodes}

    def sees_all(node: NodeProcess) -> bool:
        return wanted <= node.live_ids()

    for node in nodes:
        wait_until(functools.partial(sees_all, node), f"{node.folder.name} sees all", SEEING_SECONDS)
    return time.monotonic() - begun


def _make_offers(requester: NodeProcess, offers: int, per_second: float) -> None:
    """By jobs that no node may take, so that offers alone are measured."""
    for number in range(offers):
        # No node of the network runs Docker.
        spec = JobSpec(name=f"offer-{number}", count=1, docker=DockerTask(image="busybox"))
        spec.timeouts.queue.FromSeconds(2)
        requester.jobs.SubmitJob(SubmitJobRequest(spec=spec), timeout=10)
        time.sleep(1 / per_second)


def _lines(node: NodeProcess) -> Iterator[dict[str, Any]]:
    for line in trace_of(node).read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # the last one, half written
            return


def _heard(requester: NodeProcess, hearers: Sequence[NodeProcess]) -> tuple[list[float], int]:
    """After how many milliseconds each hearer heard each offer, and how many came to one again."""
    made: dict[str, int] = {}
    for line in _lines(requester):
        for drawn in line.get("ids", ()):
            if drawn.startswith("o-"):
                made.setdefault(drawn, line["now"])
    latencies_ms = []
    repeated = 0
    for node in hearers:
        heard = set()
        for line in _lines(node):
            event = line.get("event", {})
            if event.get("@") != "OfferReceived" or event["offer"]["id"] not in made:
                continue
            offer_id = event["offer"]["id"]
            if offer_id in heard:
                repeated += 1
            else:
                heard.add(offer_id)
                latencies_ms.append((line["now"] - made[offer_id]) / 1000)
    return latencies_ms, repeated


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--offers", type=int, default=100)
    parser.add_argument("--rate", type=float, default=OFFERS_PER_SECOND, help="offers a second at most")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        network = Network(Path(folder))
        try:
            figures = run(network, nodes=args.nodes, offers=args.offers, per_second=args.rate)
        finally:
            network.end()
    print(f"{args.nodes} nodes saw each other {figures.all_seen_s:.1f} s after the last one listened")
    print(
        f"a newcomer and they {figures.newcomer_seen_s:.1f} s after it listened; the bootstrap node was gone"
    )
    p50, p99 = figures.percentile(0.50), figures.percentile(0.99)
    late = sum(latency > 500 for latency in figures.latencies_ms)
    print(f"offers heard: {figures.received} of {figures.expected}, p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    print(f"after 500 ms: {late}; heard again: {figures.repeated}")
    held = (
        figures.all_seen_s <= 10
        and figures.newcomer_seen_s <= 10
        and figures.received == figures.expected
        and p99 < 1000
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
