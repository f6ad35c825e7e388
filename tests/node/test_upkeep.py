"""What is kept how long: results for their time, contents of open jobs, and room on the disk for what was accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bacalhau.ipfs.dag import find_missing
from bacalhau.ipfs.importer import import_stream
from bacalhau.model.cid import Cid
from bacalhau.model.refusals import RefusalReason
from bacalhau.model.units import HOUR_US
from bacalhau.node.needed import Needed
from bacalhau.v1 import ipfs_service_pb2, job_pb2, job_service_pb2
from bacalhau.v1.ipfs_service_pb2_grpc import IpfsServiceStub
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.node.live import SLEEPER, all_of, client_of, refusal_from, running, until, wasm_job

if TYPE_CHECKING:
    from pathlib import Path

    import grpc.aio

    from bacalhau.node.node import Node


async def run_to_result(channel: grpc.aio.Channel, node: Node, **changes: Any) -> tuple[str, Cid]:
    jobs = JobServiceStub(channel)
    request = job_service_pb2.SubmitJobRequest(spec=wasm_job(node, **changes))
    job_id = (await jobs.SubmitJob(request)).job.id
    answers = await all_of(jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id), timeout=30))
    assert answers[-1].job.state == job_pb2.JOB_STATE_COMPLETED, answers[-1]
    return job_id, Cid.parse(answers[-1].job.executions[0].report.result_cid)


async def settled(node: Node) -> None:
    await until(lambda: not node.store.unsettled_work(), "all work is settled")


async def test_a_result_survives_collection_for_its_time_and_is_gone_after_it(tmp_path: Path) -> None:
    async with running(tmp_path, gc_grace_us=1, keep_results_us=HOUR_US) as node, client_of(node) as channel:
        job_id, result = await run_to_result(channel, node)
        await settled(node)
        stray = import_stream(node.blocks, [b"nobody needs this"]).cid
        collected = await IpfsServiceStub(channel).CollectGarbage(ipfs_service_pb2.CollectGarbageRequest())
        assert collected.blocks >= 1
        assert not node.blocks.has(stray)
        assert find_missing(node.blocks, result) is None
    async with running(tmp_path, gc_grace_us=1, keep_results_us=1) as node, client_of(node) as channel:
        await node.upkeep()
        assert not node.blocks.has(result)
        assert node.jobs.job(job_id).id == job_id  # the job itself is kept for longer
        logs = JobServiceStub(channel).StreamLogs(job_service_pb2.StreamLogsRequest(job_id=job_id))
        refusal = await refusal_from(all_of(logs))
        assert refusal.reason is RefusalReason.CONTENT_UNAVAILABLE
        assert str(result) in refusal.message
    async with running(tmp_path, keep_jobs_us=1) as node:
        await node.upkeep()
        assert node.store.job(job_id) is None


async def test_the_inputs_and_the_module_of_a_running_job_survive_collection(tmp_path: Path) -> None:
    async with running(tmp_path, gc_grace_us=1, keep_results_us=1) as node, client_of(node) as channel:
        cid = import_stream(node.blocks, [b"an input"]).cid
        jobs = JobServiceStub(channel)
        spec = wasm_job(node, SLEEPER, inputs=(cid,))
        job_id = (await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))).job.id
        await node.upkeep()
        assert node.blocks.has(cid)
        assert node.blocks.has(Cid.parse(spec.wasm.module_cid))
        await jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        await settled(node)
        await node.upkeep()
        assert not node.blocks.has(cid)


async def test_pinned_content_survives_collection(tmp_path: Path) -> None:
    async with running(tmp_path, gc_grace_us=1) as node:
        cid = import_stream(node.blocks, [b"pinned"]).cid
        node.pins.add(cid)
        await node.upkeep()
        assert node.blocks.has(cid)


async def test_a_root_that_cannot_be_followed_stops_no_collection(tmp_path: Path) -> None:
    """A stranger may report any CID as a result."""
    async with running(tmp_path, gc_grace_us=1) as node:
        unfollowed = Cid(1, 0x71, Cid.of(0x55, b"dag-cbor").multihash)
        node.blocks.put_many([(unfollowed, b"dag-cbor")])
        stray = import_stream(node.blocks, [b"stray"]).cid
        node._ipfs._needed = Needed(lambda: {unfollowed})
        await node.upkeep()
        assert node.blocks.has(unfollowed)
        assert not node.blocks.has(stray)


# --- a full disk ---


async def test_on_a_full_disk_jobs_offers_and_content_are_refused_and_the_node_serves_on(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "a") as a, client_of(a) as channel:
        job_id, _ = await run_to_result(channel, a)
    full = 1 << 62
    async with (
        running(tmp_path / "a", disk_reserve_bytes=full) as a,
        running(tmp_path / "b", compute=False, peers=(a.peer_address,)) as b,
        client_of(a) as channel,
        client_of(b) as channel_b,
    ):
        jobs = JobServiceStub(channel)
        spec = wasm_job(b)
        refusal = await refusal_from(jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec)))
        assert refusal.reason is RefusalReason.STORAGE_FULL
        assert ("reserve_bytes", full) in refusal.figures
        assert "free some space" in refusal.message
        entry = ipfs_service_pb2.EntryHeader(path="f", type=ipfs_service_pb2.ENTRY_TYPE_FILE)
        parts = [
            ipfs_service_pb2.AddRequest(entry=entry),
            ipfs_service_pb2.AddRequest(chunk=b"some content"),
        ]
        refusal = await refusal_from(IpfsServiceStub(channel).Add(iter(parts)))
        assert refusal.reason is RefusalReason.STORAGE_FULL
        assert (await jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id))).job.id == job_id
        assert not a.failed.done()

        await until(lambda: a.node_id in b.membership.live_ids(), "the full node is heard of")
        jobs_b = JobServiceStub(channel_b)
        other = (await jobs_b.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))).job.id
        await until(lambda: b.jobs.answers(other, 0, "")[0], "the full node has answered")
        answers, _ = b.jobs.answers(other, 0, "")
        assert answers[0].refusal is not None
        assert answers[0].refusal.reason is RefusalReason.STORAGE_FULL
        await jobs_b.CancelJob(job_service_pb2.CancelJobRequest(job_id=other))


async def test_a_repeated_submission_is_answered_on_a_full_disk_too(tmp_path: Path) -> None:
    async with running(tmp_path / "a", compute=False) as a, client_of(a) as channel:
        request = job_service_pb2.SubmitJobRequest(spec=wasm_job(a), request_id="again")
        job_id = (await JobServiceStub(channel).SubmitJob(request)).job.id
    async with (
        running(tmp_path / "a", compute=False, disk_reserve_bytes=1 << 62) as a,
        client_of(a) as channel,
    ):
        assert (await JobServiceStub(channel).SubmitJob(request)).job.id == job_id
