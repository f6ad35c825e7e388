"""How the process treats memory that was freed, and looks for more of it: settings that whoever starts a node makes.

glibc gives freed buffers of a megabyte back to the kernel and faults them in again for the next message: a third of
the node's processor time while content streams in. Python's collector goes over all that is alive again and again, a
quarter of a second at a time in which the node does nothing else.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

_M_ARENA_MAX: Final = -8
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MMAP_BYTES: Final = 32 * 1024 * 1024  # the most that glibc takes
_KEPT_BYTES: Final = 32 * 1024 * 1024
_ARENAS: Final = 1  # each keeps freed memory of its own: of the default, eight a core
# Objects more than at the last look, and looks at the young to one at the older: of what jobs make, hardly anything
# is garbage in cycles.
_COLLECTED_AFTER: Final = (10_000, 20, 10)


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


def pass_over_what_stays() -> None:
    """When the node has started: its modules, services and libraries live as long as the process, so that the
    collector need not look at them; nor often at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AFTER)
