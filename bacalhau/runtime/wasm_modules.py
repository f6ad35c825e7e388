"""Compiled WASM modules: the engine's configuration, compilation, and the caches in memory and on disk.

Runs in worker processes only. Knows nothing of jobs; says what is wrong with a module in one sentence.

A compiled module is machine code that wasmtime trusts. The disk cache is therefore a folder of this user with
mode 0700, and each file carries the digest of what follows, so that a damaged one is compiled again and never
run.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import tempfile
from collections import OrderedDict
from importlib.metadata import version
from typing import TYPE_CHECKING

import wasmtime

from bacalhau.runtime.wasm_data import join_data_segments

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.runtime.wasm_memory import LinearMemories

# Part of the name of the cache's folder: raise it when `new_engine` changes what compiled code looks like.
CONFIG_REVISION = 1
MAX_MODULE_BYTES = 256 * 1024 * 1024
MAX_CACHED_MODULES = 64
MAX_CACHED_BYTES = 256 * 1024 * 1024
MAX_DISK_CACHE_BYTES = 2 * 1024 * 1024 * 1024
# wasmtime's default is 512 KiB, on which recursive interpreters stop early; a thread's stack here is 8 MiB.
MAX_STACK_BYTES = 2 * 1024 * 1024

_BINARY_MAGIC = b"\0asm"
_COMPONENT_LAYER = b"\x01\x00"
_DIGEST_BYTES = 32


class InvalidModule(Exception):
    """The module cannot be run; the text completes the sentence "the module …"."""


def new_engine(memories: LinearMemories) -> wasmtime.Engine:
    """An engine whose programs can be interrupted and whose memories are `memories`."""
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.max_wasm_stack = MAX_STACK_BYTES
    # Shared memory and threads would escape the account of memory and the one thread that a run is.
    config.wasm_threads = False
    # Joining data segments counts on a memory of the module's own being its only one.
    config.wasm_multi_memory = False
    memories.install(config)
    return wasmtime.Engine(config)


class ModuleCache:
    """Modules by key (the text of a CID) in memory, by digest of their bytes on disk."""

    def __init__(self, engine: wasmtime.Engine, folder: Path | None) -> None:
        self._engine = engine
        self._folder = _private_folder(folder) if folder else None
        self._modules: OrderedDict[str, tuple[wasmtime.Module, int]] = OrderedDict()
        self._held_bytes = 0

    def load(self, key: str, path: str) -> wasmtime.Module:
        """Raises InvalidModule, and OSError where the file cannot be read."""
        if (known := self._modules.get(key)) is not None:
            self._modules.move_to_end(key)
            return known[0]
        source = _read(path)
        module, size_bytes = self._compiled(source)
        self._modules[key] = (module, size_bytes)
        self._held_bytes += size_bytes
        while len(self._modules) > 1 and (
            len(self._modules) > MAX_CACHED_MODULES or self._held_bytes > MAX_CACHED_BYTES
        ):
            _, (_, dropped_bytes) = self._modules.popitem(last=False)
            self._held_bytes -= dropped_bytes
        return module

    def _compiled(self, source: bytes) -> tuple[wasmtime.Module, int]:
        """The module and the size of its machine code."""
        if self._folder is None:
            return compile_module(self._engine, source), len(source)
        file = self._folder / hashlib.sha256(source).hexdigest()
        if (code := _read_checked(file)) is not None:
            # Code for another processor or wasmtime is refused by its header: compile it again.
            with contextlib.suppress(wasmtime.WasmtimeError):
                return wasmtime.Module.deserialize(self._engine, code), len(code)
        module = compile_module(self._engine, source)
        code = bytes(module.serialize())
        # The cache is a convenience: a full disk must not fail the job here.
        with contextlib.suppress(OSError):
            _write_checked(file, code)
            _prune(self._folder)
        return module, len(code)


def compile_module(engine: wasmtime.Engine, source: bytes) -> wasmtime.Module:
    """Compiles a module in binary or text format. Raises InvalidModule."""
    if not source.startswith(_BINARY_MAGIC):
        source = _from_text(source)
    elif source[6:8] == _COMPONENT_LAYER:
        raise InvalidModule("is a WASM component; build it as a WASI preview 1 module (target wasm32-wasip1)")
    try:
        return wasmtime.Module(engine, join_data_segments(source))
    except wasmtime.WasmtimeError as error:
        raise InvalidModule(f"is not valid: {reason_of(error)}") from None


def reason_of(error: Exception) -> str:
    """wasmtime's innermost reason, as one line of at most 300 characters."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if "Caused by:" in lines:
        # The causes are listed from the outermost to the innermost, each "N: text" where there are several.
        lines = [re.sub(r"^\d+: ", "", line) for line in lines[lines.index("Caused by:") + 1 :] if line][-1:]
    return (lines[0] if lines else "no reason given")[:300]


def _from_text(source: bytes) -> bytes:
    try:
        text = source.decode()
    except UnicodeDecodeError:
        raise InvalidModule("is no WASM module: it begins with neither \\0asm nor text") from None
    if not text.strip().startswith(("(", ";;")):
        raise InvalidModule("is no WASM module: it is text, but not that of a (module …)")
    try:
        return bytes(wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError as error:
        place = re.search(r"<anon>:(\d+):(\d+)", str(error))
        where = f" at line {place[1]}, column {place[2]}" if place else ""
        raise InvalidModule(f"is not valid text format{where}: {reason_of(error)}") from None


def _read(path: str) -> bytes:
    # Following a symbolic link would read a file of this machine.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InvalidModule("is no WASM module: it is a symbolic link; give what it points to") from None
        raise
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise InvalidModule("is no WASM module: it is a folder")
        if about.st_size > MAX_MODULE_BYTES:
            raise InvalidModule(f"has {about.st_size} bytes, at most {MAX_MODULE_BYTES} are taken")
        return file.read()


def _private_folder(folder: Path) -> Path | None:
    """The cache's folder for this wasmtime, None where others own it or it cannot be made."""
    mine = folder / f"{version('wasmtime')}-{CONFIG_REVISION}"
    try:
        mine.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = mine.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
            return None
        if stat.S_IMODE(about.st_mode) != 0o700:
            # Others may have written here: what it holds cannot be trusted.
            mine.chmod(0o700)
            for file in mine.iterdir():
                file.unlink()
    except OSError:
        return None
    return mine


def _read_checked(file: Path) -> bytes | None:
    """What was cached, None where it is not there or damaged."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    digest, code = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(code).digest() != digest:
        return None
    # The time of last use decides what `_prune` drops.
    with contextlib.suppress(OSError):
        os.utime(file)
    return code


def _write_checked(file: Path, code: bytes) -> None:
    # Another name first: a reader sees the whole file or none.
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=".new-")
    try:
        with open(descriptor, "wb") as stream:
            stream.write(hashlib.sha256(code).digest())
            stream.write(code)
        os.replace(temporary, file)
    except BaseException:  # whatever it is goes on; only the half-written file must not stay
        os.unlink(temporary)
        raise


def _prune(folder: Path) -> None:
    """Drops what was used longest ago until the cache fits its limit."""
    files = [(about.stat().st_mtime, about.stat().st_size, about.path) for about in os.scandir(folder)]
    total_bytes = sum(size for _, size, _ in files)
    for _, size_bytes, path in sorted(files):
        if total_bytes <= MAX_DISK_CACHE_BYTES:
            break
        os.unlink(path)
        total_bytes -= size_bytes
