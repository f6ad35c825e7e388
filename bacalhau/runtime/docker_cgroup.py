"""What the machine knows of a container without asking its engine: usage from its cgroup, times from its
state.

The engine's own statistics take one to two seconds a call. Cgroup files are there only while the container
runs, and only where the node and the engine share a machine; where they are missing, usage is 0."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Final

# By driver (cgroupfs, systemd) and version: the folders of a container, {id} its full id.
_MEMORY_PEAK: Final = (
    "/sys/fs/cgroup/memory/docker/{id}/memory.max_usage_in_bytes",
    "/sys/fs/cgroup/memory/system.slice/docker-{id}.scope/memory.max_usage_in_bytes",
    "/sys/fs/cgroup/system.slice/docker-{id}.scope/memory.peak",
    "/sys/fs/cgroup/docker/{id}/memory.peak",
)
_CPU_NANOSECONDS: Final = (
    "/sys/fs/cgroup/cpuacct/docker/{id}/cpuacct.usage",
    "/sys/fs/cgroup/cpuacct/system.slice/docker-{id}.scope/cpuacct.usage",
)
_CPU_STAT: Final = (
    "/sys/fs/cgroup/system.slice/docker-{id}.scope/cpu.stat",
    "/sys/fs/cgroup/docker/{id}/cpu.stat",
)


def usage(container_id: str) -> tuple[int, int]:
    """(CPU microseconds, peak memory in bytes) of a running container; 0 where that cannot be read."""
    peak = _read(_MEMORY_PEAK, container_id)
    nanoseconds = _read(_CPU_NANOSECONDS, container_id)
    if nanoseconds:
        return int(nanoseconds) // 1000, int(peak or 0)
    for line in _read(_CPU_STAT, container_id).splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value), int(peak or 0)
    return 0, int(peak or 0)


def _read(paths: tuple[str, ...], container_id: str) -> str:
    for path in paths:
        try:
            with open(path.format(id=container_id)) as file:
                return file.read()
        except OSError:
            continue
    return ""


def can_list(path: str) -> bool:
    """Whether the folder is on this machine, and readable by this user."""
    return os.access(path, os.R_OK | os.X_OK)


def between_us(start: str, end: str) -> int:
    """Microseconds between two times as the engine writes them (RFC 3339 with nanoseconds, UTC)."""
    return max(0, int((_time(end) - _time(start)).total_seconds() * 1_000_000))


def since_us(start: str) -> int:
    """Microseconds since then, by this machine's clock, which is the engine's."""
    return max(0, int((datetime.now(UTC) - _time(start)).total_seconds() * 1_000_000))


def _time(text: str) -> datetime:
    # Python reads six digits of a second, the engine writes up to nine.
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6].ljust(6, '0')}+00:00")
