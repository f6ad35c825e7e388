"""Job files of Bacalhau v0.3.29 (`APIVersion: V1beta1`, `Spec: …`), as a job's draft."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from bacalhau.cli.jobfile_parts import (
    SOURCE_REMEDIES,
    Note,
    add_pair,
    add_variable,
    check_publisher,
    parse_cid_field,
    parse_constraint,
    reference_of,
    set_inline,
    set_network,
    set_resources,
    set_variables,
)
from bacalhau.cli.mounts import checked_path, file_reference, parse_output, with_default_output
from bacalhau.cli.verifyflags import policy_number
from bacalhau.model import quantities

if TYPE_CHECKING:
    from bacalhau.cli.jobfile_read import Field
    from bacalhau.v1.job_pb2 import InputSource, JobSpec, OutputPath

_VERSIONS = ("v1alpha1", "v1beta1")


def parse_flat(root: Field, note: Note) -> JobSpec:
    """The draft of a flat job file. Raises JobFileFailure."""
    from bacalhau.v1.job_pb2 import JobSpec

    # What `describe` of v0.3.29 printed beside the spec; as there, only the spec makes a new job.
    fields = root.known("APIVersion", "Spec", "Metadata", "State", "ID", "CreatedAt", "ClientID", "Requester")
    if "APIVersion" in fields and fields["APIVersion"].text().lower() not in _VERSIONS:
        raise fields["APIVersion"].failure(f"{fields['APIVersion'].text()!r} is unknown: write V1beta1")
    if "Spec" not in fields:
        raise root.failure("has no Spec")
    spec = JobSpec(count=1)
    _spec(fields["Spec"], spec, note)
    return spec


def _spec(field: Field, spec: JobSpec, note: Note) -> None:
    from bacalhau.v1.verification_pb2 import VERIFICATION_POLICY_NONE

    fields = field.known(
        "Engine",
        "Verifier",
        "Publisher",
        "PublisherSpec",
        "Docker",
        "Wasm",
        "Resources",
        "Network",
        "Timeout",
        "inputs",
        "outputs",
        "Annotations",
        "NodeSelectors",
        "DoNotTrack",
        "Deal",
        refused={
            "Language": "use engine docker with a python image",
            "Sharding": "submit a job for each part",
            "ExecutionPlan": "leave it out",
            "Contexts": "use inputs",
        },
    )
    if "Verifier" in fields:
        spec.verification.policy = fields["Verifier"].parsed(policy_number)
    _publisher(fields, note)
    for item in fields["inputs"].items() if "inputs" in fields else []:
        spec.inputs.append(_storage(item, note))
    variables: dict[str, str] = {}
    _engine(field, fields, spec, variables, note)
    set_variables(spec, variables)
    outputs = []
    for item in fields["outputs"].items() if "outputs" in fields else []:
        known = item.known("StorageSource", "Name", "CID", "path", "Metadata", "URL", "SourcePath")
        if "Name" not in known or "path" not in known:
            raise item.failure("needs a Name and a path")
        outputs.append(known["path"].parsed(functools.partial(_output, known["Name"].text())))
    spec.outputs.extend(with_default_output(outputs))
    if "Resources" in fields:
        set_resources(fields["Resources"], spec)
    if "Network" in fields:
        set_network(fields["Network"], spec)
    if "Timeout" in fields and (timeout_us := fields["Timeout"].parsed(quantities.parse_duration)):
        spec.timeouts.execution.FromMicroseconds(timeout_us)
    for item in fields["Annotations"].items() if "Annotations" in fields else []:
        key, _, value = item.text().partition("=")
        if not key or any(label.key == key for label in spec.labels):
            raise item.failure("has no key, or one that came before")
        spec.labels.add(key=key, value=value)
    for item in fields["NodeSelectors"].items() if "NodeSelectors" in fields else []:
        spec.constraints.append(parse_constraint(item))
    if "Deal" in fields:
        _deal(fields["Deal"], spec)
    if spec.verification.policy == VERIFICATION_POLICY_NONE:
        spec.ClearField("verification")


def _output(name: str, path: str) -> OutputPath:
    return parse_output(f"{name}:{path}")


def _publisher(fields: dict[str, Field], note: Note) -> None:
    if "PublisherSpec" in fields:
        check_publisher(fields["PublisherSpec"], note)
    if "Publisher" in fields and (kind := fields["Publisher"].text().lower()) not in ("", "ipfs", "noop"):
        raise fields["Publisher"].failure(
            f"the publisher {kind} is not supported: use Ipfs; `bacalhau get` fetches results"
        )


def _engine(
    field: Field, fields: dict[str, Field], spec: JobSpec, variables: dict[str, str], note: Note
) -> None:
    kind = fields["Engine"].text().lower() if "Engine" in fields else ""
    if kind == "docker" and "Docker" in fields:
        known = fields["Docker"].known("Image", "Entrypoint", "EnvironmentVariables", "WorkingDirectory")
        if "Image" not in known or not known["Image"].text():
            raise fields["Docker"].failure("has no Image")
        spec.docker.image = known["Image"].text()
        # `docker run` of v0.3.29 wrote the command here, and its node started it as the entry point.
        spec.docker.entrypoint.extend(known["Entrypoint"].texts() if "Entrypoint" in known else [])
        if "WorkingDirectory" in known and known["WorkingDirectory"].text():
            spec.docker.working_directory = known["WorkingDirectory"].parsed(
                lambda path: checked_path(path, "the working directory")
            )
        for pair in known["EnvironmentVariables"].items() if "EnvironmentVariables" in known else []:
            add_pair(variables, pair)
    elif kind == "wasm" and "Wasm" in fields:
        _wasm(fields["Wasm"], spec, variables, note)
    elif kind in ("docker", "wasm"):
        raise field.failure(f"has no {kind.capitalize()}: say what to run")
    else:
        raise fields.get("Engine", field).failure(
            f"{kind or 'nothing'} is no engine here: use Docker or Wasm"
        )


def _wasm(field: Field, spec: JobSpec, variables: dict[str, str], note: Note) -> None:
    known = field.known("EntryModule", "EntryPoint", "Parameters", "EnvironmentVariables", "ImportModules")
    if "EntryModule" not in known:
        raise field.failure("has no EntryModule")
    spec.wasm.module_cid = reference_of(_storage(known["EntryModule"], note))
    spec.wasm.entry_point = known["EntryPoint"].text() if "EntryPoint" in known else ""
    spec.wasm.arguments.extend(known["Parameters"].texts() if "Parameters" in known else [])
    for item in known["ImportModules"].items() if "ImportModules" in known else []:
        source = _storage(item, note)
        spec.wasm.import_modules.add(name=source.alias, cid=reference_of(source))
    for name, value in known["EnvironmentVariables"].keys() if "EnvironmentVariables" in known else ():
        add_variable(variables, name, value)


def _storage(field: Field, note: Note) -> InputSource:
    """A StorageSpec that is read. Raises JobFileFailure."""
    from bacalhau.v1.job_pb2 import InputSource

    known = field.known("StorageSource", "Name", "CID", "URL", "S3", "Repo", "SourcePath", "path", "Metadata")
    kind = known["StorageSource"].text().lower() if "StorageSource" in known else ""
    source = InputSource(alias=known["Name"].text() if "Name" in known else "", target="/inputs")
    if "path" in known and known["path"].text():
        source.target = known["path"].parsed(lambda path: checked_path(path, "an input's path"))
    match kind:
        case "ipfs":
            source.cid = parse_cid_field(known.get("CID", field))
        case "inline":
            set_inline(source, known.get("URL", field), note)
        case "localdirectory":
            source.cid = known.get("SourcePath", field).parsed(file_reference)
            note(
                f"{field.path}: taken from this machine and added to IPFS; the Go Bacalhau takes it from "
                "the node"
            )
        case _:
            remedy = SOURCE_REMEDIES.get(kind, "use IPFS, Inline or LocalDirectory")
            where = known.get("StorageSource", field)
            raise where.failure(f"the storage source {kind or 'nothing'} is not supported: {remedy}")
    return source


def _deal(field: Field, spec: JobSpec) -> None:
    from bacalhau.v1.verification_pb2 import VERIFICATION_POLICY_REPLICATED

    known = field.known("Concurrency", "Confidence", "MinBids", "TargetingMode")
    if "Concurrency" in known:
        spec.count = max(1, known["Concurrency"].integer(0, 10_000))
    if "Confidence" in known and (confidence := known["Confidence"].integer(0, 10_000)):
        if spec.verification.policy != VERIFICATION_POLICY_REPLICATED:
            raise known["Confidence"].failure("compares nothing without Verifier: Deterministic")
        spec.verification.confidence = confidence
    if "MinBids" in known and known["MinBids"].integer(0, 10_000):
        raise known["MinBids"].failure("is not supported: an auction waits for every live node; write 0")
    if "TargetingMode" in known and known["TargetingMode"].text().lower() not in ("", "any", "false"):
        raise known["TargetingMode"].failure("is not supported: use Concurrency")
