"""What every test can use: the real parts of `tests/parts`, and a check that no process is left running."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["tests.parts.commands", "tests.parts.containers", "tests.parts.kubo", "tests.parts.wasm"]

# How fast examples are drawn says how busy the machine is, and nothing of what is tested.
settings.register_profile("bacalhau", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bacalhau")

# Every process that a test starts inherits this, also one that has left its parent.
SESSION_VARIABLE = "BACALHAU_TEST_SESSION"
ENDING_SECONDS = 3.0
# Python's own servants, which live as long as the interpreter that first needed them.
SERVANTS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


@pytest.fixture(scope="session", autouse=True)
def _session_token() -> Iterator[str]:
    token = secrets.token_hex(8)
    os.environ[SESSION_VARIABLE] = token
    yield token
    del os.environ[SESSION_VARIABLE]


def _is_ours(process: psutil.Process, token: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE or process.environ().get(SESSION_VARIABLE) != token:
            return False
        command = " ".join(process.cmdline())
    except psutil.Error:  # it has ended, or is another user's
        return False
    return not any(servant in command for servant in SERVANTS)


def left_running(token: str, before: set[int]) -> list[psutil.Process]:
    """The processes that carry the session's token and were not there `before`, this process left out."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in before and process.pid != os.getpid() and _is_ours(process, token)
    ]


@pytest.fixture(scope="module", autouse=True)
def _no_process_left_running(_session_token: str) -> Iterator[None]:
    """Fails the module's last test when a process that its tests started still runs, and ends it."""
    before = set(psutil.pids())
    yield
    _, alive = psutil.wait_procs(left_running(_session_token, before), timeout=ENDING_SECONDS)
    described = []
    for process in alive:
        try:
            described.append(f"{process.pid}: {' '.join(process.cmdline())}")
            process.kill()
        except psutil.NoSuchProcess:
            continue
    if described:
        pytest.fail("left running by this module's tests:\n" + "\n".join(described))
