"""What a WASM program sees and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bacalhau.model.execution import FaultKind
from bacalhau.model.job import NetworkMode
from bacalhau.runtime.executor import EngineFault
from bacalhau.runtime.mountpoints import make_mount_points
from tests.runtime.wasm_runs import (
    HELLO,
    NOOP,
    a_run,
    an_executor,
    command,
    complete,
    exits,
    fault_of,
    opens,
    prints,
    with_spec,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.wasm import WasmProgram

# WASI preview 1 error numbers.
SUCCESS, NOENT, PERM = 0, 44, 63


async def test_stdout_and_stderr_go_to_the_files_of_the_workspace(tmp_path: Path) -> None:
    both = command(
        prints("abc", 1) + prints("ab", 2),
        wasi=("fd_write",),
        data="abc",
    )
    run = a_run(tmp_path, both)
    async with an_executor() as executor:
        outcome = await complete(executor, run)
    assert (outcome.exit_code, outcome.fault) == (0, None)
    assert run.workspace.stdout.read_text() == "abc"
    assert run.workspace.stderr.read_text() == "ab"


async def test_what_a_run_used_is_measured(tmp_path: Path) -> None:
    spins = command(
        "(loop (local.set $n (i32.add (local.get $n) (i32.const 1)))"
        "(br_if 0 (i32.lt_u (local.get $n) (i32.const 50000000))))".replace(
            "(loop", "(local $n i32) (loop", 1
        ),
        pages=3,
    )
    async with an_executor() as executor:
        usage = (await complete(executor, a_run(tmp_path, spins))).usage
    assert usage.peak_memory_bytes == 3 * 65536
    assert 1_000 < usage.cpu_us <= usage.wall_us * 1.2


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (125, 125), (126, 126), (255, 255), (256, 0)])
async def test_exit_code_is_what_the_program_gave_modulo_256(
    tmp_path: Path, code: int, expected: int
) -> None:
    async with an_executor() as executor:
        outcome = await complete(executor, a_run(tmp_path, exits(code)))
    assert (outcome.exit_code, outcome.fault) == (expected, None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("unreachable", "unreachable"),
        ("(drop (i32.load (i32.const 65536)))", "out of bounds"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "divide by zero"),
        ("(call $again)", "stack exhausted"),
        ("(call_indirect (i32.const 0))", "uninitialized element"),
    ],
)
async def test_a_trap_is_a_completed_run_with_exit_code_134_and_its_reason_on_stderr(
    tmp_path: Path, body: str, said: str
) -> None:
    run = a_run(tmp_path, command(body, rest="(table 1 funcref) (func $again (call $again))"))
    async with an_executor() as executor:
        outcome = await complete(executor, run)
        assert (await complete(executor, a_run(tmp_path, HELLO))).exit_code == 0
    assert (outcome.exit_code, outcome.fault) == (134, None)
    assert "the program crashed" in run.workspace.stderr.read_text()
    assert said in run.workspace.stderr.read_text()


async def test_what_a_crashing_program_printed_before_is_kept(tmp_path: Path) -> None:
    run = a_run(tmp_path, command(prints("abc", 2) + "unreachable", wasi=("fd_write",), data="abc"))
    async with an_executor() as executor:
        await complete(executor, run)
    assert run.workspace.stderr.read_text().startswith("abcthe program crashed")


async def test_input_folders_and_files_are_seen_at_their_targets(
    tmp_path: Path, wasm_program: WasmProgram
) -> None:
    run = a_run(
        tmp_path,
        wasm_program("cat").read_bytes(),
        "/inputs/a.txt",
        "/data.txt",
        "/more/b.txt",
        "/more/c.txt",
        inputs={"/inputs": {"a.txt": "A"}, "/data.txt": "D", "/more/b.txt": "B", "/more/c.txt": "C"},
    )
    async with an_executor() as executor:
        outcome = await complete(executor, run)
    assert run.workspace.stderr.read_text() == ""
    assert (outcome.exit_code, run.workspace.stdout.read_text()) == (0, "ADBC")


async def test_an_input_inside_another_is_seen_in_its_listing(
    tmp_path: Path, wasm_program: WasmProgram
) -> None:
    program = wasm_program("cat").read_bytes()
    run = a_run(tmp_path, program, "/in", inputs={"/in/sub": {"b.txt": "B"}, "/in": {"a.txt": "A"}})
    make_mount_points(run.spec, run.workspace)
    async with an_executor() as executor:
        outcome = await complete(executor, run)
    assert run.workspace.stderr.read_text() == ""
    assert (outcome.exit_code, run.workspace.stdout.read_text()) == (0, "AB")


async def test_only_the_input_file_itself_is_visible_at_its_folder(tmp_path: Path) -> None:
    seen = a_run(tmp_path, opens("data.txt"), inputs={"/data.txt": "D"})
    other = a_run(tmp_path, opens("stdout"), inputs={"/data.txt": "D"})
    async with an_executor() as executor:
        assert (await complete(executor, seen)).exit_code == SUCCESS
        assert (await complete(executor, other)).exit_code == NOENT


@pytest.mark.parametrize("target", ["/inputs", "/inputs/a.txt"])
async def test_inputs_cannot_be_written(tmp_path: Path, target: str) -> None:
    content: dict[str, str] | str = {"a.txt": "A"} if target == "/inputs" else "A"
    async with an_executor() as executor:
        for path in ("a.txt", "new.txt"):
            run = a_run(tmp_path, opens(path, write=True), inputs={target: content})
            assert (await complete(executor, run)).exit_code == PERM


async def test_outputs_are_written_where_the_workspace_has_them(
    tmp_path: Path, wasm_program: WasmProgram
) -> None:
    run = a_run(tmp_path, wasm_program("write_outputs").read_bytes(), "/results", outputs=("/results",))
    async with an_executor() as executor:
        outcome = await complete(executor, run)
    assert (outcome.exit_code, run.workspace.stderr.read_text()) == (0, "")
    assert (run.workspace.outputs[0] / "result.txt").read_text() == "a result\n"
    assert (run.workspace.outputs[0] / "below" / "more.txt").read_text() == "more of it\n"


@pytest.mark.parametrize("path", ["../secret", "../../secret", "/etc/passwd", "below/../../secret", "link"])
async def test_paths_do_not_lead_out_of_the_preopened_folders(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_text("secret")
    run = a_run(tmp_path, opens(path), outputs=("/outputs",))
    (run.workspace.root / "secret").write_text("secret")
    (run.workspace.outputs[0] / "below").mkdir()
    (run.workspace.outputs[0] / "link").symlink_to(run.workspace.root / "secret")
    async with an_executor() as executor:
        assert (await complete(executor, run)).exit_code == PERM


async def test_a_link_that_the_program_makes_does_not_lead_out_either(tmp_path: Path) -> None:
    target, name = "../secret", "l"
    escapes = command(
        f"(drop (call $path_symlink (i32.const 1024) (i32.const {len(target)}) (i32.const 3)"
        f"(i32.const {1024 + len(target)}) (i32.const 1)))"
        f"(call $proc_exit (call $path_open (i32.const 3) (i32.const 1) (i32.const {1024 + len(target)})"
        "(i32.const 1) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 100)))",
        wasi=("proc_exit", "path_open", "path_symlink"),
        data=target + name,
    )
    run = a_run(tmp_path, escapes, outputs=("/outputs",))
    (run.workspace.root / "secret").write_text("secret")
    async with an_executor() as executor:
        assert (await complete(executor, run)).exit_code == PERM


async def test_an_input_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    run = a_run(tmp_path, NOOP, inputs={"/inputs": "A"})
    run.workspace.inputs[0].unlink()
    run.workspace.inputs[0].symlink_to("/etc")
    async with an_executor() as executor:
        kind, message = await fault_of(executor, run)
    assert kind is FaultKind.INVALID_TASK
    assert "symbolic link" in message


async def test_a_file_where_a_folder_is_mounted_is_refused(tmp_path: Path) -> None:
    run = a_run(tmp_path, NOOP, inputs={"/x": {"a": "A"}, "/x/b": "B"})
    async with an_executor() as executor:
        kind, message = await fault_of(executor, run)
    assert kind is FaultKind.INVALID_TASK
    assert "'/x'" in message


async def test_arguments_and_environment_reach_the_program(tmp_path: Path, wasm_program: WasmProgram) -> None:
    arguments = a_run(tmp_path, wasm_program("echo_args").read_bytes(), "a b", "ü", "")
    env = a_run(tmp_path, wasm_program("env").read_bytes(), env=(("COLOUR", "blue sky"), ("EMPTY", "")))
    async with an_executor() as executor:
        assert (await complete(executor, arguments)).exit_code == 0
        assert (await complete(executor, env)).exit_code == 0
    assert "a b" in arguments.workspace.stdout.read_text()
    assert "ü" in arguments.workspace.stdout.read_text()
    assert sorted(env.workspace.stdout.read_text().splitlines()) == ["COLOUR=blue sky", "EMPTY="]


async def test_nul_bytes_and_a_network_are_refused(tmp_path: Path) -> None:
    async with an_executor() as executor:
        for run in (
            a_run(tmp_path, NOOP, "a\0b"),
            a_run(tmp_path, NOOP, env=(("A", "b\0"),)),
            with_spec(a_run(tmp_path, NOOP), network=NetworkMode.FULL),
        ):
            with pytest.raises(EngineFault) as caught:
                await executor.run(run)
            assert caught.value.fault.kind is FaultKind.INVALID_TASK


async def test_another_entry_point_runs_in_place_of_start(tmp_path: Path, wasm_program: WasmProgram) -> None:
    run = a_run(tmp_path, wasm_program("other_entry").read_bytes(), entry_point="greet")
    async with an_executor() as executor:
        outcome = await complete(executor, run)
    assert (outcome.exit_code, run.workspace.stdout.read_text()) == (0, "greetings\n")


async def test_a_number_that_the_entry_point_returns_is_the_exit_code(tmp_path: Path) -> None:
    module = '(module (func (export "_initialize")) (func (export "main") (result i32) i32.const 7))'
    async with an_executor() as executor:
        assert (await complete(executor, a_run(tmp_path, module, entry_point="main"))).exit_code == 7


async def test_imported_modules_are_linked_in_order_by_name(tmp_path: Path) -> None:
    base = '(module (func (export "two") (result i32) i32.const 2))'
    middle = (
        '(module (import "base" "two" (func $two (result i32)))'
        '(func (export "six") (result i32) (i32.mul (call $two) (i32.const 3))))'
    )
    main = (
        '(module (import "middle" "six" (func $six (result i32))) (func (export "f") (result i32) call $six))'
    )
    imports = (("base", base), ("middle", middle))
    async with an_executor() as executor:
        run = a_run(tmp_path, main, entry_point="f", imports=imports)
        assert (await complete(executor, run)).exit_code == 6
        wrong_order = a_run(tmp_path, main, entry_point="f", imports=imports[::-1])
        kind, message = await fault_of(executor, wrong_order)
    assert kind is FaultKind.INVALID_MODULE
    assert "'middle' imports base.two, which nothing provides" in message


async def test_a_c_program_calls_a_c_library(tmp_path: Path, wasm_program: WasmProgram) -> None:
    library = wasm_program("library").read_bytes()
    run = a_run(tmp_path, wasm_program("uses_library").read_bytes(), imports=(("library", library),))
    async with an_executor() as executor:
        outcome = await complete(executor, run)
    assert (outcome.exit_code, run.workspace.stdout.read_text()) == (0, "42\n")
