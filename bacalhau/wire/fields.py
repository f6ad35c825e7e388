"""Reads single fields of messages that strangers sent: in range, or refused as MALFORMED with the field's
name.

Every function takes `field`, the name as the sender knows it ("inputs[0].target"), and raises `Refused`. The
other direction is here only where the generated code has no form of its own (durations, enum numbers, text
for people).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from bacalhau.model.cid import Cid, InvalidCid
from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.model.units import SECOND_US
from bacalhau.wire import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sized
    from enum import Enum

E = TypeVar("E", bound="Enum")

DIGEST_BYTES: Final = 32
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*", re.ASCII)
# What moves a terminal's cursor or changes its colours has no place in a line of a table.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_IN_MESSAGE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def malformed(field: str, problem: str, **figures: int) -> Refused:
    """The refusal of one field: `field` and what is wrong with it make the sentence."""
    return refused(RefusalReason.MALFORMED, f"{field} {problem}", **figures)


def shown(text: str) -> str:
    """A stranger's text as a refusal quotes it: escaped, and short."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def at_most(values: Sized, field: str, limit: int) -> None:
    if len(values) > limit:
        raise malformed(field, f"has {len(values)} entries, at most {limit} are allowed", limit=limit)


def distinct(values: Iterable[str], field: str) -> None:
    found: set[str] = set()
    for value in values:
        if value in found:
            raise malformed(field, f"has {shown(value)} twice")
        found.add(value)


def whole(value: int, field: str, low: int, high: int) -> int:
    if not low <= value <= high:
        raise malformed(field, f"must be from {low} to {high}, got {value}")
    return value


def identifier(text: str, field: str) -> str:
    if not text:
        raise malformed(field, "is missing")
    if len(text) > limits.MAX_ID_CHARS:
        raise malformed(field, f"has {len(text)} characters, at most {limits.MAX_ID_CHARS} are allowed")
    if not _ID.fullmatch(text):
        raise malformed(field, f"must be letters, digits, '.', '_', ':' and '-' only, got {shown(text)}")
    return text


def name(text: str, field: str, *, required: bool = False) -> str:
    """One line of text: a name, a label's key or value, a version."""
    if required and not text:
        raise malformed(field, "must not be empty")
    if len(text) > limits.MAX_NAME_CHARS:
        raise malformed(field, f"has {len(text)} characters, at most {limits.MAX_NAME_CHARS} are allowed")
    if _CONTROL.search(text):
        raise malformed(field, f"must have no control characters, got {shown(text)}")
    return text


def message(text: str, field: str) -> str:
    """Text for a person, made safe to print: control characters but newline and tab become U+FFFD."""
    if len(text) > limits.MAX_MESSAGE_CHARS:
        raise malformed(field, f"has {len(text)} characters, at most {limits.MAX_MESSAGE_CHARS} are allowed")
    return _CONTROL_IN_MESSAGE.sub("\ufffd", text)


def sent_message(text: str) -> str:
    """`text` as a peer accepts it: cut to the limit, and valid UTF-8 (file names in it may not be)."""
    if len(text) > limits.MAX_MESSAGE_CHARS:
        text = text[: limits.MAX_MESSAGE_CHARS - 1] + "…"
    return _CONTROL_IN_MESSAGE.sub("\ufffd", text.encode("utf-8", "replace").decode())


def without_nul(text: str, field: str) -> str:
    if "\0" in text:
        raise malformed(field, "must have no NUL character")
    return text


def digest(data: bytes, field: str) -> bytes:
    if len(data) != DIGEST_BYTES:
        raise malformed(field, f"must be a SHA-256 digest of {DIGEST_BYTES} bytes, got {len(data)} bytes")
    return data


def cid(text: str, field: str) -> Cid:
    if not text:
        raise malformed(field, "is missing: it must be a CID")
    try:
        return Cid.parse(text)
    except InvalidCid as error:
        raise malformed(field, f"is no CID: {error}") from error


def path_component(text: str, field: str) -> str:
    if not text or text in (".", "..") or "/" in text or "\0" in text:
        raise malformed(field, f"must be the name of one file or folder, got {shown(text)}")
    if len(text.encode()) > limits.MAX_PATH_COMPONENT_BYTES:
        raise malformed(field, f"must have at most {limits.MAX_PATH_COMPONENT_BYTES} bytes")
    return text


def absolute_path(text: str, field: str) -> str:
    """A clean absolute path below the root; one slash at its end is dropped."""
    if not text.startswith("/"):
        raise malformed(field, f"must be an absolute path, got {shown(text)}")
    without_nul(text, field)
    if len(text.encode()) > limits.MAX_PATH_BYTES:
        raise malformed(field, f"must have at most {limits.MAX_PATH_BYTES} bytes")
    clean = text.removesuffix("/")
    if not clean:
        raise malformed(field, "must not be the root folder '/'")
    for component in clean[1:].split("/"):
        if component in ("", ".", ".."):
            raise malformed(field, f"must not have '..', '.' or '//' in it, got {shown(text)}")
        if len(component.encode()) > limits.MAX_PATH_COMPONENT_BYTES:
            raise malformed(field, f"has a part longer than {limits.MAX_PATH_COMPONENT_BYTES} bytes")
    return clean


def member(members: type[E], value: int, field: str) -> E:
    """The member with that number; 0 (not set) and numbers of later versions are refused."""
    try:
        return members(value)
    except ValueError as error:
        if value == 0:
            raise malformed(field, "is not set") from error
        raise malformed(field, f"has the value {value}, which this version does not know") from error


def number(value: Enum) -> Any:
    """A member's number. `Any`, since the generated stubs take a plain int for no enum, and the code does."""
    return value.value


def duration(us: int) -> Duration:
    seconds, rest = divmod(us, SECOND_US)
    return Duration(seconds=seconds, nanos=rest * 1000)


def duration_us(value: Duration, field: str, *, low: int, high: int) -> int:
    """Integer microseconds from `low` to `high`; a fraction of one is refused rather than rounded."""
    us = _microseconds(value.seconds, value.nanos, field)
    if not low <= us <= high:
        raise malformed(field, f"must be from {_seconds(low)} to {_seconds(high)}, got {_seconds(us)}")
    return us


def timestamp(us: int) -> Timestamp:
    seconds, rest = divmod(us, SECOND_US)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def timestamp_us(value: Timestamp, field: str) -> int:
    """Integer microseconds since 1970."""
    us = _microseconds(value.seconds, value.nanos, field)
    if not 0 <= us <= limits.MAX_TIMESTAMP_US:
        raise malformed(field, "must be a time from the years 1970 to 9999")
    return us


def _microseconds(seconds: int, nanos: int, field: str) -> int:
    if seconds < 0 or nanos < 0:
        raise malformed(field, "must not be negative")
    if nanos >= 1_000_000_000:
        raise malformed(field, f"must have less than 1000000000 nanos, got {nanos}")
    us, rest = divmod(nanos, 1000)
    if rest:
        raise malformed(field, f"must be whole microseconds, got {nanos} nanoseconds")
    return seconds * SECOND_US + us


def _seconds(us: int) -> str:
    whole_seconds, rest = divmod(us, SECOND_US)
    return f"{whole_seconds}" + (f".{rest:06}".rstrip("0") if rest else "") + " s"
