"""A started node's own objects are out of the collector's sight; garbage that comes later is not."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc, weakref
from bacalhau.node.allocator import pass_over_what_stays

class Cycle:
    def __init__(self):
        self.itself = self

before = len(gc.get_objects())
pass_over_what_stays()
assert gc.get_freeze_count() > before // 2, gc.get_freeze_count()
assert len(gc.get_objects()) < before // 10, len(gc.get_objects())
gone = weakref.ref(Cycle())
assert gone() is not None
cycles = [Cycle() for _ in range(2 * gc.get_threshold()[0])]
del cycles
assert gone() is None, "the collector does not run by itself any more"
"""


def test_what_a_start_made_is_passed_over_and_later_garbage_is_collected() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
