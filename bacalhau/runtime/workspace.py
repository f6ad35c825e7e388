"""The folders of a run: laid out from the block store before it, published into the block store after it.

Owns the layout on disk and the check that an output holds nothing that leads out of it. Runs nothing, and
takes no content from the network: all that a spec names is in the store by now.

    <folder>/modules/<CID>                       WASM modules, each once, shared by all runs
    <folder>/runs/<execution id>-<attempt>/      only for this user (mode 0700): outputs may hold set-user-id files
        inputs/<index>  outputs/<index>  stdout  stderr
    <folder>/runs/.spare-<workspace>/            left empty by a run that has ended, to serve again

Every function blocks; the node calls them in threads, but for those that say that they are short. Faults are raised
as EngineFault.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs.errors import (
    BlockNotFound,
    ExportRefused,
    ImportRefused,
    IpfsError,
    LimitExceeded,
    StoreFull,
    UnsafePath,
)
from bacalhau.ipfs.exporter import check_symlink, export
from bacalhau.ipfs.importer import import_files, import_path
from bacalhau.ipfs.reader import TreeLimits
from bacalhau.ipfs.unixfs import check_name
from bacalhau.model.execution import Fault, FaultKind
from bacalhau.model.job import WasmTask
from bacalhau.model.units import size_text
from bacalhau.runtime.executor import EngineFault, Workspace
from bacalhau.runtime.limits import DEPTH_MAX, disk_fault, entry_bytes
from bacalhau.runtime.mountpoints import make_mount_points

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from bacalhau.ipfs.blockstore import BlockStore
    from bacalhau.ipfs.dagpb import Block
    from bacalhau.ipfs.layout import Imported
    from bacalhau.model.cid import Cid
    from bacalhau.model.job import JobSpec
    from bacalhau.runtime.executor import Run

RESULT_NAMES: Final = ("stdout", "stderr", "exitCode")
MAX_INPUT_ENTRIES: Final = 1_000_000
# Modules that no run has used for this long are removed by `sweep`.
MODULE_KEPT_S: Final = 24 * 3600.0

# Ids come from other nodes and become names of folders and containers.
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
# Outputs up to this size are read into memory and stored in one write with the rest of the result.
_SMALL_BYTES: Final = 256 * 1024
_SMALL_ENTRIES: Final = 64
_AT_ONCE_BYTES: Final = 8 * 1024
# As many as short jobs come at once: a burst finds a folder ready for each. Empty ones take 16 KiB.
_SPARES_MAX: Final = 512
_NEVER: Final = threading.Event()


class Stopped(Exception):
    """The caller's `stop` was set meanwhile."""


