"""Nodes as processes, and the client that measures them: one asyncio process with one channel."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import grpc.aio
from claims import CannotMeasure
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bacalhau.v1 import (
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    node_service_pb2,
    node_service_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "bacalhau")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("BACALHAU_API")} | {
    "PYTHONPATH": str(REPOSITORY)
}
IN_FLIGHT = 16
_START_S = 30
_STOP_S = 20
_ENDED = (job_pb2.JOB_STATE_COMPLETED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)


@dataclass(frozen=True, slots=True)
class Node:
    """A running node."""

    process_id: int
    node_id: str
    api_address: str
    peer_address: str

    @property
    def environment(self) -> dict[str, str]:
        """Lets the command line find it."""
        host, _, port = self.api_address.rpartition(":")
        return ENVIRONMENT | {"BACALHAU_API_HOST": host, "BACALHAU_API_PORT": port}


@contextmanager
def running_node(folder: Path, *flags: str) -> Iterator[Node]:
    """`bacalhau serve` with its data in `folder`, on free ports, ended with the context. Raises CannotMeasure."""
    folder.mkdir(parents=True)
    ready, log = folder / "ready.json", folder / "log"
    command = [*COMMAND, "serve", "--data-dir", str(folder / "data"), "--ready-file", str(ready)]
    command += ["--api-port", "0", "--peer-port", "0", "--log-level", "warning", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=ENVIRONMENT
        )
    try:
        deadline = time.monotonic() + _START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise CannotMeasure(f"the node did not start: {last_line(log)}")
            time.sleep(0.02)
        said = json.loads(ready.read_text())
        yield Node(process.pid, said["node_id"], said["api_address"], said["peer_address"])
        if process.poll() is not None:
            raise CannotMeasure(f"the node ended by itself: {last_line(log)}")
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def run_command(node: Node, *words: str) -> str:
    """One command line against `node`; what it printed. Raises CannotMeasure."""
    finished = subprocess.run(
        [*COMMAND, *words], env=node.environment, capture_output=True, text=True, check=False
    )
    if finished.returncode:
        reason = finished.stderr.strip().splitlines() or ["it said nothing"]
        raise CannotMeasure(f"bacalhau {words[0]} failed: {reason[-1]}")
    return finished.stdout.strip()


@dataclass(frozen=True, slots=True)
class Burst:
    """Many jobs submitted at once, in jobs a second: SubmitJob answers, and terminal states."""

    answered_a_second: float
    ended_a_second: float
    different_results: int


class Client:
    """What a program with stubs does: submits, and watches the job until the stream ends."""

    def __init__(self, node: Node) -> None:
        self._channel = grpc.aio.insecure_channel(node.api_address)
        self._jobs = job_service_pb2_grpc.JobServiceStub(self._channel)
        self._nodes = node_service_pb2_grpc.NodeServiceStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def call(self) -> None:
        """The no-op unary call: the health check, which reads one entry of a table."""
        await self._health.Check(health_pb2.HealthCheckRequest())

    async def calls_a_second(self, count: int) -> float:
        """The rate of no-op calls with 16 in flight."""

        async def calls() -> None:
            for _ in range(count // IN_FLIGHT):
                await self.call()

        start = time.perf_counter()
        await asyncio.gather(*(calls() for _ in range(IN_FLIGHT)))
        return count // IN_FLIGHT * IN_FLIGHT / (time.perf_counter() - start)

    async def run(self, spec: job_pb2.JobSpec) -> job_pb2.Job:
        """One job, from SubmitJob to its terminal state. Raises CannotMeasure unless its program ended with 0."""
        return await self._watch(await self._submit(spec))

    async def burst(self, specs: Sequence[job_pb2.JobSpec]) -> Burst:
        """All at once, each watched from its acceptance on. Raises CannotMeasure where results are missing."""
        answered = 0.0

        async def run(spec: job_pb2.JobSpec) -> job_pb2.Job:
            nonlocal answered
            job_id = await self._submit(spec)
            answered = time.perf_counter()
            return await self._watch(job_id)

        start = time.perf_counter()
        jobs = await asyncio.gather(*(run(spec) for spec in specs))
        ended = time.perf_counter()
        results = {job.executions[-1].report.result_cid for job in jobs}
        if "" in results:
            raise CannotMeasure("a job has no result")
        return Burst(len(jobs) / (answered - start), len(jobs) / (ended - start), len(results))

    async def live_peers(self) -> int:
        answer = await self._nodes.ListPeers(node_service_pb2.ListPeersRequest())
        return sum(1 for node in answer.nodes if node.live and not node.self)

    async def _submit(self, spec: job_pb2.JobSpec) -> str:
        answer = await self._jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec))
        return str(answer.job.id)

    async def _watch(self, job_id: str) -> job_pb2.Job:
        job = job_pb2.Job()
        async for answer in self._jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id)):
            if answer.HasField("job"):
                job = answer.job
        if job.state not in _ENDED:
            raise CannotMeasure(f"the history of {job_id} ended before the job did")
        if job.state != job_pb2.JOB_STATE_COMPLETED:
            raise CannotMeasure(f"{job_id} failed: {job.failure.message}")
        if job.executions[-1].report.exit_code:
            raise CannotMeasure(f"{job_id} ended with exit code {job.executions[-1].report.exit_code}")
        return job
