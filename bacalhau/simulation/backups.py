"""Backups of simulated nodes: a copy of what is on a node's disk, and what the node has forgotten once it is put back.

What a restored node forgets is documented (docs/operations.md, "Restoring a backup"). Here it is written down record by
record, so that the checkers except just that.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bacalhau.model.cid import Cid
    from bacalhau.simulation.journal import Journal
    from bacalhau.simulation.node import SimulatedNode

R = TypeVar("R")


@dataclass(slots=True)
class Forgotten:
    """By id: what a node has had on disk since its backup was made, and in the backup is not, or is older."""

    jobs: set[str] = field(default_factory=set)
    """Jobs that are gone."""
    executions: set[str] = field(default_factory=set)
    works: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of the node's folder. Programs are not in it: they run in an engine, beside it."""

    journal: Journal
    held: dict[Cid, None]


def back_up(node: SimulatedNode) -> Backup:
    return Backup(deepcopy(node.journal), dict(node.held))


def restore(node: SimulatedNode, backup: Backup) -> None:
    """The process is ended, and the copy takes the place of what is on disk; the node is started by others."""
    node.crash()
    lost, kept, forgotten = node.journal, backup.journal, node.forgotten
    forgotten.jobs |= lost.jobs.keys() - kept.jobs.keys()
    forgotten.executions |= _older(lost.executions, kept.executions)
    forgotten.works |= _older(lost.works, kept.works)
    node.journal, node.held = kept, backup.held
    node.journal.books.restored = True
    node.restored += 1


def _older(lost: Mapping[str, R], kept: Mapping[str, R]) -> set[str]:
    return {id for id, record in lost.items() if kept.get(id) != record}
