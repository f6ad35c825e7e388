"""Which nodes may run a job, as Kubernetes writes label selectors and users of `-s` know them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bacalhau.cli.failures import UsageFailure

if TYPE_CHECKING:
    from bacalhau.v1.job_pb2 import Constraint

_KEY = r"[A-Za-z0-9](?:[A-Za-z0-9_./-]*[A-Za-z0-9])?"
_VALUE = r"[A-Za-z0-9_.-]*"
_EQUALITY = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EXISTENCE = re.compile(rf"(!?)\s*({_KEY})")
_COMMA_OUTSIDE = re.compile(r",(?![^()]*\))")

_FORMS = "write key=value, key!=value, key in (a,b), key notin (a,b), key or !key, separated by commas"


def parse_constraints(text: str) -> list[Constraint]:
    """The constraints in a selector such as `region=eu,!spot,disk in (ssd,nvme)`. Raises UsageFailure."""
    return [_one(part.strip()) for part in _COMMA_OUTSIDE.split(text) if part.strip()]


def _one(text: str) -> Constraint:
    from bacalhau.v1 import job_pb2

    if match := _EQUALITY.fullmatch(text):
        is_not = match[2] == "!="
        operator = job_pb2.CONSTRAINT_OPERATOR_NOT_IN if is_not else job_pb2.CONSTRAINT_OPERATOR_IN
        return job_pb2.Constraint(key=match[1], operator=operator, values=[match[3]])
    if match := _SET.fullmatch(text):
        is_not = match[2] == "notin"
        operator = job_pb2.CONSTRAINT_OPERATOR_NOT_IN if is_not else job_pb2.CONSTRAINT_OPERATOR_IN
        values = [value.strip() for value in match[3].split(",")]
        if not all(re.fullmatch(_VALUE, value) and value for value in values):
            raise UsageFailure(f"{text!r} has an empty or odd value: {_FORMS}")
        return job_pb2.Constraint(key=match[1], operator=operator, values=values)
    if match := _EXISTENCE.fullmatch(text):
        absent = job_pb2.CONSTRAINT_OPERATOR_NOT_EXISTS if match[1] else job_pb2.CONSTRAINT_OPERATOR_EXISTS
        return job_pb2.Constraint(key=match[2], operator=absent)
    raise UsageFailure(f"{text!r} is no constraint: {_FORMS}")
