"""Hostile peers on gossip, on Bitswap and on the peer API, each a process that sends the real bytes: the node serves a
bystander meanwhile, its memory and disk stay bounded, and its metrics tell. Those of Bitswap against its exchange alone
are in tests/p2p/bitswap."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bacalhau.model.cid import RAW, Cid
from bacalhau.model.units import MIB
from bacalhau.rpc import limits
from bacalhau.rpc.peer_client import PeerLink, PeerUnreachable
from tests.e2e.nodes import REPOSITORY, WAIT_SECONDS, environment, wait_until
from tests.e2e.strangers import LISTEN
from tests.node.live import HELLO
from tests.parts import missing_part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.nodes import Network, NodeProcess

GROWTH_BYTES = 60 * MIB
DISK_BYTES = 30 * MIB
CONNECTION_BYTES = 80 * 1024
GOSSIP, BITSWAP = "tests.p2p.hostile", "tests.p2p.bitswap.hostile"
PEER_API = "tests.rpc.hostile"


@contextlib.contextmanager
def attacking(attack: str, victim: NodeProcess, module: str = GOSSIP) -> Iterator[str]:
    """A hostile peer in mid-attack; its id, or on Bitswap the root of what it offers."""
    address = victim.peer_address if module == PEER_API else victim.p2p_address
    process = subprocess.Popen(
        [sys.executable, "-m", module, attack, address],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the attacker has ended"
        yield line.split()[-1]
        assert process.poll() is None, "the attacker has ended"
    finally:
        process.kill()
        process.communicate()


@dataclass
class Pair:
    """A node that is attacked, and one that is not."""

    victim: NodeProcess
    bystander: NodeProcess
    program: Path

    def runs(self, requester: NodeProcess, name: str) -> None:
        """A job of the requester on the node with this name, from its submission to its output."""
        done = requester.cli("wasm", "run", "--selector", f"name={name}", str(self.program))
        assert (done.returncode, done.stdout) == (0, "Hello World\n"), done.stderr

    def serves(self) -> None:
        self.runs(self.bystander, "victim")
        self.runs(self.victim, "bystander")

    def metric(self, name: str, **labels: str) -> float:
        """Its value, 0 where it has none; the sum of those that have these labels among theirs."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.victim.metrics_address}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def refused(self, what: str) -> float:
        return self.metric("bacalhau_bitswap_refused_total", what=what)

    def resident_bytes(self) -> int:
        resident: int = psutil.Process(self.victim.pid).memory_info().rss
        return resident

    def disk_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.victim.folder.rglob("*") if path.is_file())

    @contextlib.contextmanager
    def bounded(self, growth_bytes: int = GROWTH_BYTES) -> Iterator[None]:
        resident, disk = self.resident_bytes(), self.disk_bytes()
        yield
        grown, written = self.resident_bytes() - resident, self.disk_bytes() - disk
        print(f"memory {grown / MIB:+.1f} MiB, disk {written / MIB:+.1f} MiB")
        assert grown < growth_bytes
        assert written < DISK_BYTES


