"""The examples of the documents, run as they stand against a real node."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bacalhau.cli.jobfile import parse_job_file
from bacalhau.wire.job import spec_from_proto
from tests.docs.documents import DOCUMENTS, REPOSITORY, Block, blocks, read
from tests.e2e.nodes import Network, NodeProcess
from tests.parts import missing_part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import docker

CLIENTS = REPOSITORY / "tests" / "clients"
SORTED = "apple\nfig\npear\n"
# What has to be downloaded or built the first time takes longer than a test may.
FIRST_TIME_SECONDS = 600

INCLUDED = [block for path in DOCUMENTS for block in blocks(path.read_text()) if block.file]


@pytest.fixture(scope="module")
def api(docker_engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a node's client API."""
    network = Network(tmp_path_factory.mktemp("network"))
    node: NodeProcess = network.start("node", "--heartbeat", "500ms")
    yield node.api_address
    network.end()


def run(
    *command: str | Path,
    cwd: Path | None = None,
    seconds: float = 60,
    stdin: str | None = None,
    **variables: str,
) -> str:
    """What it prints; fails where it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        input=stdin,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def check_client(printed: str) -> None:
    """Every client prints the input, each event, what the program wrote, and the result."""
    assert "JOB_EVENT_TYPE_SUBMITTED" in printed
    assert "JOB_EVENT_TYPE_COMPLETED" in printed
    assert f"\n{SORTED}result Qm" in printed
    assert "exit code 0" in printed.splitlines()[-1]
    assert r"apple\nfig\npear\n" in printed.splitlines()[-1]


@pytest.mark.parametrize("block", INCLUDED, ids=[block.file for block in INCLUDED])
def test_a_block_that_repeats_a_file_is_identical_to_it(block: Block) -> None:
    assert block.text == read(block.file)


def test_the_client_programs_and_job_files_are_all_in_the_documents() -> None:
    programs = {path for path in CLIENTS.rglob("*") if path.suffix in (".py", ".go", ".js")}
    programs = {path for path in programs if "node_modules" not in path.parts}
    examples = programs | set((REPOSITORY / "tests" / "docs").glob("*.yaml"))
    assert {path.relative_to(REPOSITORY).as_posix() for path in examples} <= {
        block.file for block in INCLUDED
    }


@pytest.mark.parametrize("name", ["job.yaml", "job-v1beta1.yaml"])
def test_the_job_files_of_the_documents_are_read_without_a_note_and_make_jobs(name: str) -> None:
    notes: list[str] = []
    spec = spec_from_proto(parse_job_file(read(f"tests/docs/{name}"), name, notes.append))
    assert notes == []
    assert [str(source.cid) for source in spec.inputs] == ["QmcjrbhmasNoYUvFdesJe3Y5KNgratvHp8ciY9G6r588wy"]
    assert {output.name for output in spec.outputs} == {"model", "outputs"}


def test_the_shell_blocks_run_a_whole_job_with_grpcurl_alone(api: str, grpcurl: Path, tmp_path: Path) -> None:
    script = "".join(block.text for block in blocks(read("docs/grpc.md")) if block.language == "sh")
    path = f"{grpcurl.parent}{os.pathsep}{os.environ['PATH']}"
    printed = run("bash", "-euo", "pipefail", "-s", cwd=tmp_path, stdin=script, NODE=api, PATH=path)
    assert "bacalhau.v1.JobService" in printed
    assert "rpc SubmitJob" in printed
    assert '"type": "JOB_EVENT_TYPE_COMPLETED"' in printed
    assert printed.count(SORTED) == 2  # from the log, and from the result
    assert (tmp_path / "stdout.txt").read_text() == SORTED


def test_the_python_client_runs_a_whole_job(api: str) -> None:
    check_client(run(sys.executable, CLIENTS / "python" / "job.py", api, PYTHONPATH=str(REPOSITORY)))


@pytest.mark.timeout(FIRST_TIME_SECONDS)
def test_the_go_client_runs_a_whole_job(api: str, go: Path, tmp_path: Path) -> None:
    folder = tmp_path / "client"
    shutil.copytree(CLIENTS / "go", folder)
    path = f"{go.parent}{os.pathsep}{os.environ['PATH']}"
    fetched = subprocess.run([go, "mod", "download"], cwd=folder, capture_output=True, text=True, check=False)
    if fetched.returncode != 0:
        missing_part("the Go modules of tests/clients/go", fetched.stderr.strip()[-300:])
    run("./generate", REPOSITORY / "proto", cwd=folder, seconds=300, PATH=path, PYTHON=sys.executable)
    run(go, "build", "-o", "job", ".", cwd=folder, seconds=300)
    check_client(run(folder / "job", api))


@pytest.mark.timeout(FIRST_TIME_SECONDS)
def test_the_javascript_client_runs_a_whole_job(api: str, node: Path, tmp_path: Path) -> None:
    packages = CLIENTS / "javascript" / "node_modules"
    if not packages.exists():
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(CLIENTS / "javascript" / name, tmp_path)
        install = [str(node.parent / "npm"), "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, check=False)
        if installed.returncode != 0:
            missing_part("the packages of tests/clients/javascript", installed.stderr.strip()[-300:])
        packages = tmp_path / "node_modules"
    check_client(run(node, CLIENTS / "javascript" / "job.js", api, NODE_PATH=str(packages)))
