"""Markets and faults in simulated time: the machines of live nodes, thousands of them, under a virtual clock.

What a program begins with can be imported from here. It is loaded when it is first used, for this file runs with the
import of every module of the package, of the cheap ones too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bacalhau.simulation.experiment import Result, compare, run_all
    from bacalhau.simulation.reading import find_scenario, read_scenario
    from bacalhau.simulation.run import Run, simulate

__all__ = ["Result", "Run", "compare", "find_scenario", "read_scenario", "run_all", "simulate"]
_MODULES = {
    "Result": "experiment",
    "Run": "run",
    "compare": "experiment",
    "find_scenario": "reading",
    "read_scenario": "reading",
    "run_all": "experiment",
    "simulate": "run",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
