"""The importer's CIDs are those of `ipfs add`, for every option and shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.importer import import_path
from bacalhau.ipfs.layout import UNIXFS_V1_2025, ImportOptions
from tests.ipfs.conftest import KuboRepository, make_tree, random_bytes

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = {
    "defaults": ([], ImportOptions()),
    "raw leaves": (["--raw-leaves"], ImportOptions(raw_leaves=True)),
    "version 1": (["--cid-version=1"], ImportOptions(cid_version=1)),
    "version 1 without raw leaves": (
        ["--cid-version=1", "--raw-leaves=false"],
        ImportOptions(cid_version=1, raw_leaves=False),
    ),
    "1 MiB chunks": (["--chunker=size-1048576"], ImportOptions(chunk_size_bytes=1024 * 1024)),
    "odd chunks": (["--chunker=size-1000"], ImportOptions(chunk_size_bytes=1000)),
    "3 links": (["--max-file-links=3"], ImportOptions(max_links=3)),
    "wrapped": (["--wrap-with-directory"], ImportOptions(wrap=True)),
    "profile of 2025": (
        ["--cid-version=1", "--chunker=size-1048576", "--max-file-links=1024"],
        UNIXFS_V1_2025,
    ),
}
CHUNK = 256 * 1024
SIZES = {
    "empty": 0,
    "one byte": 1,
    "chunk less one": CHUNK - 1,
    "chunk": CHUNK,
    "chunk and one": CHUNK + 1,
    "group": 8 * CHUNK,
    "group and one": 8 * CHUNK + 1,
}


def kubo_cid(repository: KuboRepository, path: Path, *arguments: str) -> str:
    output = repository.run("add", "--only-hash", "-r", "-Q", *arguments, path)
    return output.decode().split()[-1]


@pytest.mark.parametrize("name", OPTIONS)
def test_files_of_every_telling_size_get_the_cid_of_kubo(
    name: str, kubo_repository: KuboRepository, tmp_path: Path
) -> None:
    arguments, options = OPTIONS[name]
    # One folder of all sizes: its CID is equal only if each of theirs is.
    folder = tmp_path / "sizes"
    folder.mkdir()
    for file_name, size in SIZES.items():
        (folder / file_name).write_bytes(random_bytes(size))
    (folder / "175 chunks").write_bytes(bytes(174 * CHUNK) + b"x")
    expected = kubo_cid(kubo_repository, folder, "--hidden", *arguments)
    assert str(import_path(MemoryBlockStore(), folder, options=options).cid) == expected


@pytest.mark.parametrize("name", OPTIONS)
def test_a_tree_of_every_shape_gets_the_cid_of_kubo(
    name: str, kubo_repository: KuboRepository, tmp_path: Path
) -> None:
    arguments, options = OPTIONS[name]
    folder = tmp_path / "tree"
    folder.mkdir()
    make_tree(folder)
    expected = kubo_cid(kubo_repository, folder, "--hidden", *arguments)
    assert str(import_path(MemoryBlockStore(), folder, options=options).cid) == expected


@pytest.mark.parametrize("name", ["defaults", "version 1", "raw leaves", "wrapped"])
@pytest.mark.parametrize("size", [0, 1, CHUNK + 1])
def test_a_single_file_gets_the_cid_of_kubo(
    name: str, size: int, kubo_repository: KuboRepository, tmp_path: Path
) -> None:
    arguments, options = OPTIONS[name]
    path = tmp_path / "single"
    path.write_bytes(random_bytes(size))
    assert str(import_path(MemoryBlockStore(), path, options=options).cid) == kubo_cid(
        kubo_repository, path, *arguments
    )


def test_hidden_files_can_be_left_out_as_kubo_does_by_default(
    kubo_repository: KuboRepository, tmp_path: Path
) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    make_tree(folder)
    imported = import_path(MemoryBlockStore(), folder, options=ImportOptions(hidden=False))
    assert str(imported.cid) == kubo_cid(kubo_repository, folder)
    assert imported.cid != import_path(MemoryBlockStore(), folder).cid


def test_a_symlink_as_root_gets_the_cid_of_kubo(kubo_repository: KuboRepository, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("anywhere/at/all")
    assert str(import_path(MemoryBlockStore(), link).cid) == kubo_cid(kubo_repository, link)


# In Kubo's rule a folder with version 0 CIDs weighs its names and 34 bytes each; it is sharded above 262,144.
@pytest.mark.parametrize("name", ["defaults", "version 1"])
@pytest.mark.parametrize(
    ("count", "name_bytes"),
    [(4096, 30), (4096, 28), (4097, 30), (6000, 12)],
    ids=["at the limit for version 0", "at the limit for version 1", "above", "many"],
)
def test_a_large_folder_is_sharded_exactly_where_kubo_does_it(
    name: str, count: int, name_bytes: int, kubo_repository: KuboRepository, tmp_path: Path
) -> None:
    arguments, options = OPTIONS[name]
    folder = tmp_path / "many"
    (folder / "below").mkdir(parents=True)
    for index in range(count):
        (folder / "below" / f"{index:0{name_bytes}d}").write_bytes(b"%d" % (index % 5))
    expected = kubo_cid(kubo_repository, folder, *arguments)
    assert str(import_path(MemoryBlockStore(), folder, options=options).cid) == expected


def test_the_profile_of_2025_shards_by_the_size_of_the_block(
    kubo: Path, kubo_repository: KuboRepository, tmp_path: Path
) -> None:
    repository = KuboRepository(kubo, tmp_path / "repository")
    repository.run("init", "--profile=test,unixfs-v1-2025")
    folder = tmp_path / "folder"
    folder.mkdir()
    # Names and CIDs alone stay below the limit (4,000 * 61), the encoded block does not.
    for index in range(4000):
        (folder / f"{index:025d}").write_bytes(b"x")
    imported = import_path(MemoryBlockStore(), folder, options=UNIXFS_V1_2025)
    assert str(imported.cid) == kubo_cid(repository, folder)
    assert imported.cid != import_path(MemoryBlockStore(), folder, options=ImportOptions(cid_version=1)).cid


def test_the_size_of_a_dag_is_what_kubo_says(kubo_repository: KuboRepository, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    make_tree(folder)
    root = kubo_repository.run("add", "-r", "-Q", "--hidden", folder).decode().strip()
    stat = kubo_repository.run("files", "stat", "--format=<cumulsize>", f"/ipfs/{root}")
    assert import_path(MemoryBlockStore(), folder).dag_bytes == int(stat)
