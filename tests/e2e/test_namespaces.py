"""`scripts/network`: nodes in network namespaces, which see each other over bridges, and a cut between two of these."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import pytest

from tests.e2e.nodes import COMMAND, REPOSITORY, environment, wait_until
from tests.parts import missing_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.parts.wasm import WasmProgram

SERVE = ("--heartbeat", "500ms", "--bid-window", "5s", "--limit-total-cpu", "2")


def namespaces() -> set[str]:
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in listed.splitlines() if line}


class Topology:
    """A running `scripts/network`; `nodes` is what its ready file lists."""

    def __init__(self, folder: Path, *words: str, serve: Sequence[str]) -> None:
        self.folder = folder / "data"
        ready = folder / "ready"
        self.output = folder / "output"
        flags = ("--disable-engine", "docker", "--data-dir", str(self.folder), "--ready-file", str(ready))
        script = REPOSITORY / "scripts" / "network.d" / "network.py"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *words, *flags, "--", *SERVE, *serve],
                stderr=output,
                env=environment(),
            )
        self.prefix = f"bacalhau-{self.process.pid}-"
        wait_until(lambda: ready.exists() or self.process.poll() is not None, "ready")
        assert ready.exists(), self.output.read_text()
        self.nodes: list[dict[str, Any]] = json.loads(ready.read_text())["nodes"]

    def within(self, number: int, *words: str) -> str:
        """A command line inside the namespace of a node; what it prints."""
        command = ["ip", "netns", "exec", f"{self.prefix}node-{number}", *COMMAND, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def live(self, number: int) -> set[str]:
        listed = json.loads(self.within(number, "node", "list", "--output", "json"))
        return {node["record"]["node_id"] for node in listed if node["live"]}

    def describe(self, job_id: str, requester: int = 0) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(
            self.within(requester, "describe", "--json", "--include-events", job_id)
        )
        return described

    def happened(self, job_id: str, kind: str, number: int | None = None) -> bool:
        """Whether the job has an event of the kind, of the node with that number if one is given."""
        node_id = None if number is None else self.nodes[number]["node_id"]
        events = self.describe(job_id)["Events"]
        return any(e["Type"] == kind and node_id in (None, e.get("Node")) for e in events)

    def signal(self, number: int, what: signal.Signals) -> None:
        """To all that runs in the namespace of a node."""
        listed = subprocess.run(
            ["ip", "netns", "pids", f"{self.prefix}node-{number}"], check=True, capture_output=True, text=True
        )
        for pid in listed.stdout.split():
            os.kill(int(pid), what)

    def link(self, name: str, state: str) -> None:
        subprocess.run(["ip", "-n", f"{self.prefix}switch", "link", "set", name, state], check=True)

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Topology]]:
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("ip") is None:
        missing_part("network namespaces", "run as root on Linux with iproute2")
    started: list[Topology] = []

    def run(*words: str, lease: str = "4s", serve: Sequence[str] = ()) -> Topology:
        topology = Topology(tmp_path, *words, serve=("--lease", lease, *serve))
        started.append(topology)
        return topology

    yield run
    for topology in started:
        if topology.process.poll() is None:
            topology.end()
        left = {name for name in namespaces() if name.startswith(topology.prefix)}
        for name in left:
            subprocess.run(["ip", "netns", "delete", name], check=True)
        assert not left


@pytest.mark.parametrize("kind", ["star", "line", "two-islands"])
def test_the_nodes_of_each_topology_see_each_other_and_leave_nothing(
    start: Callable[..., Topology], kind: str
) -> None:
    topology = start(kind, "--nodes", "3")
    everyone = {node["node_id"] for node in topology.nodes}
    for number in range(3):
        wait_until(lambda number=number: topology.live(number) == everyone, f"node {number} sees all")  # type: ignore[misc]
    assert {node["peer_address"] for node in topology.nodes} == {f"10.77.0.{n}:1235" for n in (1, 2, 3)}
    assert topology.end() == 0
    assert not [name for name in namespaces() if name.startswith(topology.prefix)]


def runs(topology: Topology, number: int) -> int:
    """How many executions a node runs."""
    described = json.loads(topology.within(number, "node", "describe", "--output", "json"))
    return int(described.get("running_executions", 0))


def wait_idle(topology: Topology) -> None:
    """A message that a cut held up may come when the connection is found broken: 30 s until it is asked, 20 s until it
    has not answered (grpc.keepalive_time_ms), and work that it starts runs for a lease."""
    idle = [0] * len(topology.nodes)
    wait_until(
        lambda: [runs(topology, number) for number in range(len(idle))] == idle, "nothing runs any more", 120
    )


def begin_in_the_east(topology: Topology, program: str, seconds: int) -> str:
    """A job of the west that runs in the east for so long."""
    words = ("wasm", "run", "--id-only", "--selector", "island=east", program, str(seconds))
    job_id = topology.within(0, *words).strip()
    wait_until(lambda: runs(topology, 1) == 1, "it runs in the east")
    return job_id


def test_a_cut_that_is_shorter_than_the_lease_costs_nothing(
    start: Callable[..., Topology], wasm_program: WasmProgram
) -> None:
    topology = start("two-islands", "--nodes", "2", "--log-level", "info", lease="20s")
    job_id = begin_in_the_east(topology, str(wasm_program("sleep")), 10)
    topology.link("islands", "down")
    log = topology.folder / "node-1.log"
    wait_until(lambda: "did not answer" in log.read_text(), "a message was lost")
    topology.link("islands", "up")
    wait_until(lambda: topology.describe(job_id)["State"] == "Completed", "the job has ended")
    (execution,) = topology.describe(job_id)["Executions"]
    assert execution["Node"] == topology.nodes[1]["node_id"]
    assert execution["ChargedMicrocredits"] > 0


def test_a_cut_between_the_islands_while_jobs_run_ends_with_one_paid_execution_of_each(
    start: Callable[..., Topology], wasm_program: WasmProgram
) -> None:
    topology = start("two-islands", "--nodes", "3")
    # Each fills a node, so that one of them runs in the east.
    words = ("wasm", "run", "--id-only", "--cpu", "2", str(wasm_program("sleep")), "10")
    job_ids = [topology.within(0, *words).strip() for _ in range(3)]
    wait_until(lambda: runs(topology, 2) == 1, "one runs in the east")
    topology.link("islands", "down")
    wait_until(lambda: runs(topology, 2) == 0, "the east has stopped it with its lease")
    topology.link("islands", "up")
    wait_until(
        lambda: all(topology.describe(job_id)["State"] == "Completed" for job_id in job_ids),
        "all have ended",
        90,
    )
    executions = [topology.describe(job_id)["Executions"] for job_id in job_ids]
    assert [len([e for e in of_job if e["ChargedMicrocredits"]]) for of_job in executions] == [1, 1, 1]
    (again,) = (of_job for of_job in executions if len(of_job) > 1)
    assert [e["State"] for e in again] == ["Failed", "Completed"]
    assert again[0]["Node"] == topology.nodes[2]["node_id"]
    wait_idle(topology)


def paid_nodes(job: dict[str, Any]) -> list[str]:
    return [e["Node"] for e in job["Executions"] if e["ChargedMicrocredits"]]


def test_an_offer_that_a_cut_swallows_is_bid_on_when_the_cut_heals_within_the_bid_window(
    start: Callable[..., Topology], wasm_program: WasmProgram
) -> None:
    patient = ("--bid-window", "30s", "--heartbeat", "5s")
    topology = start("two-islands", "--nodes", "2", serve=patient)
    words = ("wasm", "run", "--id-only", "--selector", "island=east", str(wasm_program("hello")))
    topology.link("islands", "down")
    job_id = topology.within(0, *words).strip()
    wait_until(lambda: topology.happened(job_id, "Declined", 0), "the west has answered")
    assert not topology.happened(job_id, "BidReceived")
    topology.link("islands", "up")
    wait_until(lambda: topology.describe(job_id)["State"] == "Completed", "the job has ended")
    job = topology.describe(job_id)
    assert len(job["Executions"]) == 1
    assert paid_nodes(job) == [topology.nodes[1]["node_id"]]


def test_an_award_that_a_cut_swallows_goes_to_another_bidder_and_one_execution_is_paid(
    start: Callable[..., Topology], wasm_program: WasmProgram, tmp_path: Path
) -> None:
    price = tmp_path / "price"
    price.write_text("#!/bin/sh\nip address show eth0 | grep -q 10.77.0.3/ && echo 1 || echo 2\n")
    price.chmod(0o755)
    patient = ("--bid-window", "30s", "--heartbeat", "5s", "--price-script", str(price))
    topology = start("two-islands", "--nodes", "3", "--log-level", "info", serve=patient)
    # The auction waits for the second, so that there is a time between the bid and the award.
    topology.signal(1, signal.SIGSTOP)
    try:
        job_id = topology.within(0, "wasm", "run", "--id-only", str(wasm_program("hello"))).strip()
        wait_until(lambda: topology.happened(job_id, "BidReceived", 2), "the east has bid least")
        topology.link("islands", "down")
    finally:
        topology.signal(1, signal.SIGCONT)
    wait_until(lambda: topology.happened(job_id, "AwardRefused", 2), "the award was lost")
    topology.link("islands", "up")
    wait_until(lambda: topology.describe(job_id)["State"] == "Completed", "the job has ended")
    job = topology.describe(job_id)
    assert [e["Node"] == topology.nodes[2]["node_id"] for e in job["Executions"]] == [True, False]
    assert paid_nodes(job) == [job["Executions"][1]["Node"]]
    wait_idle(topology)


def test_a_report_that_a_cut_swallows_is_made_again_and_paid_when_the_cut_heals(
    start: Callable[..., Topology], wasm_program: WasmProgram
) -> None:
    topology = start("two-islands", "--nodes", "2", "--log-level", "info", lease="30s")
    job_id = begin_in_the_east(topology, str(wasm_program("sleep")), 4)
    topology.link("islands", "down")
    log = topology.folder / "node-1.log"
    wait_until(lambda: "ExecutionReport to" in log.read_text(), "the report was lost")
    assert topology.describe(job_id)["State"] != "Completed"
    topology.link("islands", "up")
    wait_until(lambda: topology.describe(job_id)["State"] == "Completed", "the job has ended")
    job = topology.describe(job_id)
    assert len(job["Executions"]) == 1
    assert paid_nodes(job) == [topology.nodes[1]["node_id"]]


def test_a_report_that_comes_after_the_lease_and_another_execution_is_not_paid(
    start: Callable[..., Topology], wasm_program: WasmProgram
) -> None:
    topology = start("two-islands", "--nodes", "3", "--log-level", "info", lease="8s")
    words = ("wasm", "run", "--id-only", "--selector", "island=west", str(wasm_program("sleep")), "4")
    job_id = topology.within(2, *words).strip()
    wait_until(lambda: runs(topology, 0) + runs(topology, 1) == 1, "it runs in the west")
    first, other = (0, 1) if runs(topology, 0) else (1, 0)
    topology.link(f"node-{first}", "down")
    log = topology.folder / f"node-{first}.log"
    wait_until(lambda: "ExecutionReport to" in log.read_text(), "it has ended, and its report was lost")
    wait_until(lambda: topology.describe(job_id, 2)["State"] == "Completed", "another has run it")
    topology.link(f"node-{first}", "up")
    refused = f"ExecutionReport to {topology.nodes[2]['node_id']} was refused"
    wait_until(lambda: refused in log.read_text(), "its report was refused")
    job = topology.describe(job_id, 2)
    assert [e["State"] for e in job["Executions"]] == ["Failed", "Completed"]
    assert paid_nodes(job) == [topology.nodes[other]["node_id"]]


def test_what_is_sent_to_a_node_arrives_late_where_a_delay_is_asked_for(
    start: Callable[..., Topology], wasm_program: WasmProgram
) -> None:
    cache = Path(platformdirs.user_cache_dir("bacalhau"), "toxiproxy-v2.5.0")
    if not (Path(os.environ.get("BACALHAU_TOXIPROXY") or cache) / "server").exists():
        missing_part("Toxiproxy", "scripts/network star --delay 1 builds it, with Go")
    topology = start("star", "--delay", "300", "--nodes", "2", lease="30s")
    everyone = {node["node_id"] for node in topology.nodes}
    wait_until(lambda: topology.live(1) == everyone, "the second sees the first")
    words = ("wasm", "run", "--id-only", str(wasm_program("hello")))
    job_id = topology.within(0, *words).strip()
    wait_until(lambda: topology.describe(job_id)["State"] == "Completed", "the job has ended")
    described = json.loads(topology.within(0, "describe", "--json", "--include-events", job_id))
    at = {
        (event["Type"], event.get("Node", "")): datetime.fromisoformat(event["Time"])
        for event in described["Events"]
    }
    far = at["BidReceived", topology.nodes[1]["node_id"]] - at["Offered", ""]
    near = at["BidReceived", topology.nodes[0]["node_id"]] - at["Offered", ""]
    # The offer to the node, and its bid, are each 300 ms on their way.
    assert far.total_seconds() >= 0.6 > near.total_seconds()


def test_a_network_that_was_killed_is_cleaned_up(start: Callable[..., Topology]) -> None:
    topology = start("star", "--nodes", "1")
    topology.process.kill()
    topology.process.wait()
    left = {name for name in namespaces() if name.startswith(topology.prefix)}
    assert left == {f"{topology.prefix}switch", f"{topology.prefix}node-0"}
    script = REPOSITORY / "scripts" / "network.d" / "network.py"
    subprocess.run([sys.executable, str(script), "clean"], check=True, env=environment())
    assert not [name for name in namespaces() if name.startswith(topology.prefix)]
