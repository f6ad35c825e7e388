"""Intervals, percentiles and Gini against values from tables and worked out by hand."""

from __future__ import annotations

import math

import pytest

from bacalhau.simulation.statistics import estimate, gini, percentile, student_t


@pytest.mark.parametrize(
    ("degrees", "confidence", "t"),
    # From a printed table of Student's t.
    [
        (1, 0.95, 12.706),
        (2, 0.95, 4.303),
        (4, 0.95, 2.776),
        (9, 0.95, 2.262),
        (30, 0.99, 2.750),
        (120, 0.95, 1.980),
    ],
)
def test_quantiles_of_students_t_are_those_of_the_table(degrees: int, confidence: float, t: float) -> None:
    assert student_t(degrees, confidence) == pytest.approx(t, abs=6e-4)


def test_an_estimate_is_mean_and_half_width() -> None:
    found = estimate([2.0, 4.0, 6.0])
    assert found.mean == 4.0
    assert found.half_width == pytest.approx(4.303 * 2 / math.sqrt(3), abs=1e-3)
    assert found.holds(8.9)
    assert not found.holds(9.0)
    assert estimate([3.0]).half_width is None


def test_percentiles_interpolate() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([1.0, 2.0, 3.0, 4.0], 100) == 4.0
    assert percentile([], 50) == 0.0


def test_gini_is_nothing_where_all_have_the_same_and_most_where_one_has_all() -> None:
    assert gini([3.0, 3.0, 3.0]) == pytest.approx(0.0)
    assert gini([0.0, 0.0, 0.0, 8.0]) == pytest.approx(0.75)
    assert gini([1.0, 3.0]) == pytest.approx(0.25)
    assert gini([0.0, 0.0]) == 0.0
