"""Links, confines and runs one WASM program with WASI preview 1. Runs in worker processes only.

What a program sees: its arguments, its environment, an empty stdin, its stdout and stderr files, each input
read-only and each output folder at its path, the clocks and randomness. Nothing else of this machine, no
network.

How a program ends: by returning (exit code 0, or the number that an entry point with one i32 result returns),
by proc_exit (that code modulo 256, as on POSIX), or by a trap. A trap is the program's own crash, so the run
has completed: exit code 134, as of a process that aborts and as wasmtime's command line gives, and the trap's
message is appended to stderr.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import wasmtime

from bacalhau.model.execution import FaultKind
from bacalhau.runtime.wasm_modules import InvalidModule, reason_of

if TYPE_CHECKING:
    from wasmtime._instance import InstanceExports

    from bacalhau.runtime.wasm_modules import ModuleCache
    from bacalhau.runtime.wasm_protocol import Request

PROGRAM_NAME: Final = "main.wasm"
"""argv[0]: the same on every node, so that replicated runs agree."""
CRASH_EXIT_CODE: Final = 134
MAX_TABLE_ELEMENTS = 10_000_000
MAX_TABLES = 100
MAX_CRASH_MESSAGE = 4096

_WASI: Final = "wasi_snapshot_preview1"
_INITIALIZE: Final = "_initialize"


class NotStarted(Exception):
    """The program could not begin; the text is a whole sentence for its user."""

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Exited(Exception):
    """proc_exit was called."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Programs:
    """What a worker can run: modules linked once, run often."""

    def __init__(self, engine: wasmtime.Engine, modules: ModuleCache) -> None:
        self._engine = engine
        self._modules = modules
        self._linker = _wasi_linker(engine)
        # The last program that needs no other module: resolving its imports costs as much as a short run.
        self._linked: tuple[wasmtime.Module, wasmtime.InstancePre] | None = None

    def check(self, request: Request) -> None:
        """Compiles the modules and looks for what linking would miss. Raises NotStarted."""
        modules = self._load(request)
        entry = next((export for export in modules[0].exports if export.name == request.entry_point), None)
        if entry is None:
            raise _not_runnable(request, 0, _no_entry_point(modules[0], request.entry_point))
        if not isinstance(entry.type, wasmtime.FuncType):
            raise _not_runnable(request, 0, f"exports '{request.entry_point}', but that is no function")
        if entry.type.params:
            raise _not_runnable(
                request,
                0,
                f"exports '{request.entry_point}', but that wants arguments, which an entry point cannot",
            )
        self._check_imports(request, modules)

    def _check_imports(self, request: Request, modules: list[wasmtime.Module]) -> None:
        store = wasmtime.Store(self._engine)
        provided: dict[str, set[str]] = {}
        # Imports are linked in the order given, the program last.
        for index in (*range(1, len(modules)), 0):
            for wanted in modules[index].imports:
                if wanted.module == _WASI and _has(self._linker, store, wanted):
                    continue
                if wanted.name not in provided.get(wanted.module, ()):
                    raise _not_runnable(
                        request,
                        index,
                        f"imports {wanted.module}.{wanted.name}, which nothing provides; a program gets "
                        "WASI preview 1 and the modules that the job imports by name, in their order",
                    )
            name = request.modules[index].name
            if name == _WASI or (index and name in provided):
                raise NotStarted(
                    FaultKind.INVALID_TASK,
                    f"the name '{name}' of an imported module is taken; choose another",
                )
            provided[name] = {export.name or "" for export in modules[index].exports}

    def _load(self, request: Request) -> list[wasmtime.Module]:
        loaded = []
        for index, (key, path, _) in enumerate(request.modules):
            try:
                loaded.append(self._modules.load(key, path))
            except InvalidModule as error:
                raise _not_runnable(request, index, str(error)) from None
        return loaded

    def start(self, request: Request) -> Program:
        """Everything up to the first instruction of the program. Raises NotStarted; the caller closes it."""
        modules = self._load(request)
        store = wasmtime.Store(self._engine)
        program = Program(store, request, modules)
        try:
            # Bytes of memory are counted by LinearMemories.
            store.set_limits(
                table_elements=MAX_TABLE_ELEMENTS,
                tables=MAX_TABLES,
                instances=len(modules),
                memories=len(modules) * 2,
            )
            store.set_wasi(_wasi_config(request))
            if len(modules) == 1:
                program.link(self._pre(request, modules[0]))
            else:
                program.link_with(_wasi_linker(self._engine))
        except BaseException:  # whatever it is goes on; the store must not keep its memory and files
            program.close()
            raise
        return program

    def _pre(self, request: Request, module: wasmtime.Module) -> wasmtime.InstancePre:
        if self._linked is None or self._linked[0] is not module:
            try:
                self._linked = module, self._linker.instantiate_pre(module)
            except wasmtime.WasmtimeError as error:
                raise _not_runnable(request, 0, f"cannot be linked: {reason_of(error)}") from None
        return self._linked[1]


