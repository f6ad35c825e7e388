"""Room on the disk: what the journal needs to go on is kept free, so that a full disk is a refusal and no failure.

Once a step is in the machines it has to be written, or the node must stop. So new jobs, offers and blocks are refused
while the data folder's disk has less free than its reserve; what was accepted goes on in that reserve.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from bacalhau.model.refusals import RefusalReason, refused
from bacalhau.scheduler.events import StorageChanged

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.node.driver import Driver

log = logging.getLogger(__name__)

CHECK_S = 1.0


class DiskRoom:
    """The disk of `folder`, of which `reserve_bytes` are for what was accepted already."""

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._was_full = False

    def free_bytes(self) -> int:
        """What this user may still write there."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    @property
    def is_full(self) -> bool:
        return self.free_bytes() < self._reserve_bytes

    def check(self) -> None:
        """Raises Refused(STORAGE_FULL)."""
        free_bytes = self.free_bytes()
        if free_bytes < self._reserve_bytes:
            raise refused(
                RefusalReason.STORAGE_FULL,
                f"the node's disk is full: {free_bytes} bytes are free and {self._reserve_bytes} are kept for what "
                f"it has accepted; free some space on the disk of {self._folder}",
                free_bytes=free_bytes,
                reserve_bytes=self._reserve_bytes,
            )

    def tell(self, driver: Driver) -> None:
        """Tells the compute machine where it has changed."""
        is_full = self.is_full
        if is_full != self._was_full:
            self._was_full = is_full
            log.warning("the disk of %s %s", self._folder, "is full" if is_full else "has room again")
            driver.tell_compute(StorageChanged(is_full))

    async def watch(self, driver: Driver) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            self.tell(driver)
            await asyncio.sleep(CHECK_S)