class Workspaces:
    """All workspaces below one folder, which is made when the first is laid out."""

    def __init__(self, folder: Path) -> None:
        self._runs = folder / "runs"
        self._modules = folder / "modules"
        self._spares: dict[int, list[Path]] = {}
        """By number of outputs: workspaces without inputs that were left empty. To rename one takes a sixth of the
        time of making one, and there are hundreds a second."""

    def locate(self, execution_id: str, attempt: int, spec: JobSpec) -> Workspace:
        """Where the workspace of an attempt is, or would be: always the same place, also after a restart."""
        if not _ID.fullmatch(execution_id):
            raise _fault(
                FaultKind.INVALID_TASK,
                f"the execution id {execution_id[:80]!r} names no folder; use letters, digits, '_', '.', '-'",
            )
        root = self._runs / f"{execution_id}-{attempt}"
        return Workspace(
            root=root,
            inputs=tuple(root / "inputs" / str(index) for index in range(len(spec.inputs))),
            modules=tuple(self._modules / str(cid) for cid in _module_cids(spec)),
            outputs=tuple(root / "outputs" / str(index) for index in range(len(spec.outputs))),
            stdout=root / "stdout",
            stderr=root / "stderr",
        )

    def materialise(
        self,
        store: BlockStore,
        execution_id: str,
        attempt: int,
        spec: JobSpec,
        stop: threading.Event = _NEVER,
    ) -> Workspace:
        """Lay out the workspace of a new attempt: inputs and modules from the store, empty outputs.

        What an earlier life of the node left in its place is removed. All inputs together have to fit into
        the job's disk allowance. Raises Stopped soon after `stop` is set; then nothing is left."""
        workspace = self.locate(execution_id, attempt, spec)
        _check_output_names(spec)
        try:
            try:
                workspace.root.mkdir(mode=0o700)
            except FileExistsError:
                self.remove(workspace)
                workspace.root.mkdir(mode=0o700)
            except FileNotFoundError:
                self._runs.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._modules.mkdir(parents=True, exist_ok=True, mode=0o700)
                workspace.root.mkdir(mode=0o700)
            self._fill(store, workspace, spec, stop)
            _check(stop)
        except OSError as error:
            self.remove(workspace)
            raise _fault(
                FaultKind.STORAGE_FULL, f"the workspace {workspace.root} cannot be laid out: {error.strerror}"
            ) from error
        except (EngineFault, Stopped):
            self.remove(workspace)
            raise
        return workspace

    def materialise_at_once(
        self, store: BlockStore, execution_id: str, attempt: int, spec: JobSpec
    ) -> Workspace | None:
        """As materialise, where it takes a few folders only: no inputs, and every module laid out before. None
        otherwise. Short enough for an event loop."""
        # A folder that is named as a module was laid out as well, and is refused the long way.
        if spec.inputs or not all((self._modules / str(cid)).is_file() for cid in _module_cids(spec)):
            return None
        spares = self._spares.get(len(spec.outputs))
        if spares:
            workspace = self.locate(execution_id, attempt, spec)
            _check_output_names(spec)
            spare = spares.pop()
            try:
                spare.rename(workspace.root)
            except OSError:  # something is in its place, or the disk fails: the long way says what
                _remove_tree(spare)
            else:
                return workspace
        return self.materialise(store, execution_id, attempt, spec)

    def put_aside(self, workspace: Workspace) -> None:
        """Removes the workspace of a run that `publish_at_once` published; its empty folders serve again."""
        spares = self._spares.setdefault(len(workspace.outputs), [])
        if workspace.inputs or len(spares) >= _SPARES_MAX:
            self.remove(workspace)
            return
        try:
            workspace.stdout.unlink(missing_ok=True)
            workspace.stderr.unlink(missing_ok=True)
            # An execution's id, which other nodes choose, never begins with a dot.
            spare = self._runs / f".spare-{workspace.root.name}"
            workspace.root.rename(spare)
        except OSError:
            self.remove(workspace)
        else:
            spares.append(spare)

    def _fill(self, store: BlockStore, workspace: Workspace, spec: JobSpec, stop: threading.Event) -> None:
        room_bytes = spec.resources.disk_bytes
        if workspace.inputs:
            workspace.inputs[0].parent.mkdir()
        for source, place in zip(spec.inputs, workspace.inputs, strict=True):
            room_bytes -= _export(store, source.cid, place, room_bytes, spec.resources.disk_bytes, stop)
        for cid, place in zip(_module_cids(spec), workspace.modules, strict=True):
            self._provide_module(store, cid, place, spec.resources.disk_bytes, stop)
        if workspace.outputs:
            workspace.outputs[0].parent.mkdir()
        for place in workspace.outputs:
            place.mkdir()
            place.chmod(0o777)  # the program may run as any user, and the umask is the node's
        if workspace.inputs:
            make_mount_points(spec, workspace)

    def _provide_module(
        self, store: BlockStore, cid: Cid, place: Path, allowed_bytes: int, stop: threading.Event
    ) -> None:
        """A module's file is made once and never changes, as its name is its content's."""
        try:
            os.utime(place)  # used now, for `sweep`
        except FileNotFoundError:
            try:
                _export(store, cid, place, allowed_bytes, allowed_bytes, stop)
            except EngineFault:
                if not place.exists():  # else another run has made it meanwhile
                    raise
        if not place.is_file():
            raise _fault(FaultKind.INVALID_MODULE, f"the module {cid} is a folder; name the CID of the file")

    def publish(
        self, store: BlockStore, run: Run, exit_code: int, stop: threading.Event = _NEVER
    ) -> Imported:
        """Store the result folder: stdout, stderr, exitCode (decimal, no newline), and a folder for each
        output.

        The CIDs are those of `ipfs add -r`. An output that holds a socket, a device or a symlink which can
        lead out of it is refused; one that is too large for the job's disk allowance as well. Raises Stopped
        soon after `stop` is set; blocks that are stored by then stay."""

        def check(read_bytes: int) -> None:
            _check(stop)

        files = {"exitCode": str(exit_code).encode()}
        folders: dict[str, Imported] = {}
        try:
            for name, path in (("stdout", run.workspace.stdout), ("stderr", run.workspace.stderr)):
                content = _read_small(path)
                if content is None:
                    folders[name] = import_path(store, path, progress=check)
                else:
                    files[name] = content
            used_bytes = 0
            for output, path in zip(run.spec.outputs, run.workspace.outputs, strict=True):
                scan = _scan(path, output.path)
                used_bytes += scan.used_bytes
                if used_bytes > run.spec.resources.disk_bytes:
                    raise EngineFault(disk_fault(used_bytes, run.spec.resources.disk_bytes))
                if scan.small:
                    folders[output.name] = _import_small(store, path)
                else:
                    folders[output.name] = import_path(store, path, progress=check)
            return import_files(store, files, extra=folders)
        except StoreFull as error:
            raise _fault(FaultKind.STORAGE_FULL, f"the result cannot be stored: {error}") from error
        except (ImportRefused, UnsafePath) as error:
            raise _fault(FaultKind.UNSAFE_OUTPUT, f"the outputs cannot be published: {error}") from error
        except OSError as error:
            raise _fault(FaultKind.ENGINE_FAILED, _unreadable(str(error.filename), error)) from error

    def publish_at_once(self, run: Run, exit_code: int) -> tuple[Imported, list[tuple[Cid, Block]]] | None:
        """As publish, where there is a little output and nothing in the output folders: the result, and its blocks,
        which are not stored yet. None otherwise. Short enough for an event loop."""
        files = {"exitCode": str(exit_code).encode()}
        for name, path in (("stdout", run.workspace.stdout), ("stderr", run.workspace.stderr)):
            try:
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    files[name] = os.read(descriptor, _AT_ONCE_BYTES + 1)
                finally:
                    os.close(descriptor)
            except OSError:
                return None
            if len(files[name]) > _AT_ONCE_BYTES:
                return None
        gathered = _Gathered()
        folders: dict[str, Imported] = {}
        for output, path in zip(run.spec.outputs, run.workspace.outputs, strict=True):
            try:
                if os.listdir(path):
                    return None
            except OSError:
                return None
            folders[output.name] = import_files(gathered, {})
        return import_files(gathered, files, extra=folders), gathered.blocks

    def remove(self, workspace: Workspace) -> bool:
        """Remove a workspace; whether it is gone. Where the node's user is not root, what a container has
        written as another user stays behind (`sweep` tries again).
        """
        if not workspace.inputs and not workspace.outputs:
            # A walk through the tree costs five times as much, hundreds of times a second.
            with suppress(OSError):
                for path in (workspace.stdout, workspace.stderr):
                    path.unlink(missing_ok=True)
                workspace.root.rmdir()
                return True
        return _remove_tree(workspace.root)

    def sweep(self, keep: Collection[str]) -> list[str]:
        """Remove what earlier lives of the node left: workspaces of executions not in `keep`, and modules
        long unused. Returns the names of workspaces that could not be removed.
        """
        left = []
        for folder in self._runs.iterdir() if self._runs.is_dir() else ():
            execution_id, _, attempt = folder.name.rpartition("-")
            kept = execution_id in keep and attempt.isdecimal()
            if not kept and not _remove_tree(folder):
                left.append(folder.name)
        oldest = time.time() - MODULE_KEPT_S
        for module in self._modules.iterdir() if self._modules.is_dir() else ():
            if module.stat().st_mtime < oldest:
                _remove_tree(module)
        return left


