import datetime

from bacalhau.v1 import job_pb2 as _job_pb2
from bacalhau.v1 import market_pb2 as _market_pb2
from bacalhau.v1 import reputation_pb2 as _reputation_pb2
from bacalhau.v1 import resources_pb2 as _resources_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tariff(_message.Message):
    __slots__ = ("start_microcredits", "cpu_second_microcredits", "memory_gib_second_microcredits", "input_gib_microcredits")
    START_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    CPU_SECOND_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_GIB_SECOND_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    INPUT_GIB_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    start_microcredits: int
    cpu_second_microcredits: int
    memory_gib_second_microcredits: int
    input_gib_microcredits: int
    def __init__(self, start_microcredits: _Optional[int] = ..., cpu_second_microcredits: _Optional[int] = ..., memory_gib_second_microcredits: _Optional[int] = ..., input_gib_microcredits: _Optional[int] = ...) -> None: ...

class NodeRecord(_message.Message):
    __slots__ = ("node_id", "addresses", "certificate_digest", "sequence", "compute", "requester", "engines", "capacity", "labels", "version", "tariff", "multiaddrs")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TARIFF_FIELD_NUMBER: _ClassVar[int]
    MULTIADDRS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    certificate_digest: bytes
    sequence: int
    compute: bool
    requester: bool
    engines: _containers.RepeatedScalarFieldContainer[_market_pb2.Engine]
    capacity: _resources_pb2.Resources
    labels: _containers.RepeatedCompositeFieldContainer[_job_pb2.Label]
    version: str
    tariff: Tariff
    multiaddrs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node_id: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., certificate_digest: _Optional[bytes] = ..., sequence: _Optional[int] = ..., compute: _Optional[bool] = ..., requester: _Optional[bool] = ..., engines: _Optional[_Iterable[_Union[_market_pb2.Engine, str]]] = ..., capacity: _Optional[_Union[_resources_pb2.Resources, _Mapping]] = ..., labels: _Optional[_Iterable[_Union[_job_pb2.Label, _Mapping]]] = ..., version: _Optional[str] = ..., tariff: _Optional[_Union[Tariff, _Mapping]] = ..., multiaddrs: _Optional[_Iterable[str]] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("record", "heard_time", "live", "self", "free", "running_executions", "found_by", "notices", "compute_reputation", "requester_reputation")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    HEARD_TIME_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    SELF_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_EXECUTIONS_FIELD_NUMBER: _ClassVar[int]
    FOUND_BY_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_REPUTATION_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_REPUTATION_FIELD_NUMBER: _ClassVar[int]
    record: NodeRecord
    heard_time: _timestamp_pb2.Timestamp
    live: bool
    self: bool
    free: _resources_pb2.Resources
    running_executions: int
    found_by: str
    notices: _containers.RepeatedScalarFieldContainer[str]
    compute_reputation: _reputation_pb2.Reputation
    requester_reputation: _reputation_pb2.Reputation
    def __init__(self_, record: _Optional[_Union[NodeRecord, _Mapping]] = ..., heard_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., live: _Optional[bool] = ..., self: _Optional[bool] = ..., free: _Optional[_Union[_resources_pb2.Resources, _Mapping]] = ..., running_executions: _Optional[int] = ..., found_by: _Optional[str] = ..., notices: _Optional[_Iterable[str]] = ..., compute_reputation: _Optional[_Union[_reputation_pb2.Reputation, _Mapping]] = ..., requester_reputation: _Optional[_Union[_reputation_pb2.Reputation, _Mapping]] = ...) -> None: ...
