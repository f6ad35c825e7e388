"""`bacalhau price`: what the network would charge for a job now, and why; nothing is submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK, SYSTEM_FAILURE
from bacalhau.cli.output import print_plain, print_table
from bacalhau.cli.parsing import Subparsers, add_group, add_switch, add_verb

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from bacalhau.v1.job_pb2 import JobSpec
    from bacalhau.v1.job_service_pb2 import EstimatePriceResponse, NodeQuote

_EXAMPLE = """\
bacalhau price docker --cpu 2 --memory 4Gi --timeout 10m ubuntu sleep 60
bacalhau price wasm --auction uniform --max-price 0.5 -c 3 hello.wasm
bacalhau price create job.yaml"""
_HEADER = ("node", "would ask", "would be paid", "starts after", "to fetch", "why not")


def register(verbs: Subparsers) -> None:
    from bacalhau.cli import docker, wasm

    group = add_group(verbs, "price", help="ask what a job would cost now", example=_EXAMPLE)
    for name, flags, spec_of, what in (
        ("docker", docker.add_flags, docker.spec_of, "a container"),
        ("wasm", wasm.add_flags, wasm.spec_of, "a WASM program"),
        ("create", _add_file, _spec_of_file, "a job file"),
    ):
        parser = add_verb(
            group,
            name,
            _runner(spec_of),
            help=f"what {what} would cost now",
            description=f"Ask every live node what it would charge for {what} now, and clear the quotes by the "
            "job's rule. They bind nobody. The exit code is 0 where enough nodes would take it.",
            example=_EXAMPLE,
        )
        add_switch(parser, "--json", help="as JSON")
        add_switch(parser, "--wide", help="nothing is shortened")
        flags(parser)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="the job file; - is stdin")
    add_switch(parser, "--no-template", help="take {{…}} in the file as text")


def _spec_of_file(args: argparse.Namespace) -> JobSpec:
    from bacalhau.cli.create import read_job_file

    return read_job_file(args, quiet=False)


def _runner(spec_of: Callable[[argparse.Namespace], JobSpec]) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        from bacalhau.cli.connection import Node
        from bacalhau.cli.output import plain
        from bacalhau.cli.uploads import resolve
        from bacalhau.v1.job_service_pb2 import EstimatePriceRequest

        node = Node.of(args)
        spec = resolve(node, spec_of(args), quiet=True)
        answer = node.call(node.jobs.EstimatePrice, EstimatePriceRequest(spec=spec))
        if args.json:
            print_plain(plain(answer), "json")
        else:
            _print(args, answer)
        winners = sum(quote.HasField("paid_microcredits") for quote in answer.quotes)
        return OK if winners >= answer.wanted else SYSTEM_FAILURE

    return run


def _print(args: argparse.Namespace, answer: EstimatePriceResponse) -> None:
    from bacalhau.cli.auctionterms import rule_word
    from bacalhau.model.quantities import format_price

    rows = [_row(quote, wide=args.wide) for quote in answer.quotes]
    print_table(_HEADER, rows)
    winners = sum(quote.HasField("paid_microcredits") for quote in answer.quotes)
    print(
        f"{format_price(answer.total_microcredits)} credits for {winners} of {answer.wanted} executions, "
        f"cleared by {rule_word(answer.clearing_rule)}"
    )


def _row(quote: NodeQuote, *, wide: bool) -> tuple[str, ...]:
    from bacalhau.cli.names import short_node
    from bacalhau.cli.output import duration_text
    from bacalhau.model.quantities import format_price
    from bacalhau.model.units import size_text

    node = quote.node_id if wide else short_node(quote.node_id)
    if not quote.HasField("price_microcredits"):
        return node, "", "", "", "", quote.refusal.message or quote.unanswered
    paid = quote.HasField("paid_microcredits")
    return (
        node,
        format_price(quote.price_microcredits),
        format_price(quote.paid_microcredits) if paid else "",
        duration_text(quote.start_delay),
        size_text(quote.missing_input_bytes),
        "" if paid else "others are better",
    )
