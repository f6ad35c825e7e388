"""What is wrong or missing gets a message that says what to do, and the node keeps serving."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
import pytest

from bacalhau.v1.job_pb2 import DockerTask, EnvironmentVariable, JobSpec
from bacalhau.v1.job_service_pb2 import SubmitJobRequest
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.e2e.nodes import run_command, wait_until
from tests.parts import missing_part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import docker

    from tests.e2e.nodes import Network, NodeProcess
    from tests.parts.wasm import WasmProgram

UNKNOWN_CID = "QmfKJT13h5k1b23ja3ZCVg5nFL9oKz2bVXc8oXgtwiwhjz"
MULTIADDR = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDn6GfUEWze1n6MNpZ4Wrpf8KtmJydJHUiGy5w7iq9nMt"


@pytest.fixture(autouse=True)
def _node_serves_on(shared_node: NodeProcess) -> Iterator[None]:
    yield
    assert shared_node.running, shared_node.log
    assert "Traceback" not in shared_node.log
    assert shared_node.view().live


# --- jobs ---


def test_an_unknown_cid_fails_in_seconds(shared_node: NodeProcess) -> None:
    begun = time.monotonic()
    done = shared_node.cli("docker", "run", "-v", f"{UNKNOWN_CID}:/files", "busybox", "ls", "/files")
    assert time.monotonic() - begun < 15
    assert done.returncode == 125
    assert f"no peer has CID {UNKNOWN_CID}" in done.stderr
    assert "bacalhau ipfs add" in done.stderr


def test_an_image_that_does_not_exist_fails_and_names_it(
    docker_engine: docker.DockerClient, shared_node: NodeProcess
) -> None:
    done = shared_node.cli("docker", "run", "127.0.0.1:1/no-such-image:v1", "true")
    assert done.returncode == 125
    assert "127.0.0.1:1/no-such-image:v1" in done.stderr
    assert "IMAGE_UNAVAILABLE" in done.stderr


def test_a_file_that_is_no_wasm_fails_and_says_so(shared_node: NodeProcess, tmp_path: Path) -> None:
    (tmp_path / "text.wasm").write_text("this is a text\n")
    cid = shared_node.cli("ipfs", "add", "-Q", str(tmp_path / "text.wasm")).stdout.strip()
    done = shared_node.cli("wasm", "run", cid)
    assert done.returncode == 125
    assert "MODULE" in done.stderr


@pytest.mark.parametrize("engine", ["docker", "wasm"])
def test_a_job_that_exhausts_its_memory_says_what_it_was_allowed_and_the_flag_that_raises_it(
    docker_engine: docker.DockerClient, wasm_program: WasmProgram, shared_node: NodeProcess, engine: str
) -> None:
    # A shell variable that doubles until there is no more.
    script = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"
    task = ("busybox", "sh", "-c", script) if engine == "docker" else (str(wasm_program("hog")),)
    done = shared_node.cli(engine, "run", "--memory", "32Mi", *task)
    assert done.returncode == 125, done.stderr
    assert "MEMORY" in done.stderr
    assert "32" in done.stderr
    assert "--memory" in done.stderr


def test_a_job_that_asks_for_more_than_any_node_has_fails_at_once_with_the_figures(
    shared_node: NodeProcess,
) -> None:
    done = shared_node.cli("docker", "run", "--cpu", "500", "busybox", "true")
    assert done.returncode == 125
    assert "500 CPU" in done.stderr
    assert f"{shared_node.view().record.capacity.cpu_millicores // 1000} CPU" in done.stderr


# --- calls ---


def test_a_malformed_spec_is_refused_with_the_name_of_the_field(
    grpcurl: Path, shared_node: NodeProcess
) -> None:
    cases: tuple[tuple[dict[str, object], str], ...] = (
        ({}, "task"),
        ({"docker": {}}, "image"),
        ({"docker": {"image": "busybox"}, "count": -1}, "count"),
        ({"docker": {"image": "busybox"}, "inputs": [{"cid": "no cid", "target": "/inputs"}]}, "cid"),
        ({"docker": {"image": "busybox"}, "inputs": [{"cid": UNKNOWN_CID, "target": "/a/../b"}]}, "target"),
        ({"docker": {"image": "busybox"}, "outputs": [{"name": "../x", "path": "/x"}]}, "name"),
        ({"docker": {"image": "busybox"}, "network": 99}, "network"),
    )
    for spec, field in cases:
        call = [str(grpcurl), "-plaintext", "-d", json.dumps({"spec": spec}), shared_node.api_address]
        done = subprocess.run(
            [*call, "bacalhau.v1.JobService/SubmitJob"], capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert "Code: InvalidArgument" in done.stderr, (spec, done.stderr)
        assert field in done.stderr, (spec, done.stderr)


def test_an_oversized_message_is_refused(shared_node: NodeProcess) -> None:
    spec = JobSpec(
        docker=DockerTask(image="busybox"), env=[EnvironmentVariable(name="A", value="x" * (20 << 20))]
    )
    with pytest.raises(grpc.RpcError) as refusal:
        shared_node.jobs.SubmitJob(SubmitJobRequest(spec=spec), timeout=30)
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    spec.env[0].value = "x" * (2 << 20)
    with pytest.raises(grpc.RpcError) as refusal:
        shared_node.jobs.SubmitJob(SubmitJobRequest(spec=spec), timeout=30)
    assert refusal.value.code() in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )


def test_where_nobody_listens_the_command_says_how_to_start_a_node() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = run_command("list", env={"BACALHAU_API_PORT": str(unused.getsockname()[1])})
    assert done.returncode == 125
    assert "bacalhau serve" in done.stderr
    assert "BACALHAU_API_PORT" in done.stderr


# --- starting a node ---


def serve(folder: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A node that must not start: it ends by itself."""
    listen = () if "--api-port" in flags else ("--api-port", "0")
    return run_command("serve", "--data-dir", str(folder), "--peer-port", "0", *listen, *flags, env=variables)


