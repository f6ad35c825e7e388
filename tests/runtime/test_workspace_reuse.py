"""Short runs: a result published at once is the one that `publish` stores, and empty folders serve again, empty."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.dag import find_missing
from bacalhau.ipfs.importer import import_files
from bacalhau.model.cid import RAW, Cid
from bacalhau.model.execution import FaultKind
from bacalhau.model.job import InputSource, JobSpec, OutputPath, WasmTask
from bacalhau.runtime import workspace as workspace_module
from bacalhau.runtime.executor import EngineFault, Run, Workspace
from bacalhau.runtime.workspace import Workspaces

if TYPE_CHECKING:
    from pathlib import Path

MODULE = Cid.of(RAW, b"module")
AT_ONCE_BYTES = workspace_module._AT_ONCE_BYTES


@pytest.fixture
def store() -> MemoryBlockStore:
    made = MemoryBlockStore()
    made.put_many([(MODULE, b"module")])
    return made


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "work")


def spec_with(outputs: int) -> JobSpec:
    return JobSpec(
        WasmTask(MODULE),
        outputs=tuple(OutputPath(f"out{number}", f"/out{number}") for number in range(outputs)),
    )


def lay_out(
    workspaces: Workspaces, store: MemoryBlockStore, id: str = "e-1", outputs: int = 1, attempt: int = 1
) -> Run:
    """As a node does it: at once where that can be."""
    spec = spec_with(outputs)
    workspace = workspaces.materialise_at_once(store, id, attempt, spec)
    if workspace is None:
        workspace = workspaces.materialise(store, id, attempt, spec)
    return Run(id, attempt, spec, workspace)


def write(run: Run, stdout: bytes = b"", stderr: bytes = b"") -> None:
    run.workspace.stdout.write_bytes(stdout)
    run.workspace.stderr.write_bytes(stderr)


def entries(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def shape(outputs: int) -> set[str]:
    """What a fresh workspace holds."""
    return {"outputs", *(f"outputs/{n}" for n in range(outputs))} if outputs else set()


def assert_fresh(workspace: Workspace) -> None:
    assert entries(workspace.root) == shape(len(workspace.outputs))
    assert workspace.root.stat().st_mode & 0o777 == 0o700
    assert all(output.stat().st_mode & 0o777 == 0o777 for output in workspace.outputs)


def names_in(workspaces: Workspaces) -> list[str]:
    return sorted(os.listdir(workspaces._runs))


# --- published at once ---

_sizes = st.sampled_from([0, 1, 100, AT_ONCE_BYTES - 1, AT_ONCE_BYTES])


@given(
    stdout=st.binary(max_size=300) | _sizes.map(bytes),
    stderr=st.binary(max_size=300) | _sizes.map(bytes),
    exit_code=st.integers(-(2**31), 2**31 - 1),
    outputs=st.integers(0, 4),
)
def test_a_result_published_at_once_has_the_cid_and_the_blocks_of_publish(
    tmp_path_factory: pytest.TempPathFactory, stdout: bytes, stderr: bytes, exit_code: int, outputs: int
) -> None:
    store, published = MemoryBlockStore(), MemoryBlockStore()
    store.put_many([(MODULE, b"module")])
    workspaces = Workspaces(tmp_path_factory.mktemp("equal"))
    run = lay_out(workspaces, store, outputs=outputs)
    write(run, stdout, stderr)
    before = set(store.keys())
    at_once = workspaces.publish_at_once(run, exit_code)
    assert set(store.keys()) == before, "nothing is stored yet"
    imported = workspaces.publish(published, run, exit_code)
    assert at_once is not None
    assert at_once[0] == imported
    assert {cid.multihash: bytes(block) for cid, block in at_once[1]} == {
        key: published.get(Cid(1, RAW, key)) for key in set(published.keys())
    }
    for cid, block in at_once[1]:
        assert cid.verify(bytes(block))
    gathered = MemoryBlockStore()
    gathered.put_many(at_once[1])
    assert find_missing(gathered, imported.cid) is None


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_large_output_is_left_to_publish(
    workspaces: Workspaces, store: MemoryBlockStore, name: str
) -> None:
    run = lay_out(workspaces, store)
    write(run)
    assert workspaces.publish_at_once(run, 0) is not None
    (run.workspace.root / name).write_bytes(bytes(AT_ONCE_BYTES + 1))
    assert workspaces.publish_at_once(run, 0) is None


@pytest.mark.parametrize("kind", ["file", "folder", "symlink", "pipe", "hidden"])
def test_a_run_that_left_anything_in_any_output_is_left_to_publish(
    workspaces: Workspaces, store: MemoryBlockStore, kind: str
) -> None:
    run = lay_out(workspaces, store, outputs=3)
    write(run)
    assert workspaces.publish_at_once(run, 0) is not None
    last = run.workspace.outputs[-1]
    match kind:
        case "file":
            (last / "f").touch()
        case "folder":
            (last / "d").mkdir()
        case "symlink":
            (last / "s").symlink_to("/nowhere")
        case "pipe":
            os.mkfifo(last / "p")
        case _:
            (last / ".h").touch()
    assert workspaces.publish_at_once(run, 0) is None


def test_a_run_whose_output_or_folder_is_gone_is_left_to_publish(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    run = lay_out(workspaces, store)
    write(run)
    run.workspace.stderr.unlink()
    assert workspaces.publish_at_once(run, 0) is None
    write(run)
    run.workspace.outputs[0].rmdir()
    assert workspaces.publish_at_once(run, 0) is None
    run.workspace.outputs[0].write_text("a file in the folder's place")
    assert workspaces.publish_at_once(run, 0) is None


# --- laid out at once ---


def test_what_takes_longer_is_not_laid_out_at_once(workspaces: Workspaces, store: MemoryBlockStore) -> None:
    assert workspaces.materialise_at_once(store, "e-1", 1, spec_with(0)) is None, "no module yet"
    workspaces.materialise(store, "e-1", 1, spec_with(0))
    assert workspaces.materialise_at_once(store, "e-2", 1, spec_with(0)) is not None
    cid = import_files(store, {"a": b""}).cid
    with_input = JobSpec(WasmTask(MODULE), inputs=(InputSource(cid, "/a"),))
    assert workspaces.materialise_at_once(store, "e-3", 1, with_input) is None


def test_a_module_that_is_a_folder_is_refused_the_second_time_too(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    run = lay_out(workspaces, store, outputs=0)
    write(run)
    workspaces.put_aside(run.workspace)
    folder = JobSpec(WasmTask(import_files(store, {"a": b""}).cid))
    for attempt in (1, 2):
        assert workspaces.materialise_at_once(store, "e-2", attempt, folder) is None
        with pytest.raises(EngineFault) as caught:
            workspaces.materialise(store, "e-2", attempt, folder)
        assert caught.value.fault.kind is FaultKind.INVALID_MODULE


def test_an_output_name_that_cannot_stand_in_the_result_is_refused_with_a_workspace_to_use_again_too(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    run = lay_out(workspaces, store)
    write(run)
    workspaces.put_aside(run.workspace)
    spec = JobSpec(WasmTask(MODULE), outputs=(OutputPath("stdout", "/o"),))
    with pytest.raises(EngineFault) as caught:
        workspaces.materialise_at_once(store, "e-2", 1, spec)
    assert caught.value.fault.kind is FaultKind.INVALID_TASK


# --- used again ---


@pytest.mark.parametrize("outputs", [0, 1, 3])
def test_a_workspace_that_was_put_aside_serves_again_with_nothing_of_the_earlier_run(
    workspaces: Workspaces, store: MemoryBlockStore, outputs: int
) -> None:
    first = lay_out(workspaces, store, "e-1", outputs)
    inode = first.workspace.root.stat().st_ino
    write(first, b"a secret", b"another")
    assert workspaces.publish_at_once(first, 0) is not None
    workspaces.put_aside(first.workspace)
    assert not first.workspace.root.exists()
    second = lay_out(workspaces, store, "e-2", outputs)
    assert second.workspace.root.stat().st_ino == inode, "the same folder, or this test shows nothing"
    assert_fresh(second.workspace)
    write(second, b"mine")
    assert workspaces.publish_at_once(second, 1) is not None
    third = lay_out(workspaces, store, "e-3", outputs)
    assert third.workspace.root.stat().st_ino != inode
    assert_fresh(third.workspace)


@given(runs=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=12))
def test_whatever_ran_before_and_ends_when_each_workspace_is_fresh_and_its_own(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, bool]]
) -> None:
    """Each run has so many outputs, and either ends at once or stays to the end with what it wrote."""
    store = MemoryBlockStore()
    store.put_many([(MODULE, b"module")])
    workspaces = Workspaces(tmp_path_factory.mktemp("runs"))
    staying: list[tuple[Run, bytes]] = []
    for number, (outputs, stays) in enumerate(runs):
        run = lay_out(workspaces, store, f"e-{number}", outputs)
        assert_fresh(run.workspace)
        content = f"of run {number}".encode()
        write(run, content)
        if stays:
            staying.append((run, content))
        else:
            workspaces.put_aside(run.workspace)
    assert [run.workspace.stdout.read_bytes() for run, _ in staying] == [content for _, content in staying]


def test_an_execution_that_is_named_as_a_workspace_put_aside_disturbs_no_other(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    """The requester chooses the id: it may be any name that a folder beside it could have."""
    for number in range(3):
        lay_out(workspaces, store, f"e-{number}", 0)
    for number in range(3):
        workspaces.put_aside(workspaces.locate(f"e-{number}", 1, spec_with(0)))
    asides = [name for name in names_in(workspaces) if "e-0" in name]
    assert len(asides) == 1
    for chosen in (asides[0].removesuffix("-1"), asides[0].removesuffix("-1").lstrip("."), "spare-0-e-0"):
        try:
            mine = lay_out(workspaces, store, chosen, 0)
        except EngineFault as refusal:
            assert refusal.fault.kind is FaultKind.INVALID_TASK  # noqa: PT017 - one of the ways to be safe
            continue
        write(mine, b"mine")
        others = [lay_out(workspaces, store, f"e-{chosen}-other{number}", 0) for number in range(3)]
        assert mine.workspace.stdout.read_bytes() == b"mine"
        assert all(entries(other.workspace.root) == set() for other in others)


@pytest.mark.parametrize("outputs", [0, 2])
@pytest.mark.parametrize("what", ["file", "full folder", "empty folder", "symlink"])
def test_what_stands_in_the_place_of_a_workspace_is_replaced(
    workspaces: Workspaces, store: MemoryBlockStore, tmp_path: Path, what: str, outputs: int
) -> None:
    first = lay_out(workspaces, store, "e-1", outputs)
    workspaces.put_aside(first.workspace)
    place = workspaces.locate("e-2", 1, spec_with(outputs)).root
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    match what:
        case "file":
            place.write_text("old")
        case "symlink":
            place.symlink_to(outside)
        case _:
            place.mkdir(mode=0o755)
            if what == "full folder":
                (place / "stdout").write_text("old")
    run = lay_out(workspaces, store, "e-2", outputs)
    assert not run.workspace.root.is_symlink()
    assert_fresh(run.workspace)
    assert (outside / "kept").exists()


def test_a_workspace_put_aside_that_has_gone_or_cannot_be_moved_is_no_trouble(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    first = lay_out(workspaces, store, "e-1")
    workspaces.put_aside(first.workspace)
    (aside,) = [workspaces._runs / name for name in names_in(workspaces)]
    workspaces.remove(Workspace(aside, (), (), (aside,), aside / "stdout", aside / "stderr"))
    assert not aside.exists()
    assert_fresh(lay_out(workspaces, store, "e-2").workspace)
    workspaces.put_aside(first.workspace)  # it is gone
    assert_fresh(lay_out(workspaces, store, "e-3").workspace)


def test_workspaces_put_aside_are_bounded_and_the_rest_removed(
    workspaces: Workspaces, store: MemoryBlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace_module, "_SPARES_MAX", 2)
    runs = [lay_out(workspaces, store, f"e-{number}") for number in range(5)]
    for run in runs:
        write(run)
        workspaces.put_aside(run.workspace)
    assert len(names_in(workspaces)) == 2


def test_a_workspace_with_inputs_is_not_put_aside(workspaces: Workspaces, store: MemoryBlockStore) -> None:
    cid = import_files(store, {"a": b"of another"}).cid
    spec = JobSpec(WasmTask(MODULE), inputs=(InputSource(cid, "/a"),))
    workspaces.put_aside(workspaces.materialise(store, "e-1", 1, spec))
    assert names_in(workspaces) == []


def test_a_restart_removes_what_an_earlier_life_put_aside_and_keeps_what_is_to_be_kept(
    tmp_path: Path, store: MemoryBlockStore
) -> None:
    earlier = Workspaces(tmp_path)
    kept, other = lay_out(earlier, store, "e-kept"), lay_out(earlier, store, "e-other")
    write(kept, b"it runs")
    earlier.put_aside(other.workspace)
    later = Workspaces(tmp_path)
    # Its name holds an id that is kept, too.
    assert later.sweep({"e-kept", "e-other", "spare-1-e-other"}) == []
    assert names_in(later) == ["e-kept-1"]
    assert kept.workspace.stdout.read_bytes() == b"it runs"
    assert_fresh(lay_out(later, store, "e-new").workspace)


def test_a_sweep_beside_workspaces_put_aside_leaves_the_next_run_whole(
    workspaces: Workspaces, store: MemoryBlockStore
) -> None:
    workspaces.put_aside(lay_out(workspaces, store, "e-1", 2).workspace)
    workspaces.sweep(())
    assert_fresh(lay_out(workspaces, store, "e-2", 2).workspace)
