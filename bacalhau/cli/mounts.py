"""What `-i`, `-v` and `-o` say: inputs and outputs of a job, as its draft has them.

A draft is a JobSpec in which a CID may still be a reference to something on this machine: `file:` and a path,
or a `data:` URL. `bacalhau.cli.uploads` puts CIDs in their place before the job is submitted.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from bacalhau.cli.failures import UsageFailure

if TYPE_CHECKING:
    from bacalhau.v1.job_pb2 import InputSource, OutputPath

DEFAULT_TARGET = "/inputs"
DEFAULT_OUTPUT = ("outputs", "/outputs")
FILE_REFERENCE = "file:"
DATA_REFERENCE = "data:"

# The shapes of CIDs in the encodings in use; whether one is right, the node says.
_CID = re.compile(
    r"Qm[1-9A-HJ-NP-Za-km-z]{44}|b[a-z2-7]{20,}|B[A-Z2-7]{20,}|z[1-9A-HJ-NP-Za-km-z]{20,}|f[0-9a-f]{20,}"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_REMEDIES = {
    "http": "download it, then give the file: -i ./FILE:/inputs",
    "https": "download it, then give the file: -i ./FILE:/inputs",
    "s3": "copy it here, then give the folder: -i ./FOLDER:/inputs",
    "git": "clone it, then give the folder: -i ./FOLDER:/inputs",
    "gitlfs": "clone it, then give the folder: -i ./FOLDER:/inputs",
}


def is_cid(text: str) -> bool:
    """Whether the text has the shape of a CID."""
    return _CID.fullmatch(text) is not None


def file_reference(path: str) -> str:
    """A draft's reference to a file or folder of this machine. Raises UsageFailure where there is none."""
    full = os.path.abspath(os.path.expanduser(path))
    if not os.path.exists(full):
        raise UsageFailure(
            f"{path} does not exist here; an input is a CID, or a file or folder of this machine"
        )
    return FILE_REFERENCE + full


def content_reference(source: str) -> str:
    """The CID, or draft's reference, that `source` names: ipfs://CID, CID, file://PATH or PATH.

    Raises UsageFailure.
    """
    scheme = _SCHEME.match(source)
    if scheme is not None:
        name, rest = scheme[1].lower(), source[scheme.end() :]
        if name == "ipfs":
            if not is_cid(rest.rstrip("/")):
                raise UsageFailure(
                    f"{source} names no CID: write ipfs://CID, the CID of the file or folder itself"
                )
            return rest.rstrip("/")
        if name == "file":
            return file_reference(rest)
        remedy = _REMEDIES.get(name, "use ipfs://CID, or a file or folder of this machine")
        raise UsageFailure(f"inputs from {name}:// are not supported: {remedy}")
    if is_cid(source):
        return source
    if source.startswith(("./", "../", "/", "~")) or source in (".", "..") or os.path.exists(source):
        return file_reference(source)
    raise UsageFailure(f"{source!r} is neither a CID nor a file or folder here: write ipfs://CID, or ./NAME")


def parse_input(text: str) -> InputSource:
    """`SOURCE[:TARGET]` or `src=SOURCE,dst=TARGET`; see `content_reference`. Raises UsageFailure."""
    from bacalhau.v1.job_pb2 import InputSource

    first_key = text.partition(",")[0].partition("=")[0].lower()
    if first_key in ("src", "source", "dst", "target", "destination", "opt", "option", "type"):
        source, target = _pairs(text)
    else:
        source, target = _split(text)
    return InputSource(cid=content_reference(source), target=checked_path(target, "an input's target"))


def parse_output(text: str) -> OutputPath:
    """`NAME:/PATH`. Raises UsageFailure."""
    from bacalhau.v1.job_pb2 import OutputPath

    name, colon, path = text.partition(":")
    if not colon or not name or "/" in name or name in (".", ".."):
        raise UsageFailure(f"{text!r} is no output: write NAME:/PATH, for instance outputs:/outputs")
    return OutputPath(name=name, path=checked_path(path, "an output's path"))


def with_default_output(outputs: list[OutputPath]) -> list[OutputPath]:
    """The outputs, and `outputs:/outputs` unless its name or path is taken."""
    from bacalhau.v1.job_pb2 import OutputPath

    name, path = DEFAULT_OUTPUT
    if any(output.name == name or output.path == path for output in outputs):
        return outputs
    return [*outputs, OutputPath(name=name, path=path)]


def checked_path(path: str, what: str) -> str:
    """The path, if it is absolute and has no `..`. Raises UsageFailure."""
    if not path.startswith("/") or ".." in path.split("/"):
        raise UsageFailure(f"{what} must be an absolute path without '..', not {path!r}")
    return path


def _split(text: str) -> tuple[str, str]:
    """Source and target of the short form; only a colon before a slash separates them."""
    source, colon, target = text.rpartition(":")
    if colon and target in ("ro", "rw"):  # as `docker run -v` has it
        if target == "rw":
            raise UsageFailure("inputs are mounted read-only: leave out :rw, and write to /outputs")
        return _split(source)
    if colon and target.startswith("/") and not target.startswith("//") and source:
        return source, target
    if colon and not _SCHEME.match(text) and not os.path.exists(text):
        raise UsageFailure(f"the target in {text!r} must be an absolute path, for instance {source}:/inputs")
    return text, DEFAULT_TARGET


def _pairs(text: str) -> tuple[str, str]:
    source, target = "", DEFAULT_TARGET
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        match key.lower():
            case "src" | "source" if equals:
                source = value
            case "dst" | "target" | "destination" if equals:
                target = value
            case "type" if value.lower() == "ipfs":
                continue
            case _:
                raise UsageFailure(f"{pair!r} in {text!r} is not supported: write src=SOURCE,dst=/TARGET")
    if not source:
        raise UsageFailure(f"{text!r} names no source: write src=SOURCE,dst=/TARGET")
    return source, target