class _Gathered:
    """What import_files would store."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Cid, Block]] = []

    def put_many(self, blocks: Iterable[tuple[Cid, Block]], *, sync: bool = True) -> None:
        self.blocks.extend(blocks)


@dataclass(frozen=True, slots=True)
class _Scan:
    """What an output folder holds: `small` where it can be read into memory (few plain files)."""

    used_bytes: int
    small: bool


def _fault(kind: FaultKind, message: str) -> EngineFault:
    return EngineFault(Fault(kind, message))


def _module_cids(spec: JobSpec) -> tuple[Cid, ...]:
    if not isinstance(spec.task, WasmTask):
        return ()
    return (spec.task.module, *(module.cid for module in spec.task.imports))


def _check_output_names(spec: JobSpec) -> None:
    """A spec comes from a stranger: its names become entries of the result folder."""
    taken = set(RESULT_NAMES)
    for output in spec.outputs:
        try:
            check_name(output.name)
        except UnsafePath as error:
            raise _fault(FaultKind.INVALID_TASK, f"the output's name cannot be used: {error}") from error
        if output.name in taken:
            raise _fault(
                FaultKind.INVALID_TASK, f"the result holds {output.name!r} already; name the output otherwise"
            )
        taken.add(output.name)


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped


def _export(
    store: BlockStore, cid: Cid, place: Path, room_bytes: int, allowed_bytes: int, stop: threading.Event
) -> int:
    """Write `cid` to `place`; returns its bytes."""
    try:
        limits = TreeLimits(max_bytes=max(room_bytes, 0), max_entries=MAX_INPUT_ENTRIES, max_depth=DEPTH_MAX)
        return export(store, cid, place, limits=limits, progress=lambda _: _check(stop)).size_bytes
    except BlockNotFound as error:
        raise _fault(FaultKind.INPUT_UNAVAILABLE, f"the content {cid} is not complete: {error}") from error
    except LimitExceeded as error:
        raise _fault(
            FaultKind.INPUT_TOO_LARGE,
            f"{cid} does not fit: the job's disk allowance is {size_text(allowed_bytes)}, of which "
            f"{size_text(max(room_bytes, 0))} are left for it ({error}); raise it with --disk",
        ) from error
    except ExportRefused as error:
        raise _fault(
            FaultKind.STORAGE_FULL, f"{cid} cannot be written to this node's disk: {error}"
        ) from error
    except IpfsError as error:
        raise _fault(FaultKind.INVALID_TASK, f"{cid} cannot be mounted: {error}") from error


def _read_small(path: Path) -> bytes | None:
    """The content, empty where the file is missing; None where it is large."""
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read(_SMALL_BYTES + 1) or b""
    except FileNotFoundError:
        return b""
    return content if len(content) <= _SMALL_BYTES else None


def _scan(root: Path, shown_root: str) -> _Scan:
    """Look at every entry of an output, following nothing. Raises EngineFault for what cannot be published;
    `shown_root` is the output's path as the program knows it."""
    used_bytes = entries = 0
    plain = True
    folders = [""]
    while folders:
        folder = folders.pop()
        if folder.count("/") >= DEPTH_MAX:
            raise _fault(
                FaultKind.UNSAFE_OUTPUT,
                f"{shown_root}/{folder[:100]}… is nested too deep; at most {DEPTH_MAX}",
            )
        with os.scandir(root / folder) as found:
            for entry in found:
                status = entry.stat(follow_symlinks=False)
                path = f"{folder}/{entry.name}" if folder else entry.name
                used_bytes += entry_bytes(status)
                entries += 1
                plain = plain and not stat.S_ISLNK(status.st_mode)
                if stat.S_ISDIR(status.st_mode):
                    folders.append(path)
                else:
                    _check_entry(root, path, shown_root, status)
    return _Scan(used_bytes, plain and entries <= _SMALL_ENTRIES and used_bytes <= _SMALL_BYTES)


