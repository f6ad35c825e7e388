"""What a node tells the DHT that it has: what is added and what jobs made, and again and again what it keeps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bacalhau.ipfs.importer import import_stream
from bacalhau.model.cid import Cid
from bacalhau.v1.ipfs_service_pb2_grpc import IpfsServiceStub
from bacalhau.v1.job_service_pb2 import GetJobRequest, SubmitJobRequest, WatchJobRequest
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.node.live import client_of, running, until, wasm_job
from tests.p2p.hosts import LOOPBACK
from tests.rpc.served_ipfs import chunks, entry

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.node.node import Node

LIBP2P: dict[str, Any] = {"p2p_listen": (LOOPBACK,), "dht": True}


async def until_provided(seeker: Node, cid: Cid, by: str) -> None:
    network: Any = seeker.membership.network
    async with asyncio.timeout(60):
        while True:
            found = await network.host.bridge.call(network.dht.find_providers, cid)
            if [provider.node_id for provider in found] == [by]:
                return
            await asyncio.sleep(0.1)


async def test_what_is_added_and_what_was_kept_before_is_found_in_the_dht(tmp_path: Path) -> None:
    async with running(tmp_path / "node") as node:
        kept = import_stream(node.blocks, [b"kept"]).cid
        node.pins.add(kept)
        gone = import_stream(node.blocks, [b"not kept"]).cid
    async with (
        running(tmp_path / "node", provide_again_us=1_000_000, **LIBP2P) as node,
        running(tmp_path / "seeker", peers=node.p2p_addresses, **LIBP2P) as seeker,
        client_of(node) as channel,
    ):
        await until(lambda: node.membership.live_ids(), "they are connected")
        await until_provided(seeker, kept, node.node_id)
        requests = (entry(""), *chunks(b"added"))
        answer = await IpfsServiceStub(channel).Add(iter(requests))
        await until_provided(seeker, Cid.parse(answer.cid), node.node_id)
        later = import_stream(node.blocks, [b"kept later"]).cid
        node.pins.add(later)
        await until_provided(seeker, later, node.node_id)
        network: Any = seeker.membership.network
        assert await network.host.bridge.call(network.dht.find_providers, gone) == []


async def test_a_jobs_result_is_found_in_the_dht(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "node", **LIBP2P) as node,
        running(tmp_path / "seeker", peers=node.p2p_addresses, compute=False, **LIBP2P) as seeker,
        client_of(node) as channel,
    ):
        await until(lambda: node.membership.live_ids(), "they are connected")
        jobs = JobServiceStub(channel)
        job_id = (await jobs.SubmitJob(SubmitJobRequest(spec=wasm_job(node)))).job.id
        async with asyncio.timeout(60):
            async for _ in jobs.WatchJob(WatchJobRequest(job_id=job_id)):
                pass
        job = (await jobs.GetJob(GetJobRequest(job_id=job_id))).job
        await until_provided(seeker, Cid.parse(job.executions[0].report.result_cid), node.node_id)
