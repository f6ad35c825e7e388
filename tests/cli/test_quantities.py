"""Amounts as people write them: exact, and what they mean to the Go Bacalhau."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.model import quantities
from bacalhau.model.quantities import InvalidQuantity

AMOUNTS = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("512", 512),
        ("512b", 512),
        ("512Mb", 512_000_000),
        ("512 MB", 512_000_000),
        ("512m", 512_000_000),
        ("2Gi", 2 * 1024**3),
        ("2GiB", 2 * 1024**3),
        ("1.5GB", 1_500_000_000),
        ("0.3Mi", 314_572),
        ("1,000", 1000),
        ("1e", 10**18),
    ],
)
def test_sizes_mean_what_they_mean_to_go_bacalhau(text: str, size_bytes: int) -> None:
    assert quantities.parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "millicores"), [("500m", 500), ("0.5", 500), ("2", 2000), (".1", 100), ("1.001", 1001)]
)
def test_cpu_is_exact_to_a_millicore(text: str, millicores: int) -> None:
    assert quantities.parse_cpu(text) == millicores


@pytest.mark.parametrize(
    ("text", "duration_us"),
    [
        ("1800", 1_800_000_000),
        ("2s", 2_000_000),
        ("1h30m", 5_400_000_000),
        ("250ms", 250_000),
        ("7d", 604_800_000_000),
    ],
)
def test_durations_take_units_and_plain_seconds(text: str, duration_us: int) -> None:
    assert quantities.parse_duration(text) == duration_us


@pytest.mark.parametrize(
    ("text", "price"), [("2", 2_000_000), ("0.25", 250_000), ("250000u", 250_000), ("0.000001", 1)]
)
def test_prices_are_credits_or_microcredits(text: str, price: int) -> None:
    assert quantities.parse_price(text) == price


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse, text)
        for parse in (
            quantities.parse_cpu,
            quantities.parse_bytes,
            quantities.parse_duration,
            quantities.parse_price,
        )
        for text in ("", "-1", "lots", "1 2", "1.2.3", "٣", "NaN", "inf", "1e5", "9" * 21, "9" * 20)
        if (parse, text) not in {(quantities.parse_bytes, "1 2")}  # go-humanize takes spaces away too
    ]
    + [
        (quantities.parse_cpu, "0.0001"),
        (quantities.parse_cpu, "1.5m"),
        (quantities.parse_price, "0.0000001"),
    ],
)
def test_what_is_no_amount_is_refused(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(InvalidQuantity):
        parse(text)


@given(AMOUNTS)
def test_what_is_written_is_read_again(amount: int) -> None:
    assert quantities.parse_bytes(quantities.format_bytes(amount)) == amount
    assert quantities.parse_cpu(quantities.format_cpu(amount)) == amount
    assert quantities.parse_duration(quantities.format_duration(amount)) == amount
    assert quantities.parse_price(quantities.format_price(amount)) == amount


@given(st.integers(0, 10**12), st.integers(0, 999))
def test_no_float_comes_between(whole: int, thousandths: int) -> None:
    text = f"{whole}.{thousandths:03d}"
    assert quantities.parse_cpu(text) == int(Decimal(text) * 1000)
    assert quantities.parse_price(text) == int(Decimal(text) * 1_000_000)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (
        quantities.parse_cpu,
        quantities.parse_bytes,
        quantities.parse_duration,
        quantities.parse_price,
    ):
        try:
            assert 0 <= parse(text) < 2**63
        except InvalidQuantity:
            continue
