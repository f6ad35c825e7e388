"""The page that Prometheus reads: a real node, a real scrape over HTTP, and what it says after what has happened."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bacalhau.model.job import Constraint, ConstraintOperator
from bacalhau.model.units import GIB, MIB
from bacalhau.node.network import p2p_installed
from bacalhau.rpc.servers import CannotListen
from bacalhau.v1 import job_service_pb2, node_service_pb2, requester_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from bacalhau.v1.node_service_pb2_grpc import NodeServiceStub
from bacalhau.v1.requester_service_pb2_grpc import RequesterServiceStub
from tests.builders import a_bid
from tests.docs.documents import code_spans, read
from tests.node.live import (
    SLEEPER,
    SMALL,
    Stranger,
    all_of,
    client_of,
    peer_channel,
    refusal_from,
    running,
    until,
    wasm_job,
)
from tests.parts import missing_part

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.node.node import Node

Sample = tuple[str, tuple[tuple[str, str], ...]]


def fetch(address: str) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        f"http://{address}/metrics", timeout=10
    ) as answer:
        text: str = answer.read().decode()
    return text


class Page:
    """What one scrape found."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._values: dict[Sample, float] = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._values.get((name, tuple(sorted(labels.items()))))


async def scrape(node: Node) -> Page:
    return Page(await asyncio.to_thread(fetch, node.metrics_address))


async def test_a_job_is_counted_from_its_submission_to_its_price(tmp_path: Path) -> None:
    async with running(tmp_path / "node", metrics_port=0) as node, client_of(node) as channel:
        before = await scrape(node)
        assert before("bacalhau_jobs_submitted_total") == 0
        assert before("bacalhau_open_jobs") == 0
        jobs = JobServiceStub(channel)
        answer = await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=wasm_job(node)))
        await all_of(jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=answer.job.id)))
        job = (await jobs.GetJob(job_service_pb2.GetJobRequest(job_id=answer.job.id))).job
        await refusal_from(jobs.GetJob(job_service_pb2.GetJobRequest(job_id="j-none")))
        # A call is counted when it has ended here, which may be after its caller has the answer.
        service = {"grpc_service": "bacalhau.v1.JobService"}
        page = await scrape(node)
        async with asyncio.timeout(10):
            while page("grpc_server_handling_seconds_count", grpc_method="GetJob", **service) != 2:
                page = await scrape(node)
    for name in ("jobs_submitted", "bids_sent", "bids_received", "bids_won", "awards"):
        assert page(f"bacalhau_{name}_total") == 1, name
    assert page("bacalhau_jobs_ended_total", state="completed") == 1
    assert page("bacalhau_executions_total", state="completed") == 1
    assert page("bacalhau_reports_total", outcome="accepted") == 1
    assert page("bacalhau_charged_microcredits_total") == job.charged_microcredits > 0
    assert page("bacalhau_open_jobs") == page("bacalhau_running_executions") == 0
    commits = page("bacalhau_journal_commit_seconds_count")
    assert commits is not None
    assert commits >= 2  # what was accepted, and what came of it
    assert page("grpc_server_handled_total", grpc_method="GetJob", grpc_code="OK", **service) == 1
    assert page("grpc_server_handled_total", grpc_method="GetJob", grpc_code="NOT_FOUND", **service) == 1
    assert page("grpc_server_handled_total", grpc_method="WatchJob", grpc_code="OK", **service) == 1


async def test_a_forged_envelope_is_counted_by_its_reason(tmp_path: Path) -> None:
    async with running(tmp_path / "node", metrics_port=0) as node, peer_channel(node) as channel:
        requester = RequesterServiceStub(channel)
        stranger = Stranger()
        forged = stranger.seal(a_bid(), node.node_id, at_us=node.clock.now())
        forged.signature = bytes(64)
        late = stranger.seal(a_bid(), node.node_id, at_us=node.clock.now() - 600_000_000)
        for envelope in (forged, forged, late):
            await refusal_from(requester.SubmitBid(requester_service_pb2.SubmitBidRequest(bid=envelope)))
        first, other = (
            stranger.seal(a_bid(offer_id=offer), node.node_id, at_us=node.clock.now(), id="s-same")
            for offer in ("o-1", "o-2")
        )
        await requester.SubmitBid(requester_service_pb2.SubmitBidRequest(bid=first))
        await refusal_from(requester.SubmitBid(requester_service_pb2.SubmitBidRequest(bid=other)))
        page = await scrape(node)
    assert page("bacalhau_envelopes_refused_total", reason="BAD_SIGNATURE") == 2
    assert page("bacalhau_envelopes_refused_total", reason="STALE") == 1
    assert page("bacalhau_envelopes_refused_total", reason="ID_REUSED") == 1
    service = {"grpc_service": "bacalhau.v1.RequesterService", "grpc_method": "SubmitBid"}
    assert page("grpc_server_handled_total", grpc_code="UNAUTHENTICATED", **service) == 2
    assert page("grpc_server_handled_total", grpc_code="OK", **service) == 1


async def test_what_is_declined_is_counted_on_both_sides(tmp_path: Path) -> None:
    async with running(tmp_path / "node", metrics_port=0) as node, client_of(node) as channel:
        jobs = JobServiceStub(channel)
        constraint = Constraint("region", ConstraintOperator.IN, ("mars",))
        spec = wasm_job(node, constraints=(constraint,))
        answer = await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))
        await all_of(jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=answer.job.id)))
        page = await scrape(node)
    assert page("bacalhau_declines_total", reason="CONSTRAINT") == 1
    assert page("bacalhau_declines_received_total", reason="CONSTRAINT") == 1
    assert page("bacalhau_jobs_ended_total", state="failed") == 1
    assert page("bacalhau_bids_sent_total") == 0


