"""A node whose data folder is that of an older backup: its peers tell it what it signed since, and they trade on."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.e2e.books import balance, check_books, wait_agreed
from tests.e2e.nodes import wait_until
from tests.e2e.test_settlement import COMPUTE, REQUESTER, module

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.nodes import Network, NodeProcess

__all__ = ["module"]


def back_up(node: NodeProcess, folder: Path) -> None:
    """As docs/operations.md says: the node is stopped, its folder is copied."""
    assert node.stop() == 0
    shutil.copytree(node.folder, folder)
    node.start()


def put_back(node: NodeProcess, folder: Path) -> None:
    """Starts the node on the copy, as if its disk had been lost."""
    assert node.stop() == 0
    shutil.rmtree(node.folder)
    shutil.copytree(folder, node.folder)
    node.start()


@pytest.mark.parametrize("restored", ["requester", "worker"])
def test_a_node_that_is_restored_from_a_backup_ends_with_the_balance_that_both_have_signed(
    network: Network, tmp_path: Path, module: str, restored: str
) -> None:
    requester, worker = network.node("requester", *REQUESTER), network.node("worker", *COMPUTE)
    requester.start()
    network.join(requester, worker)

    def trade() -> int:
        return int(requester.wait_completed(requester.submit("wasm", module)).charged_microcredits)

    charged = trade()
    wait_agreed(requester, worker, receipts=1)
    lost = requester if restored == "requester" else worker
    back_up(lost, tmp_path / "backup")
    requester.wait_knows(worker)
    charged += trade() + trade()
    wait_agreed(requester, worker, receipts=3)
    assert worker.cli("ledger", "settle", requester.node_id, "60u").returncode == 0
    wait_until(lambda: balance(requester, worker, "payable").note_sequence == 1, "the debtor has the note")
    put_back(lost, tmp_path / "backup")
    requester.wait_knows(worker)
    charged += trade()
    agreed = wait_agreed(requester, worker, receipts=4)
    assert (agreed.sequence, agreed.charged_microcredits) == (4, charged)
    assert (agreed.note_sequence, agreed.settled_microcredits) == (1, 60)
    charged += trade()
    assert wait_agreed(requester, worker, receipts=5).charged_microcredits == charged
    for node in (requester, worker):
        check_books(node)
