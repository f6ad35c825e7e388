"""Tells how each call of a listener ended, and how long it took."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Ended = Callable[[str, str, str, float], None]
    """Called with service, method, status code (such as NOT_FOUND) and seconds."""


class CallMeter(grpc.aio.ServerInterceptor):
    """Calls of methods that are not there are not told of: anybody can make up their names."""

    def __init__(self, ended: Ended) -> None:
        self._ended = ended

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(details)
        if handler is None:
            return None
        _, service, method = details.method.split("/")
        return self._measured(handler, service, method)

    def _measured(
        self, handler: grpc.RpcMethodHandler[Any, Any], service: str, method: str
    ) -> grpc.RpcMethodHandler[Any, Any]:
        if handler.response_streaming:
            stream: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream

            async def measured_stream(request: object, context: Any) -> AsyncIterator[Any]:
                with _Call(self._ended, service, method, context):
                    async for response in stream(request, context):
                        yield response

            make: Any = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(measured_stream, handler.request_deserializer, handler.response_serializer)  # type: ignore[no-any-return]
        answer: Any = handler.stream_unary if handler.request_streaming else handler.unary_unary

        async def measured(request: object, context: Any) -> Any:
            with _Call(self._ended, service, method, context):
                return await answer(request, context)

        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make(measured, handler.request_deserializer, handler.response_serializer)  # type: ignore[no-any-return]


class _Call:
    """One call, from its arrival to its end."""

    def __init__(self, ended: Ended, service: str, method: str, context: Any) -> None:
        self._ended = ended
        self._names = service, method
        self._context = context

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._ended(*self._names, self._code(error), time.perf_counter() - self._started)

    def _code(self, error: BaseException | None) -> str:
        code = self._context.code()
        if isinstance(code, grpc.StatusCode) and code is not grpc.StatusCode.OK:
            return code.name
        if error is None:
            return "OK"
        # A client that leaves ends the handler in one of these ways.
        return "CANCELLED" if isinstance(error, asyncio.CancelledError | GeneratorExit) else "UNKNOWN"