async def test_gauges_follow_what_runs(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "node", metrics_port=0) as node,
        running(tmp_path / "other", peers=(node.peer_address,), compute=False),
        client_of(node) as channel,
    ):
        await until(lambda: node.membership.live_ids(), "the other node is heard")
        idle = await scrape(node)
        assert idle("bacalhau_capacity_cpu_millicores") == 4000
        assert idle("bacalhau_capacity_memory_bytes") == 4 * GIB
        assert idle("bacalhau_reserved_cpu_millicores") == 0
        assert idle("bacalhau_live_nodes") == 1
        assert idle("bacalhau_engine_available", engine="wasm") == 1
        assert idle("bacalhau_engine_available", engine="docker") is None
        assert idle("bacalhau_kubo_answers") is None
        jobs = JobServiceStub(channel)
        spec = wasm_job(node, SLEEPER)
        ids = [(await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))).job.id for _ in range(4)]
        await until(lambda: node.driver.compute.running_executions == 4, "it runs them")
        busy = await scrape(node)
        assert busy("bacalhau_running_executions") == busy("bacalhau_open_jobs") == 4
        assert busy("bacalhau_reserved_cpu_millicores") == 400
        assert busy("bacalhau_reserved_memory_bytes") == 4 * 64 * MIB
        for job_id in ids:
            await jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        await until(lambda: node.driver.compute.running_executions == 0, "nothing runs any more")
        assert (await scrape(node))("bacalhau_jobs_ended_total", state="cancelled") == 4


async def test_what_is_gossiped_and_refused_over_libp2p_is_counted(tmp_path: Path) -> None:
    if not p2p_installed():
        missing_part("libp2p", "pip install 'bacalhau[p2p]'")
    libp2p = {"p2p_listen": ("/ip4/127.0.0.1/tcp/0",)}
    async with running(tmp_path / "node", metrics_port=0, **libp2p) as node:
        quiet = await scrape(node)
        assert quiet("bacalhau_gossip_peers_cut_off_total") == quiet("bacalhau_libp2p_restarts_total") == 0
        assert quiet("bacalhau_gossip_received_total", topic="records") is None
        [address] = node.p2p_addresses
        async with (
            running(tmp_path / "other", peers=(address,), compute=False, **libp2p) as other,
            client_of(other) as channel,
        ):
            await until(lambda: node.membership.live_ids(), "the other node is heard")
            jobs = JobServiceStub(channel)
            # Of two that each need the whole node one waits, and its offer stays open.
            spec = wasm_job(other, SLEEPER, resources=replace(SMALL, cpu_millicores=4000))
            for _ in range(2):
                await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))
            counts = node.membership.network.counts  # type: ignore[union-attr]
            await until(lambda: counts.accepted["offers"] and counts.accepted["records"], "both are gossiped")
        page = await scrape(node)
    for topic in ("records", "offers"):
        assert page("bacalhau_gossip_received_total", topic=topic) == counts.accepted[topic]
    assert (page("bacalhau_gossip_published_total", topic="records") or 0) > 0
    assert page("bacalhau_gossip_published_total", topic="offers") is None
    assert page("bacalhau_bitswap_refused_total", what="unsolicited_blocks") == 0


async def test_a_method_that_is_not_there_makes_no_metric(tmp_path: Path) -> None:
    async with running(tmp_path / "node", metrics_port=0) as node, client_of(node) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/made.up/Name")(b"")  # type: ignore[arg-type]
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        await NodeServiceStub(channel).GetNode(node_service_pb2.GetNodeRequest())
        text = await asyncio.to_thread(fetch, node.metrics_address)
    assert "made.up" not in text
    assert 'grpc_method="GetNode"' in text


async def test_the_table_of_the_documents_has_every_metric_and_no_other(tmp_path: Path) -> None:
    documented = {
        span.partition("{")[0]
        for span in code_spans(read("docs/operations.md"))
        if re.fullmatch(r"(bacalhau|grpc_server)_[a-z_]+(\{[a-z_, ]+\})?", span)
    }
    async with running(tmp_path / "node", metrics_port=0) as node:
        text = await asyncio.to_thread(fetch, node.metrics_address)
    shown = set(re.findall(r"^# TYPE ((?:bacalhau|grpc_server)_[a-z_]+) ", text, re.MULTILINE))
    # When a histogram was made is a part of it, as its buckets are.
    assert {name for name in shown if not name.endswith("_created")} == documented


async def test_a_port_that_is_taken_is_named_with_its_flag(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port}.*--metrics-port"):
            async with running(tmp_path / "node", metrics_port=port):
                pass


async def test_a_node_without_metrics_shows_none_and_loads_no_library(tmp_path: Path) -> None:
    async with running(tmp_path / "node") as node:
        assert node.metrics_address == ""
    code = "import sys, bacalhau.node.main; sys.exit('prometheus_client' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


async def test_the_port_is_free_again_when_the_node_has_stopped(tmp_path: Path) -> None:
    async with running(tmp_path / "node", metrics_port=0) as node:
        host, _, port = node.metrics_address.rpartition(":")
    with socket.create_server((host, int(port))):
        pass
