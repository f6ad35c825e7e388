from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ExchangeCounters(_message.Message):
    __slots__ = ("blocks_sent", "bytes_sent", "blocks_received", "bytes_received", "duplicate_blocks", "unsolicited_blocks", "unread_want_bytes", "refused_streams", "faulty_streams", "dropped_peers")
    BLOCKS_SENT_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    BYTES_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    UNSOLICITED_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    UNREAD_WANT_BYTES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_STREAMS_FIELD_NUMBER: _ClassVar[int]
    FAULTY_STREAMS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_PEERS_FIELD_NUMBER: _ClassVar[int]
    blocks_sent: int
    bytes_sent: int
    blocks_received: int
    bytes_received: int
    duplicate_blocks: int
    unsolicited_blocks: int
    unread_want_bytes: int
    refused_streams: int
    faulty_streams: int
    dropped_peers: int
    def __init__(self, blocks_sent: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., blocks_received: _Optional[int] = ..., bytes_received: _Optional[int] = ..., duplicate_blocks: _Optional[int] = ..., unsolicited_blocks: _Optional[int] = ..., unread_want_bytes: _Optional[int] = ..., refused_streams: _Optional[int] = ..., faulty_streams: _Optional[int] = ..., dropped_peers: _Optional[int] = ...) -> None: ...
