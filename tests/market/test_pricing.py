"""Pricing: whole microcredits, never negative, and never less for more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market.pricing import (
    FlatPrice,
    HeldInputDiscount,
    LinearPrice,
    PriceFloor,
    PricingStrategy,
    ReputationPrice,
    ScriptedPrice,
    Situation,
    UtilisationPrice,
)
from bacalhau.model.market import ClaimedInput, Tariff
from bacalhau.model.resources import Resources
from bacalhau.model.units import GIB, MIB, PPM, SECOND_US
from tests.builders import MODULE, NODE_CAPACITY, an_offer

if TYPE_CHECKING:
    from bacalhau.model.market import JobOffer

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


# --- utilisation ---

CPU_ONLY = Tariff(cpu_second_microcredits=10)
BOTH = Tariff(cpu_second_microcredits=10, memory_gib_second_microcredits=2)


def _asking(cpu: int, memory_bytes: int, seconds: int = 1) -> JobOffer:
    return an_offer(resources=Resources(cpu, memory_bytes), execution_timeout_us=seconds * SECOND_US)


def test_a_job_in_the_proportions_of_the_machine_strands_nothing_and_costs_its_linear_price() -> None:
    offer = _asking(1000, 2 * GIB)
    assert UtilisationPrice(LinearPrice(BOTH)).price(offer, _situation()) == 10 + 4


def test_a_job_that_takes_most_of_one_resource_pays_for_what_it_strands_of_the_others() -> None:
    """3 of 4 GiB leave a quarter of the memory: 1.5 of 2 cores cannot be sold any more."""
    offer = _asking(100, 3 * GIB)
    assert LinearPrice(BOTH).price(offer, _situation()) == 1 + 6
    assert UtilisationPrice(LinearPrice(BOTH)).price(offer, _situation()) == 15 + 6


def test_what_was_stranded_before_is_not_billed_again() -> None:
    """Half a GiB of four is free, so of the two cores a quarter can be sold: a job that takes half of that memory
    takes an eighth of a core with it."""
    situation = Situation(Resources(2000, GIB // 2, 10 * GIB), NODE_CAPACITY, 0)
    assert UtilisationPrice(LinearPrice(CPU_ONLY)).price(_asking(1, GIB // 4, 8), situation) == 10


def test_a_flat_price_strands_nothing_that_it_could_bill() -> None:
    assert UtilisationPrice(FlatPrice(7)).price(_asking(100, 3 * GIB), _situation()) == 7


# --- wrappers ---

_HELD_AND_MISSING = (ClaimedInput(MODULE, 3 * GIB), ClaimedInput(MODULE, GIB))


def test_the_discount_for_held_inputs_is_by_the_share_that_is_held() -> None:
    offer = an_offer(inputs=_HELD_AND_MISSING)
    pricing = HeldInputDiscount(FlatPrice(1000), discount_permille=400)
    assert pricing.price(offer, _situation(0)) == 600
    assert pricing.price(offer, _situation(GIB)) == 700
    assert pricing.price(offer, _situation(4 * GIB)) == 1000


def test_a_job_without_inputs_of_known_size_gets_no_discount() -> None:
    pricing = HeldInputDiscount(FlatPrice(1000), discount_permille=400)
    assert pricing.price(an_offer(), _situation()) == 1000
    assert pricing.price(an_offer(inputs=(ClaimedInput(MODULE, 0),)), _situation()) == 1000


def test_the_scripts_price_replaces_the_inner_one_once_there_is_one() -> None:
    pricing = ScriptedPrice(FlatPrice(7))
    assert pricing.price(an_offer(), _situation()) == 7
    named = Situation(NODE_CAPACITY, NODE_CAPACITY, 0, scripted_microcredits=3)
    assert pricing.price(an_offer(), named) == 3


def test_a_requester_that_paid_badly_is_asked_more_and_never_less_than_the_price() -> None:
    pricing = ReputationPrice(FlatPrice(101))

    def asked(score_ppm: int) -> int:
        situation = Situation(NODE_CAPACITY, NODE_CAPACITY, 0, requester_score_ppm=score_ppm)
        return pricing.price(an_offer(), situation)

    assert [asked(score) for score in (PPM, PPM // 2, PPM // 4, PPM // 3, 1)] == [101, 101, 202, 152, 1010]


def test_the_floor_holds_whatever_is_below_it() -> None:
    named = Situation(NODE_CAPACITY, NODE_CAPACITY, 0, scripted_microcredits=3)
    assert PriceFloor(ScriptedPrice(FlatPrice(7)), 5).price(an_offer(), named) == 5
    assert PriceFloor(ScriptedPrice(FlatPrice(7)), 5).price(an_offer(), _situation()) == 7


_STRATEGIES = st.recursive(
    st.builds(FlatPrice, _RATES) | st.builds(LinearPrice, _TARIFFS),
    lambda inner: st.one_of(
        st.builds(UtilisationPrice, inner),
        st.builds(HeldInputDiscount, inner, st.integers(0, 1000)),
        st.builds(PriceFloor, inner, _RATES),
        st.builds(ScriptedPrice, inner),
        st.builds(ReputationPrice, inner),
    ),
    max_leaves=4,
)
_INPUT_BYTES = st.integers(0, 4 * GIB)


@given(
    _STRATEGIES,
    st.integers(0, 2000),
    st.integers(0, 4 * GIB),
    st.integers(0, 1000),
    st.integers(0, GIB),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    _INPUT_BYTES,
    _INPUT_BYTES,
)
def test_however_strategies_are_composed_asking_for_more_never_costs_less(
    pricing: PricingStrategy,
    cpu: int,
    memory: int,
    more_cpu: int,
    more_memory: int,
    time_us: int,
    more_time_us: int,
    missing: int,
    more_missing: int,
) -> None:
    """On a node with other work, also beyond what is free: a quote never gets that far, but a price exists."""
    free = Resources(cpu_millicores=1500, memory_bytes=2 * GIB, disk_bytes=10 * GIB)
    inputs = (ClaimedInput(MODULE, 4 * GIB),)
    price = pricing.price(
        an_offer(resources=Resources(cpu, memory), execution_timeout_us=time_us, inputs=inputs),
        Situation(free, NODE_CAPACITY, missing),
    )
    more = pricing.price(
        an_offer(
            resources=Resources(cpu + more_cpu, memory + more_memory),
            execution_timeout_us=time_us + more_time_us,
            inputs=inputs,
        ),
        Situation(free, NODE_CAPACITY, min(4 * GIB, missing + more_missing)),
    )
    assert isinstance(price, int)
    assert 0 <= price <= more


@given(_TARIFFS, st.integers(0, 2000), st.integers(0, 4 * GIB), st.integers(0, 10**9))
def test_utilisation_never_asks_less_than_the_linear_price_nor_more_than_for_the_whole_machine(
    tariff: Tariff, cpu: int, memory: int, time_us: int
) -> None:
    linear = LinearPrice(tariff)
    offer = an_offer(resources=Resources(cpu, memory), execution_timeout_us=time_us)
    whole = an_offer(resources=NODE_CAPACITY, execution_timeout_us=time_us)
    price = UtilisationPrice(linear).price(offer, _situation())
    assert linear.price(offer, _situation()) <= price <= linear.price(whole, _situation())
