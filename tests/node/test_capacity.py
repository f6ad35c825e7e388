"""What a node gives in all."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from unittest.mock import patch

from bacalhau.config import Settings, machine_capacity
from bacalhau.model.units import MIB

if TYPE_CHECKING:
    from pathlib import Path


def test_of_a_small_disk_four_fifths_of_what_is_free_are_given(tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=500 * MIB)
    with patch.object(shutil, "disk_usage", return_value=usage):
        assert machine_capacity(Settings(data_dir=tmp_path)).disk_bytes == 400 * MIB
