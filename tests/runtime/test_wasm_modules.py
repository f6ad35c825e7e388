"""What `prepare` says of a module, and the caches of compiled ones."""

from __future__ import annotations

import asyncio
import resource
import stat
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bacalhau.model.execution import FaultKind
from bacalhau.model.units import MIB
from bacalhau.runtime import wasm
from bacalhau.runtime.executor import EngineFault
from tests.runtime.wasm_runs import HELLO, LOOP, NOOP, a_run, an_executor, complete, fault_of, no_progress

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.runtime.wasm import WasmExecutor
    from tests.runtime.wasm_runs import Source

EMPTY = b"\0asm\1\0\0\0"


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (b"", "the module is no WASM module"),
        (b"\x7fELF\xff\xff", "the module is no WASM module: it begins with neither \\0asm nor text"),
        ("#!/bin/sh\necho hello", "the module is no WASM module: it is text, but not that of a (module …)"),
        (
            "(module (func (foo)))",
            "the module is not valid text format at line 1, column 16: unknown operator",
        ),
        ("(module (func i32.add))", "the module is not valid: Invalid input WebAssembly code at offset"),
        (EMPTY + b"\1", "the module is not valid: unexpected end"),
        (b"\0asm\x0d\0\1\0", "the module is a WASM component; build it as a WASI preview 1 module"),
        (EMPTY, "the module has no export '_start'; it exports no function at all"),
        (
            '(module (func (export "main")))',
            "has no export '_start'; it exports 'main', choose one with --entry-point",
        ),
        ('(module (memory (export "_start") 1))', "exports '_start', but that is no function"),
        ('(module (func (export "_start") (param i32)))', "exports '_start', but that wants arguments"),
        (
            '(module (import "env" "foo" (func)) (func (export "_start")))',
            "the module imports env.foo, which nothing provides",
        ),
        (
            '(module (import "wasi_snapshot_preview1" "sock_dance" (func)) (func (export "_start")))',
            "imports wasi_snapshot_preview1.sock_dance, which nothing provides",
        ),
        ('(module (memory 1 1 shared) (func (export "_start")))', "the module is not valid: "),
    ],
)
async def test_a_bad_module_is_refused_with_the_reason(tmp_path: Path, module: Source, said: str) -> None:
    async with an_executor() as executor:
        kind, message = await fault_of(executor, a_run(tmp_path, module))
        assert (await complete(executor, a_run(tmp_path, HELLO))).exit_code == 0
    assert kind is FaultKind.INVALID_MODULE
    assert said in message
    assert "\n" not in message


async def test_a_module_that_is_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    run = a_run(tmp_path, NOOP)
    (module,) = run.workspace.modules
    module.rename(tmp_path / "elsewhere")
    module.symlink_to(tmp_path / "elsewhere")
    async with an_executor() as executor:
        kind, message = await fault_of(executor, run)
    assert kind is FaultKind.INVALID_MODULE
    assert "symbolic link" in message


async def test_an_import_of_the_wrong_type_is_an_invalid_module(tmp_path: Path) -> None:
    library = '(module (func (export "f") (param i64)))'
    main = '(module (import "l" "f" (func (param i32))) (func (export "_start")))'
    async with an_executor() as executor:
        kind, message = await fault_of(executor, a_run(tmp_path, main, imports=(("l", library),)))
    assert kind is FaultKind.INVALID_MODULE
    assert "cannot be linked" in message


async def test_two_imported_modules_of_one_name_are_refused(tmp_path: Path) -> None:
    library = '(module (func (export "f")))'
    for names in (("l", "l"), ("wasi_snapshot_preview1", "l")):
        run = a_run(tmp_path, NOOP, imports=tuple((name, library) for name in names))
        async with an_executor() as executor:
            kind, message = await fault_of(executor, run)
        assert kind is FaultKind.INVALID_TASK
        assert "taken" in message


async def test_a_module_of_tens_of_thousands_of_functions_is_compiled(tmp_path: Path) -> None:
    count = 30_000
    number = bytes([count & 0x7F | 0x80, count >> 7 & 0x7F | 0x80, count >> 14])

    def section(code: int, body: bytes) -> bytes:
        size = len(body)
        return (
            bytes([code, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21])
            + body
        )

    types = section(1, b"\1\x60\0\0")
    functions = section(3, number + b"\0" * count)
    exports = section(7, b"\1\6_start\0\0")
    code = section(10, number + b"\2\0\x0b" * count)
    async with an_executor() as executor:
        assert (
            await complete(executor, a_run(tmp_path, EMPTY + types + functions + exports + code))
        ).exit_code == 0


@pytest.mark.parametrize("depth", [100, 200_000])
async def test_deep_nesting_is_compiled(tmp_path: Path, depth: int) -> None:
    module = '(module (func (export "_start") ' + "(block " * depth + ")" * depth + "))"
    async with an_executor() as executor:
        assert (await complete(executor, a_run(tmp_path, module))).exit_code == 0


