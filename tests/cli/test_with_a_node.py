"""Commands against a real node: the seed's own, and each kind of content and ending."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import REPOSITORY, environment

if TYPE_CHECKING:
    import docker

    from tests.parts.wasm import WasmProgram

Run = Callable[..., subprocess.CompletedProcess[bytes]]

START_SECONDS = 30.0
JOBS = Path(__file__).parent / "jobs"


@contextlib.contextmanager
def serving(folder: Path, *flags: str) -> Iterator[int]:
    """The port of a node's client API; the node is a process of its own."""
    with node_process(folder, *flags) as (port, _):
        yield port


@contextlib.contextmanager
def node_process(
    folder: Path, *flags: str, api_port: int = 0
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A node, and the port of its client API."""
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    words = [
        "serve",
        "--data-dir",
        str(folder / "data"),
        "--api-port",
        str(api_port),
        "--peer-port",
        "0",
        *flags,
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bacalhau", *words, "--ready-file", str(ready)],
            stdout=log,
            stderr=log,
            env=environment(0),
            cwd=REPOSITORY,
        )
    try:
        begun = time.monotonic()
        while not ready.exists():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() - begun < START_SECONDS, (folder / "log").read_text()
            time.sleep(
                0.05
            )  # the ready file is the signal that scripts have; it cannot be waited for otherwise
        yield int(json.loads(ready.read_text())["api_address"].rpartition(":")[2]), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(tmp_path_factory.mktemp("node")) as port:
        yield port


@pytest.fixture
def bacalhau(port: int, tmp_path: Path) -> Run:
    def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "bacalhau", *words],
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env=environment(port),
        )

    return run


def test_the_seeds_commands_run_word_for_word(
    bacalhau: Run, docker_engine: docker.DockerClient, tmp_path: Path
) -> None:
    hello = bacalhau("docker", "run", "ubuntu", "echo", "Hello World")
    assert (hello.returncode, hello.stdout) == (0, b"Hello World\n"), hello.stderr
    job_id = hello.stderr.decode().split()[1]
    assert job_id.startswith("j-")
    listed = bacalhau("list", f"--id-filter={job_id}", "--hide-header")
    assert b"Docker ubuntu echo Hel" in listed.stdout
    assert b"Completed" in listed.stdout
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "read_csv.py").write_bytes(b"print(1)\n")
    cid = bacalhau("ipfs", "add", "-rQ", "code").stdout.decode().strip()
    cat = bacalhau("docker", "run", "-v", f"{cid}:/files", "ubuntu", "cat", "/files/read_csv.py")
    assert (cat.returncode, cat.stdout) == (0, b"print(1)\n"), cat.stderr


def test_job_file_with_its_program_inside_ends_with_the_programs_exit_code(bacalhau: Run) -> None:
    done = bacalhau("create", str(JOBS / "wasm.yaml"))
    assert done.returncode == 7, done.stderr


def test_result_of_a_wasm_job_is_fetched_and_described(
    bacalhau: Run, wasm_program: WasmProgram, tmp_path: Path
) -> None:
    done = bacalhau("wasm", "run", "--download", "-o", "extra:/extra", str(wasm_program("hello")))
    assert done.returncode == 0, done.stderr
    job_id = done.stderr.decode().partition("job ")[2].split()[0]
    result = tmp_path / f"job-{job_id[2:10]}"
    assert (result / "stdout").read_bytes() == done.stdout
    assert (result / "exitCode").read_bytes().strip() == b"0"
    assert (result / "outputs").is_dir()
    assert (result / "extra").is_dir()
    described = json.loads(bacalhau("describe", "--json", "--include-events", job_id[2:10]).stdout)
    assert described["State"] == "Completed"
    assert [bid["Won"] for bid in described["Bids"]] == [True]
    # It ran for a small part of its time: the floor of a tenth is due.
    assert described["ChargedMicrocredits"] == described["Bids"][0]["PriceMicrocredits"] // 10
    assert [event["Type"] for event in described["Events"]][-1] == "Completed"
    assert bacalhau("logs", job_id).stdout == done.stdout
    spec = bacalhau("describe", "--spec", job_id).stdout
    assert bacalhau("create", "-", stdin=spec).stdout == done.stdout
    assert job_id.encode() in bacalhau("job", "list", "--wide", "--limit", "100").stdout


def test_unknown_content_fails_at_once_and_says_so(bacalhau: Run) -> None:
    cid = "QmfKJT13h5k1b23ja3ZCVg5nFL9oKz2bVXc8oXgtwiwhjz"
    done = bacalhau("docker", "run", "-v", f"{cid}:/files", "ubuntu", "true")
    assert done.returncode == 125
    assert f"no peer has CID {cid}" in done.stderr.decode()


def test_job_that_no_node_can_take_ends_with_each_nodes_reason(bacalhau: Run) -> None:
    done = bacalhau("docker", "run", "--max-price", "1u", "--cpu", "1000", "ubuntu", "true")
    assert done.returncode == 125
    assert b"declined: " in done.stderr
    assert b"64000" not in done.stderr
    assert b"asked 1000 CPU, " in done.stderr


def test_ctrl_c_stops_the_program(port: int, wasm_program: WasmProgram, bacalhau: Run) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bacalhau", "wasm", "run", str(wasm_program("loop"))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(port),
        cwd=REPOSITORY,
    )
    try:
        assert process.stderr is not None
        told = b""
        while b"running on" not in told and (line := process.stderr.readline()):
            told += line
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == 130, told + rest
    job_id = told.decode().partition("job ")[2].split()[0]
    assert b"State: Cancelled" in bacalhau("describe", job_id).stdout


def test_command_stays_with_its_job_while_the_node_is_killed_and_starts_again(
    tmp_path: Path, wasm_program: WasmProgram
) -> None:
    """The program is run again from its beginning; what the first attempt printed is not printed again."""
    with node_process(tmp_path) as (port, node):
        command = subprocess.Popen(
            [sys.executable, "-m", "bacalhau", "wasm", "run", str(wasm_program("logtest")), "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(port),
            cwd=REPOSITORY,
        )
        assert command.stdout is not None
        first = command.stdout.readline()
        node.kill()
        node.wait()
    try:
        with node_process(tmp_path, api_port=port):
            rest, told = command.communicate(timeout=60)
    finally:
        command.kill()
    assert (command.returncode, first + rest) == (0, b"before the sleep\nafter the sleep\n"), told
    assert b"waiting for it" in told


@pytest.mark.parametrize(
    "flags", [[], ["--cid-version", "1"], ["--chunker", "size-1048576"], ["--raw-leaves"]]
)
def test_added_content_has_the_lines_of_kubo(
    bacalhau: Run, kubo: Path, tmp_path: Path, flags: list[str]
) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "big").write_bytes(os.urandom(3_000_000))
    (folder / "sub" / "empty").touch()
    (folder / "link").symlink_to("big")
    repository = os.environ | {"IPFS_PATH": str(tmp_path / "kubo")}
    subprocess.run(
        [kubo, "init", "--empty-repo"], env=repository, check=True, capture_output=True, timeout=60
    )
    theirs = subprocess.run(
        [kubo, "add", "-r", *flags, "data"],
        env=repository, cwd=tmp_path, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    ours = bacalhau("ipfs", "add", "-r", *flags, "data")
    assert ours.stdout.decode().splitlines() == theirs.stdout.decode().splitlines(), ours.stderr
    assert bacalhau("ipfs", "get", "-o", "back", ours.stdout.split()[-2].decode()).returncode == 0
    subprocess.run(["diff", "-r", "--no-dereference", "data", "back"], cwd=tmp_path, check=True, timeout=30)


def test_car_file_goes_to_kubo_and_comes_back(bacalhau: Run, kubo: Path, tmp_path: Path) -> None:
    cid = bacalhau("ipfs", "add", "-Q", stdin=b"from a pipe").stdout.decode().strip()
    assert bacalhau("ipfs", "export", "-o", "data.car", cid).returncode == 0
    repository = os.environ | {"IPFS_PATH": str(tmp_path / "kubo")}
    for words in (["init", "--empty-repo"], ["dag", "import", "data.car"], ["cat", cid]):
        done = subprocess.run(
            [kubo, *words], env=repository, cwd=tmp_path, check=True, capture_output=True, timeout=60
        )
    assert done.stdout == b"from a pipe"
    imported = bacalhau("ipfs", "import", "data.car")
    assert imported.stdout == f"Pinned root\t{cid}\tsuccess\n".encode()
    assert bacalhau("ipfs", "pin", "rm", cid).stdout == f"unpinned {cid}\n".encode()


def test_nodes_are_listed_with_what_they_offer(bacalhau: Run) -> None:
    node_id = bacalhau("id").stdout.decode().strip()
    (node,) = json.loads(bacalhau("node", "list", "--output", "json").stdout)
    assert node["record"]["node_id"] == node_id
    assert "Wasm" in node["record"]["engines"]
    assert node["record"]["capacity"]["memory_bytes"] > 0
    assert b"wasm" in bacalhau("node", "list").stdout
    assert node_id.encode() in bacalhau("node", "describe").stdout


def test_node_with_tls_and_token_takes_only_who_has_both(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    (tmp_path / "token").write_text("a-secret-of-some-length\n")
    (tmp_path / "wrong").write_text("another-secret-of-some-length\n")
    flags = ["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--api-token-file", "token"]
    flags = [str(tmp_path / word) if not word.startswith("--") else word for word in flags]
    with serving(tmp_path, *flags) as port:

        def ask(*words: str) -> subprocess.CompletedProcess[bytes]:
            command = [sys.executable, "-m", "bacalhau", *words, "id"]
            return subprocess.run(
                command, capture_output=True, timeout=30, check=False, cwd=tmp_path, env=environment(port)
            )

        tls = ("--api-tls-ca", "cert.pem")
        right = ask(*tls, "--api-token-file", "token")
        assert (right.returncode, right.stdout[:4]) == (0, b"12D3"), right.stderr
        for words in (tls, (*tls, "--api-token-file", "wrong")):
            refused = ask(*words)
            assert refused.returncode == 125
            assert b"(UNAUTHENTICATED)" in refused.stderr
            assert b"BACALHAU_API_TOKEN" in refused.stderr
        assert b"no node answers" in ask("--api-token-file", "token").stderr


def write_certificate(folder: Path) -> None:
    """cert.pem, for 127.0.0.1 and its own authority, and key.pem."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    (folder / "key.pem").chmod(0o600)
