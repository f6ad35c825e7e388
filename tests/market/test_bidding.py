"""The bidding engine: each "no" with its figures, their order, and what has to be asked outside."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market.bidding import Answers, Ask, Quote, quote, screen
from bacalhau.market.pricing import FlatPrice
from bacalhau.model.job import Constraint, ConstraintOperator, Engine, NetworkMode
from bacalhau.model.market import ClaimedInput
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.resources import Resources
from bacalhau.model.units import GIB, SECOND_US
from tests.builders import MODULE, NODE_CAPACITY, a_policy, an_offer

BOTH = (Engine.DOCKER, Engine.WASM)
AN_INPUT = (ClaimedInput(MODULE, GIB),)


def _reason(verdict: object) -> RefusalReason:
    assert isinstance(verdict, Refusal), verdict
    return verdict.reason


def test_an_offer_that_fits_in_every_way_is_let_through() -> None:
    assert screen(an_offer(), a_policy(), BOTH, None) is None


def test_an_engine_that_does_not_answer_is_named() -> None:
    verdict = screen(an_offer(engine=Engine.DOCKER), a_policy(), (Engine.WASM,), None)
    assert verdict == Refusal(
        RefusalReason.ENGINE_MISSING,
        "this node has no docker engine that answers: start one there (`bacalhau node describe` says what is missing), "
        "or start a node that has one",
    )


@pytest.mark.parametrize("network", [NetworkMode.FULL, NetworkMode.HOST])
def test_jobs_with_a_network_need_a_node_that_allows_it(network: NetworkMode) -> None:
    offer = an_offer(network=network)
    assert _reason(screen(offer, a_policy(), BOTH, None)) is RefusalReason.NETWORK_POLICY
    assert screen(offer, a_policy(accept_networked=True), BOTH, None) is None


def test_only_images_that_fit_a_pattern_are_let_through() -> None:
    policy = a_policy(images=("ubuntu:*", "registry.example/*"))
    assert screen(an_offer(image_or_module="ubuntu:24.04"), policy, BOTH, None) is None
    assert _reason(screen(an_offer(image_or_module="evil"), policy, BOTH, None)) is RefusalReason.IMAGE_POLICY


@pytest.mark.parametrize(
    ("constraint", "holds"),
    [
        (Constraint("zone", ConstraintOperator.IN, ("eu", "us")), True),
        (Constraint("zone", ConstraintOperator.IN, ("us",)), False),
        (Constraint("zone", ConstraintOperator.NOT_IN, ("us",)), True),
        (Constraint("zone", ConstraintOperator.NOT_IN, ("eu",)), False),
        (Constraint("gpu", ConstraintOperator.IN, ("a100",)), False),
        (Constraint("gpu", ConstraintOperator.NOT_IN, ("a100",)), True),
        (Constraint("zone", ConstraintOperator.EXISTS), True),
        (Constraint("gpu", ConstraintOperator.EXISTS), False),
        (Constraint("gpu", ConstraintOperator.NOT_EXISTS), True),
        (Constraint("zone", ConstraintOperator.NOT_EXISTS), False),
    ],
)
def test_constraints_are_compared_with_the_nodes_labels(constraint: Constraint, holds: bool) -> None:
    verdict = screen(an_offer(constraints=(constraint,)), a_policy(labels=(("zone", "eu"),)), BOTH, None)
    if holds:
        assert verdict is None
    else:
        assert _reason(verdict) is RefusalReason.CONSTRAINT


def test_a_node_for_jobs_with_inputs_refuses_those_without() -> None:
    assert (
        _reason(screen(an_offer(), a_policy(reject_stateless=True), BOTH, None))
        is RefusalReason.LOCALITY_POLICY
    )


def test_a_node_for_local_inputs_refuses_what_it_would_have_to_fetch() -> None:
    policy = a_policy(only_local_inputs=True)
    offer = an_offer(inputs=AN_INPUT)
    verdict = screen(offer, policy, BOTH, Answers(missing_input_bytes=GIB, missing_inputs=1))
    assert _reason(verdict) is RefusalReason.LOCALITY_POLICY
    assert screen(offer, policy, BOTH, Answers()) is None


def test_a_job_larger_than_the_node_allows_is_infeasible_with_every_figure() -> None:
    offer = an_offer(resources=Resources(4000, GIB, 20 * GIB))
    verdict = screen(offer, a_policy(), BOTH, None)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is RefusalReason.INFEASIBLE
    assert verdict.message.startswith("this node is too small: asked 4 CPU, 2 CPU allowed")
    assert verdict.figures == (
        ("asked_cpu_millicores", 4000),
        ("allowed_cpu_millicores", 2000),
        ("asked_disk_bytes", 20 * GIB),
        ("allowed_disk_bytes", 10 * GIB),
    )


def test_a_time_limit_above_the_nodes_is_refused_with_both() -> None:
    offer = an_offer(execution_timeout_us=61 * SECOND_US)
    verdict = screen(offer, a_policy(execution_timeout_max_us=60 * SECOND_US), BOTH, None)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is RefusalReason.TIMEOUT_POLICY
    assert verdict.message == "this node gives no job more than 60 seconds, asked 61"


def test_the_first_no_in_the_order_of_a_screening_wins() -> None:
    """Each fault is mended in turn; the next reason then shows."""
    everything_wrong = an_offer(
        engine=Engine.DOCKER,
        network=NetworkMode.FULL,
        constraints=(Constraint("gpu", ConstraintOperator.EXISTS),),
        resources=Resources(99_000),
        execution_timeout_us=7200 * SECOND_US,
        max_price_microcredits=1,
    )
    strict = {"images": ("nothing",), "reject_stateless": True}
    reasons = [
        screen(everything_wrong, a_policy(**strict), (), None),  # type: ignore[arg-type]
        screen(everything_wrong, a_policy(**strict), BOTH, None),  # type: ignore[arg-type]
        screen(everything_wrong, a_policy(**strict, accept_networked=True), BOTH, None),  # type: ignore[arg-type]
        screen(everything_wrong, a_policy(accept_networked=True, reject_stateless=True), BOTH, None),
        screen(
            everything_wrong,
            a_policy(accept_networked=True, reject_stateless=True, labels=(("gpu", ""),)),
            BOTH,
            None,
        ),
        screen(everything_wrong, a_policy(accept_networked=True, labels=(("gpu", ""),)), BOTH, None),
    ]
    shown = [_reason(verdict) for verdict in reasons]
    assert shown == [
        RefusalReason.ENGINE_MISSING,
        RefusalReason.NETWORK_POLICY,
        RefusalReason.IMAGE_POLICY,
        RefusalReason.CONSTRAINT,
        RefusalReason.LOCALITY_POLICY,
        RefusalReason.INFEASIBLE,
    ]


def test_inputs_and_the_probe_are_asked_about_only_where_there_are_any() -> None:
    assert screen(an_offer(inputs=AN_INPUT), a_policy(), BOTH, None) == Ask(inputs=True, probe=False)
    assert screen(an_offer(), a_policy(probe=True), BOTH, None) == Ask(inputs=False, probe=True)


def test_nothing_is_asked_outside_for_an_offer_that_is_refused_anyway() -> None:
    assert isinstance(screen(an_offer(inputs=AN_INPUT), a_policy(), (), None), Refusal)


def test_a_busy_node_says_what_was_asked_and_what_is_free() -> None:
    verdict = quote(an_offer(), a_policy(), FlatPrice(1), Resources(999, GIB, GIB), 0)
    assert verdict == Refusal(
        RefusalReason.BUSY,
        "this node is busy: asked 1 CPU, 0.999 CPU free",
        (("asked_cpu_millicores", 1000), ("free_cpu_millicores", 999)),
    )


def test_a_price_at_the_ceiling_is_bid_and_one_above_it_is_declined() -> None:
    offer = an_offer(max_price_microcredits=100)
    assert quote(offer, a_policy(), FlatPrice(100), NODE_CAPACITY, 0) == Quote(100)
    verdict = quote(offer, a_policy(), FlatPrice(101), NODE_CAPACITY, 0)
    assert isinstance(verdict, Refusal)
    assert verdict.reason is RefusalReason.PRICE_CEILING
    assert verdict.figures == (("price_microcredits", 101), ("max_price_microcredits", 100))


@given(st.text(max_size=20), st.text("ab*?[]", max_size=6))
def test_any_image_name_is_decided_by_the_pattern_alone(image: str, pattern: str) -> None:
    verdict = screen(an_offer(image_or_module=image), a_policy(images=(pattern,)), BOTH, None)
    assert (verdict is None) is fnmatchcase(image, pattern)
