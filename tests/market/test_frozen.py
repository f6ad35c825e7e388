"""Values of the market are frozen for mypy, and compare and hash by their fields."""

from __future__ import annotations

import pytest

from bacalhau.model.frozen import replace
from bacalhau.model.resources import Resources


def test_equal_values_are_one_key() -> None:
    assert {Resources(1, 2): "held"}[Resources(1, 2)] == "held"
    assert Resources(1, 2) != Resources(2, 1)


def test_an_assignment_is_refused_by_mypy_alone() -> None:
    value = Resources(1)
    value.cpu_millicores = 2  # type: ignore[misc]  # mypy, were it to allow this, would call the comment unused
    assert (value.cpu_millicores, hasattr(value, "__dict__")) == (2, False)


def test_a_replaced_value_is_a_new_one_and_an_unknown_field_is_refused() -> None:
    value = Resources(1, 2)
    assert replace(value, memory_bytes=3) == Resources(1, 3)
    assert value == Resources(1, 2)
    with pytest.raises(AttributeError):
        replace(value, memory=3)  # type: ignore[call-arg]
