"""A node of this process behind the fixtures of pytest-grpc, whose own server is a synchronous one.

A module names its `grpc_stub_cls`; the plugin makes `grpc_stub` of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc.aio
import pytest
import pytest_asyncio

from bacalhau.node.node import Node
from bacalhau.rpc.limits import CHANNEL_OPTIONS
from tests.node.live import settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grpc_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    node = await Node.start(settings(tmp_path_factory.mktemp("node")))
    yield node
    await node.stop()


@pytest.fixture(scope="module")
def grpc_addr(grpc_server: Node) -> str:
    return grpc_server.api_address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grpc_channel(grpc_addr: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(grpc_addr, options=CHANNEL_OPTIONS) as channel:
        yield channel
