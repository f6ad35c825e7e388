import datetime

from bacalhau.v1 import auction_pb2 as _auction_pb2
from bacalhau.v1 import execution_pb2 as _execution_pb2
from bacalhau.v1 import refusal_pb2 as _refusal_pb2
from bacalhau.v1 import resources_pb2 as _resources_pb2
from bacalhau.v1 import verification_pb2 as _verification_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NetworkMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NETWORK_MODE_UNSPECIFIED: _ClassVar[NetworkMode]
    NETWORK_MODE_NONE: _ClassVar[NetworkMode]
    NETWORK_MODE_FULL: _ClassVar[NetworkMode]
    NETWORK_MODE_HOST: _ClassVar[NetworkMode]

class ConstraintOperator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSTRAINT_OPERATOR_UNSPECIFIED: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_IN: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_NOT_IN: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_EXISTS: _ClassVar[ConstraintOperator]
    CONSTRAINT_OPERATOR_NOT_EXISTS: _ClassVar[ConstraintOperator]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_PENDING: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_COMPLETED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]

class JobEventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_EVENT_TYPE_UNSPECIFIED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_SUBMITTED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_OFFERED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_BID_RECEIVED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_DECLINED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_QUEUED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_AWARDED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_AWARD_REFUSED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_AWARD_CONFIRMED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_PHASE_CHANGED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_PROGRESS: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_REPORTED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_EXECUTION_COMPLETED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_EXECUTION_FAILED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_EXECUTION_CANCELLED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_COMPLETED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_FAILED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_CANCELLED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_COMMITTED: _ClassVar[JobEventType]
    JOB_EVENT_TYPE_VERIFYING: _ClassVar[JobEventType]
NETWORK_MODE_UNSPECIFIED: NetworkMode
NETWORK_MODE_NONE: NetworkMode
NETWORK_MODE_FULL: NetworkMode
NETWORK_MODE_HOST: NetworkMode
CONSTRAINT_OPERATOR_UNSPECIFIED: ConstraintOperator
CONSTRAINT_OPERATOR_IN: ConstraintOperator
CONSTRAINT_OPERATOR_NOT_IN: ConstraintOperator
CONSTRAINT_OPERATOR_EXISTS: ConstraintOperator
CONSTRAINT_OPERATOR_NOT_EXISTS: ConstraintOperator
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_PENDING: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_COMPLETED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
JOB_EVENT_TYPE_UNSPECIFIED: JobEventType
JOB_EVENT_TYPE_SUBMITTED: JobEventType
JOB_EVENT_TYPE_OFFERED: JobEventType
JOB_EVENT_TYPE_BID_RECEIVED: JobEventType
JOB_EVENT_TYPE_DECLINED: JobEventType
JOB_EVENT_TYPE_QUEUED: JobEventType
JOB_EVENT_TYPE_AWARDED: JobEventType
JOB_EVENT_TYPE_AWARD_REFUSED: JobEventType
JOB_EVENT_TYPE_AWARD_CONFIRMED: JobEventType
JOB_EVENT_TYPE_PHASE_CHANGED: JobEventType
JOB_EVENT_TYPE_PROGRESS: JobEventType
JOB_EVENT_TYPE_REPORTED: JobEventType
JOB_EVENT_TYPE_EXECUTION_COMPLETED: JobEventType
JOB_EVENT_TYPE_EXECUTION_FAILED: JobEventType
JOB_EVENT_TYPE_EXECUTION_CANCELLED: JobEventType
JOB_EVENT_TYPE_COMPLETED: JobEventType
JOB_EVENT_TYPE_FAILED: JobEventType
JOB_EVENT_TYPE_CANCELLED: JobEventType
JOB_EVENT_TYPE_COMMITTED: JobEventType
JOB_EVENT_TYPE_VERIFYING: JobEventType

class Constraint(_message.Message):
    __slots__ = ("key", "operator", "values")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    key: str
    operator: ConstraintOperator
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, key: _Optional[str] = ..., operator: _Optional[_Union[ConstraintOperator, str]] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class DockerTask(_message.Message):
    __slots__ = ("image", "entrypoint", "command", "working_directory")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ENTRYPOINT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    image: str
    entrypoint: _containers.RepeatedScalarFieldContainer[str]
    command: _containers.RepeatedScalarFieldContainer[str]
    working_directory: str
    def __init__(self, image: _Optional[str] = ..., entrypoint: _Optional[_Iterable[str]] = ..., command: _Optional[_Iterable[str]] = ..., working_directory: _Optional[str] = ...) -> None: ...

