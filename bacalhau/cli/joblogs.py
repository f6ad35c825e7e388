"""Copies what a job's executions write to this process's stdout and stderr, once, while they write it.

Each execution is read by a thread of its own. An execution that takes the place of a failed one writes its
output from the beginning: what the failed one had printed already is left out, by byte offsets. What the live
streams did not bring is read from the result folder in the end.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bacalhau.cli.failures import NodeFailure

if TYPE_CHECKING:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.progress import Progress

STDOUT, STDERR = 1, 2  # as in the protocol's LogStream, and as file descriptors
RETRY_SECONDS = 0.3
SILENCE_SECONDS = 10.0  # how long a stream may say nothing once its execution has ended


@dataclass(slots=True)
class Place:
    """One of the job's `count` places: how many bytes of each stream its executions have printed."""

    printed: dict[int, int] = field(default_factory=lambda: {STDOUT: 0, STDERR: 0})


@dataclass(slots=True)
class _Reader:
    place: Place
    thread: threading.Thread | None = None
    call: Any = None
    ended: bool = False  # its stream came to its end: nothing is missing
    stopped: bool = False
    heard: float = 0.0


class JobLogs:
    """The output of one job. Methods are called by the command's thread only."""

    def __init__(self, node: Node, job_id: str, progress: Progress, *, count: int) -> None:
        self._node = node
        self._job_id = job_id
        self._progress = progress
        self._whole_lines = count > 1
        self._readers: dict[str, _Reader] = {}
        self._free: list[Place] = []
        self._printing = threading.Lock()
        self._closed = False
        self.lost: OSError | None = None
        """Why some of the output could not be written here, where it could not: a full disk."""

    def start(self, execution_id: str) -> None:
        """Copy an execution's output from now on; a second call changes nothing."""
        if not execution_id or execution_id in self._readers:
            return
        reader = _Reader(self._free.pop(0) if self._free else Place(), heard=time.monotonic())
        self._readers[execution_id] = reader
        # A daemon, so that a stream that never ends keeps no process alive.
        reader.thread = threading.Thread(target=self._copy, args=(execution_id, reader), daemon=True)
        reader.thread.start()

    def abandon(self, execution_id: str) -> None:
        """The execution failed or was refused: another one takes its place."""
        reader = self._readers.get(execution_id)
        if reader is None or reader.stopped:
            return
        self._join(reader, patience=1.0)
        reader.stopped = True
        self._free.append(reader.place)

    def finish(self, results: dict[str, str]) -> None:
        """The job ended: print what is still to come. `results`: result CIDs of completed executions."""
        for execution_id, result_cid in results.items():
            reader = self._readers.get(execution_id)
            if reader is None:
                reader = _Reader(self._free.pop(0) if self._free else Place())
            else:
                self._join(reader, patience=SILENCE_SECONDS)
            if not reader.ended and result_cid:
                self._read_result(reader.place, result_cid)
        for reader in self._readers.values():
            self._join(reader, patience=1.0)

    def stop(self) -> None:
        """Print nothing more."""
        for reader in self._readers.values():
            reader.stopped = True
            if reader.call is not None:
                reader.call.cancel()

    def _join(self, reader: _Reader, *, patience: float) -> None:
        """Wait for a reader that goes on; one that is silent for `patience` seconds is stopped."""
        if reader.thread is None:
            return
        begun = time.monotonic()
        while reader.thread.is_alive():
            silent = time.monotonic() - max(reader.heard, begun)
            if silent >= patience:
                reader.stopped = True
                if reader.call is not None:
                    reader.call.cancel()
                reader.thread.join(1.0)
                return
            reader.thread.join(patience - silent)

    def _copy(self, execution_id: str, reader: _Reader) -> None:
        """The reader's thread. A node that went away is asked again until the command's thread has enough."""
        from bacalhau.v1.job_service_pb2 import StreamLogsRequest

        request = StreamLogsRequest(job_id=self._job_id, execution_id=execution_id, follow=True)
        while not reader.stopped:
            position = {STDOUT: 0, STDERR: 0}
            held: dict[int, bytes] = {STDOUT: b"", STDERR: b""}
            reader.call = self._node.open(self._node.jobs.StreamLogs, request)
            try:
                for piece in self._node.read(reader.call):
                    reader.heard = time.monotonic()
                    if piece.stream not in position:
                        continue
                    self._take(reader, piece.stream, piece.data, position, held)
                for stream, rest in held.items():
                    self._print(reader.place, stream, rest)
                reader.ended = True
                return
            except NodeFailure as failure:
                if not failure.passing:
                    return  # the result folder has it, or the event stream says what happened
            time.sleep(RETRY_SECONDS)

    def _take(
        self, reader: _Reader, stream: int, data: bytes, position: dict[int, int], held: dict[int, bytes]
    ) -> None:
        """Print of a piece what was not printed before; whole lines where several executions write."""
        begin = position[stream]
        position[stream] = begin + len(data)
        already = reader.place.printed[stream] + len(held[stream]) - begin
        fresh = held[stream] + data[max(0, already) :]
        held[stream] = b""
        if self._whole_lines:
            end = fresh.rfind(b"\n") + 1
            fresh, held[stream] = fresh[:end], fresh[end:]
        self._print(reader.place, stream, fresh)

    def _print(self, place: Place, stream: int, data: bytes) -> None:
        if not data:
            return
        with self._printing:
            place.printed[stream] += len(data)
            self._progress.give_way()
            if self._closed:
                return
            out = sys.stdout.buffer if stream == STDOUT else sys.stderr.buffer
            try:
                out.write(data)
                out.flush()
            except (
                BrokenPipeError,
                ValueError,
            ):  # nobody reads it any more; the job goes on, as with `docker run`
                self._closed = True
            except OSError as error:  # a disk that is full: the job goes on, and its result has it
                self._closed = True
                self.lost = error

    def _read_result(self, place: Place, result_cid: str) -> None:
        from bacalhau.v1.ipfs_service_pb2 import GetRequest

        for stream, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
            request = GetRequest(path=f"{result_cid}/{name}", offset_bytes=place.printed[stream])
            try:
                for answer in self._node.stream(self._node.ipfs.Get, request):
                    self._print(place, stream, answer.chunk)
            except NodeFailure as failure:
                self._progress.say(f"its {name} could not be read: {failure}")
