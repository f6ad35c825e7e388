from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RefusalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUSAL_REASON_UNSPECIFIED: _ClassVar[RefusalReason]
    REFUSAL_REASON_MALFORMED: _ClassVar[RefusalReason]
    REFUSAL_REASON_TOO_LARGE: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNAUTHENTICATED: _ClassVar[RefusalReason]
    REFUSAL_REASON_BAD_SIGNATURE: _ClassVar[RefusalReason]
    REFUSAL_REASON_WRONG_RECIPIENT: _ClassVar[RefusalReason]
    REFUSAL_REASON_STALE: _ClassVar[RefusalReason]
    REFUSAL_REASON_ID_REUSED: _ClassVar[RefusalReason]
    REFUSAL_REASON_LIMIT_REACHED: _ClassVar[RefusalReason]
    REFUSAL_REASON_NOT_FOUND: _ClassVar[RefusalReason]
    REFUSAL_REASON_AMBIGUOUS_ID: _ClassVar[RefusalReason]
    REFUSAL_REASON_WRONG_STATE: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNSUPPORTED: _ClassVar[RefusalReason]
    REFUSAL_REASON_ENGINE_MISSING: _ClassVar[RefusalReason]
    REFUSAL_REASON_NETWORK_POLICY: _ClassVar[RefusalReason]
    REFUSAL_REASON_IMAGE_POLICY: _ClassVar[RefusalReason]
    REFUSAL_REASON_CONSTRAINT: _ClassVar[RefusalReason]
    REFUSAL_REASON_LOCALITY_POLICY: _ClassVar[RefusalReason]
    REFUSAL_REASON_PROBE: _ClassVar[RefusalReason]
    REFUSAL_REASON_INFEASIBLE: _ClassVar[RefusalReason]
    REFUSAL_REASON_TIMEOUT_POLICY: _ClassVar[RefusalReason]
    REFUSAL_REASON_PRICE_CEILING: _ClassVar[RefusalReason]
    REFUSAL_REASON_BUSY: _ClassVar[RefusalReason]
    REFUSAL_REASON_SHUTTING_DOWN: _ClassVar[RefusalReason]
    REFUSAL_REASON_OFFER_CLOSED: _ClassVar[RefusalReason]
    REFUSAL_REASON_BID_UNKNOWN: _ClassVar[RefusalReason]
    REFUSAL_REASON_LEASE_ENDED: _ClassVar[RefusalReason]
    REFUSAL_REASON_CONTENT_UNAVAILABLE: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNSAFE_PATH: _ClassVar[RefusalReason]
    REFUSAL_REASON_STORAGE_FULL: _ClassVar[RefusalReason]
    REFUSAL_REASON_PRICE_SCRIPT: _ClassVar[RefusalReason]
    REFUSAL_REASON_REPUTATION: _ClassVar[RefusalReason]
    REFUSAL_REASON_CREDIT_LIMIT: _ClassVar[RefusalReason]
REFUSAL_REASON_UNSPECIFIED: RefusalReason
REFUSAL_REASON_MALFORMED: RefusalReason
REFUSAL_REASON_TOO_LARGE: RefusalReason
REFUSAL_REASON_UNAUTHENTICATED: RefusalReason
REFUSAL_REASON_BAD_SIGNATURE: RefusalReason
REFUSAL_REASON_WRONG_RECIPIENT: RefusalReason
REFUSAL_REASON_STALE: RefusalReason
REFUSAL_REASON_ID_REUSED: RefusalReason
REFUSAL_REASON_LIMIT_REACHED: RefusalReason
REFUSAL_REASON_NOT_FOUND: RefusalReason
REFUSAL_REASON_AMBIGUOUS_ID: RefusalReason
REFUSAL_REASON_WRONG_STATE: RefusalReason
REFUSAL_REASON_UNSUPPORTED: RefusalReason
REFUSAL_REASON_ENGINE_MISSING: RefusalReason
REFUSAL_REASON_NETWORK_POLICY: RefusalReason
REFUSAL_REASON_IMAGE_POLICY: RefusalReason
REFUSAL_REASON_CONSTRAINT: RefusalReason
REFUSAL_REASON_LOCALITY_POLICY: RefusalReason
REFUSAL_REASON_PROBE: RefusalReason
REFUSAL_REASON_INFEASIBLE: RefusalReason
REFUSAL_REASON_TIMEOUT_POLICY: RefusalReason
REFUSAL_REASON_PRICE_CEILING: RefusalReason
REFUSAL_REASON_BUSY: RefusalReason
REFUSAL_REASON_SHUTTING_DOWN: RefusalReason
REFUSAL_REASON_OFFER_CLOSED: RefusalReason
REFUSAL_REASON_BID_UNKNOWN: RefusalReason
REFUSAL_REASON_LEASE_ENDED: RefusalReason
REFUSAL_REASON_CONTENT_UNAVAILABLE: RefusalReason
REFUSAL_REASON_UNSAFE_PATH: RefusalReason
REFUSAL_REASON_STORAGE_FULL: RefusalReason
REFUSAL_REASON_PRICE_SCRIPT: RefusalReason
REFUSAL_REASON_REPUTATION: RefusalReason
REFUSAL_REASON_CREDIT_LIMIT: RefusalReason

class Figure(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: int
    def __init__(self, name: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "message", "figures")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    reason: RefusalReason
    message: str
    figures: _containers.RepeatedCompositeFieldContainer[Figure]
    def __init__(self, reason: _Optional[_Union[RefusalReason, str]] = ..., message: _Optional[str] = ..., figures: _Optional[_Iterable[_Union[Figure, _Mapping]]] = ...) -> None: ...
