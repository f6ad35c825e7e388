import datetime

from bacalhau.v1 import auction_pb2 as _auction_pb2
from bacalhau.v1 import execution_pb2 as _execution_pb2
from bacalhau.v1 import job_pb2 as _job_pb2
from bacalhau.v1 import payment_pb2 as _payment_pb2
from bacalhau.v1 import refusal_pb2 as _refusal_pb2
from bacalhau.v1 import resources_pb2 as _resources_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Engine(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENGINE_UNSPECIFIED: _ClassVar[Engine]
    ENGINE_DOCKER: _ClassVar[Engine]
    ENGINE_WASM: _ClassVar[Engine]
ENGINE_UNSPECIFIED: Engine
ENGINE_DOCKER: Engine
ENGINE_WASM: Engine

class ClaimedInput(_message.Message):
    __slots__ = ("cid", "size_bytes")
    CID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    cid: str
    size_bytes: int
    def __init__(self, cid: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class JobOffer(_message.Message):
    __slots__ = ("id", "job_id", "engine", "image_or_module", "inputs", "resources", "network", "execution_timeout", "constraints", "winners", "max_price_microcredits", "clearing_rule", "bid_window", "open_for", "spec_digest", "weights", "payment")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_OR_MODULE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    WINNERS_FIELD_NUMBER: _ClassVar[int]
    MAX_PRICE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    CLEARING_RULE_FIELD_NUMBER: _ClassVar[int]
    BID_WINDOW_FIELD_NUMBER: _ClassVar[int]
    OPEN_FOR_FIELD_NUMBER: _ClassVar[int]
    SPEC_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    job_id: str
    engine: Engine
    image_or_module: str
    inputs: _containers.RepeatedCompositeFieldContainer[ClaimedInput]
    resources: _resources_pb2.Resources
    network: _job_pb2.NetworkMode
    execution_timeout: _duration_pb2.Duration
    constraints: _containers.RepeatedCompositeFieldContainer[_job_pb2.Constraint]
    winners: int
    max_price_microcredits: int
    clearing_rule: _auction_pb2.ClearingRule
    bid_window: _duration_pb2.Duration
    open_for: _duration_pb2.Duration
    spec_digest: bytes
    weights: _auction_pb2.ScoringWeights
    payment: _payment_pb2.PaymentTerms
    def __init__(self, id: _Optional[str] = ..., job_id: _Optional[str] = ..., engine: _Optional[_Union[Engine, str]] = ..., image_or_module: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[ClaimedInput, _Mapping]]] = ..., resources: _Optional[_Union[_resources_pb2.Resources, _Mapping]] = ..., network: _Optional[_Union[_job_pb2.NetworkMode, str]] = ..., execution_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., constraints: _Optional[_Iterable[_Union[_job_pb2.Constraint, _Mapping]]] = ..., winners: _Optional[int] = ..., max_price_microcredits: _Optional[int] = ..., clearing_rule: _Optional[_Union[_auction_pb2.ClearingRule, str]] = ..., bid_window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., open_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., spec_digest: _Optional[bytes] = ..., weights: _Optional[_Union[_auction_pb2.ScoringWeights, _Mapping]] = ..., payment: _Optional[_Union[_payment_pb2.PaymentTerms, _Mapping]] = ...) -> None: ...

class Bid(_message.Message):
    __slots__ = ("id", "offer_id", "price_microcredits", "valid_for", "start_delay", "missing_input_bytes", "bond_microcredits")
    ID_FIELD_NUMBER: _ClassVar[int]
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    VALID_FOR_FIELD_NUMBER: _ClassVar[int]
    START_DELAY_FIELD_NUMBER: _ClassVar[int]
    MISSING_INPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    BOND_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    id: str
    offer_id: str
    price_microcredits: int
    valid_for: _duration_pb2.Duration
    start_delay: _duration_pb2.Duration
    missing_input_bytes: int
    bond_microcredits: int
    def __init__(self, id: _Optional[str] = ..., offer_id: _Optional[str] = ..., price_microcredits: _Optional[int] = ..., valid_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., start_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., missing_input_bytes: _Optional[int] = ..., bond_microcredits: _Optional[int] = ...) -> None: ...

class Decline(_message.Message):
    __slots__ = ("offer_id", "refusal")
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    offer_id: str
    refusal: _refusal_pb2.Refusal
    def __init__(self, offer_id: _Optional[str] = ..., refusal: _Optional[_Union[_refusal_pb2.Refusal, _Mapping]] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("statement_id", "digest", "refusal", "received_at", "position", "reputation_permille")
    STATEMENT_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REPUTATION_PERMILLE_FIELD_NUMBER: _ClassVar[int]
    statement_id: str
    digest: bytes
    refusal: _refusal_pb2.Refusal
    received_at: _timestamp_pb2.Timestamp
    position: int
    reputation_permille: int
    def __init__(self, statement_id: _Optional[str] = ..., digest: _Optional[bytes] = ..., refusal: _Optional[_Union[_refusal_pb2.Refusal, _Mapping]] = ..., received_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., position: _Optional[int] = ..., reputation_permille: _Optional[int] = ...) -> None: ...

class Award(_message.Message):
    __slots__ = ("execution_id", "offer_id", "bid_id", "price_microcredits", "clearing_rule", "bid_set_digest", "spec", "lease", "job_id", "payment", "bond_microcredits")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    BID_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    CLEARING_RULE_FIELD_NUMBER: _ClassVar[int]
    BID_SET_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_FIELD_NUMBER: _ClassVar[int]
    BOND_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    offer_id: str
    bid_id: str
    price_microcredits: int
    clearing_rule: _auction_pb2.ClearingRule
    bid_set_digest: bytes
    spec: _job_pb2.JobSpec
    lease: _duration_pb2.Duration
    job_id: str
    payment: _payment_pb2.PaymentTerms
    bond_microcredits: int
    def __init__(self, execution_id: _Optional[str] = ..., offer_id: _Optional[str] = ..., bid_id: _Optional[str] = ..., price_microcredits: _Optional[int] = ..., clearing_rule: _Optional[_Union[_auction_pb2.ClearingRule, str]] = ..., bid_set_digest: _Optional[bytes] = ..., spec: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., job_id: _Optional[str] = ..., payment: _Optional[_Union[_payment_pb2.PaymentTerms, _Mapping]] = ..., bond_microcredits: _Optional[int] = ...) -> None: ...

class OfferClosed(_message.Message):
    __slots__ = ("offer_id",)
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    offer_id: str
    def __init__(self, offer_id: _Optional[str] = ...) -> None: ...

class LeaseRenewal(_message.Message):
    __slots__ = ("execution_id", "phase", "attempt", "done_bytes", "total_bytes")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    phase: _execution_pb2.ExecutionPhase
    attempt: int
    done_bytes: int
    total_bytes: int
    def __init__(self, execution_id: _Optional[str] = ..., phase: _Optional[_Union[_execution_pb2.ExecutionPhase, str]] = ..., attempt: _Optional[int] = ..., done_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class Cancellation(_message.Message):
    __slots__ = ("execution_id", "message")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    message: str
    def __init__(self, execution_id: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class LogRequest(_message.Message):
    __slots__ = ("execution_id", "follow")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    follow: bool
    def __init__(self, execution_id: _Optional[str] = ..., follow: _Optional[bool] = ...) -> None: ...
