"""IpfsService on a real server with a real store, another node's store behind it, and short ways to call it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from bacalhau.ipfs.kubo_rpc import KuboRpc
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.ipfs.pins import DEFAULT_GRACE_US, Pins
from bacalhau.model.units import MIB
from bacalhau.node.contents import Contents
from bacalhau.node.ipfs import Ipfs
from bacalhau.node.kubo import Kubo
from bacalhau.node.serving import Serving
from bacalhau.rpc.ipfs_service import IpfsServicer
from bacalhau.rpc.limits import CHANNEL_OPTIONS
from bacalhau.rpc.status import refusal_of
from bacalhau.v1 import ipfs_service_pb2 as pb
from bacalhau.v1.ipfs_service_pb2_grpc import IpfsServiceStub, add_IpfsServiceServicer_to_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

    from bacalhau.model.cid import Cid
    from bacalhau.model.refusals import RefusalReason

ABSENT = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"


class OtherNode:
    """A membership in which the only other node serves the blocks of `store`."""

    node_id = "self"
    name = "other"
    network = None

    def __init__(self, store: PackBlockStore) -> None:
        self.store = store

    def live_ids(self) -> list[str]:
        return ["other"]

    async def link(self, node_id: str) -> OtherNode:
        return self

    async def get_blocks(self, cids: list[Cid], *, recursive: bool) -> AsyncIterator[tuple[Cid, bytes]]:
        there = Serving(self.store, self)  # type: ignore[arg-type]
        async for batch in there.blocks(cids, recursive=recursive):
            for found in batch:
                yield found


@dataclasses.dataclass
class Served:
    """A node's IPFS, served, and what stands behind it; `elsewhere` is the store of the other node. With a Kubo, the
    store is the buffer before that."""

    stub: Any
    address: str
    store: PackBlockStore
    pins: Pins
    elsewhere: PackBlockStore
    contents: Contents
    serving: Serving


@contextlib.asynccontextmanager
async def serving(
    folder: Path, gc_grace_us: int = DEFAULT_GRACE_US, kubo_url: str = ""
) -> AsyncIterator[Served]:
    store, elsewhere = PackBlockStore(folder / "blocks"), PackBlockStore(folder / "elsewhere")
    pins = Pins(folder / "pins.sqlite")
    kubo = Kubo(KuboRpc(kubo_url), store, "self") if kubo_url else None
    other: Any = OtherNode(elsewhere)
    contents = Contents(store, pins, other, kubo)
    shared = Serving(contents.whole_store, other)
    ipfs = Ipfs(contents, shared, gc_grace_us=gc_grace_us)
    running = asyncio.create_task(kubo.run(ipfs.wanted)) if kubo is not None else None
    if kubo is not None:
        await kubo.check()
    server = grpc.aio.server(options=CHANNEL_OPTIONS)
    add_IpfsServiceServicer_to_server(IpfsServicer(ipfs), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        yield Served(IpfsServiceStub(channel), address, store, pins, elsewhere, contents, shared)
    await server.stop(1)
    if kubo is not None and running is not None:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await kubo.close()
    store.close()
    elsewhere.close()
    pins.close()


def entry(path: str, kind: int = pb.ENTRY_TYPE_FILE, **rest: Any) -> pb.AddRequest:
    return pb.AddRequest(entry=pb.EntryHeader(path=path, type=kind, **rest))  # type: ignore[arg-type]


def chunks(content: bytes, size: int = MIB) -> Iterator[pb.AddRequest]:
    for start in range(0, len(content), size):
        yield pb.AddRequest(chunk=content[start : start + size])


def requests_for(folder: Path, prefix: str = "") -> Iterator[pb.AddRequest]:
    """A folder as a stream of entries, in no order but parents first."""
    yield entry(prefix, pb.ENTRY_TYPE_DIRECTORY)
    for path in folder.iterdir():
        name = f"{prefix}/{path.name}" if prefix else path.name
        if path.is_symlink():
            yield entry(name, pb.ENTRY_TYPE_SYMLINK, link_target=os.readlink(path))
        elif path.is_dir():
            yield from requests_for(path, name)
        else:
            yield entry(name, size_bytes=path.stat().st_size)
            yield from chunks(path.read_bytes(), 100_000)


async def add(served: Served, requests: Iterable[pb.AddRequest]) -> pb.AddResponse:
    """By the client that is not of asyncio: that one says INTERNAL in place of the refusal where a write of it fails
    because the call has ended, before it hears how."""

    def call() -> pb.AddResponse:
        with grpc.insecure_channel(served.address, options=CHANNEL_OPTIONS) as channel:
            answer: pb.AddResponse = IpfsServiceStub(channel).Add(iter(requests))
            return answer

    return await asyncio.to_thread(call)


async def get(served: Served, path: str, **rest: Any) -> list[pb.GetResponse]:
    return [answer async for answer in served.stub.Get(pb.GetRequest(path=path, **rest))]


async def content_of(served: Served, path: str, **rest: int) -> bytes:
    return b"".join(answer.chunk for answer in await get(served, path, **rest))


@contextlib.contextmanager
def refused(reason: RefusalReason, text: str = "") -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    refusal = refusal_of(caught.value)
    assert refusal is not None, caught.value
    assert refusal.reason is reason, refusal
    assert text in refusal.message
