"""The importer beyond its CIDs: streams, folders in memory, trees entry by entry, refusals, memory."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.ipfs import reader
from bacalhau.ipfs.blockstore import BlockStore, MemoryBlockStore
from bacalhau.ipfs.dag import find_missing
from bacalhau.ipfs.errors import ImportRefused, UnsafePath
from bacalhau.ipfs.importer import MAX_DEPTH, TreeImport, import_files, import_path, import_stream
from bacalhau.ipfs.layout import ImportOptions
from bacalhau.ipfs.unixfs import EntryKind
from tests.ipfs.conftest import make_tree, random_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bacalhau.ipfs.packstore import PackBlockStore
    from bacalhau.model.cid import Cid

REPOSITORY = Path(__file__).parents[2]


def content(store: BlockStore, imported: Cid) -> bytes:
    return b"".join(reader.read_file(store, imported))


@pytest.mark.parametrize("size", [0, 1, 300_000, 5_000_000])
def test_a_stream_gets_the_cid_of_the_file_whatever_its_chunks(tmp_path: Path, size: int) -> None:
    store = MemoryBlockStore()
    path = tmp_path / "file"
    path.write_bytes(random_bytes(size))
    expected = import_path(store, path)
    with path.open("rb") as file:
        assert import_stream(store, file) == expected
    assert import_stream(store, io.BytesIO(path.read_bytes())) == expected
    chunks = (path.read_bytes()[start : start + 70_001] for start in range(0, size, 70_001))
    assert import_stream(store, chunks) == expected
    assert content(store, expected.cid) == path.read_bytes()


@given(st.lists(st.binary(max_size=40), max_size=10), st.integers(1, 16), st.integers(2, 4), st.booleans())
def test_what_was_imported_is_read_back_whole_and_in_parts(
    chunks: list[bytes], chunk_size_bytes: int, max_links: int, raw_leaves: bool
) -> None:
    store = MemoryBlockStore()
    options = ImportOptions(chunk_size_bytes=chunk_size_bytes, max_links=max_links, raw_leaves=raw_leaves)
    whole = b"".join(chunks)
    imported = import_stream(store, chunks, options=options)
    assert imported.size_bytes == len(whole)
    for offset, length in ((0, None), (3, None), (0, 5), (7, 11), (len(whole), 1)):
        end = None if length is None else offset + length
        assert b"".join(reader.read_file(store, imported.cid, offset, length)) == whole[offset:end]


def test_the_sizes_of_an_import_are_those_of_its_content_and_its_dag(
    store: BlockStore, tmp_path: Path
) -> None:
    make_tree(tmp_path / "tree")
    imported = import_path(store, tmp_path / "tree")
    files = [path for path in (tmp_path / "tree").rglob("*") if path.is_file() and not path.is_symlink()]
    assert imported.size_bytes == sum(path.stat().st_size for path in files)
    assert imported.dag_bytes == reader.stat(store, imported.cid).dag_bytes
    assert find_missing(store, imported.cid) is None


def test_progress_counts_the_bytes_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5_000_000))
    seen: list[int] = []
    import_path(MemoryBlockStore(), tmp_path / "file", progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 5_000_000


def test_a_folder_in_memory_gets_the_cid_of_the_one_on_disk(store: BlockStore, tmp_path: Path) -> None:
    files = {"stdout": b"out\n", "stderr": b"", "exitCode": b"0", "large": random_bytes(600_000)}
    folder = tmp_path / "result"
    (folder / "outputs").mkdir(parents=True)
    (folder / "outputs" / "image").write_bytes(b"png")
    for name, file_content in files.items():
        (folder / name).write_bytes(file_content)
    outputs = import_path(store, folder / "outputs")
    made = import_files(store, files, extra={"outputs": outputs})
    assert made == import_path(store, folder)
    assert find_missing(store, made.cid) is None


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\0"])
def test_a_folder_in_memory_refuses_names_that_are_none(name: str) -> None:
    with pytest.raises(UnsafePath):
        import_files(MemoryBlockStore(), {name: b""})


def test_a_folder_in_memory_refuses_a_name_given_twice() -> None:
    store = MemoryBlockStore()
    with pytest.raises(ImportRefused, match="'a' is given twice"):
        import_files(store, {"a": b""}, extra={"a": import_files(store, {})})


def test_a_tree_that_arrives_entry_by_entry_gets_the_cid_of_the_one_on_disk(
    store: BlockStore, tmp_path: Path
) -> None:
    root = tmp_path / "tree"
    make_tree(root)
    with TreeImport(store) as tree:
        tree.directory("")
        for path in sorted(root.rglob("*"), reverse=True):
            name = str(path.relative_to(root))
            if path.is_symlink():
                tree.symlink(name, os.readlink(path))
            elif path.is_dir():
                tree.directory(name)
            else:
                tree.file(name, [path.read_bytes()[:5], path.read_bytes()[5:]])
        assert tree.finish() == import_path(store, root)


def test_a_tree_of_one_file_at_the_root_is_that_file(store: BlockStore) -> None:
    with TreeImport(store) as tree:
        expected = tree.file("", [b"content"])
        assert tree.finish() == expected
    assert content(store, expected.cid) == b"content"


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/./b", "a/../../b", "a/", "x" * 300])
def test_a_tree_refuses_paths_that_lead_elsewhere(path: str) -> None:
    with TreeImport(MemoryBlockStore()) as tree, pytest.raises(UnsafePath):
        tree.file(path, [b""])


def test_a_tree_refuses_entries_that_contradict_each_other() -> None:
    with TreeImport(MemoryBlockStore()) as tree:
        tree.file("a", [b""])
        with pytest.raises(ImportRefused, match="given twice"):
            tree.symlink("a", "b")
        with pytest.raises(ImportRefused, match="no folder"):
            tree.file("a/b", [b""])
        with pytest.raises(ImportRefused, match="deeper"):
            tree.directory("/".join("d" * (MAX_DEPTH + 1)))
        tree.file("", [b""])
        with pytest.raises(ImportRefused, match="root is a file"):
            tree.finish()


def test_pipes_and_sockets_are_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(ImportRefused, match="folder/pipe is a socket, pipe or device"):
        import_path(MemoryBlockStore(), folder)
    (folder / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "socket"))
        with pytest.raises(ImportRefused, match="folder/socket is a socket"):
            import_path(MemoryBlockStore(), folder)


def test_what_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="missing cannot be read: No such file"):
        import_path(MemoryBlockStore(), tmp_path / "missing")
    with pytest.raises(ImportRefused, match="cannot be read: No such file"):
        import_path(MemoryBlockStore(), tmp_path / "missing" / "too")


def test_a_symlink_is_imported_as_one_and_never_followed(store: BlockStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to("../secret")
    imported = import_path(store, tmp_path / "folder")
    (entry,) = reader.ls(store, imported.cid)
    assert (entry.kind, store.get(entry.cid)) == (EntryKind.SYMLINK, b"\n\r\x08\x04\x12\t../secret")
    assert imported.size_bytes == 0


def test_folders_deeper_than_the_limit_are_refused(tmp_path: Path) -> None:
    deepest = tmp_path / "deep"
    deepest.mkdir()
    for _ in range(MAX_DEPTH + 1):
        deepest = deepest / "d"
        deepest.mkdir()
    with pytest.raises(ImportRefused, match="deeper than the limit"):
        import_path(MemoryBlockStore(), tmp_path / "deep")


def test_names_that_are_no_utf8_survive(store: BlockStore, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / os.fsdecode(b"\xff\xfe")).write_bytes(b"x")
    imported = import_path(store, tmp_path / "folder")
    assert [os.fsencode(entry.name) for entry in reader.ls(store, imported.cid)] == [b"\xff\xfe"]


def test_an_import_that_fails_leaves_the_store_usable(pack_store: PackBlockStore) -> None:
    def chunks() -> Iterator[bytes]:
        yield random_bytes(5_000_000)
        raise ConnectionError("the client went away")

    with pytest.raises(ConnectionError):
        import_stream(pack_store, chunks())
    imported = import_stream(pack_store, [random_bytes(5_000_000)])
    assert content(pack_store, imported.cid) == random_bytes(5_000_000)


# In a process of its own, so that only this counts. What it prints is its peak memory in bytes.
MEMORY_CHILD = """
import os, sys
from pathlib import Path
from bacalhau.ipfs.exporter import export
from bacalhau.ipfs.importer import import_stream
from bacalhau.ipfs.packstore import PackBlockStore
directory, mebibytes = Path(sys.argv[1]), int(sys.argv[2])
store = PackBlockStore(directory / "blocks")
root = import_stream(store, (os.urandom(1 << 20) for _ in range(mebibytes))).cid
export(store, root, directory / "out")
store.close()
# Not ru_maxrss: that keeps the peak of the process which this one was forked from.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024)
"""


def test_the_memory_of_an_import_and_an_export_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for mebibytes in (32, 256):
        directory = tmp_path / str(mebibytes)
        directory.mkdir()
        finished = subprocess.run(
            [sys.executable, "-c", MEMORY_CHILD, directory, str(mebibytes)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            check=True,
            capture_output=True,
            timeout=60,
        )
        peaks.append(int(finished.stdout))
    assert peaks[1] < 150 << 20
    assert peaks[1] - peaks[0] < 16 << 20


@pytest.mark.parametrize(
    "options", [{"cid_version": 2}, {"chunk_size_bytes": 0}, {"chunk_size_bytes": 1 << 21}, {"max_links": 1}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ImportRefused):
        ImportOptions(**options)  # type: ignore[arg-type]  # bools and ints are mixed in the fields
