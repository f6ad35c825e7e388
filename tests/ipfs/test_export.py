"""Reading and exporting: everything comes back as it went in, and hostile DAGs harm nothing."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacalhau.ipfs import dagpb, reader, unixfs
from bacalhau.ipfs.blockstore import BlockStore, CollectableStore, MemoryBlockStore
from bacalhau.ipfs.dag import find_missing, iter_dag
from bacalhau.ipfs.dagpb import Link
from bacalhau.ipfs.errors import (
    BlockNotFound,
    ExportRefused,
    InvalidBlock,
    IpfsError,
    LimitExceeded,
    PathNotFound,
    UnsafePath,
    WrongKind,
)
from bacalhau.ipfs.exporter import check_symlink, export
from bacalhau.ipfs.importer import import_files, import_path, import_stream
from bacalhau.ipfs.layout import ImportOptions
from bacalhau.ipfs.reader import Measured, TreeLimits
from bacalhau.ipfs.unixfs import EntryKind
from bacalhau.model.cid import DAG_PB, RAW, Cid
from tests.ipfs.conftest import make_tree, random_bytes

if TYPE_CHECKING:
    from pathlib import Path


def put(store: BlockStore, data: bytes, *links: Link) -> Cid:
    """Store a dag-pb node as a stranger may have made it."""
    block = dagpb.encode(links, data)
    cid = Cid.of(DAG_PB, block)
    store.put_many([(cid, block)])
    return cid


def leaf(store: BlockStore, content: bytes) -> Cid:
    cid = Cid.of(RAW, content)
    store.put_many([(cid, content)])
    return cid


def snapshot(folder: Path) -> dict[str, bytes | str | None]:
    """Every entry below `folder`: a file's content, a symlink's target, None for a folder."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    "options", [ImportOptions(), ImportOptions(cid_version=1)], ids=["version 0", "version 1"]
)
def test_a_tree_comes_back_as_it_was(any_store: BlockStore, tmp_path: Path, options: ImportOptions) -> None:
    make_tree(tmp_path / "tree")
    imported = import_path(any_store, tmp_path / "tree", options=options)
    written: list[int] = []
    measured = export(any_store, imported.cid, tmp_path / "out", progress=written.append, verify=True)
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "tree")
    assert written[-1] == imported.size_bytes
    assert measured.entries == len(snapshot(tmp_path / "tree")) + 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "blocks") == ["out", "tree"]


