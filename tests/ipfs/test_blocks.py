"""dag-pb and UnixFS: strict decoders that raise nothing but their own errors."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bacalhau.ipfs import dagpb, hamt, unixfs
from bacalhau.ipfs.dagpb import Link
from bacalhau.ipfs.errors import InvalidBlock, UnsafePath, UnsupportedDag
from bacalhau.model.cid import DAG_PB, RAW, Cid

LEAF = Cid.of(RAW, b"leaf")

links = st.builds(
    Link,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.binary(max_size=8).map(lambda block: Cid.of(RAW, block)),
    st.integers(0, 2**63),
)


@given(st.lists(links, max_size=5), st.none() | st.binary(max_size=30))
def test_a_node_that_is_encoded_and_decoded_is_the_same(parts: list[Link], data: bytes | None) -> None:
    node = dagpb.decode(dagpb.encode(parts, data))
    assert node == dagpb.Node(tuple(parts), data)


@given(st.binary(max_size=100))
@example(dagpb.encode([Link("a", LEAF, 4)], b"\x08\x01")[:-1])
@example(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x0a" + b"\xff" * 11)
def test_random_bytes_are_a_node_or_invalid_and_never_anything_else(block: bytes) -> None:
    for read in (lambda: dagpb.decode(block), lambda: unixfs.decode_data(block)):
        try:
            read()
        except InvalidBlock:
            continue
    with contextlib.suppress(InvalidBlock, UnsupportedDag):
        unixfs.decode(Cid.of(DAG_PB, block), block)


@given(st.data())
def test_a_mutated_folder_is_read_or_invalid_and_never_anything_else(data: st.DataObject) -> None:
    block = bytearray(dagpb.encode([Link("a", LEAF, 4), Link("b", LEAF, 4)], unixfs.shard_data(b"\x03", 256)))
    for _ in range(data.draw(st.integers(1, 3))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidBlock, UnsupportedDag):
        unixfs.decode(Cid.of(DAG_PB, bytes(block)), bytes(block))


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (b"\x0a\x01a\x0a\x01b", "data twice"),
        (
            dagpb.encode_link(Link("a", LEAF, 1)) + b"\x0a\x00" + dagpb.encode_link(Link("b", LEAF, 1)),
            "together",
        ),
        (b"\x12\x02\x12\x00", "no CID"),
        (b"\x12\x04\x12\x00\x0a\x00", "out of order"),
        (b"\x12\x04\x0a\x02\x01\x55", "CID is malformed"),
        (b"\x1a\x00", "starts with 0x1a"),
        (b"\x0a\x05abc", "beyond its end"),
        (b"\x00" * (dagpb.MAX_BLOCK_BYTES + 1), "above the limit"),
    ],
)
def test_a_malformed_node_is_refused_with_the_reason(block: bytes, says: str) -> None:
    with pytest.raises(InvalidBlock, match=says):
        dagpb.decode(block)


def test_data_before_links_is_read_as_old_writers_left_it() -> None:
    link = Link("a", LEAF, 4)
    assert dagpb.decode(b"\x0a\x01x" + dagpb.encode_link(link)) == dagpb.Node((link,), b"x")


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (dagpb.encode([], None), "without UnixFS data"),
        (dagpb.encode([], b""), "does not say its type"),
        (dagpb.encode([], b"\x08\x09"), "type 9 is unknown"),
        (dagpb.encode([Link("", LEAF, 4)], unixfs.file_data([])), "0 sizes for 1 children"),
        (dagpb.encode([Link("", LEAF, 4)], b"\x08\x02\x18\x05\x20\x04"), "claims 5 bytes, its parts are 4"),
        (dagpb.encode([Link("", LEAF, 4)], unixfs.symlink_data(b"x")), "has links"),
        (dagpb.encode([], unixfs.shard_data(b"", 7)), "fanout 7"),
        (dagpb.encode([], unixfs.shard_data(b"", 1 << 40)), "fanout"),
    ],
)
def test_unixfs_that_contradicts_itself_is_refused_with_the_reason(block: bytes, says: str) -> None:
    with pytest.raises(InvalidBlock, match=says):
        unixfs.decode(Cid.of(DAG_PB, block), block)


def test_packed_block_sizes_are_read_like_single_ones() -> None:
    packed = b"\x08\x02\x18\x07\x22\x02\x03\x04"
    assert unixfs.decode_data(packed).block_sizes == (3, 4)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0b", "x" * 256, "\ud800"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(UnsafePath):
        unixfs.check_name(name)


@pytest.mark.parametrize("name", ["a", "...", "..a", "héllo", "a b", "\udcff", "x" * 255])
def test_an_ordinary_name_is_taken(name: str) -> None:
    unixfs.check_name(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    # The reference implementation's values for x64-128 with seed 0, first half.
    [
        (b"", 0),
        (b"hello", 0xCBD8A7B341BD9B02),
        (b"The quick brown fox jumps over the lazy dog", 0xE34BBC7BBC071B6C),
    ],
)
def test_murmur3_gives_the_reference_values(name: bytes, expected: int) -> None:
    assert hamt.murmur3(name) == expected


def test_a_trie_deeper_than_its_hash_is_refused() -> None:
    assert hamt.slot(0x0102030405060708, 7, 256) == 8
    with pytest.raises(InvalidBlock, match="deeper"):
        hamt.slot(0, 8, 256)
