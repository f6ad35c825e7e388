"""`bacalhau serve` and `bacalhau devstack`: what a node is started with.

The node itself is `bacalhau.node`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bacalhau.cli.failures import UsageFailure
from bacalhau.cli.parsing import Subparsers, add_switch, add_verb, quantity, whole_number
from bacalhau.cli.refusedflags import refuse_of_devstack, refuse_of_serve
from bacalhau.model import quantities

if TYPE_CHECKING:
    import argparse

_EXAMPLE = """\
bacalhau serve
bacalhau serve --peer 10.0.0.7:1235 --peer-host 0.0.0.0 --advertise 10.0.0.8:1235
bacalhau serve --peer /ip4/10.0.0.7/tcp/1236/p2p/12D3KooW...
bacalhau serve --node-type compute --limit-total-memory 16Gi --price-cpu-second 20 --labels region=eu"""
_DEVSTACK_EXAMPLE = """\
bacalhau devstack
bacalhau devstack --nodes 5 --data-dir ./network
bacalhau devstack --nodes 4 --bad-nodes 1 --misbehave wrong-result"""

_duration = quantity(quantities.parse_duration)
NODE_TYPES = ("requester", "compute")
MISBEHAVIOURS = ("wrong-result", "fail", "never-report")
LOG_LEVELS = ("debug", "info", "warning", "error")


def register(verbs: Subparsers) -> None:
    parser = add_verb(
        verbs,
        "serve",
        run_serve,
        help="run a node",
        description="Run a node: it takes jobs from clients (requester), runs jobs of the network "
        "(compute), or both.",
        example=_EXAMPLE,
        node=False,
    )
    _add_listening(parser)
    _add_p2p(parser)
    _add_limits(parser)
    _add_policy(parser)
    _add_prices(parser)
    _add_market(parser)
    _add_upkeep(parser)
    _add_misbehaviour(parser.add_argument_group("experiments"))
    refuse_of_serve(parser)
    devstack = add_verb(
        verbs,
        "devstack",
        run_devstack,
        help="run a network of nodes on this machine",
        description="Run a network of nodes on this machine, each a process with its own data directory, "
        "until Ctrl-C.",
        example=_DEVSTACK_EXAMPLE,
        node=False,
    )
    devstack.add_argument(
        "--nodes",
        "--hybrid-nodes",
        "--compute-nodes",
        "--computes",
        dest="nodes",
        type=whole_number(1, 64),
        default=3,
        help="how many (3)",
    )
    devstack.add_argument(
        "--bad-nodes",
        "--bad-compute-actors",
        dest="bad_nodes",
        type=whole_number(0, 64),
        default=0,
        metavar="K",
        help="how many of them, the last ones, misbehave on purpose (0)",
    )
    _add_misbehaviour(devstack)
    devstack.add_argument(
        "--data-dir", metavar="FOLDER", help="where their data goes (a folder that is removed again)"
    )
    devstack.add_argument(
        "--api-port", type=whole_number(0, 65535), default=1234, help="of the first node (1234)"
    )
    devstack.add_argument("--ready-file", metavar="FILE", help="written when all nodes listen")
    devstack.add_argument("--log-level", choices=LOG_LEVELS, default="warning", help="(warning)")
    # What every node of the network is started with.
    _add_policy(devstack)
    refuse_of_devstack(devstack)
    devstack.set_defaults(peer=[], advertise=[], tls_cert=None, tls_key=None, ipfs_api=None)
    devstack.set_defaults(pricing=None, price_flat=None, fetch_rate=None, bond=None)


def run_serve(args: argparse.Namespace) -> int:
    _check(args)
    # gRPC would write a line of its own before each of our clear errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from bacalhau.node.main import serve

    return serve(args)


def run_devstack(args: argparse.Namespace) -> int:
    check_devstack(args)
    from bacalhau.node.devstack import run

    return run(args)


def check_devstack(args: argparse.Namespace) -> None:
    """What argparse cannot see; gives the namespace its final shape. Raises UsageFailure."""
    _check(args)
    if args.bad_nodes > args.nodes:
        raise UsageFailure(f"--bad-nodes {args.bad_nodes} is more than the {args.nodes} nodes of --nodes")
    if args.misbehave is not None and not args.bad_nodes:
        raise UsageFailure("--misbehave says what bad nodes do: give --bad-nodes K as well")


def _add_listening(parser: argparse.ArgumentParser) -> None:
    port = whole_number(0, 65535)
    group = parser.add_argument_group("where it listens; port 0 takes a free one")
    group.add_argument(
        "--data-dir", metavar="FOLDER", help="journal, keys and content (the user's data folder)"
    )
    group.add_argument(
        "--host", default="127.0.0.1", help="client API (127.0.0.1); elsewhere it demands TLS and token"
    )
    group.add_argument("--api-port", "--port", type=port, default=1234, help="client API (1234)")
    group.add_argument("--peer-host", default="127.0.0.1", metavar="HOST", help="peer API (127.0.0.1)")
    group.add_argument(
        "--peer-port", "--swarm-port", type=port, default=1235, metavar="PORT", help="peer API (1235)"
    )
    group.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a node to join: HOST:PORT of its peer API, or its multiaddr, which ends on /p2p/ID; repeatable",
    )
    group.add_argument(
        "--advertise",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="where other nodes reach its peer API (HOST:PORT) or libp2p (a multiaddr), if not where it listens; "
        "repeatable",
    )
    group.add_argument(
        "--import-key",
        metavar="FILE",
        help="the node's key, for a data folder that has none: Kubo's configuration, or its Identity.PrivKey",
    )
    group.add_argument(
        "--ipfs-api",
        "--ipfs-connect",
        metavar="URL",
        help="RPC API of a Kubo node that keeps this node's content (http://127.0.0.1:5001)",
    )
    group.add_argument("--api-token-file", metavar="FILE", help="file with the token that clients must send")
    group.add_argument("--tls-cert", metavar="FILE", help="the client API's certificate chain (PEM)")
    group.add_argument("--tls-key", metavar="FILE", help="and its key (PEM)")
    group.add_argument(
        "--ready-file", metavar="FILE", help="written when it listens: JSON with its id and addresses"
    )


def _add_p2p(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("libp2p, by which nodes find each other and offers reach them all")
    group.add_argument(
        "--p2p-listen",
        action="append",
        default=[],
        metavar="MULTIADDR",
        help="where it listens (/ip4/127.0.0.1/tcp/1236: the peer API's address, another port); repeatable",
    )
    add_switch(group, "--no-p2p", help="run without it: nodes join by HOST:PORT only")
    add_switch(
        group,
        "--no-advertise",
        help="tell no addresses, for nobody can dial this node (NAT): it is called over connections that it opens",
    )
    add_switch(group, "--mdns", help="find nodes on the local network, and be found there")
    add_switch(group, "--no-dht", help="take no part in the DHT, by which peers and content are found")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what it gives; a share of the machine unless said otherwise")
    for scope, meaning in (("total", "to all jobs together"), ("job", "to one job")):
        group.add_argument(
            f"--limit-{scope}-cpu",
            type=quantity(quantities.parse_cpu),
            metavar="CPU",
            help=f"cores {meaning}",
        )
        group.add_argument(
            f"--limit-{scope}-memory",
            type=quantity(quantities.parse_bytes),
            metavar="SIZE",
            help=f"memory {meaning}",
        )
        group.add_argument(
            f"--limit-{scope}-disk",
            type=quantity(quantities.parse_bytes),
            metavar="SIZE",
            help=f"disk {meaning}",
        )
    group.add_argument("--max-timeout", type=_duration, metavar="DURATION", help="time to one job")


def _add_policy(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which jobs it takes")
    group.add_argument(
        "--node-type",
        action="append",
        default=[],
        metavar="TYPE",
        help="requester, compute; both unless given; repeatable, or with commas",
    )
    group.add_argument(
        "--labels", action="append", default=[], metavar="KEY=VALUE", help="for jobs' constraints"
    )
    add_switch(
        group,
        "--accept-networked",
        "--job-selection-accept-networked",
        dest="accept_networked",
        help="take jobs that ask for a network",
    )
    add_switch(
        group,
        "--reject-stateless",
        "--job-selection-reject-stateless",
        dest="reject_stateless",
        help="take no jobs without inputs",
    )
    group.add_argument(
        "--job-selection-data-locality",
        choices=("local", "anywhere"),
        default="anywhere",
        dest="data_locality",
        help="local: only jobs whose inputs it holds (anywhere)",
    )
    group.add_argument(
        "--job-selection-probe-exec",
        dest="probe_exec",
        metavar="COMMAND",
        help="asked about each job, which it gets as JSON on stdin; exit code 0 takes it",
    )
    group.add_argument("--allow-image", action="append", default=[], metavar="GLOB", help="only these images")
    group.add_argument(
        "--disable-engine",
        action="append",
        default=[],
        choices=("docker", "wasm"),
        help="do not run these jobs",
    )


def _add_prices(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("prices, in microcredits (1 credit is 1,000,000)")
    price = whole_number(0, 2**63 - 1)
    group.add_argument(
        "--pricing",
        choices=("flat", "linear", "utilisation"),
        help="flat: --price-flat; linear: what is asked for; utilisation: that, and what it strands (linear)",
    )
    group.add_argument("--price-start", type=price, metavar="N", help="of each execution")
    group.add_argument("--price-cpu-second", type=price, metavar="N", help="of a core for a second")
    group.add_argument(
        "--price-memory-gib-second", type=price, metavar="N", help="of a GiB of memory for a second"
    )
    group.add_argument("--price-input-gib", type=price, metavar="N", help="of a GiB of input that is fetched")
    group.add_argument(
        "--price-flat", type=price, metavar="N", help="of any execution, in place of all these"
    )
    credit = quantity(quantities.parse_price)
    group.add_argument(
        "--credit-limit",
        type=credit,
        metavar="CREDITS",
        help="what a requester may owe for work done here (10 credits)",
    )
    group.add_argument(
        "--credit-unproven",
        type=credit,
        metavar="CREDITS",
        help="what all together may owe that were not given a limit by `ledger trust` (10 credits)",
    )
    group.add_argument(
        "--price-held-discount",
        type=whole_number(0, 100),
        metavar="PERCENT",
        help="off where all inputs are held; for a part, its share (0)",
    )
    add_switch(
        group,
        "--price-by-reputation",
        help="ask more of requesters that paid badly, up to ten times",
    )
    group.add_argument(
        "--price-script",
        metavar="COMMAND",
        help="asked for each bid, which it gets as JSON on stdin; prints microcredits",
    )
    group.add_argument("--price-floor", type=price, metavar="N", help="no bid is lower (0)")
    group.add_argument(
        "--bond",
        type=whole_number(0, 1000),
        metavar="PERCENT",
        help="of each bid's price, which the node forfeits where it is proven to have cheated (0)",
    )
    group.add_argument(
        "--fetch-rate",
        type=quantity(quantities.parse_bytes),
        metavar="SIZE",
        help="of input in a second, for the start delay that bids claim (10MB)",
    )


def _add_market(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("whom its jobs are offered to, and the market's clock")
    group.add_argument(
        "--offers-to",
        type=_offers_to,
        metavar="N|all",
        help="so many of the live nodes, picked anew for each offer and repetition (all)",
    )
    group.add_argument(
        "--bid-window", type=_duration, metavar="DURATION", help="longest time that an auction waits"
    )
    group.add_argument("--lease", type=_duration, metavar="DURATION", help="of the executions that it awards")
    group.add_argument(
        "--min-reputation",
        type=quantity(quantities.parse_score),
        metavar="SCORE",
        help="nodes of a lower score get no award of this node, and no bid: 0 to 1 (0; an unknown node has 0.5)",
    )
    group.add_argument("--heartbeat", type=_duration, metavar="DURATION", help="between its announcements")


def _offers_to(text: str) -> int:
    """All is 0, as in the settings."""
    return 0 if text == "all" else whole_number(1, 10_000)(text)


def _add_upkeep(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("upkeep")
    group.add_argument(
        "--keep-results", type=_duration, metavar="DURATION", help="how long results stay (7d)"
    )
    group.add_argument(
        "--keep-jobs", type=_duration, metavar="DURATION", help="how long ended jobs are listed (30d)"
    )
    group.add_argument("--trace", metavar="FILE", help="record every event, for replay")
    group.add_argument(
        "--metrics-port",
        type=whole_number(0, 65535),
        metavar="PORT",
        help="show metrics for Prometheus on this port of 127.0.0.1 (no metrics)",
    )
    group.add_argument("--log-level", choices=LOG_LEVELS, default="info", help="(info)")


def _add_misbehaviour(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--misbehave",
        choices=MISBEHAVIOURS,
        help="what a bad node does with its work, to see what comes of it: never where others rely on it",
    )


def _check(args: argparse.Namespace) -> None:
    """What argparse cannot see; gives the namespace its final shape. Raises UsageFailure."""
    types = [name.strip().lower() for text in args.node_type for name in text.split(",")] or list(NODE_TYPES)
    for name in types:
        if name not in NODE_TYPES:
            raise UsageFailure(f"{name!r} is no node type: write requester, compute, or both with a comma")
    args.node_type = sorted(set(types))
    labels: dict[str, str] = {}
    for pair in (pair for text in args.labels for pair in text.split(",")):
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise UsageFailure(f"{pair!r} is no label: write KEY=VALUE")
        labels[key.strip()] = value.strip()
    args.labels = labels
    if args.ipfs_api is not None:
        from bacalhau.ipfs.kubo_rpc import InvalidAddress, parse_address

        try:
            parse_address(args.ipfs_api)
        except InvalidAddress as error:
            raise UsageFailure(str(error)) from error
    if (args.tls_cert is None) != (args.tls_key is None):
        raise UsageFailure("--tls-cert and --tls-key go together: give both or none")
    for address in (*args.peer, *args.advertise):
        if address.startswith("/"):
            continue
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise UsageFailure(f"{address!r} is no address: write HOST:PORT, for instance 10.0.0.7:1235")
    if args.pricing == "flat" and args.price_flat is None:
        raise UsageFailure("--pricing flat needs the price: give --price-flat")
    if args.price_flat is not None and args.pricing not in (None, "flat"):
        raise UsageFailure(f"--price-flat and --pricing {args.pricing} exclude each other: leave one out")
    if args.fetch_rate == 0:
        raise UsageFailure("--fetch-rate must be at least one byte a second")
