from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Conduct(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONDUCT_UNSPECIFIED: _ClassVar[Conduct]
    CONDUCT_COMPLETED: _ClassVar[Conduct]
    CONDUCT_FAILED: _ClassVar[Conduct]
    CONDUCT_LATE: _ClassVar[Conduct]
    CONDUCT_CHEATED: _ClassVar[Conduct]
    CONDUCT_REFUSED: _ClassVar[Conduct]
    CONDUCT_PAID: _ClassVar[Conduct]
    CONDUCT_DISPUTED: _ClassVar[Conduct]
    CONDUCT_ABANDONED: _ClassVar[Conduct]
CONDUCT_UNSPECIFIED: Conduct
CONDUCT_COMPLETED: Conduct
CONDUCT_FAILED: Conduct
CONDUCT_LATE: Conduct
CONDUCT_CHEATED: Conduct
CONDUCT_REFUSED: Conduct
CONDUCT_PAID: Conduct
CONDUCT_DISPUTED: Conduct
CONDUCT_ABANDONED: Conduct

class ConductCount(_message.Message):
    __slots__ = ("conduct", "count", "recent_ppm")
    CONDUCT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    RECENT_PPM_FIELD_NUMBER: _ClassVar[int]
    conduct: Conduct
    count: int
    recent_ppm: int
    def __init__(self, conduct: _Optional[_Union[Conduct, str]] = ..., count: _Optional[int] = ..., recent_ppm: _Optional[int] = ...) -> None: ...

class Reputation(_message.Message):
    __slots__ = ("counts", "consecutive_valid", "score_ppm")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    CONSECUTIVE_VALID_FIELD_NUMBER: _ClassVar[int]
    SCORE_PPM_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedCompositeFieldContainer[ConductCount]
    consecutive_valid: int
    score_ppm: int
    def __init__(self, counts: _Optional[_Iterable[_Union[ConductCount, _Mapping]]] = ..., consecutive_valid: _Optional[int] = ..., score_ppm: _Optional[int] = ...) -> None: ...
