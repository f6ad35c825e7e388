"""A job as the file that `bacalhau create` takes: the v1.9 form of the Go Bacalhau, in its order of keys.

What this project has beyond it are three keys, `MaxPrice` (credits), `Auction` and `Verification`. A draft's
references to this machine are written as sources of type localDirectory and inline, so that reading the file gives
the same draft.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bacalhau.cli import auctionterms
from bacalhau.cli.mounts import DATA_REFERENCE, FILE_REFERENCE
from bacalhau.cli.verifyflags import plain_verification
from bacalhau.model import quantities
from bacalhau.model.units import SECOND_US

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

    from bacalhau.v1.job_pb2 import Constraint, InputSource, JobSpec, Timeouts
    from bacalhau.v1.resources_pb2 import Resources


def write_job_file(spec: JobSpec) -> str:
    """The job as YAML."""
    from bacalhau.cli.output import to_yaml

    return to_yaml(plain_job_file(spec))


def plain_job_file(spec: JobSpec) -> dict[str, Any]:
    """The job file as plain data; what is not set is left out."""
    job: dict[str, Any] = {"Name": spec.name} if spec.name else {}
    job |= {"Type": "batch", "Count": spec.count or 1}
    if spec.labels:
        job["Labels"] = {label.key: label.value for label in spec.labels}
    if spec.constraints:
        job["Constraints"] = [_constraint(constraint) for constraint in spec.constraints]
    if spec.HasField("max_price_microcredits"):
        job["MaxPrice"] = quantities.format_price(spec.max_price_microcredits)
    if spec.HasField("auction"):
        job["Auction"] = auctionterms.plain_terms(spec.auction)
    if verification := plain_verification(spec):
        job["Verification"] = verification
    task: dict[str, Any] = {"Name": "main", "Engine": _engine(spec), "Publisher": {"Type": "ipfs"}}
    if spec.env:
        task["Env"] = {variable.name: variable.value for variable in spec.env}
    if spec.inputs:
        task["InputSources"] = [_input(source) for source in spec.inputs]
    if spec.outputs:
        task["ResultPaths"] = [{"Name": output.name, "Path": output.path} for output in spec.outputs]
    for key, value in (
        ("Resources", _resources(spec.resources)),
        ("Network", _network(spec.network)),
        ("Timeouts", _timeouts(spec.timeouts)),
    ):
        if value:
            task[key] = value
    return job | {"Tasks": [task]}


def _engine(spec: JobSpec) -> dict[str, Any]:
    params: dict[str, Any]
    if spec.HasField("docker"):
        params = {"Image": spec.docker.image}
        if spec.docker.entrypoint:
            params["Entrypoint"] = list(spec.docker.entrypoint)
        if spec.docker.command:
            params["Parameters"] = list(spec.docker.command)
        if spec.docker.working_directory:
            params["WorkingDirectory"] = spec.docker.working_directory
        return {"Type": "docker", "Params": params}
    params = {"EntryModule": {"Source": _source(spec.wasm.module_cid)}}
    if spec.wasm.entry_point:
        params["Entrypoint"] = spec.wasm.entry_point
    if spec.wasm.arguments:
        params["Parameters"] = list(spec.wasm.arguments)
    if spec.wasm.import_modules:
        params["ImportModules"] = [
            ({"Alias": module.name} if module.name else {}) | {"Source": _source(module.cid)}
            for module in spec.wasm.import_modules
        ]
    return {"Type": "wasm", "Params": params}


def _input(source: InputSource) -> dict[str, Any]:
    written: dict[str, Any] = {"Alias": source.alias} if source.alias else {}
    if source.cid:
        written["Source"] = _source(source.cid)
    else:
        import base64

        data = base64.b64encode(source.inline_data).decode()
        written["Source"] = _source(f"{DATA_REFERENCE};base64,{data}")
    return written | {"Target": source.target or "/inputs"}


def _source(reference: str) -> dict[str, Any]:
    if reference.startswith(FILE_REFERENCE):
        return {"Type": "localDirectory", "Params": {"SourcePath": reference.removeprefix(FILE_REFERENCE)}}
    if reference.startswith(DATA_REFERENCE):
        return {"Type": "inline", "Params": {"URL": reference}}
    return {"Type": "ipfs", "Params": {"CID": reference}}


def _constraint(constraint: Constraint) -> dict[str, Any]:
    from bacalhau.v1 import job_pb2

    operators: dict[int, str] = {
        job_pb2.CONSTRAINT_OPERATOR_IN: "in",
        job_pb2.CONSTRAINT_OPERATOR_NOT_IN: "notin",
        job_pb2.CONSTRAINT_OPERATOR_EXISTS: "exists",
        job_pb2.CONSTRAINT_OPERATOR_NOT_EXISTS: "!",
    }
    written: dict[str, Any] = {"Key": constraint.key, "Operator": operators[constraint.operator]}
    return written | ({"Values": list(constraint.values)} if constraint.values else {})


def _resources(resources: Resources) -> dict[str, str]:
    written = {
        "CPU": quantities.format_cpu(resources.cpu_millicores) if resources.cpu_millicores else "",
        "Memory": quantities.format_bytes(resources.memory_bytes) if resources.memory_bytes else "",
        "Disk": quantities.format_bytes(resources.disk_bytes) if resources.disk_bytes else "",
        "GPU": str(resources.gpu_count) if resources.gpu_count else "",
    }
    return {key: value for key, value in written.items() if value}


def _network(mode: int) -> dict[str, str]:
    from bacalhau.v1 import job_pb2

    names: dict[int, str] = {
        job_pb2.NETWORK_MODE_NONE: "None",
        job_pb2.NETWORK_MODE_FULL: "Full",
        job_pb2.NETWORK_MODE_HOST: "Host",
    }
    return {"Type": names[mode]} if mode in names else {}


def _timeouts(timeouts: Timeouts) -> dict[str, int | str]:
    written: dict[str, int | str] = {}
    for key, name in (
        ("ExecutionTimeout", "execution"),
        ("QueueTimeout", "queue"),
        ("TotalTimeout", "total"),
    ):
        if timeouts.HasField(name):
            written[key] = _seconds(getattr(timeouts, name))
    return written


def _seconds(duration: Duration) -> int | str:
    """Whole seconds as the Go Bacalhau has them, else a duration with a unit, which only we read."""
    duration_us = duration.ToMicroseconds()
    seconds, rest = divmod(duration_us, SECOND_US)
    return quantities.format_duration(duration_us) if rest else seconds
