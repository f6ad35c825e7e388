"""The real parts that tests run against, as fixtures.

Each skips the test, naming the part, where it is missing.
With BACALHAU_REQUIRE_PARTS=1, as .ci/run sets it, a missing part is a failure.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing_part(part: str, remedy: str) -> NoReturn:
    """Skips the test for want of `part`, or fails it where every part is required."""
    reason = f"{part} is missing: {remedy}"
    if os.environ.get("BACALHAU_REQUIRE_PARTS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
