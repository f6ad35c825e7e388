"""Walking DAGs block by block, whatever they mean: for CAR, pins and fetching.

Owns which blocks a block links to. Files and folders are `reader`'s.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from bacalhau.ipfs import dagpb
from bacalhau.ipfs.errors import BlockNotFound, InvalidBlock, UnsupportedDag
from bacalhau.model.cid import DAG_PB, RAW, Cid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bacalhau.ipfs.blockstore import BlockStore
    from bacalhau.ipfs.dagpb import Block

B = TypeVar("B", bound="Block")


def child_cids(cid: Cid, block: Block) -> list[Cid]:
    """What `block` links to, in stored order. Raises InvalidBlock, and UnsupportedDag for other codecs."""
    if cid.codec == RAW:
        return []
    if cid.codec != DAG_PB:
        raise UnsupportedDag(f"{cid} has the codec {cid.codec:#x}; only dag-pb and raw DAGs can be followed")
    return [link.cid for link in dagpb.decode(block).links]


def iter_dag(store: BlockStore, root: Cid) -> Iterator[tuple[Cid, bytes]]:
    """All blocks below `root`, itself first, depth first in order of links, each once.

    Raises BlockNotFound, InvalidBlock, UnsupportedDag.
    """
    seen: set[Cid] = set()
    open_nodes = [iter([root])]
    while open_nodes:
        cid = next(open_nodes[-1], None)
        if cid is None:
            open_nodes.pop()
        elif cid not in seen:
            seen.add(cid)
            block = store.get(cid)
            yield cid, block
            if cid.codec != RAW:
                open_nodes.append(iter(child_cids(cid, block)))


def serve_blocks(store: BlockStore, cids: Iterable[Cid], *, recursive: bool) -> Iterator[tuple[Cid, bytes]]:
    """What a store answers to another node: the blocks of `cids` that it has, in order, each once.

    With `recursive` each is followed by all below it, depth first. What is not there is left
    out, and what cannot be followed is not: a request must not fail for one block.
    """
    seen: set[Cid] = set()
    open_nodes = [iter(cids)]
    while open_nodes:
        cid = next(open_nodes[-1], None)
        if cid is None:
            open_nodes.pop()
        elif cid not in seen:
            seen.add(cid)
            try:
                block = store.get(cid)
            except BlockNotFound:
                continue
            yield cid, block
            if recursive and cid.codec != RAW:
                with contextlib.suppress(InvalidBlock, UnsupportedDag):
                    open_nodes.append(iter(child_cids(cid, block)))


def next_batch(blocks: Iterator[tuple[Cid, B]], bytes_max: int, count_max: int) -> list[tuple[Cid, B]]:
    """The next of them: until they weigh `bytes_max`, and at most `count_max`; none at the end. For threads."""
    batch: list[tuple[Cid, B]] = []
    size = 0
    for cid, block in blocks:
        batch.append((cid, block))
        size += len(block)
        if size >= bytes_max or len(batch) >= count_max:
            break
    return batch


def iter_cids(store: BlockStore, root: Cid) -> Iterator[tuple[Cid, bool]]:
    """All CIDs below `root`, itself first, each once, in no order, and whether the block is there.

    Raw leaves are not read, and what is below a missing block is left out. Raises
    InvalidBlock, UnsupportedDag.
    """
    seen = {root}
    stack = [root]
    while stack:
        cid = stack.pop()
        if cid.codec == RAW:
            yield cid, store.has(cid)
            continue
        try:
            block = store.get(cid)
        except BlockNotFound:
            yield cid, False
            continue
        yield cid, True
        for child in child_cids(cid, block):
            if child not in seen:
                seen.add(child)
                stack.append(child)


def find_missing(store: BlockStore, root: Cid) -> Cid | None:
    """A block below `root` that is not in the store, or None where the DAG is complete."""
    return next((cid for cid, is_there in iter_cids(store, root) if not is_there), None)
