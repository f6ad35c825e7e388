"""What a container writes: from the engine's multiplexed stream into two files, each up to a limit.

The stream is that of the Docker Engine API, "Attach to a container": frames of one byte for the stream (1
stdout, 2 stderr), three of zero, four of the length (big-endian), then the content."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from bacalhau.model.units import size_text

if TYPE_CHECKING:
    from pathlib import Path

STDOUT: Final = 1
STDERR: Final = 2
_HEADER_BYTES: Final = 8


class CappedFile:
    """A file that takes everything and keeps the first `limit_bytes`, with a line that says so after them.

    It is written from the start but not emptied first: a restarted node writes the same bytes again in place,
    and whoever reads along sees none of them vanish."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._name = path.name
        self._limit_bytes = limit_bytes
        self._room_bytes = limit_bytes
        self._full = False

    def write(self, content: bytes | memoryview) -> None:
        if self._full:
            return
        kept = memoryview(content)[: self._room_bytes]
        self._room_bytes -= len(kept)
        self._write_all(kept)
        if len(kept) < len(content):
            self._full = True
            note = f"\n… truncated: the first {size_text(self._limit_bytes)} of {self._name} are kept\n"
            self._write_all(memoryview(note.encode()))

    def _write_all(self, rest: memoryview) -> None:
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def close(self) -> None:
        """What an earlier life had written beyond is cut off."""
        try:
            os.ftruncate(self._descriptor, os.lseek(self._descriptor, 0, os.SEEK_CUR))
        finally:
            os.close(self._descriptor)


class OutputFiles:
    """Both files of a run. Use as a context manager."""

    def __init__(self, stdout: Path, stderr: Path, limit_bytes: int) -> None:
        self._files = {STDOUT: CappedFile(stdout, limit_bytes), STDERR: CappedFile(stderr, limit_bytes)}

    def __enter__(self) -> OutputFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def write(self, stream: int, content: bytes | memoryview) -> None:
        """Frames of other streams (stdin is 0) are dropped."""
        file = self._files.get(stream)
        if file is not None:
            file.write(content)


class Demultiplexer:
    """Cuts the stream into frames as it comes; content is handed on before its frame is complete."""

    def __init__(self, files: OutputFiles) -> None:
        self._files = files
        self._header = b""
        self._stream = 0
        self._left_bytes = 0

    def feed(self, received: bytes) -> None:
        rest = memoryview(received)
        while rest:
            if self._left_bytes == 0:
                missing = _HEADER_BYTES - len(self._header)
                self._header += bytes(rest[:missing])
                rest = rest[missing:]
                if len(self._header) == _HEADER_BYTES:
                    self._stream = self._header[0]
                    self._left_bytes = int.from_bytes(self._header[4:], "big")
                    self._header = b""
                continue
            content = rest[: self._left_bytes]
            self._files.write(self._stream, content)
            self._left_bytes -= len(content)
            rest = rest[len(content) :]
