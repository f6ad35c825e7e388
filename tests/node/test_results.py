"""A result is fetched before it is accepted, and no more of it than its job may write."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from bacalhau.ipfs.importer import import_stream
from bacalhau.model.cid import Cid
from bacalhau.model.execution import FaultKind
from bacalhau.model.units import MIB
from bacalhau.node import results
from bacalhau.node.works import Works
from bacalhau.runtime.executor import EngineFault
from bacalhau.scheduler.records import WorkRecord, WorkState
from bacalhau.v1 import job_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.builders import an_award
from tests.node.live import SMALL, client_of, running, until, wasm_job, wasm_spec

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


UNCHECKABLE = Cid.from_raw(b"\x01\x55\x1e\x20" + bytes(32))


async def test_a_result_whose_hash_cannot_be_checked_fails_its_execution_at_once(tmp_path: Path) -> None:
    async with (
        running(tmp_path / "a", compute=False) as requester,
        running(tmp_path / "b", peers=(requester.peer_address,), requester=False) as worker,
    ):
        await until(lambda: len(requester.membership.peers()) == 1, "the worker is known")
        made_up = replace(import_stream(worker.blocks, [b"anything"]), cid=UNCHECKABLE)
        with patch.object(Works, "_publish_at_once", lambda *_: made_up):
            async with client_of(requester) as channel:
                request = job_service_pb2.SubmitJobRequest(spec=wasm_job(requester))
                job_id = str((await JobServiceStub(channel).SubmitJob(request)).job.id)
            await until(lambda: faults(requester, job_id), "the result is refused")
        executions, _ = requester.store.executions(job_id)
        failure = executions[0].failure
        assert failure is not None
        assert failure.kind is FaultKind.RESULT_UNAVAILABLE
        assert "blake3" in failure.message


async def test_an_unforeseen_failure_of_a_fetch_ends_the_execution_all_the_same(tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    async with (
        running(tmp_path / "a", compute=False) as requester,
        running(tmp_path / "b", peers=(requester.peer_address,), requester=False) as worker,
    ):
        await until(lambda: len(requester.membership.peers()) == 1, "the worker is known")
        large = import_stream(worker.blocks, (bytes([number]) * MIB for number in range(8)))
        with (
            patch.object(Works, "_publish_at_once", lambda *_: large),
            patch.object(results, "_bound_bytes", broken),
        ):
            async with client_of(requester) as channel:
                request = job_service_pb2.SubmitJobRequest(spec=wasm_job(requester))
                job_id = str((await JobServiceStub(channel).SubmitJob(request)).job.id)
            await until(lambda: faults(requester, job_id), "the failure is told")
        assert set(faults(requester, job_id)) == {FaultKind.RESULT_UNAVAILABLE}


async def test_an_input_whose_hash_cannot_be_checked_is_a_fault_of_the_input(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        award = an_award(spec=wasm_spec(UNCHECKABLE))
        record = WorkRecord(award, node.node_id, WorkState.ACCEPTED, 1, 0, 0)
        with pytest.raises(EngineFault, match="blake3") as caught:
            await node.works._fetch_contents(record)
        assert caught.value.fault.kind is FaultKind.INPUT_UNAVAILABLE
