"""A hash over every step of every machine: two runs are the same exactly where it is."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from bacalhau.scheduler.plain import to_plain

if TYPE_CHECKING:
    from bacalhau.scheduler.compute import ComputeMachine
    from bacalhau.scheduler.effects import Effects
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.scheduler.requester import RequesterMachine
    from bacalhau.simulation.node import SimulatedNode
    from bacalhau.simulation.world import World


class Fingerprint:
    """A Watch of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._hash = hashlib.sha256()

    def stepped(
        self,
        node: SimulatedNode,
        machine: RequesterMachine | ComputeMachine,
        event: RequesterEvent | ComputeEvent | None,
        effects: Effects,
    ) -> None:
        step = [self._world.loop.now, node.id, to_plain(event), to_plain(effects)]
        self._hash.update(json.dumps(step, separators=(",", ":")).encode())

    def started(self, node: SimulatedNode) -> None:
        """Programs follow from the steps."""

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
