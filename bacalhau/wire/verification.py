"""Verification, commitments and reputations, to and from verification.proto and reputation.proto."""

from __future__ import annotations

from typing import Final

from bacalhau.market.verification import ADAPTIVE_CONFIDENCE
from bacalhau.model.reputation import Conduct, ConductCount, Reputation, Role
from bacalhau.model.verification import ResultCommitment, Verification, VerificationPolicy
from bacalhau.v1 import reputation_pb2, verification_pb2
from bacalhau.wire import fields, limits
from bacalhau.wire.statements import RevealRequest

_COUNT_MAX: Final = 2**62


def verification_to_proto(verification: Verification) -> verification_pb2.Verification | None:
    """None where nothing is compared: a job that does not verify says nothing of it."""
    if not verification.compares:
        return None
    return verification_pb2.Verification(
        policy=fields.number(verification.policy),
        confidence=verification.confidence,
        ignore_stdout=verification.ignore_stdout,
    )


def verification_from_proto(
    message: verification_pb2.Verification, count: int, field: str = "verification"
) -> Verification:
    """With its default filled in, for a job on `count` nodes. Raises Refused(MALFORMED)."""
    policy = (
        fields.member(VerificationPolicy, message.policy, f"{field}.policy")
        if message.policy
        else VerificationPolicy.NONE
    )
    confidence = message.confidence
    match policy:
        case VerificationPolicy.NONE:
            if confidence or message.ignore_stdout:
                raise fields.malformed(
                    field,
                    "says how results are compared, and its policy compares none: set replicated or adaptive",
                )
        case VerificationPolicy.REPLICATED:
            if count < 2:
                raise fields.malformed(f"{field}.policy", "replicated needs a count of at least 2")
            confidence = fields.whole(confidence or count // 2 + 1, f"{field}.confidence", 2, count)
        case VerificationPolicy.ADAPTIVE:
            if count != 1:
                raise fields.malformed(
                    f"{field}.policy",
                    f"adaptive chooses the number of nodes itself: count must be 1, got {count}",
                )
            confidence = fields.whole(
                confidence or ADAPTIVE_CONFIDENCE,
                f"{field}.confidence (with adaptive)",
                ADAPTIVE_CONFIDENCE,
                ADAPTIVE_CONFIDENCE,
            )
    return Verification(policy, confidence, message.ignore_stdout)


def commitment_to_proto(commitment: ResultCommitment) -> verification_pb2.ResultCommitment:
    return verification_pb2.ResultCommitment(
        execution_id=commitment.execution_id, attempt=commitment.attempt, digest=commitment.digest
    )


def commitment_from_proto(message: verification_pb2.ResultCommitment) -> ResultCommitment:
    """Raises Refused(MALFORMED)."""
    return ResultCommitment(
        fields.identifier(message.execution_id, "execution_id"),
        fields.whole(message.attempt, "attempt", 0, limits.MAX_ATTEMPT),
        fields.digest(message.digest, "digest"),
    )


def reveal_request_to_proto(request: RevealRequest) -> verification_pb2.RevealRequest:
    return verification_pb2.RevealRequest(execution_id=request.execution_id)


def reveal_request_from_proto(message: verification_pb2.RevealRequest) -> RevealRequest:
    """Raises Refused(MALFORMED)."""
    return RevealRequest(fields.identifier(message.execution_id, "execution_id"))


def reputation_to_proto(reputation: Reputation, score_ppm: int = 0) -> reputation_pb2.Reputation:
    return reputation_pb2.Reputation(
        counts=[
            reputation_pb2.ConductCount(
                conduct=fields.number(seen.conduct), count=seen.count, recent_ppm=seen.recent_ppm
            )
            for seen in reputation.counts
        ],
        consecutive_valid=reputation.consecutive_valid,
        score_ppm=score_ppm,
    )


def reputation_from_proto(
    message: reputation_pb2.Reputation, node_id: str, role: Role, updated_us: int
) -> Reputation:
    """As this node stored it. Raises Refused(MALFORMED)."""
    return Reputation(
        node_id,
        role,
        updated_us,
        tuple(
            ConductCount(
                fields.member(Conduct, seen.conduct, f"counts[{index}].conduct"),
                fields.whole(seen.count, f"counts[{index}].count", 0, _COUNT_MAX),
                fields.whole(seen.recent_ppm, f"counts[{index}].recent_ppm", 0, _COUNT_MAX),
            )
            for index, seen in enumerate(message.counts)
        ),
        fields.whole(message.consecutive_valid, "consecutive_valid", 0, _COUNT_MAX),
    )
