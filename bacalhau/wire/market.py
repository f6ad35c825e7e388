"""Offers, bids, awards and leases, to and from market.proto."""

from __future__ import annotations

from bacalhau.model.auction import ClearingRule
from bacalhau.model.execution import ExecutionPhase
from bacalhau.model.job import Engine
from bacalhau.model.market import Award, Bid, ClaimedInput, Decline, JobOffer, LeaseRenewal
from bacalhau.v1 import market_pb2
from bacalhau.wire import fields, limits
from bacalhau.wire.auction import (
    check_reserve,
    checked_weights,
    permille_from_proto,
    position_from_proto,
    weights_to_proto,
)
from bacalhau.wire.job import (
    constraints_from_proto,
    constraints_to_proto,
    image_from_proto,
    network_from_proto,
    spec_from_proto,
    spec_to_proto,
)
from bacalhau.wire.receipt import payment_from_proto, payment_to_proto
from bacalhau.wire.refusal import refusal_from_proto, refusal_to_proto
from bacalhau.wire.resources import price_from_proto, resources_from_proto, resources_to_proto
from bacalhau.wire.statements import Acknowledgement, Cancellation, LogRequest, OfferClosed


def offer_to_proto(offer: JobOffer) -> market_pb2.JobOffer:
    return market_pb2.JobOffer(
        id=offer.id,
        job_id=offer.job_id,
        engine=fields.number(offer.engine),
        image_or_module=offer.image_or_module,
        inputs=[
            market_pb2.ClaimedInput(cid=str(claimed.cid), size_bytes=claimed.size_bytes)
            for claimed in offer.inputs
        ],
        resources=resources_to_proto(offer.resources),
        network=fields.number(offer.network),
        execution_timeout=fields.duration(offer.execution_timeout_us),
        constraints=constraints_to_proto(offer.constraints),
        winners=offer.winners,
        max_price_microcredits=offer.max_price_microcredits,
        clearing_rule=fields.number(offer.clearing_rule),
        bid_window=fields.duration(offer.bid_window_us),
        open_for=fields.duration(offer.open_for_us),
        spec_digest=offer.spec_digest,
        weights=weights_to_proto(offer.weights),
        payment=payment_to_proto(offer.payment),
    )


def offer_from_proto(message: market_pb2.JobOffer) -> JobOffer:
    """Raises Refused(MALFORMED). Resources that are 0 are refused, for they would reserve nothing."""
    engine = fields.member(Engine, message.engine, "engine")
    # Modules are inputs too: the task's own and those that it imports.
    fields.at_most(message.inputs, "inputs", limits.MAX_INPUTS + limits.MAX_WASM_IMPORTS + 1)
    priced = message.HasField("max_price_microcredits")
    rule = fields.member(ClearingRule, message.clearing_rule, "clearing_rule")
    check_reserve(rule, message.max_price_microcredits if priced else None, "max_price_microcredits")
    return JobOffer(
        id=fields.identifier(message.id, "id"),
        job_id=fields.identifier(message.job_id, "job_id"),
        engine=engine,
        image_or_module=(
            image_from_proto(message.image_or_module, "image_or_module")
            if engine is Engine.DOCKER
            else str(fields.cid(message.image_or_module, "image_or_module"))
        ),
        inputs=tuple(
            ClaimedInput(
                fields.cid(claimed.cid, f"inputs[{index}].cid"),
                fields.whole(claimed.size_bytes, f"inputs[{index}].size_bytes", 0, limits.MAX_BYTES),
            )
            for index, claimed in enumerate(message.inputs)
        ),
        resources=resources_from_proto(message.resources, "resources", low=1),
        network=network_from_proto(message.network, "network"),
        execution_timeout_us=fields.duration_us(
            message.execution_timeout, "execution_timeout", low=1, high=limits.MAX_TIMEOUT_US
        ),
        constraints=constraints_from_proto(message.constraints, "constraints"),
        winners=fields.whole(message.winners, "winners", 1, limits.MAX_COUNT),
        max_price_microcredits=(
            price_from_proto(message.max_price_microcredits, "max_price_microcredits") if priced else None
        ),
        clearing_rule=rule,
        bid_window_us=fields.duration_us(
            message.bid_window, "bid_window", low=1, high=limits.MAX_BID_WINDOW_US
        ),
        open_for_us=fields.duration_us(message.open_for, "open_for", low=0, high=limits.MAX_TIMEOUT_US),
        spec_digest=fields.digest(message.spec_digest, "spec_digest"),
        weights=checked_weights(rule, message.weights, "weights"),
        payment=payment_from_proto(message.payment if message.HasField("payment") else None),
    )


def bid_to_proto(bid: Bid) -> market_pb2.Bid:
    return market_pb2.Bid(
        id=bid.id,
        offer_id=bid.offer_id,
        price_microcredits=bid.price_microcredits,
        valid_for=fields.duration(bid.valid_for_us),
        start_delay=fields.duration(bid.start_delay_us) if bid.start_delay_us else None,
        missing_input_bytes=bid.missing_input_bytes,
        bond_microcredits=bid.bond_microcredits,
    )


def bid_from_proto(message: market_pb2.Bid) -> Bid:
    return Bid(
        id=fields.identifier(message.id, "id"),
        offer_id=fields.identifier(message.offer_id, "offer_id"),
        price_microcredits=price_from_proto(message.price_microcredits, "price_microcredits"),
        valid_for_us=fields.duration_us(message.valid_for, "valid_for", low=1, high=limits.MAX_TIMEOUT_US),
        start_delay_us=fields.duration_us(
            message.start_delay, "start_delay", low=0, high=limits.MAX_TIMEOUT_US
        ),
        missing_input_bytes=fields.whole(
            message.missing_input_bytes, "missing_input_bytes", 0, limits.MAX_BYTES
        ),
        bond_microcredits=price_from_proto(message.bond_microcredits, "bond_microcredits"),
    )


