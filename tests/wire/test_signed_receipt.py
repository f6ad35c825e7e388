"""A receipt with both signatures holds by itself, and nothing that anyone changed about it does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.model.refusals import RefusalReason, Refused
from bacalhau.wire.envelope import seal
from bacalhau.wire.identity import NodeKey
from bacalhau.wire.signed_receipt import broken_chain, open_signed_receipt
from tests.builders import a_receipt

if TYPE_CHECKING:
    from bacalhau.model.ledger import Receipt

REQUESTER, NODE, THIEF = (NodeKey(bytes([number]) * 32) for number in (1, 2, 3))
RECEIPT = a_receipt(requester_id=REQUESTER.node_id, node_id=NODE.node_id)


def sealed(key: NodeKey, receipt: Receipt, to: NodeKey) -> bytes:
    return seal(key, receipt, id="s-1", issued_at_us=10**9, valid_for_us=60_000_000, recipient=to.node_id)


def both(receipt: Receipt) -> tuple[bytes, bytes]:
    return sealed(REQUESTER, receipt, NODE), sealed(NODE, receipt, REQUESTER)


def refusal(requester: bytes, node: bytes) -> RefusalReason:
    with pytest.raises(Refused) as caught:
        open_signed_receipt(requester, node)
    return caught.value.refusal.reason


def test_a_receipt_that_both_signed_holds_however_old_it_is() -> None:
    assert open_signed_receipt(*both(RECEIPT)) == RECEIPT


def test_a_receipt_that_somebody_else_signed_does_not_hold() -> None:
    ours, theirs = both(RECEIPT)
    assert refusal(ours, sealed(THIEF, RECEIPT, REQUESTER)) is RefusalReason.BAD_SIGNATURE
    assert refusal(sealed(THIEF, RECEIPT, NODE), theirs) is RefusalReason.BAD_SIGNATURE
    assert refusal(theirs, ours) is RefusalReason.BAD_SIGNATURE
    assert refusal(ours, ours) is RefusalReason.BAD_SIGNATURE


def test_two_sides_that_signed_different_receipts_prove_nothing() -> None:
    ours, _ = both(RECEIPT)
    assert refusal(ours, both(replace(RECEIPT, exit_code=1))[1]) is RefusalReason.MALFORMED


def test_a_receipt_whose_sums_are_wrong_does_not_hold_though_both_signed_it() -> None:
    wrong = replace(RECEIPT, pay_microcredits=11, balance_microcredits=11)
    assert refusal(*both(wrong)) is RefusalReason.MALFORMED


@given(st.data())
def test_no_changed_byte_of_either_envelope_goes_unseen(data: st.DataObject) -> None:
    envelopes = list(both(RECEIPT))
    side = data.draw(st.sampled_from((0, 1)))
    at = data.draw(st.integers(0, len(envelopes[side]) - 1))
    changed = bytearray(envelopes[side])
    changed[at] ^= data.draw(st.integers(1, 255))
    envelopes[side] = bytes(changed)
    with pytest.raises(Refused):
        open_signed_receipt(*envelopes)


def test_receipts_that_follow_one_another_are_a_chain_and_gaps_prove_nothing_against_it() -> None:
    chain = [
        a_receipt(
            requester_id=REQUESTER.node_id,
            node_id=NODE.node_id,
            execution_id=f"e-{number}",
            sequence=number,
            before=10 * (number - 1),
        )
        for number in range(1, 5)
    ]
    assert broken_chain(chain) is None
    assert broken_chain([*reversed(chain), chain[0]]) is None
    assert broken_chain([chain[0], chain[3]]) is None
    assert broken_chain([chain[0], replace(chain[1], balance_microcredits=30)]) is not None
    assert broken_chain([chain[1], replace(chain[1], exit_code=7)]) is not None
