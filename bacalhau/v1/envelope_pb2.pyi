import datetime

from bacalhau.v1 import auction_pb2 as _auction_pb2
from bacalhau.v1 import execution_pb2 as _execution_pb2
from bacalhau.v1 import market_pb2 as _market_pb2
from bacalhau.v1 import node_pb2 as _node_pb2
from bacalhau.v1 import receipt_pb2 as _receipt_pb2
from bacalhau.v1 import verification_pb2 as _verification_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class KeyType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEY_TYPE_UNSPECIFIED: _ClassVar[KeyType]
    KEY_TYPE_ED25519: _ClassVar[KeyType]
KEY_TYPE_UNSPECIFIED: KeyType
KEY_TYPE_ED25519: KeyType

class PublicKey(_message.Message):
    __slots__ = ("type", "data")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    type: KeyType
    data: bytes
    def __init__(self, type: _Optional[_Union[KeyType, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class SignedEnvelope(_message.Message):
    __slots__ = ("public_key", "payload_type", "payload", "signature")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    public_key: PublicKey
    payload_type: bytes
    payload: bytes
    signature: bytes
    def __init__(self, public_key: _Optional[_Union[PublicKey, _Mapping]] = ..., payload_type: _Optional[bytes] = ..., payload: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Statement(_message.Message):
    __slots__ = ("id", "issued_at", "valid_for", "recipient", "record", "offer", "bid", "decline", "acknowledgement", "award", "offer_closed", "lease_renewal", "cancellation", "log_request", "report", "clearing", "commitment", "reveal_request", "receipt", "settlement_note")
    ID_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    VALID_FOR_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    BID_FIELD_NUMBER: _ClassVar[int]
    DECLINE_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    AWARD_FIELD_NUMBER: _ClassVar[int]
    OFFER_CLOSED_FIELD_NUMBER: _ClassVar[int]
    LEASE_RENEWAL_FIELD_NUMBER: _ClassVar[int]
    CANCELLATION_FIELD_NUMBER: _ClassVar[int]
    LOG_REQUEST_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    CLEARING_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    REVEAL_REQUEST_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENT_NOTE_FIELD_NUMBER: _ClassVar[int]
    id: str
    issued_at: _timestamp_pb2.Timestamp
    valid_for: _duration_pb2.Duration
    recipient: str
    record: _node_pb2.NodeRecord
    offer: _market_pb2.JobOffer
    bid: _market_pb2.Bid
    decline: _market_pb2.Decline
    acknowledgement: _market_pb2.Acknowledgement
    award: _market_pb2.Award
    offer_closed: _market_pb2.OfferClosed
    lease_renewal: _market_pb2.LeaseRenewal
    cancellation: _market_pb2.Cancellation
    log_request: _market_pb2.LogRequest
    report: _execution_pb2.ExecutionReport
    clearing: _auction_pb2.Clearing
    commitment: _verification_pb2.ResultCommitment
    reveal_request: _verification_pb2.RevealRequest
    receipt: _receipt_pb2.Receipt
    settlement_note: _receipt_pb2.SettlementNote
    def __init__(self, id: _Optional[str] = ..., issued_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., valid_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., recipient: _Optional[str] = ..., record: _Optional[_Union[_node_pb2.NodeRecord, _Mapping]] = ..., offer: _Optional[_Union[_market_pb2.JobOffer, _Mapping]] = ..., bid: _Optional[_Union[_market_pb2.Bid, _Mapping]] = ..., decline: _Optional[_Union[_market_pb2.Decline, _Mapping]] = ..., acknowledgement: _Optional[_Union[_market_pb2.Acknowledgement, _Mapping]] = ..., award: _Optional[_Union[_market_pb2.Award, _Mapping]] = ..., offer_closed: _Optional[_Union[_market_pb2.OfferClosed, _Mapping]] = ..., lease_renewal: _Optional[_Union[_market_pb2.LeaseRenewal, _Mapping]] = ..., cancellation: _Optional[_Union[_market_pb2.Cancellation, _Mapping]] = ..., log_request: _Optional[_Union[_market_pb2.LogRequest, _Mapping]] = ..., report: _Optional[_Union[_execution_pb2.ExecutionReport, _Mapping]] = ..., clearing: _Optional[_Union[_auction_pb2.Clearing, _Mapping]] = ..., commitment: _Optional[_Union[_verification_pb2.ResultCommitment, _Mapping]] = ..., reveal_request: _Optional[_Union[_verification_pb2.RevealRequest, _Mapping]] = ..., receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ..., settlement_note: _Optional[_Union[_receipt_pb2.SettlementNote, _Mapping]] = ...) -> None: ...
