"""Messages of Bitswap against protobuf's own reading and writing of them, and against bytes of strangers."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.bitswap.pb import bitswap_pb2 as pb

from bacalhau.model.cid import DAG_PB, RAW, Cid
from bacalhau.model.varint import varint
from bacalhau.p2p.bitswap.messages import (
    MAX_ENTRIES,
    MAX_MESSAGE_BYTES,
    V1_0_0,
    V1_1_0,
    InvalidMessage,
    Message,
    Want,
    cancels,
    decode,
    encode,
)

cids = st.one_of(
    st.binary(max_size=20).map(lambda block: Cid.of(DAG_PB, block, version=0)),
    st.binary(max_size=20).map(lambda block: Cid.of(RAW, block)),
)
wants = st.builds(
    Want,
    cids,
    priority=st.integers(0, 2**31 - 1),
    cancel=st.booleans(),
    have=st.booleans(),
    dont_have=st.booleans(),
)
blocks = st.tuples(cids.map(lambda cid: cid.prefix), st.binary(max_size=300))
messages = st.builds(
    Message,
    wants=st.lists(wants, max_size=5),
    full=st.booleans(),
    blocks=st.lists(blocks, max_size=5),
    presences=st.lists(st.tuples(cids, st.booleans()), max_size=5),
)


def body(framed: bytes) -> bytes:
    """A message without its length, which must be the right one."""
    length = shift = position = 0
    while True:
        byte = framed[position]
        length |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            break
    assert len(framed) == position + length
    return framed[position:]


@given(messages)
def test_what_is_written_is_read_back(message: Message) -> None:
    assert decode(body(encode(message))) == message


@given(messages)
def test_what_is_written_is_what_protobuf_reads(message: Message) -> None:
    seen = pb.Message.FromString(body(encode(message)))
    assert [
        (entry.block, entry.priority, entry.cancel, entry.wantType == 1, entry.sendDontHave)
        for entry in seen.wantlist.entries
    ] == [(want.cid.raw, want.priority, want.cancel, want.have, want.dont_have) for want in message.wants]
    assert seen.wantlist.full == message.full
    assert [(part.prefix, part.data) for part in seen.payload] == message.blocks
    assert [(part.cid, part.type == 0) for part in seen.blockPresences] == [
        (cid.raw, is_there) for cid, is_there in message.presences
    ]


@given(messages, st.integers(-(2**31), 2**31 - 1), st.lists(st.binary(max_size=50), max_size=3))
def test_what_protobuf_writes_is_read(message: Message, pending: int, old_blocks: list[bytes]) -> None:
    written = pb.Message(pendingBytes=pending, blocks=old_blocks)
    written.wantlist.full = message.full
    for want in message.wants:
        written.wantlist.entries.add(
            block=want.cid.raw,
            priority=want.priority,
            cancel=want.cancel,
            wantType=int(want.have),
            sendDontHave=want.dont_have,
        )
    for prefix, block in message.blocks:
        written.payload.add(prefix=prefix, data=block)
    for cid, is_there in message.presences:
        written.blockPresences.add(cid=cid.raw, type=int(not is_there))
    read = decode(written.SerializeToString())
    assert (list(read.wants), read.full, list(read.presences)) == (
        message.wants,
        message.full,
        message.presences,
    )
    version_0 = b"\x00\x70\x12\x20"
    assert sorted(read.blocks) == sorted([*message.blocks, *((version_0, block) for block in old_blocks)])


@given(st.binary(max_size=200))
def test_random_bytes_are_a_message_or_refused_and_never_anything_else(frame: bytes) -> None:
    try:
        decode(frame)
    except InvalidMessage:
        return


@given(messages, st.data())
def test_a_message_with_bytes_changed_or_cut_off_is_read_or_refused(
    message: Message, data: st.DataObject
) -> None:
    frame = bytearray(body(encode(message)))
    for _ in range(data.draw(st.integers(0, 3))):
        if frame:
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(frame[: data.draw(st.integers(0, len(frame)))]))
    except InvalidMessage:
        return


@given(st.binary(max_size=50), st.sampled_from([0, 1]))
def test_the_prefix_and_the_bytes_of_a_block_give_its_cid(block: bytes, version: int) -> None:
    cid = Cid.of(DAG_PB, block, version=version)
    assert Cid.from_prefix(cid.prefix, block) == cid
    assert len(cid.prefix) == 4


def test_older_versions_are_told_only_what_they_know() -> None:
    old, new = Cid.of(DAG_PB, b"old", version=0), Cid.of(RAW, b"new")
    message = Message(
        wants=[Want(old), Want(new), Want(old, have=True), *cancels([old])],
        blocks=[(old.prefix, b"old"), (new.prefix, b"new")],
        presences=[(old, True)],
    )
    seen = pb.Message.FromString(body(encode(message, V1_0_0)))
    assert [entry.block for entry in seen.wantlist.entries] == [old.raw, old.raw]
    assert (list(seen.blocks), len(seen.payload), len(seen.blockPresences)) == ([b"old"], 0, 0)
    seen = pb.Message.FromString(body(encode(message, V1_1_0)))
    assert [entry.block for entry in seen.wantlist.entries] == [old.raw, new.raw, old.raw]
    assert (len(seen.blocks), len(seen.payload), len(seen.blockPresences)) == (0, 2, 0)


def test_entries_that_are_malformed_or_carry_their_block_are_left_out() -> None:
    good = Cid.of(RAW, b"good")
    written = pb.Message()
    for raw in (b"", b"\x01", b"\x01\x55\x00\x02hi", good.raw, good.raw + b"x"):
        written.wantlist.entries.add(block=raw)
        written.blockPresences.add(cid=raw)
    read = decode(written.SerializeToString())
    assert [want.cid for want in read.wants] == [good]
    assert good in [cid for cid, _ in read.presences]


def test_a_want_list_without_end_is_read_up_to_a_limit_and_costs_little() -> None:
    entry = b"\x0a" + varint(36 + 2) + b"\x0a\x24" + Cid.of(RAW, b"x").raw
    for filler in (b"\x0a\x00", entry):
        entries = filler * ((MAX_MESSAGE_BYTES - 10) // len(filler))
        frame = b"\x0a" + varint(len(entries)) + entries
        # Calls and not seconds: threads of other tests run in this process too.
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count)
        try:
            read = decode(frame)
        finally:
            sys.setprofile(None)
        assert calls < 100 * MAX_ENTRIES
        assert len(read.wants) <= MAX_ENTRIES
        assert read.unread_bytes > len(frame) - (MAX_ENTRIES + 9) * len(filler)


def test_more_blocks_or_presences_than_anybody_sends_are_refused() -> None:
    with pytest.raises(InvalidMessage):
        decode(b"\x1a\x00" * 10_000)
    with pytest.raises(InvalidMessage):
        decode(b"\x12\x00" * 10_000)
    presence = b"\x22\x26\x0a\x24" + Cid.of(RAW, b"x").raw
    with pytest.raises(InvalidMessage):
        decode(presence * 10_000)
