"""What an execution is paid: literal cases, and what holds for every usage and every receipt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market.payment import (
    bond_microcredits,
    counted_usage,
    follows,
    is_payable,
    pay_microcredits,
    receipt_problem,
    share_ppm,
    shortfall_microcredits,
)
from bacalhau.model.execution import Fault, FaultKind, Usage
from bacalhau.model.market import PaymentTerms
from bacalhau.model.units import PPM, SECOND_US
from tests.builders import a_receipt, a_report

_PRICES = st.integers(0, 10**15)
_TIMES_US = st.integers(0, 2 * 30 * 24 * 3600 * SECOND_US)
_TIMEOUTS_US = st.integers(1, 30 * 24 * 3600 * SECOND_US)
_TERMS = st.builds(PaymentTerms, st.integers(0, PPM))
TENTH = PaymentTerms(floor_ppm=100_000)


@pytest.mark.parametrize(
    ("wall_s", "pay"),
    [(0, 1090), (1, 1090), (180, 1090), (181, 1097), (900, 5450), (1800, 10_900), (1801, 10_900)],
)
def test_pay_is_the_price_by_the_share_of_the_time_and_at_least_the_floor(wall_s: int, pay: int) -> None:
    usage = Usage(wall_us=wall_s * SECOND_US, cpu_us=10**9, peak_memory_bytes=2**40)
    assert pay_microcredits(10_900, TENTH, usage, 1800 * SECOND_US) == pay


def test_without_terms_the_whole_price_is_due() -> None:
    assert pay_microcredits(7, PaymentTerms(), Usage(), 1800 * SECOND_US) == 7


@given(_PRICES, _TERMS, _TIMES_US, _TIMEOUTS_US)
def test_pay_is_whole_and_never_above_the_price_or_below_the_floor(
    price: int, terms: PaymentTerms, wall_us: int, timeout_us: int
) -> None:
    pay = pay_microcredits(price, terms, Usage(wall_us=wall_us), timeout_us)
    assert 0 <= pay <= price
    assert pay * PPM >= price * terms.floor_ppm
    assert pay * timeout_us >= price * min(wall_us, timeout_us)
    if wall_us >= timeout_us:
        assert pay == price


@given(_PRICES, _TERMS, _TIMES_US, _TIMES_US, _TIMEOUTS_US)
def test_more_time_is_never_paid_less(
    price: int, terms: PaymentTerms, wall_us: int, more_us: int, timeout_us: int
) -> None:
    less, more = Usage(wall_us=wall_us), Usage(wall_us=wall_us + more_us)
    assert share_ppm(terms, less, timeout_us) <= share_ppm(terms, more, timeout_us) <= PPM
    assert pay_microcredits(price, terms, less, timeout_us) <= pay_microcredits(
        price, terms, more, timeout_us
    )


@given(_PRICES, _TERMS, _TIMES_US, _TIMES_US, _TIMEOUTS_US)
def test_a_report_of_more_time_than_passed_gains_nothing(
    price: int, terms: PaymentTerms, reported_us: int, passed_us: int, timeout_us: int
) -> None:
    paid = pay_microcredits(price, terms, counted_usage(Usage(wall_us=reported_us), passed_us), timeout_us)
    assert paid <= pay_microcredits(price, terms, Usage(wall_us=passed_us), timeout_us)
    if reported_us <= passed_us:
        assert paid == pay_microcredits(price, terms, Usage(wall_us=reported_us), timeout_us)


def test_only_a_report_with_a_result_claims_pay() -> None:
    assert is_payable(a_report(exit_code=3))
    assert not is_payable(a_report(result=None))
    assert not is_payable(a_report(cancelled=True))
    assert not is_payable(a_report(fault=Fault(FaultKind.OUT_OF_MEMORY, "too much")))


def test_a_receipt_with_the_right_sums_has_no_problem() -> None:
    assert receipt_problem(a_receipt()) is None
    rejected = a_receipt(rejection=Fault(FaultKind.RESULT_REFUTED, "wrong"), bond=9, penalty=9)
    assert (receipt_problem(rejected), rejected.balance_microcredits) == (None, -9)


TAKEN = {"pay_microcredits": 0, "penalty_microcredits": 1, "balance_microcredits": -1}


@pytest.mark.parametrize(
    ("price", "bond_permille", "bond"),
    [(1000, 0, 0), (1000, 500, 500), (1001, 500, 501), (7, 2000, 14), (0, 900, 0)],
)
def test_a_bond_is_its_part_of_the_price_rounded_up(price: int, bond_permille: int, bond: int) -> None:
    assert bond_microcredits(price, bond_permille) == bond


@pytest.mark.parametrize(
    "change",
    [
        {"pay_microcredits": 9},
        {"price_microcredits": 200},
        {"balance_microcredits": 11},
        {"usage": Usage(wall_us=60 * SECOND_US)},
        {"execution_timeout_us": 5 * SECOND_US},
        {"payment": PaymentTerms(PPM)},
        {"rejection": Fault(FaultKind.RESULT_UNAVAILABLE, "gone")},
        {"penalty_microcredits": 1},
        {"penalty_microcredits": 1, "bond_microcredits": 1},
        {"bond_microcredits": 1, "rejection": Fault(FaultKind.RESULT_UNAVAILABLE, "gone")} | TAKEN,
        {"bond_microcredits": 0, "rejection": Fault(FaultKind.RESULT_REFUTED, "wrong")} | TAKEN,
    ],
    ids=lambda change: "+".join(change),
)
def test_a_receipt_whose_sums_are_wrong_is_found(change: dict[str, object]) -> None:
    assert receipt_problem(replace(a_receipt(), **change)) is not None  # type: ignore[arg-type]


def test_a_receipt_follows_the_one_whose_sequence_and_balance_lead_to_it() -> None:
    receipt = a_receipt(sequence=8, before=500)
    assert follows(receipt, 7, 500) is None
    assert follows(receipt, 6, 500) is not None
    assert follows(receipt, 8, 500) is not None
    assert follows(receipt, 7, 501) is not None


@pytest.mark.parametrize(
    ("due", "pay", "short"),
    [(1000, 990, 0), (1000, 989, 11), (50, 49, 0), (50, 48, 2), (1, 0, 0), (2, 0, 2), (100, 120, 0)],
)
def test_a_hundredth_of_the_pay_or_one_microcredit_is_no_shortfall(due: int, pay: int, short: int) -> None:
    assert shortfall_microcredits(due, pay) == short
