"""Both listeners explain themselves: reflection and health, by grpcurl."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.nodes import NodeProcess

CLIENT_SERVICES = {"JobService", "NodeService", "IpfsService", "LedgerService", "MarketService"}
PEER_SERVICES = {"PeerService", "RequesterService", "ComputeService", "BlockService"}


def call(grpcurl: Path, *words: str) -> str:
    done = subprocess.run([grpcurl, *words], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_listeners_list_and_describe_their_services(grpcurl: Path, shared_node: NodeProcess) -> None:
    for security, address, services in (
        ("-plaintext", shared_node.api_address, CLIENT_SERVICES),
        ("-insecure", shared_node.peer_address, PEER_SERVICES),
    ):
        listed = call(grpcurl, security, address, "list").split()
        ours = {name for name in listed if name.startswith("bacalhau.v1.")}
        assert ours == {f"bacalhau.v1.{name}" for name in services}
        assert "grpc.health.v1.Health" in listed
        for name in ours:
            assert f"service {name.rpartition('.')[2]} {{" in call(
                grpcurl, security, address, "describe", name
            )


def test_both_listeners_say_that_they_serve(grpcurl: Path, shared_node: NodeProcess) -> None:
    for security, address, service in (
        ("-plaintext", shared_node.api_address, ""),
        ("-plaintext", shared_node.api_address, "bacalhau.v1.JobService"),
        ("-insecure", shared_node.peer_address, "bacalhau.v1.PeerService"),
    ):
        question = json.dumps({"service": service})
        answer = call(grpcurl, security, "-d", question, address, "grpc.health.v1.Health/Check")
        assert json.loads(answer) == {"status": "SERVING"}


def test_grpcurl_reads_the_node_and_its_jobs(grpcurl: Path, shared_node: NodeProcess) -> None:
    answer = json.loads(
        call(grpcurl, "-plaintext", shared_node.api_address, "bacalhau.v1.NodeService/GetNode")
    )
    assert answer["node"]["record"]["node_id"] == shared_node.node_id
    assert (
        json.loads(call(grpcurl, "-plaintext", shared_node.api_address, "bacalhau.v1.JobService/ListJobs"))
        == {}
    )