@pytest.fixture(scope="module")
def pair(shared_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    if importlib.util.find_spec("libp2p") is None:
        missing_part("libp2p", "pip install 'bacalhau[p2p]'")
    program = tmp_path_factory.mktemp("program") / "hello.wat"
    program.write_bytes(HELLO)
    flags = (*LISTEN, "--disable-engine", "docker", "--heartbeat", "500ms", "--bid-window", "2s")
    victim = shared_network.start("victim", *flags, "--labels", "name=victim", "--metrics-port", "0")
    bystander = shared_network.node("bystander", *flags, "--labels", "name=bystander")
    bystander.flags += ("--peer", victim.p2p_address)
    bystander.start()
    victim.wait_knows(bystander)
    bystander.wait_knows(victim)
    pair = Pair(victim, bystander, program)
    # What first jobs cost is nobody's attack.
    pair.serves()
    return pair


@pytest.mark.parametrize(
    ("attack", "reason"),
    [("forged", "forged"), ("replayed", "forged"), ("changed_key", "forged"), ("flood", "frequent")],
)
def test_whoever_floods_forges_or_replays_is_cut_off_while_jobs_go_on(
    pair: Pair, attack: str, reason: str
) -> None:
    dropped = pair.metric("bacalhau_gossip_dropped_total", reason=reason)
    cut_off = pair.metric("bacalhau_gossip_peers_cut_off_total")
    with pair.bounded(), attacking(attack, pair.victim):
        pair.serves()
        wait_until(
            lambda: pair.metric("bacalhau_gossip_peers_cut_off_total") > cut_off, "the metrics tell", 30
        )
        assert pair.metric("bacalhau_gossip_dropped_total", reason=reason) >= dropped + 5
        pair.serves()
    assert pair.metric("bacalhau_libp2p_restarts_total") == 0
    assert pair.bystander.node_id in pair.victim.live_ids()


def test_streams_and_connections_that_never_say_anything_hold_nobody_up(pair: Pair) -> None:
    files = pair.metric("process_open_fds")
    with pair.bounded(), attacking("slow_loris", pair.victim):
        wait_until(lambda: pair.metric("process_open_fds") > files + 50, "it is attacked")
        pair.serves()
        wait_until(lambda: pair.metric("process_open_fds") < files + 10, "what it held is free again")
    assert pair.metric("bacalhau_libp2p_restarts_total") == 0


@pytest.mark.parametrize(
    ("attack", "what"),
    [
        ("unsolicited", ("unsolicited_blocks", "dropped_peers")),
        ("million_wants", ("unread_want_bytes", "faulty_streams")),
        ("slow_loris", ("refused_streams", "faulty_streams")),
    ],
)
def test_what_nobody_should_send_by_bitswap_is_refused_while_jobs_go_on(
    pair: Pair, attack: str, what: tuple[str, ...]
) -> None:
    refused = {one: pair.refused(one) for one in what}
    with pair.bounded(), attacking(attack, pair.victim, BITSWAP):
        pair.serves()
        wait_until(lambda: all(pair.refused(one) > refused[one] for one in what), "the metrics tell")
        pair.serves()
    assert pair.metric("bacalhau_libp2p_restarts_total") == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("endless_dag", "INPUT_TOO_LARGE"),
        ("endless_chain", "INPUT_TOO_LARGE"),
        ("wrong_blocks", "CONTENT_UNAVAILABLE"),
    ],
)
def test_a_job_whose_input_has_no_end_or_is_a_lie_fails_and_says_so_while_others_go_on(
    pair: Pair, attack: str, reason: str
) -> None:
    unsolicited = pair.refused("unsolicited_blocks")
    with pair.bounded(), attacking(attack, pair.victim, BITSWAP) as offered:
        lie = attack == "wrong_blocks"
        root = str(Cid.of(RAW, b"only the liar says that it has this")) if lie else offered
        mounted = ("-i", f"{root}:/inputs", "--selector", "name=victim")
        job = pair.victim.begin_cli("wasm", "run", "--disk", "20Mb", *mounted, str(pair.program))
        pair.serves()
        _, said = job.communicate(timeout=2 * WAIT_SECONDS)
        assert job.returncode == 125
        assert reason in said, said
        assert (pair.refused("unsolicited_blocks") > unsolicited) == lie
        pair.serves()


def test_thousands_of_silent_connections_to_the_peer_api_use_up_no_files(pair: Pair) -> None:
    files = pair.metric("process_open_fds")
    with pair.bounded(), attacking("silent", pair.victim, PEER_API):
        wait_until(lambda: pair.metric("process_open_fds") > files + 500, "it is attacked")
        assert pair.metric("process_open_fds") < files + limits.PEER_CONNECTIONS_MAX + 50
        pair.serves()
        wait_until(lambda: pair.metric("process_open_fds") < files + 10, "what it held is free again")
        pair.serves()


def test_calls_without_a_key_that_would_never_end_leave_the_peer_api_open(pair: Pair) -> None:
    with pair.bounded(), attacking("endless", pair.victim, PEER_API):
        pair.serves()


def newcomer_is_served(pair: Pair) -> bool:
    async def ask() -> bool:
        try:
            link = await PeerLink.open(pair.victim.peer_address)
        except PeerUnreachable:
            return False
        try:
            await link.get_peers()
        except PeerUnreachable:
            return False
        finally:
            await link.close()
        return True

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("attack", "growth_bytes"),
    [("finished", limits.PEER_CONNECTIONS_MAX * CONNECTION_BYTES), ("half_calls", GROWTH_BYTES)],
)
def test_connections_and_calls_that_never_do_anything_leave_room_for_newcomers(
    pair: Pair, attack: str, growth_bytes: int
) -> None:
    with pair.bounded(growth_bytes), attacking(attack, pair.victim, PEER_API):
        wait_until(lambda: newcomer_is_served(pair), "there is room again", 45)
        pair.serves()
