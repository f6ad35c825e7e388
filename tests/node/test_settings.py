"""Settings that cannot be are refused before anything starts, by the name of their flag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bacalhau.config import InvalidSetting
from bacalhau.model.units import HOUR_US, SECOND_US
from tests.node.live import settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"heartbeat_us": 0}, "--heartbeat must be from 100ms to 20m"),
        ({"heartbeat_us": HOUR_US // 2}, "--heartbeat"),
        ({"lease_us": 0}, "--lease must be from 1s to"),
        ({"lease_us": 48 * HOUR_US}, "--lease"),
        ({"bid_window_us": 0}, "--bid-window must be from 10ms to 1h"),
        ({"bid_window_us": 2 * HOUR_US}, "--bid-window"),
        ({"execution_timeout_max_us": 0}, "--max-timeout"),
        ({"price_script": "python3 'price.py"}, "--price-script .* is no command line"),
        ({"probe_command": '"probe'}, "--job-selection-probe-exec .* is no command line"),
        ({"probe_command": " "}, "--job-selection-probe-exec names no command"),
    ],
)
def test_a_setting_outside_of_its_limits_is_refused_by_its_flag(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidSetting, match=says):
        settings(tmp_path, **change)


def test_the_limits_themselves_are_taken(tmp_path: Path) -> None:
    settings(tmp_path, heartbeat_us=HOUR_US // 3, lease_us=24 * HOUR_US, bid_window_us=HOUR_US)
    settings(tmp_path, heartbeat_us=SECOND_US // 10, lease_us=SECOND_US, bid_window_us=SECOND_US // 100)
