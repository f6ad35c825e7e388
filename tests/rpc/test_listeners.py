"""The two listeners: where they may listen, who is let in, and what NodeService says."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bacalhau.model.refusals import RefusalReason
from bacalhau.node import startup
from bacalhau.node.node import Node
from bacalhau.node.startup import CannotStart
from bacalhau.rpc.servers import CannotListen
from bacalhau.rpc.status import refusal_of
from bacalhau.rpc.tls import load_or_make
from bacalhau.v1 import ipfs_service_pb2, job_service_pb2, node_service_pb2
from bacalhau.v1.ipfs_service_pb2_grpc import IpfsServiceStub
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from bacalhau.v1.node_service_pb2_grpc import NodeServiceStub
from tests.node.live import all_of, client_of, peer_channel, refusal_from, running, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

TOKEN = "a-token-of-some-length"


def sending(request: object) -> Iterator[object]:
    return iter([request])


def calls(channel: grpc.aio.Channel, stream: Callable[[object], object] = sending) -> dict[str, Any]:
    """One call of each of gRPC's four shapes, and those that are there for tools; `stream` makes a stream of a
    request."""
    jobs, ipfs = JobServiceStub(channel), IpfsServiceStub(channel)
    return {
        "unary to unary": lambda **how: NodeServiceStub(channel).GetNode(
            node_service_pb2.GetNodeRequest(), **how
        ),
        "unary to stream": lambda **how: all_of(
            jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id="j-none"), **how)
        ),
        "stream to unary": lambda **how: ipfs.Add(stream(ipfs_service_pb2.AddRequest()), **how),
        "stream to stream": lambda **how: all_of(
            reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                stream(reflection_pb2.ServerReflectionRequest(list_services="")), **how
            )
        ),
        "health": lambda **how: health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), **how
        ),
    }


async def silence(_request: object) -> AsyncIterator[Any]:
    """A client that has not sent anything yet. One that sends while its call is being refused may be told so, or, by
    grpc.aio, only that its message could not be sent."""
    await asyncio.Event().wait()
    yield


async def reason_of(call: Any) -> RefusalReason | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        return refusal.reason if refusal is not None else None
    return None


async def test_without_the_token_every_shape_of_call_is_refused_and_with_it_none(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    async with running(tmp_path / "node", api_token_file=token_file) as node, client_of(node) as channel:
        silent = calls(channel, silence)
        for name, call in calls(channel).items():
            for metadata in (
                (),
                (("authorization", TOKEN),),
                (("authorization", f"Bearer {TOKEN}x"),),
                (("x-authorization", f"Bearer {TOKEN}"),),
            ):
                refusal = await refusal_from(silent[name](metadata=metadata))
                assert refusal.reason is RefusalReason.UNAUTHENTICATED, name
                assert "--api-token-file" in refusal.message
            assert await reason_of(call(metadata=(("authorization", f"Bearer {TOKEN}"),))) in (
                None,
                RefusalReason.NOT_FOUND,
                RefusalReason.MALFORMED,
            )


async def test_without_a_token_file_everything_answers(tmp_path: Path) -> None:
    async with running(tmp_path / "node") as node, client_of(node) as channel:
        named = calls(channel)
        assert (await named["health"]()).status == health_pb2.HealthCheckResponse.SERVING
        [listed] = await named["stream to stream"]()
        names = {service.name for service in listed.list_services_response.service}
        assert {"bacalhau.v1.JobService", "bacalhau.v1.NodeService", "bacalhau.v1.IpfsService"} <= names
        assert "bacalhau.v1.ComputeService" not in names
        unknown: Any = channel.unary_unary("/bacalhau.v1.JobService/NoSuchMethod")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unknown(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        async with peer_channel(node) as peers:
            assert (
                await health_pb2_grpc.HealthStub(peers).Check(health_pb2.HealthCheckRequest())
            ).status == 1
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await JobServiceStub(peers).ListJobs(job_service_pb2.ListJobsRequest())
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
async def test_elsewhere_than_on_the_loopback_interface_tls_and_a_token_are_demanded(
    tmp_path: Path, host: str
) -> None:
    with pytest.raises(CannotListen, match="--tls-cert, --tls-key and --api-token-file"):
        await Node.start(settings(tmp_path / "node", api_host=host))


async def test_with_tls_and_a_token_it_listens_elsewhere_and_answers(tmp_path: Path) -> None:
    made = load_or_make(tmp_path)
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    where = {"api_host": "0.0.0.0", "api_token_file": token_file}
    tls = {"tls_cert": tmp_path / "peer.crt", "tls_key": tmp_path / "peer.key"}
    async with running(tmp_path / "node", **where, **tls) as node:
        port = node.api_address.rpartition(":")[2]
        options = [("grpc.ssl_target_name_override", "bacalhau")]
        credentials = grpc.ssl_channel_credentials(made.certificate_pem)
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
            answer = await NodeServiceStub(channel).GetNode(
                node_service_pb2.GetNodeRequest(), metadata=(("authorization", f"Bearer {TOKEN}"),)
            )
        assert answer.node.record.node_id == node.node_id


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tls_cert": "peer.crt"}, "--tls-cert and --tls-key"),
        ({"tls_cert": "none", "tls_key": "none"}, "cannot be read"),
        ({"api_token_file": "none"}, "cannot be read"),
        ({"api_token_file": "short"}, "at least 16"),
        ({"trace": "no-folder/trace"}, "cannot be written"),
        ({"tls_cert": "short", "tls_key": "short"}, "no certificate .* and its key"),
        ({"tls_cert": "pair/peer.crt", "tls_key": "other/peer.key"}, "no certificate .* and its key"),
    ],
)
async def test_settings_that_cannot_be_are_refused_and_the_folder_is_free_again(
    tmp_path: Path, change: dict[str, str], says: str
) -> None:
    (tmp_path / "short").write_text("short")
    for name in ("pair", "other"):
        (tmp_path / name).mkdir()
        load_or_make(tmp_path / name)
    with pytest.raises(CannotStart, match=says):
        await Node.start(settings(tmp_path / "node", **{k: tmp_path / v for k, v in change.items()}))
    async with running(tmp_path / "node"):
        pass


async def test_a_token_and_a_key_that_others_can_read_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_or_make(tmp_path)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    secret = settings(
        tmp_path / "node",
        api_token_file=token,
        tls_cert=tmp_path / "peer.crt",
        tls_key=tmp_path / "peer.key",
    )
    for mode, told in ((0o600, False), (0o644, True)):
        for path in (token, tmp_path / "peer.key"):
            path.chmod(mode)
        startup.read_token(secret.api_token_file)
        startup.read_tls(secret)
        for path in (token, tmp_path / "peer.key"):
            assert (f"chmod 600 {path}" in caplog.text) == told


@pytest.mark.parametrize("flag", ["api_port", "peer_port"])
async def test_a_port_in_use_is_named_with_the_flag_that_changes_it(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}.*--{flag.replace('_', '-')}"):
            await Node.start(settings(tmp_path / "node", **{flag: port}))


async def test_a_second_node_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "node"):
        with pytest.raises(CannotStart, match="another node runs on"):
            await Node.start(settings(tmp_path / "node"))


async def test_by_default_both_listeners_are_on_the_loopback_interface(tmp_path: Path) -> None:
    async with running(tmp_path / "node") as node:
        for address in (node.api_address, node.peer_address):
            assert ipaddress.ip_address(address.rpartition(":")[0]).is_loopback


async def test_a_node_tells_of_itself_and_of_its_peers_by_page(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "a") as a,
        running(tmp_path / "b", labels=(("zone", "b"),)) as b,
        client_of(a) as channel,
    ):
        nodes = NodeServiceStub(channel)
        own = (await nodes.GetNode(node_service_pb2.GetNodeRequest())).node
        assert own.self
        assert own.free == own.record.capacity
        joined = (await nodes.Connect(node_service_pb2.ConnectRequest(address=b.peer_address))).node
        assert joined.live
        assert joined.record.node_id == b.node_id
        assert [(label.key, label.value) for label in joined.record.labels] == [("zone", "b")]
        first = await nodes.ListPeers(node_service_pb2.ListPeersRequest(page_size=1))
        second = await nodes.ListPeers(
            node_service_pb2.ListPeersRequest(page_size=1, page_token=first.next_page_token)
        )
        assert [n.record.node_id for page in (first, second) for n in page.nodes] == [a.node_id, b.node_id]
        assert second.next_page_token == ""
        for bad in (
            nodes.ListPeers(node_service_pb2.ListPeersRequest(page_token="-1")),
            nodes.ListPeers(node_service_pb2.ListPeersRequest(page_size=-1)),
        ):
            assert (await refusal_from(bad)).reason is RefusalReason.MALFORMED


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "", "127.0.0.1:99999999", "[::1]:x"])
async def test_connecting_to_nobody_is_refused_with_the_address(tmp_path: Path, address: str) -> None:
    async with running(tmp_path / "node") as node, client_of(node) as channel:
        call = NodeServiceStub(channel).Connect(node_service_pb2.ConnectRequest(address=address))
        refusal = await refusal_from(call)
        assert refusal.reason in (RefusalReason.NOT_FOUND, RefusalReason.MALFORMED)
        assert address in refusal.message
