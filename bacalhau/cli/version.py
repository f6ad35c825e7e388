"""`bacalhau version` and `bacalhau id`: what runs here and there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau import __version__
from bacalhau.cli.failures import OK
from bacalhau.cli.parsing import Subparsers, add_switch, add_verb

if TYPE_CHECKING:
    import argparse


def register(verbs: Subparsers) -> None:
    add_verb(verbs, "id", run_id, help="print the node's id", example="bacalhau id")
    parser = add_verb(
        verbs,
        "version",
        run_version,
        help="print the versions of command and node",
        example="bacalhau version --client",
    )
    add_switch(parser, "--client", help="only the command's; asks no node")
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table", help="(table)")


def run_id(args: argparse.Namespace) -> int:
    from bacalhau.cli.connection import Node
    from bacalhau.v1.node_service_pb2 import GetNodeRequest

    node = Node.of(args)
    print(node.call(node.nodes.GetNode, GetNodeRequest()).node.record.node_id)
    return OK


def run_version(args: argparse.Namespace) -> int:
    versions = {"client": __version__}
    if not args.client:
        from bacalhau.cli.connection import Node
        from bacalhau.v1.node_service_pb2 import GetNodeRequest

        node = Node.of(args)
        versions["node"] = node.call(node.nodes.GetNode, GetNodeRequest()).node.record.version
    if args.output == "table":
        for name, version in versions.items():
            print(f"{name}  {version}")
        return OK
    from bacalhau.cli.output import print_plain

    print_plain(versions, args.output)
    return OK
