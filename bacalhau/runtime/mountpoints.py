"""Where an input or output is mounted inside another input: its place there, which no engine can make, for inputs are
read-only."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from bacalhau.model.execution import Fault, FaultKind
from bacalhau.runtime.executor import EngineFault

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.model.job import JobSpec
    from bacalhau.runtime.executor import Workspace


def make_mount_points(spec: JobSpec, workspace: Workspace) -> None:
    """Makes the places that are not there, in the workspace's own copies of the inputs. Raises EngineFault where an
    input has something else there."""
    inputs = {source.target: path for source, path in zip(spec.inputs, workspace.inputs, strict=True)}
    outputs = {output.path: path for output, path in zip(spec.outputs, workspace.outputs, strict=True)}
    for target, path in {**inputs, **outputs}.items():
        around = [outer for outer in inputs if target.startswith(f"{outer}/")]
        if around:
            outer = max(around, key=len)
            _make(inputs[outer], outer, target, is_folder=path.is_dir())


def _make(root: Path, outer: str, target: str, *, is_folder: bool) -> None:
    *folders, last = target.removeprefix(f"{outer}/").split("/")
    place = root
    for name in folders:
        _be_folder(place, outer, target)
        place /= name
        if not os.path.lexists(place):
            place.mkdir()
    _be_folder(place, outer, target)
    place /= last
    if not os.path.lexists(place):
        place.mkdir() if is_folder else place.touch()
    mode = os.lstat(place).st_mode
    if not (stat.S_ISDIR(mode) if is_folder else stat.S_ISREG(mode)):
        raise _fault(
            outer, target, f"has something at '{target}' that is no {'folder' if is_folder else 'file'}"
        )


def _be_folder(place: Path, outer: str, target: str) -> None:
    """Not a link to one either, which might lead to what another job has."""
    if not stat.S_ISDIR(os.lstat(place).st_mode):
        raise _fault(outer, target, "has no folder for it")


def _fault(outer: str, target: str, why: str) -> EngineFault:
    return EngineFault(
        Fault(
            FaultKind.INVALID_TASK,
            f"nothing can be mounted at '{target}': the input at '{outer}' {why}; mount one of them elsewhere",
        )
    )
