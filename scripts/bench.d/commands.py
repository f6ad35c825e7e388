"""Commands that ask the node one thing, against a three-line script that does nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from claims import Claim, Finding, Goal, Round
from nodes import COMMAND, Node, run_command, running_node

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODULE = Path(__file__).with_name("print_argument.wat")
_JOBS_LISTED = 10

VERSION = Claim("`bacalhau version`", "script that calls GetNode", "ms", Goal.AT_MOST, 2)
LIST = Claim("`bacalhau list`", "script that calls ListJobs", "ms", Goal.AT_MOST, 2)
CLAIMS = (VERSION, LIST)

VERSION_SCRIPT = """\
import grpc, bacalhau.v1.node_service_pb2 as messages, bacalhau.v1.node_service_pb2_grpc as services
with grpc.insecure_channel("{address}") as channel:
    print(services.NodeServiceStub(channel).GetNode(messages.GetNodeRequest()).node.record.version)
"""
LIST_SCRIPT = """\
import grpc, bacalhau.v1.job_service_pb2 as messages, bacalhau.v1.job_service_pb2_grpc as services
with grpc.insecure_channel("{address}") as channel:
    print(*(job.id for job in services.JobServiceStub(channel).ListJobs(messages.ListJobsRequest()).jobs))
"""


def measure(folder: Path, *, quick: bool) -> Iterator[Finding]:
    """Raises CannotMeasure where the node does not start or a command fails."""
    # What pip installs beside the interpreter is what users call.
    installed = Path(sys.executable).with_name("bacalhau")
    command = (str(installed),) if installed.exists() else COMMAND
    with running_node(folder / "asked") as node:
        for number in range(_JOBS_LISTED):
            run_command(node, "wasm", "run", "--id-only", str(MODULE), str(number))
        for claim, verb, text in ((VERSION, "version", VERSION_SCRIPT), (LIST, "list", LIST_SCRIPT)):
            script = folder / f"{verb}.py"
            script.write_text(text.format(address=node.api_address))
            finding = Finding(claim)
            sides = [(*command, verb), (sys.executable, str(script))]
            for side in sides:
                _wall_ms(node, side)
            for number in range(4 if quick else 20):
                taken = {side: _wall_ms(node, side) for side in (sides[::-1] if number % 2 else sides)}
                finding.rounds.append(Round(*(taken[side] for side in sides)))
            yield finding


def _wall_ms(node: Node, command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        command, env=node.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True
    )
    return (time.perf_counter() - start) * 1000
