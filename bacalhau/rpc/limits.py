"""Limits of both listeners and of calls to other nodes: each is there so that no caller can exhaust the node."""

from __future__ import annotations

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""One message, in and out; content moves in chunks far below it."""

CHUNK_BYTES = 256 * 1024
"""Content of one message of a stream."""

PEER_MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""One message that a stranger may send: 100 offers of at most 32 KiB each fit."""

STREAM_BYTES_WAITING_MAX = 2 * 1024 * 1024
"""What a client may send ahead on one stream of the client API."""

ADD_CHUNK_BYTES_MAX = 1024 * 1024
"""Content of one message that a client sends, and the largest chunk that a file is cut into."""

IPFS_PAGE_SIZE_DEFAULT = 1000
IPFS_PAGE_SIZE_MAX = 10_000

OFFERS_PER_CALL_MAX = 100
RECEIPTS_PER_CALL_MAX = 100
RECEIPTS_RETURNED_MAX = 50
"""Receipts with both signatures, in one message: two envelopes each."""
PAGE_SIZE_MAX = 1000
PEER_PAGE_SIZE_MAX = 100
BLOCK_CIDS_PER_CALL_MAX = 1000
BLOCK_STREAMS_MAX = 64
"""Streams of blocks for other nodes at once; what one sends is bounded by what the node holds, each block once."""
BLOCK_STREAMS_PER_HOST_MAX = 32
"""Of these for one host: what is left is for all others. Nodes of one machine share it, and those behind one NAT."""
BLOCK_STALL_S = 60.0
"""How long a message of such a stream may wait for its reader; a fetching node leaves after 10 s of silence."""
LOG_STREAMS_MAX = 1000
"""Streams of output for requesters at once. They may stall as long as they like: somebody has paused a terminal."""
LOG_STREAMS_PER_NODE_MAX = 250
"""Of these for one requester."""
QUOTES_AT_ONCE_MAX = 64
"""Quotes that are being made at once: each may run the operator's programs."""
REFLECTIONS_MAX = 16
"""Streams of reflection on the peer API at once: tools of people, for seconds."""
REFLECTION_S = 10.0
"""How long each may last there."""
PEER_CONNECTIONS_MAX = 1000
"""Connections to the peer API at once, each an open file and 45 to 70 KiB: as many as a node knows others. Fewer where
the process may not open twice as many files. When three quarters are taken, one host keeps a quarter."""
PEER_HANDSHAKE_TIMEOUT_S = 10.0
"""How long a connection may take to say something that is TLS and HTTP/2."""
PEER_CALLS_MAX = 4000
"""Calls of all other nodes that are being handled at once."""
PEER_CALLS_WAITING_PER_HOST_MAX = 1000
"""Of these, for one host, such as have not sent their request yet, or do not take their answer."""
PEER_PATIENCE_S = 20.0
"""How long either may last; a node gives its calls up after 5 s."""
PEER_LOOK_S = 5.0
"""How often the calls and connections of the peer API are looked at for that."""
PEER_STREAMS_MAX = 1000
"""Calls that one connection may have open at once."""

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
)
