"""The answer of SignReceipts, to and from compute_service.proto."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.v1 import compute_service_pb2, ledger_pb2
from bacalhau.wire.refusal import refusal_from_proto, refusal_to_proto

if TYPE_CHECKING:
    from bacalhau.model.refusals import Refusal
    from bacalhau.v1 import envelope_pb2

    SignedEnvelope = envelope_pb2.SignedEnvelope


@dataclass(frozen=True, slots=True)
class ReceiptsAnswer:
    """Receipts as far as the node takes them, `signed` by it, and why it does not take the next one.

    With a refusal: `next_sequence` is of the receipt that the node would take, and `signed_before` are those that it
    has from the refused number on, as envelopes of requester and node. `note` is its last settlement note, where the
    requester does not know it.
    """

    signed: tuple[SignedEnvelope, ...]
    refusal: Refusal | None = None
    next_sequence: int = 0
    signed_before: tuple[tuple[SignedEnvelope, SignedEnvelope], ...] = ()
    note: SignedEnvelope | None = None


def answer_to_proto(answer: ReceiptsAnswer) -> compute_service_pb2.SignReceiptsResponse:
    return compute_service_pb2.SignReceiptsResponse(
        receipts=answer.signed,
        refusal=None if answer.refusal is None else refusal_to_proto(answer.refusal),
        next_sequence=answer.next_sequence,
        signed_before=[
            ledger_pb2.SignedReceipt(requester=requester, node=node)
            for requester, node in answer.signed_before
        ],
        note=answer.note,
    )


def answer_from_proto(response: compute_service_pb2.SignReceiptsResponse) -> ReceiptsAnswer:
    """Raises Refused(MALFORMED)."""
    return ReceiptsAnswer(
        tuple(response.receipts),
        refusal_from_proto(response.refusal) if response.HasField("refusal") else None,
        response.next_sequence,
        tuple((both.requester, both.node) for both in response.signed_before),
        response.note if response.HasField("note") else None,
    )
