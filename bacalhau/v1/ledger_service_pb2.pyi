from bacalhau.v1 import ledger_pb2 as _ledger_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetBalanceRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetBalanceResponse(_message.Message):
    __slots__ = ("balance",)
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    balance: _ledger_pb2.NodeBalance
    def __init__(self, balance: _Optional[_Union[_ledger_pb2.NodeBalance, _Mapping]] = ...) -> None: ...

class ListBalancesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBalancesResponse(_message.Message):
    __slots__ = ("balances", "next_page_token")
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    balances: _containers.RepeatedCompositeFieldContainer[_ledger_pb2.PeerBalance]
    next_page_token: str
    def __init__(self, balances: _Optional[_Iterable[_Union[_ledger_pb2.PeerBalance, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListTransactionsRequest(_message.Message):
    __slots__ = ("peer_id", "execution_id", "page_size", "page_token")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    execution_id: str
    page_size: int
    page_token: str
    def __init__(self, peer_id: _Optional[str] = ..., execution_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTransactionsResponse(_message.Message):
    __slots__ = ("transactions", "next_page_token")
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    transactions: _containers.RepeatedCompositeFieldContainer[_ledger_pb2.Transaction]
    next_page_token: str
    def __init__(self, transactions: _Optional[_Iterable[_Union[_ledger_pb2.Transaction, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListReceiptsRequest(_message.Message):
    __slots__ = ("peer_id", "page_size", "page_token")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    page_size: int
    page_token: str
    def __init__(self, peer_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListReceiptsResponse(_message.Message):
    __slots__ = ("receipts", "next_page_token")
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[_ledger_pb2.StoredReceipt]
    next_page_token: str
    def __init__(self, receipts: _Optional[_Iterable[_Union[_ledger_pb2.StoredReceipt, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetReceiptRequest(_message.Message):
    __slots__ = ("execution_id",)
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    def __init__(self, execution_id: _Optional[str] = ...) -> None: ...

class GetReceiptResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: _ledger_pb2.SignedReceipt
    def __init__(self, receipt: _Optional[_Union[_ledger_pb2.SignedReceipt, _Mapping]] = ...) -> None: ...

class TrustPeerRequest(_message.Message):
    __slots__ = ("peer_id", "limit_microcredits")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    limit_microcredits: int
    def __init__(self, peer_id: _Optional[str] = ..., limit_microcredits: _Optional[int] = ...) -> None: ...

class TrustPeerResponse(_message.Message):
    __slots__ = ("balance",)
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    balance: _ledger_pb2.PeerBalance
    def __init__(self, balance: _Optional[_Union[_ledger_pb2.PeerBalance, _Mapping]] = ...) -> None: ...

class RecordSettlementRequest(_message.Message):
    __slots__ = ("peer_id", "amount_microcredits", "request_id")
    PEER_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    peer_id: str
    amount_microcredits: int
    request_id: str
    def __init__(self, peer_id: _Optional[str] = ..., amount_microcredits: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class RecordSettlementResponse(_message.Message):
    __slots__ = ("balance",)
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    balance: _ledger_pb2.PeerBalance
    def __init__(self, balance: _Optional[_Union[_ledger_pb2.PeerBalance, _Mapping]] = ...) -> None: ...
