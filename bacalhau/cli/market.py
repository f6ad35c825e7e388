"""`bacalhau market`: offers, bids, prices and audits, as the node knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK
from bacalhau.cli.output import add_list_flags, print_list, print_plain
from bacalhau.cli.parsing import Subparsers, add_group, add_verb, quantity, whole_number
from bacalhau.model import quantities

if TYPE_CHECKING:
    import argparse

    from bacalhau.cli.connection import Node
    from bacalhau.v1.job_service_pb2 import OfferAnswer
    from bacalhau.v1.market_service_pb2 import AuditedClearing, AuditJobResponse, MadeOffer, OwnBid

_EXAMPLE = """\
bacalhau market offers
bacalhau market bids j-1a2b3c4d
bacalhau market prices --since 30d
bacalhau market audit j-1a2b3c4d"""
DOES_NOT_FOLLOW = 1


def register(verbs: Subparsers) -> None:
    group = add_group(verbs, "market", help="see offers, bids and prices; audit awards", example=_EXAMPLE)
    offers = add_verb(
        group, "offers", run_offers, help="the offers that this node made, newest first", example=_EXAMPLE
    )
    bids = add_verb(
        group,
        "bids",
        run_bids,
        help="what a job's offers got; without a job, this node's bids on other nodes' offers",
        example=_EXAMPLE,
    )
    bids.add_argument("id", metavar="ID", nargs="?", default="", help="the job's id, or the beginning of it")
    for listing in (offers, bids):
        listing.add_argument(
            "-n", "--number", type=whole_number(1, 1000), default=100, help="at most so many (100)"
        )
        add_list_flags(listing)
    prices = add_verb(
        group,
        "prices",
        run_prices,
        help="what completed executions cost, by day and resource class",
        example=_EXAMPLE,
    )
    prices.add_argument(
        "--since",
        type=quantity(quantities.parse_duration),
        default=0,
        metavar="DURATION",
        help="how far back (7d)",
    )
    add_list_flags(prices)
    audit = add_verb(
        group,
        "audit",
        run_audit,
        help="run a job's clearings again, from the signed bids alone",
        description="Run a job's clearings again, from the signed bids alone: of a job of this node from its "
        "journal, of a job that it bid on from what the requester discloses. Exit code 0: each award "
        "follows; 1: one does not.",
        example=_EXAMPLE,
    )
    audit.add_argument("id", metavar="ID", help="the job's id, or the beginning of it")
    add_list_flags(audit)


def run_offers(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.v1.market_service_pb2 import ListOffersRequest

    node = Node.of(args)
    offers = node.call(node.market.ListOffers, ListOffersRequest(page_size=args.number)).offers
    header = ("made", "job", "rule", "winners", "reserve", "bids", "declines", "awards")
    print_list(args, offers, header, (_offer_row(made, wide=args.wide) for made in offers))
    return OK


def run_bids(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.failures import NodeFailure
    from bacalhau.cli.names import job_id

    node = Node.of(args)
    if args.id:
        try:
            return _print_answers(args, node, job_id(args.id))
        except NodeFailure as failure:
            if failure.reason != "NOT_FOUND":
                raise
    return _print_own_bids(args, node, job_id(args.id) if args.id else "")


def run_prices(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.names import enum_name
    from bacalhau.cli.output import time_text
    from bacalhau.model.quantities import format_price
    from bacalhau.v1 import market_pb2
    from bacalhau.v1.market_service_pb2 import GetPriceHistoryRequest

    node = Node.of(args)
    request = GetPriceHistoryRequest()
    if args.since:
        request.since.FromMicroseconds(args.since)
    prices = node.call(node.market.GetPriceHistory, request).prices
    header = ("day", "class", "engine", "executions", "lowest an hour", "median", "highest")
    rows = (
        (
            time_text(one.day)[:10],
            one.resource_class,
            enum_name(market_pb2.Engine, one.engine).lower(),
            str(one.executions),
            format_price(one.lowest_microcredits),
            format_price(one.median_microcredits),
            format_price(one.highest_microcredits),
        )
        for one in prices
    )
    print_list(args, prices, header, rows)
    return OK


def run_audit(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.cli.names import job_id
    from bacalhau.cli.output import plain
    from bacalhau.v1.market_service_pb2 import AuditJobRequest

    node = Node.of(args)
    audit = node.call(node.market.AuditJob, AuditJobRequest(job_id=job_id(args.id)))
    if args.output == "table":
        print_audit(audit)
    else:
        print_plain(plain(audit), args.output)
    return DOES_NOT_FOLLOW if any(clearing.findings for clearing in audit.clearings) else OK


def print_audit(audit: AuditJobResponse) -> None:
    """For people: each clearing with its awards, and whether they follow."""
    print(f"job {audit.job_id}, cleared by {audit.requester_id}")
    if not audit.clearings:
        print("nothing was awarded")
    for clearing in audit.clearings:
        for line in _audit_lines(clearing):
            print(line)


def _audit_lines(audited: AuditedClearing) -> list[str]:
    from bacalhau.cli.auctionterms import rule_word
    from bacalhau.cli.output import time_text

    clearing = audited.clearing
    bids = f"{audited.bids} bid" + ("" if audited.bids == 1 else "s")
    lines = [
        f"clearing of {clearing.offer_id} at {time_text(clearing.cleared_at)}: {rule_word(clearing.clearing_rule)}, "
        f"{bids}, digest {clearing.bid_set_digest.hex()}"
    ]
    lines += [
        f"  {award.execution_id} to {award.node_id} for {quantities.format_price(award.price_microcredits)} credits"
        for award in clearing.awards
    ]
    lines += [f"  does not follow: {finding}" for finding in audited.findings]
    return lines if audited.findings else [*lines, "  follows from the bids"]


def _print_answers(args: argparse.Namespace, node: Node, job_id: str) -> int:
    from bacalhau.cli.describe import list_answers

    answers = list_answers(node, job_id)[: args.number]
    header = ("received", "node", "price", "starts after", "won", "why not")
    print_list(args, answers, header, (_answer_row(answer, wide=args.wide) for answer in answers))
    return OK


def _print_own_bids(args: argparse.Namespace, node: Node, job_id: str) -> int:
    from bacalhau.v1.market_service_pb2 import ListOwnBidsRequest

    request = ListOwnBidsRequest(job_id=job_id, page_size=args.number)
    bids = node.call(node.market.ListOwnBids, request).bids
    header = ("sent", "job", "requester", "price", "number", "refused")
    print_list(args, bids, header, (_own_bid_row(bid, wide=args.wide) for bid in bids))
    return OK


def _offer_row(made: MadeOffer, *, wide: bool) -> tuple[str, ...]:
    from bacalhau.cli.auctionterms import rule_word
    from bacalhau.cli.names import short_id
    from bacalhau.cli.output import time_text

    offer = made.offer
    priced = offer.HasField("max_price_microcredits")
    return (
        time_text(made.made_at),
        offer.job_id if wide else short_id(offer.job_id),
        rule_word(offer.clearing_rule),
        str(offer.winners),
        quantities.format_price(offer.max_price_microcredits) if priced else "",
        str(made.bids),
        str(made.declines),
        str(made.awards),
    )


def _answer_row(answer: OfferAnswer, *, wide: bool) -> tuple[str, ...]:
    from bacalhau.cli.names import short_node
    from bacalhau.cli.output import duration_text, time_text

    priced = answer.HasField("price_microcredits")
    return (
        time_text(answer.receive_time),
        answer.node_id if wide else short_node(answer.node_id),
        quantities.format_price(answer.price_microcredits) if priced else "",
        duration_text(answer.start_delay) if priced else "",
        "yes" if answer.won else "",
        answer.refusal.message,
    )


def _own_bid_row(bid: OwnBid, *, wide: bool) -> tuple[str, ...]:
    from bacalhau.cli.names import short_id, short_node
    from bacalhau.cli.output import time_text

    return (
        time_text(bid.sent_at),
        bid.job_id if wide else short_id(bid.job_id),
        bid.requester_id if wide else short_node(bid.requester_id),
        quantities.format_price(bid.price_microcredits),
        str(bid.position) if bid.position else "",
        bid.refusal.message,
    )
