"""Receipts and settlement notes, to and from receipt.proto; terms of payment, to and from payment.proto."""

from __future__ import annotations

from bacalhau.model.auction import ClearingRule
from bacalhau.model.ledger import Receipt, SettlementNote
from bacalhau.model.market import WHOLE_PRICE, PaymentTerms
from bacalhau.model.units import PPM
from bacalhau.v1 import payment_pb2, receipt_pb2
from bacalhau.wire import fields, limits
from bacalhau.wire.execution import fault_from_proto, fault_to_proto, usage_from_proto, usage_to_proto
from bacalhau.wire.node import node_id_from_proto
from bacalhau.wire.resources import price_from_proto


def payment_to_proto(payment: PaymentTerms) -> payment_pb2.PaymentTerms:
    return payment_pb2.PaymentTerms(
        floor_ppm=payment.floor_ppm, accept_within=fields.duration(payment.accept_within_us)
    )


def payment_from_proto(message: payment_pb2.PaymentTerms | None, field: str = "payment") -> PaymentTerms:
    """None, where the sender says nothing, is the whole price. Raises Refused(MALFORMED)."""
    if message is None:
        return WHOLE_PRICE
    return PaymentTerms(
        fields.whole(message.floor_ppm, f"{field}.floor_ppm", 0, PPM),
        fields.duration_us(
            message.accept_within, f"{field}.accept_within", low=1, high=limits.MAX_TIMEOUT_US
        ),
    )


def receipt_to_proto(receipt: Receipt) -> receipt_pb2.Receipt:
    return receipt_pb2.Receipt(
        requester_id=receipt.requester_id,
        node_id=receipt.node_id,
        sequence=receipt.sequence,
        balance_microcredits=receipt.balance_microcredits,
        execution_id=receipt.execution_id,
        job_id=receipt.job_id,
        offer_id=receipt.offer_id,
        bid_id=receipt.bid_id,
        price_microcredits=receipt.price_microcredits,
        clearing_rule=fields.number(receipt.clearing_rule),
        bid_set_digest=receipt.bid_set_digest,
        payment=payment_to_proto(receipt.payment),
        execution_timeout=fields.duration(receipt.execution_timeout_us),
        usage=usage_to_proto(receipt.usage),
        result_cid=str(receipt.result),
        exit_code=receipt.exit_code,
        pay_microcredits=receipt.pay_microcredits,
        rejection=None if receipt.rejection is None else fault_to_proto(receipt.rejection),
        time=fields.timestamp(receipt.time_us),
        bond_microcredits=receipt.bond_microcredits,
        penalty_microcredits=receipt.penalty_microcredits,
    )


def receipt_from_proto(message: receipt_pb2.Receipt) -> Receipt:
    """Raises Refused(MALFORMED). Whether its sums are right is `market.payment`'s to say."""
    return Receipt(
        requester_id=node_id_from_proto(message.requester_id, "requester_id"),
        node_id=node_id_from_proto(message.node_id, "node_id"),
        sequence=fields.whole(message.sequence, "sequence", 1, limits.MAX_SEQUENCE),
        balance_microcredits=_balance(message.balance_microcredits, "balance_microcredits"),
        execution_id=fields.identifier(message.execution_id, "execution_id"),
        job_id=fields.identifier(message.job_id, "job_id"),
        offer_id=fields.identifier(message.offer_id, "offer_id"),
        bid_id=fields.identifier(message.bid_id, "bid_id"),
        price_microcredits=price_from_proto(message.price_microcredits, "price_microcredits"),
        clearing_rule=fields.member(ClearingRule, message.clearing_rule, "clearing_rule"),
        bid_set_digest=fields.digest(message.bid_set_digest, "bid_set_digest"),
        payment=payment_from_proto(message.payment),
        execution_timeout_us=fields.duration_us(
            message.execution_timeout, "execution_timeout", low=1, high=limits.MAX_TIMEOUT_US
        ),
        usage=usage_from_proto(message.usage),
        result=fields.cid(message.result_cid, "result_cid"),
        exit_code=message.exit_code,
        pay_microcredits=price_from_proto(message.pay_microcredits, "pay_microcredits"),
        rejection=fault_from_proto(message.rejection, "rejection") if message.HasField("rejection") else None,
        time_us=fields.timestamp_us(message.time, "time"),
        bond_microcredits=price_from_proto(message.bond_microcredits, "bond_microcredits"),
        penalty_microcredits=price_from_proto(message.penalty_microcredits, "penalty_microcredits"),
    )


def note_to_proto(note: SettlementNote) -> receipt_pb2.SettlementNote:
    return receipt_pb2.SettlementNote(
        creditor_id=note.creditor_id,
        debtor_id=note.debtor_id,
        sequence=note.sequence,
        settled_microcredits=note.settled_microcredits,
        time=fields.timestamp(note.time_us),
    )


def note_from_proto(message: receipt_pb2.SettlementNote) -> SettlementNote:
    """Raises Refused(MALFORMED)."""
    return SettlementNote(
        creditor_id=node_id_from_proto(message.creditor_id, "creditor_id"),
        debtor_id=node_id_from_proto(message.debtor_id, "debtor_id"),
        sequence=fields.whole(message.sequence, "sequence", 1, limits.MAX_SEQUENCE),
        settled_microcredits=_balance(message.settled_microcredits, "settled_microcredits"),
        time_us=fields.timestamp_us(message.time, "time"),
    )


def _balance(amount: int, field: str) -> int:
    return fields.whole(amount, field, -limits.MAX_BALANCE_MICROCREDITS, limits.MAX_BALANCE_MICROCREDITS)
