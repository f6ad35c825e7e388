"""Trades through real processes: kill -9 of either side between any two steps, and a requester that does not pay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bacalhau.node.small_results import SMALL_RESULT_BYTES
from bacalhau.v1.refusal_pb2 import REFUSAL_REASON_CREDIT_LIMIT
from tests.e2e.books import balance, check_books, wait_agreed
from tests.e2e.faulty_node import STEPS
from tests.e2e.nodes import WAIT_SECONDS, wait_until
from tests.node.live import HELLO, program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.nodes import Network

REQUESTER = ("--node-type", "requester", "--heartbeat", "500ms", "--lease", "20s", "--bid-window", "2s")
COMPUTE = (
    "--node-type",
    "compute",
    "--heartbeat",
    "500ms",
    "--price-flat",
    "1000",
    "--disable-engine",
    "docker",
)
KILLS = [f"{moment}:{step}" for step in STEPS if "noted" not in step for moment in ("before", "after")]


@pytest.fixture
def module(tmp_path: Path) -> str:
    path = tmp_path / "hello.wat"
    path.write_bytes(HELLO)
    return str(path)


@pytest.fixture
def module_in_steps(tmp_path: Path) -> str:
    """Of a program whose trade goes to disk step by step: it sleeps longer than a node waits to write two steps as
    one, and its result is too large to come with the report, so that it is fetched after it."""
    path = tmp_path / "steps.wat"
    path.write_bytes(program("x" * (SMALL_RESULT_BYTES + 1), sleep_s=1))
    return str(path)


@pytest.mark.parametrize("kill", KILLS)
def test_a_node_that_is_killed_between_two_steps_of_a_trade_leaves_equal_balances_and_no_lost_job(
    network: Network, module: str, module_in_steps: str, kill: str
) -> None:
    side = kill.split(":")[1]
    requester = network.node("requester", *REQUESTER)
    worker = network.node("worker", *COMPUTE)
    dying, other = (requester, worker) if side == "requester" else (worker, requester)
    dying.variables["DIE_AT"] = kill
    requester.start()
    network.join(requester, worker)
    # It may die before it has answered the submission; then its client waits for it, and asks again. The job waits
    # for the only worker, however long a busy machine takes to start it again.
    words = ("wasm", "run", "--id-only", "--queue-timeout", f"{WAIT_SECONDS:g}")
    submission = requester.begin_cli(*words, module_in_steps)
    dying.wait_killed()
    dying.start()
    job_id = submission.communicate(timeout=WAIT_SECONDS)[0].strip()
    assert submission.returncode == 0
    job = requester.wait_completed(job_id)
    charged = [execution.charged_microcredits for execution in job.executions]
    assert sum(amount > 0 for amount in charged) == 1, charged
    agreed = wait_agreed(requester, worker, receipts=1)
    assert agreed.charged_microcredits == sum(charged)
    # The trade after it is as any other.
    second = requester.wait_completed(requester.submit("wasm", module))
    later = wait_agreed(requester, worker, receipts=agreed.sequence + 1)
    assert later.charged_microcredits == agreed.charged_microcredits + second.charged_microcredits
    for node in (requester, worker):
        check_books(node)
    assert other.running


@pytest.mark.parametrize(
    "kill", [f"{moment}:{side}:noted" for side in ("requester", "compute") for moment in ("before", "after")]
)
def test_a_node_that_is_killed_in_the_middle_of_a_settlement_leaves_equal_balances(
    network: Network, module: str, kill: str
) -> None:
    requester, worker = network.node("requester", *REQUESTER), network.node("worker", *COMPUTE)
    dying = requester if ":requester:" in kill else worker
    dying.variables["DIE_AT"] = kill
    requester.start()
    network.join(requester, worker)
    requester.wait_completed(requester.submit("wasm", module))
    wait_agreed(requester, worker, receipts=1)
    settle = ("ledger", "settle", requester.node_id, "60u", "--request-id", "the-only-one")
    worker.cli(*settle)
    dying.wait_killed()
    dying.start()
    assert worker.cli(*settle).returncode == 0
    wait_until(
        lambda: (
            (owed := balance(requester, worker, "payable")).note_sequence == 1
            and owed == balance(worker, requester, "receivable")
        ),
        "the debtor has the note",
    )
    agreed = balance(requester, worker, "payable")
    assert (agreed.charged_microcredits, agreed.settled_microcredits) == (100, 60)
    for node in (requester, worker):
        check_books(node)


def test_a_requester_that_does_not_pay_runs_into_its_credit_limit_and_is_served_again_when_it_does(
    network: Network, module: str
) -> None:
    requester = network.node("requester", *REQUESTER, NEVER_PAYS="1")
    worker = network.node("worker", *COMPUTE, "--credit-limit", "2500u")
    requester.start()
    network.join(requester, worker)
    for _ in range(2):
        requester.wait_completed(requester.submit("wasm", module))
    third = requester.submit("wasm", module)
    declined = requester.wait_for(third, "DECLINED")
    assert declined.refusal.reason == REFUSAL_REASON_CREDIT_LIMIT
    figures = {figure.name: figure.value for figure in declined.refusal.figures}
    assert figures == {"price_microcredits": 1000, "used_microcredits": 2000, "limit_microcredits": 2500}
    assert balance(worker, requester, "receivable").charged_microcredits == 0
    requester.kill()
    del requester.variables["NEVER_PAYS"]
    requester.start()
    requester.wait_completed(third)
    assert wait_agreed(requester, worker, receipts=3).charged_microcredits == 300
    for node in (requester, worker):
        check_books(node)
