"""What Bitswap has counted since the node started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Blocks and their bytes on the wire, and what was refused or dropped."""

    blocks_sent: int = 0
    bytes_sent: int = 0
    blocks_received: int = 0
    """Those that were asked for."""
    bytes_received: int = 0
    duplicate_blocks: int = 0
    """Asked for, and come before."""
    unsolicited_blocks: int = 0
    """Never asked for, or other bytes than were asked for: not stored."""
    unread_want_bytes: int = 0
    """Parts of want lists above the limit."""
    refused_streams: int = 0
    """More at once than one peer may open."""
    faulty_streams: int = 0
    """Ended for a malformed or too large message, or one that did not come in time."""
    dropped_peers: int = 0
    """Not listened to any more for what they sent."""
