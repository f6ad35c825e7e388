"""A result is fetched before it is accepted, and no more of it than its job may write."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from unittest.mock import patch

from bacalhau.ipfs.importer import import_stream
from bacalhau.model.execution import FaultKind
from bacalhau.model.resources import MIB
from bacalhau.node.works import Works
from bacalhau.v1 import job_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.node.live import SMALL, client_of, running, until, wasm_job

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.ipfs.layout import Imported
    from bacalhau.node.node import Node


def faults(node: Node, job_id: str) -> list[FaultKind]:
    executions, _ = node.store.executions(job_id)
    return [execution.failure.kind for execution in executions if execution.failure is not None]


async def test_of_a_result_larger_than_its_job_may_write_only_so_much_is_fetched(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "a", compute=False) as requester,
        running(tmp_path / "b", peers=(requester.peer_address,), requester=False) as worker,
    ):
        await until(lambda: len(requester.membership.peers()) == 1, "the worker is known")
        huge = import_stream(worker.blocks, (bytes([number]) * MIB for number in range(32)))

        def claimed(*_: object) -> Imported:
            return huge

        spec = wasm_job(requester, resources=replace(SMALL, disk_bytes=MIB))
        before = requester.blocks.stored_bytes
        with patch.object(Works, "_publish_at_once", claimed):
            async with client_of(requester) as channel:
                answer = await JobServiceStub(channel).SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))
            job_id = str(answer.job.id)
            await until(lambda: faults(requester, job_id), "the result is refused", 60)
        assert set(faults(requester, job_id)) == {FaultKind.RESULT_UNAVAILABLE}
        assert requester.blocks.stored_bytes - before < 8 * MIB
