"""The names by which jobs and enumerated values are read and shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bacalhau.cli.failures import UsageFailure

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

_JOB_ID = re.compile(r"(?:j-)?[0-9a-f][0-9a-f-]{0,35}")
SHORT_ID_LENGTH = len("j-") + 8


def job_id(text: str) -> str:
    """A job id, or the beginning of one, with or without its `j-`. Raises UsageFailure."""
    lowered = text.strip().lower()
    if _JOB_ID.fullmatch(lowered) is None:
        raise UsageFailure(f"{text!r} is no job id: ids look like j-1a2b3c4d…; `bacalhau list` shows them")
    return lowered if lowered.startswith("j-") else f"j-{lowered}"


def short_id(identifier: str) -> str:
    """The beginning of a job id that people tell it by: j- and eight characters."""
    return identifier[:SHORT_ID_LENGTH]


def short_node(node_id: str) -> str:
    """A node's peer id, shortened at its end, where ids differ."""
    return node_id if len(node_id) <= 12 else node_id[-8:]


def enum_name(wrapper: _EnumTypeWrapper[Any], value: int) -> str:
    """An enum's value without its type's prefix, in words as people write them: `Completed`, `NodeLost`."""
    try:
        name = str(wrapper.Name(value))
    except ValueError:  # a newer node's value
        return str(value)
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", wrapper.DESCRIPTOR.name).upper() + "_"
    return "".join(word.capitalize() for word in name.removeprefix(prefix).split("_"))
