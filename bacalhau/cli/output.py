"""Prints lists: as a table for people, as JSON or YAML for programs.

The machine forms are stable: fields as in the protocol, numbers as numbers, enums by their words, times in
RFC 3339, bytes in base64; fields are added, never renamed.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from typing import TYPE_CHECKING, Any

from bacalhau.cli.names import enum_name
from bacalhau.cli.parsing import add_switch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

FORMATS = ("table", "json", "yaml")


def add_list_flags(parser: argparse.ArgumentParser) -> None:
    """How a list is printed."""
    shown = parser.add_argument_group("how it is printed")
    # `text` is what v0.3.29 called the table.
    shown.add_argument(
        "--output",
        default="table",
        type=lambda text: "table" if text == "text" else text,
        choices=FORMATS,
        help="table, json or yaml (table)",
    )
    add_switch(shown, "--wide", help="nothing is shortened")
    add_switch(shown, "--no-style", help="no colours")
    add_switch(shown, "--hide-header", help="no line of column names")
    add_switch(shown, "--pretty", help=argparse.SUPPRESS)  # v1.9; what is printed is always indented


def print_list(
    args: argparse.Namespace,
    messages: Sequence[Message],
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> None:
    """A list in the form that the flags of `add_list_flags` ask for; `rows` are read for a table only."""
    if args.output == "table":
        print_table(header, rows, hide_header=args.hide_header, style=not args.no_style)
    else:
        print_plain([plain(message) for message in messages], args.output)


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, hide_header: bool = False, style: bool = True
) -> None:
    """Columns, left-aligned, two spaces apart."""
    # Not by rich, which takes longer to import than a node takes to answer.
    cells = [[_one_line(cell) for cell in row] for row in rows]
    lines = cells if hide_header else [list(header), *cells]
    widths = [max((len(line[column]) for line in lines), default=0) for column in range(len(header))]
    bold = style and sys.stdout.isatty()
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        print(f"\x1b[1m{text}\x1b[0m" if bold and number == 0 and not hide_header else text)


def print_plain(value: Any, form: str) -> None:
    """Plain data as indented JSON, or as YAML."""
    if form == "json":
        print(json.dumps(value, indent=2, ensure_ascii=False))
        return
    print(to_yaml(value), end="")


def to_yaml(value: Any) -> str:
    """Plain data as YAML: keys in their order, texts of several lines as blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        odd = any(not letter.isprintable() and letter != "\n" for letter in value)
        block = '"' if odd else "|" if "\n" in value.strip("\n") else None  # PyYAML leaves U+0085 as it is
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=block)

    Dumper.add_representer(str, text)
    written: str = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)
    return written


def plain(message: Message) -> dict[str, Any]:
    """A message as plain data; unset messages and optional fields are left out, the rest is always there."""
    out: dict[str, Any] = {}
    for descriptor in message.DESCRIPTOR.fields:
        value = getattr(message, descriptor.name)
        if descriptor.is_repeated:
            out[descriptor.name] = [_plain_value(descriptor, item) for item in value]
        elif not descriptor.has_presence or message.HasField(descriptor.name):
            out[descriptor.name] = _plain_value(descriptor, value)
    return out


def _plain_value(descriptor: Any, value: Any) -> Any:
    if descriptor.enum_type is not None:
        return _enum_word(descriptor.enum_type, value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if descriptor.message_type is None:
        return value
    match descriptor.message_type.full_name:
        case "google.protobuf.Timestamp":
            return time_text(value)
        case "google.protobuf.Duration":
            return duration_text(value)
        case _:
            return plain(value)


def _enum_word(enum: Any, value: int) -> str:
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

    return enum_name(EnumTypeWrapper(enum), value)


def time_text(time: Timestamp) -> str:
    """RFC 3339 in UTC, to the microsecond; nothing for a time that is not set."""
    from datetime import UTC

    if not time.seconds and not time.nanos:
        return ""
    return time.ToDatetime(tzinfo=UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def duration_text(duration: Duration) -> str:
    """A duration as the command line takes it: `1h`, `90s`."""
    from bacalhau.model.quantities import format_duration

    return format_duration(duration.ToMicroseconds())


def _one_line(text: str) -> str:
    """Text that cannot move the cursor or break the line: names come from strangers."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
