"""Job files, as a job's draft: the v1.9 form here, the flat form of v0.3.29 in
`bacalhau.cli.jobfile_v1beta1`.

A file written for the Go Bacalhau runs unchanged. What this version does not support is refused by its name
with what to do instead; a key that nobody knows is refused too. `notes` collects what is taken in another
sense.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.cli import auctionterms
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
from bacalhau.cli.jobfile_read import Field, JobFileFailure, read_fields
from bacalhau.cli.mounts import checked_path, file_reference, is_cid
from bacalhau.cli.verifyflags import read_verification
from bacalhau.model import quantities

if TYPE_CHECKING:
    from bacalhau.v1.job_pb2 import InputSource, JobSpec, OutputPath


SET_BY_NODE = dict.fromkeys(
    ("ID", "State", "Version", "Revision", "CreateTime", "ModifyTime"),
    "the node sets it: leave it out",
)
_JOB_REFUSED = {
    "Priority": "raise MaxPrice instead",
    "Rollout": "leave it out",
} | SET_BY_NODE


def parse_job_file(text: str, file: str, note: Note = lambda text: None) -> JobSpec:
    """The draft that a YAML or JSON job file describes. Raises JobFileFailure."""
    root = read_fields(text, file)
    if not root.is_mapping:
        raise root.failure("a job file is a mapping of keys to values: Name, Type, Count, Tasks")
    if any(key.lower() in ("spec", "apiversion") for key, _ in root.keys()):  # noqa: SIM118  # a Field is no dict
        from bacalhau.cli.jobfile_v1beta1 import parse_flat

        return parse_flat(root, note)
    return _job(root, note)


def _job(root: Field, note: Note) -> JobSpec:
    from bacalhau.v1.job_pb2 import JobSpec

    fields = root.known(
        "Name",
        "Namespace",
        "Type",
        "Count",
        "Constraints",
        "Labels",
        "Meta",
        "MaxPrice",
        "Auction",
        "Verification",
        "Tasks",
        refused=_JOB_REFUSED,
    )
    spec = JobSpec(count=1)
    if "Name" in fields:
        spec.name = fields["Name"].text()
    if "Namespace" in fields and fields["Namespace"].text() not in ("", "default"):
        raise fields["Namespace"].failure(
            "only the namespace default is supported: use Labels to tell jobs apart"
        )
    if "Type" in fields and fields["Type"].text().lower() != "batch":
        raise fields["Type"].failure(
            f"jobs of type {fields['Type'].text()} are not supported: use batch, with Count for several nodes"
        )
    if "Count" in fields:
        spec.count = fields["Count"].integer(1, 10_000)
    for constraint in fields["Constraints"].items() if "Constraints" in fields else []:
        spec.constraints.append(parse_constraint(constraint))
    for name in ("Labels", "Meta"):
        _add_labels(fields.get(name), spec)
    if "MaxPrice" in fields:
        spec.max_price_microcredits = fields["MaxPrice"].parsed(quantities.parse_price)
    if "Auction" in fields:
        auctionterms.read_terms(fields["Auction"], spec)
    if "Verification" in fields:
        read_verification(fields["Verification"], spec)
    if "Tasks" not in fields or not (tasks := fields["Tasks"].items()):
        raise root.failure("has no Tasks: a job needs one, with an Engine")
    if len(tasks) > 1:
        raise tasks[1].failure("a job has one task: put each further one into a job of its own")
    _task(tasks[0], spec, note)
    return spec


def _task(task: Field, spec: JobSpec, note: Note) -> None:
    from bacalhau.cli.mounts import with_default_output

    fields = task.known(
        "Name",
        "Engine",
        "Publisher",
        "Env",
        "Meta",
        "InputSources",
        "ResultPaths",
        "Resources",
        "Network",
        "Timeouts",
    )
    if "Engine" not in fields:
        raise task.failure("has no Engine: write Engine: {Type: docker, Params: {Image: …}}")
    if "Publisher" in fields:
        check_publisher(fields["Publisher"], note)
    _add_labels(fields.get("Meta"), spec)
    for source in fields["InputSources"].items() if "InputSources" in fields else []:
        spec.inputs.append(parse_source(source, note))
    variables: dict[str, str] = {}
    _engine(fields["Engine"], spec, variables, note)
    for mounted in spec.inputs:
        if not mounted.target.startswith("/"):
            raise fields["InputSources"].failure(f"the target {mounted.target!r} should be absolute")
    for key, value in fields["Env"].keys() if "Env" in fields else ():
        add_variable(variables, key, value)
    set_variables(spec, variables)
    outputs = [_output(output) for output in fields["ResultPaths"].items()] if "ResultPaths" in fields else []
    spec.outputs.extend(with_default_output(outputs))
    if "Resources" in fields:
        set_resources(fields["Resources"], spec)
    if "Network" in fields:
        set_network(fields["Network"], spec)
    if "Timeouts" in fields:
        _timeouts(fields["Timeouts"], spec)


def _add_labels(field: Field | None, spec: JobSpec) -> None:
    """Labels, and what the Go Bacalhau calls Meta: both are there for people and filters."""
    for key, value in field.keys() if field is not None else ():
        if not key or any(label.key == key for label in spec.labels):
            raise value.failure("is no key of a label, or one that came before")
        spec.labels.add(key=key, value=value.text())


def _engine(engine: Field, spec: JobSpec, variables: dict[str, str], note: Note) -> None:
    fields = engine.known("Type", "Params")
    kind = fields["Type"].text().lower() if "Type" in fields else ""
    if kind == "docker" and "Params" in fields:
        _docker(fields["Params"], spec, variables)
    elif kind == "wasm" and "Params" in fields:
        _wasm(fields["Params"], spec, variables, note)
    elif kind in ("docker", "wasm"):
        raise engine.failure("has no Params")
    else:
        raise fields.get("Type", engine).failure(f"{kind or 'no type'} is no engine here: use docker or wasm")


def _docker(params: Field, spec: JobSpec, variables: dict[str, str]) -> None:
    fields = params.known("Image", "Entrypoint", "Parameters", "EnvironmentVariables", "WorkingDirectory")
    if "Image" not in fields or not fields["Image"].text():
        raise params.failure("has no Image")
    spec.docker.image = fields["Image"].text()
    spec.docker.entrypoint.extend(fields["Entrypoint"].texts() if "Entrypoint" in fields else [])
    spec.docker.command.extend(fields["Parameters"].texts() if "Parameters" in fields else [])
    if "WorkingDirectory" in fields and fields["WorkingDirectory"].text():
        spec.docker.working_directory = fields["WorkingDirectory"].parsed(
            lambda path: checked_path(path, "the working directory")
        )
    for pair in fields["EnvironmentVariables"].items() if "EnvironmentVariables" in fields else []:
        add_pair(variables, pair)


def _wasm(params: Field, spec: JobSpec, variables: dict[str, str], note: Note) -> None:
    """The task; its modules are sources of their own, or inputs named by their targets (since v1.7)."""
    from bacalhau.v1.job_pb2 import WasmImport

    fields = params.known("EntryModule", "Entrypoint", "Parameters", "EnvironmentVariables", "ImportModules")
    if "EntryModule" not in fields:
        raise params.failure("has no EntryModule")
    used: list[InputSource] = []
    module, _ = _module(fields["EntryModule"], spec, used, note)
    spec.wasm.module_cid = module
    spec.wasm.entry_point = fields["Entrypoint"].text() if "Entrypoint" in fields else ""
    spec.wasm.arguments.extend(fields["Parameters"].texts() if "Parameters" in fields else [])
    for item in fields["ImportModules"].items() if "ImportModules" in fields else []:
        reference, name = _module(item, spec, used, note)
        spec.wasm.import_modules.append(WasmImport(name=name, cid=reference))
    for key, value in fields["EnvironmentVariables"].keys() if "EnvironmentVariables" in fields else ():
        add_variable(variables, key, value)
    # A module that was given as an input is the program, not something that the program reads.
    kept = [source for source in spec.inputs if not any(source is module for module in used)]
    del spec.inputs[:]
    spec.inputs.extend(kept)


def _module(field: Field, spec: JobSpec, used: list[InputSource], note: Note) -> tuple[str, str]:
    """The reference of a module, and the name that it is imported by."""
    if field.is_mapping:
        source = parse_source(field, note)
        return reference_of(source), source.alias or ("" if source.target == "/inputs" else source.target)
    target = field.text()
    if is_cid(target):
        return target, ""
    for source in spec.inputs:
        if source.target.strip("/") == target.strip("/") or (source.alias and source.alias == target):
            used.append(source)
            return reference_of(source), target
    targets = ", ".join(source.target for source in spec.inputs) or "none"
    raise field.failure(f"no input source has the target {target!r} (targets: {targets})")


def parse_source(field: Field, note: Note) -> InputSource:
    """An input source of the v1.9 form. Raises JobFileFailure."""
    from bacalhau.v1.job_pb2 import InputSource

    fields = field.known("Source", "Alias", "Target")
    if "Source" not in fields:
        raise field.failure("has no Source: write Source: {Type: ipfs, Params: {CID: …}}")
    parsed = InputSource(alias=fields["Alias"].text() if "Alias" in fields else "")
    target = fields["Target"].text() if "Target" in fields else ""
    # wasm files of the Go project name a module's target without a slash.
    parsed.target = target or "/inputs"
    if target.startswith("/"):
        parsed.target = fields["Target"].parsed(lambda path: checked_path(path, "an input's target"))
    source = fields["Source"].known("Type", "Params")
    kind = source["Type"].text().lower() if "Type" in source else ""
    params = source.get("Params", fields["Source"])
    match kind:
        case "ipfs":
            known = params.known("CID")
            parsed.cid = parse_cid_field(known.get("CID", params))
        case "inline":
            known = params.known("URL")
            set_inline(parsed, known.get("URL", params), note)
        case "local" | "localdirectory":
            known = params.known("SourcePath", "ReadWrite", "CreateAs")
            if "ReadWrite" in known and known["ReadWrite"].truth():
                raise known["ReadWrite"].failure("inputs are read-only: write to a ResultPath")
            path = known.get("SourcePath", params)
            parsed.cid = path.parsed(file_reference)
            note(
                f"{path.path}: taken from this machine and added to IPFS; the Go Bacalhau takes it from "
                "the node"
            )
        case _:
            remedy = SOURCE_REMEDIES.get(kind, "use ipfs, inline or localDirectory")
            raise source.get("Type", fields["Source"]).failure(
                f"inputs of type {kind!r} are not supported: {remedy}"
            )
    return parsed


def _output(field: Field) -> OutputPath:
    from bacalhau.cli.mounts import parse_output

    fields = field.known("Name", "Path")
    if "Name" not in fields or "Path" not in fields:
        raise field.failure("needs a Name and a Path")
    name = fields["Name"].text()
    if ":" in name:
        raise fields["Name"].failure("is no name of a folder")
    return fields["Path"].parsed(lambda path: parse_output(f"{name}:{path}"))


def _timeouts(field: Field, spec: JobSpec) -> None:
    fields = field.known("ExecutionTimeout", "QueueTimeout", "TotalTimeout")
    for key, duration in (
        ("ExecutionTimeout", spec.timeouts.execution),
        ("QueueTimeout", spec.timeouts.queue),
        ("TotalTimeout", spec.timeouts.total),
    ):
        if key not in fields:
            continue
        duration_us = fields[key].parsed(quantities.parse_duration)
        if duration_us or key == "QueueTimeout":  # no time to queue is a wish; no time to run is none
            duration.SetInParent()
            duration.FromMicroseconds(duration_us)


__all__ = ["JobFileFailure", "parse_job_file"]
