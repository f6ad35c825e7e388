"""What both forms of job files have in common: single fields, as parts of a job's draft.

Every function raises JobFileFailure, with the field's line, for what is wrong or not supported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bacalhau.cli.mounts import DATA_REFERENCE, is_cid
from bacalhau.model import quantities

if TYPE_CHECKING:
    from bacalhau.cli.jobfile_read import Field
    from bacalhau.v1.job_pb2 import Constraint, InputSource, JobSpec

Note = Callable[[str], None]

SOURCE_REMEDIES = {
    "urldownload": "download it, then use type localDirectory with the file's path",
    "url": "download it, then use type localDirectory with the file's path",
    "s3": "copy it here, then use type localDirectory with the folder's path",
    "s3presigned": "copy it here, then use type localDirectory with the folder's path",
    "repoclone": "clone it, then use type localDirectory with the folder's path",
    "repoclonelfs": "clone it, then use type localDirectory with the folder's path",
}


def reference_of(source: InputSource) -> str:
    """The draft's reference of a source that may be inline."""
    if source.cid:
        return source.cid
    import base64

    return f"{DATA_REFERENCE};base64,{base64.b64encode(source.inline_data).decode()}"


def parse_cid_field(field: Field) -> str:
    """A CID. Raises JobFileFailure."""
    cid = field.text().removeprefix("ipfs://") if not field.is_mapping else ""
    if not is_cid(cid):
        raise field.failure("has no CID" if not cid else f"{cid!r} is no CID")
    return cid


def set_inline(source: InputSource, field: Field, note: Note) -> None:
    """Content given in the file as a data: URL. Raises JobFileFailure."""
    from bacalhau.cli.uploads import read_data_url

    url = field.text() if not field.is_mapping else ""
    if not url.startswith(DATA_REFERENCE):
        raise field.failure("should be a data: URL, for instance data:,TEXT or data:;base64,…")
    if url[len(DATA_REFERENCE) :].lower().startswith("application/gzip"):
        raise field.failure("packed folders are not supported: unpack it here and use type localDirectory")
    source.inline_data = field.parsed(read_data_url)
    if not source.inline_data:
        raise field.failure("holds no data")


def parse_constraint(field: Field) -> Constraint:
    """A constraint of either form. Raises JobFileFailure."""
    from bacalhau.v1 import job_pb2

    fields = field.known("Key", "Operator", "Values")
    if "Key" not in fields or not fields["Key"].text() or "Operator" not in fields:
        raise field.failure("needs a Key and an Operator: in, notin, =, !=, exists or !")
    operators: dict[str, Any] = {
        "in": job_pb2.CONSTRAINT_OPERATOR_IN,
        "=": job_pb2.CONSTRAINT_OPERATOR_IN,
        "==": job_pb2.CONSTRAINT_OPERATOR_IN,
        "notin": job_pb2.CONSTRAINT_OPERATOR_NOT_IN,
        "!=": job_pb2.CONSTRAINT_OPERATOR_NOT_IN,
        "exists": job_pb2.CONSTRAINT_OPERATOR_EXISTS,
        "!": job_pb2.CONSTRAINT_OPERATOR_NOT_EXISTS,
        "doesnotexist": job_pb2.CONSTRAINT_OPERATOR_NOT_EXISTS,
    }
    operator = fields["Operator"].text().lower()
    if operator not in operators:
        raise fields["Operator"].failure(f"{operator!r} is not supported: use in, notin, =, !=, exists or !")
    values = fields["Values"].texts() if "Values" in fields else []
    compares = operators[operator] in (job_pb2.CONSTRAINT_OPERATOR_IN, job_pb2.CONSTRAINT_OPERATOR_NOT_IN)
    if compares != bool(values):
        raise fields.get("Values", field).failure(f"{operator} {'needs' if compares else 'takes no'} Values")
    return job_pb2.Constraint(key=fields["Key"].text(), operator=operators[operator], values=values)


def check_publisher(publisher: Field, note: Note) -> None:
    """Refuses what is neither IPFS nor nothing. Raises JobFileFailure."""
    fields = publisher.known("Type", "Params")
    if "Type" not in fields:
        return
    kind = fields["Type"].text().lower()
    if kind == "local":
        note(
            f"{publisher.path}: the result is stored in IPFS rather than on the node; `bacalhau get` "
            "fetches it"
        )
    elif kind not in ("", "ipfs", "noop"):
        raise fields["Type"].failure(
            f"the publisher {kind} is not supported: use ipfs; `bacalhau get` fetches results"
        )
    if kind in ("ipfs", "noop") and "Params" in fields:
        fields["Params"].known()


def add_pair(variables: dict[str, str], pair: Field) -> None:
    """`NAME=VALUE` of a list. Raises JobFileFailure."""
    from bacalhau.cli.jobflags import parse_variable

    variable = pair.parsed(parse_variable)
    variables[variable.name] = variable.value


def add_variable(variables: dict[str, str], name: str, value: Field) -> None:
    """An entry of a mapping of variables. Raises JobFileFailure."""
    if not name or "=" in name:
        raise value.failure("is no name of an environment variable")
    text = value.text()
    if text.startswith("env:"):
        raise value.failure("values from a node's environment (env:NAME) are not supported: write the value")
    variables[name] = text


def set_variables(spec: JobSpec, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        spec.env.add(name=name, value=value)


def set_resources(field: Field, spec: JobSpec) -> None:
    """Resources of either form. Raises JobFileFailure."""
    fields = field.known("CPU", "Memory", "Disk", "GPU")
    for key, name, parse in (
        ("CPU", "cpu_millicores", quantities.parse_cpu),
        ("Memory", "memory_bytes", quantities.parse_bytes),
        ("Disk", "disk_bytes", quantities.parse_bytes),
        ("GPU", "gpu_count", quantities.parse_gpu),
    ):
        if key in fields and fields[key].text():
            setattr(spec.resources, name, fields[key].parsed(parse))


def set_network(field: Field, spec: JobSpec) -> None:
    """The network of either form. Raises JobFileFailure."""
    from bacalhau.cli.jobflags import network_mode

    remedy = {"Domains": "use type Full, on nodes that allow it", "Ports": "jobs cannot offer ports"}
    fields = field.known("Type", refused=remedy)
    if "Type" in fields and fields["Type"].text():
        spec.network = fields["Type"].parsed(network_mode)
