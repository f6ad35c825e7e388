"""One container for one attempt of an execution, from creating to removing it. Everything here blocks.

Three parties touch a container at the same time: the thread that starts and follows it, whoever stops it (a
limit, a cancellation), and the one that lets go of it without stopping it (the node ends). A lock orders the
first two."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from bacalhau.model.execution import Fault, FaultKind, Usage
from bacalhau.runtime import docker_cgroup
from bacalhau.runtime.docker_engine import explanation
from bacalhau.runtime.docker_output import STDERR, STDOUT, Demultiplexer, OutputFiles
from bacalhau.runtime.docker_request import (
    ATTEMPT_LABEL,
    EXECUTION_LABEL,
    MIN_MEMORY_BYTES,
    NODE_LABEL,
    create_container,
    docker_task,
)
from bacalhau.runtime.executor import EngineFault, Outcome
from bacalhau.runtime.limits import disk_used_bytes, memory_fault, timeout_fault

if TYPE_CHECKING:
    import socket

    from bacalhau.runtime.docker_engine import DockerEngine
    from bacalhau.runtime.executor import Run

_RECEIVE_BYTES: Final = 256 * 1024
_WAIT_S: Final = 30
_SAMPLE_REST_US: Final = 50_000
_KILLED: Final = 137
_OOM_LOOKS: Final = 4
_OOM_PAUSE_S: Final = 0.1


class Stopped(Exception):
    """The container was stopped before it had started."""


class Released(Exception):
    """The node has let go of a container that may still run."""


class ImageGone(Exception):
    """The image is not here (any more)."""


class Container:
    """The container of `run`, for the node `node_id`."""

    def __init__(
        self, engine: DockerEngine, node_id: str, run: Run, *, output_limit_bytes: int, pids_limit: int
    ) -> None:
        self.run = run
        self.queued = True  # until its turn to start comes
        self.released = False
        self.name = f"bacalhau-{run.execution_id}-{run.attempt}"
        self._engine = engine
        self._node_id = node_id
        self._output_limit_bytes = output_limit_bytes
        self._pids_limit = pids_limit
        self._id = ""
        self._lock = threading.Lock()
        self._started = False
        self._stopping = False
        self._fault: Fault | None = None
        self._removed = False
        self._stream: Any = None
        self._attached: socket.socket | None = None
        self._began_us = 0
        self._layer_paths: list[str] | None = None
        self._peak_memory_bytes = 0
        self._cpu_us = 0
        self._sampled_us = 0

    # --- starting and following ---

    def start(self) -> None:
        """Create, attach, start. Raises EngineFault, ImageGone, Stopped; nothing is left then."""
        try:
            with self._engine.faults("start the container"):
                self._create()
                if self._stopping:
                    raise Stopped
                self._attach()
                self._begin()
        except (EngineFault, Stopped):
            self._detach()
            self.remove()
            raise
        if self.released:
            self._detach()

    def follow(self) -> Outcome:
        """Write output until the program ends, and say how it did. Raises EngineFault, Released."""
        assert self._attached is not None
        with self._engine.faults("follow the container"):
            try:
                with self._open_output() as files:
                    demultiplexer = Demultiplexer(files)
                    while received := self._attached.recv(_RECEIVE_BYTES):
                        self._keep(demultiplexer, received)
                        self._sample_usage_sometimes()
            except OSError as error:  # the connection, or the output files
                fault = Fault(FaultKind.ENGINE_FAILED, f"the program's output was lost: {error}")
                raise EngineFault(fault) from error
            finally:
                self._detach()
            return self._outcome(self._wait(), wall_us=None)

    def _keep(self, demultiplexer: Demultiplexer, received: bytes) -> None:
        try:
            demultiplexer.feed(received)
        except OSError as error:
            message = f"the node's disk does not take the program's output: {error.strerror}; free some space"
            self.stop(Fault(FaultKind.STORAGE_FULL, message))

    def _create(self) -> None:
        from docker.errors import APIError

        task, doing = docker_task(self.run), "create the container"
        try:
            self._id = self._create_with(working_directory=task.working_directory)
        except APIError as error:
            match error.status_code:
                case 404:
                    raise ImageGone from error
                case 400:
                    raise self._engine.fault(error, doing, FaultKind.INVALID_TASK) from error
                case 500 if self._working_directory_is_wrong():
                    message = (
                        f"the working directory {task.working_directory!r} cannot be used in the image "
                        f"{task.image}: {explanation(error)}; name a folder"
                    )
                    raise EngineFault(Fault(FaultKind.INVALID_TASK, message)) from error
            raise self._engine.fault(error, doing) from error

    def _working_directory_is_wrong(self) -> bool:
        """Whether the same container can be made without it: the engine's answer does not tell one cause from
        another except by its text."""
        from docker.errors import DockerException

        if not docker_task(self.run).working_directory:
            return False
        try:
            self._id = self._create_with(working_directory="")
        except DockerException:
            return False
        return True  # `start` removes it

    def _create_with(self, *, working_directory: str) -> str:
        return create_container(
            self._engine.api(), self.run, self._node_id, self.name, working_directory, self._pids_limit
        )

    def _attach(self) -> None:
        """Before the start, so that nothing is missed and nothing has to be asked for afterwards."""
        self._stream = self._engine.api().attach_socket(
            self._id, params={"stdout": 1, "stderr": 1, "stream": 1}
        )
        # The SDK gives the reader around the socket, or over TLS the socket itself.
        self._attached = getattr(self._stream, "_sock", self._stream)
        self._attached.settimeout(None)  # programs may be silent for long

    def _detach(self) -> None:
        # The reader's response owns its connection; closing the reader first would make the response fail.
        if self._stream is not None:
            getattr(self._stream, "_response", self._stream).close()

    def _begin(self) -> None:
        from docker.errors import APIError

        api = self._engine.api()
        try:
            api.start(self._id)
        except APIError as error:
            raise self._start_fault(error) from error
        with self._lock:
            self._started = True
            stopping = self._stopping
            self._began_us = time.monotonic_ns() // 1000
        if stopping:
            self._kill()

    def _start_fault(self, error: Any) -> EngineFault:
        """126 and 127 are what `docker run` would exit with: the program is no program, or is not there."""
        code = self._engine.api().inspect_container(self._id)["State"]["ExitCode"]
        what = {126: "cannot be executed", 127: "is not there"}.get(code)
        if what is None:
            return self._engine.fault(error, "start the container")
        image = docker_task(self.run).image
        message = f"the program {what} in the image {image} (exit code {code}): {explanation(error)}"
        return EngineFault(Fault(FaultKind.INVALID_TASK, message))

    def _wait(self) -> int:
        from requests.exceptions import ConnectionError as Disconnected
        from requests.exceptions import ReadTimeout

        while True:
            if self.released:
                raise Released
            try:
                return int(self._engine.api().wait(self._id, timeout=_WAIT_S)["StatusCode"])
            except ReadTimeout:
                continue  # it has closed its output and goes on
            except Disconnected:
                if self.released:
                    raise Released from None
                raise

    def _outcome(self, exit_code: int, wall_us: int | None) -> Outcome:
        wall_us = self.wall_us() if wall_us is None else wall_us
        with self._lock:
            fault = self._fault
        if fault is None and exit_code != 0 and self._oom_killed(exit_code):
            allowed = max(self.run.spec.resources.memory_bytes, MIN_MEMORY_BYTES)
            fault = memory_fault(self._peak_memory_bytes, allowed)
        usage = Usage(wall_us=wall_us, cpu_us=self._cpu_us, peak_memory_bytes=self._peak_memory_bytes)
        return Outcome(exit_code, usage, fault)

    def _oom_killed(self, exit_code: int) -> bool:
        """The engine hears of an out-of-memory kill beside the exit, and on a busy machine after it: a program that
        was killed, and not by this node, is asked about a few times."""
        for attempt in range(_OOM_LOOKS if exit_code == _KILLED else 1):
            if attempt:
                time.sleep(_OOM_PAUSE_S)
            if self._engine.api().inspect_container(self._id)["State"]["OOMKilled"]:
                return True
        return False

    # --- after a restart of the node ---

    def find(self) -> bool:
        """Look for the container that an earlier life started. Removes one that never started. Raises
        EngineFault.
        """
        labels = {
            NODE_LABEL: self._node_id,
            EXECUTION_LABEL: self.run.execution_id,
            ATTEMPT_LABEL: str(self.run.attempt),
        }
        with self._engine.faults("look for the container of an earlier life"):
            filters = {"label": [f"{name}={value}" for name, value in labels.items()]}
            found = self._engine.api().containers(all=True, filters=filters)
            if not found:
                return False
            self._id = found[0]["Id"]
            state = self._engine.api().inspect_container(self._id)["State"]
        if state["Status"] in ("created", "dead", "removing"):
            self.remove()
            return False
        with self._lock:
            self._started = True
            self._began_us = time.monotonic_ns() // 1000 - docker_cgroup.since_us(state["StartedAt"])
        return True

    def follow_again(self) -> Outcome:
        """As `follow`, for one that was found. Output is written from its beginning, over what was written
        before.
        """
        with self._engine.faults("follow the container"):
            self._read_logs(follow=True)
            exit_code = self._wait()
            # The engine's followed logs may end a little early; read once more, now that they are complete.
            self._read_logs(follow=False)
            state = self._engine.api().inspect_container(self._id)["State"]
        wall_us = docker_cgroup.between_us(state["StartedAt"], state["FinishedAt"])
        allowed_us = self.run.spec.timeouts.execution_us
        if exit_code == _KILLED and self._fault is None and wall_us >= allowed_us and not state["OOMKilled"]:
            self._fault = timeout_fault(wall_us, allowed_us)  # killed in the earlier life
        return self._outcome(exit_code, wall_us)

    def _read_logs(self, *, follow: bool) -> None:
        """Both streams at once, each by a call of its own: the SDK does not say of a line which one it is
        from.
        """
        with self._open_output() as files:
            failed: list[Exception] = []

            def read(stream: int) -> None:
                try:
                    pieces = self._engine.api().logs(
                        self._id, stdout=stream == STDOUT, stderr=stream == STDERR, stream=True, follow=follow
                    )
                    for piece in pieces:
                        if self.released:
                            return
                        files.write(stream, piece)
                except Exception as error:  # raised again in the thread that waits for this one
                    failed.append(error)

            other = threading.Thread(target=read, args=(STDERR,), name="docker-stderr", daemon=True)
            other.start()
            read(STDOUT)
            other.join()
            if failed:
                raise failed[0]

    # --- limits, stopping, removing ---

    def stop(self, fault: Fault | None = None) -> bool:
        """Kill the program, or keep it from starting; `fault` is the reason where its end is one. False where
        the engine does not answer: call it again.
        """
        with self._lock:  # until the reason stands: the end that this brings about is told with it
            self._stopping = True
            try:
                if self._started and self._kill() and self._fault is None:
                    self._fault = fault
            except EngineFault:
                return False
        return True

    def _kill(self) -> bool:
        """Whether it still ran."""
        from docker.errors import APIError

        with self._engine.faults("stop the container"):
            try:
                self._engine.api().kill(self._id)
            except APIError as error:
                if error.status_code not in (404, 409):
                    raise
                return False
        return True

    def release(self) -> None:
        """Let go without stopping it: what follows it ends."""
        self.released = True
        if self._attached is not None:
            with suppress(OSError):  # it has ended already
                self._attached.shutdown(2)

    def remove(self) -> None:
        """Remove it with its anonymous volumes, running or not. Failing is no fault: `reap` comes again."""
        if not self._id or self._removed:
            return
        with suppress(EngineFault), self._engine.faults("remove the container"):
            self._engine.api().remove_container(self._id, v=True, force=True)
            self._removed = True

    def wall_us(self) -> int:
        """How long the program has run."""
        return time.monotonic_ns() // 1000 - self._began_us if self._began_us else 0

    def _sample_usage_sometimes(self) -> None:
        """When output comes: its cgroup is gone before its end is known, so the last sample has to be
        earlier.
        """
        now_us = time.monotonic_ns() // 1000
        if now_us - self._sampled_us >= _SAMPLE_REST_US:
            self._sampled_us = now_us
            self._sample_usage()

    def _sample_usage(self) -> None:
        """Read CPU time and peak memory so far from the container's cgroup, where this user can."""
        cpu_us, peak_memory_bytes = docker_cgroup.usage(self._id)
        self._cpu_us = max(self._cpu_us, cpu_us)
        self._peak_memory_bytes = max(self._peak_memory_bytes, peak_memory_bytes)

    def disk_used_bytes(self) -> int:
        """What the program has written: outputs, captured output, layer and volumes. Samples usage too."""
        self._sample_usage()
        workspace, allowed = self.run.workspace, self.run.spec.resources.disk_bytes
        layer_bytes = 0
        with suppress(EngineFault), self._engine.faults("measure the container"):  # next time, then
            if self._layer_paths is None:
                self._layer_paths = self._find_layer_paths()
            layer_bytes = self._layer_bytes_by_engine()
        paths = [*workspace.outputs, workspace.stdout, workspace.stderr, *(self._layer_paths or ())]
        return disk_used_bytes(paths, stop_above_bytes=allowed) + layer_bytes

    def _find_layer_paths(self) -> list[str]:
        """The folders that hold the writable layer and anonymous volumes, where the node may read them."""
        details = self._engine.api().inspect_container(self._id)
        paths = [(details.get("GraphDriver", {}).get("Data") or {}).get("UpperDir", "")]
        paths += [mount["Source"] for mount in details["Mounts"] if mount["Type"] == "volume"]
        return [path for path in paths if path and docker_cgroup.can_list(path)]

    def _layer_bytes_by_engine(self) -> int:
        if self._layer_paths:
            return 0
        details = self._engine.api().containers(all=True, size=True, filters={"id": self._id})
        return int(details[0].get("SizeRw", 0)) if details else 0

    def _open_output(self) -> OutputFiles:
        return OutputFiles(self.run.workspace.stdout, self.run.workspace.stderr, self._output_limit_bytes)
