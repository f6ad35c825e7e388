"""Docker jobs on a running node against the engine's own tools: one job, and sixty at once."""

from __future__ import annotations

import asyncio
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import docker
from claims import CannotMeasure, Claim, Finding, Goal, Round
from docker.errors import DockerException
from nodes import Client, running_node

from bacalhau.runtime.docker_request import NODE_LABEL
from bacalhau.v1 import job_pb2, resources_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE = "busybox"
COMMAND = "true"
AT_ONCE = 60
THREADS = (2, 4, 8)
_MIB = 1024 * 1024
_REMOVAL_S = 60

ONE = Claim("Docker job, submit to terminal state", "`docker run --rm`", "ms", Goal.AT_MOST, 1.15)
MANY = Claim(f"{AT_ONCE} Docker jobs at once", "bare SDK calls", "jobs/s", Goal.AT_LEAST, 0.95)
CLAIMS = (ONE, MANY)


def measure(folder: Path, *, quick: bool) -> Iterator[Finding]:
    """Raises CannotMeasure where there is no engine or no image."""
    engine = _engine()
    try:
        # It offers more than there is, so that the engine and not the node's capacity is the limit.
        with running_node(folder / "docker", "--limit-total-cpu", "64") as node, asyncio.Runner() as loop:
            client = loop.run(_connect(node))
            try:
                measurement = _Measurement(engine, node.node_id, client, loop)
                yield measurement.one(4 if quick else 20)
                yield measurement.many(1 if quick else 3)
            finally:
                loop.run(client.__aexit__())
    finally:
        engine.close()


async def _connect(node: object) -> Client:
    return Client(node)  # type: ignore[arg-type]  # made inside the loop that it belongs to


def _engine() -> docker.APIClient:
    try:
        engine = docker.from_env().api
    except DockerException as error:
        raise CannotMeasure(f"no Docker engine answers; scripts/parts start ({error})") from error
    if not engine.images(IMAGE):
        engine.close()
        raise CannotMeasure(f"the image {IMAGE} is missing; scripts/parts start")
    return engine


class _Measurement:
    def __init__(self, engine: docker.APIClient, node_id: str, client: Client, loop: asyncio.Runner) -> None:
        self._engine = engine
        self._node_id = node_id
        self._client = client
        self._loop = loop

    def one(self, rounds: int) -> Finding:
        finding = Finding(ONE)
        self._job_ms(), self._command_ms()  # the first of each meets cold caches
        for number in range(rounds):
            if number % 2:
                theirs = self._command_ms()
                ours = self._job_ms()
            else:
                ours = self._job_ms()
                theirs = self._command_ms()
            finding.rounds.append(Round(ours, theirs))
        return finding

    def many(self, rounds: int) -> Finding:
        finding = Finding(MANY)
        jobs: list[float] = []
        calls: dict[int, list[float]] = {threads: [] for threads in THREADS}
        for number in range(rounds):
            # The jobs' turn moves through the round, so that none of the others is always nearest.
            for turn in range(len(THREADS) + 1):
                if turn == (number + 1) % (len(THREADS) + 1):
                    jobs.append(self._jobs_a_second())
                if turn < len(THREADS):
                    calls[THREADS[turn]].append(self._calls_a_second(THREADS[turn]))
        best = max(THREADS, key=lambda threads: sorted(calls[threads])[rounds // 2])
        finding.rounds = [Round(ours, theirs) for ours, theirs in zip(jobs, calls[best], strict=True)]
        rates = ", ".join(f"{threads}: {sorted(calls[threads])[rounds // 2]:.1f}/s" for threads in THREADS)
        finding.notes.append(f"bare SDK calls by threads: {rates}; compared with {best} threads")
        return finding

    def _job_ms(self) -> float:
        start = time.perf_counter()
        self._loop.run(self._client.run(_spec(0)))
        taken = time.perf_counter() - start
        self._wait_for_removal()
        return taken * 1000

    def _command_ms(self) -> float:
        start = time.perf_counter()
        subprocess.run(
            ["docker", "run", "--rm", "--network", "none", IMAGE, COMMAND],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        return (time.perf_counter() - start) * 1000

    def _jobs_a_second(self) -> float:
        rate = self._loop.run(self._client.burst([_spec(number) for number in range(AT_ONCE)])).ended_a_second
        self._wait_for_removal()
        return rate

    def _calls_a_second(self, threads: int) -> float:
        clients = [docker.from_env().api for _ in range(threads)]

        def run(client: docker.APIClient, count: int) -> None:
            for _ in range(count):
                _run_bare(client)

        try:
            share, rest = divmod(AT_ONCE, threads)
            counts = [share + (number < rest) for number in range(threads)]
            with ThreadPoolExecutor(threads) as pool:
                start = time.perf_counter()
                list(pool.map(run, clients, counts))
                return AT_ONCE / (time.perf_counter() - start)
        finally:
            for client in clients:
                client.close()

    def _wait_for_removal(self) -> None:
        """The node removes containers in the background: that must not slow down what is measured next."""
        deadline = time.monotonic() + _REMOVAL_S
        while self._engine.containers(all=True, filters={"label": f"{NODE_LABEL}={self._node_id}"}):
            if time.monotonic() > deadline:
                raise CannotMeasure("the node did not remove its containers")
            time.sleep(0.02)


def _run_bare(client: docker.APIClient) -> None:
    host = client.create_host_config(network_mode="none")
    container = client.create_container(IMAGE, COMMAND, host_config=host)["Id"]
    client.start(container)
    client.wait(container)
    client.logs(container)
    client.remove_container(container)


def _spec(number: int) -> job_pb2.JobSpec:
    """A whole core, for a quota below that slows the start itself down, and the other side has none."""
    return job_pb2.JobSpec(
        name=f"bench {number}",
        docker=job_pb2.DockerTask(image=IMAGE, command=[COMMAND]),
        outputs=[job_pb2.OutputPath(name="outputs", path="/outputs")],
        resources=resources_pb2.Resources(cpu_millicores=1000, memory_bytes=64 * _MIB, disk_bytes=64 * _MIB),
    )
