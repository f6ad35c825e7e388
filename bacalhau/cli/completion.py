"""`bacalhau completion`: a script that completes verbs and flags in the user's shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.cli.failures import OK
from bacalhau.cli.parsing import Subparsers, add_verb

if TYPE_CHECKING:
    import argparse

_EXAMPLE = """\
bacalhau completion bash > ~/.local/share/bash-completion/completions/bacalhau
bacalhau completion zsh > ~/.zfunc/_bacalhau"""


def register(verbs: Subparsers) -> None:
    parser = add_verb(
        verbs, "completion", run, help="print a completion script for a shell", example=_EXAMPLE, node=False
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def run(args: argparse.Namespace) -> int:
    import shtab

    from bacalhau.cli.main import parser

    print(shtab.complete(parser(), shell=args.shell))
    return OK
