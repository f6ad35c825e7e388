"""Pricing: whole microcredits, never negative, and never less for more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market.pricing import FlatPrice, LinearPrice, Situation
from bacalhau.model.job import SECOND_US
from bacalhau.model.market import Tariff
from bacalhau.model.resources import GIB, MIB, Resources
from tests.builders import NODE_CAPACITY, an_offer

_RATES = st.integers(0, 10**9)
_TARIFFS = st.builds(Tariff, _RATES, _RATES, _RATES, _RATES)
_AMOUNTS = st.integers(0, 2**50)
_GROWTH = st.integers(0, 2**30)


def _situation(missing_input_bytes: int = 0) -> Situation:
    return Situation(NODE_CAPACITY, NODE_CAPACITY, missing_input_bytes)


def test_a_flat_price_is_the_same_for_everything() -> None:
    assert FlatPrice(7).price(an_offer(resources=NODE_CAPACITY), _situation(GIB)) == 7


def test_a_linear_price_adds_start_cpu_memory_and_fetched_input() -> None:
    tariff = Tariff(
        start_microcredits=1000,
        cpu_second_microcredits=10,
        memory_gib_second_microcredits=2,
        input_gib_microcredits=50,
    )
    offer = an_offer(
        resources=Resources(cpu_millicores=500, memory_bytes=2 * GIB), execution_timeout_us=60 * SECOND_US
    )
    assert LinearPrice(tariff).price(offer, _situation(3 * GIB)) == 1000 + 300 + 240 + 150


def test_each_part_is_rounded_up_so_that_no_part_is_free() -> None:
    tariff = Tariff(cpu_second_microcredits=1, memory_gib_second_microcredits=1, input_gib_microcredits=1)
    offer = an_offer(resources=Resources(cpu_millicores=1, memory_bytes=MIB), execution_timeout_us=SECOND_US)
    assert LinearPrice(tariff).price(offer, _situation(1)) == 3


@given(_TARIFFS, _AMOUNTS, _AMOUNTS, _AMOUNTS, _AMOUNTS, _GROWTH, _GROWTH, _GROWTH, _GROWTH)
def test_a_linear_price_is_an_integer_and_grows_with_every_resource_and_with_time(
    tariff: Tariff,
    cpu: int,
    memory: int,
    time_us: int,
    missing: int,
    more_cpu: int,
    more_memory: int,
    more_time_us: int,
    more_missing: int,
) -> None:
    pricing = LinearPrice(tariff)
    price = pricing.price(
        an_offer(resources=Resources(cpu, memory), execution_timeout_us=time_us), _situation(missing)
    )
    more = pricing.price(
        an_offer(
            resources=Resources(cpu + more_cpu, memory + more_memory),
            execution_timeout_us=time_us + more_time_us,
        ),
        _situation(missing + more_missing),
    )
    assert isinstance(price, int)
    assert tariff.start_microcredits <= price <= more
