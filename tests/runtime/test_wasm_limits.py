"""A WASM program that breaks a limit is stopped, and its user reads which one and what raises it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from bacalhau.model.execution import FaultKind
from bacalhau.model.units import MIB
from tests.runtime.wasm_runs import HELLO, HOG, LOOP, NOOP, SLEEP, a_run, an_executor, command, complete

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.wasm import WasmProgram

# Writes 64 KiB to stdout for ever; a full disk is its own answer to it.
FLOOD = command(
    "(i32.store (i32.const 0) (i32.const 0)) (i32.store (i32.const 4) (i32.const 65536))"
    "(loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))",
    wasi=("fd_write",),
)
# Creates /outputs/00000000, 00000001, … in base 64 or so of 8 bytes, never closing one.
MANY_FILES = command(
    "(loop (i64.store (i32.const 1024) (i64.or (local.get $n) (i64.const 0x3030303030303030)))"
    "(local.set $n (i64.and (i64.add (i64.or (local.get $n) (i64.const 0xc0c0c0c0c0c0c0c0)) (i64.const 1))"
    "(i64.const 0x3f3f3f3f3f3f3f3f)))"
    "(drop (call $path_open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const 8) (i32.const 1)"
    "(i64.const 64) (i64.const 0) (i32.const 0) (i32.const 100)))"
    "(drop (call $fd_close (i32.load (i32.const 100)))) (br 0))".replace("(loop", "(local $n i64) (loop", 1),
    wasi=("path_open", "fd_close"),
)


@pytest.mark.parametrize("program", [LOOP, SLEEP], ids=["loops", "sleeps"])
async def test_a_program_over_its_time_is_stopped_and_told_of_timeout(tmp_path: Path, program: str) -> None:
    began = time.monotonic()
    async with an_executor() as executor:
        run = a_run(tmp_path, program, timeout_s=0.3)
        outcome = await complete(executor, run)
        took_s = time.monotonic() - began
        assert (await complete(executor, a_run(tmp_path, HELLO))).exit_code == 0
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.EXECUTION_TIMEOUT
    assert "of 0.3 s" in outcome.fault.message
    assert "--timeout" in outcome.fault.message
    assert outcome.exit_code == 137
    assert outcome.usage.wall_us >= 300_000
    assert run.workspace.stderr.read_text() == "", "being stopped is no crash of the program's own"
    assert took_s < 5


async def test_a_loop_in_a_start_function_is_stopped_too(tmp_path: Path) -> None:
    module = '(module (func $spin (loop br 0)) (start $spin) (func (export "_start")))'
    async with an_executor() as executor:
        outcome = await complete(executor, a_run(tmp_path, module, timeout_s=0.2))
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.EXECUTION_TIMEOUT


async def test_a_program_that_dies_of_refused_memory_is_out_of_memory(tmp_path: Path) -> None:
    async with an_executor() as executor:
        outcome = await complete(executor, a_run(tmp_path, HOG, memory_bytes=16 * MIB))
        assert (await complete(executor, a_run(tmp_path, HELLO))).exit_code == 0
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.OUT_OF_MEMORY
    assert "16 MiB" in outcome.fault.message
    assert "--memory" in outcome.fault.message
    assert 15 * MIB <= outcome.usage.peak_memory_bytes <= 16 * MIB


async def test_a_c_program_that_exits_for_want_of_memory_is_out_of_memory(
    tmp_path: Path, wasm_program: WasmProgram
) -> None:
    async with an_executor() as executor:
        outcome = await complete(
            executor, a_run(tmp_path, wasm_program("hog").read_bytes(), memory_bytes=8 * MIB)
        )
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.OUT_OF_MEMORY


async def test_a_program_that_does_without_the_memory_it_was_refused_completes(tmp_path: Path) -> None:
    module = command("(drop (memory.grow (i32.const 1000)))")
    async with an_executor() as executor:
        outcome = await complete(executor, a_run(tmp_path, module, memory_bytes=MIB))
    assert (outcome.exit_code, outcome.fault) == (0, None)


async def test_a_crash_that_has_nothing_to_do_with_memory_is_not_blamed_on_it(tmp_path: Path) -> None:
    module = command("(drop (memory.grow (i32.const 15))) unreachable")
    async with an_executor() as executor:
        outcome = await complete(executor, a_run(tmp_path, module, memory_bytes=MIB))
    assert (outcome.exit_code, outcome.fault) == (134, None)
    assert outcome.usage.peak_memory_bytes == MIB


async def test_more_memory_declared_than_allowed_is_out_of_memory(tmp_path: Path) -> None:
    async with an_executor() as executor:
        outcome = await complete(executor, a_run(tmp_path, command("", pages=16384), memory_bytes=64 * MIB))
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.OUT_OF_MEMORY


async def test_the_limit_of_memory_holds_for_the_sum_of_all_memories(tmp_path: Path) -> None:
    library = '(module (memory 12) (func (export "f")))'
    main = '(module (import "l" "f" (func)) (memory 12) (func (export "_start")))'
    async with an_executor() as executor:
        for memory_bytes, fits in ((24 * 65536, True), (24 * 65536 - 1, False)):
            run = a_run(tmp_path, main, imports=(("l", library),), memory_bytes=memory_bytes)
            assert ((await complete(executor, run)).fault is None) is fits


async def test_64_bit_memories_and_collected_heaps_are_limited_too(tmp_path: Path) -> None:
    grows = "(loop (br_if 0 (i64.ne (memory.grow (i64.const 16)) (i64.const -1))))"
    wide = f'(module (memory i64 1) (func (export "_start") {grows} unreachable))'
    collected = (
        "(module (type $a (array (mut i32))) (global $kept (mut (ref null $a)) (ref.null $a))"
        '(func (export "_start") (global.set $kept (array.new $a (i32.const 0) (i32.const 10000000)))))'
    )
    async with an_executor() as executor:
        for module in (wide, collected):
            outcome = await complete(executor, a_run(tmp_path, module, memory_bytes=16 * MIB))
            assert outcome.fault is not None
            assert outcome.fault.kind is FaultKind.OUT_OF_MEMORY


async def test_tables_are_limited(tmp_path: Path) -> None:
    run = a_run(tmp_path, command("", rest="(table 4000000000 funcref)"))
    async with an_executor() as executor:
        outcome_or_fault = await asyncio.gather(complete(executor, run), return_exceptions=True)
        assert "table" in str(outcome_or_fault[0])
        assert (await complete(executor, a_run(tmp_path, HELLO))).exit_code == 0


async def test_a_program_that_floods_its_stdout_is_stopped_at_its_disk_limit(tmp_path: Path) -> None:
    run = a_run(tmp_path, FLOOD, disk_bytes=4 * MIB)
    async with an_executor() as executor:
        outcome = await complete(executor, run)
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.OUT_OF_DISK
    assert "--disk" in outcome.fault.message
    assert run.workspace.stdout.stat().st_size <= 4 * MIB + 1


async def test_empty_files_count_against_the_disk_limit(tmp_path: Path) -> None:
    run = a_run(tmp_path, MANY_FILES, outputs=("/outputs",), disk_bytes=4 * MIB)
    async with an_executor() as executor:
        outcome = await complete(executor, run)
    assert sum(1 for _ in run.workspace.outputs[0].iterdir()) > 1000
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.OUT_OF_DISK


async def test_a_short_program_that_wrote_too_much_does_not_slip_through(
    tmp_path: Path, wasm_program: WasmProgram
) -> None:
    run = a_run(tmp_path, wasm_program("write_outputs").read_bytes(), outputs=("/outputs",), disk_bytes=8192)
    async with an_executor() as executor:
        outcome = await complete(executor, run)
        assert (await complete(executor, a_run(tmp_path, NOOP, disk_bytes=0))).fault is None
    assert outcome.fault is not None
    assert outcome.fault.kind is FaultKind.OUT_OF_DISK
