"""Messages as the bytes that columns hold, and back, by the conversions of `wire`.

Owns nothing but the pairing of a conversion with its message class. Text that goes into a column by itself is
made valid UTF-8 here, for file names in an engine's message may not be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.audit import entry_of
from bacalhau.model.cid import Cid
from bacalhau.model.market import WHOLE_PRICE, ClaimedInput
from bacalhau.v1 import (
    auction_pb2,
    execution_pb2,
    job_pb2,
    market_pb2,
    payment_pb2,
    receipt_pb2,
    refusal_pb2,
    reputation_pb2,
)
from bacalhau.wire import fields
from bacalhau.wire.auction import (
    clearing_from_proto,
    clearing_to_proto,
    entry_from_proto,
    entry_to_proto,
)
from bacalhau.wire.execution import fault_from_proto, fault_to_proto, report_from_proto, report_to_proto
from bacalhau.wire.job import spec_from_proto
from bacalhau.wire.market import (
    award_from_proto,
    award_to_proto,
    bid_from_proto,
    bid_to_proto,
    offer_from_proto,
    offer_to_proto,
)
from bacalhau.wire.receipt import (
    note_from_proto,
    note_to_proto,
    payment_from_proto,
    payment_to_proto,
    receipt_from_proto,
    receipt_to_proto,
)
from bacalhau.wire.refusal import refusal_from_proto, refusal_to_proto
from bacalhau.wire.remembered import remembered
from bacalhau.wire.verification import reputation_from_proto, reputation_to_proto

if TYPE_CHECKING:
    from bacalhau.market.audit import BidSetEntry
    from bacalhau.market.clearing import SealedBid
    from bacalhau.model.auction import BidStanding, Clearing
    from bacalhau.model.execution import ExecutionReport, Fault
    from bacalhau.model.job import JobSpec
    from bacalhau.model.ledger import Receipt, SettlementNote
    from bacalhau.model.market import Award, Bid, JobOffer, PaymentTerms
    from bacalhau.model.refusals import Refusal
    from bacalhau.model.reputation import Reputation, Role


def spec_of(data: bytes) -> JobSpec:
    return spec_from_proto(job_pb2.JobSpec.FromString(data))


def inputs_bytes(inputs: tuple[ClaimedInput, ...]) -> bytes:
    """A JobOffer with nothing but its inputs: the protocol has no smaller message for them."""
    if not inputs:
        return b""
    return market_pb2.JobOffer(
        inputs=[market_pb2.ClaimedInput(cid=str(one.cid), size_bytes=one.size_bytes) for one in inputs]
    ).SerializeToString()


def inputs_of(data: bytes) -> tuple[ClaimedInput, ...]:
    message = market_pb2.JobOffer.FromString(data)
    return tuple(ClaimedInput(Cid.parse(one.cid), one.size_bytes) for one in message.inputs)


def offer_bytes(offer: JobOffer) -> bytes:
    return offer_to_proto(offer).SerializeToString()


def offer_of(data: bytes) -> JobOffer:
    return offer_from_proto(market_pb2.JobOffer.FromString(data))


def bid_bytes(bid: Bid | None) -> bytes | None:
    return None if bid is None else bid_to_proto(bid).SerializeToString()


def bid_of(data: bytes | None) -> Bid | None:
    return None if data is None else bid_from_proto(market_pb2.Bid.FromString(data))


def clearing_bytes(clearing: Clearing) -> bytes:
    return clearing_to_proto(clearing).SerializeToString()


def clearing_of(data: bytes) -> Clearing:
    return clearing_from_proto(auction_pb2.Clearing.FromString(data))


def bid_set_bytes(bid_set: tuple[tuple[SealedBid, BidStanding], ...]) -> bytes:
    """Sorted by bid id, then node id, as its digest is over."""
    ordered = sorted(bid_set, key=lambda entry: (entry[0].bid.id, entry[0].node_id))
    message = auction_pb2.BidSet(entries=[entry_to_proto(entry_of(*entry)) for entry in ordered])
    return message.SerializeToString()


def bid_set_of(data: bytes) -> list[BidSetEntry]:
    return [entry_from_proto(entry) for entry in auction_pb2.BidSet.FromString(data).entries]


@remembered
def award_bytes(award: Award) -> bytes:
    return award_to_proto(award).SerializeToString()


def award_of(data: bytes) -> Award:
    return award_from_proto(market_pb2.Award.FromString(data))


@remembered
def payment_bytes(payment: PaymentTerms) -> bytes:
    return payment_to_proto(payment).SerializeToString()


def payment_of(data: bytes | None) -> PaymentTerms:
    """Of what the version before has written, the whole price."""
    return WHOLE_PRICE if data is None else payment_from_proto(payment_pb2.PaymentTerms.FromString(data))


@remembered
def receipt_bytes(receipt: Receipt) -> bytes:
    return receipt_to_proto(receipt).SerializeToString()


def receipt_of(data: bytes) -> Receipt:
    return receipt_from_proto(receipt_pb2.Receipt.FromString(data))


def note_bytes(note: SettlementNote) -> bytes:
    return note_to_proto(note).SerializeToString()


def note_of(data: bytes) -> SettlementNote:
    return note_from_proto(receipt_pb2.SettlementNote.FromString(data))


def report_bytes(report: ExecutionReport | None) -> bytes | None:
    return None if report is None else _report_bytes(report)


@remembered
def _report_bytes(report: ExecutionReport) -> bytes:
    return report_to_proto(report).SerializeToString()


def report_of(data: bytes | None) -> ExecutionReport | None:
    return None if data is None else report_from_proto(execution_pb2.ExecutionReport.FromString(data))


def result_bytes(report: ExecutionReport | None) -> bytes | None:
    """The binary CID of the report's result, None where there is none."""
    return None if report is None or report.result is None else report.result.raw


def fault_bytes(fault: Fault | None) -> bytes | None:
    return None if fault is None else fault_to_proto(fault).SerializeToString()


def fault_of(data: bytes | None) -> Fault | None:
    return None if data is None else fault_from_proto(execution_pb2.Fault.FromString(data))


def refusal_bytes(refusal: Refusal | None) -> bytes | None:
    return None if refusal is None else refusal_to_proto(refusal).SerializeToString()


def refusal_of(data: bytes | None) -> Refusal | None:
    return None if data is None else refusal_from_proto(refusal_pb2.Refusal.FromString(data))


def reputation_bytes(reputation: Reputation) -> bytes:
    return reputation_to_proto(reputation).SerializeToString()


def reputation_of(data: bytes, node_id: str, role: Role, updated_us: int) -> Reputation:
    return reputation_from_proto(reputation_pb2.Reputation.FromString(data), node_id, role, updated_us)


def text(message: str) -> str:
    """A message for a person, as it is stored and sent."""
    return message if message == "" else fields.sent_message(message)
