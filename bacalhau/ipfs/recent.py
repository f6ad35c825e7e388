"""Small blocks that were put or read a moment ago, in memory: a short job looks at the same few again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_BYTES: Final = 8 * 1024 * 1024
# Most blocks of small results have some tens of bytes, and each costs 250 more. A job has two or three of its own, and
# those of a moment are these.
_MAX_BLOCKS: Final = 2048


class RecentBlocks:
    """The blocks used last, by key, up to a number and a total size. What it holds is in the store, too: a block that
    is read while others are deleted is only taken when no deletion came between (`generation`)."""

    def __init__(self, max_bytes: int = _MAX_BYTES, max_blocks: int = _MAX_BLOCKS) -> None:
        self._max_bytes = max_bytes
        self._max_blocks = max_blocks
        self._blocks: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self.generation = 0

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
            return block

    def add(self, blocks: Iterable[tuple[bytes, bytes]], generation: int) -> None:
        """Takes blocks that were in the store at `generation`."""
        with self._lock:
            if generation != self.generation:
                return
            for key, block in blocks:
                if key not in self._blocks:
                    self._blocks[key] = block
                    self._bytes += len(block)
            while self._bytes > self._max_bytes or len(self._blocks) > self._max_blocks:
                _, oldest = self._blocks.popitem(last=False)
                self._bytes -= len(oldest)

    def clear(self) -> None:
        """When blocks were deleted, and what was read until then may be one of them."""
        with self._lock:
            self.generation += 1
            self._blocks.clear()
            self._bytes = 0
