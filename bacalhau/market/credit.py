"""How much a node works for others before they pay: mutual credit, with a limit for each and a bound on strangers.

    exposure = what the peer owes for work + the price of its work that is not settled, and of bids to it that stand
               + what it left unpaid

A peer's exposure stays within its limit. That is not enough by itself, for keys are free: whoever has used up the
credit of one takes another. So all peers that the operator has not given a limit of their own (`ledger trust`)
are strangers, and their exposures together stay within one bound: a thousand fresh keys get no more credit than
one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.model.refusals import Refusal, RefusalReason

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class CreditPolicy:
    """Limits in microcredits: of each peer, and of all together that have no limit of their own."""

    peer_limit_microcredits: int
    unproven_limit_microcredits: int


@dataclass(slots=True)
class _Account:
    """What is no open work, and not disputed, is owed."""

    exposure: int = 0
    committed: int = 0
    disputed: int = 0
    limit: int | None = None


class Credit:
    """See the module."""

    __slots__ = ("_accounts", "_policy", "_unproven")

    def __init__(self, policy: CreditPolicy) -> None:
        self._policy = policy
        self._accounts: dict[str, _Account] = {}
        self._unproven = 0

    @property
    def unproven_limit(self) -> int:
        return self._policy.unproven_limit_microcredits

    @property
    def unproven_exposure(self) -> int:
        """Of all peers without a limit of their own. One that has paid ahead makes no room for others."""
        return self._unproven

    def exposure(self, peer_id: str) -> int:
        account = self._accounts.get(peer_id)
        return account.exposure if account else 0

    def committed(self, peer_id: str) -> int:
        account = self._accounts.get(peer_id)
        return account.committed if account else 0

    def limit(self, peer_id: str) -> int:
        account = self._accounts.get(peer_id)
        own = account.limit if account else None
        return self._policy.peer_limit_microcredits if own is None else own

    def refusal(self, peer_id: str, price_microcredits: int) -> Refusal | None:
        """Why work of that price is not taken on credit; None where it is."""
        account, policy = self._accounts.get(peer_id), self._policy
        exposure, own = (account.exposure, account.limit) if account is not None else (0, None)
        limit = policy.peer_limit_microcredits if own is None else own
        if exposure + price_microcredits > limit:
            return _over("you may owe this node", exposure, limit, price_microcredits)
        if own is None:
            used, limit = self._unproven, policy.unproven_limit_microcredits
            more = price_microcredits if exposure >= 0 else max(0, exposure + price_microcredits)
            if used + more > limit:
                return _over(
                    "all peers that it does not know may owe it together", used, limit, price_microcredits
                )
        return None

    def change(self, peer_id: str, *, owed: int = 0, committed: int = 0, disputed: int = 0) -> None:
        """Adds to what the peer owes for work, to its open work, to what it left unpaid."""
        account = self._taken(peer_id)
        account.exposure += owed + committed + disputed
        account.committed += committed
        account.disputed += disputed
        self._put(peer_id, account)

    def commit(self, peer_id: str, price_microcredits: int) -> None:
        """`change` of the peer's open work alone: each bid does it twice."""
        account = self._accounts.get(peer_id)
        if account is None:
            account = self._accounts[peer_id] = _Account()
        before = account.exposure
        after = account.exposure = before + price_microcredits
        account.committed += price_microcredits
        if account.limit is None:
            owes = before >= 0 and after >= 0
            self._unproven += price_microcredits if owes else max(0, after) - max(0, before)
            if not (after or account.committed or account.disputed):
                del self._accounts[peer_id]

    def trust(self, peer_id: str, limit: int | None) -> None:
        """Gives the peer a limit of its own, or (None) takes it back."""
        account = self._taken(peer_id)
        account.limit = limit
        self._put(peer_id, account)

    def _taken(self, peer_id: str) -> _Account:
        account = self._accounts.pop(peer_id, None) or _Account()
        if account.limit is None:
            self._unproven -= max(0, account.exposure)
        return account

    def _put(self, peer_id: str, account: _Account) -> None:
        if account.limit is None:
            self._unproven += max(0, account.exposure)
        if account.exposure or account.committed or account.disputed or account.limit is not None:
            self._accounts[peer_id] = account

    def __iter__(self) -> Iterator[str]:
        return iter(self._accounts)

    def check(self) -> None:
        """The sum is kept right, and no work is counted that is not there."""
        unproven = [account for account in self._accounts.values() if account.limit is None]
        assert self._unproven == sum(max(0, account.exposure) for account in unproven), self._accounts
        assert all(one.committed >= 0 and one.disputed >= 0 for one in self._accounts.values())


def _over(whose: str, used: int, limit: int, price: int) -> Refusal:
    message = (
        f"the price of {price} microcredits is more than the credit that is left: {whose} {limit}, {used} are in use. "
        "Settle what you owe, or let its operator raise the limit (bacalhau ledger trust)"
    )
    figures = (("price_microcredits", price), ("used_microcredits", used), ("limit_microcredits", limit))
    return Refusal(RefusalReason.CREDIT_LIMIT, message, figures)
