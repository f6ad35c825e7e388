"""Refusal <-> gRPC status: the only place that knows both.

A refused call carries `google.rpc.ErrorInfo` with the refusal's name as reason (AIP-193), so that no client has to
read texts.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from bacalhau.model.refusals import Refusal, RefusalReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grpc.aio import ServicerContext

DOMAIN = "bacalhau"
_DETAILS_KEY = "grpc-status-details-bin"

_R = RefusalReason
_CODES: dict[RefusalReason, grpc.StatusCode] = {
    _R.MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    _R.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _R.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    _R.BAD_SIGNATURE: grpc.StatusCode.UNAUTHENTICATED,
    _R.WRONG_RECIPIENT: grpc.StatusCode.PERMISSION_DENIED,
    _R.STALE: grpc.StatusCode.FAILED_PRECONDITION,
    _R.ID_REUSED: grpc.StatusCode.ALREADY_EXISTS,
    _R.LIMIT_REACHED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _R.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    _R.AMBIGUOUS_ID: grpc.StatusCode.INVALID_ARGUMENT,
    _R.WRONG_STATE: grpc.StatusCode.FAILED_PRECONDITION,
    _R.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    _R.ENGINE_MISSING: grpc.StatusCode.FAILED_PRECONDITION,
    _R.NETWORK_POLICY: grpc.StatusCode.PERMISSION_DENIED,
    _R.IMAGE_POLICY: grpc.StatusCode.PERMISSION_DENIED,
    _R.CONSTRAINT: grpc.StatusCode.FAILED_PRECONDITION,
    _R.LOCALITY_POLICY: grpc.StatusCode.FAILED_PRECONDITION,
    _R.PROBE: grpc.StatusCode.PERMISSION_DENIED,
    _R.INFEASIBLE: grpc.StatusCode.FAILED_PRECONDITION,
    _R.TIMEOUT_POLICY: grpc.StatusCode.FAILED_PRECONDITION,
    _R.PRICE_CEILING: grpc.StatusCode.FAILED_PRECONDITION,
    _R.BUSY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _R.SHUTTING_DOWN: grpc.StatusCode.UNAVAILABLE,
    _R.OFFER_CLOSED: grpc.StatusCode.FAILED_PRECONDITION,
    _R.BID_UNKNOWN: grpc.StatusCode.FAILED_PRECONDITION,
    _R.LEASE_ENDED: grpc.StatusCode.FAILED_PRECONDITION,
    _R.CONTENT_UNAVAILABLE: grpc.StatusCode.NOT_FOUND,
    _R.UNSAFE_PATH: grpc.StatusCode.INVALID_ARGUMENT,
    _R.STORAGE_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    _R.PRICE_SCRIPT: grpc.StatusCode.PERMISSION_DENIED,
    _R.REPUTATION: grpc.StatusCode.PERMISSION_DENIED,
    _R.CREDIT_LIMIT: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def grpc_code(reason: RefusalReason) -> grpc.StatusCode:
    """The status code of a refusal."""
    return _CODES[reason]


async def abort(context: ServicerContext[object, object], refusal: Refusal) -> NoReturn:
    """Ends the call with the refusal; never returns."""
    info = error_details_pb2.ErrorInfo(
        reason=refusal.reason.name,
        domain=DOMAIN,
        metadata={name: str(value) for name, value in refusal.figures},
    )
    detail = any_pb2.Any()
    detail.Pack(info)
    code = _CODES[refusal.reason]
    status = status_pb2.Status(code=getattr(code_pb2, code.name), message=refusal.message, details=[detail])
    context.set_trailing_metadata(((_DETAILS_KEY, status.SerializeToString()),))
    await context.abort(code, refusal.message)


def refusal_of(error: grpc.RpcError) -> Refusal | None:
    """The refusal that a failed call carries; None where it failed otherwise (nobody there, time out, a bug).

    What is in the details was written by whoever was called: what cannot be read there is passed over.
    """
    metadata: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    for key, value in metadata or ():
        if key == _DETAILS_KEY:
            with contextlib.suppress(DecodeError):
                status = status_pb2.Status.FromString(value)
                for detail in status.details:
                    info = error_details_pb2.ErrorInfo()
                    if not detail.Is(info.DESCRIPTOR) or not detail.Unpack(info) or info.domain != DOMAIN:
                        continue
                    if info.reason in RefusalReason.__members__:
                        return Refusal(RefusalReason[info.reason], status.message, _figures(info.metadata))
    return None


_FIGURE = re.compile(r"-?[0-9]{1,19}")


def _figures(metadata: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    return tuple((name, int(text)) for name, text in sorted(metadata.items()) if _FIGURE.fullmatch(text))
