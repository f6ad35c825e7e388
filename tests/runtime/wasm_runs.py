"""Builders for the tests of the WASM engine: runs laid out by hand, and programs in text format."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from bacalhau.model.cid import RAW, Cid
from bacalhau.model.job import InputSource, JobSpec, OutputPath, Timeouts, WasmImport, WasmTask
from bacalhau.model.resources import Resources
from bacalhau.model.units import GIB, MIB
from bacalhau.runtime.executor import EngineFault, Outcome, Run, Workspace
from bacalhau.runtime.wasm import WasmExecutor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bacalhau.model.execution import FaultKind

Source = str | bytes

_SIGNATURES = {
    "proc_exit": "(param i32)",
    "fd_write": "(param i32 i32 i32 i32) (result i32)",
    "path_open": "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)",
    "fd_close": "(param i32) (result i32)",
    "path_symlink": "(param i32 i32 i32 i32 i32) (result i32)",
    "poll_oneoff": "(param i32 i32 i32 i32) (result i32)",
}
_numbers = itertools.count(1)


def command(body: str, *, wasi: tuple[str, ...] = (), data: str = "", pages: int = 1, rest: str = "") -> str:
    """A module whose _start runs `body`; `wasi` are imported under their own names, `data` begins at 1024."""
    imports = "".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func ${name} {_SIGNATURES[name]}))' for name in wasi
    )
    return (
        f'(module {imports} (memory (export "memory") {pages}) (data (i32.const 1024) "{data}") {rest}'
        f'(func (export "_start") {body}))'
    )


def prints(text: str, descriptor: int = 1) -> str:
    """A body that writes the first bytes of a command's `data`, as many as `text` has."""
    return (
        f"(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const {len(text)}))"
        f"(drop (call $fd_write (i32.const {descriptor}) (i32.const 0) (i32.const 1) (i32.const 8)))"
    )


NOOP = command("")
LOOP = command("(loop br 0)")
HELLO = command(prints("hello"), wasi=("fd_write",), data="hello")
# One subscription to the clock, an hour ahead: user data, tag 0 at 8, clock 1 at 16, timeout in ns at 24.


def sleeps(milliseconds: int) -> str:
    return command(
        f"(i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const {milliseconds * 10**6}))"
        "(drop (call $poll_oneoff (i32.const 0) (i32.const 200) (i32.const 1) (i32.const 400)))",
        wasi=("poll_oneoff",),
    )


SLEEP = sleeps(3_600_000)
# A MiB at a time until growth is refused; then it crashes, as Rust's allocator does.
HOG = command("(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable")


def exits(code: int) -> str:
    return command(f"(call $proc_exit (i32.const {code}))", wasi=("proc_exit",))


def opens(path: str, *, descriptor: int = 3, write: bool = False) -> str:
    """Exits with WASI's error number of opening `path` below a preopened folder: 0 where that works."""
    rights, flags = (64, 1) if write else (2, 0)
    return command(
        f"(call $proc_exit (call $path_open (i32.const {descriptor}) (i32.const 1) (i32.const 1024)"
        f"(i32.const {len(path)}) (i32.const {flags}) (i64.const {rights}) (i64.const 0) (i32.const 0)"
        "(i32.const 100)))",
        wasi=("proc_exit", "path_open"),
        data=path,
    )


def cid_of(content: bytes) -> Cid:
    return Cid(1, RAW, b"\x12\x20" + hashlib.sha256(content).digest())


def a_run(
    folder: Path,
    module: Source,
    *arguments: str,
    entry_point: str = "_start",
    imports: tuple[tuple[str, Source], ...] = (),
    env: tuple[tuple[str, str], ...] = (),
    inputs: dict[str, dict[str, str] | str] | None = None,
    outputs: tuple[str, ...] = (),
    memory_bytes: int = 64 * MIB,
    disk_bytes: int = GIB,
    timeout_s: float = 20.0,
) -> Run:
    """A run in a workspace of its own below `folder`; an input is a file's text, or a folder's files by
    name.
    """
    root = folder / f"run-{next(_numbers)}"
    sources = [
        source.encode() if isinstance(source, str) else source
        for source in (module, *(s for _, s in imports))
    ]
    modules = tuple(root / "modules" / str(index) for index in range(len(sources)))
    (root / "modules").mkdir(parents=True)
    for path, source in zip(modules, sources, strict=True):
        path.write_bytes(source)
    input_paths = []
    for index, content in enumerate((inputs or {}).values()):
        path = root / f"input-{index}"
        if isinstance(content, str):
            path.write_text(content)
        else:
            path.mkdir()
            for name, text in content.items():
                (path / name).write_text(text)
        input_paths.append(path)
    output_paths = tuple(root / f"output-{index}" for index in range(len(outputs)))
    for path in output_paths:
        path.mkdir()
    task = WasmTask(
        cid_of(sources[0]),
        entry_point,
        arguments,
        tuple(
            WasmImport(name, cid_of(source)) for (name, _), source in zip(imports, sources[1:], strict=True)
        ),
    )
    spec = JobSpec(
        task,
        env=env,
        inputs=tuple(InputSource(cid_of(target.encode()), target) for target in inputs or {}),
        outputs=tuple(OutputPath(path.strip("/"), path) for path in outputs),
        resources=Resources(500, memory_bytes, disk_bytes),
        timeouts=Timeouts(int(timeout_s * 1_000_000)),
    )
    workspace = Workspace(root, tuple(input_paths), modules, output_paths, root / "stdout", root / "stderr")
    return Run(root.name, 1, spec, workspace)


def with_spec(run: Run, **changes: object) -> Run:
    return replace(run, spec=replace(run.spec, **changes))  # type: ignore[arg-type]


@asynccontextmanager
async def an_executor(
    cache: Path | None = None, worker_count: int = 1, max_worker_count: int = 0
) -> AsyncIterator[WasmExecutor]:
    executor = WasmExecutor(worker_count, cache, max_worker_count)
    try:
        yield executor
    finally:
        await executor.close()


async def until(condition: Callable[[], bool]) -> None:
    """Returns once another process has made `condition` true; that has no event to wait for."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def no_progress(_done: int, _total: int) -> None:
    pass


async def complete(executor: WasmExecutor, run: Run) -> Outcome:
    """Prepares and runs."""
    await executor.prepare(run, no_progress)
    return await executor.run(run)


async def fault_of(executor: WasmExecutor, run: Run) -> tuple[FaultKind, str]:
    """The fault for which a run could not begin."""
    try:
        outcome = await complete(executor, run)
    except EngineFault as error:
        return error.fault.kind, error.fault.message
    raise AssertionError(f"the run began: {outcome}")
