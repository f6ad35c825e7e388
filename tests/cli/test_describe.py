"""What `describe` says of an execution's money."""

from __future__ import annotations

import pytest

from bacalhau.cli.describe import plain_execution
from bacalhau.v1.execution_pb2 import Execution, ExecutionState


@pytest.mark.parametrize(
    ("state", "charged", "set_aside", "returned"),
    [
        ("AWARDED", 0, 1000, 0),
        ("RUNNING", 0, 1000, 0),
        ("COMMITTED", 0, 1000, 0),
        ("REPORTED", 0, 1000, 0),
        ("REVEALED", 0, 1000, 0),
        ("COMPLETED", 100, 0, 900),
        ("FAILED", 0, 0, 1000),
        ("CANCELLED", 0, 0, 1000),
        ("REFUSED", 0, 0, 1000),
    ],
)
def test_a_price_is_set_aside_until_its_execution_ends_and_then_charged_or_returned(
    state: str, charged: int, set_aside: int, returned: int
) -> None:
    execution = Execution(
        state=f"EXECUTION_STATE_{state}", price_microcredits=1000, charged_microcredits=charged
    )
    shown = plain_execution(execution)
    assert {key: value for key, value in shown.items() if key.endswith("Microcredits")} == {
        "PriceMicrocredits": 1000,
        "SetAsideMicrocredits": set_aside,
        "ChargedMicrocredits": charged,
        "ReturnedMicrocredits": returned,
    }


def test_a_bond_and_what_was_taken_of_it_are_shown_where_there_is_one() -> None:
    failed = Execution(
        state=ExecutionState.EXECUTION_STATE_FAILED, bond_microcredits=40, penalty_microcredits=40
    )
    shown = plain_execution(failed)
    assert (shown["BondMicrocredits"], shown["PenaltyMicrocredits"]) == (40, 40)
