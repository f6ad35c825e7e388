"""The data folder: made for its user alone, and left as it is where it is there."""

from __future__ import annotations

import stat
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from bacalhau.node.startup import lock_folder

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def test_a_folder_that_is_made_is_its_users_alone_and_one_that_is_there_keeps_its_mode(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    for folder, mode in ((tmp_path / "new", 0o700), (shared, 0o1777)):
        async with AsyncExitStack() as stack:
            lock_folder(folder, stack)
            assert stat.S_IMODE(folder.stat().st_mode) == mode
        assert (f"chmod 700 {folder}" in caplog.text) == (folder == shared)
