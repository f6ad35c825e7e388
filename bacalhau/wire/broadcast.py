"""What travels on gossip topics: a node's record as its envelope, and offers of one requester together.

Owns form and limits of these messages. Who may publish how often is not its matter, nor who has seen what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from bacalhau.model.market import JobOffer
from bacalhau.model.node import NodeRecord
from bacalhau.model.refusals import RefusalReason, refused
from bacalhau.v1 import broadcast_pb2, envelope_pb2
from bacalhau.wire.envelope import Opened, SignedEnvelope, open_envelope, open_message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A record with a hundred of the longest labels is 52 KiB; most are one.
RECORD_BYTES_MAX: Final = 64 * 1024
# Every node forwards each message to three or four others, so it must stay far below the megabyte that gossip carries.
OFFERS_BYTES_MAX: Final = 128 * 1024
OFFERS_MAX: Final = 100


def encode_record(envelope: SignedEnvelope) -> bytes:
    return envelope.SerializeToString()


def encode_offers(envelopes: Iterable[SignedEnvelope]) -> Iterator[bytes]:
    """As few messages as hold them. An offer that is too large for one is left out: it travels by gRPC alone."""
    message = broadcast_pb2.OfferBroadcast()
    size = 0
    for envelope in envelopes:
        # The field's tag and length take at most five bytes at these sizes.
        one = envelope.ByteSize() + 5
        if one > OFFERS_BYTES_MAX:
            continue
        if message.offers and (size + one > OFFERS_BYTES_MAX or len(message.offers) == OFFERS_MAX):
            yield message.SerializeToString()
            message = broadcast_pb2.OfferBroadcast()
            size = 0
        message.offers.append(envelope)
        size += one
    if message.offers:
        yield message.SerializeToString()


def open_record(data: bytes, publisher: str, *, now_us: int) -> tuple[Opened[NodeRecord], SignedEnvelope]:
    """The record in a message of `publisher`. Raises Refused, as open_envelope does."""
    if len(data) > RECORD_BYTES_MAX:
        raise refused(RefusalReason.TOO_LARGE, f"a record has at most {RECORD_BYTES_MAX} bytes")
    opened = open_envelope(data, NodeRecord, now_us=now_us, self_id="")
    _check_publisher(opened.sender, publisher)
    return opened, envelope_pb2.SignedEnvelope.FromString(data)


def open_offers(data: bytes, publisher: str, *, now_us: int) -> list[Opened[JobOffer]]:
    """The offers in a message of `publisher`: all of them in order, or Refused."""
    if len(data) > OFFERS_BYTES_MAX:
        raise refused(RefusalReason.TOO_LARGE, f"offers have at most {OFFERS_BYTES_MAX} bytes together")
    try:
        message = broadcast_pb2.OfferBroadcast.FromString(data)
    except DecodeError as error:
        raise refused(RefusalReason.MALFORMED, "the message is no OfferBroadcast") from error
    if not 1 <= len(message.offers) <= OFFERS_MAX:
        raise refused(RefusalReason.MALFORMED, f"a message holds from 1 to {OFFERS_MAX} offers")
    opened = []
    for envelope in message.offers:
        offer = open_message(envelope, JobOffer, now_us=now_us, self_id="")
        _check_publisher(offer.sender, publisher)
        opened.append(offer)
    return opened


def _check_publisher(sender: str, publisher: str) -> None:
    if sender != publisher:
        raise refused(RefusalReason.BAD_SIGNATURE, f"{publisher} published what {sender} signed")
