"""Conversions are done once for what is asked for again, within bounds of number and of bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bacalhau.wire import remembered as remembered_module
from bacalhau.wire.remembered import remembered

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def _counted(converted: list[int]) -> Callable[[int], bytes]:
    def convert(value: int) -> bytes:
        converted.append(value)
        return bytes(value)

    return remembered(convert)


def test_a_burst_of_short_jobs_is_converted_once() -> None:
    converted: list[int] = []
    convert = _counted(converted)
    for _ in range(3):
        assert [len(convert(value)) for value in range(300)] == list(range(300))
    assert converted == list(range(300))


def test_the_oldest_go_beyond_the_number_and_beyond_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_module, "VALUES_MAX", 3)
    monkeypatch.setattr(remembered_module, "BYTES_MAX", 100)
    converted: list[int] = []
    convert = _counted(converted)
    for value in (1, 2, 3, 4, 4, 3, 2, 1):  # 1 went when 4 came
        convert(value)
    assert converted == [1, 2, 3, 4, 1]
    converted.clear()
    for value in (90, 90, 20, 20, 90, 101, 101):  # 90 and 20 are too much together, 101 by itself
        convert(value)
    assert converted == [90, 20, 90, 101, 101]


def test_threads_get_what_belongs_to_their_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_module, "VALUES_MAX", 2)
    convert = _counted([])
    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            assert [len(data) for data in threads.map(convert, range(50))] == list(range(50))
