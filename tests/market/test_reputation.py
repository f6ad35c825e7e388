"""Reputation: counts, decay, scores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market.reputation import (
    HALF_LIFE_DAYS,
    NEW_SCORE_PPM,
    ReputationBook,
    decayed,
    noted,
    price_factor_ppm,
    score_ppm,
)
from bacalhau.model.reputation import Conduct, Reputation, Role
from bacalhau.model.units import DAY_US, PPM

amounts = st.integers(0, 10**15)
days = st.integers(0, 400)
COMPUTE = [conduct for conduct in Conduct if conduct.role is Role.COMPUTE]
histories = st.lists(st.tuples(st.sampled_from(COMPUTE), st.integers(0, 40)), max_size=30)


def seen(history: list[tuple[Conduct, int]]) -> tuple[Reputation, int]:
    """A reputation from what was seen, each so many days after the one before; and the time of the last."""
    now = 0
    reputation = Reputation("n1", Role.COMPUTE, 0)
    for conduct, later_days in history:
        now += later_days * DAY_US
        reputation = noted(reputation, conduct, now)
    return reputation, now


@given(amounts)
def test_half_is_left_after_the_half_life_exactly(amount: int) -> None:
    assert decayed(amount, HALF_LIFE_DAYS) == amount // 2
    assert decayed(amount, 0) == amount


@given(amounts, days, days)
def test_decay_in_two_steps_is_decay_in_one_up_to_rounding(amount: int, first: int, second: int) -> None:
    twice, once = decayed(decayed(amount, first), second), decayed(amount, first + second)
    assert abs(twice - once) <= 2 + once // 10**7


@given(amounts, days, days)
def test_what_is_older_weighs_less(amount: int, first: int, second: int) -> None:
    early, late = sorted((first, second))
    assert decayed(amount, late) <= decayed(amount, early)


def test_the_daily_factor_is_the_thirtieth_root_of_a_half() -> None:
    assert abs(977_159_968 / 10**9 - 2 ** (-1 / 30)) < 1e-9


def test_many_updates_within_a_day_decay_as_one_does() -> None:
    often = Reputation("n1", Role.COMPUTE, 0)
    for hour in range(24 * 30 + 1):
        often = noted(often, Conduct.COMPLETED, hour * DAY_US // 24)
    recent = often.counts[0].recent_ppm
    # 24 a day for 30 days: a geometric series of the daily factor, and the last one.
    expected = sum(24 * PPM * 2 ** (-day / 30) for day in range(1, 31)) + PPM
    assert often.count(Conduct.COMPLETED) == 24 * 30 + 1
    assert abs(recent - expected) < 1e-5 * expected


@given(histories, days)
def test_a_score_is_between_none_and_all_and_moves_to_that_of_an_unknown_node(
    history: list[tuple[Conduct, int]], later: int
) -> None:
    reputation, now = seen(history)
    score, aged = score_ppm(reputation, now), score_ppm(reputation, now + later * DAY_US)
    assert 0 < score < PPM
    assert abs(aged - NEW_SCORE_PPM) <= abs(score - NEW_SCORE_PPM) + 1
    assert abs(score_ppm(reputation, now + 3000 * DAY_US) - NEW_SCORE_PPM) <= 1


@given(histories)
def test_a_good_result_never_lowers_a_score_and_a_bad_one_never_raises_it(
    history: list[tuple[Conduct, int]],
) -> None:
    reputation, now = seen(history)
    score = score_ppm(reputation, now)
    assert score_ppm(noted(reputation, Conduct.COMPLETED, now), now) >= score
    for bad in COMPUTE[1:]:
        assert score_ppm(noted(reputation, bad, now), now) <= score


def test_scores_worked_out_by_hand() -> None:
    def after(*conducts: Conduct) -> int:
        return score_ppm(seen([(conduct, 0) for conduct in conducts])[0], 0)

    assert score_ppm(None, 0) == NEW_SCORE_PPM == after() == 500_000
    assert after(Conduct.COMPLETED) == 666_666
    assert after(Conduct.FAILED) == 333_333
    assert after(Conduct.CHEATED) == 1_000_000 // 22
    assert after(Conduct.CHEATED, *[Conduct.COMPLETED] * 20) == 500_000
    assert after(*[Conduct.COMPLETED] * 98) == 990_000


@pytest.mark.parametrize(
    ("score", "factor"), [(1, 10 * PPM), (250_000, 2 * PPM), (500_000, PPM), (990_000, PPM)]
)
def test_a_requester_that_pays_seldom_is_charged_more_and_nobody_less(score: int, factor: int) -> None:
    assert price_factor_ppm(score) == factor


def test_a_book_holds_one_role_and_a_cheat_ends_the_run_of_valid_results() -> None:
    book = ReputationBook(Role.COMPUTE)
    book.restore(
        [Reputation("n1", Role.REQUESTER, 0), Reputation("n2", Role.COMPUTE, 0, consecutive_valid=7)]
    )
    assert book.of("n1") is None
    assert book.note_valid("n2", 5).consecutive_valid == 8
    assert book.note("n2", Conduct.FAILED, 5).consecutive_valid == 8
    cheated = book.note("n2", Conduct.CHEATED, 6)
    assert (cheated.consecutive_valid, cheated.count(Conduct.CHEATED), cheated.updated_us) == (0, 1, 6)
    assert book.consecutive_valid("n2") == 0
    assert book.score_ppm("n3", 6) == NEW_SCORE_PPM


@given(st.lists(st.tuples(st.sampled_from(COMPUTE), st.integers(0, 40), st.booleans()), max_size=20))
def test_a_book_gives_the_score_of_what_it_holds_whenever_it_is_asked(
    story: list[tuple[Conduct, int, bool]],
) -> None:
    book, now = ReputationBook(Role.COMPUTE), 0
    for conduct, later_days, notes in story:
        now += later_days * DAY_US
        if notes:
            book.note("n1", conduct, now)
        for moment in (now, now + DAY_US - 1, now + DAY_US, now):
            assert book.score_ppm("n1", moment) == score_ppm(book.of("n1"), moment)
