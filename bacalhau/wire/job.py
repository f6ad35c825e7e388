"""Job specs, to and from job.proto: every field checked, every default filled in.

A refusal names the field as the sender of the spec knows it, for instance "inputs[0].target must be an
absolute path, got 'foo'".
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from google.protobuf.unknown_fields import UnknownFieldSet

from bacalhau.model.job import (
    DEFAULT_EXECUTION_TIMEOUT_US,
    Constraint,
    ConstraintOperator,
    DockerTask,
    InputSource,
    JobSpec,
    NetworkMode,
    OutputPath,
    Timeouts,
    WasmImport,
    WasmTask,
)
from bacalhau.model.refusals import RefusalReason, refused
from bacalhau.v1 import job_pb2
from bacalhau.wire import fields, limits
from bacalhau.wire.auction import check_reserve, terms_from_proto, terms_to_proto
from bacalhau.wire.remembered import remembered
from bacalhau.wire.resources import job_resources_from_proto, price_from_proto, resources_to_proto
from bacalhau.wire.verification import verification_from_proto, verification_to_proto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from google.protobuf.message import Message

    from bacalhau.model.cid import Cid

DEFAULT_ENTRY_POINT: Final = "_start"
DEFAULT_TARGET: Final = "/inputs"
# The result folder has these of its own beside the outputs.
RESERVED_OUTPUT_NAMES: Final = frozenset({"stdout", "stderr", "exitCode"})

# The grammar of the distribution project's reference package: [host[:port]/]path[:tag][@digest].
_HOST: Final = r"(?:[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*(?:\.[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*)*|\[[0-9A-Fa-f:]+\])"
_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_IMAGE: Final = re.compile(
    rf"(?P<name>(?:{_HOST}(?::[0-9]+)?/)?{_PART}(?:/{_PART})*)"
    r"(?::\w[\w.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,128})?",
    re.ASCII,
)


def spec_digest(spec: JobSpec) -> bytes:
    """SHA-256 of the spec as winners receive it, which the offer names and the award has to fit."""
    return hashlib.sha256(spec_bytes(spec)).digest()


def spec_to_proto(spec: JobSpec) -> job_pb2.JobSpec:
    return job_pb2.JobSpec.FromString(spec_bytes(spec))


@remembered
def spec_bytes(spec: JobSpec) -> bytes:
    """The spec as winners receive it, always the same bytes."""
    message = job_pb2.JobSpec(
        name=spec.name,
        labels=labels_to_proto(spec.labels),
        count=spec.count,
        env=[job_pb2.EnvironmentVariable(name=name, value=value) for name, value in spec.env],
        inputs=[
            job_pb2.InputSource(cid=str(source.cid), target=source.target, alias=source.alias)
            for source in spec.inputs
        ],
        outputs=[job_pb2.OutputPath(name=output.name, path=output.path) for output in spec.outputs],
        resources=resources_to_proto(spec.resources),
        network=fields.number(spec.network),
        timeouts=_timeouts_to_proto(spec.timeouts),
        constraints=constraints_to_proto(spec.constraints),
        max_price_microcredits=spec.max_price_microcredits,
        auction=terms_to_proto(spec.auction),
        verification=verification_to_proto(spec.verification),
    )
    match spec.task:
        case DockerTask() as docker:
            message.docker.image = docker.image
            message.docker.entrypoint.extend(docker.entrypoint)
            message.docker.command.extend(docker.command)
            message.docker.working_directory = docker.working_directory
        case WasmTask() as wasm:
            message.wasm.module_cid = str(wasm.module)
            message.wasm.entry_point = wasm.entry_point
            message.wasm.arguments.extend(wasm.arguments)
            message.wasm.import_modules.extend(
                job_pb2.WasmImport(name=module.name, cid=str(module.cid)) for module in wasm.imports
            )
    return message.SerializeToString(deterministic=True)


def spec_from_proto(
    message: job_pb2.JobSpec, *, inline: Callable[[bytes], Cid] | None = None, prefix: str = ""
) -> JobSpec:
    """The spec with its defaults filled in.

    `inline` stores an input's inline data and gives its CID; it is called last, so never for a spec that is
    refused. Without it inline data is refused. `prefix` goes before each field's name. Raises Refused:
    MALFORMED, UNSUPPORTED for a field of a later version, TOO_LARGE above MAX_SPEC_BYTES or MAX_INLINE_BYTES.
    """
    _check_size(message, prefix)
    _check_known(message, prefix.removesuffix(".") or "the job spec")
    task = _task_from_proto(message, prefix)
    price = message.max_price_microcredits if message.HasField("max_price_microcredits") else None
    outputs = _outputs_from_proto(message.outputs, f"{prefix}outputs")
    targets = _targets_from_proto(message.inputs, f"{prefix}inputs", outputs)
    count = fields.whole(message.count or 1, f"{prefix}count", 1, limits.MAX_COUNT)
    spec = JobSpec(
        task=task,
        name=fields.name(message.name, f"{prefix}name"),
        labels=labels_from_proto(message.labels, f"{prefix}labels"),
        count=count,
        env=_env_from_proto(message.env, f"{prefix}env"),
        outputs=outputs,
        resources=job_resources_from_proto(message.resources, f"{prefix}resources"),
        network=network_from_proto(message.network, f"{prefix}network"),
        timeouts=_timeouts_from_proto(message.timeouts, f"{prefix}timeouts"),
        constraints=constraints_from_proto(message.constraints, f"{prefix}constraints"),
        max_price_microcredits=None
        if price is None
        else price_from_proto(price, f"{prefix}max_price_microcredits"),
        auction=terms_from_proto(message.auction, f"{prefix}auction"),
        verification=verification_from_proto(message.verification, count, f"{prefix}verification"),
    )
    check_reserve(spec.auction.rule, price, f"{prefix}max_price_microcredits")
    sources = _sources_from_proto(message.inputs, f"{prefix}inputs", targets, inline)
    return replace(spec, inputs=sources)


def _check_size(message: job_pb2.JobSpec, prefix: str) -> None:
    inline_bytes = sum(len(source.inline_data) for source in message.inputs)
    if inline_bytes > limits.MAX_INLINE_BYTES:
        raise refused(
            RefusalReason.TOO_LARGE,
            f"{prefix}inputs have {inline_bytes} bytes of inline data, at most {limits.MAX_INLINE_BYTES} are "
            "allowed: add the content to IPFS and name its CID",
            inline_bytes=inline_bytes,
            limit_bytes=limits.MAX_INLINE_BYTES,
        )
    spec_bytes = message.ByteSize() - inline_bytes
    if spec_bytes > limits.MAX_SPEC_BYTES:
        raise refused(
            RefusalReason.TOO_LARGE,
            f"the job spec has {spec_bytes} bytes without its inline data, at most {limits.MAX_SPEC_BYTES} "
            "are allowed: put what is large into an input",
            spec_bytes=spec_bytes,
            limit_bytes=limits.MAX_SPEC_BYTES,
        )


def _check_known(message: Message, field: str) -> None:
    """Refuses what a later version would heed: without it the job is not the one that was asked for."""
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise refused(
            RefusalReason.UNSUPPORTED,
            f"{field} has a field of number {unknown[0].field_number}, which this version does not support: "
            "leave it out, or use a newer node",
        )
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for inner in value if descriptor.is_repeated else (value,):
                _check_known(inner, descriptor.name)


def _task_from_proto(message: job_pb2.JobSpec, prefix: str) -> DockerTask | WasmTask:
    match message.WhichOneof("task"):
        case "docker":
            return _docker_from_proto(message.docker, f"{prefix}docker")
        case "wasm":
            return _wasm_from_proto(message.wasm, f"{prefix}wasm")
        case _:
            raise fields.malformed(f"{prefix}task", "is not set: a job has a docker or a wasm task")


def _docker_from_proto(message: job_pb2.DockerTask, field: str) -> DockerTask:
    _check_strings((*message.entrypoint, *message.command), f"{field}.entrypoint and {field}.command")
    directory = message.working_directory
    if directory and directory != "/":
        directory = fields.absolute_path(directory, f"{field}.working_directory")
    return DockerTask(
        image=image_from_proto(message.image, f"{field}.image"),
        entrypoint=tuple(message.entrypoint),
        command=tuple(message.command),
        working_directory=directory,
    )


def image_from_proto(image: str, field: str) -> str:
    """An image reference as `docker run` takes it; only its syntax is checked."""
    if not image:
        raise fields.malformed(field, "is missing: name an image, for instance 'ubuntu'")
    found = _IMAGE.fullmatch(image) if len(image) <= limits.MAX_IMAGE_CHARS else None
    if found is None or len(found["name"]) > limits.MAX_IMAGE_NAME_CHARS:
        hint = "; repository names are lower case" if image != image.lower() else ""
        raise fields.malformed(
            field, f"must be an image reference such as 'ubuntu:24.04', got {fields.shown(image)}{hint}"
        )
    return image


def _wasm_from_proto(message: job_pb2.WasmTask, field: str) -> WasmTask:
    _check_strings(message.arguments, f"{field}.arguments")
    fields.at_most(message.import_modules, f"{field}.import_modules", limits.MAX_WASM_IMPORTS)
    imports = []
    for index, module in enumerate(message.import_modules):
        at = f"{field}.import_modules[{index}]"
        cid = fields.cid(module.cid, f"{at}.cid")
        imports.append(WasmImport(fields.name(module.name, f"{at}.name") or str(cid), cid))
    fields.distinct((module.name for module in imports), f"{field}.import_modules")
    return WasmTask(
        module=fields.cid(message.module_cid, f"{field}.module_cid"),
        entry_point=fields.name(message.entry_point, f"{field}.entry_point") or DEFAULT_ENTRY_POINT,
        arguments=tuple(message.arguments),
        imports=tuple(imports),
    )


def _check_strings(arguments: Sequence[str], field: str) -> None:
    fields.at_most(arguments, field, limits.MAX_ARGUMENTS)
    for argument in arguments:
        fields.without_nul(argument, field)
    size = sum(len(argument.encode()) + 1 for argument in arguments)
    if size > limits.MAX_ARGUMENT_BYTES:
        raise fields.malformed(
            field,
            f"have {size} bytes, at most {limits.MAX_ARGUMENT_BYTES} are allowed: use an input for more",
        )


def _env_from_proto(
    variables: Sequence[job_pb2.EnvironmentVariable], field: str
) -> tuple[tuple[str, str], ...]:
    fields.at_most(variables, field, limits.MAX_ENVIRONMENT)
    size = 0
    for index, variable in enumerate(variables):
        at = f"{field}[{index}]"
        if "=" in variable.name:
            raise fields.malformed(f"{at}.name", f"must have no '=', got {fields.shown(variable.name)}")
        fields.name(variable.name, f"{at}.name", required=True)
        fields.without_nul(variable.value, f"{at}.value")
        size += len(variable.name.encode()) + len(variable.value.encode()) + 2
    if size > limits.MAX_ENVIRONMENT_BYTES:
        raise fields.malformed(
            field,
            f"has {size} bytes, at most {limits.MAX_ENVIRONMENT_BYTES} are allowed: use an input for more",
        )
    fields.distinct((variable.name for variable in variables), field)
    return tuple((variable.name, variable.value) for variable in variables)


def _outputs_from_proto(messages: Sequence[job_pb2.OutputPath], field: str) -> tuple[OutputPath, ...]:
    fields.at_most(messages, field, limits.MAX_OUTPUTS)
    outputs = []
    for index, output in enumerate(messages):
        at = f"{field}[{index}]"
        name = fields.path_component(output.name, f"{at}.name")
        if name in RESERVED_OUTPUT_NAMES:
            raise fields.malformed(
                f"{at}.name", f"must not be {name!r}: every result has a file of that name"
            )
        outputs.append(OutputPath(name, fields.absolute_path(output.path, f"{at}.path")))
    fields.distinct((output.name for output in outputs), field)
    fields.distinct((output.path for output in outputs), field)
    return tuple(outputs)


def _targets_from_proto(
    messages: Sequence[job_pb2.InputSource], field: str, outputs: Iterable[OutputPath]
) -> tuple[str, ...]:
    fields.at_most(messages, field, limits.MAX_INPUTS)
    targets = tuple(
        fields.absolute_path(source.target or DEFAULT_TARGET, f"{field}[{index}].target")
        for index, source in enumerate(messages)
    )
    fields.distinct(targets, f"{field}: two of them have the same target, which")
    taken = {output.path for output in outputs}
    for index, target in enumerate(targets):
        if target in taken:
            raise fields.malformed(f"{field}[{index}].target", f"is the path of an output too: {target!r}")
    return targets


def _sources_from_proto(
    messages: Sequence[job_pb2.InputSource],
    field: str,
    targets: tuple[str, ...],
    inline: Callable[[bytes], Cid] | None,
) -> tuple[InputSource, ...]:
    cids: list[Cid | None] = []
    for index, source in enumerate(messages):
        at = f"{field}[{index}]"
        fields.name(source.alias, f"{at}.alias")
        if not source.inline_data:
            cids.append(fields.cid(source.cid, f"{at}.cid"))
            continue
        if source.cid:
            raise fields.malformed(at, "has both a cid and inline_data: set one of them")
        if inline is None:
            raise fields.malformed(f"{at}.inline_data", "is not allowed here: name the CID of the content")
        cids.append(None)
    sources = []
    for source, target, cid in zip(messages, targets, cids, strict=True):
        if cid is None:
            assert inline is not None  # refused above
            cid = inline(source.inline_data)
        sources.append(InputSource(cid, target, source.alias))
    return tuple(sources)


def _timeouts_to_proto(timeouts: Timeouts) -> job_pb2.Timeouts:
    return job_pb2.Timeouts(
        execution=fields.duration(timeouts.execution_us),
        queue=None if timeouts.queue_us is None else fields.duration(timeouts.queue_us),
        total=None if timeouts.total_us is None else fields.duration(timeouts.total_us),
    )


def _timeouts_from_proto(message: job_pb2.Timeouts, field: str) -> Timeouts:
    def read(name: str, low: int) -> int | None:
        if not message.HasField(name):
            return None
        return fields.duration_us(
            getattr(message, name), f"{field}.{name}", low=low, high=limits.MAX_TIMEOUT_US
        )

    execution = read("execution", 1)
    return Timeouts(
        execution_us=DEFAULT_EXECUTION_TIMEOUT_US if execution is None else execution,
        queue_us=read("queue", 0),
        total_us=read("total", 1),
    )


def network_from_proto(value: int, field: str) -> NetworkMode:
    return fields.member(NetworkMode, value, field) if value else NetworkMode.NONE


def labels_to_proto(labels: Iterable[tuple[str, str]]) -> list[job_pb2.Label]:
    return [job_pb2.Label(key=key, value=value) for key, value in labels]


def labels_from_proto(messages: Sequence[job_pb2.Label], field: str) -> tuple[tuple[str, str], ...]:
    fields.at_most(messages, field, limits.MAX_LABELS)
    labels = tuple(
        (
            fields.name(label.key, f"{field}[{index}].key", required=True),
            fields.name(label.value, f"{field}[{index}].value"),
        )
        for index, label in enumerate(messages)
    )
    fields.distinct((key for key, _ in labels), field)
    return labels


def constraints_to_proto(constraints: Iterable[Constraint]) -> list[job_pb2.Constraint]:
    return [
        job_pb2.Constraint(
            key=constraint.key, operator=fields.number(constraint.operator), values=constraint.values
        )
        for constraint in constraints
    ]


def constraints_from_proto(messages: Sequence[job_pb2.Constraint], field: str) -> tuple[Constraint, ...]:
    fields.at_most(messages, field, limits.MAX_CONSTRAINTS)
    return tuple(_constraint_from_proto(constraint, f"{field}[{i}]") for i, constraint in enumerate(messages))


def _constraint_from_proto(message: job_pb2.Constraint, field: str) -> Constraint:
    operator = fields.member(ConstraintOperator, message.operator, f"{field}.operator")
    fields.at_most(message.values, f"{field}.values", limits.MAX_CONSTRAINT_VALUES)
    compares = operator in (ConstraintOperator.IN, ConstraintOperator.NOT_IN)
    if compares != bool(message.values):
        wanted = "at least one value" if compares else "no values"
        raise fields.malformed(f"{field}.values", f"must have {wanted} with {operator.name}")
    return Constraint(
        fields.name(message.key, f"{field}.key", required=True),
        operator,
        tuple(fields.name(value, f"{field}.values[{i}]") for i, value in enumerate(message.values)),
    )