trees = st.recursive(
    st.binary(max_size=100),
    lambda below: st.dictionaries(
        st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20
        ).filter(lambda name: name not in (".", "..")),
        below,
        max_size=4,
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(tree=trees, cid_version=st.sampled_from([0, 1]), sharded=st.booleans())
def test_any_tree_comes_back_as_it_was(
    tree: object, cid_version: int, sharded: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("trees")

    def make(path: Path, content: object) -> None:
        if isinstance(content, bytes):
            path.write_bytes(content)
            return
        assert isinstance(content, dict)
        path.mkdir()
        for name, below in content.items():
            make(path / name, below)

    make(folder / "tree", tree)
    store = MemoryBlockStore()
    options = ImportOptions(
        cid_version=cid_version, chunk_size_bytes=16, max_links=3, shard_bytes=40 if sharded else 1 << 18
    )
    imported = import_path(store, folder / "tree", options=options)
    export(store, imported.cid, folder / "out")
    if isinstance(tree, bytes):
        assert (folder / "out").read_bytes() == tree
    else:
        assert snapshot(folder / "out") == snapshot(folder / "tree")


def test_a_sharded_folder_is_listed_and_resolved_like_any_other(tmp_path: Path) -> None:
    store = MemoryBlockStore()
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(1500):
        (folder / f"entry number {index:030d}").write_bytes(b"%d" % index)
    root = import_path(store, folder, options=ImportOptions(shard_bytes=1000)).cid
    assert unixfs.decode(root, store.get(root)).type is unixfs.NodeType.HAMT_SHARD
    entries = {entry.name: entry for entry in reader.ls(store, root)}
    assert len(entries) == 1500
    some = entries[f"entry number {1234:030d}"]
    assert (some.kind, some.size_bytes) == (EntryKind.FILE, 4)
    assert reader.resolve(store, root, some.name) == some.cid
    assert reader.measure(store, root).entries == 1501
    with pytest.raises(PathNotFound):
        reader.resolve(store, root, "entry number 1")
    export(store, root, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_stat_and_ls_say_what_is_there(store: BlockStore, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    imported = import_path(store, tmp_path / "tree", options=ImportOptions(cid_version=1))
    stat = reader.stat(store, imported.cid)
    assert (stat.kind, stat.link_count, stat.dag_bytes) == (EntryKind.DIRECTORY, 6, imported.dag_bytes)
    listed = {entry.name: (entry.kind, entry.size_bytes) for entry in reader.ls(store, imported.cid)}
    assert listed == {
        ".hidden": (EntryKind.FILE, 7),
        "dangling": (EntryKind.SYMLINK, 7),
        "deep": (EntryKind.DIRECTORY, 0),
        "empty": (EntryKind.FILE, 0),
        "empty folder": (EntryKind.DIRECTORY, 0),
        "héllo-世界": (EntryKind.FILE, 8),
    }
    chunks = reader.resolve(store, imported.cid, "deep/chunks")
    assert reader.stat(store, chunks).size_bytes == 600_000
    assert reader.resolve(store, imported.cid, "/") == imported.cid


def test_ls_lists_what_is_not_here_too(store: CollectableStore) -> None:
    folder = import_files(store, {"a": b"x"}, options=ImportOptions(cid_version=1))
    store.delete_many([Cid.of(RAW, b"x").multihash])
    (entry,) = reader.ls(store, folder.cid)
    assert (entry.name, entry.kind, entry.size_bytes, entry.dag_bytes) == ("a", None, None, 1)


def test_a_path_that_leads_nowhere_is_refused_with_the_reason() -> None:
    store = MemoryBlockStore()
    root = import_files(store, {"file": b"x"}).cid
    with pytest.raises(PathNotFound, match="there is no 'nothing'"):
        reader.resolve(store, root, "nothing")
    with pytest.raises(WrongKind, match="is a file, so there is no 'below'"):
        reader.resolve(store, root, "file/below")
    with pytest.raises(WrongKind, match="is a directory, not a file"):
        list(reader.read_file(store, root))
    with pytest.raises(WrongKind, match="is a file, not a folder"):
        list(reader.ls(store, reader.resolve(store, root, "file")))


def test_parts_of_a_file_are_read_without_the_rest() -> None:
    store = MemoryBlockStore()
    content = random_bytes(1_000_000)
    root = import_stream(store, [content], options=ImportOptions(cid_version=1)).cid
    for key in [Cid.of(RAW, content[start : start + 262_144]).multihash for start in (0, 786_432)]:
        store.delete_many([key])
    assert b"".join(reader.read_file(store, root, 262_144, 524_288)) == content[262_144:786_432]
    with pytest.raises(BlockNotFound):
        list(reader.read_file(store, root, 262_143, 2))


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../escape", "/absolute", "nul\0"])
def test_a_folder_with_a_name_that_escapes_is_refused_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    store = MemoryBlockStore()
    good, bad = Link("good", leaf(store, b"x"), 1), Link(name, leaf(store, b"evil"), 4)
    root = put(store, unixfs.DIRECTORY_DATA, good, bad)
    (tmp_path / "in").mkdir()
    with pytest.raises(UnsafePath):
        export(store, root, tmp_path / "in" / "out")
    with pytest.raises(UnsafePath):
        list(reader.ls(store, root))
    assert list(tmp_path.rglob("*")) == [tmp_path / "in"]


def test_a_sharded_folder_with_a_name_that_escapes_is_refused(tmp_path: Path) -> None:
    store = MemoryBlockStore()
    root = put(store, unixfs.shard_data(b"\x01", 256), Link("00../escape", leaf(store, b"evil"), 4))
    with pytest.raises(UnsafePath):
        export(store, root, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("link", "/etc/passwd"),
        ("link", ".."),
        ("link", "../sibling"),
        ("a/link", "../../x"),
        ("a/link", "./../.././x"),
        ("link", "a/../../x"),
        # Through a symlink "a" to "b/c", a/.. is b: what comes after a name cannot be judged.
        ("link", "a/.."),
        ("link", ""),
        ("", "x"),
    ],
)
def test_a_symlink_that_can_leave_the_folder_is_refused(path: str, target: str) -> None:
    with pytest.raises(UnsafePath, match="symlink"):
        check_symlink(path, target)


@pytest.mark.parametrize(
    ("path", "target"), [("link", "a"), ("link", "./a//b"), ("a/link", "../x"), ("a/b/link", "../../x/y")]
)
def test_a_symlink_inside_the_folder_is_taken(path: str, target: str) -> None:
    check_symlink(path, target)


@pytest.mark.parametrize("target", ["/etc", "..", "../.."])
def test_a_folder_cannot_be_written_through_a_symlink_of_the_same_name(tmp_path: Path, target: str) -> None:
    store = MemoryBlockStore()
    link = put(store, unixfs.symlink_data(target.encode()))
    evil = put(store, unixfs.DIRECTORY_DATA, Link("evil", leaf(store, b"evil"), 4))
    root = put(store, unixfs.DIRECTORY_DATA, Link("a", link, 1), Link("a", evil, 1))
    (tmp_path / "in").mkdir()
    with pytest.raises(UnsafePath):
        export(store, root, tmp_path / "in" / "out")
    assert list(tmp_path.rglob("*")) == [tmp_path / "in"]


def test_a_name_that_comes_twice_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    store = MemoryBlockStore()
    inside = put(store, unixfs.symlink_data(b"b"))
    for first in (inside, leaf(store, b"x")):
        root = put(store, unixfs.DIRECTORY_DATA, Link("a", first, 1), Link("a", leaf(store, b"y"), 1))
        with pytest.raises(ExportRefused, match="File exists"):
            export(store, root, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


def test_an_export_refuses_a_place_that_is_taken_or_not_there(tmp_path: Path) -> None:
    store = MemoryBlockStore()
    root = import_files(store, {"a": b"x"}).cid
    (tmp_path / "dangling").symlink_to("nowhere")
    for taken in (tmp_path, tmp_path / "dangling"):
        with pytest.raises(ExportRefused, match="there already"):
            export(store, root, taken)
    with pytest.raises(ExportRefused, match="not a folder"):
        export(store, root, tmp_path / "no" / "out")


def test_an_export_that_cannot_fit_the_disk_is_refused_before_it_starts(tmp_path: Path) -> None:
    store = MemoryBlockStore()
    root = file_bomb(store, 4)  # 100 GB
    for _ in range(2):
        root = put(store, unixfs.DIRECTORY_DATA, *(Link(f"{index}", root, 1) for index in range(50)))
    limits = TreeLimits(max_bytes=1 << 60)
    with pytest.raises(ExportRefused, match="needs 250000000000000 bytes"):
        export(store, root, tmp_path / "out", limits=limits)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = MemoryBlockStore()
    content = random_bytes(1_000_000)
    root = import_stream(store, [content], options=ImportOptions(cid_version=1)).cid
    store.delete_many([Cid.of(RAW, content[786_432:]).multihash])
    with pytest.raises(BlockNotFound):
        export(store, root, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_block_is_found_where_reads_are_verified() -> None:
    store = MemoryBlockStore()
    cid = Cid.of(RAW, b"right")
    store.put_many([(cid, b"wrong")])
    assert list(reader.read_file(store, cid)) == [b"wrong"]
    with pytest.raises(InvalidBlock, match="damaged"):
        list(reader.read_file(store, cid, verify=True))


def folder_bomb(store: BlockStore, depth: int) -> Cid:
    """A folder of 100 links to one folder of 100 links to one folder, and so on: 100 ** depth files."""
    below, size = leaf(store, b"x" * 1000), 1000
    for _ in range(depth):
        below = put(
            store, unixfs.DIRECTORY_DATA, *(Link(f"{index:02d}", below, size) for index in range(100))
        )
    return below


def file_bomb(store: BlockStore, depth: int) -> Cid:
    """A file of 100 times the same part, which is 100 times the same part, and so on."""
    below, size = leaf(store, b"x" * 1000), 1000
    for _ in range(depth):
        below = put(store, unixfs.file_data([size] * 100), *[Link("", below, size)] * 100)
        size *= 100
    return below


def test_a_dag_bomb_is_refused_at_once(tmp_path: Path) -> None:
    store = MemoryBlockStore()
    large_file = file_bomb(store, 4)
    many_large_files = [Link(f"{index}", large_file, 1) for index in range(20_000)]
    bombs = [
        (folder_bomb(store, 8), "entries"),
        (file_bomb(store, 8), "bytes"),
        (put(store, unixfs.DIRECTORY_DATA, *many_large_files), "bytes"),
    ]
    start = time.monotonic()
    for bomb, says in bombs:
        with pytest.raises(LimitExceeded, match=says):
            export(store, bomb, tmp_path / "out")
        with pytest.raises(LimitExceeded, match=says):
            next(reader.walk(store, bomb))
    # Walking them would take years.
    assert time.monotonic() - start < 20
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_of_shards_is_refused_at_once(tmp_path: Path) -> None:
    store = MemoryBlockStore()
    below = put(store, unixfs.shard_data(b"\x01", 256), Link("00x", leaf(store, b"x"), 1))
    for _ in range(7):
        links = [Link(f"{slot:02X}", below, 1) for slot in range(256)]
        below = put(store, unixfs.shard_data(b"\xff" * 32, 256), *links)
    with pytest.raises(LimitExceeded, match="entries"):
        export(store, below, tmp_path / "out")


@pytest.mark.parametrize("depth", [200, 5000])
def test_folders_nested_too_deep_are_refused(tmp_path: Path, depth: int) -> None:
    store = MemoryBlockStore()
    root = put(store, unixfs.DIRECTORY_DATA)
    for _ in range(depth):
        root = put(store, unixfs.DIRECTORY_DATA, Link("d", root, 1))
    with pytest.raises(LimitExceeded, match="deeper"):
        export(store, root, tmp_path / "out")


def test_a_file_nested_too_deep_is_refused() -> None:
    store = MemoryBlockStore()
    root = leaf(store, b"x")
    for _ in range(70):
        root = put(store, unixfs.file_data([1]), Link("", root, 1))
    with pytest.raises(LimitExceeded, match="deeper than 64"):
        list(reader.read_file(store, root))


def test_a_cycle_which_only_a_damaged_store_can_hold_ends_every_walk(tmp_path: Path) -> None:
    store = MemoryBlockStore()
    folder, file, shard = (Cid.of(DAG_PB, name) for name in (b"folder", b"file", b"shard"))
    store.put_many(
        [
            (folder, dagpb.encode([Link("d", folder, 1)], unixfs.DIRECTORY_DATA)),
            (file, dagpb.encode([Link("", file, 1)], unixfs.file_data([1]))),
            (shard, dagpb.encode([Link("00", shard, 1)], unixfs.shard_data(b"\x01", 256))),
        ]
    )
    for cid in (folder, file, shard):
        assert [found for found, _ in iter_dag(store, cid)] == [cid]
        assert find_missing(store, cid) is None
    for cid in (folder, shard):
        with pytest.raises(LimitExceeded, match="deeper"):
            export(store, cid, tmp_path / "out")
    with pytest.raises(InvalidBlock, match="deeper"):
        list(reader.ls(store, shard))
    with pytest.raises(LimitExceeded, match="deeper"):
        export(store, file, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_any_number_of_empty_parts_costs_nothing() -> None:
    store = MemoryBlockStore()
    below = leaf(store, b"")
    for _ in range(8):
        below = put(store, unixfs.file_data([0] * 1000), *[Link("", below, 0)] * 1000)
    assert list(reader.read_file(store, below)) == []


def test_a_file_that_lies_about_its_parts_is_refused() -> None:
    store = MemoryBlockStore()
    part = leaf(store, b"four")
    for claimed in (3, 5):
        root = put(store, unixfs.file_data([claimed]), Link("", part, 4))
        with pytest.raises(InvalidBlock, match=f"not the {claimed} bytes"):
            list(reader.read_file(store, root))
    folder = put(store, unixfs.DIRECTORY_DATA)
    root = put(store, unixfs.file_data([4]), Link("", folder, 4))
    with pytest.raises(InvalidBlock):
        list(reader.read_file(store, root))


@pytest.mark.parametrize(
    "limits",
    [TreeLimits(max_bytes=600_000), TreeLimits(max_entries=9), TreeLimits(max_depth=2)],
    ids=["bytes", "entries", "depth"],
)
def test_limits_hold_exactly(tmp_path: Path, limits: TreeLimits) -> None:
    store = MemoryBlockStore()
    make_tree(tmp_path / "tree")
    root = import_path(store, tmp_path / "tree").cid
    measured = reader.measure(store, root)
    assert measured == Measured(11, 600_000 + 1 + 8 + 7 + 7 + len("../chunks"), 3)
    with pytest.raises(LimitExceeded):
        reader.measure(store, root, limits)
    exact = TreeLimits(max_bytes=measured.size_bytes, max_entries=11, max_depth=3)
    assert reader.measure(store, root, exact) == measured


@given(st.data())
def test_a_mutated_dag_raises_nothing_but_its_own_errors(data: st.DataObject) -> None:
    store = MemoryBlockStore()
    options = ImportOptions(
        chunk_size_bytes=4, max_links=2, shard_bytes=data.draw(st.sampled_from([0, 1000]))
    )
    root = import_files(store, {"a": b"0123456789", "b": b"", "c": b"xyz"}, options=options).cid
    # The store takes the caller's word, so a block can be put that its CID does not fit.
    key = data.draw(st.sampled_from(sorted(store.keys())))
    block = bytearray(store.get(Cid(1, DAG_PB, key)))
    block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    store.delete_many([key])
    store.put_many([(Cid(1, DAG_PB, key), bytes(block))])
    try:
        for entry in reader.walk(store, root):
            if entry.kind is EntryKind.FILE:
                list(reader.read_file(store, entry.cid))
    except IpfsError:
        pass
