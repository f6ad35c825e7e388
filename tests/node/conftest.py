from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bacalhau.scheduler import events as ev
from tests.node.slow_disk import Outside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[Outside]:
    made = Outside(tmp_path)
    made.driver.tell_requester(ev.PeerHeard("n1"))
    await made.driver.committed()
    yield made
    made.disk.may_go_on.set()
    await made.driver.stop()
    made.disk.close()


@pytest.fixture
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bacalhau.node.driver.FULL_DISK_RETRY_S", 0.01)
