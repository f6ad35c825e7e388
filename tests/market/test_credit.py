"""Mutual credit: a limit for each peer, and a bound on all strangers together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bacalhau.market.credit import Credit, CreditPolicy
from bacalhau.model.refusals import RefusalReason

POLICY = CreditPolicy(peer_limit_microcredits=100, unproven_limit_microcredits=150)


def test_work_is_taken_on_credit_up_to_the_limit_and_not_above() -> None:
    credit = Credit(POLICY)
    credit.change("r1", owed=60, committed=30)
    assert credit.refusal("r1", 10) is None
    refusal = credit.refusal("r1", 11)
    assert refusal is not None
    assert refusal.reason is RefusalReason.CREDIT_LIMIT
    assert refusal.figures == (
        ("price_microcredits", 11),
        ("used_microcredits", 90),
        ("limit_microcredits", 100),
    )


def test_what_was_left_unpaid_stays_in_use_and_what_is_settled_comes_free() -> None:
    credit = Credit(POLICY)
    credit.change("r1", committed=100)
    credit.change("r1", committed=-100, disputed=40)
    assert (credit.refusal("r1", 60), credit.refusal("r1", 61) is None) == (None, False)
    credit.change("r1", disputed=-40, owed=40)
    credit.change("r1", owed=-40)
    assert credit.refusal("r1", 100) is None
    assert list(credit) == []


def test_a_thousand_fresh_keys_get_no_more_credit_than_the_bound() -> None:
    credit, given = Credit(POLICY), 0
    for number in range(1000):
        while credit.refusal(f"key-{number}", 10) is None:
            credit.change(f"key-{number}", committed=10)
            given += 10
    assert given == 150
    credit.check()


def test_a_trusted_peer_has_its_own_limit_and_leaves_the_bound_to_others() -> None:
    credit = Credit(POLICY)
    credit.change("r1", owed=100)
    credit.change("r2", owed=50)
    assert credit.refusal("r3", 1) is not None
    credit.trust("r1", 1000)
    assert (credit.refusal("r1", 900), credit.refusal("r3", 100)) == (None, None)
    credit.trust("r1", None)
    assert credit.refusal("r3", 1) is not None
    credit.trust("r2", 0)
    assert credit.refusal("r2", 1) is not None


def test_whoever_paid_ahead_makes_no_room_for_others() -> None:
    credit = Credit(POLICY)
    credit.change("r1", owed=-1000)
    assert credit.unproven_exposure == 0
    assert credit.refusal("r1", 1100) is None
    assert credit.refusal("r1", 1101) is not None
    credit.change("r2", owed=100)
    assert credit.refusal("r3", 51) is not None


_PEERS = st.sampled_from(["a", "b", "c", "d"])
_STEPS = st.lists(
    st.tuples(st.just("commit"), _PEERS, st.integers(0, 60))
    | st.tuples(st.just("pay"), _PEERS, st.integers(0, 60))
    | st.tuples(st.just("trust"), st.just("a"), st.none() | st.integers(0, 300)),
    max_size=60,
)


@given(_STEPS)
def test_neither_limit_is_ever_passed(steps: list[tuple[str, str, int | None]]) -> None:
    """For whoever has had no limit of its own; what was committed under one that is taken back stays."""
    credit = Credit(POLICY)
    for kind, peer, amount in steps:
        match kind:
            case "trust":
                credit.trust(peer, amount)
            case "pay":
                credit.change(peer, owed=-(amount or 0))
            case _ if credit.refusal(peer, amount or 0) is None:
                credit.change(peer, committed=amount or 0)
        credit.check()
        strangers = [max(0, credit.exposure(peer)) for peer in "bcd"]
        assert all(exposure <= 100 for exposure in strangers)
        assert sum(strangers) <= 150
