"""`bacalhau logs`: the output, and why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bacalhau.v1 import execution_pb2, job_pb2
from tests.cli.scripted_node import JOB_ID, execution, output

if TYPE_CHECKING:
    from tests.cli.conftest import Command
    from tests.cli.scripted_node import ScriptedNode

AWARDED = execution_pb2.Execution(id="e-1", state=execution_pb2.EXECUTION_STATE_AWARDED)
STOPPED = execution_pb2.Execution(id="e-1", state=execution_pb2.EXECUTION_STATE_CANCELLED)


def a_job(state: str, *executions: execution_pb2.Execution, **fields: Any) -> job_pb2.Job:
    return job_pb2.Job(id=JOB_ID, state=f"JOB_STATE_{state}", executions=executions, **fields)


def test_output_is_all_that_is_printed(scripted: ScriptedNode, bacalhau: Command) -> None:
    scripted.script.jobs = [a_job("CANCELLED", STOPPED)]
    scripted.script.logs[""] = [output(b"out\n"), output(b"err\n", stream=2)]
    done = bacalhau("logs", JOB_ID)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(
    ("job", "said"),
    [
        (a_job("QUEUED"), "has written nothing yet: it is Queued, and on no node so far"),
        (a_job("PENDING", AWARDED), "has written nothing yet: it is Pending, and on no node so far"),
        (a_job("CANCELLED"), "was cancelled before it ran"),
        (a_job("CANCELLED", AWARDED), "was cancelled before it ran"),
        (a_job("CANCELLED", STOPPED), "was cancelled, and left no output"),
        (a_job("FAILED", failure=execution_pb2.Fault(message="no node")), "failed before it ran: no node"),
        (a_job("FAILED", STOPPED, failure=execution_pb2.Fault(message="too late")), "failed: too late"),
    ],
)
def test_stderr_says_once_why_there_is_no_output(
    scripted: ScriptedNode, bacalhau: Command, job: job_pb2.Job, said: str, follow: bool
) -> None:
    scripted.script.jobs = [job]
    done = bacalhau("logs", *(["-f"] if follow else []), JOB_ID)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.decode() == f"job {JOB_ID} {said}\n"


def test_a_program_that_writes_nothing_is_none_to_speak_of(scripted: ScriptedNode, bacalhau: Command) -> None:
    scripted.script.jobs = [a_job("COMPLETED", execution())]
    done = bacalhau("logs", JOB_ID)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
