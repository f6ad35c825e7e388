"""Job files: those of the Go Bacalhau run unchanged, what is wrong is named with its line."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.cli.jobfile import parse_job_file
from bacalhau.cli.jobfile_read import JobFileFailure
from bacalhau.cli.jobfile_write import plain_job_file, write_job_file
from bacalhau.cli.uploads import read_data_url
from bacalhau.v1 import job_pb2, verification_pb2

CID = "QmfKJT13h5k1b23ja3ZCVg5nFL9oKz2bVXc8oXgtwiwhjz"
WASM_URL = "data:application/wasm;base64,AGFzbQEAAAA="

FULL = f"""\
Name: everything
Type: batch
Namespace: default
Count: 2
Labels: {{team: a, nightly: ""}}
Constraints:
  - {{Key: region, Operator: In, Values: [eu, us]}}
  - {{Key: spot, Operator: "!"}}
Tasks:
  - Name: main
    Engine:
      Type: docker
      Params:
        Image: busybox:1.37.0
        Entrypoint: [/bin/sh]
        Parameters: [-c, "echo $A"]
        EnvironmentVariables: [A=1, B=2]
        WorkingDirectory: /work
    Publisher: {{Type: ipfs}}
    Env: {{A: "3"}}
    Meta: {{owner: me}}
    InputSources:
      - Source: {{Type: ipfs, Params: {{CID: {CID}}}}}
        Alias: data
        Target: /data
      - Source: {{Type: inline, Params: {{URL: "data:,hello%20there"}}}}
        Target: /note
    ResultPaths: [{{Name: model, Path: /model}}]
    Resources: {{CPU: 500m, Memory: 512Mb, Disk: 2Gi, GPU: 1}}
    Network: {{Type: Full}}
    Timeouts: {{ExecutionTimeout: 60, QueueTimeout: 0, TotalTimeout: 3600}}
