"""A node's books: double entry, in whole microcredits, append-only.

An account has a holder, and its balance is what the holder has. A transaction only moves: its postings add up to
zero, and so does the sum of all accounts, always.

    buying     spent                what this node had before it promised and paid anything: 0, then less
               escrow:EXECUTION     set aside for an execution until it is settled
               payable:PEER         what the peer holds against this node: what this node owes it
               paid                 what was given outside the system for that

    selling    earned               what this node got for its work
               receivable:PEER      below 0 by what the peer owes this node
               received             below 0 by what was got outside the system for that

What each event posts:

    award of a price              spent -price               escrow +price
    result accepted               escrow -price              payable +pay      spent +(price - pay)
    no pay: failed, called off    escrow -price              spent +price
    and a penalty                 payable -penalty           spent +penalty
    a receipt of before a restore payable +pay               spent -pay
    receipt of a requester        receivable -pay            earned +pay
    settlement note came          payable -amount            paid +amount
    settlement note given         receivable +amount         received -amount

Two books agree where `payable` of the one is `receivable` of the other with its sign turned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bacalhau.model.ledger import Posting, Transaction, TransactionKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bacalhau.model.ledger import Balance

SPENT: Final = "spent"
PAID: Final = "paid"
EARNED: Final = "earned"
RECEIVED: Final = "received"


def escrow(execution_id: str) -> str:
    return f"escrow:{execution_id}"


def payable(peer_id: str) -> str:
    return f"payable:{peer_id}"


def receivable(peer_id: str) -> str:
    return f"receivable:{peer_id}"


class Ledger:
    """Balances of accounts, changed only by transactions. An account that comes to 0 is forgotten."""

    __slots__ = ("_balances",)

    def __init__(self, balances: Mapping[str, int] | None = None) -> None:
        self._balances = {account: amount for account, amount in (balances or {}).items() if amount}

    def post(self, transaction: Transaction) -> None:
        total = 0
        for posting in transaction.postings:
            total += posting.amount_microcredits
        if total:
            raise AssertionError(f"{transaction} makes {total} microcredits out of nothing")
        balances = self._balances
        for posting in transaction.postings:
            amount = balances.get(posting.account, 0) + posting.amount_microcredits
            if amount:
                balances[posting.account] = amount
            else:
                balances.pop(posting.account, None)

    def balance(self, account: str) -> int:
        return self._balances.get(account, 0)

    def total(self, prefix: str) -> int:
        """The sum of all accounts whose names begin so."""
        return sum(amount for account, amount in self._balances.items() if account.startswith(prefix))

    @property
    def balances(self) -> dict[str, int]:
        """Every account that is not 0."""
        return dict(self._balances)

    def check(self) -> None:
        """The sum of all accounts is zero, and no escrow is below it."""
        assert self.total("") == 0, self._balances
        assert all(amount >= 0 for name, amount in self._balances.items() if name.startswith("escrow:"))


def opening(
    payables: Iterable[tuple[str, Balance]],
    receivables: Iterable[tuple[str, Balance]],
    escrows: Iterable[tuple[str, int]],
) -> Ledger:
    """The books after a restart: balances by peer and escrows by execution say all, and history is not read."""
    balances = {SPENT: 0, PAID: 0, EARNED: 0, RECEIVED: 0}
    for execution_id, price in escrows:
        balances[escrow(execution_id)] = price
        balances[SPENT] -= price
    for peer_id, balance in payables:
        balances[payable(peer_id)] = balance.owed_microcredits
        balances[SPENT] -= balance.charged_microcredits
        balances[PAID] += balance.settled_microcredits
    for peer_id, balance in receivables:
        balances[receivable(peer_id)] = -balance.owed_microcredits
        balances[EARNED] += balance.charged_microcredits
        balances[RECEIVED] -= balance.settled_microcredits
    return Ledger(balances)


# --- transactions ---


def set_aside(peer_id: str, execution_id: str, price: int, now: int) -> Transaction:
    """The price of an award goes into escrow."""
    moves = ((SPENT, -price), (escrow(execution_id), price))
    return _transaction(TransactionKind.ESCROW, now, peer_id, execution_id, moves)


def pay(peer_id: str, execution_id: str, price: int, due: int, now: int) -> Transaction:
    """A result was accepted: `due` of the price is owed to its node, the rest comes back."""
    moves = ((escrow(execution_id), -price), (payable(peer_id), due), (SPENT, price - due))
    return _transaction(TransactionKind.PAYMENT, now, peer_id, execution_id, moves)


def refund(peer_id: str, execution_id: str, price: int, penalty: int, now: int) -> Transaction:
    """Nothing is owed: the price comes back, and what the node forfeits with it."""
    moves = ((escrow(execution_id), -price), (payable(peer_id), -penalty), (SPENT, price + penalty))
    return _transaction(TransactionKind.REFUND, now, peer_id, execution_id, moves)


def owe(peer_id: str, execution_id: str, amount: int, now: int) -> Transaction:
    """A receipt that this node had forgotten says so much more of the execution than its books; or less, below 0."""
    kind = TransactionKind.PAYMENT if amount > 0 else TransactionKind.REFUND
    return _transaction(kind, now, peer_id, execution_id, ((payable(peer_id), amount), (SPENT, -amount)))


def earn(peer_id: str, execution_id: str, amount: int, now: int) -> Transaction:
    """A receipt of the peer; `amount` is negative where it takes a penalty."""
    moves = ((receivable(peer_id), -amount), (EARNED, amount))
    return _transaction(TransactionKind.EARNING, now, peer_id, execution_id, moves)


def settlement_paid(peer_id: str, amount: int, now: int) -> Transaction:
    """The peer signed that it was paid outside the system."""
    moves = ((payable(peer_id), -amount), (PAID, amount))
    return _transaction(TransactionKind.SETTLEMENT_PAID, now, peer_id, "", moves)


def settlement_received(peer_id: str, amount: int, now: int, request_id: str) -> Transaction:
    """The peer paid outside the system."""
    moves = ((receivable(peer_id), amount), (RECEIVED, -amount))
    return _transaction(TransactionKind.SETTLEMENT_RECEIVED, now, peer_id, "", moves, request_id)


def _transaction(
    kind: TransactionKind,
    now: int,
    peer_id: str,
    execution_id: str,
    moves: tuple[tuple[str, int], ...],
    request_id: str = "",
) -> Transaction:
    postings = tuple([Posting(account, amount) for account, amount in moves if amount])
    return Transaction(kind, now, peer_id, execution_id, postings, request_id)
