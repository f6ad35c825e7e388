"""Jobs by the command line against one node: what a user types, what comes back on which stream, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from bacalhau.v1.job_pb2 import JobState
from tests.e2e.nodes import containers_of, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import docker

    from tests.e2e.nodes import NodeProcess
    from tests.parts.wasm import WasmProgram

JOB_FILE = """\
Name: Docker Job with Output
Type: batch
Count: 1
Tasks:
  - Name: main
    Engine:
      Type: docker
      Params:
        Image: ubuntu
        Entrypoint:
          - /bin/bash
        Parameters:
          - -c
          - echo "$GREETING" | tee /outputs/hello.txt
        EnvironmentVariables:
          - GREETING=Hello from a file
    Publisher:
      Type: ipfs
    ResultPaths:
      - Name: outputs
        Path: /outputs
    Resources:
      CPU: 500m
      Memory: 256Mb
    Timeouts:
      ExecutionTimeout: 60
"""

# --- the seed's commands, word for word ---


def test_hello_world_is_on_stdout_and_all_else_on_stderr(
    docker_engine: docker.DockerClient, shared_node: NodeProcess
) -> None:
    done = shared_node.cli("docker", "run", "ubuntu", "echo", "Hello", "World")
    assert (done.returncode, done.stdout) == (0, "Hello World\n"), done.stderr
    job_id = next(word for word in done.stderr.split() if word.startswith("j-"))
    cid = done.stderr.partition("\nresult ")[2].split()[0]
    assert " credits" in done.stderr.partition("\nprice ")[2].splitlines()[0]
    listed = shared_node.cli("list", f"--id-filter={job_id}").stdout
    assert len(listed.splitlines()) == 2
    assert job_id[:10] in listed
    assert "Completed" in listed
    assert cid in listed
    short = json.loads(shared_node.cli("list", f"--id-filter={job_id[:12]}", "--output", "json").stdout)
    assert [job["id"] for job in short] == [job_id]
    assert shared_node.cli("ipfs", "cat", f"{cid}/stdout").stdout == "Hello World\n"


def test_a_mounted_folder_has_the_cid_that_kubo_gives_it(
    docker_engine: docker.DockerClient, kubo: Path, shared_node: NodeProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    (folder / "below").mkdir(parents=True)
    (folder / "read_csv.py").write_text("print('columns')\n")
    (folder / "below" / "data.bin").write_bytes(bytes(range(256)) * 2048)
    variables = {"IPFS_PATH": str(tmp_path / "kubo")}
    subprocess.run([kubo, "init", "--empty-repo"], env=variables, check=True, capture_output=True)
    added_by_kubo = subprocess.run(
        [kubo, "add", "-r", "-Q", str(folder)], env=variables, check=True, capture_output=True, text=True
    )
    added = shared_node.cli("ipfs", "add", "-r", "-Q", str(folder))
    assert added.returncode == 0, added.stderr
    cid = added.stdout.strip()
    assert cid == added_by_kubo.stdout.strip()
    done = shared_node.cli("docker", "run", "-v", f"{cid}:/files", "ubuntu", "cat", "/files/read_csv.py")
    assert (done.returncode, done.stdout) == (0, "print('columns')\n"), done.stderr
    written = shared_node.cli("docker", "run", "-v", f"{cid}:/files", "ubuntu", "touch", "/files/new")
    assert written.returncode == 1
    assert "Read-only file system" in written.stderr


# --- exit codes and streams ---


def test_the_exit_code_is_the_jobs_own_and_its_streams_stay_apart(
    docker_engine: docker.DockerClient, shared_node: NodeProcess
) -> None:
    script = "echo out; echo err >&2; mkdir -p /outputs && echo kept > /outputs/file; exit 7"
    done = shared_node.cli("docker", "run", "--quiet", "ubuntu", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    newest = json.loads(shared_node.cli("list", "-n", "1", "--output", "json").stdout)[0]
    assert newest["state"] == "Completed"


def test_results_come_also_from_a_job_that_exits_non_zero(
    docker_engine: docker.DockerClient, shared_node: NodeProcess, tmp_path: Path
) -> None:
    script = "echo out; echo err >&2; echo kept > /outputs/file; exit 7"
    job_id = shared_node.submit("docker", "ubuntu", "sh", "-c", script)
    shared_node.wait_completed(job_id)
    done = shared_node.cli("get", "--output-dir", str(tmp_path / "result"), job_id)
    assert done.returncode == 0, done.stderr
    read = {path.name: path.read_text() for path in (tmp_path / "result").rglob("*") if path.is_file()}
    assert read == {"stdout": "out\n", "stderr": "err\n", "exitCode": "7", "file": "kept\n"}


def test_a_system_failure_is_125_and_says_what_failed(
    docker_engine: docker.DockerClient, shared_node: NodeProcess
) -> None:
    done = shared_node.cli("docker", "run", "ubuntu", "/no/such/program")
    assert done.returncode == 125
    assert done.stdout == ""
    assert "/no/such/program" in done.stderr


def test_a_command_line_that_is_wrong_is_2(shared_node: NodeProcess) -> None:
    done = shared_node.cli("docker", "run", "--no-such-flag", "ubuntu", "true")
    assert done.returncode == 2
    assert "--no-such-flag" in done.stderr


def test_id_only_prints_the_id_alone_and_detach_does_not_wait(
    docker_engine: docker.DockerClient, shared_node: NodeProcess
) -> None:
    quiet = shared_node.cli("docker", "run", "--id-only", "ubuntu", "true")
    assert quiet.stderr == ""
    detached = shared_node.cli("docker", "run", "--detach", "busybox", "sleep", "60")
    job_id = detached.stdout.strip()
    assert shared_node.job(quiet.stdout.strip()).id == quiet.stdout.strip()
    assert shared_node.job(job_id).state != JobState.JOB_STATE_COMPLETED
    assert shared_node.cli("cancel", job_id).returncode == 0


# --- job files ---


def test_a_job_file_of_the_go_bacalhau_runs_unchanged(
    docker_engine: docker.DockerClient, shared_node: NodeProcess, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(JOB_FILE)
    done = shared_node.cli("create", str(tmp_path / "job.yaml"))
    assert (done.returncode, done.stdout) == (0, "Hello from a file\n"), done.stderr
    from_stdin = shared_node.cli("job", "run", "-", stdin=JOB_FILE)
    assert (from_stdin.returncode, from_stdin.stdout) == (0, "Hello from a file\n"), from_stdin.stderr


def test_a_dry_run_prints_what_create_accepts(
    docker_engine: docker.DockerClient, shared_node: NodeProcess
) -> None:
    before = len(json.loads(shared_node.cli("list", "--all", "--output", "json").stdout))
    words = (
        "docker",
        "run",
        "--dry-run",
        "-e",
        "A=1 2",
        "--cpu",
        "0.2",
        "ubuntu",
        "sh",
        "-c",
        'echo "$A"; exit 3',
    )
    printed = shared_node.cli(*words).stdout
    assert len(json.loads(shared_node.cli("list", "--all", "--output", "json").stdout)) == before
    done = shared_node.cli("create", "-", stdin=printed)
    assert (done.returncode, done.stdout) == (3, "1 2\n"), done.stderr


def test_the_newest_job_is_listed_first(docker_engine: docker.DockerClient, shared_node: NodeProcess) -> None:
    older, newer = (shared_node.submit("docker", "busybox", "true") for _ in range(2))
    listed = json.loads(shared_node.cli("list", "-n", "2", "--output", "json").stdout)
    assert [job["id"] for job in listed] == [newer, older]


# --- WASM ---


def test_a_wasm_program_runs_from_a_file_with_arguments_inputs_and_outputs(
    wasm_program: WasmProgram, shared_node: NodeProcess, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("from the client\n")
    done = shared_node.cli(
        *("wasm", "run", "-i", f"{tmp_path / 'data'}:/inputs", str(wasm_program("cat")), "/inputs/a.txt")
    )
    assert (done.returncode, done.stdout) == (0, "from the client\n"), done.stderr
    coded = shared_node.cli("wasm", "run", str(wasm_program("exit_code")), "9")
    assert coded.returncode == 9, coded.stderr
    words = (
        "wasm",
        "run",
        "--download",
        "--output-dir",
        str(tmp_path / "got"),
        str(wasm_program("write_outputs")),
    )
    written = shared_node.cli(*words)
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "got" / "outputs" / "below" / "more.txt").read_text() == "more of it\n"


def test_a_wasm_module_is_also_named_by_its_cid_and_imports_others(
    wasm_program: WasmProgram, shared_node: NodeProcess
) -> None:
    cid = shared_node.cli("ipfs", "add", "-Q", str(wasm_program("uses_library"))).stdout.strip()
    done = shared_node.cli("wasm", "run", "-I", f"library={wasm_program('library')}", cid)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


# --- logs and cancelling ---


@pytest.mark.parametrize("engine", ["docker", "wasm"])
def test_the_first_line_of_a_log_comes_while_the_job_still_sleeps(
    docker_engine: docker.DockerClient, wasm_program: WasmProgram, shared_node: NodeProcess, engine: str
) -> None:
    words = {
        "docker": ("docker", "busybox", "sh", "-c", "echo before the sleep; sleep 60"),
        "wasm": ("wasm", str(wasm_program("logtest")), "60"),
    }[engine]
    job_id = shared_node.submit(*words)
    follower = shared_node.begin_cli("logs", "-f", job_id)
    assert follower.stdout is not None
    assert follower.stdout.readline() == "before the sleep\n"
    assert shared_node.job(job_id).state == JobState.JOB_STATE_RUNNING
    assert shared_node.cli("cancel", job_id).returncode == 0
    assert follower.wait(30) in (0, 125)


def test_a_running_job_is_cancelled_and_its_container_goes(
    docker_engine: docker.DockerClient, shared_node: NodeProcess
) -> None:
    job_id = shared_node.submit("docker", "busybox", "sleep", "600")
    execution_id = shared_node.wait_running(job_id).execution_id
    done = shared_node.cli("cancel", job_id)
    assert done.returncode == 0, done.stderr
    assert shared_node.wait_ended(job_id).state == JobState.JOB_STATE_CANCELLED
    shared_node.wait_idle()
    wait_until(lambda: containers_of(docker_engine, execution_id) == [], "its container is removed")
    again = shared_node.cli("cancel", job_id)
    assert again.returncode == 0, again.stderr


def test_a_queued_job_is_cancelled(docker_engine: docker.DockerClient, shared_node: NodeProcess) -> None:
    cpus = str(shared_node.view().record.capacity.cpu_millicores // 1000)
    running = shared_node.submit("docker", "--cpu", cpus, "busybox", "sleep", "600")
    shared_node.wait_running(running)
    queued = shared_node.submit("docker", "--cpu", cpus, "busybox", "true")
    assert shared_node.wait_for(queued, "DECLINED").refusal.message
    shared_node.wait_for(queued, "QUEUED")
    assert shared_node.cli("cancel", queued).returncode == 0
    assert shared_node.job(queued).state == JobState.JOB_STATE_CANCELLED
    assert shared_node.cli("cancel", running).returncode == 0
    shared_node.wait_idle()


def test_ctrl_c_cancels_the_job_that_is_followed(
    docker_engine: docker.DockerClient, shared_node: NodeProcess
) -> None:
    client = shared_node.begin_cli("docker", "run", "busybox", "sh", "-c", "echo started; sleep 600")
    assert client.stdout is not None
    assert client.stdout.readline() == "started\n"
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=30)
    assert client.returncode == 130
    job_id = next(word for word in said.split() if word.startswith("j-"))
    assert shared_node.wait_ended(job_id).state == JobState.JOB_STATE_CANCELLED
