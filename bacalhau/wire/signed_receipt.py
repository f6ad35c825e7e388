"""A receipt with both signatures, checked by anyone, at any time, with nothing but its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.payment import follows, receipt_problem
from bacalhau.model.ledger import Receipt
from bacalhau.model.refusals import RefusalReason, refused
from bacalhau.wire.envelope import open_stored

if TYPE_CHECKING:
    from collections.abc import Iterable


def open_signed_receipt(requester: bytes, node: bytes) -> Receipt:
    """The receipt that the two envelopes state. Raises Refused: what `open_stored` does; MALFORMED where they do not
    state the same, or its sums are wrong; BAD_SIGNATURE where they are not signed by the two whom it names."""
    first, second = open_stored(requester, Receipt), open_stored(node, Receipt)
    receipt = first.body
    if second.body != receipt:
        raise refused(RefusalReason.MALFORMED, "the two sides have signed different receipts")
    for sender, named, role in (
        (first.sender, receipt.requester_id, "requester"),
        (second.sender, receipt.node_id, "node"),
    ):
        if sender != named:
            raise refused(
                RefusalReason.BAD_SIGNATURE, f"the {role} is {named}, and {sender} signed in its place"
            )
    problem = receipt_problem(receipt)
    if problem is not None:
        raise refused(RefusalReason.MALFORMED, f"the receipt is wrong: {problem}")
    return receipt


def broken_chain(receipts: Iterable[Receipt]) -> str | None:
    """What is wrong between the receipts of the same two nodes, as far as they follow one another."""
    last: dict[tuple[str, str], Receipt] = {}
    for receipt in sorted(receipts, key=lambda one: (one.requester_id, one.node_id, one.sequence)):
        pair = (receipt.requester_id, receipt.node_id)
        before = last.get(pair)
        if before is not None and receipt.sequence <= before.sequence + 1 and receipt != before:
            problem = follows(receipt, before.sequence, before.balance_microcredits)
            if problem is not None:
                return f"the receipt {receipt.sequence} does not follow the one before it: {problem}"
        last[pair] = receipt
    return None
