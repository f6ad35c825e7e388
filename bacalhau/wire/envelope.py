"""Signed envelopes: how a statement travels, and all that is checked when it arrives.

Owns the domain, the layout of what is signed and the order of the checks. Remembers nothing (see `seen`) and
reads no clock.

Source: RFC 0002 of the libp2p specifications (signed envelopes). The signature covers domain, payload type
and payload, each after its length as an unsigned varint; the payload is kept and verified as the bytes that
came.

An envelope has one byte form only, the canonical protobuf of its four fields. Another encoding of the same
fields is refused, since anybody could make a second one of somebody else's statement, with another digest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from google.protobuf.message import DecodeError

from bacalhau.model.auction import Clearing
from bacalhau.model.execution import ExecutionReport
from bacalhau.model.ledger import Receipt, SettlementNote
from bacalhau.model.market import Award, Bid, Decline, JobOffer, LeaseRenewal
from bacalhau.model.node import NodeRecord
from bacalhau.model.refusals import RefusalReason, refused
from bacalhau.model.units import SECOND_US
from bacalhau.model.varint import varint
from bacalhau.model.verification import ResultCommitment
from bacalhau.v1 import envelope_pb2
from bacalhau.wire import auction, execution, fields, limits, market, node, receipt, verification
from bacalhau.wire.identity import PUBLIC_KEY_BYTES, PUBLIC_KEY_HEADER, NodeKey, is_signed_by, node_id_of
from bacalhau.wire.statements import Acknowledgement, Cancellation, LogRequest, OfferClosed, RevealRequest

if TYPE_CHECKING:
    from collections.abc import Callable

# Signed but never sent: a signature that this key gave for another purpose (a libp2p peer record, a gossip
# message, an IPNS name) can never pass for a statement, nor a statement for one of those.
DOMAIN: Final = b"bacalhau-statement"
# Names what the payload is; the next version of Statement that this one cannot read gets another.
PAYLOAD_TYPE: Final = b"/bacalhau/v1/statement"

SignedEnvelope = envelope_pb2.SignedEnvelope
"""An envelope as messages carry it, under a name that code above `wire` may use."""

Body = (
    NodeRecord
    | JobOffer
    | Bid
    | Decline
    | Acknowledgement
    | Award
    | OfferClosed
    | LeaseRenewal
    | Cancellation
    | LogRequest
    | ExecutionReport
    | Clearing
    | ResultCommitment
    | RevealRequest
    | Receipt
    | SettlementNote
)
B = TypeVar("B", bound=Body)

# Field of Statement's `body` -> (model, to proto, from proto).
_BODIES: Final[dict[str, tuple[type[Body], Callable[[Any], Any], Callable[[Any], Body]]]] = {
    "record": (NodeRecord, node.record_to_proto, node.record_from_proto),
    "offer": (JobOffer, market.offer_to_proto, market.offer_from_proto),
    "bid": (Bid, market.bid_to_proto, market.bid_from_proto),
    "decline": (Decline, market.decline_to_proto, market.decline_from_proto),
    "acknowledgement": (Acknowledgement, market.acknowledgement_to_proto, market.acknowledgement_from_proto),
    "award": (Award, market.award_to_proto, market.award_from_proto),
    "offer_closed": (OfferClosed, market.offer_closed_to_proto, market.offer_closed_from_proto),
    "lease_renewal": (LeaseRenewal, market.renewal_to_proto, market.renewal_from_proto),
    "cancellation": (Cancellation, market.cancellation_to_proto, market.cancellation_from_proto),
    "log_request": (LogRequest, market.log_request_to_proto, market.log_request_from_proto),
    "report": (ExecutionReport, execution.report_to_proto, execution.report_from_proto),
    "clearing": (Clearing, auction.clearing_to_proto, auction.clearing_from_proto),
    "commitment": (ResultCommitment, verification.commitment_to_proto, verification.commitment_from_proto),
    "reveal_request": (
        RevealRequest,
        verification.reveal_request_to_proto,
        verification.reveal_request_from_proto,
    ),
    "receipt": (Receipt, receipt.receipt_to_proto, receipt.receipt_from_proto),
    "settlement_note": (SettlementNote, receipt.note_to_proto, receipt.note_from_proto),
}
_FIELD_OF: Final = {model: field for field, (model, _, _) in _BODIES.items()}
# What may be for everyone; anything else is for one peer.
_PUBLIC: Final = (NodeRecord, JobOffer, Clearing)


@dataclass(frozen=True, slots=True)
class Opened(Generic[B]):
    """A statement whose envelope passed the checks. `raw` is the whole envelope and `digest` its SHA-256."""

    sender: str
    statement_id: str
    recipient: str
    issued_at_us: int
    valid_for_us: int
    body: B
    digest: bytes
    raw: bytes

    @property
    def stale_after_us(self) -> int:
        """The last instant at which it is accepted."""
        return self.issued_at_us + self.valid_for_us + limits.CLOCK_SKEW_US


def seal(
    key: NodeKey, body: Body, *, id: str, issued_at_us: int, valid_for_us: int, recipient: str = ""
) -> bytes:
    """A signed envelope's bytes. `recipient` is a node id, or empty for a record, an offer or a clearing to everyone.

    `id` is new for each statement of this key: the same one with other content is refused where it arrives.
    Raises ValueError for a statement that no peer would accept, Refused(TOO_LARGE) for one above the limit.
    """
    if not 1 <= valid_for_us <= limits.MAX_VALID_FOR_US:
        raise ValueError(f"valid_for_us must be from 1 to {limits.MAX_VALID_FOR_US}, got {valid_for_us}")
    if not recipient and not isinstance(body, _PUBLIC):
        raise ValueError(f"{type(body).__name__} needs a recipient")
    field = _FIELD_OF[type(body)]
    statement = envelope_pb2.Statement(
        id=id,
        issued_at=fields.timestamp(issued_at_us),
        valid_for=fields.duration(valid_for_us),
        recipient=recipient,
        **{field: _BODIES[field][1](body)},
    )
    payload = statement.SerializeToString(deterministic=True)
    raw = _raw(key.public_key, payload, key.sign(_signed(payload)))
    if len(raw) > limits.MAX_ENVELOPE_BYTES:
        raise _too_large(len(raw))
    return raw


def seal_message(
    key: NodeKey, body: Body, *, id: str, issued_at_us: int, valid_for_us: int, recipient: str = ""
) -> envelope_pb2.SignedEnvelope:
    """As seal, as the message that RPC requests and responses carry."""
    return envelope_pb2.SignedEnvelope.FromString(
        seal(key, body, id=id, issued_at_us=issued_at_us, valid_for_us=valid_for_us, recipient=recipient)
    )


@overload
def open_envelope(data: bytes, expect: type[B], *, now_us: int, self_id: str) -> Opened[B]: ...
@overload
def open_envelope(data: bytes, *, now_us: int, self_id: str) -> Opened[Body]: ...
def open_envelope(data: bytes, expect: Any = None, *, now_us: int, self_id: str) -> Opened[Any]:
    """Opens an envelope on arrival. `expect` is the body's type, where only one is right.

    Raises Refused with the first of MALFORMED, BAD_SIGNATURE, WRONG_RECIPIENT, STALE that applies; TOO_LARGE
    goes before them all, for what is too large is not read.
    """
    return _received(_parsed(data, expect), now_us, self_id)


@overload
def open_message(
    message: envelope_pb2.SignedEnvelope, expect: type[B], *, now_us: int, self_id: str
) -> Opened[B]: ...
@overload
def open_message(message: envelope_pb2.SignedEnvelope, *, now_us: int, self_id: str) -> Opened[Body]: ...
def open_message(
    message: envelope_pb2.SignedEnvelope, expect: Any = None, *, now_us: int, self_id: str
) -> Opened[Any]:
    """As open_envelope, for an envelope inside another message; its payload is verified as it came."""
    return _received(_read(message, expect), now_us, self_id)


@overload
def open_stored(data: bytes, expect: type[B]) -> Opened[B]: ...
@overload
def open_stored(data: bytes) -> Opened[Body]: ...
def open_stored(data: bytes, expect: Any = None) -> Opened[Any]:
    """Opens an envelope that was kept, whoever it was for and however old it is: an agreement, checked later.

    Raises Refused: TOO_LARGE, MALFORMED or BAD_SIGNATURE.
    """
    return _parsed(data, expect)


def _parsed(data: bytes, expect: Any) -> Opened[Any]:
    if len(data) > limits.MAX_ENVELOPE_BYTES:
        raise _too_large(len(data))
    try:
        message = envelope_pb2.SignedEnvelope.FromString(data)
    except DecodeError as error:
        raise refused(RefusalReason.MALFORMED, "the envelope is no SignedEnvelope message") from error
    return _read(message, expect, data)


def _read(message: envelope_pb2.SignedEnvelope, expect: Any, data: bytes | None = None) -> Opened[Any]:
    """What holds of an envelope forever: form, content and signature."""
    key, payload, signature = message.public_key, message.payload, message.signature
    if len(payload) > limits.MAX_ENVELOPE_BYTES:
        raise _too_large(len(payload))
    if key.type != envelope_pb2.KEY_TYPE_ED25519 or len(key.data) != PUBLIC_KEY_BYTES:
        raise fields.malformed("public_key", "must be an Ed25519 key of 32 bytes")
    if message.payload_type != PAYLOAD_TYPE:
        raise fields.malformed("payload_type", f"must be {PAYLOAD_TYPE.decode()}")
    raw = _raw(key.data, payload, signature)
    if len(raw) > limits.MAX_ENVELOPE_BYTES:
        raise _too_large(len(raw))
    if data is not None and raw != data:
        raise refused(RefusalReason.MALFORMED, "the envelope is not in its canonical encoding")
    opened = _statement(payload, node_id_of(key.data), raw, expect)
    if not is_signed_by(key.data, _signed(payload), signature):
        raise refused(
            RefusalReason.BAD_SIGNATURE, "the signature does not fit the envelope's content and key"
        )
    if isinstance(opened.body, NodeRecord) and opened.body.node_id != opened.sender:
        raise refused(
            RefusalReason.BAD_SIGNATURE,
            f"{opened.sender} signed a record of another node, {opened.body.node_id}",
        )
    return opened


def _statement(payload: bytes, sender: str, raw: bytes, expect: Any) -> Opened[Any]:
    try:
        statement = envelope_pb2.Statement.FromString(payload)
    except DecodeError as error:
        raise refused(RefusalReason.MALFORMED, "the envelope's payload is no Statement message") from error
    field = statement.WhichOneof("body")
    if field is None:
        raise refused(RefusalReason.MALFORMED, "the statement has no body that this version knows")
    model, _, from_proto = _BODIES[field]
    if expect is not None and model is not expect:
        wanted = _FIELD_OF[expect]
        raise refused(RefusalReason.MALFORMED, f"the statement must be of the kind {wanted!r}, got {field!r}")
    if statement.recipient:
        node.node_id_from_proto(statement.recipient, "recipient")
    return Opened(
        sender=sender,
        statement_id=fields.identifier(statement.id, "id"),
        recipient=statement.recipient,
        issued_at_us=fields.timestamp_us(statement.issued_at, "issued_at"),
        valid_for_us=fields.duration_us(
            statement.valid_for, "valid_for", low=1, high=limits.MAX_VALID_FOR_US
        ),
        body=from_proto(getattr(statement, field)),
        digest=hashlib.sha256(raw).digest(),
        raw=raw,
    )


def _received(opened: Opened[Any], now_us: int, self_id: str) -> Opened[Any]:
    """What holds of an envelope here and now: it is for this node, and fresh."""
    if opened.recipient != self_id and (opened.recipient or not isinstance(opened.body, _PUBLIC)):
        meant_for = opened.recipient or "nobody"
        raise refused(RefusalReason.WRONG_RECIPIENT, f"the statement is for {meant_for}, this is {self_id}")
    early_us = opened.issued_at_us - now_us
    if early_us > limits.CLOCK_SKEW_US or now_us > opened.stale_after_us:
        if early_us > 0:
            when = f"{early_us // SECOND_US} s in the future"
        else:
            valid_for = opened.valid_for_us // SECOND_US
            when = f"{-early_us // SECOND_US} s ago, to be valid for {valid_for} s"
        raise refused(
            RefusalReason.STALE,
            f"the statement was signed {when}: check the clocks of both machines",
            issued_at_us=opened.issued_at_us,
            valid_for_us=opened.valid_for_us,
            now_us=now_us,
        )
    return opened


def _too_large(size: int) -> Exception:
    limit = limits.MAX_ENVELOPE_BYTES
    return refused(
        RefusalReason.TOO_LARGE,
        f"the envelope has {size} bytes, at most {limit} are allowed",
        size_bytes=size,
        limit_bytes=limit,
    )


def signing_input(domain: bytes, payload_type: bytes, payload: bytes) -> bytes:
    """The bytes that an envelope's signature covers."""
    return b"".join(
        (
            varint(len(domain)),
            domain,
            varint(len(payload_type)),
            payload_type,
            varint(len(payload)),
            payload,
        )
    )


def encode_envelope(public_key: bytes, payload_type: bytes, payload: bytes, signature: bytes) -> bytes:
    """The canonical protobuf of an envelope; written here, for it is compared on every arrival."""
    return b"".join(
        (
            b"\x0a\x24", PUBLIC_KEY_HEADER, public_key,
            b"\x12", varint(len(payload_type)), payload_type,
            b"\x1a", varint(len(payload)), payload,
            b"\x2a", varint(len(signature)), signature,
        )
    )  # fmt: skip


_SIGNED_PREFIX: Final = signing_input(DOMAIN, PAYLOAD_TYPE, b"").removesuffix(b"\0")


def _signed(payload: bytes) -> bytes:
    """`signing_input` of a statement: only the payload differs from one to the next."""
    return b"".join((_SIGNED_PREFIX, varint(len(payload)), payload))


def _raw(public_key: bytes, payload: bytes, signature: bytes) -> bytes:
    return encode_envelope(public_key, PAYLOAD_TYPE, payload, signature)
