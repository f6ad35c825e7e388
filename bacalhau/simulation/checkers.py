"""What must hold in every world: after each step of a machine, and once everything is settled.

The journal checks what is written (journal.py); here is what the machines hold, what runs, and what the nodes
know of each other. Each check raises AssertionError, with what it found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.model.execution import ExecutionState
from bacalhau.model.market import Bid, ClearingRule
from bacalhau.model.resources import Resources
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.records import ExecutionRecord, OfferMade, WorkState

if TYPE_CHECKING:
    from bacalhau.scheduler.compute import ComputeMachine
    from bacalhau.scheduler.effects import Effects
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.scheduler.requester import RequesterMachine
    from bacalhau.simulation.node import SimulatedNode
    from bacalhau.simulation.world import World

_UNDER_WAY_MAX = 400
"""Messages and timers at one time; stories of faults have five nodes, eight jobs, and at most half as many."""
_RESERVATION_SLACK_US = 60_000_000


@dataclass(slots=True)
class _Standing:
    """A bid that its requester has taken."""

    bid: Bid
    expires_us: int


class _Clearing:
    """Keeps its own list of the bids that stand on each offer, and holds every award against it."""

    def __init__(self) -> None:
        self._rules: dict[str, ClearingRule] = {}
        self._bids: dict[tuple[str, int, str], dict[str, _Standing]] = {}
        """By requester, its life and offer: by node."""
        self._awarded: dict[str, None] = {}

    def stepped(
        self,
        node: SimulatedNode,
        event: RequesterEvent | ComputeEvent | None,
        effects: Effects,
        now: int,
    ) -> None:
        match event:
            case ev.BidReceived(node_id, bid) if effects.refusal is None and bid.id not in self._awarded:
                bids = self._bids.setdefault((node.id, node.life, bid.offer_id), {})
                known = bids.get(node_id)
                if known is None or known.bid != bid:
                    bids[node_id] = _Standing(bid, now + bid.valid_for_us)
            case ev.DeclineReceived(node_id, decline) if effects.refusal is None:
                self._bids.get((node.id, node.life, decline.offer_id), {}).pop(node_id, None)
            case _:
                pass
        for write in effects.writes:
            match write:
                case OfferMade(offer):
                    self._rules[offer.id] = offer.clearing_rule
                case ExecutionRecord(state=ExecutionState.AWARDED):
                    self._check_award(node, write, now)
                case _:
                    pass

    def _check_award(self, node: SimulatedNode, award: ExecutionRecord, now: int) -> None:
        bids = self._bids.get((node.id, node.life, award.offer_id), {})
        winner = bids.pop(award.node_id, None)
        assert winner is not None, f"{award.id} was awarded without a bid that stands"
        assert winner.bid.id == award.bid_id, f"{award.id} names another bid than that of its node: {winner}"
        assert winner.expires_us > now, f"{award.id} was awarded to a bid that has expired: {winner}"
        self._awarded[winner.bid.id] = None
        match self._rules[award.offer_id]:
            case ClearingRule.FIRST_PRICE:
                cheapest = min(
                    (s.bid.price_microcredits for s in bids.values() if s.expires_us > now),
                    default=winner.bid.price_microcredits,
                )
                assert award.price_microcredits == winner.bid.price_microcredits, (
                    f"{award.id} was cleared wrongly"
                )
                assert winner.bid.price_microcredits <= cheapest, f"{award.id} was cleared wrongly: {bids}"


class Checkers:
    """A Watch of one world. Also keeps since when each bid holds capacity, for none may do so without end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held_since: dict[tuple[str, int, str], int] = {}
        self._clearing = _Clearing()

    # --- after every step ---

    def stepped(
        self,
        node: SimulatedNode,
        machine: RequesterMachine | ComputeMachine,
        event: RequesterEvent | ComputeEvent | None,
        effects: Effects,
    ) -> None:
        """Before the step is committed."""
        if effects.refusal is not None:
            assert (effects.writes, effects.sends, effects.starts) == ([], [], []), effects
        machine.check()
        self._check_reservations(node)
        self._clearing.stepped(node, event, effects, self._world.loop.now)
        under_way = len(self._world.loop)
        assert under_way < _UNDER_WAY_MAX, f"messages breed messages at {self._world.loop.now}: {under_way}"

    def started(self, node: SimulatedNode) -> None:
        used = Resources()
        for program in node.programs.values():
            used = used.plus(program.resources)
        assert used.fits_in(node.profile.capacity), (
            f"{node.id} runs more than it has room for: {node.programs}"
        )

    def _check_reservations(self, node: SimulatedNode) -> None:
        """A bid that is not awarded gives its capacity back."""
        compute, config = node.compute, node.profile.compute
        if compute is None or config is None:
            return
        now = self._world.loop.now
        held = {(node.id, node.life, key): now for key in compute.capacity.keys(hard=False)}
        for key in [key for key in self._held_since if key[0] == node.id and key not in held]:
            del self._held_since[key]
        for key in held:
            since_us = self._held_since.setdefault(key, now)
            longest_us = config.bid_valid_for_us + _RESERVATION_SLACK_US
            assert now - since_us <= longest_us, (
                f"{key[0]} holds capacity for the bid on {key[2]} without end"
            )

    # --- at the end ---

    def settled(self) -> bool:
        """Every job has ended and every report was answered."""
        for node in self._world.nodes.values():
            if not node.up or node.journal.unsettled_works():
                return False
            if node.requester is not None and node.requester.open_jobs:
                return False
        return True

    def check_settled(self) -> None:
        """After the faults have stopped: all is accounted for, and nothing is held any more. The world has kept
        what ended."""
        for node in self._world.nodes.values():
            for id in node.journal.jobs:
                assert node.journal.state(id).ended, f"{id} never ended: {node.journal.histories[id]}"
                node.journal.check_job(id)
            if node.requester is not None:
                assert node.requester.deadline() is None, f"{node.id} waits for something that has ended"
            if node.compute is not None:
                assert node.compute.capacity.free == node.profile.capacity, f"{node.id} lost capacity"
            assert not node.programs, node.programs
            for work in node.journal.works.values():
                assert work.state is WorkState.SETTLED, work
                self._check_heard(node, work.id)

    def check_accepted(self, accepted: dict[str, str]) -> None:
        """`accepted`: by job, the node whose SubmitJob was answered. None of them is lost."""
        for job_id, node_id in accepted.items():
            assert job_id in self._world.nodes[node_id].journal.jobs, f"{job_id} was accepted and is lost"

    def _check_heard(self, node: SimulatedNode, execution_id: str) -> None:
        """What a node takes for accepted its requester knows of; what the requester paid for was accepted."""
        work = node.journal.works[execution_id]
        execution = self._world.nodes[work.requester_id].journal.executions[execution_id]
        accepted = work.refusal is None and work.report is not None and not work.report.cancelled
        if accepted:
            assert execution.report == work.report, f"the report of {execution_id} was lost: {execution}"
        if execution.state is ExecutionState.COMPLETED:
            assert accepted, f"{execution_id} was paid for, and its node does not know it: {work}"
