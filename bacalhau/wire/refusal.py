"""Refusals and their figures, to and from refusal.proto."""

from __future__ import annotations

from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.v1 import refusal_pb2
from bacalhau.wire import fields, limits


def refusal_to_proto(refusal: Refusal) -> refusal_pb2.Refusal:
    return refusal_pb2.Refusal(
        reason=fields.number(refusal.reason),
        message=fields.sent_message(refusal.message),
        figures=[refusal_pb2.Figure(name=name, value=value) for name, value in refusal.figures],
    )


def refusal_from_proto(message: refusal_pb2.Refusal, field: str = "refusal") -> Refusal:
    """Raises Refused(MALFORMED), also for a reason that this version does not know."""
    fields.at_most(message.figures, f"{field}.figures", limits.MAX_FIGURES)
    return Refusal(
        fields.member(RefusalReason, message.reason, f"{field}.reason"),
        fields.message(message.message, f"{field}.message"),
        tuple(
            (fields.identifier(figure.name, f"{field}.figures[{index}].name"), figure.value)
            for index, figure in enumerate(message.figures)
        ),
    )
