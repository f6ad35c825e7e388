import datetime

from bacalhau.v1 import auction_pb2 as _auction_pb2
from bacalhau.v1 import execution_pb2 as _execution_pb2
from bacalhau.v1 import payment_pb2 as _payment_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Receipt(_message.Message):
    __slots__ = ("requester_id", "node_id", "sequence", "balance_microcredits", "execution_id", "job_id", "offer_id", "bid_id", "price_microcredits", "clearing_rule", "bid_set_digest", "payment", "execution_timeout", "usage", "result_cid", "exit_code", "pay_microcredits", "rejection", "time", "bond_microcredits", "penalty_microcredits")
    REQUESTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BALANCE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    BID_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    CLEARING_RULE_FIELD_NUMBER: _ClassVar[int]
    BID_SET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    RESULT_CID_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    PAY_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    BOND_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    PENALTY_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    requester_id: str
    node_id: str
    sequence: int
    balance_microcredits: int
    execution_id: str
    job_id: str
    offer_id: str
    bid_id: str
    price_microcredits: int
    clearing_rule: _auction_pb2.ClearingRule
    bid_set_digest: bytes
    payment: _payment_pb2.PaymentTerms
    execution_timeout: _duration_pb2.Duration
    usage: _execution_pb2.Usage
    result_cid: str
    exit_code: int
    pay_microcredits: int
    rejection: _execution_pb2.Fault
    time: _timestamp_pb2.Timestamp
    bond_microcredits: int
    penalty_microcredits: int
    def __init__(self, requester_id: _Optional[str] = ..., node_id: _Optional[str] = ..., sequence: _Optional[int] = ..., balance_microcredits: _Optional[int] = ..., execution_id: _Optional[str] = ..., job_id: _Optional[str] = ..., offer_id: _Optional[str] = ..., bid_id: _Optional[str] = ..., price_microcredits: _Optional[int] = ..., clearing_rule: _Optional[_Union[_auction_pb2.ClearingRule, str]] = ..., bid_set_digest: _Optional[bytes] = ..., payment: _Optional[_Union[_payment_pb2.PaymentTerms, _Mapping]] = ..., execution_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., usage: _Optional[_Union[_execution_pb2.Usage, _Mapping]] = ..., result_cid: _Optional[str] = ..., exit_code: _Optional[int] = ..., pay_microcredits: _Optional[int] = ..., rejection: _Optional[_Union[_execution_pb2.Fault, _Mapping]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., bond_microcredits: _Optional[int] = ..., penalty_microcredits: _Optional[int] = ...) -> None: ...

class SettlementNote(_message.Message):
    __slots__ = ("creditor_id", "debtor_id", "sequence", "settled_microcredits", "time")
    CREDITOR_ID_FIELD_NUMBER: _ClassVar[int]
    DEBTOR_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SETTLED_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    creditor_id: str
    debtor_id: str
    sequence: int
    settled_microcredits: int
    time: _timestamp_pb2.Timestamp
    def __init__(self, creditor_id: _Optional[str] = ..., debtor_id: _Optional[str] = ..., sequence: _Optional[int] = ..., settled_microcredits: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
