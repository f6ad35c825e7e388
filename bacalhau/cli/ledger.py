"""`bacalhau ledger balance|history|receipts|trust|settle`: who owes whom what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bacalhau.cli.failures import OK, CommandFailure, UsageFailure
from bacalhau.cli.parsing import Subparsers, add_group, add_verb, quantity, whole_number
from bacalhau.model import quantities

if TYPE_CHECKING:
    import argparse

    from bacalhau.cli.connection import Node
    from bacalhau.v1.ledger_pb2 import NodeBalance, PeerBalance, StoredReceipt, Transaction

NODE_ID_LENGTH = 52
BALANCE_HEADER = ("PEER", "OWED TO IT", "IT OWES", "OPEN", "DISPUTED", "LIMIT", "RECEIPTS", "UNSIGNED")
HISTORY_HEADER = ("ID", "TIME", "KIND", "PEER", "EXECUTION", "POSTINGS")
RECEIPTS_HEADER = (
    "TIME",
    "SIDE",
    "PEER",
    "NO",
    "EXECUTION",
    "PRICE",
    "PAID",
    "BALANCE",
    "SIGNED",
    "WHY NOT PAID",
)


def register(verbs: Subparsers) -> None:
    from bacalhau.cli.output import add_list_flags

    group = add_group(
        verbs, "ledger", help="see and settle what nodes owe each other", example="bacalhau ledger balance"
    )
    parser = add_verb(
        group,
        "balance",
        run_balance,
        help="what this node owes and is owed",
        description="What this node spent and earned, and where it stands with each other node. Amounts are credits.",
        example="bacalhau ledger balance\nbacalhau ledger balance --output json",
    )
    add_list_flags(parser)
    for name, run, meaning in (
        ("history", run_history, "what moved, latest first"),
        ("receipts", run_receipts, "what executions were paid, latest first"),
    ):
        parser = add_verb(
            group, name, run, help=meaning, example=f"bacalhau ledger {name} --peer 7dN1suQz -n 20"
        )
        parser.add_argument("--peer", metavar="PEER", help="only with this node: its id, or the end of it")
        if name == "history":
            parser.add_argument("--execution", metavar="ID", default="", help="only of this execution")
        parser.add_argument("-n", "--number", type=whole_number(1), default=50, help="at most so many (50)")
        add_list_flags(parser)
    parser = add_verb(
        group,
        "trust",
        run_trust,
        help="set how much a node may owe this one",
        description="Set how much a node may owe this one for its work, in credits. Who has no limit of its own has "
        "that of --credit-limit, and counts to the bound on all such nodes together.",
        example="bacalhau ledger trust 7dN1suQz 250\nbacalhau ledger trust 7dN1suQz default",
    )
    _add_peer(parser)
    parser.add_argument("limit", metavar="CREDITS", help="credits (2, 0.25), or `default`: as for any node")
    parser = add_verb(
        group,
        "settle",
        run_settle,
        help="say that a node has paid outside the system",
        description="Say that a node has paid this one outside the system. The note is signed, and sent until the "
        "other node has it; it cannot be taken back.",
        example="bacalhau ledger settle 7dN1suQz 12.5",
    )
    _add_peer(parser)
    parser.add_argument(
        "amount", metavar="CREDITS", type=quantity(quantities.parse_price), help="what it has paid"
    )
    parser.add_argument(
        "--request-id", default="", metavar="ID", help="a repeat with the same id has no second effect"
    )


def _add_peer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("peer", metavar="PEER", help="the node's id, or the end of it")


# --- verbs ---


def run_balance(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.output import plain, print_plain, print_table
    from bacalhau.v1.ledger_service_pb2 import GetBalanceRequest

    node = Node.of(args)
    own = node.call(node.ledger.GetBalance, GetBalanceRequest()).balance
    peers = list_balances(node)
    if args.output != "table":
        print_plain({"node": plain(own), "peers": [plain(peer) for peer in peers]}, args.output)
        return OK
    for line in _own_lines(own):
        print(line)
    if peers:
        print()
        rows = (_balance_row(peer, wide=args.wide) for peer in peers)
        print_table(BALANCE_HEADER, rows, hide_header=args.hide_header, style=not args.no_style)
    return OK


def run_history(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.output import print_list
    from bacalhau.v1.ledger_service_pb2 import ListTransactionsRequest

    node = Node.of(args)
    request = ListTransactionsRequest(
        peer_id=peer_id(node, args.peer) if args.peer else "", execution_id=args.execution
    )
    found = list(node.listed(node.ledger.ListTransactions, request, "transactions", args.number))
    print_list(args, found, HISTORY_HEADER, (_history_row(one, wide=args.wide) for one in found))
    return OK


def run_receipts(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.output import print_list
    from bacalhau.v1.ledger_service_pb2 import ListReceiptsRequest

    node = Node.of(args)
    request = ListReceiptsRequest(peer_id=peer_id(node, args.peer) if args.peer else "")
    found = list(node.listed(node.ledger.ListReceipts, request, "receipts", args.number))
    print_list(args, found, RECEIPTS_HEADER, (_receipt_row(one, wide=args.wide) for one in found))
    return OK


def run_trust(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.v1.ledger_service_pb2 import TrustPeerRequest

    node = Node.of(args)
    limit = None
    if args.limit != "default":
        try:
            limit = quantities.parse_price(args.limit)
        except quantities.InvalidQuantity as error:
            raise UsageFailure(str(error)) from error
    request = TrustPeerRequest(peer_id=peer_id(node, args.peer), limit_microcredits=limit)
    balance = node.call(node.ledger.TrustPeer, request).balance
    print(f"{balance.peer_id} may owe {quantities.format_price(balance.limit_microcredits)} credits")
    return OK


def run_settle(args: argparse.Namespace) -> int:
    import os

    from bacalhau.cli.connection import Node
    from bacalhau.v1.ledger_service_pb2 import RecordSettlementRequest

    node = Node.of(args)
    request = RecordSettlementRequest(
        peer_id=peer_id(node, args.peer),
        amount_microcredits=args.amount,
        request_id=args.request_id or os.urandom(16).hex(),
    )
    balance = node.call(node.ledger.RecordSettlement, request).balance
    owed = quantities.format_price(_owed(balance.receivable))
    print(f"{balance.peer_id} owes {owed} credits now")
    return OK


# --- reading ---


def list_balances(node: Node) -> list[PeerBalance]:
    from bacalhau.v1.ledger_service_pb2 import ListBalancesRequest

    return list(node.listed(node.ledger.ListBalances, ListBalancesRequest(), "balances"))


def peer_id(node: Node, text: str) -> str:
    """A node's id: whole, or the end of one that this node trades with or knows. Raises CommandFailure."""
    from bacalhau.cli.node import list_nodes

    if len(text) == NODE_ID_LENGTH:
        return text
    known = dict.fromkeys(balance.peer_id for balance in list_balances(node))
    known.update(dict.fromkeys(one.record.node_id for one in list_nodes(node)))
    found = [id for id in known if id.endswith(text)]
    if len(found) != 1:
        many = f"{len(found)} nodes are" if found else "no node is"
        raise CommandFailure(f"{many} known by {text!r}: `bacalhau node list --wide` shows full ids")
    return found[0]


