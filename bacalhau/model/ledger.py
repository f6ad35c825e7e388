"""Money between nodes: balances that both sides sign, the receipts and notes that move them, and a node's books."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from bacalhau.model.frozen import dataclass

if TYPE_CHECKING:
    from bacalhau.model.auction import ClearingRule
    from bacalhau.model.cid import Cid
    from bacalhau.model.execution import Fault, Usage
    from bacalhau.model.market import PaymentTerms


class TradeSide(Enum):
    """Which side of a trade a node has; numbers are those of ledger.proto."""

    BUYING = 1
    SELLING = 2


class TransactionKind(Enum):
    """Why money moved; numbers are those of ledger.proto."""

    ESCROW = 1
    PAYMENT = 2
    REFUND = 3
    EARNING = 4
    SETTLEMENT_PAID = 5
    SETTLEMENT_RECEIVED = 6


@dataclass(frozen=True, slots=True)
class Posting:
    """What the holder of an account gets; negative where it gives."""

    account: str
    amount_microcredits: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """One movement of money in a node's books; its postings add up to zero."""

    kind: TransactionKind
    time_us: int
    peer_id: str
    execution_id: str
    postings: tuple[Posting, ...]
    request_id: str = ""
    """Of the client that asked for it; empty where the node itself did."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What one node owes another, in one direction: how many receipts and settlement notes there were, and what they
    add up to. Both sides hold the same one as soon as nothing is under way."""

    sequence: int = 0
    charged_microcredits: int = 0
    note_sequence: int = 0
    settled_microcredits: int = 0

    @property
    def owed_microcredits(self) -> int:
        """Negative where more was paid than is owed."""
        return self.charged_microcredits - self.settled_microcredits


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an execution was paid, and why so much; the requester signs it, then the node.

    `sequence` counts the receipts of these two nodes in this direction from 1; `balance_microcredits` is what they
    add up to. `rejection` says why nothing is owed, None where the result was accepted.
    """

    requester_id: str
    node_id: str
    sequence: int
    balance_microcredits: int
    execution_id: str
    job_id: str
    offer_id: str
    bid_id: str
    price_microcredits: int
    clearing_rule: ClearingRule
    bid_set_digest: bytes
    payment: PaymentTerms
    execution_timeout_us: int
    usage: Usage
    result: Cid
    exit_code: int
    pay_microcredits: int
    rejection: Fault | None
    time_us: int
    bond_microcredits: int = 0
    penalty_microcredits: int = 0


@dataclass(frozen=True, slots=True)
class SettlementNote:
    """The creditor says what it was paid outside the system, in all; a later note replaces an earlier one."""

    creditor_id: str
    debtor_id: str
    sequence: int
    settled_microcredits: int
    time_us: int
