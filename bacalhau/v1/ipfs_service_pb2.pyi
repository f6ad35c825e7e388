from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EntryType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_TYPE_UNSPECIFIED: _ClassVar[EntryType]
    ENTRY_TYPE_FILE: _ClassVar[EntryType]
    ENTRY_TYPE_DIRECTORY: _ClassVar[EntryType]
    ENTRY_TYPE_SYMLINK: _ClassVar[EntryType]
    ENTRY_TYPE_BLOCK: _ClassVar[EntryType]
ENTRY_TYPE_UNSPECIFIED: EntryType
ENTRY_TYPE_FILE: EntryType
ENTRY_TYPE_DIRECTORY: EntryType
ENTRY_TYPE_SYMLINK: EntryType
ENTRY_TYPE_BLOCK: EntryType

class AddOptions(_message.Message):
    __slots__ = ("cid_version", "raw_leaves", "chunk_bytes", "no_pin")
    CID_VERSION_FIELD_NUMBER: _ClassVar[int]
    RAW_LEAVES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    NO_PIN_FIELD_NUMBER: _ClassVar[int]
    cid_version: int
    raw_leaves: bool
    chunk_bytes: int
    no_pin: bool
    def __init__(self, cid_version: _Optional[int] = ..., raw_leaves: _Optional[bool] = ..., chunk_bytes: _Optional[int] = ..., no_pin: _Optional[bool] = ...) -> None: ...

class EntryHeader(_message.Message):
    __slots__ = ("path", "type", "size_bytes", "link_target", "path_bytes", "link_target_bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LINK_TARGET_FIELD_NUMBER: _ClassVar[int]
    PATH_BYTES_FIELD_NUMBER: _ClassVar[int]
    LINK_TARGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    type: EntryType
    size_bytes: int
    link_target: str
    path_bytes: bytes
    link_target_bytes: bytes
    def __init__(self, path: _Optional[str] = ..., type: _Optional[_Union[EntryType, str]] = ..., size_bytes: _Optional[int] = ..., link_target: _Optional[str] = ..., path_bytes: _Optional[bytes] = ..., link_target_bytes: _Optional[bytes] = ...) -> None: ...

class AddRequest(_message.Message):
    __slots__ = ("options", "entry", "chunk")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    options: AddOptions
    entry: EntryHeader
    chunk: bytes
    def __init__(self, options: _Optional[_Union[AddOptions, _Mapping]] = ..., entry: _Optional[_Union[EntryHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class AddResponse(_message.Message):
    __slots__ = ("cid", "size_bytes", "entries")
    CID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    cid: str
    size_bytes: int
    entries: int
    def __init__(self, cid: _Optional[str] = ..., size_bytes: _Optional[int] = ..., entries: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("path", "offset_bytes", "length_bytes", "progress")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    path: str
    offset_bytes: int
    length_bytes: int
    progress: bool
    def __init__(self, path: _Optional[str] = ..., offset_bytes: _Optional[int] = ..., length_bytes: _Optional[int] = ..., progress: _Optional[bool] = ...) -> None: ...

class FetchProgress(_message.Message):
    __slots__ = ("done_bytes", "total_bytes")
    DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    done_bytes: int
    total_bytes: int
    def __init__(self, done_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("entry", "chunk", "progress")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    entry: EntryHeader
    chunk: bytes
    progress: FetchProgress
    def __init__(self, entry: _Optional[_Union[EntryHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ..., progress: _Optional[_Union[FetchProgress, _Mapping]] = ...) -> None: ...

class DirectoryEntry(_message.Message):
    __slots__ = ("name", "cid", "size_bytes", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    cid: str
    size_bytes: int
    type: EntryType
    def __init__(self, name: _Optional[str] = ..., cid: _Optional[str] = ..., size_bytes: _Optional[int] = ..., type: _Optional[_Union[EntryType, str]] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("path", "page_size", "page_token")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    path: str
    page_size: int
    page_token: str
    def __init__(self, path: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("entries", "next_page_token")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[DirectoryEntry]
    next_page_token: str
    def __init__(self, entries: _Optional[_Iterable[_Union[DirectoryEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class StatRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class StatResponse(_message.Message):
    __slots__ = ("cid", "type", "size_bytes", "dag_bytes", "link_count", "local", "pinned")
    CID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DAG_BYTES_FIELD_NUMBER: _ClassVar[int]
    LINK_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    cid: str
    type: EntryType
    size_bytes: int
    dag_bytes: int
    link_count: int
    local: bool
    pinned: bool
    def __init__(self, cid: _Optional[str] = ..., type: _Optional[_Union[EntryType, str]] = ..., size_bytes: _Optional[int] = ..., dag_bytes: _Optional[int] = ..., link_count: _Optional[int] = ..., local: _Optional[bool] = ..., pinned: _Optional[bool] = ...) -> None: ...

class ImportCarRequest(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class ImportCarResponse(_message.Message):
    __slots__ = ("roots", "blocks")
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    roots: _containers.RepeatedScalarFieldContainer[str]
    blocks: int
    def __init__(self, roots: _Optional[_Iterable[str]] = ..., blocks: _Optional[int] = ...) -> None: ...

class ExportCarRequest(_message.Message):
    __slots__ = ("cid",)
    CID_FIELD_NUMBER: _ClassVar[int]
    cid: str
    def __init__(self, cid: _Optional[str] = ...) -> None: ...

class ExportCarResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class PinRequest(_message.Message):
    __slots__ = ("cid", "remove")
    CID_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    cid: str
    remove: bool
    def __init__(self, cid: _Optional[str] = ..., remove: _Optional[bool] = ...) -> None: ...

class PinResponse(_message.Message):
    __slots__ = ("pinned",)
    PINNED_FIELD_NUMBER: _ClassVar[int]
    pinned: bool
    def __init__(self, pinned: _Optional[bool] = ...) -> None: ...

class CollectGarbageRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CollectGarbageResponse(_message.Message):
    __slots__ = ("blocks", "freed_bytes")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    blocks: int
    freed_bytes: int
    def __init__(self, blocks: _Optional[int] = ..., freed_bytes: _Optional[int] = ...) -> None: ...
