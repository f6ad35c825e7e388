"""The command `bacalhau`: its parser, its verbs, and how it ends.

Verbs live in modules of their own, one each or closely related ones together. Only the module of the verb
that is called is imported, and it imports what it needs when it runs: a command's start is what its user
waits for.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from bacalhau.cli import connection
from bacalhau.cli.failures import INTERRUPTED, SYSTEM_FAILURE, CommandFailure
from bacalhau.cli.parsing import Parser, Subparsers, refuse_log_mode

if TYPE_CHECKING:
    from collections.abc import Sequence

# Verb -> the module that registers it, in the order of the help.
VERBS = {
    "serve": "bacalhau.cli.serve",
    "devstack": "bacalhau.cli.serve",
    "docker": "bacalhau.cli.docker",
    "wasm": "bacalhau.cli.wasm",
    "create": "bacalhau.cli.create",
    "validate": "bacalhau.cli.create",
    "price": "bacalhau.cli.price",
    "list": "bacalhau.cli.list",
    "describe": "bacalhau.cli.describe",
    "get": "bacalhau.cli.get",
    "logs": "bacalhau.cli.logs",
    "cancel": "bacalhau.cli.cancel",
    "job": "bacalhau.cli.job",
    "market": "bacalhau.cli.market",
    "node": "bacalhau.cli.node",
    "ledger": "bacalhau.cli.ledger",
    "receipt": "bacalhau.cli.receipt",
    "ipfs": "bacalhau.cli.ipfs",
    "simulate": "bacalhau.cli.simulate",
    "id": "bacalhau.cli.version",
    "version": "bacalhau.cli.version",
    "completion": "bacalhau.cli.completion",
}

REFUSED_VERBS = {
    "run": "compile the program to WASM for `bacalhau wasm run`, or use `bacalhau docker run python:3.12 python -c …`",
    "simulator": "use `bacalhau simulate`",
}
"""Those of v0.3.29 that this version does not support, with what to use instead."""

_VALUE_FLAGS = ("--api-host", "--api-port", "--api-token-file", "--api-tls-ca", "--log-mode")

_DESCRIPTION = (
    "Run Docker containers and WASM programs on a marketplace of nodes, with IPFS for data in and out."
)
_EPILOG = """\
example:
  bacalhau serve
  bacalhau docker run ubuntu echo Hello World
  bacalhau docker run -v QmfKJT13h5k1b23ja3ZCVg5nFL9oKz2bVXc8oXgtwiwhjz:/files ubuntu cat /files/read_csv.py
  bacalhau list --id-filter=j-1a2b3c4d

exit code: the job's own where a job ran; 125 where the system failed; 2 where the command line is wrong."""


def parser(only: str | None = None) -> Parser:
    """The parser of the whole command line, or of one verb of it."""
    top = Parser(prog="bacalhau", description=_DESCRIPTION, epilog=_EPILOG)
    connection.add_flags(top, top=True)
    refuse_log_mode(top)
    verbs = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    modules = (VERBS[only],) if only else dict.fromkeys(VERBS.values())
    for name in modules:
        register(importlib.import_module(name), verbs)
    return top


def register(module: object, verbs: Subparsers) -> None:
    module.register(verbs)  # type: ignore[attr-defined]  # each module of VERBS has it; a test holds that


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Usage errors and --help leave by SystemExit."""
    verb = _verb(argv)
    top = parser(verb if verb in VERBS else None)
    if verb in REFUSED_VERBS:
        top.error(f"{verb} is not supported: {REFUSED_VERBS[verb]}")
    args = top.parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except CommandFailure as failure:
        print(f"bacalhau: {failure}", file=sys.stderr)
        return failure.exit_code
    except BrokenPipeError:  # whoever read our output has seen enough, as in `bacalhau list | head -1`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # stays until the process ends, so that flushing works
        return 0
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except OSError as error:  # the user's files and disks; the node's faults come as NodeFailure
        where = f"{error.filename}: " if error.filename else ""
        print(f"bacalhau: {where}{error.strerror or error}", file=sys.stderr)
        return SYSTEM_FAILURE


def main() -> NoReturn:
    """Entry point. Leaves without gRPC's and Python's teardown, which would cost more than many a command."""
    _open_streams()
    try:
        code = run(sys.argv[1:])
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:  # its words were not read yet: nothing was begun
        code = INTERRUPTED
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more; there is nobody to tell
        pass
    os._exit(code)


def _open_streams() -> None:
    """Where the caller closed stdout or stderr (`>&-`), what is written there goes nowhere, and not into whatever file
    or socket would be given its number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # stays until the process ends


def _verb(argv: Sequence[str]) -> str | None:
    """The word on the command line that stands where the verb does, if there is one."""
    position = 0
    while position < len(argv) and argv[position].startswith("-"):
        position += 2 if argv[position] in _VALUE_FLAGS else 1
    return argv[position] if position < len(argv) else None