"""


def test_every_key_of_v1_9_is_read() -> None:
    spec = parse_job_file(FULL, "job.yaml")
    assert (spec.name, spec.count) == ("everything", 2)
    assert [(label.key, label.value) for label in spec.labels] == [
        ("team", "a"),
        ("nightly", ""),
        ("owner", "me"),
    ]
    assert [(item.key, item.operator, list(item.values)) for item in spec.constraints] == [
        ("region", job_pb2.CONSTRAINT_OPERATOR_IN, ["eu", "us"]),
        ("spot", job_pb2.CONSTRAINT_OPERATOR_NOT_EXISTS, []),
    ]
    assert spec.docker == job_pb2.DockerTask(
        image="busybox:1.37.0", entrypoint=["/bin/sh"], command=["-c", "echo $A"], working_directory="/work"
    )
    assert {item.name: item.value for item in spec.env} == {"A": "3", "B": "2"}
    assert [(item.cid, item.target, item.alias, item.inline_data) for item in spec.inputs] == [
        (CID, "/data", "data", b""),
        ("", "/note", "", b"hello there"),
    ]
    assert [(item.name, item.path) for item in spec.outputs] == [("model", "/model"), ("outputs", "/outputs")]
    assert spec.resources.cpu_millicores == 500
    assert spec.resources.memory_bytes == 512_000_000
    assert spec.resources.disk_bytes == 2 * 1024**3
    assert spec.resources.gpu_count == 1
    assert spec.network == job_pb2.NETWORK_MODE_FULL
    assert spec.timeouts.execution.seconds == 60
    assert spec.timeouts.HasField("queue")
    assert spec.timeouts.total.seconds == 3600


def test_letter_case_of_keys_does_not_matter() -> None:
    text = "name: a\ntype: batch\ncount: 1\ntasks: [{name: t, engine: {type: docker, params: {image: x}}}]"
    assert parse_job_file(text, "job.yaml").docker.image == "x"


def test_json_with_tabs_is_read() -> None:
    text = (
        '{\n\t"Name": "a",\n\t"Tasks": [\n\t\t{"Engine":\t{"Type": "docker", "Params": {"Image": "x"}}}]\n}'
    )
    assert parse_job_file(text, "job.json").docker.image == "x"


def test_wasm_module_named_by_the_target_of_an_input_is_the_module_and_no_input() -> None:
    text = f"""
    Type: batch
    Tasks:
      - Engine: {{Type: wasm, Params: {{EntryModule: wasm.main, ImportModules: [/lib.wasm]}}}}
        InputSources:
          - {{Target: /wasm.main, Source: {{Type: inline, Params: {{URL: "{WASM_URL}"}}}}}}
          - {{Target: /lib.wasm, Source: {{Type: ipfs, Params: {{CID: {CID}}}}}}}
          - {{Target: /data, Source: {{Type: ipfs, Params: {{CID: {CID}}}}}}}
    """
    spec = parse_job_file(textwrap.dedent(text), "job.yaml")
    assert spec.wasm.module_cid == "data:;base64,AGFzbQEAAAA="
    assert [(item.name, item.cid) for item in spec.wasm.import_modules] == [("/lib.wasm", CID)]
    assert [item.target for item in spec.inputs] == ["/data"]


def test_wasm_module_with_a_source_of_its_own_is_read() -> None:
    engine = {"Type": "wasm", "Params": {"EntryModule": {"Alias": "", "Target": "", "Source": {
        "Type": "inline", "Params": {"URL": WASM_URL}}}, "EnvironmentVariables": None}}  # fmt: skip
    spec = parse_job_file(json.dumps({"Tasks": [{"Engine": engine}]}), "job.json")
    assert spec.wasm.module_cid == "data:;base64,AGFzbQEAAAA="


def test_flat_form_of_v0_3_29_is_read() -> None:
    text = f"""
    APIVersion: V1beta1
    Metadata: {{ID: old}}
    Spec:
      Engine: Docker
      Verifier: Noop
      Publisher: Ipfs
      Docker: {{Image: ubuntu, Entrypoint: [/bin/bash, -c, echo 15], EnvironmentVariables: [A=1]}}
      Resources: {{CPU: "", Memory: 1Gi, GPU: "", Disk: ""}}
      Timeout: 1800
      Inputs: [{{StorageSource: ipfs, CID: {CID}, Path: /input}}]
      outputs: [{{StorageSource: IPFS, Name: output_custom, path: /output_custom}}]
      Annotations: [nightly]
      NodeSelectors: [{{Key: region, Operator: in, Values: [eu]}}]
      Deal: {{Concurrency: 3, Confidence: 0, MinBids: 0}}
    """
    spec = parse_job_file(textwrap.dedent(text), "job.yaml")
    assert list(spec.docker.entrypoint) == ["/bin/bash", "-c", "echo 15"]
    assert spec.count == 3
    assert spec.timeouts.execution.seconds == 1800
    assert spec.inputs[0].target == "/input"
    assert [label.key for label in spec.labels] == ["nightly"]
    assert [output.name for output in spec.outputs] == ["output_custom", "outputs"]


def test_the_verifier_and_confidence_of_v0_3_29_are_a_replicated_verification() -> None:
    text = """
    Spec:
      Engine: Docker
      Verifier: Deterministic
      Docker: {Image: ubuntu}
      Deal: {Concurrency: 3, Confidence: 2}
    """
    spec = parse_job_file(textwrap.dedent(text), "job.yaml")
    assert (spec.count, spec.verification.confidence) == (3, 2)
    assert spec.verification.policy == verification_pb2.VERIFICATION_POLICY_REPLICATED
    with pytest.raises(JobFileFailure, match="without Verifier: Deterministic"):
        parse_job_file(textwrap.dedent(text).replace("Deterministic", "Noop"), "job.yaml")


BASE: dict[str, Any] = yaml.safe_load(FULL)


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (
            "Image: busybox:1.37.0 -> Imagee: busybox",
            14,
            "Tasks[0].Engine.Params.Imagee: unknown key; did you mean Image?",
        ),
        ("Count: 2 -> Cuont: 2", 4, "Cuont: unknown key; did you mean Count?"),
        ("Count: 2 -> Count: 0", 4, "whole number from 1"),
        ("Type: batch -> Type: daemon", 2, "jobs of type daemon are not supported"),
        ("Namespace: default -> Verification: {Policy: magic}", 3, "'magic' is no way of verification"),
        ("Namespace: default -> Verification: {Policy: none, Confidence: 2}", 3, "compares nothing"),
        ("Namespace: default -> Verification: {Policy: adaptive, Ignore: [stderr]}", 3, "only stdout"),
        ("Namespace: default -> Namespace: prod", 3, "only the namespace default"),
        ("Namespace: default -> Priority: 5", 3, "Priority: is not supported"),
        ("Type: docker -> Type: flibble", 12, "flibble is no engine here: use docker or wasm"),
        (
            "{Type: ipfs} -> {Type: s3, Params: {Bucket: b}}",
            19,
            "the publisher s3 is not supported: use ipfs",
        ),
        ("Params: {CID: -> Params: {CIDD:", 23, "did you mean CID?"),
        (
            "Type: inline, -> Type: urlDownload,",
            26,
            "inputs of type 'urldownload' are not supported: download it",
        ),
        ("Memory: 512Mb -> Memory: plenty", 29, "Tasks[0].Resources.Memory: 'plenty' is no size"),
        ("{Type: Full} -> {Type: HTTP, Domains: [a.b]}", 30, "is not supported"),
        ("Path: /model -> Path: ../model", 28, "absolute path without '..'"),
        ('A: "3" -> A: env:HOME', 20, "values from a node's environment"),
        ("Target: /data -> Target: data", 22, "should be absolute"),
        ("Type: batch -> Type: [batch", 0, "this is no YAML or JSON"),
    ],
)
def test_what_is_wrong_is_named_with_line_and_field(change: str, line: int, says: str) -> None:
    old, _, new = change.partition(" -> ")
    assert old in FULL
    with pytest.raises(JobFileFailure) as refused:
        parse_job_file(FULL.replace(old, new, 1), "job.yaml")
    assert says in str(refused.value)
    if line:
        assert str(refused.value).startswith(f"job.yaml:{line}: "), refused.value


@pytest.mark.parametrize(
    "text", ["", "[]", "a", "Tasks: []", "Tasks: [{}]", "a: &a [*a]", "Name: x\nName: y\nTasks: 1"]
)
def test_what_is_no_job_is_refused(text: str) -> None:
    with pytest.raises(JobFileFailure):
        parse_job_file(text, "job.yaml")


def test_file_that_unfolds_without_end_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(JobFileFailure):
        parse_job_file("Labels: {x: *a8}\n" + "\n".join(lines), "job.yaml")
    with pytest.raises(JobFileFailure, match="nested deeper"):
        parse_job_file("[" * 10_000, "job.yaml")


def test_local_publisher_is_taken_for_ipfs_and_says_so() -> None:
    notes: list[str] = []
    parse_job_file(FULL.replace("{Type: ipfs}", "{Type: local}", 1), "job.yaml", notes.append)
    assert "`bacalhau get` fetches it" in notes[0]


def test_local_file_becomes_a_reference_that_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    source = {"Type": "localDirectory", "Params": {"SourcePath": str(tmp_path / "data")}}
    task = {
        "Engine": {"Type": "docker", "Params": {"Image": "x"}},
        "InputSources": [{"Source": source, "Target": "/d"}],
    }
    spec = parse_job_file(json.dumps({"Tasks": [task]}), "job.json")
    assert spec.inputs[0].cid == f"file:{tmp_path}/data"
    assert plain_job_file(spec)["Tasks"][0]["InputSources"][0]["Source"] == source


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
KEYS = st.text(st.characters(categories=["Ll", "Lu", "Nd", "Zs"]), min_size=1, max_size=8).filter(str.strip)
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
AMOUNTS = st.integers(0, 2**62)


NETWORKS = [
    job_pb2.NETWORK_MODE_UNSPECIFIED,
    job_pb2.NETWORK_MODE_NONE,
    job_pb2.NETWORK_MODE_FULL,
    job_pb2.NETWORK_MODE_HOST,
]
COMPARING_POLICIES = [
    verification_pb2.VERIFICATION_POLICY_REPLICATED,
    verification_pb2.VERIFICATION_POLICY_ADAPTIVE,
]
COMPARING = st.sampled_from([job_pb2.CONSTRAINT_OPERATOR_IN, job_pb2.CONSTRAINT_OPERATOR_NOT_IN])
ASKING = st.sampled_from([job_pb2.CONSTRAINT_OPERATOR_EXISTS, job_pb2.CONSTRAINT_OPERATOR_NOT_EXISTS])


@st.composite
def specs(draw: st.DrawFn) -> job_pb2.JobSpec:
    """Jobs as the command line can make them."""
    spec = job_pb2.JobSpec(
        name=draw(TEXTS),
        count=draw(st.integers(1, 10_000)),
        network=draw(st.sampled_from(NETWORKS)),
    )
    for key, value in draw(st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=3)).items():
        spec.labels.add(key=key, value=value)
    for name, value in draw(
        st.dictionaries(KEYS, TEXTS.filter(lambda text: not text.startswith("env:")))
    ).items():
        spec.env.add(name=name, value=value)
    if draw(st.booleans()):
        spec.docker.image = draw(TEXTS.filter(bool))
        spec.docker.entrypoint.extend(draw(st.lists(TEXTS, max_size=2)))
        spec.docker.command.extend(draw(st.lists(TEXTS, max_size=3)))
        spec.docker.working_directory = draw(st.one_of(st.just(""), PATHS))
    else:
        spec.wasm.module_cid = draw(st.sampled_from([CID, "data:;base64,AGFzbQEAAAA="]))
        spec.wasm.entry_point = draw(TEXTS)
        spec.wasm.arguments.extend(draw(st.lists(TEXTS, max_size=3)))
        for name in draw(st.lists(TEXTS, max_size=2)):
            spec.wasm.import_modules.add(name=name, cid=CID)
    for target in draw(st.lists(PATHS, max_size=2)):
        spec.inputs.add(cid=CID, target=target, alias=draw(TEXTS))
    for data in draw(st.lists(st.binary(min_size=1, max_size=20), max_size=2)):
        spec.inputs.add(inline_data=data, target="/inline")
    for path in draw(st.lists(PATHS, max_size=2)):
        spec.outputs.add(name=path.strip("/").replace("/", "-"), path=path)
    spec.outputs.add(name="outputs", path="/outputs")
    for field in ("cpu_millicores", "memory_bytes", "disk_bytes"):
        if amount := draw(AMOUNTS):
            setattr(spec.resources, field, amount)
    for duration in (spec.timeouts.execution, spec.timeouts.queue, spec.timeouts.total):
        if draw(st.booleans()):
            duration.FromMicroseconds(draw(st.integers(1, 10**15)))
    for key in draw(st.lists(KEYS, max_size=2)):
        spec.constraints.add(key=key, operator=draw(COMPARING), values=draw(st.lists(TEXTS, min_size=1)))
        spec.constraints.add(key=key, operator=draw(ASKING))
    if draw(st.booleans()):
        spec.max_price_microcredits = draw(AMOUNTS)
    if draw(st.booleans()):
        spec.auction.rule = draw(st.sampled_from([1, 2, 3, 4]))  # type: ignore[assignment]
        if draw(st.booleans()):
            spec.auction.weights.reputation_microcredits = draw(st.integers(1, 10**12))
            spec.auction.weights.input_gib_microcredits = draw(st.integers(1, 10**12))
        spec.verification.policy = draw(st.sampled_from(COMPARING_POLICIES))
        spec.verification.confidence = draw(st.integers(0, 10_000))
        spec.verification.ignore_stdout = draw(st.booleans())
    return spec


@given(specs())
def test_what_is_written_is_read_as_the_same_job(spec: job_pb2.JobSpec) -> None:
    assert parse_job_file(write_job_file(spec), "job.yaml") == spec
    assert parse_job_file(json.dumps(plain_job_file(spec)), "job.json") == spec


@given(
    st.recursive(
        TEXTS | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
    )
)
def test_any_document_is_read_or_refused(document: Any) -> None:
    text = yaml.safe_dump({"Name": "x", "Tasks": document})
    with pytest.raises(JobFileFailure):
        parse_job_file(text, "job.yaml")


@pytest.mark.parametrize("name", ["docker.yaml", "wasm.yaml", "flat.json"])
def test_example_files_are_read_with_nothing_to_note(name: str) -> None:
    notes: list[str] = []
    text = (Path(__file__).parent / "jobs" / name).read_text()
    spec = parse_job_file(text, name, notes.append)
    assert notes == []
    if name == "wasm.yaml":
        import wasmtime

        wasmtime.wat2wasm(read_data_url(spec.wasm.module_cid))