def _check_entry(root: Path, path: str, shown_root: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    shown = f"{shown_root}/{path}"
    if not stat.S_ISLNK(status.st_mode):
        raise _fault(
            FaultKind.UNSAFE_OUTPUT,
            f"the output {shown} is a socket, pipe or device; remove it at the end of the program",
        )
    try:
        check_symlink(path, os.readlink(root / path))
    except UnsafePath as error:
        raise _fault(
            FaultKind.UNSAFE_OUTPUT,
            f"the output {shown} leads out of {shown_root}: {error}; use a relative link, or the file itself",
        ) from error


def _import_small(store: BlockStore, folder: Path) -> Imported:
    """A scanned folder of few plain files; not synced: that of the result folder holds for it."""
    files: dict[str, bytes] = {}
    folders: dict[str, Imported] = {}
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                folders[entry.name] = _import_small(store, folder / entry.name)
            else:
                with open(entry.path, "rb", buffering=0) as file:
                    files[entry.name] = file.read()
    return import_files(store, files, extra=folders, sync=False)


def _unreadable(path: str, error: OSError) -> str:
    advice = ""
    if isinstance(error, PermissionError):
        advice = (
            "; the container wrote it as another user: run the node as root, use a rootless Docker engine, "
            "or let the program make its outputs readable for all"
        )
    return f"the output {path} cannot be read by the node: {error.strerror}{advice}"


def _remove_tree(root: Path) -> bool:
    """Programs may leave folders that even their owner cannot write to."""

    def unlock(function: object, path: str, error: object) -> None:
        with suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, 0o700)
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)

    try:
        if root.is_dir() and not root.is_symlink():
            shutil.rmtree(root, onerror=unlock)
        else:
            root.unlink(missing_ok=True)
    except OSError:
        pass
    return not os.path.lexists(root)
