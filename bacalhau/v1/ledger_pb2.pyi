import datetime

from bacalhau.v1 import envelope_pb2 as _envelope_pb2
from bacalhau.v1 import receipt_pb2 as _receipt_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TradeSide(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRADE_SIDE_UNSPECIFIED: _ClassVar[TradeSide]
    TRADE_SIDE_BUYING: _ClassVar[TradeSide]
    TRADE_SIDE_SELLING: _ClassVar[TradeSide]

class TransactionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRANSACTION_KIND_UNSPECIFIED: _ClassVar[TransactionKind]
    TRANSACTION_KIND_ESCROW: _ClassVar[TransactionKind]
    TRANSACTION_KIND_PAYMENT: _ClassVar[TransactionKind]
    TRANSACTION_KIND_REFUND: _ClassVar[TransactionKind]
    TRANSACTION_KIND_EARNING: _ClassVar[TransactionKind]
    TRANSACTION_KIND_SETTLEMENT_PAID: _ClassVar[TransactionKind]
    TRANSACTION_KIND_SETTLEMENT_RECEIVED: _ClassVar[TransactionKind]
TRADE_SIDE_UNSPECIFIED: TradeSide
TRADE_SIDE_BUYING: TradeSide
TRADE_SIDE_SELLING: TradeSide
TRANSACTION_KIND_UNSPECIFIED: TransactionKind
TRANSACTION_KIND_ESCROW: TransactionKind
TRANSACTION_KIND_PAYMENT: TransactionKind
TRANSACTION_KIND_REFUND: TransactionKind
TRANSACTION_KIND_EARNING: TransactionKind
TRANSACTION_KIND_SETTLEMENT_PAID: TransactionKind
TRANSACTION_KIND_SETTLEMENT_RECEIVED: TransactionKind

class Posting(_message.Message):
    __slots__ = ("account", "amount_microcredits")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    account: str
    amount_microcredits: int
    def __init__(self, account: _Optional[str] = ..., amount_microcredits: _Optional[int] = ...) -> None: ...

class Transaction(_message.Message):
    __slots__ = ("id", "kind", "time", "peer_id", "execution_id", "postings")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    POSTINGS_FIELD_NUMBER: _ClassVar[int]
    id: int
    kind: TransactionKind
    time: _timestamp_pb2.Timestamp
    peer_id: str
    execution_id: str
    postings: _containers.RepeatedCompositeFieldContainer[Posting]
    def __init__(self, id: _Optional[int] = ..., kind: _Optional[_Union[TransactionKind, str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., peer_id: _Optional[str] = ..., execution_id: _Optional[str] = ..., postings: _Optional[_Iterable[_Union[Posting, _Mapping]]] = ...) -> None: ...

class DirectedBalance(_message.Message):
    __slots__ = ("sequence", "charged_microcredits", "note_sequence", "settled_microcredits")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CHARGED_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    NOTE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SETTLED_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    charged_microcredits: int
    note_sequence: int
    settled_microcredits: int
    def __init__(self, sequence: _Optional[int] = ..., charged_microcredits: _Optional[int] = ..., note_sequence: _Optional[int] = ..., settled_microcredits: _Optional[int] = ...) -> None: ...

class PeerBalance(_message.Message):
    __slots__ = ("peer_id", "payable", "receivable", "unsigned_receipts", "committed_microcredits", "disputed_microcredits", "limit_microcredits", "trusted")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    PAYABLE_FIELD_NUMBER: _ClassVar[int]
    RECEIVABLE_FIELD_NUMBER: _ClassVar[int]
    UNSIGNED_RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    DISPUTED_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    payable: DirectedBalance
    receivable: DirectedBalance
    unsigned_receipts: int
    committed_microcredits: int
    disputed_microcredits: int
    limit_microcredits: int
    trusted: bool
    def __init__(self, peer_id: _Optional[str] = ..., payable: _Optional[_Union[DirectedBalance, _Mapping]] = ..., receivable: _Optional[_Union[DirectedBalance, _Mapping]] = ..., unsigned_receipts: _Optional[int] = ..., committed_microcredits: _Optional[int] = ..., disputed_microcredits: _Optional[int] = ..., limit_microcredits: _Optional[int] = ..., trusted: _Optional[bool] = ...) -> None: ...

class NodeBalance(_message.Message):
    __slots__ = ("spent_microcredits", "escrow_microcredits", "payable_microcredits", "paid_microcredits", "earned_microcredits", "receivable_microcredits", "received_microcredits", "unproven_limit_microcredits", "unproven_exposure_microcredits")
    SPENT_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    ESCROW_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    PAYABLE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    PAID_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    EARNED_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    RECEIVABLE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    UNPROVEN_LIMIT_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    UNPROVEN_EXPOSURE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    spent_microcredits: int
    escrow_microcredits: int
    payable_microcredits: int
    paid_microcredits: int
    earned_microcredits: int
    receivable_microcredits: int
    received_microcredits: int
    unproven_limit_microcredits: int
    unproven_exposure_microcredits: int
    def __init__(self, spent_microcredits: _Optional[int] = ..., escrow_microcredits: _Optional[int] = ..., payable_microcredits: _Optional[int] = ..., paid_microcredits: _Optional[int] = ..., earned_microcredits: _Optional[int] = ..., receivable_microcredits: _Optional[int] = ..., received_microcredits: _Optional[int] = ..., unproven_limit_microcredits: _Optional[int] = ..., unproven_exposure_microcredits: _Optional[int] = ...) -> None: ...

class StoredReceipt(_message.Message):
    __slots__ = ("side", "receipt", "complete", "refusal")
    SIDE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    side: TradeSide
    receipt: _receipt_pb2.Receipt
    complete: bool
    refusal: str
    def __init__(self, side: _Optional[_Union[TradeSide, str]] = ..., receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ..., complete: _Optional[bool] = ..., refusal: _Optional[str] = ...) -> None: ...

class SignedReceipt(_message.Message):
    __slots__ = ("requester", "node", "receipt")
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    requester: _envelope_pb2.SignedEnvelope
    node: _envelope_pb2.SignedEnvelope
    receipt: _receipt_pb2.Receipt
    def __init__(self, requester: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ..., node: _Optional[_Union[_envelope_pb2.SignedEnvelope, _Mapping]] = ..., receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ...) -> None: ...