# --- printing ---


def _own_lines(own: NodeBalance) -> list[str]:
    amounts = (
        (
            "spent",
            -own.spent_microcredits - own.escrow_microcredits,
            "for work that others did for this node",
        ),
        ("set aside", own.escrow_microcredits, "for work that is under way"),
        ("owed to others", own.payable_microcredits, "of what was spent"),
        ("earned", own.earned_microcredits, "for work that this node did for others"),
        ("owed by others", own.receivable_microcredits, "of what was earned"),
        ("strangers' credit", own.unproven_exposure_microcredits, "in use, of the bound on all of them: "),
    )
    lines = []
    for name, amount, meaning in amounts:
        if meaning.endswith(": "):
            meaning += quantities.format_price(own.unproven_limit_microcredits)
        lines.append(f"{name:18}{quantities.format_price(amount):>16}  {meaning}")
    return lines


def _owed(balance: Any) -> int:
    owed: int = balance.charged_microcredits - balance.settled_microcredits
    return owed


def _node(node_id: str, *, wide: bool) -> str:
    from bacalhau.cli.names import short_node

    return node_id if wide else short_node(node_id)


def _time(time: Any, *, wide: bool) -> str:
    from bacalhau.cli.output import time_text

    text = time_text(time)
    return text if wide else text[:19].replace("T", " ")


def _execution(execution_id: str, *, wide: bool) -> str:
    from bacalhau.cli.names import short_id

    return execution_id if wide else short_id(execution_id)


def _balance_row(peer: PeerBalance, *, wide: bool) -> tuple[str, ...]:
    price = quantities.format_price
    return (
        _node(peer.peer_id, wide=wide),
        price(_owed(peer.payable)),
        price(_owed(peer.receivable)),
        price(peer.committed_microcredits),
        price(peer.disputed_microcredits),
        price(peer.limit_microcredits) + (" (trusted)" if peer.trusted else ""),
        f"{peer.payable.sequence}/{peer.receivable.sequence}",
        str(peer.unsigned_receipts),
    )


def _history_row(transaction: Transaction, *, wide: bool) -> tuple[str, ...]:
    from bacalhau.cli.names import enum_name
    from bacalhau.v1.ledger_pb2 import TransactionKind

    return (
        str(transaction.id),
        _time(transaction.time, wide=wide),
        enum_name(TransactionKind, transaction.kind),
        _node(transaction.peer_id, wide=wide),
        _execution(transaction.execution_id, wide=wide),
        " ".join(
            # What an account is of stands in the columns before.
            f"{posting.account if wide else posting.account.partition(':')[0]}"
            f" {'+' if posting.amount_microcredits > 0 else ''}"
            f"{quantities.format_price(posting.amount_microcredits)}"
            for posting in transaction.postings
        ),
    )


def _receipt_row(kept: StoredReceipt, *, wide: bool) -> tuple[str, ...]:
    from bacalhau.v1.ledger_pb2 import TRADE_SIDE_BUYING

    receipt, price = kept.receipt, quantities.format_price
    buying = kept.side == TRADE_SIDE_BUYING
    return (
        _time(receipt.time, wide=wide),
        "buying" if buying else "selling",
        _node(receipt.node_id if buying else receipt.requester_id, wide=wide),
        str(receipt.sequence),
        _execution(receipt.execution_id, wide=wide),
        price(receipt.price_microcredits),
        price(receipt.pay_microcredits - receipt.penalty_microcredits),
        price(receipt.balance_microcredits),
        "both" if kept.complete else f"one: {kept.refusal}" if kept.refusal else "one",
        receipt.rejection.message if receipt.HasField("rejection") else "",
    )
