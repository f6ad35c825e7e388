"""Networks of real nodes for the tests of this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.nodes import Network, NodeProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """For tests that kill, restart or fill their nodes."""
    nodes = Network(tmp_path)
    yield nodes
    nodes.end()


@pytest.fixture(scope="module")
def shared_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """For tests that leave their nodes as they were."""
    nodes = Network(tmp_path_factory.mktemp("network"))
    yield nodes
    nodes.end()


@pytest.fixture(scope="module")
def shared_node(shared_network: Network) -> NodeProcess:
    """A node that is requester and compute node at once, with quick heartbeats."""
    return shared_network.start("node", "--heartbeat", "500ms")
