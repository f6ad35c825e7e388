"""Linear memories of WASM programs, allocated here so that a run's sum of them has a limit that can be
observed.

wasmtime's own store limiter refuses growth without a word, one memory at a time; a job's user must read that
it was memory that its program died of. So the engine is given this memory creator (`wasm_memory_creator` of
wasmtime's C API, `wasmtime/config.h`, which the Python package binds but does not wrap). Its contract, which
the safety of compiled code rests on: address space of `reserved` plus `guard` bytes, of which only the
memory's present size may be touched, for as long as the memory lives. Runs in worker processes only; must
never raise into wasmtime.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

from wasmtime import Config
from wasmtime import _ffi as ffi

_PROT_NONE = 0
_MAP_FAILED = ctypes.c_void_p(-1).value
_FINALIZER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class _Memory:
    """One linear memory: `size` bytes can be touched, `capacity` is how far it grows in place."""

    __slots__ = ("address", "capacity", "mapped", "size")

    def __init__(self, address: int, size: int, capacity: int, mapped: int) -> None:
        self.address = address
        self.size = size
        self.capacity = capacity
        self.mapped = mapped


class LinearMemories:
    """All linear memories of the run in progress; one run at a time."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.refused = False
        """Whether the run in progress was refused memory."""
        self._limit_bytes = 0
        self._sum_bytes = 0
        self._live: dict[int, _Memory] = {}
        self._last_id = 0
        # ctypes does not keep callbacks alive: these must live as long as the engine.
        self._get = ffi.wasmtime_memory_get_callback_t(self._on_get)
        self._grow = ffi.wasmtime_memory_grow_callback_t(self._on_grow)
        self._finalize = _FINALIZER(self._on_finalize)
        self._creator = ffi.wasmtime_memory_creator_t()
        new_memory: Any = ffi.wasmtime_new_memory_callback_t(self._on_new)
        self._creator.new_memory = new_memory

    def install(self, config: Config) -> None:
        """Makes engines of this configuration allocate here."""
        # Copy-on-write images need wasmtime's own mappings.
        config.memory_init_cow = False
        ffi.wasmtime_config_host_memory_creator_set(config.ptr(), ctypes.byref(self._creator))

    def begin(self, limit_bytes: int) -> None:
        """Starts the account of a run."""
        self._limit_bytes = limit_bytes
        self.peak_bytes = self._sum_bytes
        self.refused = False

    def _admit(self, more_bytes: int) -> bool:
        return self._sum_bytes + more_bytes <= self._limit_bytes

    def _account(self, more_bytes: int) -> None:
        self._sum_bytes += more_bytes
        self.peak_bytes = max(self.peak_bytes, self._sum_bytes)

    def _on_new(
        self, _env: int, _type: Any, minimum: int, maximum: int, reserved: int, guard: int, result: Any
    ) -> int:
        if not self._admit(minimum):
            self.refused = True
            return _error("the memory that it declares is more than its limit")
        # A 64-bit memory is reserved only in part; it grows in place as far as this run may grow at all.
        capacity = max(reserved, minimum, min(maximum, self._limit_bytes))
        capacity += -capacity % mmap.PAGESIZE
        address = _libc.mmap(None, capacity + guard, _PROT_NONE, _FLAGS, -1, 0)
        if address is None or address == _MAP_FAILED:
            return _error("this machine has no address space left")
        if not _open(address, minimum):
            _libc.munmap(address, capacity + guard)
            return _error("this machine has no memory left")
        self._account(minimum)
        self._last_id += 1
        self._live[self._last_id] = _Memory(address, minimum, capacity, capacity + guard)
        memory = result[0]
        memory.env = self._last_id
        memory.get_memory = self._get
        memory.grow_memory = self._grow
        memory.finalizer = self._finalize
        return 0

    def _on_get(self, memory_id: int, size: Any, capacity: Any) -> int:
        memory = self._live[memory_id]
        size[0] = memory.size
        capacity[0] = memory.capacity
        return memory.address

    def _on_grow(self, memory_id: int, new_size: int) -> int:
        memory = self._live[memory_id]
        more_bytes = new_size - memory.size
        if new_size > memory.capacity or not self._admit(more_bytes) or not _open(memory.address, new_size):
            self.refused = True
            return _error("refused by the limit of this run")
        memory.size = new_size
        self._account(more_bytes)
        return 0

    def _on_finalize(self, memory_id: int) -> None:
        memory = self._live.pop(memory_id)
        self._sum_bytes -= memory.size
        _libc.munmap(memory.address, memory.mapped)


def _open(address: int, size_bytes: int) -> bool:
    """Lets `size_bytes` from `address` be read and written; False where the kernel has no memory for it."""
    if size_bytes == 0:
        return True
    return int(_libc.mprotect(address, size_bytes, mmap.PROT_READ | mmap.PROT_WRITE)) == 0


def _error(reason: str) -> int:
    """A wasmtime error that the caller takes over, as the callbacks' return type wants it: an address."""
    return ctypes.cast(ffi.wasmtime_error_new(reason.encode()), ctypes.c_void_p).value or 0
