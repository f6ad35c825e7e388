"""Nodes as processes: started on free ports with their own data folders, killed, restarted, asked and always ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from bacalhau.runtime.docker_request import EXECUTION_LABEL
from bacalhau.v1.job_pb2 import Job, JobEvent, JobEventType, JobState
from bacalhau.v1.job_service_pb2 import GetJobRequest, StreamLogsRequest, WatchJobRequest
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from bacalhau.v1.ledger_service_pb2_grpc import LedgerServiceStub
from bacalhau.v1.node_service_pb2 import GetNodeRequest, ListPeersRequest
from bacalhau.v1.node_service_pb2_grpc import NodeServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import docker
    from docker.models.containers import Container

    from bacalhau.v1.node_pb2 import Node

REPOSITORY = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "bacalhau")
FAULTY_COMMAND = (sys.executable, "-m", "tests.e2e.faulty_node")
FAULTS = ("DIE_AT", "NEVER_PAYS", "WITHOUT_LIBP2P")
READY_SECONDS = 30.0
STOP_SECONDS = 20.0
WAIT_SECONDS = 60.0
POLL_SECONDS = 0.02

Completed = subprocess.CompletedProcess[str]


def environment(**variables: str) -> dict[str, str]:
    """The environment of this process without what names a node, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BACALHAU_API")}
    return kept | {"PYTHONPATH": str(REPOSITORY)} | variables


def program(variables: Mapping[str, str]) -> tuple[str, ...]:
    """The command, with that fault where the variables name one of FAULTS: faulty_node.py."""
    return FAULTY_COMMAND if any(name in variables for name in FAULTS) else COMMAND


