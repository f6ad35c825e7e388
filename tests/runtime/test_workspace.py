"""Workspaces: laid out from a store, published into it, and nothing that leads out of them."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.ipfs import reader
from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.importer import import_files, import_path, import_stream
from bacalhau.model.cid import RAW, Cid
from bacalhau.model.execution import FaultKind
from bacalhau.model.job import DockerTask, InputSource, JobSpec, OutputPath, WasmImport, WasmTask
from bacalhau.model.resources import DEFAULT_JOB_RESOURCES
from bacalhau.model.units import GIB, MIB, size_text
from bacalhau.runtime.executor import EngineFault, Run
from bacalhau.runtime.limits import TooDeep, disk_used_bytes, duration_text
from bacalhau.runtime.workspace import Stopped, Workspaces

if TYPE_CHECKING:
    from pathlib import Path

OUTPUTS = (OutputPath("outputs", "/outputs"),)


@pytest.fixture
def store() -> MemoryBlockStore:
    return MemoryBlockStore()


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "work")


def docker_spec(**fields: object) -> JobSpec:
    return replace(JobSpec(DockerTask("busybox")), **fields)  # type: ignore[arg-type]


def laid_out(workspaces: Workspaces, store: MemoryBlockStore, spec: JobSpec) -> Run:
    return Run("e-1", 1, spec, workspaces.materialise(store, "e-1", 1, spec))


def read(store: MemoryBlockStore, root: Cid, path: str) -> bytes:
    return b"".join(reader.read_file(store, reader.resolve(store, root, path)))


def fault_kind(error: pytest.ExceptionInfo[EngineFault]) -> FaultKind:
    return error.value.fault.kind


def test_inputs_are_exported_and_outputs_are_empty_folders_for_every_user(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    cid = import_files(store, {"a.txt": b"alpha"}).cid
    spec = docker_spec(inputs=(InputSource(cid, "/inputs"),), outputs=OUTPUTS)
    workspace = laid_out(workspaces, store, spec).workspace
    assert (workspace.inputs[0] / "a.txt").read_bytes() == b"alpha"
    assert list(workspace.outputs[0].iterdir()) == []
    assert workspace.outputs[0].stat().st_mode & 0o777 == 0o777
    assert workspace.root.stat().st_mode & 0o777 == 0o700


def test_a_file_can_be_an_input(workspaces: Workspaces, store: MemoryBlockStore, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"just a file")
    cid = import_path(store, tmp_path / "data").cid
    workspace = laid_out(workspaces, store, docker_spec(inputs=(InputSource(cid, "/data.txt"),))).workspace
    assert workspace.inputs[0].read_bytes() == b"just a file"


def test_what_is_mounted_inside_an_input_finds_its_place_there(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    file = import_stream(store, [b"B"]).cid
    folder = import_files(store, {"b.txt": b"B"}).cid
    spec = docker_spec(
        inputs=(
            InputSource(folder, "/in/deep/sub"),
            InputSource(import_files(store, {"a.txt": b"A"}).cid, "/in"),
            InputSource(file, "/in/b.txt"),
            InputSource(folder, "/in/deep/sub/more"),
            InputSource(folder, "/inside"),
        ),
        outputs=(OutputPath("out", "/in/out"),),
    )
    sub, outer, *_, inside = laid_out(workspaces, store, spec).workspace.inputs
    assert sorted(entry.name for entry in outer.iterdir()) == ["a.txt", "b.txt", "deep", "out"]
    assert list((outer / "deep" / "sub").iterdir()) == []
    assert (outer / "b.txt").read_bytes() == b""
    assert sorted(entry.name for entry in sub.iterdir()) == ["b.txt", "more"]
    assert [entry.name for entry in inside.iterdir()] == ["b.txt"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/in/a.txt", "the input at '/in' has something at '/in/a.txt' that is no folder"),
        ("/in/a.txt/sub", "the input at '/in' has no folder for it"),
        ("/in/link", "the input at '/in' has something at '/in/link' that is no folder"),
        ("/in/link/sub", "the input at '/in' has no folder for it"),
    ],
)
def test_an_input_that_has_something_else_at_the_place_of_another_is_refused(
    workspaces: Workspaces, store: MemoryBlockStore, tmp_path: Path, target: str, said: str
) -> None:
    outer = tmp_path / "outer"
    (outer / "folder").mkdir(parents=True)
    (outer / "a.txt").write_text("A")
    (outer / "link").symlink_to("folder")
    inputs = (
        InputSource(import_path(store, outer).cid, "/in"),
        InputSource(import_files(store, {"b.txt": b"B"}).cid, target),
    )
    with pytest.raises(EngineFault, match=said) as error:
        laid_out(workspaces, store, docker_spec(inputs=inputs))
    assert fault_kind(error) is FaultKind.INVALID_TASK


class StopsAt(MemoryBlockStore):
    """Sets `stop` when this content is read."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.stop = threading.Event()
        self._content = content

    def get(self, cid: Cid) -> bytes:
        block = super().get(cid)
        if self._content in block:
            self.stop.set()
        return block


