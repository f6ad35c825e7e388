"""Engines that cannot be asked: the node goes on without them, and again with them."""

from __future__ import annotations

import errno
import importlib.metadata
import resource
from typing import TYPE_CHECKING

from bacalhau.model.job import Engine
from bacalhau.node.engines import Engines
from bacalhau.node.startup import allow_open_files
from tests.node.live import SMALL, settings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def no_more_files(_name: str) -> str:
    raise OSError(errno.EMFILE, "Too many open files")


async def test_an_engine_that_has_answered_is_not_read_from_files_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Engines(settings(tmp_path), "node", SMALL)
    await engines.start()
    monkeypatch.setattr(importlib.metadata, "version", no_more_files)
    await engines.start()
    assert (engines.available, engines.notices) == ((Engine.WASM,), ())
    await engines.close()


async def test_an_engine_that_cannot_be_asked_for_lack_of_files_is_away_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without_files:
        without_files.setattr(importlib.metadata, "version", no_more_files)
        engines = Engines(settings(tmp_path), "node", SMALL)
        await engines.start()
        assert not engines.available
        assert "Too many open files" in engines.notices[0]
    await engines.start()
    assert not engines.notices
    assert engines.changed().engines == (Engine.WASM,)
    await engines.close()


def test_a_node_may_open_as_many_files_as_its_user_may() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, 65_536), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
