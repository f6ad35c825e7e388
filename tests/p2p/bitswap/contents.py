"""What is exchanged with other implementations: files, a deep tree, a folder so large that it is sharded."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from bacalhau.model.cid import RAW, Cid
from tests.ipfs.conftest import make_tree

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.ipfs.blockstore import CollectableStore

FILE_BYTES = {"file": 16 * 1024 * 1024, "large file": 100 * 1024 * 1024}
FOLDER_ENTRIES = 6000


def raw_blocks(count: int, size_bytes: int) -> dict[Cid, bytes]:
    """So many blocks of this size without links."""
    drawn = random.Random(1)
    return {Cid.of(RAW, block): block for block in (drawn.randbytes(size_bytes) for _ in range(count))}


def make_content(folder: Path, shape: str, *, links: bool = True) -> Path:
    """The content of a shape ("file", "large file", "tree", "folder") below `folder`, different for each. Without
    `links` the tree has no symlinks."""
    if shape in FILE_BYTES:
        path = folder / "large"
        path.write_bytes(random.Random(str(folder)).randbytes(FILE_BYTES[shape]))
        return path
    path = folder / shape
    if shape == "tree":
        make_tree(path)
        if not links:
            for found in path.rglob("*"):
                if found.is_symlink():
                    found.unlink()
        deep = path.joinpath(*(f"level {number}" for number in range(40)))
        deep.mkdir(parents=True)
        (deep / "bottom").write_text(str(folder))
        return path
    path.mkdir()
    for number in range(FOLDER_ENTRIES):
        (path / f"a file with a long name, so that the folder is sharded, {number}").write_text(
            f"{folder} {number}"
        )
    return path


def sizes(store: CollectableStore) -> dict[bytes, int]:
    """Multihash and size of every block, but for the empty one, which nobody needs to send."""
    found = {key: store.size(Cid(1, RAW, key)) for key in store.keys()}  # noqa: SIM118
    return {key: size for key, size in found.items() if size}


def assert_same(expected: Path, found: Path) -> None:
    """Two files or trees with the same names, bytes and targets of links."""
    if expected.is_symlink():
        assert expected.readlink() == found.readlink()
    elif expected.is_dir():
        assert sorted(path.name for path in expected.iterdir()) == sorted(
            path.name for path in found.iterdir()
        )
        for path in expected.iterdir():
            assert_same(path, found / path.name)
    else:
        assert expected.read_bytes() == found.read_bytes()