@pytest.mark.parametrize("content", [b"the first", b"the last"])
def test_laying_out_that_is_stopped_leaves_nothing(workspaces: Workspaces, content: bytes) -> None:
    store = StopsAt(content)
    cids = [import_files(store, {"file": content}).cid for content in (b"the first", b"the last")]
    inputs = tuple(InputSource(cid, f"/inputs/{number}") for number, cid in enumerate(cids))
    spec = docker_spec(inputs=inputs)
    with pytest.raises(Stopped):
        workspaces.materialise(store, "e-1", 1, spec, store.stop)
    assert not workspaces.locate("e-1", 1, spec).root.exists()


def test_publishing_that_is_stopped_stores_no_more(workspaces: Workspaces, store: MemoryBlockStore) -> None:
    run = laid_out(workspaces, store, docker_spec(outputs=OUTPUTS))
    (run.workspace.outputs[0] / "large").write_bytes(bytes(MIB))
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        workspaces.publish(store, run, 0, stop)
    assert list(store.keys()) == []


def test_a_module_is_written_once_for_all_runs(workspaces: Workspaces, store: MemoryBlockStore) -> None:
    module, imported = Cid.of(RAW, b"module"), Cid.of(RAW, b"imported")
    store.put_many([(module, b"module"), (imported, b"imported")])
    spec = JobSpec(WasmTask(module, imports=(WasmImport("lib", imported),)))
    first = workspaces.materialise(store, "e-1", 1, spec)
    second = workspaces.materialise(store, "e-2", 1, spec)
    assert first.modules == second.modules
    assert [path.read_bytes() for path in first.modules] == [b"module", b"imported"]


def test_a_module_that_is_a_folder_is_refused(workspaces: Workspaces, store: MemoryBlockStore) -> None:
    cid = import_files(store, {"a": b""}).cid
    with pytest.raises(EngineFault) as error:
        workspaces.materialise(store, "e-1", 1, JobSpec(WasmTask(cid)))
    assert fault_kind(error) is FaultKind.INVALID_MODULE


def test_leftovers_of_the_same_attempt_are_replaced(workspaces: Workspaces, store: MemoryBlockStore) -> None:
    spec = docker_spec(outputs=OUTPUTS)
    (laid_out(workspaces, store, spec).workspace.outputs[0] / "old").write_text("old")
    assert list(laid_out(workspaces, store, spec).workspace.outputs[0].iterdir()) == []


