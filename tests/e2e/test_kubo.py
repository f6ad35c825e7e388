"""A node that keeps its content in Kubo: jobs from and to it, and a Kubo that goes away and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e.nodes import environment, run_command, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bacalhau.v1.job_pb2 import Job
    from tests.e2e.nodes import Network, NodeProcess
    from tests.parts.kubo import KuboDaemon
    from tests.parts.wasm import WasmProgram

NO_DOCKER = ("--disable-engine", "docker")


def result_of(job: Job) -> str:
    result: str = job.executions[-1].report.result_cid
    return result


@pytest.fixture
def kubo_of_test(make_kubo: Callable[[], KuboDaemon]) -> KuboDaemon:
    return make_kubo()


@pytest.fixture
def node(network: Network, kubo_of_test: KuboDaemon) -> NodeProcess:
    return network.start("node", "--ipfs-api", kubo_of_test.url, *NO_DOCKER)


def test_a_job_reads_what_ipfs_add_made_and_ipfs_cat_reads_its_result(
    node: NodeProcess, kubo_of_test: KuboDaemon, wasm_program: WasmProgram, tmp_path: Path
) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    content = os.urandom(1_000_000).hex()
    (folder / "a.txt").write_text(content)
    cid = kubo_of_test.run("add", "-rQ", folder).decode().strip()
    job = node.wait_completed(
        node.submit("wasm", "--input", f"ipfs://{cid}:/inputs", str(wasm_program("cat")))
    )
    result = result_of(job)
    assert kubo_of_test.run("cat", f"{result}/stdout").decode() == content
    assert kubo_of_test.pins()[result] == f"bacalhau {node.node_id}"
    assert job.executions[0].report.usage.fetched_bytes == 0  # what its own Kubo has is no fetch


def test_an_input_that_only_the_network_of_kubo_has_is_brought_by_it(
    node: NodeProcess,
    kubo_of_test: KuboDaemon,
    make_kubo: Callable[[], KuboDaemon],
    wasm_program: WasmProgram,
) -> None:
    elsewhere = make_kubo()
    kubo_of_test.connect(elsewhere)
    content = os.urandom(500_000).hex().encode()
    cid = elsewhere.run("add", "-Q", stdin=content).decode().strip()
    job = node.wait_completed(
        node.submit("wasm", "--input", f"ipfs://{cid}:/file", str(wasm_program("cat")), "/file")
    )
    assert kubo_of_test.run("cat", f"{result_of(job)}/stdout") == content
    assert job.executions[0].report.usage.fetched_bytes >= len(content)


def test_a_result_reaches_the_kubo_of_the_node_that_ran_the_job(
    network: Network, kubo_of_test: KuboDaemon, wasm_program: WasmProgram
) -> None:
    requester = network.start("requester", "--node-type", "requester", "--heartbeat", "500ms")
    runner = network.node("runner", "--ipfs-api", kubo_of_test.url, "--heartbeat", "500ms", *NO_DOCKER)
    network.join(requester, runner)
    job = requester.wait_completed(requester.submit("wasm", str(wasm_program("hello"))))
    wait_until(lambda: result_of(job) in kubo_of_test.pins(), "its result is pinned")
    assert kubo_of_test.run("cat", f"{result_of(job)}/stdout") == b"Hello World\n"


def test_kubo_is_killed_while_a_job_runs_and_gets_the_result_when_it_is_back(
    node: NodeProcess, kubo_of_test: KuboDaemon, wasm_program: WasmProgram
) -> None:
    job_id = node.submit("wasm", str(wasm_program("sleep")), "1")
    node.wait_running(job_id)
    kubo_of_test.kill()
    job = node.wait_completed(job_id)
    assert len(job.executions) == 1
    wait_until(lambda: any("does not answer" in notice for notice in node.view().notices), "the node says so")
    result = result_of(job)
    assert node.cli("get", job_id, "--output-dir", str(node.folder) + ".results").returncode == 0
    kubo_of_test.start()
    wait_until(lambda: result in kubo_of_test.pins(), "the result is pinned in Kubo")
    assert kubo_of_test.run("cat", f"{result}/exitCode") == b"0"
    assert list(node.view().notices) == []


def test_a_job_waits_for_a_kubo_that_has_its_input_and_comes_back(
    node: NodeProcess, kubo_of_test: KuboDaemon, wasm_program: WasmProgram
) -> None:
    cid = kubo_of_test.run("add", "-Q", stdin=os.urandom(600_000).hex().encode()).decode().strip()
    # The offer names its root, which is looked at when the job is accepted; the rest is brought when it runs.
    program = str(wasm_program("cat"))
    assert node.cli("ipfs", "stat", cid).returncode == 0
    kubo_of_test.kill()
    job_id = node.submit("wasm", "--input", f"ipfs://{cid}:/file", program, "/file")
    node.wait_for(job_id, "AWARDED")
    kubo_of_test.start()
    job = node.wait_completed(job_id)
    assert len(job.executions) == 1
    assert node.cli("logs", job_id).stdout.encode() == kubo_of_test.run("cat", cid)


def test_a_node_starts_while_kubo_is_away_and_keeps_what_it_is_given(
    network: Network, kubo_of_test: KuboDaemon, tmp_path: Path
) -> None:
    kubo_of_test.kill()
    node = network.start("node", "--ipfs-api", kubo_of_test.url, *NO_DOCKER)
    assert f"note: ipfs: the Kubo node at {kubo_of_test.url} does not answer" in node.log
    (tmp_path / "file").write_text("kept\n")
    added = node.cli("ipfs", "add", "--quiet", str(tmp_path / "file"))
    assert added.returncode == 0, added.stderr
    cid = added.stdout.split()[-1]
    node.restart()
    kubo_of_test.start()
    wait_until(lambda: cid in kubo_of_test.pins(), "it is pinned in Kubo")
    assert kubo_of_test.run("cat", cid) == b"kept\n"


def test_without_the_package_the_node_says_how_to_install_it(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['ipfsApi'] = None; from bacalhau.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            hide,
            "serve",
            "--data-dir",
            tmp_path / "node",
            "--ipfs-api",
            "http://127.0.0.1:5001",
        ],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 125
    assert done.stderr.splitlines() == [
        "bacalhau: --ipfs-api needs the package ipfs-api, which is not installed: pip install bacalhau[kubo]"
    ]


def test_an_address_that_is_none_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = run_command("serve", "--data-dir", str(tmp_path / "node"), "--ipfs-api", "127.0.0.1:5001", env={})
    assert done.returncode == 2
    assert "is no address of a Kubo node: write http://HOST:PORT" in done.stderr
    assert not (tmp_path / "node").exists()
