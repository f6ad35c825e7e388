"""The shape of UnixFS DAGs as `ipfs add` makes them: chunks, balanced trees, folders.

Owns every choice that decides a CID (ImportOptions) and the nodes that follow from it.
Reads no files and stores nothing: blocks go to the `emit` that the caller hands in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from bacalhau.ipfs import dagpb, hamt, unixfs
from bacalhau.ipfs.dagpb import Block, Link
from bacalhau.ipfs.errors import ImportRefused
from bacalhau.model.cid import DAG_PB, RAW, Cid

# Kubo's largest chunk: a block limit of 2 MiB less the framing of a dag-pb leaf.
MAX_CHUNK_BYTES: Final = 2 * 1024 * 1024 - 256

Emit = Callable[[Cid, Block], None]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Everything that decides which CID the same bytes get. The default is that of `ipfs add`.

    raw_leaves         chunks are raw blocks; None: yes for version 1, no for version 0
    chunk_size_bytes   1 to 2,096,896
    max_links          children of a file node
    shard_bytes        a folder is sharded when its estimated size is above this
    exact_shard_size   estimate by the folder's encoded block, in place of names and CIDs
    hidden             take names that start with a dot: yes, so that a folder arrives whole,
                       as `ipfs add -r --hidden` does; plain `ipfs add -r` leaves them out
    wrap               put the file or folder into a folder under its own name
    """

    cid_version: int = 0
    raw_leaves: bool | None = None
    chunk_size_bytes: int = 256 * 1024
    max_links: int = 174
    shard_bytes: int = 256 * 1024
    exact_shard_size: bool = False
    hidden: bool = True
    wrap: bool = False

    def __post_init__(self) -> None:
        if self.cid_version not in (0, 1):
            raise ImportRefused(f"the CID version is 0 or 1, not {self.cid_version}")
        if not 1 <= self.chunk_size_bytes <= MAX_CHUNK_BYTES:
            raise ImportRefused(f"a chunk has 1 to {MAX_CHUNK_BYTES} bytes, not {self.chunk_size_bytes}")
        if not 2 <= self.max_links <= 8192:
            raise ImportRefused(f"a file node has 2 to 8192 links, not {self.max_links}")

    @property
    def leaves_are_raw(self) -> bool:
        """Whether chunks are raw blocks."""
        return self.cid_version == 1 if self.raw_leaves is None else self.raw_leaves


# The profile of IPIP-499 for CIDs that agree across implementations.
UNIXFS_V1_2025: Final = ImportOptions(
    cid_version=1, chunk_size_bytes=1024 * 1024, max_links=1024, exact_shard_size=True
)


@dataclass(frozen=True, slots=True)
class Imported:
    """A DAG that was made. `size_bytes` is its content, `dag_bytes` its blocks (repeats counted)."""

    cid: Cid
    size_bytes: int
    dag_bytes: int


def make_leaf(content: Block, options: ImportOptions) -> tuple[Imported, Block]:
    """The leaf of one chunk, and its block."""
    if options.leaves_are_raw:
        return leaf_of(content, len(content), options), content
    head, tail = unixfs.file_leaf_frame(len(content))
    block = b"".join((head, content, tail))
    return leaf_of(block, len(content), options), block


def leaf_of(block: Block, size_bytes: int, options: ImportOptions) -> Imported:
    """The leaf whose `block` is ready and holds `size_bytes`; for any thread: hashing frees the GIL."""
    if options.leaves_are_raw:
        return Imported(Cid.of(RAW, block), size_bytes, len(block))
    return Imported(Cid.of(DAG_PB, block, version=options.cid_version), size_bytes, len(block))


class FileLayout:
    """Builds the balanced tree of one file from its leaves, in order, with one node a level open."""

    def __init__(self, emit: Emit, options: ImportOptions) -> None:
        self._emit = emit
        self._options = options
        self._levels: list[list[Imported]] = [[]]

    def add_leaf(self, leaf: Imported) -> None:
        """Append a leaf; the caller has emitted its block."""
        self._append(0, leaf)

    def finish(self) -> Imported:
        """Close all levels and return the root. At least one leaf was added."""
        level = 0
        while True:
            open_node = self._levels[level]
            if level == len(self._levels) - 1 and len(open_node) == 1:
                return open_node[0]
            self._append(level + 1, self._node(open_node))
            level += 1

    def _append(self, level: int, child: Imported) -> None:
        if level == len(self._levels):
            self._levels.append([])
        siblings = self._levels[level]
        # A full node is closed only when one more child is known: it may be the root.
        if len(siblings) == self._options.max_links:
            self._levels[level] = [child]
            self._append(level + 1, self._node(siblings))
        else:
            siblings.append(child)

    def _node(self, children: list[Imported]) -> Imported:
        sizes = [child.size_bytes for child in children]
        links = [Link("", child.cid, child.dag_bytes) for child in children]
        block = dagpb.encode(links, unixfs.file_data(sizes))
        cid = Cid.of(DAG_PB, block, version=self._options.cid_version)
        self._emit(cid, block)
        return Imported(cid, sum(sizes), len(block) + sum(child.dag_bytes for child in children))


def make_symlink(target: bytes, emit: Emit, options: ImportOptions) -> Imported:
    """A symlink to `target`, whatever that is."""
    block = dagpb.encode((), unixfs.symlink_data(target))
    cid = Cid.of(DAG_PB, block, version=options.cid_version)
    emit(cid, block)
    return Imported(cid, 0, len(block))


def make_directory(entries: Iterable[tuple[str, Imported]], emit: Emit, options: ImportOptions) -> Imported:
    """A folder of named entries, sharded where it is large. Names are checked by the caller."""
    links: list[Link] = []
    size_bytes = 0
    for name, entry in entries:
        links.append(Link(name, entry.cid, entry.dag_bytes))
        size_bytes += entry.size_bytes
    links.sort(key=lambda link: dagpb.encode_name(link.name))

    def emit_node(block: bytes, below_bytes: int) -> Link:
        cid = Cid.of(DAG_PB, block, version=options.cid_version)
        emit(cid, block)
        return Link("", cid, len(block) + below_bytes)

    below_bytes = sum(link.dag_bytes for link in links)
    block = dagpb.encode(links, unixfs.DIRECTORY_DATA)
    # The rule of boxo, ipld/unixfs/io/directory.go: sharded when above the limit, not at it.
    estimate = (
        len(block)
        if options.exact_shard_size
        else sum(len(dagpb.encode_name(link.name)) + len(link.cid.raw) for link in links)
    )
    root = hamt.build(links, emit_node) if estimate > options.shard_bytes else emit_node(block, below_bytes)
    return Imported(root.cid, size_bytes, root.dag_bytes)
