"""Values of the market are frozen for mypy, and compare and hash by their fields."""

from __future__ import annotations

from bacalhau.model.resources import Resources


def test_equal_values_are_one_key() -> None:
    assert {Resources(1, 2): "held"}[Resources(1, 2)] == "held"
    assert Resources(1, 2) != Resources(2, 1)


def test_an_assignment_is_refused_by_mypy_alone() -> None:
    value = Resources(1)
    value.cpu_millicores = 2  # type: ignore[misc]  # mypy, were it to allow this, would call the comment unused
    assert (value.cpu_millicores, hasattr(value, "__dict__")) == (2, False)
