"""CAR v1: the bytes of `ipfs dag export`, read by `ipfs dag import`, and hostile ones refused."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

import libipld
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.ipfs.blockstore import BlockStore, MemoryBlockStore
from bacalhau.ipfs.car import CarLimits, import_car, write_car
from bacalhau.ipfs.dag import find_missing
from bacalhau.ipfs.errors import BlockNotFound, InvalidCar, LimitExceeded
from bacalhau.ipfs.importer import import_path, import_stream
from bacalhau.ipfs.layout import ImportOptions
from bacalhau.model.cid import RAW, Cid
from bacalhau.model.varint import varint
from tests.ipfs.conftest import KuboRepository, make_tree, random_bytes

if TYPE_CHECKING:
    from pathlib import Path


def small_car() -> bytes:
    store = MemoryBlockStore()
    root = import_stream(
        store, [random_bytes(300)], options=ImportOptions(cid_version=1, chunk_size_bytes=100)
    )
    return b"".join(write_car(store, root.cid))


SMALL_CAR = small_car()


@pytest.mark.parametrize(
    "options", [ImportOptions(), ImportOptions(cid_version=1)], ids=["version 0", "version 1"]
)
def test_the_car_of_a_tree_is_byte_for_byte_the_one_of_kubo(
    options: ImportOptions, kubo_repository: KuboRepository, tmp_path: Path
) -> None:
    root = tmp_path / "tree"
    make_tree(root)
    (root / "again").write_bytes((root / "deep" / "chunks").read_bytes())  # its blocks come once
    for index in range(4500):
        (root / "empty folder" / f"{index:060d}").write_bytes(b"%d" % (index % 3))
    store = MemoryBlockStore()
    imported = import_path(store, root, options=options)
    kubo_repository.run("add", "-r", "-Q", "--hidden", f"--cid-version={options.cid_version}", root)
    exported = kubo_repository.run("dag", "export", "--progress=false", str(imported.cid))
    assert b"".join(write_car(store, imported.cid)) == exported


def test_a_car_of_kubo_is_read_and_complete(
    store: BlockStore, kubo_repository: KuboRepository, tmp_path: Path
) -> None:
    make_tree(tmp_path / "tree")
    root = kubo_repository.run("add", "-r", "-Q", "--hidden", tmp_path / "tree").decode().strip()
    exported = kubo_repository.run("dag", "export", "--progress=false", root)
    pieces = (exported[start : start + 10_007] for start in range(0, len(exported), 10_007))
    imported = import_car(store, pieces)
    assert imported.roots == (Cid.parse(root),)
    assert find_missing(store, imported.roots[0]) is None
    assert import_path(MemoryBlockStore(), tmp_path / "tree").cid == imported.roots[0]


def test_a_car_of_ours_is_read_by_kubo(kubo: Path, tmp_path: Path) -> None:
    repository = KuboRepository(kubo, tmp_path / "repository")
    repository.run("init", "--profile=test")
    make_tree(tmp_path / "tree")
    store = MemoryBlockStore()
    imported = import_path(store, tmp_path / "tree")
    output = repository.run("dag", "import", "--stats", stdin=b"".join(write_car(store, imported.cid)))
    assert f"Pinned root\t{imported.cid}\tsuccess" in output.decode()
    assert repository.run("cat", f"/ipfs/{imported.cid}/deep/chunks") == random_bytes(600_000)


def test_a_car_of_an_incomplete_dag_is_not_written_silently() -> None:
    store = MemoryBlockStore()
    root = import_stream(store, [bytes(600_000)])
    missing = Cid.of(RAW, b"")
    store.delete_many([key for key in store.keys() if key != root.cid.multihash])  # noqa: SIM118
    with pytest.raises(BlockNotFound):
        list(write_car(store, root.cid))
    assert not store.has(missing)


def test_a_block_that_does_not_fit_its_cid_is_refused_and_those_before_it_stay() -> None:
    store = MemoryBlockStore()
    with pytest.raises(InvalidCar, match="not what its CID"):
        import_car(store, io.BytesIO(SMALL_CAR[:-1] + bytes((SMALL_CAR[-1] ^ 1,))))


@given(st.integers(0, len(SMALL_CAR) - 1))
def test_a_car_that_is_cut_short_is_refused_unless_between_blocks(length: int) -> None:
    try:
        imported = import_car(MemoryBlockStore(), io.BytesIO(SMALL_CAR[:length]))
    except InvalidCar:
        return
    assert imported.blocks < 4


@given(st.integers(0, len(SMALL_CAR) - 1), st.integers(0, 255))
def test_a_mutated_car_raises_nothing_but_its_own_errors(position: int, value: int) -> None:
    mutated = bytearray(SMALL_CAR)
    mutated[position] = value
    store = MemoryBlockStore()
    try:
        import_car(store, io.BytesIO(mutated))
    except (InvalidCar, LimitExceeded):
        return
    assert all(Cid(1, RAW, key).verify(store.get(Cid(1, RAW, key))) for key in store.keys())  # noqa: SIM118


@given(st.binary(max_size=60))
def test_random_bytes_raise_nothing_but_its_own_errors(data: bytes) -> None:
    with contextlib.suppress(InvalidCar, LimitExceeded):
        import_car(MemoryBlockStore(), [data])


def header(fields: object) -> bytes:
    encoded = libipld.encode_dag_cbor(fields)
    return varint(len(encoded)) + encoded


@pytest.mark.parametrize(
    ("car", "says"),
    [
        (b"", "empty"),
        (bytes.fromhex("0aa16776657273696f6e02"), "CAR v2"),
        (header({"version": 1}), "version 1 and its roots"),
        (header({"version": 1, "roots": ["x"]}), "no CID"),
        (header({"version": 1, "roots": [b"x"]}), "malformed"),
        (header([1]), "no map"),
        (b"\x05hello", "dag-cbor"),
        (varint(60_000) + b"\x81" * 60_000, "dag-cbor"),
        (header({"version": 1, "roots": []}) + b"\x00", "is empty"),
        (header({"version": 1, "roots": []}) + b"\x01\x01", "cannot be checked"),
        (header({"version": 1, "roots": []}) + b"\x81", "within a length"),
        (b"\xff" * 9 + b"\x01", "longer than 9 bytes"),
    ],
)
def test_a_malformed_car_is_refused_with_the_reason(car: bytes, says: str) -> None:
    with pytest.raises(InvalidCar, match=says):
        import_car(MemoryBlockStore(), io.BytesIO(car))


@pytest.mark.parametrize(
    ("car", "limits", "says"),
    [
        (varint(1 << 40), CarLimits(), "a part of the CAR has 1099511627776 bytes"),
        (SMALL_CAR, CarLimits(max_bytes=200), "larger than the limit"),
        (SMALL_CAR, CarLimits(max_block_bytes=99), "limit is"),
    ],
)
def test_a_car_above_its_limits_is_refused(car: bytes, limits: CarLimits, says: str) -> None:
    with pytest.raises(LimitExceeded, match=says):
        import_car(MemoryBlockStore(), io.BytesIO(car), limits=limits)