def run_command(*words: str, stdin: str = "", env: Mapping[str, str]) -> Completed:
    """One command line, to its end, with `env` on top of the environment."""
    return subprocess.run(
        [*program(env), *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
        env=environment(**env),
    )


def wait_until(holds: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Asks again and again, for what no event tells of."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} seconds still not: {what}")
        time.sleep(POLL_SECONDS)


def containers_of(engine: docker.DockerClient, execution_id: str) -> list[Container]:
    """The containers of an execution, running or not; one may be removed while they are listed."""
    filters: dict[str, str | list[str] | bool] = {"label": f"{EXECUTION_LABEL}={execution_id}"}
    found: list[Container] = engine.containers.list(all=True, filters=filters, ignore_removed=True)
    return found


class NodeProcess:
    """`bacalhau serve` on `folder`. After the first start its ports stay the same."""

    def __init__(self, folder: Path, *flags: str, **variables: str) -> None:
        self.folder = folder
        self.flags = flags
        self.variables = variables
        self.node_id = self.api_address = self.peer_address = self.p2p_address = ""
        self.metrics_address = ""
        self._log = folder.with_name(folder.name + ".log")
        self._ready = folder.with_name(folder.name + ".ready")
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: grpc.Channel | None = None
        self._clients: list[subprocess.Popen[str]] = []

    # --- the process ---

    def begin(self) -> None:
        """Starts it, and does not wait."""
        self._ready.unlink(missing_ok=True)
        command = [*program(self.variables), "serve", "--data-dir", str(self.folder)]
        command += ["--ready-file", str(self._ready)]
        command += [
            "--api-port",
            self.api_port or "0",
            "--peer-port",
            self.peer_address.rpartition(":")[2] or "0",
        ]
        if "WITHOUT_LIBP2P" not in self.variables and not any(f.startswith("--p2p") for f in self.flags):
            # What these tests are about is the same without, and a second of each start.
            command.append("--no-p2p")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self.flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(**self.variables),
            )

    def start(self) -> NodeProcess:
        """Starts it, and waits until it listens."""
        self.begin()
        self.wait_ready()
        return self

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        wait_until(lambda: self._ready.exists() or not self.running, f"{self.folder.name} ready", seconds)
        if not self._ready.exists():
            raise AssertionError(f"{self.folder.name} ended with {self.exit_code}:\n{self.log}")
        ready = json.loads(self._ready.read_text())
        self.node_id, self.api_address, self.peer_address = (
            ready["node_id"],
            ready["api_address"],
            ready["peer_address"],
        )
        self.p2p_address = next(iter(ready["p2p_addresses"]), "")
        self.metrics_address = ready["metrics_address"]

    @property
    def is_ready(self) -> bool:
        """Whether this life of it listens."""
        return self.running and self._ready.exists()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)
        self._disconnect()

    def wait_killed(self) -> None:
        """Until it has killed itself (see `begin`); the next life does not."""
        assert self._process is not None
        assert self._process.wait(WAIT_SECONDS) == -signal.SIGKILL, self.log
        self._disconnect()
        del self.variables["DIE_AT"]

    def stop(self) -> int:
        """SIGTERM, as an operator ends it; the exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(STOP_SECONDS)
        self._disconnect()
        return code

    def pause(self) -> None:
        """It answers nothing any more, and is not gone: as behind a broken network."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> NodeProcess:
        """kill -9, and another life on the same folder and ports."""
        if self.running:
            self.kill()
        return self.start()

    def end(self) -> None:
        """Whatever state it is in: nothing of it runs afterwards."""
        for client in self._clients:
            client.kill()
            client.communicate()
        self._disconnect()
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                self.resume()
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                raise

    def _disconnect(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    # --- its users ---

    @property
    def api_port(self) -> str:
        return self.api_address.rpartition(":")[2]

    def cli(self, *words: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Completed:
        """One command line against this node, to its end."""
        return run_command(*words, stdin=stdin, env={"BACALHAU_API_PORT": self.api_port, **(env or {})})

    def begin_cli(self, *words: str) -> subprocess.Popen[str]:
        """A command line that goes on; it is ended with the node."""
        client = subprocess.Popen(
            [*COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(BACALHAU_API_PORT=self.api_port),
        )
        self._clients.append(client)
        return client

    def submit(self, *words: str) -> str:
        """`docker run …` or `wasm run …` without waiting; the job's id."""
        done = self.cli(words[0], "run", "--id-only", *words[1:])
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def describe(self, job_id: str) -> dict[str, Any]:
        """`describe --json --include-events`."""
        done = self.cli("describe", "--json", "--include-events", job_id)
        assert done.returncode == 0, done.stderr
        described: dict[str, Any] = json.loads(done.stdout)
        return described

    @property
    def channel(self) -> grpc.Channel:
        if self._channel is None:
            # A channel to another life of the node may sit in its reconnection pause: each life gets its own.
            options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
            self._channel = grpc.insecure_channel(self.api_address, options)
        return self._channel

    @property
    def jobs(self) -> Any:
        return JobServiceStub(self.channel)

    @property
    def nodes(self) -> Any:
        return NodeServiceStub(self.channel)

    @property
    def ledger(self) -> Any:
        return LedgerServiceStub(self.channel)

    def job(self, job_id: str) -> Job:
        job: Job = self.jobs.GetJob(GetJobRequest(job_id=job_id), timeout=WAIT_SECONDS).job
        return job

    def events(self, job_id: str, *, history_only: bool = False) -> Iterator[JobEvent]:
        """What happened to a job, then what happens, to its end."""
        request = WatchJobRequest(job_id=job_id, history_only=history_only)
        for answer in self.jobs.WatchJob(request, timeout=WAIT_SECONDS):
            yield from answer.events

    def wait_for(self, job_id: str, kind: str, **fields: Any) -> JobEvent:
        """The first event of the kind ("AWARDED", …) with these fields; fails where the job ends before it."""
        wanted = JobEventType.Value(f"JOB_EVENT_TYPE_{kind}")
        seen = []
        for event in self.events(job_id):
            seen.append(JobEventType.Name(event.type).removeprefix("JOB_EVENT_TYPE_"))
            if event.type == wanted and all(getattr(event, name) == value for name, value in fields.items()):
                return event
        raise AssertionError(f"{job_id} ended without {kind} {fields}: {seen}, {self.job(job_id).failure}")

    def wait_running(self, job_id: str) -> JobEvent:
        """Waits until the job's program runs."""
        from bacalhau.v1.execution_pb2 import EXECUTION_PHASE_RUNNING

        return self.wait_for(job_id, "PHASE_CHANGED", phase=EXECUTION_PHASE_RUNNING)

    def wait_output(self, job_id: str) -> bytes:
        """Waits until the job's program writes something, so that it surely runs; what it wrote."""
        for piece in self.jobs.StreamLogs(
            StreamLogsRequest(job_id=job_id, follow=True), timeout=WAIT_SECONDS
        ):
            data: bytes = piece.data
            return data
        raise AssertionError(f"{job_id} wrote nothing: {self.job(job_id)}")

    def wait_ended(self, job_id: str) -> Job:
        for _ in self.events(job_id):
            pass
        return self.job(job_id)

    def wait_completed(self, job_id: str) -> Job:
        job = self.wait_ended(job_id)
        assert job.state == JobState.JOB_STATE_COMPLETED, (job.failure, self.describe(job_id))
        return job

    def view(self) -> Node:
        node: Node = self.nodes.GetNode(GetNodeRequest(), timeout=WAIT_SECONDS).node
        return node

    def live_ids(self) -> set[str]:
        """The nodes that it holds for live, itself included."""
        peers = self.nodes.ListPeers(ListPeersRequest(page_size=100), timeout=WAIT_SECONDS).nodes
        return {node.record.node_id for node in peers if node.live}

    def wait_knows(self, *others: NodeProcess) -> None:
        wanted = {other.node_id for other in others}
        wait_until(lambda: wanted <= self.live_ids(), f"{self.folder.name} knows {sorted(wanted)}")

    def wait_idle(self) -> None:
        """Until nothing is reserved: what is free is all there is."""
        wait_until(lambda: _is_idle(self.view()), f"all of {self.folder.name} is free: {self.view()}", 30)


def _is_idle(view: Node) -> bool:
    return view.running_executions == 0 and view.free == view.record.capacity


class Network:
    """Nodes that are started together and ended together, with the containers that they left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._nodes: list[NodeProcess] = []

    def node(self, name: str, *flags: str, **variables: str) -> NodeProcess:
        """A node that is not started yet."""
        node = NodeProcess(self.folder / name, *flags, **variables)
        self._nodes.append(node)
        return node

    def start(self, name: str, *flags: str, **variables: str) -> NodeProcess:
        return self.node(name, *flags, **variables).start()

    def join(self, first: NodeProcess, *nodes: NodeProcess) -> None:
        """Starts nodes that join the first one, all at once, and waits until each two know each other."""
        for node in nodes:
            node.flags += ("--peer", first.peer_address)
            node.begin()
        for node in nodes:
            node.wait_ready()
        everyone = (first, *nodes)
        for node in everyone:
            node.wait_knows(*(other for other in everyone if other is not node))

    def end(self) -> None:
        failures = []
        for node in self._nodes:
            try:
                node.end()
            except subprocess.TimeoutExpired:
                failures.append(f"{node.folder.name} did not end at SIGTERM:\n{node.log}")
        remove_containers_of_nodes([node.node_id for node in self._nodes if node.node_id])
        assert not failures, "\n".join(failures)


def remove_containers_of_nodes(node_ids: list[str]) -> None:
    """Where there is a Docker engine, so that the nodes may have left any."""
    from docker.errors import DockerException

    from tests.parts.containers import open_engine, remove_containers

    try:
        engine = open_engine()
        try:
            for node_id in node_ids:
                remove_containers(engine, node_id)
        finally:
            engine.close()
    except (DockerException, OSError):
        return
