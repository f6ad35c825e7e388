"""Bad nodes as users meet them: real processes that do not do their work, and what becomes of the jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bacalhau.cli.serve import MISBEHAVIOURS
from bacalhau.node.misbehaviour import Misbehaviour
from bacalhau.v1.execution_pb2 import ExecutionState, FaultKind
from bacalhau.v1.job_pb2 import JobState
from tests.e2e.nodes import run_command
from tests.e2e.test_devstack import Devstack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.nodes import Network, NodeProcess
    from tests.parts.wasm import WasmProgram

QUICK = ("--heartbeat", "500ms", "--disable-engine", "docker")


def start_with_bad(network: Network, misbehaviour: str) -> tuple[NodeProcess, NodeProcess, NodeProcess]:
    """A requester, a bad node that asks for less, and a good one."""
    requester = network.start("requester", *QUICK, "--node-type", "requester", "--lease", "2s")
    compute = (*QUICK, "--node-type", "compute")
    bad = network.node("bad", *compute, "--price-flat", "100", "--misbehave", misbehaviour)
    good = network.node("good", *compute, "--price-flat", "200")
    network.join(requester, bad, good)
    return requester, bad, good


def test_the_flag_names_every_misbehaviour() -> None:
    assert [misbehaviour.value for misbehaviour in Misbehaviour] == list(MISBEHAVIOURS)


def test_a_result_that_was_never_computed_looks_like_any_other(
    network: Network, wasm_program: WasmProgram
) -> None:
    requester, bad, _ = start_with_bad(network, "wrong-result")
    hello = str(wasm_program("hello"))
    outputs = []
    for _ in range(2):
        job = requester.wait_completed(requester.submit("wasm", hello))
        assert [(e.node_id, e.report.exit_code) for e in job.executions] == [(bad.node_id, 0)]
        assert job.charged_microcredits == 100
        outputs.append(requester.cli("logs", job.id).stdout)
    assert outputs[0] != outputs[1]
    assert "Hello World\n" not in outputs
    # The bad node says it to its operator, and nobody else is told.
    assert "this node misbehaves on purpose: wrong-result" in bad.log
    described = requester.cli("node", "describe", bad.node_id, "--output", "json").stdout
    assert "misbehave" not in described


def test_a_node_that_only_fails_is_passed_over(network: Network, wasm_program: WasmProgram) -> None:
    requester, bad, good = start_with_bad(network, "fail")
    job = requester.wait_completed(requester.submit("wasm", str(wasm_program("hello"))))
    assert [e.node_id for e in job.executions] == [bad.node_id, good.node_id]
    assert job.executions[0].failure.kind == FaultKind.FAULT_KIND_ENGINE_FAILED
    assert job.charged_microcredits == 200
    assert requester.cli("logs", job.id).stdout == "Hello World\n"


def test_a_node_that_never_reports_keeps_its_job_until_that_is_cancelled(
    network: Network, wasm_program: WasmProgram
) -> None:
    requester, bad, _ = start_with_bad(network, "never-report")
    job_id = requester.submit("wasm", str(wasm_program("hello")))
    assert requester.wait_running(job_id).node_id == bad.node_id
    assert requester.cli("cancel", job_id).returncode == 0
    job = requester.wait_ended(job_id)
    assert job.state == JobState.JOB_STATE_CANCELLED
    assert [e.state for e in job.executions] == [ExecutionState.EXECUTION_STATE_CANCELLED]
    assert job.charged_microcredits == 0
    bad.wait_idle()


def test_a_devstack_has_as_many_bad_nodes_as_it_is_told_and_says_which(
    wasm_program: WasmProgram, tmp_path: Path
) -> None:
    devstack = Devstack(
        tmp_path, "--nodes", "3", "--bad-nodes", "2", "--misbehave", "fail", "--disable-engine", "docker"
    )
    try:
        assert [node["misbehaves"] for node in devstack.nodes] == ["", "fail", "fail"]
        said = devstack.output.read_text()
        assert all(f"{node['node_id']}  misbehaves on purpose: fail" in said for node in devstack.nodes[1:])
        done = devstack.cli("wasm", "run", str(wasm_program("hello")))
        assert (done.returncode, done.stdout) == (0, "Hello World\n"), done.stderr
        (listed,) = json.loads(devstack.cli("list", "--output", "json").stdout)
        described = json.loads(devstack.cli("describe", "--json", listed["id"]).stdout)
        completed = [e["Node"] for e in described["Executions"] if e["State"] == "Completed"]
        assert completed == [devstack.nodes[0]["node_id"]]
    finally:
        devstack.process.terminate()
        assert devstack.process.wait(20) == 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--nodes", "2", "--bad-nodes", "3"), "--bad-nodes 3 is more than the 2 nodes"),
        (("--misbehave", "fail"), "give --bad-nodes K as well"),
        (("--bad-nodes", "1", "--misbehave", "politely"), "invalid choice: 'politely'"),
    ],
)
def test_a_devstack_that_makes_no_sense_is_refused(flags: tuple[str, ...], says: str) -> None:
    done = run_command("devstack", *flags, env={})
    assert done.returncode == 2
    assert says in done.stderr
