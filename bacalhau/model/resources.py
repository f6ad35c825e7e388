"""Resources of machines and jobs: integers with the unit in the name."""

from __future__ import annotations

from bacalhau.model.frozen import dataclass
from bacalhau.model.units import GIB, MIB, size_text


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of each resource; none is ever negative."""

    cpu_millicores: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpu_count: int = 0

    def plus(self, other: Resources) -> Resources:
        return Resources(
            self.cpu_millicores + other.cpu_millicores,
            self.memory_bytes + other.memory_bytes,
            self.disk_bytes + other.disk_bytes,
            self.gpu_count + other.gpu_count,
        )

    def minus(self, other: Resources) -> Resources:
        return Resources(
            self.cpu_millicores - other.cpu_millicores,
            self.memory_bytes - other.memory_bytes,
            self.disk_bytes - other.disk_bytes,
            self.gpu_count - other.gpu_count,
        )

    def fits_in(self, room: Resources) -> bool:
        """True where every amount is at most that of `room`."""
        return (
            self.cpu_millicores <= room.cpu_millicores
            and self.memory_bytes <= room.memory_bytes
            and self.disk_bytes <= room.disk_bytes
            and self.gpu_count <= room.gpu_count
        )

    def items(self) -> tuple[tuple[str, int], ...]:
        """(name with unit, amount), in a fixed order."""
        return (
            ("cpu_millicores", self.cpu_millicores),
            ("memory_bytes", self.memory_bytes),
            ("disk_bytes", self.disk_bytes),
            ("gpu_count", self.gpu_count),
        )

    def lacks(self, room: Resources) -> tuple[tuple[str, int, int], ...]:
        """(name, asked, available) of each amount that does not fit in `room`; empty where all fit."""
        return tuple(
            (name, asked, available)
            for (name, asked), (_, available) in zip(self.items(), room.items(), strict=True)
            if asked > available
        )


def amount_text(name: str, amount: int) -> str:
    """An amount of a resource for a person: ("memory_bytes", 536870912) is "512 MiB of memory"."""
    match name:
        case "cpu_millicores":
            cores = f"{amount // 1000}.{amount % 1000:03}".rstrip("0").rstrip(".")
            return f"{cores} CPU"
        case "gpu_count":
            return f"{amount} GPU"
        case _:
            return f"{size_text(amount)} of {name.removesuffix('_bytes')}"


DEFAULT_JOB_RESOURCES = Resources(cpu_millicores=500, memory_bytes=512 * MIB, disk_bytes=GIB)
