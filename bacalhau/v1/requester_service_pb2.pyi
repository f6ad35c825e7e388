import datetime

from bacalhau.v1 import auction_pb2 as _auction_pb2
from bacalhau.v1 import block_service_pb2 as _block_service_pb2
from bacalhau.v1 import envelope_pb2 as _envelope_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitBidRequest(_message.Message):
    __slots__ = ("bid",)
    BID_FIELD_NUMBER: _ClassVar[int]
    bid: _envelope_pb2.SignedEnvelope
    def __init__(self, bid: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class SubmitBidResponse(_message.Message):
    __slots__ = ("acknowledgement", "award")
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    AWARD_FIELD_NUMBER: _ClassVar[int]
    acknowledgement: _envelope_pb2.SignedEnvelope
    award: _envelope_pb2.SignedEnvelope
    def __init__(self, acknowledgement: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ..., award: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class SubmitDeclineRequest(_message.Message):
    __slots__ = ("decline",)
    DECLINE_FIELD_NUMBER: _ClassVar[int]
    decline: _envelope_pb2.SignedEnvelope
    def __init__(self, decline: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class SubmitDeclineResponse(_message.Message):
    __slots__ = ("acknowledgement",)
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    acknowledgement: _envelope_pb2.SignedEnvelope
    def __init__(self, acknowledgement: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class CommitResultRequest(_message.Message):
    __slots__ = ("commitment",)
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    commitment: _envelope_pb2.SignedEnvelope
    def __init__(self, commitment: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class CommitResultResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportExecutionRequest(_message.Message):
    __slots__ = ("report", "blocks")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    report: _envelope_pb2.SignedEnvelope
    blocks: _containers.RepeatedCompositeFieldContainer[_block_service_pb2.Block]
    def __init__(self, report: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ..., blocks: _Optional[_Iterable[_Union[_block_service_pb2.Block, _Mapping]]] = ...) -> None: ...

class ReportExecutionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RenewLeaseRequest(_message.Message):
    __slots__ = ("renewal",)
    RENEWAL_FIELD_NUMBER: _ClassVar[int]
    renewal: _envelope_pb2.SignedEnvelope
    def __init__(self, renewal: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class RenewLeaseResponse(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: _duration_pb2.Duration
    def __init__(self, lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class SignSettlementRequest(_message.Message):
    __slots__ = ("note",)
    NOTE_FIELD_NUMBER: _ClassVar[int]
    note: _envelope_pb2.SignedEnvelope
    def __init__(self, note: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class SignSettlementResponse(_message.Message):
    __slots__ = ("note",)
    NOTE_FIELD_NUMBER: _ClassVar[int]
    note: _envelope_pb2.SignedEnvelope
    def __init__(self, note: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class GetClearingRequest(_message.Message):
    __slots__ = ("offer_id", "page_size", "page_token", "sequence")
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    offer_id: str
    page_size: int
    page_token: str
    sequence: int
    def __init__(self, offer_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class DisclosedBid(_message.Message):
    __slots__ = ("entry", "decline")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    DECLINE_FIELD_NUMBER: _ClassVar[int]
    entry: _auction_pb2.BidSetEntry
    decline: _envelope_pb2.SignedEnvelope
    def __init__(self, entry: _Optional[_Union[_auction_pb2.BidSetEntry, _Mapping]] = ..., decline: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ...) -> None: ...

class GetClearingResponse(_message.Message):
    __slots__ = ("bids", "next_page_token", "bid_set_digest", "disclosures", "clearing", "clearings")
    BIDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    BID_SET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DISCLOSURES_FIELD_NUMBER: _ClassVar[int]
    CLEARING_FIELD_NUMBER: _ClassVar[int]
    CLEARINGS_FIELD_NUMBER: _ClassVar[int]
    bids: _containers.RepeatedCompositeFieldContainer[_envelope_pb2.SignedEnvelope]
    next_page_token: str
    bid_set_digest: bytes
    disclosures: _containers.RepeatedCompositeFieldContainer[DisclosedBid]
    clearing: _envelope_pb2.SignedEnvelope
    clearings: int
    def __init__(self, bids: _Optional[_Iterable[_Union[_envelope_pb2.SignedEnvelope, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., bid_set_digest: _Optional[bytes] = ..., disclosures: _Optional[_Iterable[_Union[DisclosedBid, _Mapping]]] = ..., clearing: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ..., clearings: _Optional[int] = ...) -> None: ...
