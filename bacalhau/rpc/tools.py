"""Reflection and health as strangers get them: no call that is open as long as its caller likes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from bacalhau.model.refusals import Refused
from bacalhau.rpc import limits
from bacalhau.rpc.at_once import AtOnce
from bacalhau.rpc.status import abort

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable


class AnsweredHealth(health.aio.HealthServicer):  # type: ignore[misc]
    """Without Watch, which clients know how to do without: gRPC's protocol of health says so."""

    async def Watch(self, request: object, context: Any) -> AsyncIterator[None]:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this listener has no Watch: ask by Check")
        yield  # makes it a stream


class BriefReflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """A few streams at once, each for some seconds."""

    def __init__(self, service_names: Iterable[str]) -> None:
        super().__init__(service_names)
        self._streams = AtOnce("streams of reflection", limits.REFLECTIONS_MAX)

    async def ServerReflectionInfo(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        ends_at = asyncio.get_running_loop().time() + limits.REFLECTION_S
        try:
            with self._streams.one():
                answers = super().ServerReflectionInfo(_until(ends_at, request_iterator), context)
                async for answer in answers:
                    yield answer
        except Refused as error:
            await abort(context, error.refusal)


async def _until(ends_at: float, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """As if the caller had then said that this was all."""
    while True:
        try:
            async with asyncio.timeout_at(ends_at):
                yield await anext(requests)
        except (StopAsyncIteration, TimeoutError):
            return
