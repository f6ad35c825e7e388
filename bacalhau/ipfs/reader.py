"""Files and folders as they stand in a store: stat, list, resolve, read, measure, walk.

Owns the reading side of UnixFS and the limits against hostile DAGs. Writes nothing.
A DAG cannot have cycles (a block would have to contain its own hash), but a few blocks can
expand to any number of entries and bytes: `measure` finds that by looking at each block
once, and `read_file` yields exactly as many bytes as a file's root claims, or raises.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bacalhau.ipfs import dagpb, hamt, unixfs
from bacalhau.ipfs.errors import InvalidBlock, LimitExceeded, PathNotFound, WrongKind
from bacalhau.ipfs.unixfs import EntryKind, NodeType, UnixFsNode
from bacalhau.model.cid import DAG_PB, RAW, Cid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bacalhau.ipfs.blockstore import BlockStore

_FILE_DEPTH_MAX: Final = 64
# Folders and shards below one another; one frame each has to fit into the interpreter's stack.
_BLOCK_DEPTH_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """What a file or folder may at most expand to; `max_depth` counts folders in folders."""

    max_bytes: int = 1 << 40
    max_entries: int = 1_000_000
    max_depth: int = 128


@dataclass(frozen=True, slots=True)
class Stat:
    """What a CID is. `kind` is None where it is no UnixFS; `dag_bytes` is what its links claim."""

    cid: Cid
    kind: EntryKind | None
    size_bytes: int
    dag_bytes: int
    link_count: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a folder. `kind` and `size_bytes` (0 for a folder) are None where its block is not here."""

    name: str
    cid: Cid
    dag_bytes: int
    kind: EntryKind | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class WalkedEntry:
    """An entry of a tree: `path` is relative, joined by "/", "" for the root; `target` is a symlink's."""

    path: str
    cid: Cid
    kind: EntryKind
    size_bytes: int
    target: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What a tree expands to, as its blocks claim; `depth` counts folders in folders."""

    entries: int
    size_bytes: int
    depth: int


_DEFAULT_LIMITS: Final = TreeLimits()


def stat(store: BlockStore, cid: Cid) -> Stat:
    """What `cid` is, from its own block. Raises BlockNotFound, InvalidBlock."""
    block = store.get(cid)
    if cid.codec not in (RAW, DAG_PB):
        return Stat(cid, None, len(block), len(block), 0)
    node = unixfs.decode(cid, block)
    dag_bytes = len(block) + sum(link.dag_bytes for link in node.links)
    return Stat(cid, node.kind, node.size_bytes, dag_bytes, len(node.links))


def ls(store: BlockStore, cid: Cid) -> Iterator[Entry]:
    """The entries of a folder, one by one; shards are merged (and then not in order of names).

    Raises BlockNotFound, InvalidBlock, WrongKind, UnsafePath for a name that is none.
    """
    for link in links(store, cid):
        if link.cid.codec == RAW and store.has(link.cid):
            yield Entry(link.name, link.cid, link.dag_bytes, EntryKind.FILE, store.size(link.cid))
        elif link.cid.codec != RAW and store.has(link.cid):
            node = _load(store, link.cid)
            yield Entry(link.name, link.cid, link.dag_bytes, node.kind, node.size_bytes)
        else:
            yield Entry(link.name, link.cid, link.dag_bytes, None, None)


def resolve(store: BlockStore, root: Cid, path: str) -> Cid:
    """The CID at `path` ("a/b/c"; "" is the root itself). Symlinks are not followed.

    Raises PathNotFound, WrongKind where the path goes through a file, BlockNotFound, InvalidBlock.
    """
    cid = root
    for name in path.strip("/").split("/") if path.strip("/") else ():
        found = _find(store, cid, name)
        if found is None:
            raise PathNotFound(f"there is no {name!r} in {cid} (path {path!r} of {root})")
        cid = found
    return cid


def read_file(
    store: BlockStore, cid: Cid, offset: int = 0, length: int | None = None, *, verify: bool = False
) -> Iterator[bytes]:
    """The bytes of a file from `offset`, at most `length`, a chunk at a time.

    With `verify` each block is checked against its CID again. Raises BlockNotFound,
    InvalidBlock, WrongKind.
    """
    root = _load(store, cid, verify=verify)
    if root.kind is not EntryKind.FILE:
        raise WrongKind(f"{cid} is a {root.kind.value}, not a file")
    end = root.size_bytes if length is None else min(root.size_bytes, offset + length)
    # A block below: its CID, where its content starts, how many bytes its parent says, depth.
    stack: list[tuple[Cid, int, int, int]] = [(cid, 0, root.size_bytes, 0)]
    while stack:
        child, start, size, depth = stack.pop()
        if start >= end or start + size <= offset:
            continue
        if depth > _FILE_DEPTH_MAX:
            raise LimitExceeded(f"the file {cid} is deeper than {_FILE_DEPTH_MAX} blocks")
        node = root if child == cid else _load(store, child, verify=verify)
        if node.kind is not EntryKind.FILE or node.size_bytes != size:
            raise InvalidBlock(f"{child}, a part of the file {cid}, is not the {size} bytes it should be")
        if node.data:
            piece = node.data[max(0, offset - start) : max(0, end - start)]
            if piece:
                yield piece
        position = start + size
        for link, block_size in zip(reversed(node.links), reversed(node.block_sizes), strict=True):
            position -= block_size
            # A part of no bytes is not looked at: any number of them would cost nothing to claim.
            if block_size:
                stack.append((link.cid, position, block_size, depth + 1))


def measure(store: BlockStore, root: Cid, limits: TreeLimits = _DEFAULT_LIMITS) -> Measured:
    """What `root` expands to; each block is looked at once, however often it appears.

    Raises LimitExceeded, BlockNotFound, InvalidBlock.
    """
    return _measure(store, root, limits, {}, 0)


def walk(store: BlockStore, root: Cid, limits: TreeLimits | None = _DEFAULT_LIMITS) -> Iterator[WalkedEntry]:
    """All entries of a tree, folders before what is in them, names checked.

    The limits are checked before the first entry, or with None by the caller, who has measured
    `root` already. Raises as `measure`, and UnsafePath.
    """
    if limits is not None:
        measure(store, root, limits)
    open_folders: list[Iterator[tuple[str, Cid]]] = [iter([("", root)])]
    while open_folders:
        found = next(open_folders[-1], None)
        if found is None:
            open_folders.pop()
            continue
        path, cid = found
        if cid.codec == RAW:
            yield WalkedEntry(path, cid, EntryKind.FILE, store.size(cid), "")
            continue
        node = _load(store, cid)
        target = os.fsdecode(node.data) if node.kind is EntryKind.SYMLINK else ""
        yield WalkedEntry(path, cid, node.kind, node.size_bytes, target)
        if node.kind is EntryKind.DIRECTORY:
            open_folders.append(_paths_below(store, path, cid))


def _paths_below(store: BlockStore, path: str, cid: Cid) -> Iterator[tuple[str, Cid]]:
    prefix = path + "/" if path else ""
    for link in links(store, cid):
        yield prefix + link.name, link.cid


def _load(store: BlockStore, cid: Cid, *, verify: bool = False) -> UnixFsNode:
    block = store.get(cid)
    if verify and not cid.verify(block):
        raise InvalidBlock(f"the stored block {cid} does not match its CID: the disk damaged it")
    return unixfs.decode(cid, block)


def links(store: BlockStore, cid: Cid) -> Iterator[dagpb.Link]:
    """The entries of a folder as links with their plain names: as `ls`, and looks into none of them."""
    node = _load(store, cid)
    if node.kind is not EntryKind.DIRECTORY:
        raise WrongKind(f"{cid} is a {node.kind.value}, not a folder")
    if node.type is NodeType.DIRECTORY:
        for link in node.links:
            unixfs.check_name(link.name)
            yield link
        return
    open_shards = [iter(node.links)]
    prefix = hamt.prefix_length(node.fanout)
    while open_shards:
        found = next(open_shards[-1], None)
        if found is None:
            open_shards.pop()
            continue
        name = _shard_entry_name(cid, found, prefix)
        if name:
            unixfs.check_name(name)
            yield dagpb.Link(name, found.cid, found.dag_bytes)
        else:
            hamt.slot(0, len(open_shards), node.fanout)  # refuses a trie deeper than its hash
            open_shards.append(iter(_load_shard(store, found.cid, node.fanout).links))


def _shard_entry_name(cid: Cid, link: dagpb.Link, prefix: int) -> str:
    """The name of an entry in a shard, "" for a shard below. Raises InvalidBlock."""
    if len(link.name) < prefix:
        raise InvalidBlock(f"the sharded folder {cid} has a link named {link.name!r}")
    return link.name[prefix:]


def _load_shard(store: BlockStore, cid: Cid, fanout: int) -> UnixFsNode:
    node = _load(store, cid)
    if node.type is not NodeType.HAMT_SHARD or node.fanout != fanout:
        raise InvalidBlock(f"{cid} should be a shard of a folder with fanout {fanout}, and is none")
    return node


def _find(store: BlockStore, cid: Cid, name: str) -> Cid | None:
    """The entry `name` of the folder `cid`."""
    node = _load(store, cid)
    if node.kind is not EntryKind.DIRECTORY:
        raise WrongKind(f"{cid} is a {node.kind.value}, so there is no {name!r} in it")
    if node.type is NodeType.DIRECTORY:
        return next((link.cid for link in node.links if link.name == name), None)
    name_hash = hamt.murmur3(dagpb.encode_name(name))
    prefix = hamt.prefix_length(node.fanout)
    depth = 0
    while True:
        label = f"{hamt.slot(name_hash, depth, node.fanout):0{prefix}X}"
        below: Cid | None = None
        for link in node.links:
            if link.name == label + name:
                return link.cid
            if link.name == label:
                below = link.cid
        if below is None:
            return None
        node = _load_shard(store, below, node.fanout)
        depth += 1


def _measure(
    store: BlockStore, cid: Cid, limits: TreeLimits, known: dict[Cid, Measured], depth: int
) -> Measured:
    """Measure one folder, shard or file, `depth` blocks below the root; `known` are those done."""
    if cid.codec == RAW:
        return _checked(Measured(1, store.size(cid), 0), limits)
    if cid in known:
        return known[cid]
    if depth > _BLOCK_DEPTH_MAX:
        raise LimitExceeded(f"the folders are deeper than {_BLOCK_DEPTH_MAX} blocks")
    node = _load(store, cid)
    entries, size_bytes, folders = 1, node.size_bytes, 0
    if node.kind is EntryKind.DIRECTORY:
        prefix = hamt.prefix_length(node.fanout) if node.type is NodeType.HAMT_SHARD else 0
        for link in node.links:
            is_shard = prefix > 0 and not _shard_entry_name(cid, link, prefix)
            below = _measure(store, link.cid, limits, known, depth + 1)
            entries += below.entries - is_shard
            size_bytes += below.size_bytes
            folders = max(folders, below.depth + (not is_shard))
            _checked(Measured(entries, size_bytes, folders), limits)
    known[cid] = _checked(Measured(entries, size_bytes, folders), limits)
    return known[cid]


def _checked(measured: Measured, limits: TreeLimits) -> Measured:
    if measured.size_bytes > limits.max_bytes:
        raise LimitExceeded(f"the content expands to more than the limit of {limits.max_bytes} bytes")
    if measured.entries > limits.max_entries:
        raise LimitExceeded(f"the folder expands to more than the limit of {limits.max_entries} entries")
    if measured.depth > limits.max_depth:
        raise LimitExceeded(f"the folders are nested deeper than the limit of {limits.max_depth}")
    return measured
