from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VerificationPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERIFICATION_POLICY_UNSPECIFIED: _ClassVar[VerificationPolicy]
    VERIFICATION_POLICY_NONE: _ClassVar[VerificationPolicy]
    VERIFICATION_POLICY_REPLICATED: _ClassVar[VerificationPolicy]
    VERIFICATION_POLICY_ADAPTIVE: _ClassVar[VerificationPolicy]
VERIFICATION_POLICY_UNSPECIFIED: VerificationPolicy
VERIFICATION_POLICY_NONE: VerificationPolicy
VERIFICATION_POLICY_REPLICATED: VerificationPolicy
VERIFICATION_POLICY_ADAPTIVE: VerificationPolicy

class Verification(_message.Message):
    __slots__ = ("policy", "confidence", "ignore_stdout")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    IGNORE_STDOUT_FIELD_NUMBER: _ClassVar[int]
    policy: VerificationPolicy
    confidence: int
    ignore_stdout: bool
    def __init__(self, policy: _Optional[_Union[VerificationPolicy, str]] = ..., confidence: _Optional[int] = ..., ignore_stdout: _Optional[bool] = ...) -> None: ...

class ResultCommitment(_message.Message):
    __slots__ = ("execution_id", "attempt", "digest")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    attempt: int
    digest: bytes
    def __init__(self, execution_id: _Optional[str] = ..., attempt: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class RevealRequest(_message.Message):
    __slots__ = ("execution_id",)
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    def __init__(self, execution_id: _Optional[str] = ...) -> None: ...
