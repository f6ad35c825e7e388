"""The parts that other tests stand on are what they say."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest
import wasmtime

from bacalhau.runtime.docker_request import NODE_LABEL
from tests.conftest import SESSION_VARIABLE, left_running
from tests.parts.containers import open_engine, remove_containers
from tests.parts.wasm import PROGRAMS

if TYPE_CHECKING:
    from pathlib import Path

    import docker

    from tests.parts.wasm import WasmProgram


def run(
    program: Path, *arguments: str, entry: str = "_start", folder: Path, library: Path | None = None
) -> str:
    """Runs a module with `folder` as /inputs and /outputs; returns what it wrote on stdout."""
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    store.set_limits(memory_size=64 << 20)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    wasi = wasmtime.WasiConfig()
    wasi.argv = [program.stem, *arguments]
    wasi.env = [("COLOUR", "green")]
    wasi.stdout_file = str(folder / "stdout")
    wasi.preopen_dir(str(folder), "/inputs")
    wasi.preopen_dir(str(folder), "/outputs")
    store.set_wasi(wasi)
    if library is not None:
        instance = linker.instantiate(store, wasmtime.Module.from_file(engine, str(library)))
        linker.define_instance(store, "library", instance)
    instance = linker.instantiate(store, wasmtime.Module.from_file(engine, str(program)))
    function = instance.exports(store)[entry]
    assert isinstance(function, wasmtime.Func)
    try:
        function(store)
    except wasmtime.ExitTrap as trap:
        if trap.code:
            return f"exit {trap.code}"
    return (folder / "stdout").read_text()


def test_an_engine_that_does_not_answer_leaves_no_socket_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    before = psutil.Process().num_fds()
    with pytest.raises(OSError, match="No such file"):
        open_engine()
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize("name", sorted(source.stem for source in PROGRAMS.glob("*.c")))
def test_every_program_builds(wasm_program: WasmProgram, name: str) -> None:
    assert wasm_program(name).read_bytes()[:4] == b"\0asm"


def test_programs_do_what_their_sources_say(wasm_program: WasmProgram, tmp_path: Path) -> None:
    assert run(wasm_program("hello"), folder=tmp_path) == "Hello World\n"
    assert run(wasm_program("echo_args"), "a", "b c", folder=tmp_path) == "a\nb c\n"
    assert run(wasm_program("env"), folder=tmp_path) == "COLOUR=green\n"
    assert run(wasm_program("exit_code"), "7", folder=tmp_path) == "exit 7"
    assert run(wasm_program("sleep"), "0.01", folder=tmp_path) == ""
    assert run(wasm_program("logtest"), "0", folder=tmp_path) == "before the sleep\nafter the sleep\n"
    assert run(wasm_program("hog"), folder=tmp_path) == "exit 1"
    assert run(wasm_program("other_entry"), entry="greet", folder=tmp_path) == "greetings\n"


def test_files_are_written_and_read_in_order(wasm_program: WasmProgram, tmp_path: Path) -> None:
    assert run(wasm_program("write_outputs"), folder=tmp_path) == ""
    (tmp_path / "stdout").unlink()
    assert run(wasm_program("cat"), "/inputs/result.txt", "/inputs/below", folder=tmp_path) == (
        "a result\nmore of it\n"
    )
    assert run(wasm_program("cat"), "/inputs/nothing", folder=tmp_path) == "exit 1"


def test_a_program_calls_a_function_of_an_imported_module(wasm_program: WasmProgram, tmp_path: Path) -> None:
    assert run(wasm_program("uses_library"), folder=tmp_path, library=wasm_program("library")) == "42\n"


def test_a_process_that_left_its_parent_is_still_seen_as_left_running() -> None:
    """A node that a test starts through a shell is no child of the test any more once the shell has ended."""
    token = os.environ[SESSION_VARIABLE]
    before = set(psutil.pids())
    started = subprocess.run(
        ["/bin/sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, check=True, text=True
    )
    orphan = psutil.Process(int(started.stdout))
    try:
        assert [process.pid for process in left_running(token, before)] == [orphan.pid]
    finally:
        orphan.kill()
    psutil.wait_procs([orphan], timeout=5)
    assert left_running(token, before) == []


def test_containers_of_a_test_node_are_removed_and_no_others(docker_engine: docker.DockerClient) -> None:
    token = os.environ[SESSION_VARIABLE]
    started = [
        docker_engine.containers.run(
            "busybox", ["sleep", "60"], detach=True, network_mode="none", labels={NODE_LABEL: node + token}
        )
        for node in ("one-", "other-")
    ]
    try:
        remove_containers(docker_engine, f"one-{token}")
        left = docker_engine.containers.list(all=True, filters={"label": NODE_LABEL}, ignore_removed=True)
        assert {container.id for container in left} & {container.id for container in started} == {
            started[1].id
        }
    finally:
        remove_containers(docker_engine, f"other-{token}")
