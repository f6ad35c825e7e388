"""CIDs: reading, writing, checking."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.model.cid import DAG_PB, MAX_TEXT_LENGTH, RAW, Cid, InvalidCid, UnsupportedHash

EMPTY_FOLDER_V0 = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
EMPTY_FOLDER_V1 = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


def test_both_versions_of_the_empty_folder_are_read_and_written_as_kubo_does() -> None:
    first, second = Cid.parse(EMPTY_FOLDER_V0), Cid.parse(EMPTY_FOLDER_V1)
    assert (first.version, second.version) == (0, 1)
    assert first.codec == second.codec == DAG_PB
    assert first.multihash == second.multihash
    assert (str(first), str(second)) == (EMPTY_FOLDER_V0, EMPTY_FOLDER_V1)
    assert first != second
    assert Cid.of(DAG_PB, b"\x0a\x02\x08\x01", version=0) == first
    assert first.verify(b"\x0a\x02\x08\x01")


@pytest.mark.parametrize(
    "text",
    [
        "F01701220" + Cid.parse(EMPTY_FOLDER_V1).multihash[2:].hex().upper(),
        "f01701220" + Cid.parse(EMPTY_FOLDER_V1).multihash[2:].hex(),
        EMPTY_FOLDER_V1,
    ],
)
def test_any_multibase_gives_the_same_cid(text: str) -> None:
    assert str(Cid.parse(text)) == EMPTY_FOLDER_V1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("b", "cut short"),
        ("hello", "multibase|version|cut short|not a CID"),
        ("Qm" + "0" * 44, "not a CID"),
        ("z" + EMPTY_FOLDER_V0, "plain base58"),
        (EMPTY_FOLDER_V0 + "x", "not a CID"),
        ("b" * (MAX_TEXT_LENGTH + 1), "at most"),
        ("/ipfs/" + EMPTY_FOLDER_V0, "not a CID"),
        ("f02551220" + "00" * 32, "version 2"),
        ("f01551220" + "00" * 33, "1 bytes follow"),
        ("f01551220" + "00" * 31, "cut short"),
        ("f0155129001" + "00" * 144, "digest has 144"),
        ("f8100551220" + "00" * 32, "shortest"),
        ("f" + "ff" * 12, "9 bytes"),
    ],
)
def test_text_that_is_no_cid_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(InvalidCid, match=says):
        Cid.parse(text)


@given(st.text(max_size=80))
def test_random_text_is_a_cid_or_refused_and_never_anything_else(text: str) -> None:
    try:
        cid = Cid.parse(text)
    except InvalidCid:
        return
    assert Cid.parse(str(cid)) == cid


@given(st.binary(max_size=80))
def test_random_bytes_are_a_cid_or_refused_and_never_anything_else(raw: bytes) -> None:
    try:
        cid = Cid.from_raw(raw)
    except InvalidCid:
        return
    assert cid.raw == raw


@given(st.binary(max_size=200), st.integers(0, 1 << 20))
def test_text_and_binary_forms_are_inverse(block: bytes, codec: int) -> None:
    cid = Cid.of(codec, block)
    assert Cid.parse(str(cid)) == cid
    assert Cid.from_raw(cid.raw) == cid


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_only_the_block_itself_fits_its_cid(block: bytes, other: bytes) -> None:
    assert Cid.of(RAW, block).verify(other) is (block == other)


@pytest.mark.parametrize(
    ("code", "digest"),
    [
        ("13", hashlib.sha512(b"x").hexdigest()),
        ("16", hashlib.sha3_256(b"x").hexdigest()),
        ("20", hashlib.sha384(b"x").hexdigest()),
        ("a0e402", hashlib.blake2b(b"x", digest_size=32).hexdigest()),
    ],
)
def test_other_hashes_that_python_has_are_checked(code: str, digest: str) -> None:
    cid = Cid.parse(f"f0155{code}{len(digest) // 2:02x}{digest}")
    assert cid.verify(b"x")
    assert not cid.verify(b"y")


@pytest.mark.parametrize(
    ("multihash", "says"),
    [
        ("1114" + hashlib.sha1(b"x").hexdigest(), "sha1 .* too weak"),
        ("1e20" + "00" * 32, "blake3 .* not supported"),
        ("1210" + hashlib.sha256(b"x").hexdigest()[:32], "keeps only 16 of the 32"),
    ],
)
def test_hashes_that_cannot_be_trusted_are_refused_by_name(multihash: str, says: str) -> None:
    with pytest.raises(UnsupportedHash, match=says):
        Cid.parse("f0155" + multihash).verify(b"x")


def test_an_identity_cid_carries_its_block() -> None:
    cid = Cid.parse("f01550003616263")
    assert cid.identity_digest == b"abc"
    assert cid.verify(b"abc")
    assert not cid.verify(b"abd")
    assert Cid.of(RAW, b"abc").identity_digest is None
    longest = Cid.from_raw(bytes((1, 0x55, 0, 0x80, 1)) + bytes(128))
    assert longest.identity_digest == bytes(128)


def test_version_0_is_for_dag_pb_only() -> None:
    with pytest.raises(InvalidCid):
        Cid.of(RAW, b"", version=0)