class Program:
    """A program about to run, once."""

    def __init__(self, store: wasmtime.Store, request: Request, modules: list[wasmtime.Module]) -> None:
        self._store = store
        self._request = request
        self._modules = modules
        self._pre: wasmtime.InstancePre | None = None
        self._linker: wasmtime.Linker | None = None
        self.crash = ""
        """What a trap said, once the program has run."""

    def link(self, pre: wasmtime.InstancePre) -> None:
        self._pre = pre

    def link_with(self, linker: wasmtime.Linker) -> None:
        self._linker = linker

    def arm(self) -> None:
        """From here on, one more epoch of the engine stops the program."""
        self._store.set_epoch_deadline(1)

    def run(self) -> int:
        """The program's exit code. Raises NotStarted where its modules do not fit together."""
        try:
            instance = self._instance()
        except _Exited as ended:
            return ended.code
        except wasmtime.Trap as trap:
            return self._crashed(trap)
        except wasmtime.WasmtimeError as error:
            raise _not_runnable(self._request, 0, f"cannot be linked: {reason_of(error)}") from None
        try:
            exports = instance.exports(self._store)
            entry = exports.get(self._request.entry_point)
            if not isinstance(entry, wasmtime.Func):
                raise _not_runnable(
                    self._request, 0, _no_entry_point(self._modules[0], self._request.entry_point)
                )
            if self._request.entry_point != "_start":
                _initialize(self._store, exports)
            result = entry(self._store)
            return result & 0xFF if isinstance(result, int) else 0
        except _Exited as ended:
            return ended.code
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            return self._crashed(error)

    def _instance(self) -> wasmtime.Instance:
        if self._pre is not None:
            return self._pre.instantiate(self._store)
        assert self._linker is not None
        for file, module in zip(self._request.modules[1:], self._modules[1:], strict=True):
            library = self._linker.instantiate(self._store, module)
            _initialize(self._store, library.exports(self._store))
            self._linker.define_instance(self._store, file.name, library)
        return self._linker.instantiate(self._store, self._modules[0])

    def _crashed(self, error: Exception) -> int:
        self.crash = str(error).strip()[:MAX_CRASH_MESSAGE]
        return CRASH_EXIT_CODE

    def report_crash(self) -> None:
        """Appends what a trap said to stderr."""
        if not self.crash:
            return
        # A full disk is found by the caller, who measures it.
        with (
            contextlib.suppress(OSError),
            open(self._request.stderr, "a", encoding="utf-8", errors="replace") as stderr,
        ):
            stderr.write(f"the program crashed: {self.crash}\n")

    def close(self) -> None:
        """Frees the program's memory and closes its files."""
        self._store.close()


def _initialize(store: wasmtime.Store, exports: InstanceExports) -> None:
    """A module that is no command asks to be initialised before any of its functions runs (WASI preview
    1).
    """
    initialize = exports.get(_INITIALIZE)
    if isinstance(initialize, wasmtime.Func):
        initialize(store)


def _wasi_linker(engine: wasmtime.Engine) -> wasmtime.Linker:
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    # wasmtime's proc_exit takes codes up to 125 only.
    linker.allow_shadowing = True
    linker.define_func(_WASI, "proc_exit", wasmtime.FuncType([wasmtime.ValType.i32()], []), _exit)
    linker.allow_shadowing = False
    return linker


def _exit(code: int) -> None:
    raise _Exited(code & 0xFF)


def _has(linker: wasmtime.Linker, store: wasmtime.Store, wanted: wasmtime.ImportType) -> bool:
    try:
        linker.get(store, wanted.module, wanted.name or "")
    except wasmtime.WasmtimeError:
        return False
    return True


def _not_runnable(request: Request, index: int, what: str) -> NotStarted:
    subject = "the module" if index == 0 else f"the imported module '{request.modules[index].name}'"
    return NotStarted(FaultKind.INVALID_MODULE, f"{subject} {what}")


def _no_entry_point(module: wasmtime.Module, entry_point: str) -> str:
    functions = [export.name for export in module.exports if isinstance(export.type, wasmtime.FuncType)]
    there = ", ".join(f"'{name}'" for name in functions[:5]) + (" and others" if len(functions) > 5 else "")
    return f"has no export '{entry_point}'; " + (
        f"it exports {there}, choose one with --entry-point" if there else "it exports no function at all"
    )


def _wasi_config(request: Request) -> wasmtime.WasiConfig:
    config = wasmtime.WasiConfig()
    config.argv = [PROGRAM_NAME, *request.arguments]
    config.env = request.env
    config.stdout_file = request.stdout
    config.stderr_file = request.stderr
    # Programs that count descriptors find inputs first, then outputs, each in the job's order.
    preopened = {target for _, target in request.outputs}
    for path, target in _input_folders(request):
        if target in preopened:
            raise NotStarted(
                FaultKind.INVALID_TASK,
                f"a WASM program can see only one thing at '{target}': "
                "give each input and output a folder of its own",
            )
        preopened.add(target)
        config.preopen_dir(path, target, fs_mutable=False)
    for path, target in request.outputs:
        config.preopen_dir(path, target)
    return config


def _input_folders(request: Request) -> list[tuple[str, str]]:
    """(folder here, path in the program) of everything to preopen read-only.

    WASI opens folders only, so input files are hard-linked into a folder of their own for each parent path.
    """
    folders: list[tuple[str, str]] = []
    files: dict[str, list[tuple[str, str]]] = {}
    for path, target in request.inputs:
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            folders.append((path, target))
        elif stat.S_ISREG(mode):
            parent, name = posixpath.split(target)
            files.setdefault(parent, []).append((path, name))
        else:
            # Preopening it would follow it to a file of this machine.
            raise NotStarted(
                FaultKind.INVALID_TASK, f"the input at '{target}' is a symbolic link; give what it points to"
            )
    for index, (parent, members) in enumerate(files.items()):
        folder = Path(request.root, f"wasm-files-{index}")
        folder.mkdir()
        for path, name in members:
            try:
                os.link(path, folder / name, follow_symlinks=False)
            except OSError:
                # Another file system, or one without links.
                shutil.copyfile(path, folder / name, follow_symlinks=False)
        folders.append((str(folder), parent))
    return folders
