"""How the C library treats memory that was freed: a setting of the process, made once by whoever starts a node.

glibc gives freed buffers of a megabyte back to the kernel and faults them in again for the next message: a third of
the node's processor time while content streams in.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_ARENA_MAX: Final = -8
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MMAP_BYTES: Final = 32 * 1024 * 1024  # the most that glibc takes
_KEPT_BYTES: Final = 32 * 1024 * 1024
_ARENAS: Final = 2  # of the default, eight a core, each keeps freed memory of its own


def keep_freed_memory() -> bool:
    """Keep up to 32 MiB of freed memory for the next buffers; False where the C library has no such setting."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return False
    settings = (
        (_M_MMAP_THRESHOLD, _MMAP_BYTES),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES),
        (_M_ARENA_MAX, _ARENAS),
    )
    return all([mallopt(name, value) for name, value in settings])
