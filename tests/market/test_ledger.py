"""Double entry: nothing comes from nowhere, whatever happens; and history replays to the same books."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bacalhau.market import ledger as books
from bacalhau.market.ledger import Ledger
from bacalhau.model.ledger import Balance, Posting, Transaction, TransactionKind

_AMOUNTS = st.integers(0, 10**15)


def test_a_trade_of_90_where_40_are_due_moves_these_amounts() -> None:
    buyer, seller = Ledger(), Ledger()
    buyer.post(books.set_aside("n1", "e-1", 90, 5))
    assert buyer.balances == {"spent": -90, "escrow:e-1": 90}
    buyer.post(books.pay("n1", "e-1", 90, 40, 6))
    seller.post(books.earn("r1", "e-1", 40, 7))
    assert buyer.balances == {"spent": -40, "payable:n1": 40}
    assert seller.balances == {"earned": 40, "receivable:r1": -40}
    seller.post(books.settlement_received("r1", 30, 8, "q"))
    buyer.post(books.settlement_paid("n1", 30, 9))
    assert buyer.balances == {"spent": -40, "payable:n1": 10, "paid": 30}
    assert seller.balances == {"earned": 40, "receivable:r1": -10, "received": -30}


def test_a_refund_gives_all_of_it_back_and_a_penalty_lowers_what_is_owed() -> None:
    buyer = Ledger()
    buyer.post(books.set_aside("n1", "e-1", 90, 5))
    buyer.post(books.refund("n1", "e-1", 90, 0, 6))
    assert buyer.balances == {}
    buyer.post(books.set_aside("n1", "e-2", 90, 7))
    buyer.post(books.refund("n1", "e-2", 90, 25, 8))
    assert buyer.balances == {"spent": 25, "payable:n1": -25}


def test_postings_that_do_not_add_up_to_zero_are_a_bug() -> None:
    lost = Transaction(
        TransactionKind.PAYMENT, 1, "n1", "e-1", (Posting("spent", -2), Posting("payable:n1", 1))
    )
    with pytest.raises(AssertionError, match="out of nothing"):
        Ledger().post(lost)


class TwoNodes(RuleBasedStateMachine):
    """A buyer and a seller; each step is a transaction of one of them, or of both."""

    def __init__(self) -> None:
        super().__init__()
        self.buyer, self.seller = Ledger(), Ledger()
        self.balance = Balance()
        self.open: dict[str, int] = {}
        self.history: list[Transaction] = []
        self.number = 0

    def _post(self, transaction: Transaction) -> None:
        self.buyer.post(transaction)
        self.history.append(transaction)

    @rule(price=_AMOUNTS)
    def award(self, price: int) -> None:
        self.number += 1
        id = f"e-{self.number}"
        self.open[id] = price
        self._post(books.set_aside("s", id, price, self.number))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.open)))
        price = self.open.pop(id)
        due = data.draw(st.integers(0, price))
        self._post(books.pay("s", id, price, due, 1))
        self.seller.post(books.earn("b", id, due, 1))
        self._charged(due)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), penalty=st.integers(0, 10**6))
    def reject(self, data: st.DataObject, penalty: int) -> None:
        id = data.draw(st.sampled_from(sorted(self.open)))
        self._post(books.refund("s", id, self.open.pop(id), penalty, 1))
        self.seller.post(books.earn("b", id, -penalty, 1))
        self._charged(-penalty)

    @rule(amount=st.integers(1, 10**15))
    def settle(self, amount: int) -> None:
        self._post(books.settlement_paid("s", amount, 1))
        self.seller.post(books.settlement_received("b", amount, 1, ""))
        self.balance = replace(self.balance, settled_microcredits=self.balance.settled_microcredits + amount)

    def _charged(self, amount: int) -> None:
        self.balance = replace(self.balance, charged_microcredits=self.balance.charged_microcredits + amount)

    @invariant()
    def nothing_is_made_or_lost(self) -> None:
        self.buyer.check()
        self.seller.check()

    @invariant()
    def both_agree(self) -> None:
        assert self.buyer.balance("payable:s") == -self.seller.balance("receivable:b")
        assert self.buyer.balance("payable:s") == self.balance.owed_microcredits

    @invariant()
    def escrow_is_what_is_open(self) -> None:
        assert self.buyer.total("escrow:") == sum(self.open.values())

    @invariant()
    def a_replay_and_the_balances_give_the_same_books(self) -> None:
        replayed = Ledger()
        for transaction in self.history:
            replayed.post(transaction)
        assert replayed.balances == self.buyer.balances
        assert books.opening([("s", self.balance)], [], self.open.items()).balances == self.buyer.balances
        assert books.opening([], [("b", self.balance)], []).balances == self.seller.balances


TestTwoNodes = TwoNodes.TestCase


@given(st.lists(st.tuples(st.sampled_from("abc"), _AMOUNTS, _AMOUNTS)))
def test_opening_books_add_up_to_zero_whatever_the_balances(peers: list[tuple[str, int, int]]) -> None:
    balances = {peer: Balance(1, charged, 1, settled) for peer, charged, settled in peers}
    escrows = [(peer, charged) for peer, charged, _ in peers]
    books.opening(balances.items(), balances.items(), dict(escrows).items()).check()
