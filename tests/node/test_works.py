"""Executions that are stopped while a thread works for them."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from bacalhau.ipfs.importer import import_stream
from bacalhau.ipfs.layout import ImportOptions
from bacalhau.v1 import job_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.node.live import client_of, running, until, wasm_job

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from bacalhau.model.cid import Cid
    from bacalhau.node.node import Node

CHUNK_BYTES = 256 * 1024


class SlowReads:
    """Whoever reads the slow content waits until it may go on."""

    def __init__(self, node: Node, slow: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Event()
        self.may_go_on = threading.Event()
        self._get = node.blocks.get
        self._slow = slow
        monkeypatch.setattr(node.blocks, "get", self.get)

    def get(self, cid: Cid) -> bytes:
        block = self._get(cid)
        if block == self._slow:
            self.entered.set()
            self.may_go_on.wait(10)
        return block


async def test_a_job_cancelled_while_its_inputs_are_laid_out_ends_when_they_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as node, client_of(node) as channel:
        chunks = [os.urandom(CHUNK_BYTES) for _ in range(8)]
        # Raw leaves are read by nothing before that.
        cid = import_stream(node.blocks, chunks, options=ImportOptions(raw_leaves=True)).cid
        reads = SlowReads(node, chunks[3], monkeypatch)
        jobs = JobServiceStub(channel)
        spec = wasm_job(node, inputs=(cid,))
        job_id = (await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))).job.id
        await until(reads.entered.is_set, "the inputs are being laid out")
        runs = tmp_path / "workspaces" / "runs"
        assert len(list(runs.iterdir())) == 1
        await jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
        reads.may_go_on.set()
        await until(lambda: not node.store.unsettled_work(), "the work has ended")
        assert list(runs.iterdir()) == []
