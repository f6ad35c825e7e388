"""CAR v1: a DAG as one stream of blocks, as `ipfs dag export` writes and `dag import` reads.

Owns the stream's form and the limits of reading one from a stranger; every block that is
read is checked against its CID. Written by hand: libipld reads CARs of dag-cbor only.

Source: https://ipld.io/specs/transport/car/carv1/
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import libipld

from bacalhau.ipfs.chunkfile import ChunkFile
from bacalhau.ipfs.dag import iter_dag
from bacalhau.ipfs.dagpb import MAX_BLOCK_BYTES
from bacalhau.ipfs.errors import InvalidCar, LimitExceeded
from bacalhau.model.cid import Cid, InvalidCid, UnsupportedHash
from bacalhau.model.varint import varint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bacalhau.ipfs.blockstore import BlockStore
    from bacalhau.ipfs.dagpb import Block

_HEADER_BYTES_MAX: Final = 64 * 1024
_CID_BYTES_MAX: Final = 256
_BATCH_BYTES: Final = 4 * 1024 * 1024
_BATCH_BLOCKS: Final = 1024


@runtime_checkable
class ByteSource(Protocol):
    """What a file opened in binary mode offers."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""


@dataclass(frozen=True, slots=True)
class CarLimits:
    """What a CAR may at most hold."""

    max_bytes: int = 1 << 40
    max_block_bytes: int = MAX_BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class CarImported:
    """What was read: the roots of the header, the number of blocks and their bytes."""

    roots: tuple[Cid, ...]
    blocks: int
    block_bytes: int


_DEFAULT_LIMITS: Final = CarLimits()


def write_car(store: BlockStore, root: Cid) -> Iterator[bytes]:
    """The CAR of all blocks below `root`, depth first, each once, as pieces to be written in order.

    Raises BlockNotFound where the DAG is not complete in the store.
    """
    return write_blocks([root], iter_dag(store, root))


def write_blocks(roots: Sequence[Cid], blocks: Iterable[tuple[Cid, Block]]) -> Iterator[bytes]:
    """The CAR of these blocks, as pieces to be written in order; one that its CID carries is left out."""
    header = libipld.encode_dag_cbor({"roots": [root.raw for root in roots], "version": 1})
    yield varint(len(header)) + header
    for cid, block in blocks:
        if cid.identity_digest is None:
            raw = cid.raw
            yield varint(len(raw) + len(block)) + raw
            yield bytes(block)


def read_car(
    source: ByteSource, limits: CarLimits = _DEFAULT_LIMITS
) -> tuple[tuple[Cid, ...], Iterator[tuple[Cid, bytes]]]:
    """The roots of a CAR, and its blocks, each verified, one by one.

    Raises InvalidCar (also where the stream ends within a block), LimitExceeded.
    """
    sections = _Sections(source, limits.max_bytes)
    header = sections.next(_HEADER_BYTES_MAX)
    if header is None:
        raise InvalidCar("the CAR is empty")
    return _roots(header), _blocks(sections, limits)


def import_car(
    store: BlockStore, source: ByteSource | Iterable[bytes], *, limits: CarLimits = _DEFAULT_LIMITS
) -> CarImported:
    """Read a CAR into a store, durable when this returns; up to a failure, what was good is kept.

    Whether the DAGs below the roots are complete is not looked at: see `dag.find_missing`.
    """
    reader = source if isinstance(source, ByteSource) else io.BufferedReader(ChunkFile(source), 1 << 20)
    roots, found = read_car(reader, limits)
    batch: list[tuple[Cid, bytes]] = []
    blocks = block_bytes = batch_bytes = 0
    for cid, block in found:
        batch.append((cid, block))
        blocks += 1
        block_bytes += len(block)
        batch_bytes += len(block)
        if batch_bytes >= _BATCH_BYTES or len(batch) >= _BATCH_BLOCKS:
            store.put_many(batch, sync=False)
            batch, batch_bytes = [], 0
    store.put_many(batch, sync=True)
    return CarImported(roots, blocks, block_bytes)


def _roots(header: bytes) -> tuple[Cid, ...]:
    try:
        fields = libipld.decode_dag_cbor(header)
    except (ValueError, RecursionError) as error:
        raise InvalidCar("the header of the CAR is no dag-cbor; is this a CAR file?") from error
    if not isinstance(fields, dict):
        raise InvalidCar("the header of the CAR is no map")
    if fields.get("version") == 2:
        raise InvalidCar("this is a CAR v2; only v1 is read, which `ipfs dag export` writes")
    roots = fields.get("roots")
    if fields.get("version") != 1 or not isinstance(roots, list):
        raise InvalidCar("the header of the CAR does not say version 1 and its roots")
    if not all(isinstance(root, bytes) for root in roots):
        raise InvalidCar("a root in the header of the CAR is no CID")
    try:
        return tuple(Cid.from_raw(root) for root in roots)
    except InvalidCid as error:
        raise InvalidCar(f"a root in the header of the CAR is malformed: {error}") from error


def _blocks(sections: _Sections, limits: CarLimits) -> Iterator[tuple[Cid, bytes]]:
    while (section := sections.next(limits.max_block_bytes + _CID_BYTES_MAX)) is not None:
        try:
            cid, start = Cid.read(section, 0)
            block = section[start:]
            fits = cid.verify(block)
        except (InvalidCid, UnsupportedHash) as error:
            raise InvalidCar(f"a block of the CAR cannot be checked: {error}") from error
        if not fits:
            raise InvalidCar(f"a block of the CAR is not what its CID {cid} names")
        if len(block) > limits.max_block_bytes:
            raise LimitExceeded(
                f"the block {cid} has {len(block)} bytes, the limit is {limits.max_block_bytes}"
            )
        yield cid, block


class _Sections:
    """The parts of a CAR, each after its length."""

    def __init__(self, source: ByteSource, max_bytes: int) -> None:
        self._source = source
        self._left_bytes = max_bytes

    def next(self, max_bytes: int) -> bytes | None:
        """The next part, None at the end of the stream."""
        length = shift = 0
        while True:
            byte = self._source.read(1)
            if not byte:
                if shift:
                    raise InvalidCar("the CAR is cut short within a length")
                return None
            length |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                break
            shift += 7
            if shift > 56:
                raise InvalidCar("a length in the CAR is longer than 9 bytes")
        if length == 0:
            raise InvalidCar("a part of the CAR is empty")
        if length > max_bytes:
            raise LimitExceeded(f"a part of the CAR has {length} bytes, the limit is {max_bytes}")
        self._left_bytes -= length
        if self._left_bytes < 0:
            raise LimitExceeded("the CAR is larger than the limit")
        return self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        part = self._source.read(length)
        if len(part) == length:
            return part
        parts = [part]
        missing = length - len(part)
        while missing:
            part = self._source.read(missing)
            if not part:
                raise InvalidCar("the CAR is cut short within a block")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)
