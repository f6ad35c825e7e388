"""Peak memory of a process, as Linux tells it."""

from __future__ import annotations

from pathlib import Path


def peak_kib(process_id: int | None = None) -> int:
    """The most that was resident at a time, in KiB: of the process, or of this one. 0 where there is no /proc.

    Not getrusage: there a process starts with the peak of the one that started it.
    """
    try:
        status = Path(f"/proc/{process_id or 'self'}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
