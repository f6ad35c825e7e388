"""Auction terms and clearings, to and from auction.proto."""

from __future__ import annotations

from bacalhau.market.audit import BidSetEntry
from bacalhau.model.auction import (
    FIRST_PRICE_TERMS,
    NO_WEIGHTS,
    REPUTATION_MAX_PERMILLE,
    AuctionTerms,
    BidStanding,
    ClearedAward,
    Clearing,
    ClearingRule,
    ScoringWeights,
)
from bacalhau.v1 import auction_pb2
from bacalhau.wire import fields, limits
from bacalhau.wire.resources import price_from_proto


def weights_to_proto(weights: ScoringWeights) -> auction_pb2.ScoringWeights | None:
    """None where nothing is weighed."""
    if weights == NO_WEIGHTS:
        return None
    return auction_pb2.ScoringWeights(
        start_delay_second_microcredits=weights.start_delay_second_microcredits,
        input_gib_microcredits=weights.input_gib_microcredits,
        reputation_microcredits=weights.reputation_microcredits,
    )


def weights_from_proto(message: auction_pb2.ScoringWeights, field: str) -> ScoringWeights:
    return ScoringWeights(
        price_from_proto(message.start_delay_second_microcredits, f"{field}.start_delay_second_microcredits"),
        price_from_proto(message.input_gib_microcredits, f"{field}.input_gib_microcredits"),
        price_from_proto(message.reputation_microcredits, f"{field}.reputation_microcredits"),
    )


def terms_to_proto(terms: AuctionTerms) -> auction_pb2.AuctionTerms | None:
    """None for what an empty message means, so that a job that says nothing keeps the digest that it had."""
    if terms == FIRST_PRICE_TERMS:
        return None
    return auction_pb2.AuctionTerms(rule=fields.number(terms.rule), weights=weights_to_proto(terms.weights))


def terms_from_proto(message: auction_pb2.AuctionTerms, field: str) -> AuctionTerms:
    rule = (
        fields.member(ClearingRule, message.rule, f"{field}.rule")
        if message.rule
        else ClearingRule.FIRST_PRICE
    )
    return AuctionTerms(rule, checked_weights(rule, message.weights, f"{field}.weights"))


def checked_weights(rule: ClearingRule, message: auction_pb2.ScoringWeights, field: str) -> ScoringWeights:
    """Weights under any other rule than scoring would be heeded by nobody, and are refused."""
    weights = weights_from_proto(message, field)
    if weights != NO_WEIGHTS and rule is not ClearingRule.SCORING:
        raise fields.malformed(field, f"are for the rule SCORING, not for {rule.name}")
    return weights


def check_reserve(rule: ClearingRule, max_price_microcredits: int | None, field: str) -> None:
    """Without a reserve, a uniform or posted price could be whatever the only bidder likes."""
    if rule.needs_reserve and max_price_microcredits is None:
        raise fields.malformed(
            field, f"is missing: with the rule {rule.name} it is, or may become, the price"
        )


def permille_from_proto(value: int, field: str) -> int:
    return fields.whole(value, field, 0, REPUTATION_MAX_PERMILLE)


def position_from_proto(value: int, field: str) -> int:
    return fields.whole(value, field, 0, limits.MAX_BIDS_PER_OFFER)


def clearing_to_proto(clearing: Clearing) -> auction_pb2.Clearing:
    return auction_pb2.Clearing(
        offer_id=clearing.offer_id,
        job_id=clearing.job_id,
        clearing_rule=fields.number(clearing.clearing_rule),
        cleared_at=fields.timestamp(clearing.cleared_us),
        slots=clearing.slots,
        acknowledged_bids=clearing.acknowledged_bids,
        bid_set_digest=clearing.bid_set_digest,
        awards=[
            auction_pb2.ClearedAward(
                execution_id=award.execution_id,
                bid_id=award.bid_id,
                node_id=award.node_id,
                price_microcredits=award.price_microcredits,
            )
            for award in clearing.awards
        ],
    )


def clearing_from_proto(message: auction_pb2.Clearing) -> Clearing:
    """Raises Refused(MALFORMED)."""
    fields.at_most(message.awards, "awards", limits.MAX_COUNT)
    return Clearing(
        offer_id=fields.identifier(message.offer_id, "offer_id"),
        job_id=fields.identifier(message.job_id, "job_id"),
        clearing_rule=fields.member(ClearingRule, message.clearing_rule, "clearing_rule"),
        cleared_us=fields.timestamp_us(message.cleared_at, "cleared_at"),
        slots=fields.whole(message.slots, "slots", 1, limits.MAX_COUNT),
        acknowledged_bids=position_from_proto(message.acknowledged_bids, "acknowledged_bids"),
        bid_set_digest=fields.digest(message.bid_set_digest, "bid_set_digest"),
        awards=tuple(
            ClearedAward(
                fields.identifier(award.execution_id, f"awards[{index}].execution_id"),
                fields.identifier(award.bid_id, f"awards[{index}].bid_id"),
                fields.identifier(award.node_id, f"awards[{index}].node_id"),
                price_from_proto(award.price_microcredits, f"awards[{index}].price_microcredits"),
            )
            for index, award in enumerate(message.awards)
        ),
    )


def entry_from_proto(message: auction_pb2.BidSetEntry) -> BidSetEntry:
    """Raises Refused(MALFORMED)."""
    return BidSetEntry(
        bid_id=fields.identifier(message.bid_id, "bid_id"),
        node_id=fields.identifier(message.node_id, "node_id"),
        position=position_from_proto(message.position, "position"),
        received_us=fields.timestamp_us(message.received_at, "received_at"),
        reputation_permille=permille_from_proto(message.reputation_permille, "reputation_permille"),
        standing=fields.member(BidStanding, message.standing, "standing"),
    )


def entry_to_proto(entry: BidSetEntry) -> auction_pb2.BidSetEntry:
    return auction_pb2.BidSetEntry(
        bid_id=entry.bid_id,
        node_id=entry.node_id,
        position=entry.position,
        received_at=fields.timestamp(entry.received_us),
        reputation_permille=entry.reputation_permille,
        standing=fields.number(entry.standing),
    )
