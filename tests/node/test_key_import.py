"""`serve --import-key`: a key of Kubo's becomes the node's, and never takes another's place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bacalhau.node.node import Node
from bacalhau.node.startup import CannotStart
from bacalhau.wire.identity import NodeKey
from tests.node.live import running, settings

if TYPE_CHECKING:
    from pathlib import Path


def kubo_configuration(folder: Path) -> tuple[Path, str]:
    key = NodeKey.generate()
    path = folder / f"{key.node_id}.json"
    path.write_text(json.dumps({"Identity": {"PeerID": key.node_id, "PrivKey": key.to_text()}}))
    return path, key.node_id


async def test_the_node_has_the_id_of_the_imported_key_at_each_start(tmp_path: Path) -> None:
    path, node_id = kubo_configuration(tmp_path)
    for imported in (path, path, None):
        async with running(tmp_path / "a", import_key=imported) as node:
            assert node.node_id == node_id
    assert (tmp_path / "a" / "node.key").stat().st_mode & 0o777 == 0o600


async def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    async with running(tmp_path / "a") as node:
        node_id = node.node_id
    path, _ = kubo_configuration(tmp_path)
    with pytest.raises(CannotStart, match=f"is the folder of {node_id} already"):
        await Node.start(settings(tmp_path / "a", import_key=path))


async def test_a_file_without_a_key_is_refused_and_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("{}")
    with pytest.raises(CannotStart, match="holds no key to import"):
        await Node.start(settings(tmp_path / "a", import_key=path))
    assert not (tmp_path / "a" / "node.key").exists()
