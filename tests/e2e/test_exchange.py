"""Content that only Kubo holds is read by the command line and by jobs, Kubo reads what a node added and made, and the
node counts both."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from tests.p2p.bitswap.kubo import KuboDaemon, running_kubo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.nodes import Network, NodeProcess
    from tests.parts.wasm import WasmProgram

P2P = ("--p2p-listen", "/ip4/127.0.0.1/tcp/0")


@pytest.fixture
def daemon(kubo: Path, tmp_path: Path) -> Iterator[KuboDaemon]:
    with running_kubo(kubo, tmp_path) as running:
        yield running


def exchanged(node: NodeProcess) -> dict[str, int]:
    described = json.loads(done(node, "node", "describe", "--output", "json"))
    counters: dict[str, int] = described["exchange"]
    return counters


def done(node: NodeProcess, *words: str) -> str:
    completed = node.cli(*words)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_a_node_and_kubo_read_each_others_content(
    network: Network, daemon: KuboDaemon, tmp_path: Path
) -> None:
    node = network.start("node", *P2P, "--peer", daemon.address)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for number in range(3):
        (theirs / f"file {number}").write_bytes(random.Random(number).randbytes(700_000))
    cid = daemon.run("add", "-r", "-Q", theirs).decode().strip()
    done(node, "ipfs", "get", cid, "--output", str(tmp_path / "got"))
    for path in theirs.iterdir():
        assert (tmp_path / "got" / path.name).read_bytes() == path.read_bytes()
    received = exchanged(node)
    assert received["bytes_received"] > 2_100_000
    assert received["blocks_sent"] == 0

    ours = tmp_path / "ours"
    ours.write_bytes(random.Random(9).randbytes(200_000))
    added = done(node, "ipfs", "add", "--quieter", str(ours)).strip()
    assert daemon.run("cat", added) == ours.read_bytes()
    assert exchanged(node)["blocks_sent"] == 1


def test_a_job_reads_what_only_kubo_holds_and_kubo_reads_its_result(
    network: Network, daemon: KuboDaemon, tmp_path: Path, wasm_program: WasmProgram
) -> None:
    node = network.start("node", *P2P, "--peer", daemon.address)
    source = tmp_path / "input"
    source.write_text("only Kubo has this")
    cid = daemon.run("add", "-Q", source).decode().strip()
    program = str(wasm_program("cat"))
    completed = node.wait_completed(node.submit("wasm", "-i", f"{cid}:/inputs/data", program, "/inputs/data"))
    result = completed.executions[0].report.result_cid
    assert daemon.run("cat", f"{result}/stdout").decode() == "only Kubo has this"


def test_a_job_among_three_nodes_reads_what_only_kubo_holds_and_kubo_reads_its_result(
    network: Network, daemon: KuboDaemon, tmp_path: Path, wasm_program: WasmProgram
) -> None:
    flags = (*P2P, "--disable-engine", "docker", "--heartbeat", "500ms", "--peer", daemon.address)
    requester = network.start("requester", *flags, "--node-type", "requester")
    joining = (*flags, "--peer", requester.p2p_address)
    dear, cheap = (network.node(price, *joining, "--price-flat", price) for price in ("200", "100"))
    for node in (dear, cheap):
        node.begin()
    for node in (dear, cheap):
        node.wait_ready()
    requester.wait_knows(dear, cheap)
    source = tmp_path / "input"
    # More than one block, and text: the command prints it.
    source.write_text(random.Random(3).randbytes(600_000).hex())
    cid = daemon.run("add", "-Q", source).decode().strip()
    printed = done(
        requester, "wasm", "run", "-i", f"{cid}:/inputs/data", str(wasm_program("cat")), "/inputs/data"
    )
    (listed,) = json.loads(done(requester, "list", "-n", "1", "--output", "json"))
    (execution,) = requester.describe(listed["id"])["Executions"]
    assert execution["Node"] == cheap.node_id
    assert printed == source.read_text()
    assert daemon.run("cat", f"{execution['ResultCID']}/stdout") == source.read_bytes()
