"""Nodes in this process for tests, on free ports and with WASM alone, small programs for them, and a stranger's key."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest

from bacalhau.config import Settings
from bacalhau.ipfs.importer import import_stream
from bacalhau.model.job import Engine, InputSource, JobSpec, Timeouts, WasmTask
from bacalhau.model.resources import Resources
from bacalhau.model.units import GIB, MIB, SECOND_US
from bacalhau.node.node import Node
from bacalhau.rpc.limits import CHANNEL_OPTIONS
from bacalhau.rpc.status import refusal_of
from bacalhau.rpc.tls import SERVER_NAME
from bacalhau.wire.envelope import Body, SignedEnvelope, seal_message
from bacalhau.wire.identity import NodeKey
from bacalhau.wire.job import spec_to_proto

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from bacalhau.model.cid import Cid
    from bacalhau.model.refusals import Refusal

HEARTBEAT_US = 300_000
SMALL = Resources(cpu_millicores=100, memory_bytes=64 * MIB, disk_bytes=64 * MIB)

_PROGRAM = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 1024) "{first}")
  (data (i32.const 70000) "{then}")
  (func $say (param i32 i32)
    (i32.store (i32.const 0) (local.get 0))
    (i32.store (i32.const 4) (local.get 1))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (call $say (i32.const 1024) (i32.const {first_bytes}))
    (i32.store (i32.const 120) (i32.const 1))
    (i64.store (i32.const 128) (i64.const {sleep_ns}))
    (if (i64.ne (i64.const {sleep_ns}) (i64.const 0))
      (then (drop (call $poll (i32.const 104) (i32.const 200) (i32.const 1) (i32.const 300)))))
    (call $say (i32.const 70000) (i32.const {then_bytes}))))
"""


def program(first: str = "Hello World\n", *, sleep_s: float = 0, then: str = "") -> bytes:
    """A module, as text, that writes `first`, sleeps, and writes `then`."""
    return _PROGRAM.format(
        first=first.replace("\n", "\\n"),
        then=then.replace("\n", "\\n"),
        first_bytes=len(first),
        then_bytes=len(then),
        sleep_ns=int(sleep_s * 1e9),
    ).encode()


HELLO = program()
SLEEPER = program("before\n", sleep_s=60, then="after\n")


def settings(folder: Path, **changes: Any) -> Settings:
    """Settings of a node that is quick to hear of others and small enough for any machine."""
    return replace(
        Settings(
            data_dir=folder,
            api_port=0,
            peer_port=0,
            engines=(Engine.WASM,),
            cpu_millicores=4000,
            memory_bytes=4 * GIB,
            disk_bytes=4 * GIB,
            bid_window_us=SECOND_US // 2,
            heartbeat_us=HEARTBEAT_US,
        ),
        **changes,
    )


@contextlib.asynccontextmanager
async def running(folder: Path, **changes: Any) -> AsyncIterator[Node]:
    node = await Node.start(settings(folder, **changes))
    try:
        yield node
    finally:
        await node.stop()


@contextlib.asynccontextmanager
async def client_of(node: Node) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(node.api_address, options=CHANNEL_OPTIONS) as channel:
        yield channel


def add_module(node: Node, module: bytes) -> Cid:
    return import_stream(node.blocks, [module]).cid


def wasm_spec(module: Cid, **changes: Any) -> JobSpec:
    spec = JobSpec(task=WasmTask(module), resources=SMALL, timeouts=Timeouts(60 * SECOND_US))
    return replace(spec, **changes)


def wasm_job(node: Node, module: bytes = HELLO, *, inputs: tuple[Cid, ...] = (), **changes: Any) -> Any:
    """The message of a job that runs the module, which the node gets."""
    sources = tuple(InputSource(cid, f"/inputs/{number}") for number, cid in enumerate(inputs))
    return spec_to_proto(wasm_spec(add_module(node, module), inputs=sources, **changes))


async def until(holds: Callable[[], object], what: str, seconds: float = 15) -> None:
    """Asks again and again, for what no event tells of."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not holds():
        if loop.time() > deadline:
            raise AssertionError(f"after {seconds:g} seconds still not: {what}")
        await asyncio.sleep(0.01)


async def refusal_from(call: Awaitable[object]) -> Refusal:
    """The refusal that a call ends with; fails where it ends otherwise."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    refusal = refusal_of(caught.value)
    assert refusal is not None, caught.value
    return refusal


async def all_of(stream: Any) -> list[Any]:
    return [item async for item in stream]


class Stranger:
    """Somebody with a key of their own, whom no node knows."""

    def __init__(self) -> None:
        self.key = NodeKey.generate()
        self._ids = itertools.count(1)

    def seal(
        self, body: Body, to: str = "", *, at_us: int, valid_for_us: int = 60_000_000, id: str = ""
    ) -> SignedEnvelope:
        return seal_message(
            self.key,
            body,
            id=id or f"s-{next(self._ids)}",
            issued_at_us=at_us,
            valid_for_us=valid_for_us,
            recipient=to,
        )


@contextlib.asynccontextmanager
async def peer_channel(node: Node) -> AsyncIterator[grpc.aio.Channel]:
    """A connection to the node's peer API, as any stranger can make one."""
    credentials = grpc.ssl_channel_credentials((node.settings.data_dir / "peer.crt").read_bytes())
    options = [("grpc.ssl_target_name_override", SERVER_NAME), *CHANNEL_OPTIONS]
    async with grpc.aio.secure_channel(node.peer_address, credentials, options=options) as channel:
        yield channel
