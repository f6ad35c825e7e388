"""Commitments, and verdicts over sets of results."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market.verification import (
    DRAW_BITS,
    TRUSTED_AFTER,
    commitment_digest,
    compared_digest,
    draw_of,
    is_checked,
    judge,
)

digests = st.binary(min_size=32, max_size=32)
few_digests = st.sampled_from([bytes([index]) * 32 for index in range(4)])
ids = st.text("abcdef0123456789-", min_size=1, max_size=8)
outputs = st.dictionaries(st.text(max_size=6), st.binary(max_size=8), max_size=4)
results = st.dictionaries(ids, few_digests, max_size=9)
confidences = st.integers(2, 5)

# --- what is compared ---


@given(
    st.integers(-300, 300),
    st.binary(max_size=8),
    outputs,
    st.integers(-300, 300),
    st.binary(max_size=8),
    outputs,
)
def test_results_agree_only_where_exit_code_stdout_and_outputs_are_equal(
    code: int,
    stdout: bytes,
    named: dict[str, bytes],
    other_code: int,
    other_stdout: bytes,
    other_named: dict[str, bytes],
) -> None:
    equal = (code, stdout, named) == (other_code, other_stdout, other_named)
    same = compared_digest(code, stdout, named) == compared_digest(other_code, other_stdout, other_named)
    assert same is equal


def test_a_name_and_its_content_cannot_be_shifted_into_each_other() -> None:
    assert compared_digest(0, b"", {"a": b"bc"}) != compared_digest(0, b"", {"ab": b"c"})
    assert compared_digest(0, b"a", {}) != compared_digest(0, b"", {"": b"a"})


def test_the_order_in_which_outputs_come_does_not_count() -> None:
    assert compared_digest(0, b"s", {"a": b"1", "b": b"2"}) == compared_digest(
        0, b"s", {"b": b"2", "a": b"1"}
    )


# --- commitments ---


@given(digests, digests, ids, ids, digests, digests, ids, ids)
def test_a_commitment_binds_salt_result_execution_and_node(
    salt: bytes,
    compared: bytes,
    execution: str,
    node: str,
    salt2: bytes,
    compared2: bytes,
    execution2: str,
    node2: str,
) -> None:
    equal = (salt, compared, execution, node) == (salt2, compared2, execution2, node2)
    first, second = (
        commitment_digest(salt, compared, execution, node),
        commitment_digest(salt2, compared2, execution2, node2),
    )
    assert (first == second) is equal


@given(digests, digests, ids, st.lists(ids, min_size=2, max_size=2, unique=True))
def test_whoever_repeats_a_commitment_that_it_saw_cannot_open_it_even_when_it_learns_the_rest(
    salt: bytes, compared: bytes, execution: str, nodes: list[str]
) -> None:
    honest, copycat = nodes
    seen = commitment_digest(salt, compared, execution, honest)
    assert commitment_digest(salt, compared, execution, copycat) != seen


@given(digests, digests, ids, ids, digests)
def test_the_same_result_has_another_commitment_under_another_salt(
    salt: bytes, compared: bytes, execution: str, node: str, other: bytes
) -> None:
    same = commitment_digest(other, compared, execution, node) == commitment_digest(
        salt, compared, execution, node
    )
    assert same is (other == salt)


# --- verdicts ---


@given(results, confidences, st.randoms(use_true_random=False))
def test_a_verdict_does_not_depend_on_the_order_of_results(
    compared: dict[str, bytes], confidence: int, random: Random
) -> None:
    shuffled = list(compared.items())
    random.shuffle(shuffled)
    assert judge(dict(shuffled), confidence) == judge(compared, confidence)


@given(results, confidences)
def test_every_result_is_in_one_group_and_all_of_a_group_agree(
    compared: dict[str, bytes], confidence: int
) -> None:
    verdict = judge(compared, confidence)
    assert sorted(id for group in verdict.groups for id in group) == sorted(compared)
    assert len({compared[group[0]] for group in verdict.groups}) == len(verdict.groups)
    for group in verdict.groups:
        assert len({compared[id] for id in group}) == 1


@given(results, confidences)
def test_the_winners_are_at_least_confidence_and_more_than_any_other_group(
    compared: dict[str, bytes], confidence: int
) -> None:
    verdict = judge(compared, confidence)
    sizes = sorted((len(group) for group in verdict.groups), reverse=True)
    wins = bool(sizes) and sizes[0] >= confidence and (len(sizes) == 1 or sizes[0] > sizes[1])
    assert verdict.agreed is wins
    assert bool(verdict.winners) is wins
    assert sorted(verdict.winners + verdict.losers) == (sorted(compared) if wins else [])


@given(st.sets(ids, min_size=2, max_size=9), st.data())
def test_cheaters_fewer_than_confidence_never_win_and_refute_nobody(
    nodes: set[str], data: st.DataObject
) -> None:
    confidence = data.draw(st.integers(2, len(nodes)))
    cheaters = data.draw(st.sets(st.sampled_from(sorted(nodes)), max_size=confidence - 1))
    honest = b"h" * 32
    compared = {id: data.draw(few_digests) if id in cheaters else honest for id in nodes}
    verdict = judge(compared, confidence)
    assert not cheaters.intersection(verdict.winners)
    assert not (nodes - cheaters).intersection(verdict.losers)


@given(st.sets(ids, min_size=2, max_size=9), st.data())
def test_honest_nodes_win_where_they_are_enough_and_more_than_the_cheaters_together(
    nodes: set[str], data: st.DataObject
) -> None:
    confidence = data.draw(st.integers(2, len(nodes)))
    honest = data.draw(st.sets(st.sampled_from(sorted(nodes)), min_size=max(confidence, len(nodes) // 2 + 1)))
    compared = {id: b"h" * 32 if id in honest else data.draw(few_digests) for id in nodes}
    verdict = judge(compared, confidence)
    assert set(verdict.winners) == honest
    assert set(verdict.losers) == nodes - honest


def test_a_tie_and_a_group_that_is_too_small_have_no_winner() -> None:
    a, b, c = b"a" * 32, b"b" * 32, b"c" * 32
    assert not judge({"1": a, "2": a, "3": b, "4": b}, 2).agreed
    assert not judge({"1": a, "2": b, "3": c}, 2).agreed
    assert judge({"1": a, "2": a, "3": b}, 2).winners == ("1", "2")
    assert not judge({"1": a, "2": a, "3": b}, 3).agreed
    assert judge({"2": b, "1": a, "3": b}, 2).groups == (("2", "3"), ("1",))
    assert not judge({}, 2).agreed


# --- adaptive ---


@given(st.integers(0, TRUSTED_AFTER - 1), st.integers(0, 2**DRAW_BITS - 1))
def test_a_node_without_ten_valid_results_in_a_row_is_always_checked(valid: int, draw: int) -> None:
    assert is_checked(valid, draw)


@pytest.mark.parametrize("valid", [10, 11, 16, 100, 12345])
def test_a_trusted_node_is_checked_with_one_over_its_run_of_valid_results(valid: int) -> None:
    """Exact: the draws that check it are those below 2**64 / CV."""
    threshold = -(-(2**DRAW_BITS) // valid)
    assert is_checked(valid, threshold - 1)
    assert not is_checked(valid, threshold)
    assert abs(Fraction(threshold, 2**DRAW_BITS) - Fraction(1, valid)) < Fraction(1, 2**60)


def test_the_overhead_of_checks_is_what_their_probability_makes_it() -> None:
    """From CV on the next check comes after CV results on average, so checking CV = 10 to 40 takes 10 + … + 40 results:
    31 checks in 775, and ten before them, 5.2 %."""
    random = Random(5)
    runs, jobs = 400, 0
    for _ in range(runs):
        for valid in range(TRUSTED_AFTER, 41):
            jobs += 1
            while not is_checked(valid, random.getrandbits(DRAW_BITS)):
                jobs += 1
    # The sum of geometric variables has variance sum(CV * (CV - 1)); five standard errors of 400 runs.
    expected = sum(range(TRUSTED_AFTER, 41))
    deviation = (sum(valid * (valid - 1) for valid in range(TRUSTED_AFTER, 41)) / runs) ** 0.5
    assert abs(jobs / runs - expected) < 5 * deviation


def test_draws_from_ids_are_spread_over_the_whole_range() -> None:
    tenths = [0] * 10
    for index in range(10_000):
        tenths[draw_of(f"v-{index}") * 10 >> DRAW_BITS] += 1
    assert all(850 < count < 1150 for count in tenths), tenths  # five standard deviations of a binomial