def test_inputs_above_the_disk_allowance_are_refused_with_both_sizes_and_the_flag(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    half = import_files(store, {"half": bytes(700_000)}).cid
    spec = docker_spec(
        inputs=(InputSource(half, "/a"), InputSource(half, "/b")),
        resources=replace(DEFAULT_JOB_RESOURCES, disk_bytes=MIB),
    )
    with pytest.raises(EngineFault) as error:
        laid_out(workspaces, store, spec)
    assert fault_kind(error) is FaultKind.INPUT_TOO_LARGE
    assert "1 MiB" in error.value.fault.message
    assert "--disk" in error.value.fault.message
    assert not workspaces.locate("e-1", 1, spec).root.exists()


def test_an_incomplete_input_is_unavailable(workspaces: Workspaces, store: MemoryBlockStore) -> None:
    missing = Cid.of(RAW, b"nobody has it")
    with pytest.raises(EngineFault) as error:
        laid_out(workspaces, store, docker_spec(inputs=(InputSource(missing, "/a"),)))
    assert fault_kind(error) is FaultKind.INPUT_UNAVAILABLE
    assert str(missing) in error.value.fault.message


@pytest.mark.parametrize("execution_id", ["../e", "", "/etc", "a/b", ".hidden", "x" * 200, "a\0b"])
def test_an_execution_id_that_is_no_plain_name_is_refused(workspaces: Workspaces, execution_id: str) -> None:
    with pytest.raises(EngineFault) as error:
        workspaces.locate(execution_id, 1, docker_spec())
    assert fault_kind(error) is FaultKind.INVALID_TASK


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "stdout", "exitCode", "a\0b"])
def test_an_output_name_that_cannot_stand_in_the_result_is_refused(
    workspaces: Workspaces, store: MemoryBlockStore, name: str
) -> None:
    with pytest.raises(EngineFault) as error:
        laid_out(workspaces, store, docker_spec(outputs=(OutputPath(name, "/o"),)))
    assert fault_kind(error) is FaultKind.INVALID_TASK


def test_the_result_holds_output_exit_code_and_each_output(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    spec = docker_spec(outputs=(*OUTPUTS, OutputPath("empty", "/empty")))
    run = laid_out(workspaces, store, spec)
    run.workspace.stdout.write_bytes(b"out\n")
    (run.workspace.outputs[0] / "sub").mkdir()
    (run.workspace.outputs[0] / "sub" / "f").write_bytes(b"content")
    result = workspaces.publish(store, run, -7)
    assert {entry.name for entry in reader.ls(store, result.cid)} == {
        "stdout", "stderr", "exitCode", "outputs", "empty",
    }  # fmt: skip
    assert read(store, result.cid, "stdout") == b"out\n"
    assert read(store, result.cid, "stderr") == b""
    assert read(store, result.cid, "exitCode") == b"-7"
    assert read(store, result.cid, "outputs/sub/f") == b"content"
    assert list(reader.ls(store, reader.resolve(store, result.cid, "empty"))) == []


@given(
    stdout=st.sampled_from([0, 10, 300_000]),
    files=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0, 1, 5000, 300_000]), max_size=4),
    nested=st.booleans(),
    links=st.booleans(),
)
def test_the_result_has_the_cid_of_the_same_folder_on_disk(
    tmp_path_factory: pytest.TempPathFactory, stdout: int, files: dict[str, int], nested: bool, links: bool
) -> None:
    base, store = tmp_path_factory.mktemp("equal"), MemoryBlockStore()
    workspaces = Workspaces(base / "work")
    run = laid_out(workspaces, store, docker_spec(outputs=OUTPUTS))
    shape = base / "shape"
    (shape / "outputs").mkdir(parents=True)
    for output in (run.workspace.outputs[0], shape / "outputs"):
        folder = output / "sub" if nested else output
        folder.mkdir(exist_ok=True)
        for name, size in files.items():
            (folder / name).write_bytes(name.encode() * size)
        if links:
            (folder / "link").symlink_to("a")
    for path in (run.workspace.stdout, shape / "stdout"):
        path.write_bytes(b"x" * stdout)
    (shape / "stderr").write_bytes(b"")
    (shape / "exitCode").write_bytes(b"0")
    assert workspaces.publish(store, run, 0) == import_path(MemoryBlockStore(), shape)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../stdout", "..", "sub/../../x"])
