import datetime

from bacalhau.v1 import envelope_pb2 as _envelope_pb2
from bacalhau.v1 import job_service_pb2 as _job_service_pb2
from bacalhau.v1 import ledger_pb2 as _ledger_pb2
from bacalhau.v1 import refusal_pb2 as _refusal_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConsiderOffersRequest(_message.Message):
    __slots__ = ("offers",)
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    offers: _containers.RepeatedCompositeFieldContainer[_envelope_pb2.SignedEnvelope]
    def __init__(self, offers: _Optional[_Iterable[_Union[_envelope_pb2.SignedEnvelope, _Mapping]]] = ...) -> None: ...

class ConsiderOffersResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AwardRequest(_message.Message):
    __slots__ = ("award",)
    AWARD_FIELD_NUMBER: _ClassVar[int]
    award: _envelope_pb2.SignedEnvelope
    def __init__(self, award: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class AwardResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CloseOfferRequest(_message.Message):
    __slots__ = ("offer_closed",)
    OFFER_CLOSED_FIELD_NUMBER: _ClassVar[int]
    offer_closed: _envelope_pb2.SignedEnvelope
    def __init__(self, offer_closed: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class CloseOfferResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RevealResultRequest(_message.Message):
    __slots__ = ("reveal_request",)
    REVEAL_REQUEST_FIELD_NUMBER: _ClassVar[int]
    reveal_request: _envelope_pb2.SignedEnvelope
    def __init__(self, reveal_request: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class RevealResultResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CancelExecutionRequest(_message.Message):
    __slots__ = ("cancellation",)
    CANCELLATION_FIELD_NUMBER: _ClassVar[int]
    cancellation: _envelope_pb2.SignedEnvelope
    def __init__(self, cancellation: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class CancelExecutionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class QuoteRequest(_message.Message):
    __slots__ = ("offer",)
    OFFER_FIELD_NUMBER: _ClassVar[int]
    offer: _envelope_pb2.SignedEnvelope
    def __init__(self, offer: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class QuoteResponse(_message.Message):
    __slots__ = ("price_microcredits", "start_delay", "missing_input_bytes", "refusal")
    PRICE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    START_DELAY_FIELD_NUMBER: _ClassVar[int]
    MISSING_INPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    price_microcredits: int
    start_delay: _duration_pb2.Duration
    missing_input_bytes: int
    refusal: _refusal_pb2.Refusal
    def __init__(self, price_microcredits: _Optional[int] = ..., start_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., missing_input_bytes: _Optional[int] = ..., refusal: _Optional[_Union[_refusal_pb2.Refusal, _Mapping]] = ...) -> None: ...

class SignReceiptsRequest(_message.Message):
    __slots__ = ("receipts", "signed_before", "note")
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    SIGNED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[_envelope_pb2.SignedEnvelope]
    signed_before: _containers.RepeatedCompositeFieldContainer[_envelope_pb2.SignedEnvelope]
    note: _envelope_pb2.SignedEnvelope
    def __init__(self, receipts: _Optional[_Iterable[_Union[_envelope_pb2.SignedEnvelope, _Mapping]]] = ..., signed_before: _Optional[_Iterable[_Union[_envelope_pb2.SignedEnvelope, _Mapping]]] = ..., note: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class SignReceiptsResponse(_message.Message):
    __slots__ = ("receipts", "refusal", "next_sequence", "signed_before", "note")
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SIGNED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[_envelope_pb2.SignedEnvelope]
    refusal: _refusal_pb2.Refusal
    next_sequence: int
    signed_before: _containers.RepeatedCompositeFieldContainer[_ledger_pb2.SignedReceipt]
    note: _envelope_pb2.SignedEnvelope
    def __init__(self, receipts: _Optional[_Iterable[_Union[_envelope_pb2.SignedEnvelope, _Mapping]]] = ..., refusal: _Optional[_Union[_refusal_pb2.Refusal, _Mapping]] = ..., next_sequence: _Optional[int] = ..., signed_before: _Optional[_Iterable[_Union[_ledger_pb2.SignedReceipt, _Mapping]]] = ..., note: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class StreamExecutionLogsRequest(_message.Message):
    __slots__ = ("log_request",)
    LOG_REQUEST_FIELD_NUMBER: _ClassVar[int]
    log_request: _envelope_pb2.SignedEnvelope
    def __init__(self, log_request: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class StreamExecutionLogsResponse(_message.Message):
    __slots__ = ("stream", "data")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    stream: _job_service_pb2.LogStream
    data: bytes
    def __init__(self, stream: _Optional[_Union[_job_service_pb2.LogStream, str]] = ..., data: _Optional[bytes] = ...) -> None: ...