async def test_a_compilation_over_its_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm, "COMPILE_TIMEOUT_S", 0.001)
    async with an_executor() as executor:
        kind, message = await fault_of(executor, a_run(tmp_path, NOOP))
    assert kind is FaultKind.INVALID_MODULE
    assert "compiling" in message


async def test_many_executions_of_a_new_module_are_one_check(tmp_path: Path) -> None:
    run = a_run(tmp_path, HELLO)
    async with an_executor() as executor:
        waiting = [asyncio.create_task(executor.prepare(run, no_progress)) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        run.workspace.modules[0].rename(tmp_path / "moved")
        results = await asyncio.gather(*waiting, return_exceptions=True)
        (tmp_path / "moved").rename(run.workspace.modules[0])
    assert isinstance(results[0], asyncio.CancelledError)
    assert len({str(result) for result in results[1:]}) == 1


async def test_a_module_known_to_be_good_costs_no_round_trip(tmp_path: Path) -> None:
    run = a_run(tmp_path, NOOP)
    executor_context = an_executor()
    async with executor_context as executor:
        await executor.prepare(run, no_progress)
    # Closed: no worker is left to ask.
    await executor.prepare(run, no_progress)
    with pytest.raises(EngineFault, match="closing"):
        await executor.prepare(a_run(tmp_path, HELLO), no_progress)


def _cached(cache: Path) -> list[Path]:
    return [file for file in cache.rglob("*") if file.is_file()]


async def test_compiled_modules_are_kept_on_disk_for_this_user_only(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    async with an_executor(cache) as executor:
        await complete(executor, a_run(tmp_path, HELLO))
    (file,) = _cached(cache)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    inode = file.stat().st_ino
    async with an_executor(cache) as executor:
        assert (await complete(executor, a_run(tmp_path, HELLO))).exit_code == 0
    assert file.stat().st_ino == inode, "it was compiled again"


@pytest.mark.parametrize("where", [0, 40, -1])
async def test_a_damaged_cached_module_is_compiled_again(tmp_path: Path, where: int) -> None:
    cache = tmp_path / "cache"
    async with an_executor(cache) as executor:
        await complete(executor, a_run(tmp_path, HELLO))
    (file,) = _cached(cache)
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[where] ^= 0xFF
    file.write_bytes(damaged)
    run = a_run(tmp_path, HELLO)
    async with an_executor(cache) as executor:
        assert (await complete(executor, run)).exit_code == 0
    assert run.workspace.stdout.read_text() == "hello"
    assert file.read_bytes() == whole


async def test_a_cache_that_others_could_write_is_emptied(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    async with an_executor(cache) as executor:
        await complete(executor, a_run(tmp_path, HELLO))
    (file,) = _cached(cache)
    file.parent.chmod(0o777)
    async with an_executor(cache) as executor:
        await complete(executor, a_run(tmp_path, LOOP, timeout_s=0.1))
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert not file.exists()


async def test_a_cache_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    async with an_executor(tmp_path / "cache") as executor:
        assert (await complete(executor, a_run(tmp_path, HELLO))).exit_code == 0


def test_no_bytes_make_the_engine_fail(tmp_path: Path) -> None:
    garbage = st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode))

    async def check(executor: WasmExecutor, tail: bytes) -> None:
        for module in (tail, EMPTY + tail, b"(module " + tail):
            kind, _ = await fault_of(executor, a_run(tmp_path, module))
            assert kind is FaultKind.INVALID_MODULE

    # One engine for all examples.
    with asyncio.Runner() as runner:
        context = an_executor()
        executor = runner.run(context.__aenter__())
        try:
            examples = settings(max_examples=200, deadline=None)(
                given(garbage)(lambda tail: runner.run(check(executor, tail)))
            )
            examples()
        finally:
            runner.run(context.__aexit__(None, None, None))


async def test_a_module_that_exhausts_the_compiler_is_invalid_and_the_engine_goes_on(tmp_path: Path) -> None:
    """A function of many variables and branches makes the compiler want memory by the square of its size."""
    count = 20_000
    gets = "".join(
        f"(local.set {i * 7 % count} (local.get {i % count})) (if (local.get 0) (then))"
        for i in range(count * 2)
    )
    module = f'(module (func (export "_start") (local{" i32" * count}) {gets}))'
    async with an_executor() as executor:
        await complete(executor, a_run(tmp_path, NOOP))
        (worker,) = psutil.Process().children()
        # The worker's own limit is higher; a lower one keeps the test short.
        resource.prlimit(worker.pid, resource.RLIMIT_DATA, (400 * MIB, 400 * MIB))
        kind, message = await fault_of(executor, a_run(tmp_path, module))
        assert (await complete(executor, a_run(tmp_path, HELLO))).exit_code == 0
    assert kind is FaultKind.INVALID_MODULE
    assert "cannot be compiled" in message
