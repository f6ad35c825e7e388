"""Job specs: defaults, digests, inline data, and what is refused by the name of its field."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given

from bacalhau.model.cid import RAW, Cid
from bacalhau.model.job import DockerTask, JobSpec, NetworkMode, Timeouts, WasmTask
from bacalhau.model.refusals import RefusalReason, Refused
from bacalhau.model.resources import DEFAULT_JOB_RESOURCES
from bacalhau.v1 import auction_pb2, job_pb2, market_pb2
from bacalhau.wire import limits, market
from bacalhau.wire.job import spec_digest, spec_from_proto, spec_to_proto
from tests.wire import strategies

if TYPE_CHECKING:
    from collections.abc import Callable

MODULE = Cid.of(RAW, b"module")
CID = str(Cid.of(RAW, b"content"))


def refusal_of(from_proto: Callable[[Any], Any], message: Any) -> str:
    with pytest.raises(Refused) as caught:
        from_proto(message)
    assert caught.value.refusal.reason is RefusalReason.MALFORMED
    return caught.value.refusal.message


# Defaults and digests.


def test_an_empty_spec_gets_every_default() -> None:
    spec = spec_from_proto(job_pb2.JobSpec(docker=job_pb2.DockerTask(image="ubuntu")))
    assert spec == JobSpec(task=DockerTask("ubuntu"))
    assert spec.resources == DEFAULT_JOB_RESOURCES
    assert spec.timeouts == Timeouts(execution_us=1_800_000_000, queue_us=None, total_us=None)


def test_resources_that_are_not_given_get_their_default_each() -> None:
    message = job_pb2.JobSpec(docker=job_pb2.DockerTask(image="ubuntu"))
    message.resources.memory_bytes = 7
    assert spec_from_proto(message).resources == replace(DEFAULT_JOB_RESOURCES, memory_bytes=7)


def test_a_wasm_task_gets_its_entry_point_and_its_imports_the_cid_as_name() -> None:
    message = job_pb2.JobSpec(wasm=job_pb2.WasmTask(module_cid=str(MODULE)))
    message.wasm.import_modules.add(cid=CID)
    task = spec_from_proto(message).task
    assert isinstance(task, WasmTask)
    assert task.entry_point == "_start"
    assert task.imports[0].name == CID


def test_an_input_without_target_is_mounted_at_inputs() -> None:
    message = docker()
    message.inputs.add(cid=CID)
    assert spec_from_proto(message).inputs[0].target == "/inputs"


def test_a_slash_at_the_end_of_a_target_is_dropped() -> None:
    message = docker()
    message.inputs.add(cid=CID, target="/data/")
    assert spec_from_proto(message).inputs[0].target == "/data"


@given(strategies.specs())
def test_a_spec_has_one_digest_on_both_sides(spec: JobSpec) -> None:
    received = spec_from_proto(job_pb2.JobSpec.FromString(spec_to_proto(spec).SerializeToString()))
    assert spec_digest(received) == spec_digest(spec)
    assert spec_digest(replace(spec, count=spec.count % limits.MAX_COUNT + 1)) != spec_digest(spec)


def test_the_digest_is_of_the_bytes_that_winners_receive() -> None:
    spec = JobSpec(task=DockerTask("ubuntu", command=("echo", "Hello")), network=NetworkMode.FULL)
    award_bytes = spec_to_proto(spec).SerializeToString(deterministic=True)
    assert spec_digest(spec) == hashlib.sha256(award_bytes).digest()


# Inline data.


def test_inline_data_becomes_the_cid_that_the_store_gives() -> None:
    message = docker()
    message.inputs.add(inline_data=b"hello", target="/a")
    message.inputs.add(cid=CID, target="/b")
    spec = spec_from_proto(message, inline=lambda data: Cid.of(RAW, data))
    assert [str(source.cid) for source in spec.inputs] == [str(Cid.of(RAW, b"hello")), CID]


def test_inline_data_is_not_stored_for_a_spec_that_is_refused() -> None:
    stored: list[bytes] = []

    def store(data: bytes) -> Cid:
        stored.append(data)
        return Cid.of(RAW, data)

    message = docker()
    message.inputs.add(inline_data=b"hello", target="/a")
    message.inputs.add(cid="nonsense", target="/b")
    with pytest.raises(Refused):
        spec_from_proto(message, inline=store)
    assert not stored


def test_inline_data_in_an_award_is_refused() -> None:
    message = market_pb2.Award()
    message.execution_id = message.job_id = message.offer_id = message.bid_id = "a"
    message.clearing_rule = auction_pb2.CLEARING_RULE_FIRST_PRICE
    message.bid_set_digest = bytes(32)
    message.lease.seconds = 1
    message.spec.CopyFrom(docker())
    message.spec.inputs.add(inline_data=b"x")
    assert refusal_of(market.award_from_proto, message) == (
        "spec.inputs[0].inline_data is not allowed here: name the CID of the content"
    )


# What is refused, and how the refusal names it.


def docker(**changes: Any) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(docker=job_pb2.DockerTask(image="ubuntu"), **changes)


def source(**values: Any) -> dict[str, Any]:
    return {"inputs": [job_pb2.InputSource(**{"cid": CID, **values})]}


def constraint(**values: Any) -> dict[str, Any]:
    return {"constraints": [job_pb2.Constraint(**values)]}


BAD_SPECS: list[tuple[str, job_pb2.JobSpec, str]] = [
    ("no-task", job_pb2.JobSpec(), "task is not set: a job has a docker or a wasm task"),
    ("no-image", job_pb2.JobSpec(docker=job_pb2.DockerTask()), "docker.image is missing"),
    (
        "relative-target",
        docker(**source(target="foo")),
        "inputs[0].target must be an absolute path, got 'foo'",
    ),
    ("parent-target", docker(**source(target="/a/../b")), "inputs[0].target must not have '..'"),
    ("dot-target", docker(**source(target="/a/./b")), "inputs[0].target must not have '..', '.'"),
    ("double-slash", docker(**source(target="/a//b")), "inputs[0].target must not have '..', '.' or '//'"),
    ("root-target", docker(**source(target="/")), "inputs[0].target must not be the root folder"),
    ("nul-target", docker(**source(target="/a\0")), "inputs[0].target must have no NUL"),
    ("long-target", docker(**source(target="/" + "a" * 256)), "inputs[0].target has a part longer than 255"),
    ("longer-target", docker(**source(target="/a" * 2049)), "inputs[0].target must have at most 4096 bytes"),
    ("bad-cid", docker(**source(cid="nonsense")), "inputs[0].cid is no CID: "),
    ("no-cid", docker(**source(cid="")), "inputs[0].cid is missing"),
    ("both-contents", docker(**source(inline_data=b"x")), "inputs[0] has both a cid and inline_data"),
    (
        "twice-the-target",
        docker(inputs=[job_pb2.InputSource(cid=CID)] * 2),
        "inputs: two of them have the same target, which has '/inputs' twice",
    ),
    (
        "output-over-input",
        docker(**source(target="/a"), outputs=[job_pb2.OutputPath(name="o", path="/a/")]),
        "inputs[0].target is the path of an output too: '/a'",
    ),
    (
        "many-inputs",
        docker(inputs=[job_pb2.InputSource(cid=CID)] * 101),
        "inputs has 101 entries, at most 100",
    ),
    ("output-name", docker(outputs=[job_pb2.OutputPath(name="../x", path="/o")]), "outputs[0].name must be"),
    (
        "reserved-output",
        docker(outputs=[job_pb2.OutputPath(name="stdout", path="/o")]),
        "outputs[0].name must not be 'stdout': every result has a file of that name",
    ),
    (
        "twice-the-output",
        docker(outputs=[job_pb2.OutputPath(name="o", path=path) for path in ("/a", "/b")]),
        "outputs has 'o' twice",
    ),
    ("negative-count", docker(count=-1), "count must be from 1 to 1000, got -1"),
    ("large-count", docker(count=1001), "count must be from 1 to 1000, got 1001"),
    ("env-name", docker(env=[job_pb2.EnvironmentVariable(name="")]), "env[0].name must not be empty"),
    ("env-equals", docker(env=[job_pb2.EnvironmentVariable(name="A=B")]), "env[0].name must have no '='"),
    (
        "env-nul",
        docker(env=[job_pb2.EnvironmentVariable(name="A", value="\0")]),
        "env[0].value must have no NUL",
    ),
    ("env-twice", docker(env=[job_pb2.EnvironmentVariable(name="A")] * 2), "env has 'A' twice"),
    (
        "env-size",
        docker(env=[job_pb2.EnvironmentVariable(name="A", value="x" * 2**17)]),
        "env has 131075 bytes, at most 131072 are allowed",
    ),
    (
        "many-arguments",
        job_pb2.JobSpec(docker=job_pb2.DockerTask(image="ubuntu", command=["x"] * 1001)),
        "docker.entrypoint and docker.command has 1001 entries",
    ),
    (
        "large-arguments",
        job_pb2.JobSpec(docker=job_pb2.DockerTask(image="ubuntu", command=["x" * 2**17])),
        "docker.entrypoint and docker.command have 131073 bytes, at most 131072",
    ),
    (
        "working-directory",
        job_pb2.JobSpec(docker=job_pb2.DockerTask(image="ubuntu", working_directory="tmp")),
        "docker.working_directory must be an absolute path",
    ),
    ("label-key", docker(labels=[job_pb2.Label(value="x")]), "labels[0].key must not be empty"),
    (
        "label-size",
        docker(labels=[job_pb2.Label(key="x" * 256)]),
        "labels[0].key has 256 characters, at most 255",
    ),
    ("label-control", docker(labels=[job_pb2.Label(key="\x1b[2J")]), "labels[0].key must have no control"),
    ("label-twice", docker(labels=[job_pb2.Label(key="a")] * 2), "labels has 'a' twice"),
    ("many-labels", docker(labels=[job_pb2.Label(key="a")] * 101), "labels has 101 entries"),
    ("negative-memory", docker(resources={"memory_bytes": -1}), "resources.memory_bytes must be from 0 to"),
    ("large-cpu", docker(resources={"cpu_millicores": 2**62}), "resources.cpu_millicores must be from 0 to"),
    ("network", docker(network=9), "network has the value 9, which this version does not know"),
    ("price", docker(max_price_microcredits=-1), "max_price_microcredits must be from 0 to"),
    ("operator", docker(**constraint(key="a")), "constraints[0].operator is not set"),
    ("operator-9", docker(**constraint(key="a", operator=9)), "constraints[0].operator has the value 9"),
    (
        "no-values",
        docker(**constraint(key="a", operator=1)),
        "constraints[0].values must have at least one value",
    ),
    (
        "values",
        docker(**constraint(key="a", operator=3, values=["x"])),
        "constraints[0].values must have no values",
    ),
    (
        "no-time",
        docker(timeouts=job_pb2.Timeouts(execution=Duration())),
        "timeouts.execution must be from 0.000001 s to 2592000 s, got 0 s",
    ),
    (
        "long-time",
        docker(timeouts=job_pb2.Timeouts(total=Duration(seconds=2592000, nanos=1000))),
        "timeouts.total must be from 0.000001 s to 2592000 s, got 2592000.000001 s",
    ),
    (
        "negative-time",
        docker(timeouts=job_pb2.Timeouts(queue=Duration(seconds=-1))),
        "timeouts.queue must not be negative",
    ),
    (
        "fraction",
        docker(timeouts=job_pb2.Timeouts(queue=Duration(nanos=1))),
        "timeouts.queue must be whole microseconds",
    ),
    ("module", job_pb2.JobSpec(wasm=job_pb2.WasmTask()), "wasm.module_cid is missing"),
    (
        "import-twice",
        job_pb2.JobSpec(
            wasm=job_pb2.WasmTask(module_cid=CID, import_modules=[job_pb2.WasmImport(name="m", cid=CID)] * 2)
        ),
        "wasm.import_modules has 'm' twice",
    ),
]


@pytest.mark.parametrize(("message", "expected"), [pytest.param(m, e, id=i) for i, m, e in BAD_SPECS])
def test_a_bad_spec_is_refused_by_the_name_of_its_field(message: job_pb2.JobSpec, expected: str) -> None:
    assert refusal_of(lambda m: spec_from_proto(m, inline=lambda data: MODULE), message).startswith(expected)


@pytest.mark.parametrize(
    "image",
    ["Ubuntu", "ubuntu:", "a b", "ubuntu@sha256:12", "-x", "a//b", "http://x/y", "a" * 256, "x\n", "a/../b"],
)
def test_what_is_no_image_reference_is_refused(image: str) -> None:
    message = job_pb2.JobSpec(docker=job_pb2.DockerTask(image=image))
    assert "docker.image must be an image reference" in refusal_of(spec_from_proto, message)


def test_a_spec_above_the_size_limit_is_too_large_and_not_read() -> None:
    message = docker(name="x" * (limits.MAX_SPEC_BYTES + 1))
    with pytest.raises(Refused) as caught:
        spec_from_proto(message)
    assert caught.value.refusal.reason is RefusalReason.TOO_LARGE


@pytest.mark.parametrize("place", ["the job spec", "docker", "inputs"])
def test_a_field_of_a_later_version_in_a_spec_is_unsupported_rather_than_ignored(place: str) -> None:
    message = docker(**source())
    inner = {"the job spec": message, "docker": message.docker, "inputs": message.inputs[0]}[place]
    inner.MergeFromString(b"\xa2\x06\x03new")  # field 100
    with pytest.raises(Refused, match=f"{place} has a field of number 100") as caught:
        spec_from_proto(message)
    assert caught.value.refusal.reason is RefusalReason.UNSUPPORTED


def test_inline_data_above_its_limit_is_too_large() -> None:
    message = docker(inputs=[job_pb2.InputSource(inline_data=bytes(limits.MAX_INLINE_BYTES + 1))])
    with pytest.raises(Refused) as caught:
        spec_from_proto(message, inline=lambda data: MODULE)
    assert caught.value.refusal.reason is RefusalReason.TOO_LARGE
