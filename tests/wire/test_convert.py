"""Messages and the model: every value survives, and a bad one is refused by the name of its field."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from bacalhau.market.audit import BidSetEntry
from bacalhau.model.auction import AuctionTerms, BidStanding, ClearingRule, ScoringWeights
from bacalhau.model.cid import RAW, Cid
from bacalhau.model.job import Engine, NetworkMode
from bacalhau.model.market import WHOLE_PRICE, JobOffer
from bacalhau.model.refusals import RefusalReason, Refused
from bacalhau.model.resources import DEFAULT_JOB_RESOURCES
from bacalhau.v1 import (
    auction_pb2,
    execution_pb2,
    job_pb2,
    market_pb2,
    node_pb2,
    payment_pb2,
    receipt_pb2,
    refusal_pb2,
    verification_pb2,
)
from bacalhau.wire import auction, execution, fields, limits, market, node, receipt, refusal, verification
from bacalhau.wire.auction import entry_from_proto, entry_to_proto, terms_from_proto, terms_to_proto
from bacalhau.wire.job import spec_from_proto, spec_to_proto
from tests.builders import an_award, an_offer
from tests.wire import strategies

if TYPE_CHECKING:
    from collections.abc import Callable

CID = str(Cid.of(RAW, b"content"))

# Name -> (strategy, to proto, from proto, message type).
CONVERSIONS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Any], Callable[[Any], Any], Any]] = {
    "spec": (strategies.specs(), spec_to_proto, spec_from_proto, job_pb2.JobSpec),
    "offer": (strategies.offers(), market.offer_to_proto, market.offer_from_proto, market_pb2.JobOffer),
    "bid": (strategies.bids, market.bid_to_proto, market.bid_from_proto, market_pb2.Bid),
    "clearing": (
        strategies.clearings,
        auction.clearing_to_proto,
        auction.clearing_from_proto,
        auction_pb2.Clearing,
    ),
    "decline": (
        strategies.declines,
        market.decline_to_proto,
        market.decline_from_proto,
        market_pb2.Decline,
    ),
    "acknowledgement": (
        strategies.acknowledgements,
        market.acknowledgement_to_proto,
        market.acknowledgement_from_proto,
        market_pb2.Acknowledgement,
    ),
    "award": (strategies.awards, market.award_to_proto, market.award_from_proto, market_pb2.Award),
    "offer_closed": (
        strategies.offers_closed,
        market.offer_closed_to_proto,
        market.offer_closed_from_proto,
        market_pb2.OfferClosed,
    ),
    "renewal": (
        strategies.renewals,
        market.renewal_to_proto,
        market.renewal_from_proto,
        market_pb2.LeaseRenewal,
    ),
    "cancellation": (
        strategies.cancellations,
        market.cancellation_to_proto,
        market.cancellation_from_proto,
        market_pb2.Cancellation,
    ),
    "log_request": (
        strategies.log_requests,
        market.log_request_to_proto,
        market.log_request_from_proto,
        market_pb2.LogRequest,
    ),
    "report": (
        strategies.reports,
        execution.report_to_proto,
        execution.report_from_proto,
        execution_pb2.ExecutionReport,
    ),
    "commitment": (
        strategies.commitments,
        verification.commitment_to_proto,
        verification.commitment_from_proto,
        verification_pb2.ResultCommitment,
    ),
    "reveal_request": (
        strategies.reveal_requests,
        verification.reveal_request_to_proto,
        verification.reveal_request_from_proto,
        verification_pb2.RevealRequest,
    ),
    "receipt": (
        strategies.receipts,
        receipt.receipt_to_proto,
        receipt.receipt_from_proto,
        receipt_pb2.Receipt,
    ),
    "note": (strategies.notes, receipt.note_to_proto, receipt.note_from_proto, receipt_pb2.SettlementNote),
    "payment": (
        strategies.payments,
        receipt.payment_to_proto,
        receipt.payment_from_proto,
        payment_pb2.PaymentTerms,
    ),
    "record": (strategies.records(), node.record_to_proto, node.record_from_proto, node_pb2.NodeRecord),
    "refusal": (
        strategies.refusals,
        refusal.refusal_to_proto,
        refusal.refusal_from_proto,
        refusal_pb2.Refusal,
    ),
    "fault": (strategies.faults, execution.fault_to_proto, execution.fault_from_proto, execution_pb2.Fault),
}


@pytest.mark.parametrize("kind", CONVERSIONS)
@settings(max_examples=50)
@given(st.data())
def test_every_value_survives_the_way_over_the_wire(kind: str, data: st.DataObject) -> None:
    strategy, to_proto, from_proto, message_type = CONVERSIONS[kind]
    value = data.draw(strategy)
    wire = to_proto(value).SerializeToString()
    assert from_proto(message_type.FromString(wire)) == value


@pytest.mark.parametrize("kind", CONVERSIONS)
@settings(max_examples=50)
@given(st.data())
def test_mutated_messages_are_read_or_refused_and_nothing_else(kind: str, data: st.DataObject) -> None:
    strategy, to_proto, from_proto, message_type = CONVERSIONS[kind]
    wire = bytearray(to_proto(data.draw(strategy)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(wire)))
        cut = data.draw(st.integers(0, 3))
        wire[at : at + cut] = data.draw(st.binary(max_size=4))
    try:
        message = message_type.FromString(bytes(wire))
    except DecodeError:
        return
    _read_or_refused(from_proto, message)


@pytest.mark.parametrize("kind", CONVERSIONS)
@settings(max_examples=30)
@given(st.data())
def test_messages_with_any_field_set_to_anything_are_read_or_refused(kind: str, data: st.DataObject) -> None:
    _, _, from_proto, message_type = CONVERSIONS[kind]
    message = message_type()
    _fill(message, data, depth=3)
    _read_or_refused(from_proto, message)


def _read_or_refused(from_proto: Callable[[Any], Any], message: Any) -> None:
    try:
        from_proto(message)
    except Refused as error:
        refusal = error.refusal
    else:
        return
    assert refusal.reason in (RefusalReason.MALFORMED, RefusalReason.UNSUPPORTED)
    assert refusal.message


_INTERESTING_TEXT = st.sampled_from(
    ["", "/", "/a", "a/../b", "/..", "\0", "=", "ubuntu", CID, "Qm" + "1" * 44, "12D3KooW" + "1" * 44]
)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": _INTERESTING_TEXT | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    "bytes": st.binary(max_size=33) | strategies.digests,
    "int64": st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2000),
    "int32": st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 2000),
    "enum": st.integers(-2, 40) | st.integers(-(2**31), 2**31 - 1),
    "bool": st.booleans(),
}
_TYPE_NAMES = {9: "string", 12: "bytes", 3: "int64", 5: "int32", 14: "enum", 8: "bool"}


def _fill(message: Any, data: st.DataObject, depth: int) -> None:
    """Sets each field of a message, or not, to any value of its type."""
    for field in message.DESCRIPTOR.fields:
        if not data.draw(st.booleans()):
            continue
        if field.message_type is not None:
            if depth and field.is_repeated:
                _fill(getattr(message, field.name).add(), data, depth - 1)
            elif depth:
                getattr(message, field.name).SetInParent()
                _fill(getattr(message, field.name), data, depth - 1)
            continue
        values = _VALUES[_TYPE_NAMES[field.type]]
        if field.is_repeated:
            getattr(message, field.name).extend(data.draw(st.lists(values, max_size=2)))
        else:
            setattr(message, field.name, data.draw(values))


def refusal_of(from_proto: Callable[[Any], Any], message: Any) -> str:
    with pytest.raises(Refused) as caught:
        from_proto(message)
    assert caught.value.refusal.reason is RefusalReason.MALFORMED
    return caught.value.refusal.message


def test_an_offer_that_would_reserve_nothing_is_refused() -> None:
    message = market.offer_to_proto(offer())
    message.resources.cpu_millicores = 0
    assert refusal_of(market.offer_from_proto, message).startswith(
        "resources.cpu_millicores must be from 1 to"
    )


def offer() -> JobOffer:
    return JobOffer(
        id="o-1",
        job_id="j-1",
        engine=Engine.DOCKER,
        image_or_module="ubuntu",
        inputs=(),
        resources=DEFAULT_JOB_RESOURCES,
        network=NetworkMode.NONE,
        execution_timeout_us=1,
        constraints=(),
        winners=1,
        max_price_microcredits=None,
        clearing_rule=ClearingRule.FIRST_PRICE,
        bid_window_us=1,
        open_for_us=0,
        spec_digest=bytes(32),
    )


@pytest.mark.parametrize("reason", [0, 999])
def test_a_refusal_without_known_reason_is_refused(reason: int) -> None:
    message = refusal_pb2.Refusal(reason=reason)  # type: ignore[arg-type]
    assert refusal_of(refusal.refusal_from_proto, message).startswith("refusal.reason ")


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:0", "host:65536", ":1", "[::1:2]:x", "[::g]:1", "a b:1", "[:::1]:5", "h:1\n"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Refused):
        node.address_from_proto(address, "addresses[0]")


def test_a_message_from_a_stranger_cannot_move_the_terminals_cursor() -> None:
    assert fields.message("a\x1b[2Jb\nc\td\x9b", "message") == "a\ufffd[2Jb\nc\td\ufffd"


def test_a_message_that_is_sent_fits_whatever_it_was() -> None:
    text = fields.sent_message("\udcff\x1b" + "x" * 10_000)
    assert fields.message(text, "message") == text
    assert text.endswith("…")


@given(st.integers(0, limits.MAX_TIMESTAMP_US))
def test_times_are_exact_to_the_microsecond(us: int) -> None:
    assert fields.timestamp_us(Timestamp.FromString(fields.timestamp(us).SerializeToString()), "t") == us
    assert fields.duration_us(fields.duration(us), "d", low=0, high=us) == us


@pytest.mark.parametrize(
    ("seconds", "nanos"), [(-1, 0), (0, -1), (0, 1_000_000_000), (0, 999), (253_402_300_800, 0), (2**62, 0)]
)
def test_times_out_of_range_are_refused(seconds: int, nanos: int) -> None:
    with pytest.raises(Refused):
        fields.timestamp_us(Timestamp(seconds=seconds, nanos=nanos), "t")
    with pytest.raises(Refused):
        fields.duration_us(Duration(seconds=seconds, nanos=nanos), "d", low=0, high=limits.MAX_TIMEOUT_US)


# --- auctions ---


@pytest.mark.parametrize("rule", [ClearingRule.UNIFORM_PRICE, ClearingRule.POSTED_PRICE])
def test_an_offer_whose_price_may_be_the_reserve_needs_one(rule: ClearingRule) -> None:
    message = market.offer_to_proto(an_offer(clearing_rule=rule, spec_digest=bytes(32)))
    with pytest.raises(Refused, match="max_price_microcredits is missing: with the rule"):
        market.offer_from_proto(message)


def test_weights_under_another_rule_than_scoring_are_refused() -> None:
    message = market.offer_to_proto(an_offer(weights=ScoringWeights(1), spec_digest=bytes(32)))
    with pytest.raises(Refused, match="weights are for the rule SCORING, not for FIRST_PRICE"):
        market.offer_from_proto(message)


def test_first_price_without_weights_is_not_sent_so_that_digests_of_earlier_jobs_stay() -> None:
    assert terms_to_proto(AuctionTerms()) is None
    assert terms_from_proto(auction_pb2.AuctionTerms(), "auction") == AuctionTerms()


@given(
    st.builds(
        BidSetEntry,
        strategies.ids,
        strategies.ids,
        st.integers(0, limits.MAX_BIDS_PER_OFFER),
        st.integers(0, limits.MAX_TIMESTAMP_US),
        st.integers(0, 1000),
        st.sampled_from(BidStanding),
    )
)
def test_an_entry_of_a_bid_set_comes_back_as_it_was(entry: BidSetEntry) -> None:
    assert entry_from_proto(entry_to_proto(entry)) == entry


def test_an_offer_or_award_that_says_nothing_of_pay_makes_the_whole_price_due() -> None:
    """As nodes of the version before send them."""
    offer = market.offer_to_proto(an_offer(image_or_module="busybox", spec_digest=bytes(32)))
    offer.ClearField("payment")
    assert market.offer_from_proto(offer).payment == WHOLE_PRICE
    award = market.award_to_proto(replace(an_award(), bid_set_digest=bytes(32)))
    award.ClearField("payment")
    assert market.award_from_proto(award).payment == WHOLE_PRICE
