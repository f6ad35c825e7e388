"""Refusals as gRPC status: each reason has a code, and what goes in comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.rpc.status import abort, grpc_code, refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "grpc-status-details-bin"


def failed_call(*details: any_pb2.Any, key: str = KEY, raw: bytes | None = None) -> grpc.aio.AioRpcError:
    """A call that ended with these details."""
    content = status_pb2.Status(code=5, message="no job", details=details).SerializeToString()
    return grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND,
        grpc.aio.Metadata(),
        grpc.aio.Metadata((key, content if raw is None else raw)),
        details="no job",
    )


def packed(reason: str = "NOT_FOUND", domain: str = "bacalhau", **metadata: str) -> any_pb2.Any:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata))
    return detail


@pytest.mark.parametrize("reason", RefusalReason)
def test_every_reason_has_a_code_that_is_a_failure_and_no_bug(reason: RefusalReason) -> None:
    assert grpc_code(reason) not in (
        grpc.StatusCode.OK,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )


@pytest.fixture
async def refusing() -> AsyncIterator[tuple[list[Refusal], grpc.aio.Channel]]:
    """A server that refuses every call with the last of the list."""
    refusals: list[Refusal] = []

    async def refuse(_: bytes, context: grpc.aio.ServicerContext[object, object]) -> bytes:
        await abort(context, refusals[-1])

    server = grpc.aio.server()
    handlers: Any = {"Refuse": grpc.unary_unary_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield refusals, channel
    await server.stop(None)


def refuse_by(channel: grpc.aio.Channel) -> Any:
    call: Any = channel.unary_unary("/Test/Refuse")
    return call(b"")


async def test_a_refusal_arrives_as_it_left_with_its_figures(
    refusing: tuple[list[Refusal], grpc.aio.Channel],
) -> None:
    refusals, channel = refusing
    for reason in RefusalReason:
        refusals.append(Refusal(reason, f"naïve “{reason.name}”", (("asked", 4000), ("free", -1))))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await refuse_by(channel)
        assert refusal_of(caught.value) == refusals[-1]
        assert caught.value.code() is grpc_code(reason)
        assert caught.value.details() == refusals[-1].message


@pytest.mark.parametrize(
    "error",
    [
        failed_call(),
        failed_call(key="x-other-bin"),
        failed_call(packed(domain="example.org")),
        failed_call(packed("A_REASON_OF_TOMORROW")),
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata()),
        grpc.RpcError(),
    ],
)
def test_a_failure_without_our_detail_is_no_refusal(error: grpc.RpcError) -> None:
    assert refusal_of(error) is None


def test_details_that_are_not_ours_are_passed_over() -> None:
    other = any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff")
    refusal = refusal_of(failed_call(other, packed(free="7", name="x", half="--5", sign="²")))
    assert refusal == Refusal(RefusalReason.NOT_FOUND, "no job", (("free", 7),))


@given(st.binary(max_size=200))
def test_garbage_in_the_details_is_no_refusal_and_no_crash(raw: bytes) -> None:
    refusal_of(failed_call(raw=raw))
