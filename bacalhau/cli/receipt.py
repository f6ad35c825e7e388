"""`bacalhau receipt get|verify`: receipts with both signatures, as files that check without any node."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK, CommandFailure, UsageFailure
from bacalhau.cli.parsing import Subparsers, add_group, add_verb
from bacalhau.model import quantities

if TYPE_CHECKING:
    import argparse

    from bacalhau.model.ledger import Receipt
    from bacalhau.v1.ledger_pb2 import SignedReceipt

FILE_BYTES_MAX = 64 * 1024 * 1024


class InvalidReceipt(CommandFailure):
    """A receipt does not hold: a signature does not fit, or its sums are wrong."""

    exit_code = 1


def register(verbs: Subparsers) -> None:
    group = add_group(
        verbs,
        "receipt",
        help="keep receipts, and check them anywhere",
        example="bacalhau receipt get e-1a2b3c4d > receipt.json\nbacalhau receipt verify receipt.json",
    )
    parser = add_verb(
        group,
        "get",
        run_get,
        help="print a receipt with both signatures, as JSON",
        example="bacalhau receipt get e-1a2b3c4d > receipt.json",
    )
    parser.add_argument("execution", metavar="ID", help="the execution's id, or the beginning of it")
    parser = add_verb(
        group,
        "verify",
        run_verify,
        help="check receipts; no node is asked",
        description="Check that receipts are signed by both of the nodes that they name and that their sums are right: "
        "the pay by the terms of the award, and the balance from one receipt to the next where both are given. "
        "No node is asked. Exit code 1 where a receipt does not hold.",
        example="bacalhau receipt verify receipt.json another.json",
        node=False,
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="as `receipt get` prints them; - is stdin")


def run_get(args: argparse.Namespace) -> int:
    from google.protobuf.json_format import MessageToJson

    from bacalhau.cli.connection import Node
    from bacalhau.v1.ledger_service_pb2 import GetReceiptRequest

    node = Node.of(args)
    answer = node.call(node.ledger.GetReceipt, GetReceiptRequest(execution_id=args.execution))
    print(MessageToJson(answer.receipt, preserving_proto_field_name=True))
    return OK


def run_verify(args: argparse.Namespace) -> int:
    from bacalhau.model.refusals import Refused
    from bacalhau.wire.signed_receipt import broken_chain, open_signed_receipt

    receipts: list[Receipt] = []
    for name in args.files:
        signed = _read(name)
        try:
            receipt = open_signed_receipt(
                signed.requester.SerializeToString(deterministic=True),
                signed.node.SerializeToString(deterministic=True),
            )
        except Refused as error:
            raise InvalidReceipt(f"{name}: {error} ({error.refusal.reason.name})") from error
        if signed.HasField("receipt"):
            _check_readable(name, signed, receipt)
        receipts.append(receipt)
        print(f"{name}: {_summary(receipt)}")
    problem = broken_chain(receipts)
    if problem is not None:
        raise InvalidReceipt(problem)
    return OK


def _read(name: str) -> SignedReceipt:
    from google.protobuf.json_format import Parse, ParseError

    from bacalhau.v1.ledger_pb2 import SignedReceipt

    try:
        if name == "-":
            text = sys.stdin.buffer.read(FILE_BYTES_MAX)
        else:
            with open(name, "rb") as file:
                text = file.read(FILE_BYTES_MAX)
        return Parse(text.decode("utf-8"), SignedReceipt())
    except (ParseError, UnicodeDecodeError) as error:
        raise UsageFailure(f"{name} is no receipt as `bacalhau receipt get` prints it: {error}") from error


def _check_readable(name: str, signed: SignedReceipt, receipt: Receipt) -> None:
    """The part for reading must not say what nobody signed."""
    from bacalhau.wire.receipt import receipt_to_proto

    if receipt_to_proto(receipt) != signed.receipt:
        raise InvalidReceipt(f"{name}: what it says under `receipt` is not what the two sides signed")


def _summary(receipt: Receipt) -> str:
    price = quantities.format_price
    if receipt.rejection is not None:
        paid = f"not paid ({receipt.rejection.message})"
    else:
        paid = f"paid {price(receipt.pay_microcredits)} of {price(receipt.price_microcredits)} credits"
    penalty = (
        f", penalty {price(receipt.penalty_microcredits)} credits" if receipt.penalty_microcredits else ""
    )
    return (
        f"holds: {receipt.execution_id} {paid}{penalty}, signed by {receipt.requester_id} and {receipt.node_id}; "
        f"receipt {receipt.sequence} between them, which come to {price(receipt.balance_microcredits)} credits"
    )
