import datetime

from bacalhau.v1 import auction_pb2 as _auction_pb2
from bacalhau.v1 import market_pb2 as _market_pb2
from bacalhau.v1 import refusal_pb2 as _refusal_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListOffersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class MadeOffer(_message.Message):
    __slots__ = ("offer", "made_at", "bids", "declines", "awards")
    OFFER_FIELD_NUMBER: _ClassVar[int]
    MADE_AT_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    DECLINES_FIELD_NUMBER: _ClassVar[int]
    AWARDS_FIELD_NUMBER: _ClassVar[int]
    offer: _market_pb2.JobOffer
    made_at: _timestamp_pb2.Timestamp
    bids: int
    declines: int
    awards: int
    def __init__(self, offer: _Optional[_Union[_market_pb2.JobOffer, _Mapping]] = ..., made_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., bids: _Optional[int] = ..., declines: _Optional[int] = ..., awards: _Optional[int] = ...) -> None: ...

class ListOffersResponse(_message.Message):
    __slots__ = ("offers", "next_page_token")
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    offers: _containers.RepeatedCompositeFieldContainer[MadeOffer]
    next_page_token: str
    def __init__(self, offers: _Optional[_Iterable[_Union[MadeOffer, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListOwnBidsRequest(_message.Message):
    __slots__ = ("job_id", "page_size", "page_token")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    page_size: int
    page_token: str
    def __init__(self, job_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class OwnBid(_message.Message):
    __slots__ = ("bid_id", "offer_id", "job_id", "requester_id", "sent_at", "price_microcredits", "refusal", "position")
    BID_ID_FIELD_NUMBER: _ClassVar[int]
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_ID_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    bid_id: str
    offer_id: str
    job_id: str
    requester_id: str
    sent_at: _timestamp_pb2.Timestamp
    price_microcredits: int
    refusal: _refusal_pb2.Refusal
    position: int
    def __init__(self, bid_id: _Optional[str] = ..., offer_id: _Optional[str] = ..., job_id: _Optional[str] = ..., requester_id: _Optional[str] = ..., sent_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., price_microcredits: _Optional[int] = ..., refusal: _Optional[_Union[_refusal_pb2.Refusal, _Mapping]] = ..., position: _Optional[int] = ...) -> None: ...

class ListOwnBidsResponse(_message.Message):
    __slots__ = ("bids", "next_page_token")
    BIDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    bids: _containers.RepeatedCompositeFieldContainer[OwnBid]
    next_page_token: str
    def __init__(self, bids: _Optional[_Iterable[_Union[OwnBid, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetPriceHistoryRequest(_message.Message):
    __slots__ = ("since",)
    SINCE_FIELD_NUMBER: _ClassVar[int]
    since: _duration_pb2.Duration
    def __init__(self, since: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ClassPrices(_message.Message):
    __slots__ = ("day", "resource_class", "engine", "executions", "lowest_microcredits", "median_microcredits", "highest_microcredits")
    DAY_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_CLASS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    EXECUTIONS_FIELD_NUMBER: _ClassVar[int]
    LOWEST_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    day: _timestamp_pb2.Timestamp
    resource_class: str
    engine: _market_pb2.Engine
    executions: int
    lowest_microcredits: int
    median_microcredits: int
    highest_microcredits: int
    def __init__(self, day: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., resource_class: _Optional[str] = ..., engine: _Optional[_Union[_market_pb2.Engine, str]] = ..., executions: _Optional[int] = ..., lowest_microcredits: _Optional[int] = ..., median_microcredits: _Optional[int] = ..., highest_microcredits: _Optional[int] = ...) -> None: ...

class GetPriceHistoryResponse(_message.Message):
    __slots__ = ("prices",)
    PRICES_FIELD_NUMBER: _ClassVar[int]
    prices: _containers.RepeatedCompositeFieldContainer[ClassPrices]
    def __init__(self, prices: _Optional[_Iterable[_Union[ClassPrices, _Mapping]]] = ...) -> None: ...

class AuditJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class AuditedClearing(_message.Message):
    __slots__ = ("clearing", "bids", "findings")
    CLEARING_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    clearing: _auction_pb2.Clearing
    bids: int
    findings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, clearing: _Optional[_Union[_auction_pb2.Clearing, _Mapping]] = ..., bids: _Optional[int] = ..., findings: _Optional[_Iterable[str]] = ...) -> None: ...

class AuditJobResponse(_message.Message):
    __slots__ = ("job_id", "requester_id", "clearings")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_ID_FIELD_NUMBER: _ClassVar[int]
    CLEARINGS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    requester_id: str
    clearings: _containers.RepeatedCompositeFieldContainer[AuditedClearing]
    def __init__(self, job_id: _Optional[str] = ..., requester_id: _Optional[str] = ..., clearings: _Optional[_Iterable[_Union[AuditedClearing, _Mapping]]] = ...) -> None: ...
