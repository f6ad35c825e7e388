"""What a job may ask of verification, and reputations as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from bacalhau.model.refusals import RefusalReason, Refused
from bacalhau.model.verification import Verification, VerificationPolicy
from bacalhau.v1 import verification_pb2
from bacalhau.wire.verification import (
    reputation_from_proto,
    reputation_to_proto,
    verification_from_proto,
)
from tests.wire import strategies

if TYPE_CHECKING:
    from bacalhau.model.reputation import Reputation

NONE = verification_pb2.VERIFICATION_POLICY_NONE
REPLICATED = verification_pb2.VERIFICATION_POLICY_REPLICATED
ADAPTIVE = verification_pb2.VERIFICATION_POLICY_ADAPTIVE


@pytest.mark.parametrize(("count", "confidence"), [(2, 2), (3, 2), (4, 3), (5, 3), (1000, 501)])
def test_a_replicated_job_wants_more_than_half_to_agree_where_it_does_not_say(
    count: int, confidence: int
) -> None:
    read = verification_from_proto(verification_pb2.Verification(policy=REPLICATED), count)
    assert read == Verification(VerificationPolicy.REPLICATED, confidence)


def test_an_adaptive_job_wants_two_to_agree() -> None:
    read = verification_from_proto(verification_pb2.Verification(policy=ADAPTIVE, ignore_stdout=True), 1)
    assert read == Verification(VerificationPolicy.ADAPTIVE, 2, ignore_stdout=True)


def test_nothing_said_compares_nothing() -> None:
    assert verification_from_proto(verification_pb2.Verification(), 7) == Verification()
    assert verification_from_proto(verification_pb2.Verification(policy=NONE), 7) == Verification()


@pytest.mark.parametrize(
    ("message", "count", "says"),
    [
        (verification_pb2.Verification(policy=REPLICATED), 1, "needs a count of at least 2"),
        (verification_pb2.Verification(policy=REPLICATED, confidence=1), 3, "confidence must be from 2 to 3"),
        (verification_pb2.Verification(policy=REPLICATED, confidence=4), 3, "confidence must be from 2 to 3"),
        (verification_pb2.Verification(policy=ADAPTIVE), 2, "count must be 1"),
        (verification_pb2.Verification(policy=ADAPTIVE, confidence=3), 1, "confidence (with adaptive)"),
        (verification_pb2.Verification(confidence=2), 3, "its policy compares none"),
        (verification_pb2.Verification(policy=NONE, ignore_stdout=True), 3, "its policy compares none"),
        (verification_pb2.Verification(policy=17), 3, "does not know"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_verified_is_refused(
    message: verification_pb2.Verification, count: int, says: str
) -> None:
    with pytest.raises(Refused) as caught:
        verification_from_proto(message, count)
    assert caught.value.refusal.reason is RefusalReason.MALFORMED
    assert says in caught.value.refusal.message


@given(strategies.reputations)
def test_a_reputation_is_read_as_it_was_written(reputation: Reputation) -> None:
    message = reputation_to_proto(reputation)
    known = reputation_from_proto(message, reputation.node_id, reputation.role, reputation.updated_us)
    assert known == reputation