def test_a_port_in_use_is_named_with_the_flag_that_chooses_another(
    shared_node: NodeProcess, tmp_path: Path
) -> None:
    done = serve(tmp_path / "other", "--api-port", shared_node.api_port)
    assert done.returncode == 125
    assert shared_node.api_address in done.stderr
    assert "--api-port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_node_on_a_data_folder_is_refused(shared_node: NodeProcess) -> None:
    done = serve(shared_node.folder)
    assert done.returncode == 125
    assert "another node runs on" in done.stderr
    assert "--data-dir" in done.stderr


def test_the_client_api_listens_elsewhere_only_with_tls_and_token(tmp_path: Path) -> None:
    done = serve(tmp_path / "open", "--host", "0.0.0.0")
    assert done.returncode == 125
    for flag in ("--tls-cert", "--tls-key", "--api-token-file"):
        assert flag in done.stderr


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-made certificate for 127.0.0.1, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a node")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return folder / "cert.pem", folder / "key.pem"


def test_with_tls_and_token_it_serves_those_who_have_the_token(network: Network, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    (tmp_path / "token").write_text("a token of enough characters\n")
    (tmp_path / "wrong").write_text("another token of enough characters\n")
    flags = ("--host", "0.0.0.0", "--tls-cert", str(certificate), "--tls-key", str(key))
    node = network.start(
        "node", *flags, "--api-token-file", str(tmp_path / "token"), "--disable-engine", "docker"
    )
    tls = {"BACALHAU_API_HOST": "127.0.0.1", "BACALHAU_API_TLS_CA": str(certificate)}
    right = node.cli("id", env=tls | {"BACALHAU_API_TOKEN_FILE": str(tmp_path / "token")})
    assert right.returncode == 0, right.stderr
    assert node.node_id in right.stdout
    for env in (tls, tls | {"BACALHAU_API_TOKEN_FILE": str(tmp_path / "wrong")}):
        refused = node.cli("list", env=env)
        assert refused.returncode == 125
        assert "UNAUTHENTICATED" in refused.stderr
        assert "--api-token-file" in refused.stderr
    no_certificate = node.cli("list", env=tls | {"BACALHAU_API_TLS_CA": str(key)})
    assert no_certificate.returncode == 2
    assert no_certificate.stderr.startswith(f"bacalhau: {key} holds no certificate (PEM)")
    plain = node.cli("list", env={"BACALHAU_API_HOST": "127.0.0.1"})
    assert plain.returncode == 125
    root = grpc.ssl_channel_credentials(certificate.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{node.api_port}", root) as channel:
        token = (("authorization", "Bearer a token of enough characters"),)
        spec = JobSpec(docker=DockerTask(image="busybox"), count=1)
        assert (
            JobServiceStub(channel).SubmitJob(SubmitJobRequest(spec=spec), metadata=token, timeout=10).job.id
        )


def test_without_any_docker_engine_the_node_runs_and_says_what_is_missing(
    wasm_program: WasmProgram, network: Network, tmp_path: Path
) -> None:
    node = network.start("node", DOCKER_HOST=f"unix://{tmp_path / 'no.sock'}")
    assert "docker:" in node.log
    described = node.cli("node", "describe").stdout
    assert "docker:" in described
    done = node.cli("docker", "run", "ubuntu", "echo", "Hello", "World")
    assert done.returncode == 125
    assert "ENGINE_MISSING" in done.stderr
    assert node.cli("wasm", "run", str(wasm_program("hello"))).stdout == "Hello World\n"


def test_without_libp2p_the_node_runs_and_says_in_one_line_what_is_missing(network: Network) -> None:
    node = network.start("node", "--disable-engine", "docker", WITHOUT_LIBP2P="1")
    (said,) = [line for line in node.log.splitlines() if "pip install 'bacalhau[p2p]'" in line]
    assert "libp2p" in said
    assert node.p2p_address == ""


@pytest.mark.parametrize(
    "flags", [("--peer", MULTIADDR), ("--p2p-listen", "/ip4/127.0.0.1/tcp/0"), ("--mdns",)]
)
def test_what_needs_libp2p_is_refused_in_one_line_where_it_is_missing(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    done = serve(tmp_path / "node", *flags, WITHOUT_LIBP2P="1")
    assert done.returncode == 125
    (said,) = done.stderr.splitlines()
    assert "pip install 'bacalhau[p2p]'" in said


@pytest.mark.parametrize("flags", [("--peer", MULTIADDR), ("--mdns",)])
def test_what_needs_libp2p_is_refused_in_one_line_where_it_is_off(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    done = serve(tmp_path / "node", "--no-p2p", *flags)
    assert done.returncode == 125
    (said,) = done.stderr.splitlines()
    assert flags[-1] in said
    assert "turned off" in said


# --- a full disk ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 MiB: room for a node, of which it keeps 64 MiB for what it has accepted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        missing_part("a small file system of its own", "mounting one needs root, outside a container")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Writes until not a byte is free; the file to remove for there to be room again."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as full, suppress(OSError):
        while full.write(bytes(1 << 16)):
            pass
    assert os.statvfs(folder).f_bavail == 0
    return filler


def test_on_a_full_disk_the_node_refuses_with_a_reason_and_serves_on_when_there_is_room(
    small_disk: Path, wasm_program: WasmProgram, network: Network, tmp_path: Path
) -> None:
    flags = ("--disable-engine", "docker", "--limit-total-disk", "2Gi", "--heartbeat", "500ms")
    network.folder = small_disk
    node = network.start("node", *flags)
    assert node.cli("wasm", "run", str(wasm_program("hello"))).stdout == "Hello World\n"
    with (tmp_path / "large").open("wb") as large:
        for _ in range(128):
            large.write(os.urandom(1 << 20))
    added = node.cli("ipfs", "add", str(tmp_path / "large"))
    assert added.returncode == 125
    assert "STORAGE_FULL" in added.stderr
    lasting = node.submit("wasm", str(wasm_program("sleep")), "5")
    node.wait_running(lasting)
    filler = fill(small_disk)
    refused = node.cli("wasm", "run", str(wasm_program("hello")))
    assert refused.returncode == 125, refused.stderr
    assert "STORAGE_FULL" in refused.stderr, refused.stderr
    wait_until(lambda: "waits until it can be written" in node.log, "the long job's end finds no room")
    assert "Running" in node.cli("list", "--id-filter", lasting).stdout
    assert node.running, node.log
    filler.unlink()
    node.wait_completed(lasting)
    again = node.cli("wasm", "run", str(wasm_program("hello")))
    assert (again.returncode, again.stdout) == (0, "Hello World\n"), again.stderr + node.log