def test_a_symlink_out_of_an_output_is_refused_by_name(
    workspaces: Workspaces, store: MemoryBlockStore, target: str
) -> None:
    run = laid_out(workspaces, store, docker_spec(outputs=OUTPUTS))
    (run.workspace.outputs[0] / "leak").symlink_to(target)
    with pytest.raises(EngineFault) as error:
        workspaces.publish(store, run, 0)
    assert fault_kind(error) is FaultKind.UNSAFE_OUTPUT
    assert "/outputs/leak" in error.value.fault.message


def test_a_socket_or_pipe_in_an_output_is_refused_by_name(
    workspaces: Workspaces, store: MemoryBlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = laid_out(workspaces, store, docker_spec(outputs=OUTPUTS))
    os.mkfifo(run.workspace.outputs[0] / "pipe")
    with pytest.raises(EngineFault, match=r"/outputs/pipe is a socket, pipe or device"):
        workspaces.publish(store, run, 0)
    (run.workspace.outputs[0] / "pipe").unlink()
    monkeypatch.chdir(run.workspace.outputs[0])  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(EngineFault, match=r"/outputs/socket is a socket, pipe or device"):
            workspaces.publish(store, run, 0)


def test_a_sparse_output_counts_in_full_against_the_disk_allowance(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    run = laid_out(workspaces, store, docker_spec(outputs=OUTPUTS))
    with open(run.workspace.outputs[0] / "hole", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(EngineFault) as error:
        workspaces.publish(store, run, 0)
    assert fault_kind(error) is FaultKind.OUT_OF_DISK
    assert "1 TiB of 1 GiB" in error.value.fault.message


def test_folders_that_nobody_may_write_to_are_removed(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    run = laid_out(workspaces, store, docker_spec(outputs=OUTPUTS))
    locked = run.workspace.outputs[0] / "locked"
    (locked / "below").mkdir(parents=True)
    (locked / "below" / "f").write_text("x")
    locked.chmod(0o000)
    assert workspaces.remove(run.workspace)
    assert not run.workspace.root.exists()


def test_sweeping_removes_all_workspaces_but_those_to_keep(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    spec = docker_spec()
    kept = workspaces.materialise(store, "e-kept", 2, spec)
    gone = workspaces.materialise(store, "e-gone", 1, spec)
    assert workspaces.sweep({"e-kept"}) == []
    assert kept.root.is_dir()
    assert not gone.root.exists()


def test_disk_use_counts_entries_and_hard_links_once_and_follows_nothing(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    tree.mkdir()
    outside.mkdir()
    (outside / "large").write_bytes(bytes(10 * MIB))
    (tree / "file").write_bytes(bytes(100_000))
    os.link(tree / "file", tree / "same")
    (tree / "link").symlink_to(outside)
    (tree / "empty").touch()
    used = disk_used_bytes([tree, tmp_path / "missing"])
    assert 100_000 + 2 * 4096 <= used < 200_000


def test_a_tree_too_deep_to_measure_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    before = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(200):
            os.mkdir("d" * 50)
            os.chdir("d" * 50)
    finally:
        os.chdir(before)
    with pytest.raises(TooDeep):
        disk_used_bytes([tmp_path])


def test_sizes_and_durations_are_written_for_people() -> None:
    assert [size_text(size) for size in (1000, 1024, 64 * MIB, 64 * MIB + 1, 1536 * MIB, 2048 * GIB)] == [
        "1000 bytes", "1 KiB", "64 MiB", "64.0 MiB", "1.5 GiB", "2 TiB",
    ]  # fmt: skip
    assert [duration_text(us) for us in (500_000, 1_000_000, 1_800_000_000)] == ["0.5 s", "1 s", "30 min"]
