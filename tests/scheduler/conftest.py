"""The two machines, each behind a driver that checks it after every step."""

from __future__ import annotations

import pytest

from tests.scheduler.driven import Compute, Requester


@pytest.fixture
def requester() -> Requester:
    return Requester()


@pytest.fixture
def compute() -> Compute:
    return Compute()
