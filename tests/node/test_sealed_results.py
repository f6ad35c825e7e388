"""A result that its node has committed to is shown to nobody before its requester asks: over the network, and after a
restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.ipfs.dag import iter_cids
from bacalhau.model.execution import ExecutionState
from bacalhau.model.job import JobState, Timeouts
from bacalhau.model.refusals import RefusalReason, refused
from bacalhau.model.units import SECOND_US
from bacalhau.model.verification import Verification, VerificationPolicy
from bacalhau.v1 import block_service_pb2, job_service_pb2
from bacalhau.v1.block_service_pb2_grpc import BlockServiceStub
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.node.live import all_of, client_of, peer_channel, program, running, until, wasm_job

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from bacalhau.model.cid import Cid
    from bacalhau.node.node import Node

TWO = Verification(VerificationPolicy.REPLICATED, 2)


async def served(node: Node, *cids: Cid, recursive: bool = False) -> list[bytes]:
    """CIDs of the blocks that a stranger gets."""
    async with peer_channel(node) as channel:
        request = block_service_pb2.GetBlocksRequest(cids=[cid.raw for cid in cids], recursive=recursive)
        answers = await all_of(BlockServiceStub(channel).GetBlocks(request))
    return [block.cid for answer in answers for block in answer.blocks]


async def submit(node: Node, module: bytes, count: int) -> str:
    """A job whose results are compared, and that waits for as many nodes as it wants."""
    spec = wasm_job(
        node, module, count=count, verification=TWO, timeouts=Timeouts(60 * SECOND_US, 60 * SECOND_US)
    )
    async with client_of(node) as channel:
        answer = await JobServiceStub(channel).SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))
    return str(answer.job.id)


def state_of(node: Node, job_id: str) -> JobState:
    return node.jobs.job(job_id).state


async def until_committed(node: Node, job_id: str) -> None:
    await until(
        lambda: any(e.state is ExecutionState.COMMITTED for e in node.jobs.job(job_id).executions),
        "a node has committed",
    )


def result_of(worker: Node) -> Cid:
    (work,) = worker.store.unsettled_work()
    assert work.sealed
    assert work.report is not None
    assert work.report.result is not None
    return work.report.result


async def test_no_block_of_a_result_is_served_before_all_have_committed_and_every_one_after(
    tmp_path: Path,
) -> None:
    module = program("a secret until then\n")
    async with running(tmp_path / "a", compute=False) as a:
        async with running(tmp_path / "b", peers=(a.peer_address,), requester=False) as b:
            await until(lambda: len(a.membership.peers()) == 1, "b is known")
            job_id = await submit(a, module, count=2)
            await until_committed(a, job_id)
            result = result_of(b)
            blocks = [cid for cid, here in iter_cids(b.blocks, result) if here]
            assert len(blocks) >= 4  # the folder, and stdout, stderr and exitCode
            assert await served(b, *blocks) == []
            assert await served(b, result, recursive=True) == []
            assert not a.blocks.has(result)
        async with running(tmp_path / "b", peers=(a.peer_address,), requester=False) as b:
            assert await served(b, *blocks) == []
            async with running(tmp_path / "c", peers=(a.peer_address,), requester=False):
                await until(lambda: state_of(a, job_id).ended, "the job has ended")
            assert state_of(a, job_id) is JobState.COMPLETED
            assert len(await served(b, *blocks)) == len(blocks)
            executions = a.jobs.job(job_id).executions
            assert [e.state for e in executions] == [ExecutionState.COMPLETED] * 2
            assert len({e.report.result for e in executions if e.report is not None}) == 1


async def test_what_another_job_has_shown_already_is_not_sealed(tmp_path: Path) -> None:
    """The same program ran before, openly: nothing of its result is new."""
    module = program("known to all\n")
    async with (
        running(tmp_path / "a", compute=False) as a,
        running(tmp_path / "b", peers=(a.peer_address,), requester=False) as b,
    ):
        await until(lambda: len(a.membership.peers()) == 1, "b is known")
        async with client_of(a) as channel:
            request = job_service_pb2.SubmitJobRequest(spec=wasm_job(a, module))
            first = str((await JobServiceStub(channel).SubmitJob(request)).job.id)
        await until(lambda: state_of(a, first) is JobState.COMPLETED, "the first job has completed")
        await until(lambda: not b.store.unsettled_work(), "b knows that it was accepted")
        job_id = await submit(a, module, count=2)
        await until_committed(a, job_id)
        assert await served(b, result_of(b)) == [result_of(b).raw]


async def test_a_job_that_is_cancelled_lets_its_node_show_the_result_or_forget_it(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "a", compute=False) as a,
        running(tmp_path / "b", peers=(a.peer_address,), requester=False) as b,
    ):
        await until(lambda: len(a.membership.peers()) == 1, "b is known")
        job_id = await submit(a, program("not wanted any more\n"), count=2)
        await until_committed(a, job_id)
        result = result_of(b)
        async with client_of(a) as channel:
            await JobServiceStub(channel).CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        await until(lambda: not b.store.unsettled_work(), "b has let it go")
        await until(lambda: b.serving.may_serve(result), "the seal is off")


async def test_a_requester_shows_no_result_before_there_is_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running(tmp_path / "a", compute=False) as a,
        running(tmp_path / "b", peers=(a.peer_address,), requester=False) as b,
        running(tmp_path / "c", peers=(a.peer_address,), requester=False) as c,
    ):
        await until(lambda: len(a.membership.peers()) == 2, "b and c are known")

        async def later(opened: object) -> None:
            raise refused(RefusalReason.WRONG_STATE, "not yet")

        with monkeypatch.context() as patched:
            patched.setattr(c._inbound, "reveal_requested", later)  # c is slow
            job_id = await submit(a, program("told to the requester alone\n"), count=2)

            def revealed() -> list[Cid]:
                return [
                    e.report.result
                    for e in a.jobs.job(job_id).executions
                    if e.state is ExecutionState.REVEALED and e.report is not None and e.report.result
                ]

            await until(revealed, "b has revealed")
            (result,) = revealed()
            assert a.blocks.has(result)
            assert await served(a, result, recursive=True) == []
            assert await served(b, result) == [result.raw]
        await until(lambda: state_of(a, job_id) is JobState.COMPLETED, "c has revealed too")
        assert await served(a, result) == [result.raw]
