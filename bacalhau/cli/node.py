"""`bacalhau node list|describe|connect`: the nodes that the node knows, itself first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK, CommandFailure
from bacalhau.cli.parsing import Subparsers, add_group, add_verb, refuse

if TYPE_CHECKING:
    import argparse

    from bacalhau.cli.connection import Node as Connection
    from bacalhau.v1.market_pb2 import Engine
    from bacalhau.v1.node_pb2 import Node, Tariff

HEADER = ("ID", "TYPE", "ENGINES", "CPU", "MEMORY", "DISK", "GPU", "PRICES", "LIVE", "FOUND", "ADDRESS")


def register(verbs: Subparsers) -> None:
    from bacalhau.cli.output import add_list_flags

    group = add_group(verbs, "node", help="work with nodes", example="bacalhau node list")
    parser = add_verb(
        group,
        "list",
        run_list,
        help="list the nodes of the network",
        description="List the nodes that the node knows, itself first. Prices are in microcredits: of an "
        "execution's "
        "start, a core for a second, a GiB of memory for a second, a GiB of fetched input.",
        example="bacalhau node list\nbacalhau node list --output json",
    )
    add_list_flags(parser)
    for flag in ("--filter-approval", "--filter-status", "--labels", "--order-by", "--show", "--limit"):
        refuse(parser, flag, instead="all nodes are listed with all they announce; filter the --output json")
    parser = add_verb(
        group,
        "describe",
        run_describe,
        help="show a node in full",
        example="bacalhau node describe",
    )
    parser.add_argument(
        "id", metavar="ID", nargs="?", default="", help="its id, or the end of it (the node itself)"
    )
    parser.add_argument("--output", choices=("yaml", "json"), default="yaml", help="yaml or json (yaml)")
    parser = add_verb(
        group,
        "connect",
        run_connect,
        help="let the node join another",
        example="bacalhau node connect 10.0.0.7:1235",
    )
    parser.add_argument(
        "address", metavar="ADDRESS", help="the other node's peer API (HOST:PORT), or its multiaddr"
    )


def run_list(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node as Connection
    from bacalhau.cli.output import print_list

    nodes = list_nodes(Connection.of(args))
    print_list(args, nodes, HEADER, (_row(node, wide=args.wide) for node in nodes))
    return OK


def run_describe(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node as Connection
    from bacalhau.cli.output import plain, print_plain
    from bacalhau.v1.node_service_pb2 import GetNodeRequest

    connection = Connection.of(args)
    if not args.id:
        answer = connection.call(connection.nodes.GetNode, GetNodeRequest())
        described = plain(answer.node)
        if answer.HasField("exchange"):
            described["exchange"] = plain(answer.exchange)
        print_plain(described, args.output)
        return OK
    nodes = [
        node
        for node in list_nodes(connection)
        if node.record.node_id.startswith(args.id) or node.record.node_id.endswith(args.id)
    ]
    if len(nodes) != 1:
        many = f"{len(nodes)} nodes are" if nodes else "no node is"
        raise CommandFailure(f"{many} known by {args.id!r}: `bacalhau node list --wide` shows full ids")
    print_plain(plain(nodes[0]), args.output)
    return OK


def run_connect(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node as Connection
    from bacalhau.v1.node_service_pb2 import ConnectRequest

    connection = Connection.of(args)
    answer = connection.call(connection.nodes.Connect, ConnectRequest(address=args.address))
    print(f"connected to {answer.node.record.node_id}")
    return OK


def list_nodes(connection: Connection) -> list[Node]:
    """Every node that the node knows. Raises NodeFailure."""
    from bacalhau.v1.node_service_pb2 import ListPeersRequest

    return list(connection.listed(connection.nodes.ListPeers, ListPeersRequest(), "nodes"))


def _row(node: Node, *, wide: bool) -> tuple[str, ...]:
    from bacalhau.cli.names import short_node
    from bacalhau.model.quantities import format_cpu
    from bacalhau.model.units import size_text

    record, capacity = node.record, node.record.capacity
    types = [
        name for name, is_one in (("requester", record.requester), ("compute", record.compute)) if is_one
    ]
    return (
        record.node_id if wide else short_node(record.node_id),
        ",".join(types),
        ",".join(_engine(engine) for engine in record.engines),
        format_cpu(capacity.cpu_millicores),
        size_text(capacity.memory_bytes),
        size_text(capacity.disk_bytes),
        str(capacity.gpu_count),
        _prices(record.tariff),
        "self" if node.self else "yes" if node.live else "no",
        node.found_by,
        ",".join((*record.addresses, *record.multiaddrs) if wide else record.addresses) or "-",
    )


def _engine(engine: Engine) -> str:
    from bacalhau.cli.names import enum_name
    from bacalhau.v1 import market_pb2

    return enum_name(market_pb2.Engine, engine).lower()


def _prices(tariff: Tariff) -> str:
    """start, CPU second, memory GiB second, input GiB: in microcredits."""
    return "/".join(
        str(price)
        for price in (
            tariff.start_microcredits,
            tariff.cpu_second_microcredits,
            tariff.memory_gib_second_microcredits,
            tariff.input_gib_microcredits,
        )
    )
