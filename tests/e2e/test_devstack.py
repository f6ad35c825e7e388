"""`bacalhau devstack` runs a network, and leaves nothing of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from bacalhau.runtime.docker_request import NODE_LABEL
from tests.e2e.nodes import COMMAND, environment, run_command, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import docker


class Devstack:
    """A started devstack; `nodes` is what its ready file lists."""

    def __init__(self, folder: Path, *flags: str) -> None:
        ready = folder / "ready"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "devstack", "--api-port", "0", "--ready-file", str(ready), *flags],
                stderr=output,
                env=environment(TMPDIR=str(self.temporary)),
            )
        wait_until(lambda: ready.exists() or self.process.poll() is not None, "ready")
        assert ready.exists(), self.output.read_text()
        self.nodes: list[dict[str, Any]] = json.loads(ready.read_text())["nodes"]
        self.serving = [
            child for child in psutil.Process(self.process.pid).children() if "serve" in child.cmdline()
        ]

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        port = self.nodes[0]["api_address"].rpartition(":")[2]
        return run_command(*words, env={"BACALHAU_API_PORT": port})


@pytest.fixture
def devstack(tmp_path: Path) -> Iterator[Devstack]:
    started = Devstack(tmp_path, "--nodes", "2", "--disable-engine", "docker", "--labels", "zone=here")
    yield started
    started.process.kill()
    started.process.wait()


def test_all_nodes_of_a_devstack_know_each_other_and_have_its_flags(devstack: Devstack) -> None:
    assert len(devstack.nodes) == 2
    listed = json.loads(devstack.cli("node", "list", "--output", "json").stdout)
    assert {node["record"]["node_id"] for node in listed} == {node["node_id"] for node in devstack.nodes}
    assert all(node["record"]["engines"] == ["Wasm"] for node in listed)
    assert all(node["record"]["labels"] == [{"key": "zone", "value": "here"}] for node in listed)
    said = devstack.output.read_text()
    assert all(node["api_address"] in said and node["node_id"] in said for node in devstack.nodes)


def test_a_devstack_ends_at_ctrl_c_with_its_nodes_and_its_temporary_folder(devstack: Devstack) -> None:
    devstack.process.send_signal(signal.SIGINT)
    assert devstack.process.wait(20) == 0
    assert not any(child.is_running() for child in devstack.serving)
    assert list(devstack.temporary.iterdir()) == []


def test_a_devstack_with_temporary_data_leaves_no_container(
    docker_engine: docker.DockerClient, tmp_path: Path
) -> None:
    devstack = Devstack(tmp_path, "--nodes", "1")
    try:
        job_id = devstack.cli(
            "docker", "run", "--id-only", "busybox", "sh", "-c", "echo started; sleep 600"
        ).stdout
        (node_id,) = (node["node_id"] for node in devstack.nodes)
        filters: dict[str, str | list[str] | bool] = {"label": f"{NODE_LABEL}={node_id}"}
        wait_until(
            lambda: len(docker_engine.containers.list(filters=filters, ignore_removed=True)) == 1,
            f"{job_id} runs",
        )
        devstack.process.terminate()
        assert devstack.process.wait(20) == 0
        assert docker_engine.containers.list(all=True, filters=filters, ignore_removed=True) == []
    finally:
        devstack.process.kill()
        devstack.process.wait()


def test_a_devstack_ends_when_one_of_its_nodes_dies_and_says_which(devstack: Devstack) -> None:
    victim = next(child for child in devstack.serving if devstack.nodes[1]["data_dir"] in child.cmdline())
    victim.kill()
    assert devstack.process.wait(20) == 125
    assert "node-1 was killed by signal 9" in devstack.output.read_text()
    assert not any(child.is_running() for child in devstack.serving)


def test_the_nodes_of_a_devstack_that_is_killed_end_with_it(devstack: Devstack) -> None:
    os.kill(devstack.process.pid, signal.SIGKILL)
    devstack.process.wait(20)
    _, alive = psutil.wait_procs(devstack.serving, timeout=20)
    assert alive == []
