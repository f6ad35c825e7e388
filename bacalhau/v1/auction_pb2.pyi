import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClearingRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLEARING_RULE_UNSPECIFIED: _ClassVar[ClearingRule]
    CLEARING_RULE_FIRST_PRICE: _ClassVar[ClearingRule]
    CLEARING_RULE_UNIFORM_PRICE: _ClassVar[ClearingRule]
    CLEARING_RULE_SCORING: _ClassVar[ClearingRule]
    CLEARING_RULE_POSTED_PRICE: _ClassVar[ClearingRule]

class BidStanding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BID_STANDING_UNSPECIFIED: _ClassVar[BidStanding]
    BID_STANDING_STANDS: _ClassVar[BidStanding]
    BID_STANDING_EXPIRED: _ClassVar[BidStanding]
    BID_STANDING_WITHDRAWN: _ClassVar[BidStanding]
    BID_STANDING_AWARDED: _ClassVar[BidStanding]
CLEARING_RULE_UNSPECIFIED: ClearingRule
CLEARING_RULE_FIRST_PRICE: ClearingRule
CLEARING_RULE_UNIFORM_PRICE: ClearingRule
CLEARING_RULE_SCORING: ClearingRule
CLEARING_RULE_POSTED_PRICE: ClearingRule
BID_STANDING_UNSPECIFIED: BidStanding
BID_STANDING_STANDS: BidStanding
BID_STANDING_EXPIRED: BidStanding
BID_STANDING_WITHDRAWN: BidStanding
BID_STANDING_AWARDED: BidStanding

class ScoringWeights(_message.Message):
    __slots__ = ("start_delay_second_microcredits", "input_gib_microcredits", "reputation_microcredits")
    START_DELAY_SECOND_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    INPUT_GIB_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    REPUTATION_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    start_delay_second_microcredits: int
    input_gib_microcredits: int
    reputation_microcredits: int
    def __init__(self, start_delay_second_microcredits: _Optional[int] = ..., input_gib_microcredits: _Optional[int] = ..., reputation_microcredits: _Optional[int] = ...) -> None: ...

class AuctionTerms(_message.Message):
    __slots__ = ("rule", "weights")
    RULE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    rule: ClearingRule
    weights: ScoringWeights
    def __init__(self, rule: _Optional[_Union[ClearingRule, str]] = ..., weights: _Optional[_Union[ScoringWeights, _Mapping]] = ...) -> None: ...

class BidSetEntry(_message.Message):
    __slots__ = ("bid_id", "node_id", "position", "received_at", "reputation_permille", "standing")
    BID_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    REPUTATION_PERMILLE_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    bid_id: str
    node_id: str
    position: int
    received_at: _timestamp_pb2.Timestamp
    reputation_permille: int
    standing: BidStanding
    def __init__(self, bid_id: _Optional[str] = ..., node_id: _Optional[str] = ..., position: _Optional[int] = ..., received_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reputation_permille: _Optional[int] = ..., standing: _Optional[_Union[BidStanding, str]] = ...) -> None: ...

class BidSet(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[BidSetEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[BidSetEntry, _Mapping]]] = ...) -> None: ...

class ClearedAward(_message.Message):
    __slots__ = ("execution_id", "bid_id", "node_id", "price_microcredits")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    BID_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    bid_id: str
    node_id: str
    price_microcredits: int
    def __init__(self, execution_id: _Optional[str] = ..., bid_id: _Optional[str] = ..., node_id: _Optional[str] = ..., price_microcredits: _Optional[int] = ...) -> None: ...

class Clearing(_message.Message):
    __slots__ = ("offer_id", "job_id", "clearing_rule", "cleared_at", "slots", "acknowledged_bids", "bid_set_digest", "awards")
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    CLEARING_RULE_FIELD_NUMBER: _ClassVar[int]
    CLEARED_AT_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_BIDS_FIELD_NUMBER: _ClassVar[int]
    BID_SET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    AWARDS_FIELD_NUMBER: _ClassVar[int]
    offer_id: str
    job_id: str
    clearing_rule: ClearingRule
    cleared_at: _timestamp_pb2.Timestamp
    slots: int
    acknowledged_bids: int
    bid_set_digest: bytes
    awards: _containers.RepeatedCompositeFieldContainer[ClearedAward]
    def __init__(self, offer_id: _Optional[str] = ..., job_id: _Optional[str] = ..., clearing_rule: _Optional[_Union[ClearingRule, str]] = ..., cleared_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., slots: _Optional[int] = ..., acknowledged_bids: _Optional[int] = ..., bid_set_digest: _Optional[bytes] = ..., awards: _Optional[_Iterable[_Union[ClearedAward, _Mapping]]] = ...) -> None: ...
