"""Envelopes and what is remembered of them."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from bacalhau.model.auction import ClearingRule
from bacalhau.model.market import Award, Bid
from bacalhau.model.node import NodeRecord
from bacalhau.model.refusals import RefusalReason, Refused
from bacalhau.model.units import SECOND_US
from bacalhau.v1 import envelope_pb2, job_pb2
from bacalhau.wire import limits
from bacalhau.wire.envelope import (
    DOMAIN,
    PAYLOAD_TYPE,
    Opened,
    encode_envelope,
    open_envelope,
    open_message,
    open_stored,
    seal,
    seal_message,
    signing_input,
)
from bacalhau.wire.identity import NodeKey, is_signed_by
from bacalhau.wire.job import spec_from_proto
from bacalhau.wire.seen import SeenStatements, Sighting
from bacalhau.wire.statements import OfferClosed
from tests.wire import strategies

ALICE, BOB, EVE, _ = strategies.KEYS
NOW_US = 1_790_000_000_000_000
VALID_FOR_US = 10 * SECOND_US
BID = Bid("b-1", "o-1", 1_500_000, 5 * SECOND_US)


def sealed(key: NodeKey = ALICE, body: Any = BID, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "id": "s-1",
        "issued_at_us": NOW_US,
        "valid_for_us": VALID_FOR_US,
        "recipient": BOB.node_id,
        **changes,
    }
    return seal(key, body, **values)


def resigned(change: Any, key: NodeKey = ALICE) -> bytes:
    """An envelope that `key` signed though its statement, changed by `change`, is not as it should be."""
    statement = envelope_pb2.Statement.FromString(envelope_pb2.SignedEnvelope.FromString(sealed()).payload)
    change(statement)
    payload = statement.SerializeToString()
    signature = key.sign(signing_input(DOMAIN, PAYLOAD_TYPE, payload))
    return encode_envelope(key.public_key, PAYLOAD_TYPE, payload, signature)


def opened(data: bytes, *, now_us: int = NOW_US, self_id: str = BOB.node_id) -> Opened[Any]:
    return open_envelope(data, now_us=now_us, self_id=self_id)


def refused(data: bytes, **changes: Any) -> RefusalReason:
    with pytest.raises(Refused) as caught:
        opened(data, **changes)
    return caught.value.refusal.reason


# The layout, held against other implementations.

# go-libp2p-core, record/envelope_test.go: domain "libp2p-testing", payload type "/libp2p/testdata".
GO_TEST_ENVELOPE = bytes.fromhex(
    "0a24080112206f1581709bb7b1ef030d210db18e3b0ba1c776fba65d8cdaad05415142d189f812102f6c69627032702f7465737464617461"
    "1a0c68656c6c6f20776f726c64212a401178673b51dfa842aad17e465e25d646ad16628916b964c3fb10c711fee87872bdd4e4646f58c277"
    "cdff09704913d8be1aec6322de8d3d0bb852120374aece08"
)
# A peer record that go-libp2p's record.Seal made.
GO_PEER_RECORD = bytes.fromhex(
    "0a240801122079b5562e8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad049664120203011a500a2600240801122079b5562e"
    "8fe654f94078b112e8a98ba7901f853ae695bed7e0e3910bad0496641088ef99abc5e88c91111a0d0a0b047f00000191020fa1cd031a0d0a"
    "0b04c0a8000a91022328cd032a40d85c6ac219c546773786025106fb199fa63b456e808af9cdbed155efd4dc1114cf7eb912a0b1cc2adfcb"
    "129f4fe54bdc47fb03987733be3107fed37c6495e30a"
)


@pytest.mark.parametrize(
    ("data", "domain"), [(GO_TEST_ENVELOPE, b"libp2p-testing"), (GO_PEER_RECORD, b"libp2p-peer-record")]
)
def test_envelopes_of_go_libp2p_have_our_layout_and_a_signature_that_holds(
    data: bytes, domain: bytes
) -> None:
    message = envelope_pb2.SignedEnvelope.FromString(data)
    key = message.public_key.data
    covered = signing_input(domain, message.payload_type, message.payload)
    assert is_signed_by(key, covered, message.signature)
    assert not is_signed_by(
        key, signing_input(DOMAIN, message.payload_type, message.payload), message.signature
    )
    assert encode_envelope(key, message.payload_type, message.payload, message.signature) == data
    assert refused(data) is RefusalReason.MALFORMED


def test_a_long_payload_has_a_length_of_several_bytes() -> None:
    assert signing_input(b"d", b"t", bytes(300)) == b"\x01d\x01t\xac\x02" + bytes(300)


# What opens.


@settings(max_examples=150)
@given(st.data())
def test_every_statement_survives_its_envelope(data: st.DataObject) -> None:
    key = data.draw(strategies.node_keys)
    body: Any = data.draw(strategies.bodies(key))
    issued_at_us, valid_for_us = data.draw(strategies.instants_us), data.draw(strategies.validities_us)
    statement_id = data.draw(strategies.ids)
    values: dict[str, Any] = {
        "id": statement_id,
        "issued_at_us": issued_at_us,
        "valid_for_us": valid_for_us,
        "recipient": BOB.node_id,
    }
    raw = seal(key, body, **values)
    result = opened(raw, now_us=issued_at_us)
    assert result == Opened(
        key.node_id,
        statement_id,
        BOB.node_id,
        issued_at_us,
        valid_for_us,
        body,
        hashlib.sha256(raw).digest(),
        raw,
    )
    message = seal_message(key, body, **values)
    assert open_message(message, now_us=issued_at_us, self_id=BOB.node_id) == result
    assert open_stored(raw) == result
    assert envelope_pb2.SignedEnvelope.FromString(raw).SerializeToString(deterministic=True) == raw


def test_an_envelope_in_a_request_has_the_digest_that_its_sender_knows() -> None:
    raw = sealed()
    request = envelope_pb2.SignedEnvelope.FromString(raw + b"\x82\x01\x01x")  # field 16, of a later version
    assert (
        open_message(request, Bid, now_us=NOW_US, self_id=BOB.node_id).digest == hashlib.sha256(raw).digest()
    )


def test_fields_of_a_later_version_in_a_signed_statement_are_verified_as_they_came() -> None:
    payload = envelope_pb2.SignedEnvelope.FromString(sealed()).payload + b"\x82\x06\x03new"
    signature = ALICE.sign(signing_input(DOMAIN, PAYLOAD_TYPE, payload))
    assert opened(encode_envelope(ALICE.public_key, PAYLOAD_TYPE, payload, signature)).body == BID


def test_a_record_to_everyone_opens_at_anyone() -> None:
    record = NodeRecord(ALICE.node_id, (), bytes(32), 1, True, False)
    raw = sealed(body=record, recipient="")
    assert opened(raw).body == record
    assert opened(raw, self_id=EVE.node_id).body == record


# What does not.


def test_tampering_with_any_byte_is_refused() -> None:
    raw = sealed()
    for index in range(len(raw)):
        for bit in (0, 3, 7):
            tampered = bytearray(raw)
            tampered[index] ^= 1 << bit
            assert refused(bytes(tampered)) in (RefusalReason.MALFORMED, RefusalReason.BAD_SIGNATURE)


@given(st.data())
def test_cut_lengthened_and_spliced_envelopes_are_refused(data: st.DataObject) -> None:
    raw = sealed()
    at, cut = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 8))
    changed = raw[:at] + data.draw(st.binary(max_size=8)) + raw[at + cut :]
    if changed != raw:
        assert refused(changed) in (RefusalReason.MALFORMED, RefusalReason.BAD_SIGNATURE)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert refused(data) is RefusalReason.MALFORMED


@settings(max_examples=300)
@given(st.data())
def test_any_statement_that_a_stranger_signs_opens_or_is_refused(data: st.DataObject) -> None:
    body: Any = data.draw(strategies.bodies(ALICE))
    payload = bytearray(envelope_pb2.SignedEnvelope.FromString(sealed(body=body)).payload)
    at = data.draw(st.integers(0, len(payload)))
    payload[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=5))
    signature = ALICE.sign(signing_input(DOMAIN, PAYLOAD_TYPE, bytes(payload)))
    with suppress(Refused):
        opened(encode_envelope(ALICE.public_key, PAYLOAD_TYPE, bytes(payload), signature))
    try:
        nested = envelope_pb2.SignedEnvelope.FromString(bytes(payload))
    except DecodeError:
        return
    with pytest.raises(Refused):
        open_message(nested, now_us=NOW_US, self_id=BOB.node_id)


def test_another_encoding_of_the_same_envelope_is_refused() -> None:
    raw = sealed()
    assert raw.startswith(b"\x0a\x24\x08\x01")
    for other in (
        b"\x8a\x00" + raw[1:],  # a tag longer than needed
        raw + raw[-66:],  # the signature twice
        raw[38:] + raw[:38],  # the key last
        raw + b"\x30\x01",  # an unknown field
    ):
        assert envelope_pb2.SignedEnvelope.FromString(other).signature == raw[-64:]
        assert refused(other) is RefusalReason.MALFORMED


def test_a_signature_of_another_key_is_refused() -> None:
    message = envelope_pb2.SignedEnvelope.FromString(sealed())
    message.public_key.data = EVE.public_key
    assert refused(message.SerializeToString()) is RefusalReason.BAD_SIGNATURE


def test_a_signature_for_another_purpose_is_refused() -> None:
    payload = envelope_pb2.SignedEnvelope.FromString(sealed()).payload
    signature = ALICE.sign(signing_input(b"libp2p-peer-record", PAYLOAD_TYPE, payload))
    raw = encode_envelope(ALICE.public_key, PAYLOAD_TYPE, payload, signature)
    assert refused(raw) is RefusalReason.BAD_SIGNATURE


def test_a_record_signed_by_another_node_is_refused() -> None:
    record = NodeRecord(ALICE.node_id, (), bytes(32), 1, True, False)
    assert refused(sealed(EVE, record, recipient="")) is RefusalReason.BAD_SIGNATURE


def test_rsa_and_unknown_keys_are_refused() -> None:
    for number in (0, 2, 99):
        message = envelope_pb2.SignedEnvelope.FromString(sealed())
        message.public_key.type = number  # type: ignore[assignment]
        assert refused(message.SerializeToString()) is RefusalReason.MALFORMED
        with pytest.raises(Refused, match="must be an Ed25519 key"):
            open_message(message, now_us=NOW_US, self_id=BOB.node_id)


def test_a_statement_for_another_node_is_refused() -> None:
    assert refused(sealed(recipient=EVE.node_id)) is RefusalReason.WRONG_RECIPIENT


def test_a_bid_to_nobody_is_refused() -> None:
    def clear(statement: envelope_pb2.Statement) -> None:
        statement.recipient = ""

    assert refused(resigned(clear)) is RefusalReason.WRONG_RECIPIENT
    with pytest.raises(ValueError, match="recipient"):
        sealed(recipient="")


def test_a_body_of_a_later_version_is_refused() -> None:
    statement = envelope_pb2.SignedEnvelope.FromString(sealed())
    payload = envelope_pb2.Statement.FromString(statement.payload)
    payload.ClearField("bid")
    unknown = payload.SerializeToString() + b"\xfa\x01\x00"  # field 31
    raw = encode_envelope(
        ALICE.public_key, PAYLOAD_TYPE, unknown, ALICE.sign(signing_input(DOMAIN, PAYLOAD_TYPE, unknown))
    )
    assert refused(raw) is RefusalReason.MALFORMED


def test_a_statement_of_another_kind_than_expected_is_refused() -> None:
    with pytest.raises(Refused, match="must be of the kind 'award', got 'bid'"):
        open_envelope(sealed(), Award, now_us=NOW_US, self_id=BOB.node_id)


@pytest.mark.parametrize(
    ("now_us", "fresh"),
    [
        (NOW_US + VALID_FOR_US + 30 * SECOND_US, True),
        (NOW_US + VALID_FOR_US + 30 * SECOND_US + 1, False),
        (NOW_US - 30 * SECOND_US, True),
        (NOW_US - 30 * SECOND_US - 1, False),
    ],
)
def test_a_statement_is_stale_beyond_its_validity_and_30_seconds(now_us: int, fresh: bool) -> None:
    if fresh:
        assert opened(sealed(), now_us=now_us).body == BID
    else:
        assert refused(sealed(), now_us=now_us) is RefusalReason.STALE
        assert open_stored(sealed(), Bid).body == BID


def test_a_validity_that_nobody_would_accept_is_not_sealed_and_not_opened() -> None:
    with pytest.raises(ValueError, match="valid_for_us"):
        sealed(valid_for_us=limits.MAX_VALID_FOR_US + 1)

    def forever(statement: envelope_pb2.Statement) -> None:
        statement.valid_for.seconds = 10**9

    assert refused(resigned(forever)) is RefusalReason.MALFORMED


def test_an_envelope_above_the_limit_is_too_large_before_it_is_read() -> None:
    assert refused(b"\xff" * (limits.MAX_ENVELOPE_BYTES + 1)) is RefusalReason.TOO_LARGE


def test_the_largest_spec_that_is_accepted_fits_its_award() -> None:
    message = job_pb2.JobSpec(docker=job_pb2.DockerTask(image="ubuntu", command=["x"]))
    values = [f"{index:03}" + "y" * 250 for index in range(100)]
    while message.ByteSize() < limits.MAX_SPEC_BYTES - 26_000:
        message.constraints.add(key="k", operator=job_pb2.CONSTRAINT_OPERATOR_IN, values=values)
    award = Award(
        "e-1",
        "j-1",
        "o-1",
        "b-1",
        1,
        ClearingRule.FIRST_PRICE,
        bytes(32),
        spec_from_proto(message),
        SECOND_US,
    )
    assert opened(sealed(body=award)).body == award


def test_what_is_wrong_in_every_way_is_refused_for_the_first_that_applies() -> None:
    later_us = NOW_US + 3600 * SECOND_US

    def spoil(statement: envelope_pb2.Statement) -> None:
        statement.bid.price_microcredits = -1

    raw = sealed(recipient=EVE.node_id)
    assert refused(raw, now_us=later_us) is RefusalReason.WRONG_RECIPIENT
    unsigned = raw[:-64] + bytes(64)
    assert refused(unsigned, now_us=later_us) is RefusalReason.BAD_SIGNATURE
    malformed = resigned(spoil)
    assert refused(malformed[:-64] + bytes(64), now_us=later_us) is RefusalReason.MALFORMED


# What is remembered.


def test_an_identical_repeat_gets_the_stored_answer() -> None:
    seen: SeenStatements[str] = SeenStatements()
    first = opened(sealed())
    assert seen.see(first, now_us=NOW_US) == (Sighting.NEW, None)
    assert seen.see(first, now_us=NOW_US) == (Sighting.IN_WORK, None)
    seen.answer(first, "yes")
    assert seen.see(opened(sealed()), now_us=NOW_US) == (Sighting.ANSWERED, "yes")


def test_the_same_id_with_other_content_is_refused() -> None:
    seen: SeenStatements[str] = SeenStatements()
    seen.see(opened(sealed()), now_us=NOW_US)
    with pytest.raises(Refused) as caught:
        seen.see(opened(sealed(body=OfferClosed("o-1"))), now_us=NOW_US)
    assert caught.value.refusal.reason is RefusalReason.ID_REUSED


def test_the_same_id_of_two_senders_is_two_statements() -> None:
    seen: SeenStatements[str] = SeenStatements()
    assert seen.see(opened(sealed()), now_us=NOW_US)[0] is Sighting.NEW
    assert seen.see(opened(sealed(EVE)), now_us=NOW_US)[0] is Sighting.NEW


def test_a_statement_is_remembered_as_long_as_it_would_be_accepted() -> None:
    seen: SeenStatements[str] = SeenStatements()
    first = opened(sealed())
    seen.see(first, now_us=NOW_US)
    last_us = first.stale_after_us
    assert opened(sealed(), now_us=last_us) == first
    assert seen.see(first, now_us=last_us)[0] is Sighting.IN_WORK
    assert refused(sealed(), now_us=last_us + 1) is RefusalReason.STALE
    seen.see(opened(sealed(id="s-2", issued_at_us=last_us), now_us=last_us), now_us=last_us + 1)
    assert len(seen) == 1


def test_a_statement_whose_handling_failed_is_new_again() -> None:
    seen: SeenStatements[str] = SeenStatements()
    first = opened(sealed())
    seen.see(first, now_us=NOW_US)
    seen.forget(first)
    assert seen.see(first, now_us=NOW_US) == (Sighting.NEW, None)
    seen.see(
        opened(sealed(id="s-2", issued_at_us=NOW_US + 60 * SECOND_US), now_us=NOW_US + 60 * SECOND_US),
        now_us=NOW_US + 60 * SECOND_US,
    )
    assert len(seen) == 1


def test_a_full_memory_refuses_and_forgets_nothing() -> None:
    seen: SeenStatements[str] = SeenStatements(per_sender=2, in_total=3)
    for statement_id in ("s-1", "s-2"):
        seen.see(opened(sealed(id=statement_id)), now_us=NOW_US)
    with pytest.raises(Refused) as of_sender:
        seen.see(opened(sealed(id="s-3")), now_us=NOW_US)
    seen.see(opened(sealed(EVE)), now_us=NOW_US)
    with pytest.raises(Refused) as in_all:
        seen.see(opened(sealed(BOB)), now_us=NOW_US)
    assert {of_sender.value.refusal.reason, in_all.value.refusal.reason} == {RefusalReason.LIMIT_REACHED}
    assert seen.see(opened(sealed()), now_us=NOW_US)[0] is Sighting.IN_WORK
    assert len(seen) == 3
