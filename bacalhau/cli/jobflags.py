"""The flags that `docker run` and `wasm run` share, and the job that they describe.

Names are those of v0.3.29 with those of v1.9 beside them. What neither this version nor its market has is
refused by name, with what to use instead.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from bacalhau.cli import auctionterms
from bacalhau.cli.failures import UsageFailure
from bacalhau.cli.parsing import add_switch, quantity, refuse, whole_number
from bacalhau.cli.verifyflags import add_verification_flags, set_verification
from bacalhau.model import quantities

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bacalhau.v1.job_pb2 import EnvironmentVariable, JobSpec, Label, NetworkMode


def add_job_flags(parser: argparse.ArgumentParser) -> None:
    """What the job is, reads, writes, needs and may cost."""
    job = parser.add_argument_group("the job")
    job.add_argument("--name", default="", metavar="NAME", help="a name for people")
    job.add_argument(
        "-l",
        "--labels",
        action="append",
        default=[],
        metavar="KEY[=VALUE],…",
        help="labels, for `list --include-tag` and people; repeatable",
    )
    job.add_argument(
        "-c",
        "--concurrency",
        "--count",
        dest="count",
        type=whole_number(1, 10_000),
        default=1,
        metavar="N",
        help="how many nodes run it, each once (1)",
    )
    job.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="environment of the program; a NAME alone takes its value from here; repeatable",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "-i",
        "--input",
        "-v",
        "--volume",
        "--input-volumes",
        dest="inputs",
        action="append",
        default=[],
        metavar="SOURCE[:TARGET]",
        help="mount content read-only at TARGET (/inputs): a CID, ipfs://CID, or a file or folder of this "
        "machine, "
        "which is added to IPFS first; also src=SOURCE,dst=TARGET; repeatable",
    )
    data.add_argument(
        "-o",
        "--output",
        "--output-volumes",
        dest="outputs",
        action="append",
        default=[],
        metavar="NAME:/PATH",
        help="a folder that the program writes and that becomes part of the result; outputs:/outputs "
        "always is; "
        "repeatable",
    )
    _add_needs(parser)
    add_verification_flags(parser)
    _add_refused(parser)


def _add_needs(parser: argparse.ArgumentParser) -> None:
    needs = parser.add_argument_group("what it needs and may cost")
    needs.add_argument(
        "--cpu", type=quantity(quantities.parse_cpu), default=0, help="cores: 2, 0.5, 500m (0.5)"
    )
    needs.add_argument(
        "--memory", type=quantity(quantities.parse_bytes), default=0, help="512MB, 1.5GB, 2Gi (512Mi)"
    )
    needs.add_argument(
        "--disk",
        type=quantity(quantities.parse_bytes),
        default=0,
        help="what it may write, its inputs included: 10GB, 2Gi (1Gi)",
    )
    needs.add_argument("--gpu", type=quantity(quantities.parse_gpu), default=0, help="whole GPUs (0)")
    needs.add_argument(
        "--network",
        type=str.lower,
        default="none",
        metavar="{none,full,host}",
        help="none (the default); full, the engine's usual network; host. Nodes take networked jobs only "
        "where "
        "their operators say so",
    )
    duration = quantity(quantities.parse_duration)
    needs.add_argument(
        "--timeout",
        type=duration,
        metavar="DURATION",
        help="longest run of the program: 90s, 1h30m, seconds (30m)",
    )
    needs.add_argument(
        "--queue-timeout", type=duration, metavar="DURATION", help="longest wait for a node that can take it"
    )
    needs.add_argument(
        "--total-timeout", type=duration, metavar="DURATION", help="longest time from submission to the end"
    )
    needs.add_argument(
        "-s",
        "--selector",
        "--constraints",
        dest="constraints",
        action="append",
        default=[],
        metavar="SELECTOR",
        help="which nodes may run it, by their labels: region=eu,disk in (ssd,nvme),!spot; repeatable",
    )
    needs.add_argument(
        "--max-price",
        type=quantity(quantities.parse_price),
        metavar="CREDITS",
        help="the most that one execution may cost: 0.25 (credits) or 250000u (microcredits); no ceiling "
        "unless given",
    )
    auctionterms.add_flags(needs)
    needs.add_argument(
        "-p",
        "--publisher",
        type=str.lower,
        default="ipfs",
        metavar="{ipfs,noop}",
        help="the result is always stored in IPFS; noop is taken for that too",
    )


def _add_refused(parser: argparse.ArgumentParser) -> None:
    refuse(
        parser,
        "--min-bids",
        harmless=("0",),
        instead="leave it out; an auction waits for every live node until its bid window closes",
    )
    refuse(parser, "--domain", instead="use --network full, on nodes that allow it")
    refuse(
        parser, "--filplus", switch=True, instead="there is no Filecoin publisher; results are stored in IPFS"
    )
    refuse(parser, "--target", harmless=("any",), instead="use --count N for N nodes")
    refuse(parser, "--priority", harmless=("0",), instead="there is a price in its place: raise --max-price")
    refuse(parser, "--namespace", harmless=("default", ""), instead="use labels: -l team=a")
    refuse(parser, "--task-name", harmless=("main",), instead="name the job with --name")
    refuse(
        parser,
        "--sharding-glob-pattern",
        "--sharding-base-path",
        "--sharding-batch-size",
        instead="submit a job for each part of the input",
    )
    add_switch(parser, "--skip-syntax-checking", help=argparse.SUPPRESS)
    add_switch(parser, "--group-events", help=argparse.SUPPRESS)


def common_spec(args: argparse.Namespace) -> JobSpec:
    """The draft of a job from the shared flags, its task not set. Raises UsageFailure."""
    from bacalhau.cli.constraints import parse_constraints
    from bacalhau.cli.mounts import parse_input, parse_output, with_default_output
    from bacalhau.v1.job_pb2 import JobSpec

    if args.publisher not in ("ipfs", "noop", "local"):
        raise UsageFailure(
            f"publisher {args.publisher!r} is not supported: use ipfs; `bacalhau get` fetches the result"
        )
    spec = JobSpec(
        name=args.name,
        count=args.count,
        labels=parse_labels(args.labels),
        env=parse_variables(args.env),
        inputs=[parse_input(text) for text in args.inputs],
        outputs=with_default_output([parse_output(text) for text in args.outputs]),
        network=network_mode(args.network),
        constraints=[constraint for text in args.constraints for constraint in parse_constraints(text)],
        max_price_microcredits=args.max_price,
        auction=auctionterms.terms_of(args),
    )
    for name, amount in (
        ("cpu_millicores", args.cpu),
        ("memory_bytes", args.memory),
        ("disk_bytes", args.disk),
        ("gpu_count", args.gpu),
    ):
        if amount:
            setattr(spec.resources, name, amount)
    if args.timeout:
        spec.timeouts.execution.FromMicroseconds(args.timeout)
    if args.queue_timeout is not None:
        spec.timeouts.queue.FromMicroseconds(args.queue_timeout)
    if args.total_timeout:
        spec.timeouts.total.FromMicroseconds(args.total_timeout)
    set_verification(args, spec)
    return spec


def network_mode(name: str) -> NetworkMode:
    """A network's name, as v0.3.29 and v1.9 have them, as its enum's number. Raises UsageFailure."""
    from bacalhau.v1 import job_pb2

    modes = {
        "none": job_pb2.NETWORK_MODE_NONE,
        "full": job_pb2.NETWORK_MODE_FULL,
        "bridge": job_pb2.NETWORK_MODE_FULL,
        "host": job_pb2.NETWORK_MODE_HOST,
        "default": job_pb2.NETWORK_MODE_UNSPECIFIED,
    }
    if name.lower() in modes:
        return modes[name.lower()]
    if name.lower() == "http":
        raise UsageFailure("network http is not supported: use full, on nodes that allow it, or none")
    raise UsageFailure(f"{name!r} is no network: use none, full or host")


def parse_labels(texts: Iterable[str]) -> list[Label]:
    """`key`, `key=value`, several by commas. Raises UsageFailure on a key that is empty or comes twice."""
    from bacalhau.v1.job_pb2 import Label

    labels: dict[str, str] = {}
    for pair in (pair for text in texts for pair in text.split(",")):
        key, _, value = pair.strip().partition("=")
        if not key or key in labels:
            raise UsageFailure(f"label {pair!r} has no key, or one that came before: write key=value")
        labels[key] = value
    return [Label(key=key, value=value) for key, value in labels.items()]


def parse_variables(texts: Iterable[str]) -> list[EnvironmentVariable]:
    """Variables by `parse_variable`; of a name that comes twice the last counts, as with `docker run`."""
    return list({variable.name: variable for variable in map(parse_variable, texts)}.values())


def parse_variable(text: str) -> EnvironmentVariable:
    """`NAME=VALUE`, or `NAME` with its value from here. Raises UsageFailure."""
    from bacalhau.v1.job_pb2 import EnvironmentVariable

    name, equals, value = text.partition("=")
    if not name or "\0" in text:
        raise UsageFailure(f"{text!r} is no environment variable: write NAME=VALUE")
    if not equals:
        if name not in os.environ:
            raise UsageFailure(f"--env {name} has no value, and {name} is not set here: write {name}=VALUE")
        value = os.environ[name]
    return EnvironmentVariable(name=name, value=value)
