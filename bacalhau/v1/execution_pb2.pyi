import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FaultKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAULT_KIND_UNSPECIFIED: _ClassVar[FaultKind]
    FAULT_KIND_OUT_OF_MEMORY: _ClassVar[FaultKind]
    FAULT_KIND_EXECUTION_TIMEOUT: _ClassVar[FaultKind]
    FAULT_KIND_OUT_OF_DISK: _ClassVar[FaultKind]
    FAULT_KIND_INVALID_MODULE: _ClassVar[FaultKind]
    FAULT_KIND_INVALID_TASK: _ClassVar[FaultKind]
    FAULT_KIND_UNSAFE_OUTPUT: _ClassVar[FaultKind]
    FAULT_KIND_IMAGE_UNAVAILABLE: _ClassVar[FaultKind]
    FAULT_KIND_INPUT_UNAVAILABLE: _ClassVar[FaultKind]
    FAULT_KIND_INPUT_TOO_LARGE: _ClassVar[FaultKind]
    FAULT_KIND_ENGINE_FAILED: _ClassVar[FaultKind]
    FAULT_KIND_STORAGE_FULL: _ClassVar[FaultKind]
    FAULT_KIND_NODE_LOST: _ClassVar[FaultKind]
    FAULT_KIND_NODE_RESTARTED: _ClassVar[FaultKind]
    FAULT_KIND_RESULT_UNAVAILABLE: _ClassVar[FaultKind]
    FAULT_KIND_NO_NODE: _ClassVar[FaultKind]
    FAULT_KIND_QUEUE_TIMEOUT: _ClassVar[FaultKind]
    FAULT_KIND_TOTAL_TIMEOUT: _ClassVar[FaultKind]
    FAULT_KIND_RESULT_REFUTED: _ClassVar[FaultKind]
    FAULT_KIND_NOT_REVEALED: _ClassVar[FaultKind]
    FAULT_KIND_NO_AGREEMENT: _ClassVar[FaultKind]
    FAULT_KIND_CALLED_OFF: _ClassVar[FaultKind]

class ExecutionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXECUTION_STATE_UNSPECIFIED: _ClassVar[ExecutionState]
    EXECUTION_STATE_AWARDED: _ClassVar[ExecutionState]
    EXECUTION_STATE_RUNNING: _ClassVar[ExecutionState]
    EXECUTION_STATE_REPORTED: _ClassVar[ExecutionState]
    EXECUTION_STATE_COMPLETED: _ClassVar[ExecutionState]
    EXECUTION_STATE_FAILED: _ClassVar[ExecutionState]
    EXECUTION_STATE_CANCELLED: _ClassVar[ExecutionState]
    EXECUTION_STATE_REFUSED: _ClassVar[ExecutionState]
    EXECUTION_STATE_COMMITTED: _ClassVar[ExecutionState]
    EXECUTION_STATE_REVEALED: _ClassVar[ExecutionState]

class ExecutionPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXECUTION_PHASE_UNSPECIFIED: _ClassVar[ExecutionPhase]
    EXECUTION_PHASE_FETCHING_INPUTS: _ClassVar[ExecutionPhase]
    EXECUTION_PHASE_PREPARING: _ClassVar[ExecutionPhase]
    EXECUTION_PHASE_RUNNING: _ClassVar[ExecutionPhase]
    EXECUTION_PHASE_PUBLISHING: _ClassVar[ExecutionPhase]
