"""WebAssembly programs for tests, built from the C sources of `tests/programs` by clang and wasi-libc."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts import missing_part

PROGRAMS = Path(__file__).parents[1] / "programs"
WASI_HEADERS = Path("/usr/include/wasm32-wasi")
# A library has no main; its exports are named in its source.
LIBRARIES = frozenset({"library"})

WasmProgram = Callable[[str], Path]


def _build(source: Path, target: Path) -> None:
    arguments = ["-mexec-model=reactor"] if source.stem in LIBRARIES else []
    command = ["clang", "--target=wasm32-wasi", "--sysroot=/usr", "-O1", "-Wall", "-Werror", "-s", *arguments]
    built = target.with_suffix(".part")
    subprocess.run([*command, "-o", str(built), str(source)], check=True, capture_output=True, text=True)
    built.rename(target)


@pytest.fixture(scope="session")
def wasm_program(tmp_path_factory: pytest.TempPathFactory) -> WasmProgram:
    """A function from the name of a source in `tests/programs` to the path of the module built from it.

    The workers of a parallel run share one folder, so that each program is built once.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "wasm-programs"
    folder.mkdir(exist_ok=True)

    def program(name: str) -> Path:
        if shutil.which("clang") is None or shutil.which("wasm-ld") is None or not WASI_HEADERS.is_dir():
            missing_part("a C compiler for WASI", "install clang, lld, wasi-libc and libclang-rt-dev-wasm32")
        target = folder / f"{name}.wasm"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                _build(PROGRAMS / f"{name}.c", target)
        return target

    return program
