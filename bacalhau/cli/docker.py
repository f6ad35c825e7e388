"""`bacalhau docker run`: a job from an image and a command, as with `docker run`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bacalhau.cli.parsing import Subparsers, add_group, add_verb, refuse

if TYPE_CHECKING:
    from bacalhau.v1.job_pb2 import JobSpec

_EXAMPLE = """\
bacalhau docker run ubuntu echo Hello World
bacalhau docker run -i ./data:/inputs -o model:/model --cpu 2 --memory 4Gi python:3.12 python /inputs/train.py
bacalhau docker run --id-only --timeout 10m ubuntu sh -c 'sleep 60; date'"""


def register(verbs: Subparsers) -> None:
    group = add_group(verbs, "docker", help="run containers", example=_EXAMPLE)
    parser = add_verb(
        group,
        "run",
        run,
        help="run a command in a container of the network",
        description="Run a command in a container on a node of the network, and stay with it: its output "
        "comes here as "
        "it is written, its exit code is this command's. Flags stand before the image.",
        example=_EXAMPLE,
    )
    from bacalhau.cli.runflags import add_run_flags

    add_flags(parser)
    add_run_flags(parser)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What makes the job: of every verb that takes a container from the command line."""
    from bacalhau.cli.jobflags import add_job_flags

    parser.add_argument("image", metavar="IMAGE", help="the image, as `docker run` takes it")
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="command and arguments")
    add_job_flags(parser)
    parser.add_argument("--entrypoint", metavar="COMMAND", help="replaces the image's entry point")
    parser.add_argument(
        "-w", "--workdir", default="", metavar="FOLDER", help="working directory inside the container"
    )
    refuse(parser, "--engine", harmless=("docker",), instead="for WASM use `bacalhau wasm run`")


def run(args: argparse.Namespace) -> int:
    from bacalhau.cli.follow import run_job

    return run_job(args, spec_of(args))


def spec_of(args: argparse.Namespace) -> JobSpec:
    """The draft of the job. Raises UsageFailure."""
    from bacalhau.cli.jobflags import common_spec
    from bacalhau.cli.mounts import checked_path

    spec = common_spec(args)
    spec.docker.image = args.image
    spec.docker.command.extend(args.command[1:] if args.command[:1] == ["--"] else args.command)
    if args.entrypoint:
        spec.docker.entrypoint.extend(args.entrypoint.split())
    if args.workdir:
        spec.docker.working_directory = checked_path(args.workdir, "--workdir")
    return spec