FAULT_KIND_UNSPECIFIED: FaultKind
FAULT_KIND_OUT_OF_MEMORY: FaultKind
FAULT_KIND_EXECUTION_TIMEOUT: FaultKind
FAULT_KIND_OUT_OF_DISK: FaultKind
FAULT_KIND_INVALID_MODULE: FaultKind
FAULT_KIND_INVALID_TASK: FaultKind
FAULT_KIND_UNSAFE_OUTPUT: FaultKind
FAULT_KIND_IMAGE_UNAVAILABLE: FaultKind
FAULT_KIND_INPUT_UNAVAILABLE: FaultKind
FAULT_KIND_INPUT_TOO_LARGE: FaultKind
FAULT_KIND_ENGINE_FAILED: FaultKind
FAULT_KIND_STORAGE_FULL: FaultKind
FAULT_KIND_NODE_LOST: FaultKind
FAULT_KIND_NODE_RESTARTED: FaultKind
FAULT_KIND_RESULT_UNAVAILABLE: FaultKind
FAULT_KIND_NO_NODE: FaultKind
FAULT_KIND_QUEUE_TIMEOUT: FaultKind
FAULT_KIND_TOTAL_TIMEOUT: FaultKind
FAULT_KIND_RESULT_REFUTED: FaultKind
FAULT_KIND_NOT_REVEALED: FaultKind
FAULT_KIND_NO_AGREEMENT: FaultKind
FAULT_KIND_CALLED_OFF: FaultKind
EXECUTION_STATE_UNSPECIFIED: ExecutionState
EXECUTION_STATE_AWARDED: ExecutionState
EXECUTION_STATE_RUNNING: ExecutionState
EXECUTION_STATE_REPORTED: ExecutionState
EXECUTION_STATE_COMPLETED: ExecutionState
EXECUTION_STATE_FAILED: ExecutionState
EXECUTION_STATE_CANCELLED: ExecutionState
EXECUTION_STATE_REFUSED: ExecutionState
EXECUTION_STATE_COMMITTED: ExecutionState
EXECUTION_STATE_REVEALED: ExecutionState
EXECUTION_PHASE_UNSPECIFIED: ExecutionPhase
EXECUTION_PHASE_FETCHING_INPUTS: ExecutionPhase
EXECUTION_PHASE_PREPARING: ExecutionPhase
EXECUTION_PHASE_RUNNING: ExecutionPhase
EXECUTION_PHASE_PUBLISHING: ExecutionPhase

class Fault(_message.Message):
    __slots__ = ("kind", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: FaultKind
    message: str
    def __init__(self, kind: _Optional[_Union[FaultKind, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("wall_us", "cpu_us", "peak_memory_bytes", "fetched_bytes", "result_bytes")
    WALL_US_FIELD_NUMBER: _ClassVar[int]
    CPU_US_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    FETCHED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESULT_BYTES_FIELD_NUMBER: _ClassVar[int]
    wall_us: int
    cpu_us: int
    peak_memory_bytes: int
    fetched_bytes: int
    result_bytes: int
    def __init__(self, wall_us: _Optional[int] = ..., cpu_us: _Optional[int] = ..., peak_memory_bytes: _Optional[int] = ..., fetched_bytes: _Optional[int] = ..., result_bytes: _Optional[int] = ...) -> None: ...

class ExecutionReport(_message.Message):
    __slots__ = ("execution_id", "attempt", "result_cid", "exit_code", "usage", "fault", "cancelled", "salt")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RESULT_CID_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    attempt: int
    result_cid: str
    exit_code: int
    usage: Usage
    fault: Fault
    cancelled: bool
    salt: bytes
    def __init__(self, execution_id: _Optional[str] = ..., attempt: _Optional[int] = ..., result_cid: _Optional[str] = ..., exit_code: _Optional[int] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., fault: _Optional[_Union[Fault, _Mapping]] = ..., cancelled: _Optional[bool] = ..., salt: _Optional[bytes] = ...) -> None: ...

class Execution(_message.Message):
    __slots__ = ("id", "job_id", "node_id", "state", "phase", "price_microcredits", "charged_microcredits", "report", "create_time", "update_time", "failure", "offer_id", "bond_microcredits", "penalty_microcredits")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PRICE_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    CHARGED_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    BOND_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    PENALTY_MICROCREDITS_FIELD_NUMBER: _ClassVar[int]
    id: str
    job_id: str
    node_id: str
    state: ExecutionState
    phase: ExecutionPhase
    price_microcredits: int
    charged_microcredits: int
    report: ExecutionReport
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    failure: Fault
    offer_id: str
    bond_microcredits: int
    penalty_microcredits: int
    def __init__(self, id: _Optional[str] = ..., job_id: _Optional[str] = ..., node_id: _Optional[str] = ..., state: _Optional[_Union[ExecutionState, str]] = ..., phase: _Optional[_Union[ExecutionPhase, str]] = ..., price_microcredits: _Optional[int] = ..., charged_microcredits: _Optional[int] = ..., report: _Optional[_Union[ExecutionReport, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., failure: _Optional[_Union[Fault, _Mapping]] = ..., offer_id: _Optional[str] = ..., bond_microcredits: _Optional[int] = ..., penalty_microcredits: _Optional[int] = ...) -> None: ...
