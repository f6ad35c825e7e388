"""`bacalhau create`, `validate`, and the same under `bacalhau job`: jobs from files."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK, UsageFailure
from bacalhau.cli.parsing import Subparsers, add_switch, add_verb, refuse

if TYPE_CHECKING:
    from bacalhau.v1.job_pb2 import JobSpec

_EXAMPLE = """\
bacalhau docker run --dry-run ubuntu date > job.yaml
bacalhau create job.yaml
cat job.yaml | bacalhau create -"""


def register(verbs: Subparsers) -> None:
    add_submit(verbs, "create", _EXAMPLE)
    add_validate(verbs, "bacalhau validate job.yaml")


def add_submit(verbs: Subparsers, name: str, example: str) -> None:
    """The verb that submits a file, under either of its names."""
    from bacalhau.cli.runflags import add_run_flags

    parser = add_verb(
        verbs,
        name,
        run,
        help="submit a job from a file",
        description="Submit a job from a YAML or JSON file, in the form of Bacalhau v1.9 or v0.3.29, and "
        "stay with it.",
        example=example,
    )
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="the job file; - is stdin")
    add_switch(parser, "--no-template", help="take {{…}} in the file as text")
    template = "write the values into the file; templates are not supported"
    refuse(parser, "-V", "--template-vars", "-E", "--template-envs", instead=template)
    refuse(parser, "--force", switch=True, instead="every submission is a new job; leave it out")
    add_switch(parser, "--hide-warnings", help=argparse.SUPPRESS)
    add_switch(parser, "--group-events", help=argparse.SUPPRESS)
    add_run_flags(parser)


def add_validate(verbs: Subparsers, example: str) -> None:
    """The verb that checks a file, on its own or in the group `job`."""
    parser = add_verb(verbs, "validate", validate, help="check a job file", example=example, node=False)
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="the job file; - is stdin")
    add_switch(parser, "--no-template", help="take {{…}} in the file as text")
    refuse(
        parser,
        "--output-schema",
        switch=True,
        instead="docs/jobs.md has every key; submitted files are checked",
    )


def run(args: argparse.Namespace) -> int:
    from bacalhau.cli.follow import run_job

    return run_job(args, read_job_file(args, quiet=args.quiet or args.id_only or args.dry_run))


def validate(args: argparse.Namespace) -> int:
    read_job_file(args, quiet=False)
    print("OK")
    return OK


def read_job_file(args: argparse.Namespace, *, quiet: bool) -> JobSpec:
    """The draft in the file that the command line names. Raises UsageFailure."""
    from bacalhau.cli.jobfile import parse_job_file

    name = "<stdin>" if args.file == "-" else args.file
    try:
        if args.file == "-":
            content = sys.stdin.buffer.read()
        else:
            with open(args.file, "rb") as file:
                content = file.read()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UsageFailure(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageFailure(f"{name} is no job file: it is not UTF-8 text") from error
    if "{{" in text and not args.no_template:
        line = text[: text.index("{{")].count("\n") + 1
        raise UsageFailure(
            f"{name}:{line}: templates ({{{{…}}}}) are not supported: write the values into the file, or "
            "take the "
            "braces as text with --no-template"
        )

    def note(text: str) -> None:
        if not quiet:
            print(f"note: {name}: {text}", file=sys.stderr)

    return parse_job_file(text, name, note)