class WasmImport(_message.Message):
    __slots__ = ("name", "cid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    name: str
    cid: str
    def __init__(self, name: _Optional[str] = ..., cid: _Optional[str] = ...) -> None: ...

class WasmTask(_message.Message):
    __slots__ = ("module_cid", "entry_point", "arguments", "import_modules")
    MODULE_CID_FIELD_NUMBER: _ClassVar[int]
    ENTRY_POINT_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    IMPORT_MODULES_FIELD_NUMBER: _ClassVar[int]
    module_cid: str
    entry_point: str
    arguments: _containers.RepeatedScalarFieldContainer[str]
    import_modules: _containers.RepeatedCompositeFieldContainer[WasmImport]
    def __init__(self, module_cid: _Optional[str] = ..., entry_point: _Optional[str] = ..., arguments: _Optional[_Iterable[str]] = ..., import_modules: _Optional[_Iterable[_Union[WasmImport, _Mapping]]] = ...) -> None: ...

class EnvironmentVariable(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class InputSource(_message.Message):
    __slots__ = ("cid", "target", "inline_data", "alias")
    CID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    INLINE_DATA_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    cid: str
    target: str
    inline_data: bytes
    alias: str
    def __init__(self, cid: _Optional[str] = ..., target: _Optional[str] = ..., inline_data: _Optional[bytes] = ..., alias: _Optional[str] = ...) -> None: ...

class OutputPath(_message.Message):
    __slots__ = ("name", "path")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    name: str
    path: str
    def __init__(self, name: _Optional[str] = ..., path: _Optional[str] = ...) -> None: ...

class Timeouts(_message.Message):
    __slots__ = ("execution", "queue", "total")
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    execution: _duration_pb2.Duration
    queue: _duration_pb2.Duration
    total: _duration_pb2.Duration
    def __init__(self, execution: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., queue: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., total: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("name", "labels", "count", "docker", "wasm", "env", "inputs", "outputs", "resources", "network", "timeouts", "constraints", "max_price_microcredits", "auction", "verification")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    DOCKER_FIELD_NUMBER: _ClassVar[int]
    WASM_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    TIMEOUTS_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    MAX_PRICE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    AUCTION_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    count: int
    docker: DockerTask
    wasm: WasmTask
    env: _containers.RepeatedCompositeFieldContainer[EnvironmentVariable]
    inputs: _containers.RepeatedCompositeFieldContainer[InputSource]
    outputs: _containers.RepeatedCompositeFieldContainer[OutputPath]
    resources: _resources_pb2.Resources
    network: NetworkMode
    timeouts: Timeouts
    constraints: _containers.RepeatedCompositeFieldContainer[Constraint]
    max_price_microcredits: int
    auction: _auction_pb2.AuctionTerms
    verification: _verification_pb2.Verification
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., count: _Optional[int] = ..., docker: _Optional[_Union[DockerTask, _Mapping]] = ..., wasm: _Optional[_Union[WasmTask, _Mapping]] = ..., env: _Optional[_Iterable[_Union[EnvironmentVariable, _Mapping]]] = ..., inputs: _Optional[_Iterable[_Union[InputSource, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[OutputPath, _Mapping]]] = ..., resources: _Optional[_Union[_resources_pb2.Resources, _Mapping]] = ..., network: _Optional[_Union[NetworkMode, str]] = ..., timeouts: _Optional[_Union[Timeouts, _Mapping]] = ..., constraints: _Optional[_Iterable[_Union[Constraint, _Mapping]]] = ..., max_price_microcredits: _Optional[int] = ..., auction: _Optional[_Union[_auction_pb2.AuctionTerms, _Mapping]] = ..., verification: _Optional[_Union[_verification_pb2.Verification, _Mapping]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "spec", "state", "create_time", "update_time", "requester_id", "failure", "executions", "charged_microcredits")
    ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_ID_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    EXECUTIONS_FIELD_NUMBER: _ClassVar[int]
    CHARGED_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    id: str
    spec: JobSpec
    state: JobState
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    requester_id: str
    failure: _execution_pb2.Fault
    executions: _containers.RepeatedCompositeFieldContainer[_execution_pb2.Execution]
    charged_microcredits: int
    def __init__(self, id: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., state: _Optional[_Union[JobState, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., requester_id: _Optional[str] = ..., failure: _Optional[_Union[_execution_pb2.Fault, _Mapping]] = ..., executions: _Optional[_Iterable[_Union[_execution_pb2.Execution, _Mapping]]] = ..., charged_microcredits: _Optional[int] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("sequence", "type", "time", "node_id", "execution_id", "message", "price_microcredits", "refusal", "phase", "done_bytes", "total_bytes", "state", "fault")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    type: JobEventType
    time: _timestamp_pb2.Timestamp
    node_id: str
    execution_id: str
    message: str
    price_microcredits: int
    refusal: _refusal_pb2.Refusal
    phase: _execution_pb2.ExecutionPhase
    done_bytes: int
    total_bytes: int
    state: JobState
    fault: _execution_pb2.Fault
    def __init__(self, sequence: _Optional[int] = ..., type: _Optional[_Union[JobEventType, str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., node_id: _Optional[str] = ..., execution_id: _Optional[str] = ..., message: _Optional[str] = ..., price_microcredits: _Optional[int] = ..., refusal: _Optional[_Union[_refusal_pb2.Refusal, _Mapping]] = ..., phase: _Optional[_Union[_execution_pb2.ExecutionPhase, str]] = ..., done_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., state: _Optional[_Union[JobState, str]] = ..., fault: _Optional[_Union[_execution_pb2.Fault, _Mapping]] = ...) -> None: ...
