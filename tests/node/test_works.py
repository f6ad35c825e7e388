"""What an execution needs on disk goes with it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from bacalhau.ipfs.importer import import_stream
from bacalhau.model.job import JobState
from bacalhau.runtime.workspace import Workspaces
from bacalhau.v1 import job_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.node.live import client_of, running, until, wasm_job

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.node.node import Node
    from bacalhau.runtime.executor import Workspace


def state(node: Node, job_id: str) -> JobState | None:
    job = node.store.job(job_id)
    return None if job is None else job.state


async def test_a_job_that_is_cancelled_while_its_inputs_are_laid_out_leaves_none_of_them(
    tmp_path: Path,
) -> None:
    begun, cancelled, ended = threading.Event(), threading.Event(), threading.Event()
    lay_out = Workspaces.materialise

    def slowly(workspaces: Workspaces, *words: Any) -> Workspace:
        begun.set()
        assert cancelled.wait(30)
        workspace = lay_out(workspaces, *words)
        assert (workspace.root / "inputs" / "0").is_file()
        ended.set()
        return workspace

    async with running(tmp_path) as node:
        spec = wasm_job(node, inputs=(import_stream(node.blocks, [b"an input"]).cid,))
        with patch.object(Workspaces, "materialise", slowly):
            async with client_of(node) as channel:
                answer = await JobServiceStub(channel).SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))
            job_id = str(answer.job.id)
            await until(begun.is_set, "the inputs are laid out")
            await node.jobs.cancel(job_id, "")
            await until(lambda: state(node, job_id) is JobState.CANCELLED, "the job is cancelled")
            cancelled.set()
            await until(ended.is_set, "the inputs are there")
        await until(lambda: not list((tmp_path / "workspaces" / "runs").iterdir()), "the workspace is gone")