def decline_to_proto(decline: Decline) -> market_pb2.Decline:
    return market_pb2.Decline(offer_id=decline.offer_id, refusal=refusal_to_proto(decline.refusal))


def decline_from_proto(message: market_pb2.Decline) -> Decline:
    return Decline(fields.identifier(message.offer_id, "offer_id"), refusal_from_proto(message.refusal))


def acknowledgement_to_proto(acknowledgement: Acknowledgement) -> market_pb2.Acknowledgement:
    refusal = acknowledgement.refusal
    return market_pb2.Acknowledgement(
        statement_id=acknowledgement.statement_id,
        digest=acknowledgement.digest,
        refusal=None if refusal is None else refusal_to_proto(refusal),
        received_at=None
        if acknowledgement.received_us is None
        else fields.timestamp(acknowledgement.received_us),
        position=acknowledgement.position,
        reputation_permille=acknowledgement.reputation_permille,
    )


def acknowledgement_from_proto(message: market_pb2.Acknowledgement) -> Acknowledgement:
    return Acknowledgement(
        statement_id=fields.identifier(message.statement_id, "statement_id"),
        digest=fields.digest(message.digest, "digest"),
        refusal=refusal_from_proto(message.refusal) if message.HasField("refusal") else None,
        received_us=fields.timestamp_us(message.received_at, "received_at")
        if message.HasField("received_at")
        else None,
        position=position_from_proto(message.position, "position"),
        reputation_permille=permille_from_proto(message.reputation_permille, "reputation_permille"),
    )


def award_to_proto(award: Award) -> market_pb2.Award:
    return market_pb2.Award(
        execution_id=award.execution_id,
        offer_id=award.offer_id,
        bid_id=award.bid_id,
        price_microcredits=award.price_microcredits,
        clearing_rule=fields.number(award.clearing_rule),
        bid_set_digest=award.bid_set_digest,
        spec=spec_to_proto(award.spec),
        lease=fields.duration(award.lease_us),
        job_id=award.job_id,
        payment=payment_to_proto(award.payment),
        bond_microcredits=award.bond_microcredits,
    )


def award_from_proto(message: market_pb2.Award) -> Award:
    """Raises Refused: MALFORMED, and for its spec UNSUPPORTED or TOO_LARGE. Its spec has no inline data."""
    return Award(
        execution_id=fields.identifier(message.execution_id, "execution_id"),
        job_id=fields.identifier(message.job_id, "job_id"),
        offer_id=fields.identifier(message.offer_id, "offer_id"),
        bid_id=fields.identifier(message.bid_id, "bid_id"),
        price_microcredits=price_from_proto(message.price_microcredits, "price_microcredits"),
        clearing_rule=fields.member(ClearingRule, message.clearing_rule, "clearing_rule"),
        bid_set_digest=fields.digest(message.bid_set_digest, "bid_set_digest"),
        spec=spec_from_proto(message.spec, prefix="spec."),
        lease_us=fields.duration_us(message.lease, "lease", low=1, high=limits.MAX_LEASE_US),
        payment=payment_from_proto(message.payment if message.HasField("payment") else None),
        bond_microcredits=price_from_proto(message.bond_microcredits, "bond_microcredits"),
    )


def offer_closed_to_proto(closed: OfferClosed) -> market_pb2.OfferClosed:
    return market_pb2.OfferClosed(offer_id=closed.offer_id)


def offer_closed_from_proto(message: market_pb2.OfferClosed) -> OfferClosed:
    return OfferClosed(fields.identifier(message.offer_id, "offer_id"))


def renewal_to_proto(renewal: LeaseRenewal) -> market_pb2.LeaseRenewal:
    return market_pb2.LeaseRenewal(
        execution_id=renewal.execution_id,
        phase=fields.number(renewal.phase),
        attempt=renewal.attempt,
        done_bytes=renewal.done_bytes,
        total_bytes=renewal.total_bytes,
    )


def renewal_from_proto(message: market_pb2.LeaseRenewal) -> LeaseRenewal:
    return LeaseRenewal(
        execution_id=fields.identifier(message.execution_id, "execution_id"),
        phase=fields.member(ExecutionPhase, message.phase, "phase"),
        attempt=fields.whole(message.attempt, "attempt", 0, limits.MAX_ATTEMPT),
        done_bytes=fields.whole(message.done_bytes, "done_bytes", 0, limits.MAX_BYTES),
        total_bytes=fields.whole(message.total_bytes, "total_bytes", 0, limits.MAX_BYTES),
    )


def cancellation_to_proto(cancellation: Cancellation) -> market_pb2.Cancellation:
    return market_pb2.Cancellation(
        execution_id=cancellation.execution_id, message=fields.sent_message(cancellation.message)
    )


def cancellation_from_proto(message: market_pb2.Cancellation) -> Cancellation:
    return Cancellation(
        fields.identifier(message.execution_id, "execution_id"), fields.message(message.message, "message")
    )


def log_request_to_proto(request: LogRequest) -> market_pb2.LogRequest:
    return market_pb2.LogRequest(execution_id=request.execution_id, follow=request.follow)


def log_request_from_proto(message: market_pb2.LogRequest) -> LogRequest:
    return LogRequest(fields.identifier(message.execution_id, "execution_id"), message.follow)
