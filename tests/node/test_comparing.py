"""What is compared of a result, from its blocks; and results under seal."""

from __future__ import annotations

import pytest

from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.errors import IpfsError
from bacalhau.ipfs.importer import import_files
from bacalhau.model.cid import RAW, Cid
from bacalhau.model.verification import Verification, VerificationPolicy
from bacalhau.node.comparing import compare
from bacalhau.node.seals import SealingStore, Seals

ALL = Verification(VerificationPolicy.REPLICATED, 2)
NO_STDOUT = Verification(VerificationPolicy.REPLICATED, 2, ignore_stdout=True)
FILES = {"exitCode": b"3", "stdout": b"said", "stderr": b"noise"}


def result(store: MemoryBlockStore, model: bytes = b"weights", **changed: bytes) -> Cid:
    model_folder = import_files(store, {"model.bin": model})
    return import_files(store, FILES | changed, extra={"outputs": model_folder}).cid


@pytest.fixture
def store() -> MemoryBlockStore:
    return MemoryBlockStore()


# --- comparing ---


def test_the_exit_code_is_read_and_stderr_does_not_count(store: MemoryBlockStore) -> None:
    plain, noisy = result(store), result(store, stderr=b"other noise")
    assert plain != noisy
    assert compare(store, plain, ALL) == compare(store, noisy, ALL)
    assert compare(store, plain, ALL).exit_code == 3


def test_stdout_counts_unless_the_job_leaves_it_out(store: MemoryBlockStore) -> None:
    plain, other = result(store), result(store, stdout=b"said otherwise")
    assert compare(store, plain, ALL) != compare(store, other, ALL)
    assert compare(store, plain, NO_STDOUT) == compare(store, other, NO_STDOUT)


def test_outputs_and_exit_code_count(store: MemoryBlockStore) -> None:
    compared = {compare(store, one, ALL).digest for one in (result(store), result(store, model=b"less"))}
    compared.add(compare(store, result(store, exitCode=b"-3"), ALL).digest)
    assert len(compared) == 3


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"stdout": b"", "stderr": b""},
        {"exitCode": b"0"},
        {"exitCode": b"zero", "stdout": b""},
        {"exitCode": b"", "stdout": b""},
        {"exitCode": b"1" * 20, "stdout": b""},
        {"exitCode": b"0", "stdout": b""} | {f"output{index}": b"" for index in range(101)},
    ],
    ids=["empty", "no exit code", "no stdout", "a word", "nothing", "too long", "too many outputs"],
)
def test_what_is_no_result_folder_is_refused(store: MemoryBlockStore, files: dict[str, bytes]) -> None:
    with pytest.raises(IpfsError):
        compare(store, import_files(store, files).cid, ALL)


def test_a_file_is_no_result_folder(store: MemoryBlockStore) -> None:
    block = b"a file"
    cid = Cid.of(RAW, block)
    store.put_many([(cid, block)])
    with pytest.raises(IpfsError):
        compare(store, cid, ALL)


# --- seals ---


def block(data: bytes) -> tuple[Cid, bytes]:
    return Cid.of(RAW, data), data


def test_what_a_result_brings_is_sealed_until_it_is_opened_and_what_was_here_never(
    store: MemoryBlockStore,
) -> None:
    known, new = block(b"0"), block(b"the answer")
    store.put_many([known])
    seals = Seals()
    SealingStore(store, seals, "e-1").put_many([known, new])
    assert (seals.may_serve(known[0]), seals.may_serve(new[0])) == (True, False)
    assert store.has(new[0])
    seals.open("e-1")
    assert seals.may_serve(new[0])


def test_a_block_of_two_sealed_results_stays_sealed_until_both_are_opened(store: MemoryBlockStore) -> None:
    shared = block(b"shared")
    seals = Seals()
    seals.seal("e-1", [shared[0], shared[0]])
    seals.seal("e-2", [shared[0]])
    seals.open("e-1")
    seals.open("e-1")
    assert not seals.may_serve(shared[0])
    seals.open("e-2")
    assert seals.may_serve(shared[0])


def test_both_versions_of_a_cid_name_the_same_sealed_block() -> None:
    from bacalhau.model.cid import DAG_PB

    seals = Seals()
    seals.seal("e-1", [Cid.of(DAG_PB, b"data", version=0)])
    assert not seals.may_serve(Cid.of(DAG_PB, b"data", version=1))
