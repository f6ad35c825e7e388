"""The data folder: made for its user alone, left as it is where it is there, and what a damaged file in it leads to."""

from __future__ import annotations

import stat
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from bacalhau.node.folder import lock_folder
from bacalhau.node.node import Node
from bacalhau.rpc.peer_client import PeerLink
from bacalhau.store.errors import StoreCorrupt
from tests.node.live import running, settings

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize("name", ["journal.sqlite", "blocks/blocks.sqlite", "pins.sqlite"])
async def test_a_node_whose_database_is_none_says_which_and_what_to_do(tmp_path: Path, name: str) -> None:
    async with running(tmp_path):
        pass
    (tmp_path / name).write_bytes(b"no database" * 1000)
    with pytest.raises(StoreCorrupt, match=f"{name} is no database: move it away"):
        await Node.start(settings(tmp_path))


@pytest.mark.parametrize("damage", ["crt is cut", "crt is empty", "key is of another"])
async def test_a_certificate_that_is_damaged_is_made_anew(tmp_path: Path, damage: str) -> None:
    """As a crash in the middle of its first writing left it."""
    async with running(tmp_path / "other"), running(tmp_path / "node") as node:
        before = node.membership.record.certificate_digest
    certificate, key = tmp_path / "node" / "peer.crt", tmp_path / "node" / "peer.key"
    match damage:
        case "crt is cut":
            certificate.write_bytes(certificate.read_bytes()[:100])
        case "crt is empty":
            certificate.write_bytes(b"")
        case _:
            key.write_bytes((tmp_path / "other" / "peer.key").read_bytes())
    async with running(tmp_path / "node") as node:
        assert node.membership.record.certificate_digest != before
        link = await PeerLink.open(node.peer_address)
        assert await link.get_peers() == []  # it answers by the new one
        await link.close()
