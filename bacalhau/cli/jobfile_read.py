"""The fields of a job file: those of yamlfile.py, with failures that end a command."""

from __future__ import annotations

from typing import ClassVar

from bacalhau import yamlfile
from bacalhau.cli.failures import UsageFailure
from bacalhau.model.quantities import InvalidQuantity


class JobFileFailure(UsageFailure):
    """The file is no job that can be run: names the file, the line, the field, and what to do."""


class Field(yamlfile.Field):
    """A value of a job file. What it refuses is raised as JobFileFailure."""

    Failure: ClassVar[type[Exception]] = JobFileFailure
    wrong_texts: ClassVar[tuple[type[Exception], ...]] = (UsageFailure, InvalidQuantity)


def read_fields(text: str, file: str) -> Field:
    """The root of a YAML or JSON document. Raises JobFileFailure."""
    return yamlfile.read_root(
        text, file, Field, begins_with="a job file begins with Name, Type, Count and Tasks"
    )
