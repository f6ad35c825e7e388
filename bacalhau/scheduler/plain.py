"""Events, records and effects as JSON data, and back: the form of traces and of what probes are asked.

Values are written by their type's shape: dataclasses as objects with "@", enums as {"enum": [type, name]}, bytes as
{"hex": …}, CIDs as {"cid": …}, dicts as {"dict": pairs}, tuples as lists. Read back, every list is a tuple.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from bacalhau.market import bidding, clearing, credit, pricing
from bacalhau.model import (
    auction,
    cid,
    execution,
    job,
    ledger,
    market,
    refusals,
    reputation,
    resources,
    verification,
)
from bacalhau.model.cid import Cid
from bacalhau.scheduler import config, events, jobs, records

if TYPE_CHECKING:
    from bacalhau.scheduler.effects import Effects

_MODULES = (
    auction,
    cid,
    execution,
    job,
    ledger,
    market,
    refusals,
    reputation,
    resources,
    verification,
    bidding,
    clearing,
    credit,
    pricing,
    config,
    events,
    jobs,
    records,
)
"""Where the types are from that a trace may name."""


class NotPlain(ValueError):
    """The JSON data is no value of the core; the message says what is wrong."""


def to_plain(value: object) -> object:
    """A value of the core as JSON data. Raises TypeError for what has no form there."""
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, Cid):
        return {"cid": str(value)}
    if isinstance(value, Enum):
        return {"enum": [type(value).__name__, value.name]}
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, dict):
        return {"dict": [[to_plain(key), to_plain(item)] for key, item in value.items()]}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        plain: dict[str, object] = {"@": type(value).__name__}
        for field in fields(value):
            plain[field.name] = to_plain(getattr(value, field.name))
        return plain
    raise TypeError(f"there is no plain form of a {type(value).__name__}")


def from_plain(plain: Any) -> Any:
    """The value that `to_plain` wrote. Raises NotPlain."""
    if isinstance(plain, list):
        return tuple(from_plain(item) for item in plain)
    if not isinstance(plain, dict):
        return plain
    match plain:
        case {"@": str(name)}:
            given = {key: from_plain(item) for key, item in plain.items() if key != "@"}
            try:
                return _kind(name)(**given)
            except TypeError as error:
                raise NotPlain(f"{name} has other fields in this version: {error}") from error
        case {"enum": [str(name), str(member)]}:
            kind = _kind(name)
            if not issubclass(kind, Enum) or member not in kind.__members__:
                raise NotPlain(f"{name} has no {member} in this version")
            return kind[member]
        case {"hex": str(digits)}:
            return bytes.fromhex(digits)
        case {"cid": str(text)}:
            return Cid.parse(text)
        case {"dict": list(pairs)}:
            return {from_plain(key): from_plain(item) for key, item in pairs}
    raise NotPlain(f"an object of unknown form: {', '.join(plain)}")


def digest(effects: Effects) -> str:
    """SHA-256 over the effects as JSON, in hexadecimal: equal where they are equal, byte for byte."""
    return hashlib.sha256(json.dumps(to_plain(effects), separators=(",", ":")).encode()).hexdigest()


def _kind(name: str) -> Any:
    kind = _KINDS.get(name)
    if kind is None:
        raise NotPlain(f"there is no {name} in this version")
    return kind


def _kinds() -> dict[str, type]:
    found: dict[str, type] = {}
    for module in _MODULES:
        for name, kind in vars(module).items():
            if not isinstance(kind, type) or kind.__module__ != module.__name__:
                continue
            if is_dataclass(kind) or issubclass(kind, Enum):
                if name in found:
                    raise AssertionError(f"two types of the core are called {name}")
                found[name] = kind
    return found


_KINDS = _kinds()
