"""What an execution is paid, and whether a receipt says so.

    share = max(floor, min(1, wall time / execution timeout))     in parts per million, rounded up
    pay   = price x share                                         in microcredits, rounded up

The share is of time alone. While it runs, an execution holds all the resources that its offer declared, whatever
it uses of them; so what it takes from its node is those resources times the time. The samples that engines give
of CPU time and peak memory have no part in it. The floor pays for what every execution costs, however short: the
reservation, the inputs, the start.

A node could report more time than the program ran. It gains at most the price, which it was ready to work for;
and no more than the time that passed at the requester between award and report (or commitment), for a report of more
is not paid for more (`counted_usage`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.model.execution import FaultKind
from bacalhau.model.frozen import replace
from bacalhau.model.rounding import ceil_div
from bacalhau.model.units import PPM

if TYPE_CHECKING:
    from bacalhau.model.execution import ExecutionReport, Usage
    from bacalhau.model.ledger import Receipt
    from bacalhau.model.market import PaymentTerms


def share_ppm(payment: PaymentTerms, usage: Usage, execution_timeout_us: int) -> int:
    """The part of the price that is due, from the floor to PPM."""
    used_ppm = ceil_div(PPM * usage.wall_us, execution_timeout_us)
    return max(payment.floor_ppm, min(PPM, used_ppm))


def pay_microcredits(
    price_microcredits: int, payment: PaymentTerms, usage: Usage, execution_timeout_us: int
) -> int:
    """What is due for an accepted result: never more than the price."""
    return ceil_div(price_microcredits * share_ppm(payment, usage, execution_timeout_us), PPM)


def bond_microcredits(price_microcredits: int, bond_permille: int) -> int:
    """The bond that goes with a bid of that price: its part of it, rounded up."""
    return ceil_div(price_microcredits * bond_permille, 1000)


def counted_usage(usage: Usage, passed_us: int) -> Usage:
    """The usage that is paid for: no more time than passed at the requester until report or commitment."""
    return replace(usage, wall_us=passed_us) if usage.wall_us > passed_us else usage


def shortfall_microcredits(due_microcredits: int, pay_microcredits: int) -> int:
    """What a receipt leaves out of the pay that the node's own report comes to. A hundredth of it is nothing: the
    clocks of two honest nodes differ by less, and not by nothing."""
    short = due_microcredits - pay_microcredits
    return short if short > max(1, due_microcredits // 100) else 0


def is_payable(report: ExecutionReport) -> bool:
    """The report claims pay: it is of work that ended with a result, whatever the program's exit code."""
    return report.fault is None and not report.cancelled and report.result is not None


def receipt_problem(receipt: Receipt) -> str | None:
    """What is wrong with a receipt's arithmetic, by itself; None where it is right."""
    due = pay_microcredits(
        receipt.price_microcredits, receipt.payment, receipt.usage, receipt.execution_timeout_us
    )
    if receipt.rejection is not None:
        due = 0
    if receipt.pay_microcredits != due:
        return f"it pays {receipt.pay_microcredits} microcredits where its terms come to {due}"
    refuted = receipt.rejection is not None and receipt.rejection.kind is FaultKind.RESULT_REFUTED
    if receipt.penalty_microcredits and not refuted:
        return "it takes a penalty for a result that it does not say to be refuted"
    if not 0 <= receipt.penalty_microcredits <= receipt.bond_microcredits:
        return f"its penalty is {receipt.penalty_microcredits} microcredits of a bond of {receipt.bond_microcredits}"
    if receipt.sequence == 1 and receipt.balance_microcredits != moved_microcredits(receipt):
        return f"it is the first, and its balance is {receipt.balance_microcredits}"
    return None


def follows(receipt: Receipt, sequence: int, balance_microcredits: int) -> str | None:
    """Why it is not the next one after a receipt of that sequence and balance; None where it is."""
    if receipt.sequence != sequence + 1:
        return f"it has the sequence {receipt.sequence} and comes after {sequence}"
    after = balance_microcredits + moved_microcredits(receipt)
    if receipt.balance_microcredits != after:
        return f"its balance is {receipt.balance_microcredits} microcredits where it comes to {after}"
    return None


def moved_microcredits(receipt: Receipt) -> int:
    """By how much it changes the balance."""
    return receipt.pay_microcredits - receipt.penalty_microcredits
