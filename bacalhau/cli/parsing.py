"""argparse, as the verbs use it: examples in every help, Go's spelling of switches, flags refused by name.

Owns no flag of its own. Values are read by `bacalhau.model.quantities` and its like; what they raise becomes a
usage error here.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from bacalhau.cli import connection
from bacalhau.model.quantities import InvalidQuantity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Subparsers = argparse._SubParsersAction["Parser"]
else:
    Subparsers = object


class Parser(argparse.ArgumentParser):
    """A parser that keeps the layout of its texts and takes no abbreviated flags."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse does it, but what is not known is an error here: in the verb's own name, not the command's."""
        read, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._near(unknown[0])}")
        return read, unknown

    def _near(self, unknown: str) -> str:
        """The flags that are spelled nearly so, as the end of a sentence."""
        from difflib import get_close_matches

        shown = [
            flag
            for action in self._actions
            if action.help != argparse.SUPPRESS
            for flag in action.option_strings
        ]
        near = get_close_matches(unknown.partition("=")[0], shown)
        return f" (did you mean {' or '.join(near)}?)" if near else ""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"bacalhau: {message}\nTry `{self.prog} --help`.\n")


def add_verb(
    verbs: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    help: str,
    example: str,
    description: str = "",
    node: bool = True,
) -> argparse.ArgumentParser:
    """A verb with an example in its help and, where `node`, the flags that name a node."""
    parser = verbs.add_parser(
        name,
        help=help,
        description=description or help[:1].upper() + help[1:] + ".",
        epilog="example:\n" + "\n".join("  " + line for line in example.strip().splitlines()),
    )
    if node:
        connection.add_flags(parser)
    refuse_log_mode(parser)
    parser.set_defaults(run=run)
    return parser


def add_group(verbs: Subparsers, name: str, *, help: str, example: str) -> Subparsers:
    """A group of verbs, as `docker` in `docker run`."""
    parser = verbs.add_parser(
        name,
        help=help,
        description=help[:1].upper() + help[1:] + ".",
        epilog="example:\n" + "\n".join("  " + line for line in example.strip().splitlines()),
    )
    connection.add_flags(parser)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)


def add_switch(parser: Any, *flags: str, default: bool = False, help: str, dest: str | None = None) -> None:
    """A switch that also takes Go's `--flag=true` and `--flag=false`."""
    dest = dest or next(flag for flag in flags if flag.startswith("--"))[2:].replace("-", "_")
    parser.add_argument(*flags, dest=dest, action="store_true", default=default, help=help)
    # Registered under the whole word, so that the switch never takes the word after it for its value.
    for value, action in (("true", "store_true"), ("false", "store_false")):
        spellings = [f"{flag}={value}" for flag in flags if flag.startswith("--")]
        parser.add_argument(*spellings, dest=dest, action=action, default=default, help=argparse.SUPPRESS)


def quantity(parse: Callable[[str], int]) -> Callable[[str], int]:
    """A reader of amounts as argparse's `type`."""

    def read(text: str) -> int:
        try:
            return parse(text)
        except InvalidQuantity as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def whole_number(minimum: int, maximum: int = 2**31 - 1) -> Callable[[str], int]:
    """A reader of whole numbers of at least `minimum` as argparse's `type`."""

    def read(text: str) -> int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()) or not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {minimum} to {maximum}")
        return int(text)

    return read


class _Refuse(argparse.Action):
    """A flag that is known and not supported: says so, and what to use instead."""

    def __init__(self, *args: Any, instead: str, harmless: tuple[str, ...] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.instead = instead
        self.harmless = harmless

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if isinstance(values, str) and values.lower() in self.harmless:
            return
        shown = f"{option_string} {values}" if isinstance(values, str) else str(option_string)
        parser.error(f"{shown} is not supported: {self.instead}")


def refuse_log_mode(parser: argparse.ArgumentParser) -> None:
    """Of the whole command line, so every verb knows it."""
    refuse(
        parser,
        "--log-mode",
        harmless=("default",),
        instead="commands write no log; `serve` has --log-level",
    )


def refuse(
    parser: Any, *flags: str, instead: str, harmless: tuple[str, ...] = (), switch: bool = False
) -> None:
    """Knows flags of the Go Bacalhau that this one does not support; `harmless` values change nothing."""
    parser.add_argument(
        *flags,
        action=_Refuse,
        nargs=0 if switch else None,
        instead=instead,
        harmless=harmless,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    if switch:
        spellings = [f"{flag}=true" for flag in flags if flag.startswith("--")]
        parser.add_argument(
            *spellings,
            action=_Refuse,
            nargs=0,
            instead=instead,
            dest=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
        off = [f"{flag}=false" for flag in flags if flag.startswith("--")]
        parser.add_argument(
            *off,
            action="store_false",
            dest=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
