"""What must hold in every world: after each step of a machine, and once everything is settled.

The journal checks what is written (journal.py), accounts.py what the nodes owe each other; here is what the machines
hold, what runs, and what the nodes know of each other. Each check raises AssertionError, with what it found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.model.auction import BidStanding
from bacalhau.model.execution import ExecutionState, FaultKind
from bacalhau.model.market import Bid
from bacalhau.model.reputation import Conduct, Role
from bacalhau.model.resources import Resources
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.records import AnswerReceived, AuctionCleared, ExecutionRecord
from bacalhau.scheduler.requester import RequesterMachine
from bacalhau.simulation.accounts import Accounts
from bacalhau.simulation.audited import Audited
from bacalhau.simulation.honesty import Honesty

if TYPE_CHECKING:
    from bacalhau.scheduler.compute import ComputeMachine
    from bacalhau.scheduler.effects import Effects
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.simulation.node import SimulatedNode
    from bacalhau.simulation.world import World

_UNDER_WAY_MAX = 400
"""Messages and timers at one time; stories of up to seven nodes and eight jobs have at most half as many, and those
with twice the jobs stay below it."""
_RESERVATION_SLACK_US = 60_000_000


class _Bids:
    """Keeps its own list of the bids that each requester has acknowledged, and holds against it what a clearing
    discloses: none that stands is left out, none that its node withdrew takes part, and none is made up. What
    follows from them audited.py checks."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, int, str], dict[str, AnswerReceived]] = {}
        """By requester, its life and offer: by node, its last acknowledged bid."""
        self._bid_us: dict[str, int] = {}
        """By bid: when its node signed the last copy of it that came."""
        self._declined_us: dict[tuple[str, int, str, str], int] = {}
        """By requester, its life, offer and node: when that signed the last decline that came."""
        self._awarded: dict[str, None] = {}

    def stepped(
        self, node: SimulatedNode, event: RequesterEvent | ComputeEvent | None, effects: Effects, now: int
    ) -> None:
        match event:  # first: where all others have answered, the clearing is of the same step
            case ev.BidReceived(bid=bid) if effects.refusal is None:
                self._bid_us[bid.id] = max(self._bid_us.get(bid.id, 0), event.issued_us)
            case ev.DeclineReceived(node_id, decline) if effects.refusal is None:
                key = (node.id, node.life, decline.offer_id, node_id)
                self._declined_us[key] = max(self._declined_us.get(key, 0), event.issued_us)
            case _:
                pass
        for write in effects.writes:
            match write:
                case AnswerReceived(offer_id=offer_id, node_id=node_id, bid=Bid()):
                    self._taken.setdefault((node.id, node.life, offer_id), {})[node_id] = write
                case ExecutionRecord(state=ExecutionState.AWARDED) if write.bid_id in self._awarded:
                    raise AssertionError(f"{write.id} was awarded to a bid that was awarded before")
                case ExecutionRecord(state=ExecutionState.AWARDED):
                    self._awarded[write.bid_id] = None
                case AuctionCleared():
                    self._check(node, write, now)
                case _:
                    pass

    def _check(self, node: SimulatedNode, cleared: AuctionCleared, now: int) -> None:
        offer_id = cleared.clearing.offer_id
        taken = self._taken.get((node.id, node.life, offer_id), {})
        known = {answer.bid.id for answer in taken.values() if answer.bid is not None}
        disclosed = {sealed.bid.id: standing for sealed, standing in cleared.bid_set}
        assert disclosed.keys() == known, f"{offer_id}: {disclosed} were disclosed, {known} acknowledged"
        for node_id, answer in taken.items():
            bid = answer.bid
            if bid is None or answer.received_us + bid.valid_for_us <= now:
                continue
            takes_part = disclosed[bid.id] is BidStanding.STANDS
            bid_us = self._bid_us[bid.id]
            declined_us = self._declined_us.get((node.id, node.life, offer_id, node_id), -1)
            if declined_us >= bid_us:
                # What a node signs at one instant counts as it comes.
                assert declined_us == bid_us or not takes_part, f"{bid} was withdrawn, and took part"
                continue
            now_awarded = any(award.bid_id == bid.id for award in cleared.clearing.awards)
            before = bid.id in self._awarded and not now_awarded
            assert before or takes_part, f"{bid} stands, and did not take part"


class Checkers:
    """A Watch of one world. Also keeps since when each bid holds capacity, for none may do so without end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held_since: dict[tuple[str, int, str], int] = {}
        self._bids = _Bids()
        self._audited = Audited()
        self._asked: dict[str, None] = {}
        """Executions whose result was asked for."""
        self._committing: dict[str, None] = {}
        """Executions that have a commitment, or get it with the present step."""
        self._accounts = Accounts(world)

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
            assert (effects.sends, effects.starts) == ([], []), effects
        machine.check()
        self._check_reservations(node)
        self._accounts.stepped(node, event, effects)
        self._bids.stepped(node, event, effects, self._world.loop.now)
        if isinstance(machine, RequesterMachine):
            self._audited.stepped(machine, event, effects)
        for write in effects.writes:
            if isinstance(write, ExecutionRecord) and (write.commitment or write.state.ended):
                self._committing[write.id] = None
        for send in effects.sends:
            if isinstance(send, fx.SendRevealRequest):
                self._check_asked(node, send.execution_id)
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

    def _check_asked(self, node: SimulatedNode, execution_id: str) -> None:
        """Nobody is asked for a result that another has yet to commit to. Asked again, it may be that another has
        failed and was replaced."""
        if execution_id in self._asked:
            return
        self._asked[execution_id] = None
        job_id = node.journal.executions[execution_id].job_id
        uncommitted = [
            e for e in node.journal.executions_of(job_id) if not e.state.ended and not e.commitment
        ]
        # What this very step writes is not in the journal yet: of its own execution the commitment may be.
        late = [e for e in uncommitted if e.id not in self._committing]
        assert not late, f"{execution_id} is asked before all have committed: {late}"

    # --- at the end ---

    def settled(self) -> bool:
        """Every job has ended, every report was answered, and every receipt and note is signed by both, or held up
        for a reason that is documented."""
        for node in self._world.nodes.values():
            if not node.up or node.journal.unsettled_works() or not self._accounts.settled(node):
                return False
            if node.requester is not None and node.requester.open_jobs:
                return False
        return True

    def have_met(self, buyer: SimulatedNode, seller: SimulatedNode) -> bool:
        """See Accounts."""
        return self._accounts.have_met(buyer, seller)

    def check_settled(self) -> None:
        """After the faults have stopped: all is accounted for, and nothing is held any more. The world has kept
        what ended."""
        for node in self._world.nodes.values():
            for id in node.journal.jobs:
                assert node.journal.state(id).ended, f"{id} never ended: {node.journal.histories[id]}"
                node.journal.check_job(id)
            if node.requester is not None:
                waits = node.requester.deadline() is not None and not self._accounts.holds_receipts_up(node)
                assert not waits, f"{node.id} waits for something that has ended"
            if node.compute is not None:
                assert node.compute.capacity.free == node.profile.capacity, f"{node.id} lost capacity"
            assert not node.programs, node.programs
            self._check_verdicts(node)
            for work in node.journal.works.values():
                self._check_heard(node, work.id)
            self._accounts.check_settled(node)

    def _check_verdicts(self, node: SimulatedNode) -> None:
        """No cheater was paid where results were compared, and no honest node was taken for one; who was refuted
        forfeits its bond, and nobody else."""
        nodes = self._world.nodes
        for execution in node.journal.executions.values():
            honest = nodes[execution.node_id].profile.honesty is Honesty.HONEST
            compares = node.journal.jobs[execution.job_id].spec.verification.compares
            if compares and execution.state is ExecutionState.COMPLETED:
                assert honest, f"{execution} is that of a cheater, and was paid"
            refuted = execution.failure is not None and execution.failure.kind is FaultKind.RESULT_REFUTED
            assert not (refuted and honest), f"{execution} is honest, and was refuted"
            forfeits = execution.bond_microcredits if refuted else 0
            assert execution.penalty_microcredits == forfeits, f"{execution} forfeits other than its bond"
        for (node_id, role), reputation in node.journal.reputations.items():
            if role is Role.COMPUTE and nodes[node_id].profile.honesty is Honesty.HONEST:
                assert not reputation.count(Conduct.CHEATED), reputation

    def check_accepted(self, accepted: dict[str, str]) -> None:
        """`accepted`: by job, the node whose SubmitJob was answered. None of them is lost."""
        for job_id, node_id in accepted.items():
            assert job_id in self._world.nodes[node_id].journal.jobs, f"{job_id} was accepted and is lost"

    def _check_heard(self, node: SimulatedNode, execution_id: str) -> None:
        """What a node takes for accepted its requester knows of; what the requester paid for was accepted. Except what
        one of the two has forgotten."""
        work = node.journal.works[execution_id]
        requester = self._world.nodes[work.requester_id]
        execution = requester.journal.executions.get(execution_id)
        if execution_id in requester.forgotten.executions or execution_id in node.forgotten.works:
            return
        assert execution is not None, f"{work.requester_id} does not know {execution_id}"
        accepted = work.refusal is None and work.report is not None and not work.report.cancelled
        if accepted:
            assert execution.report == work.report, f"the report of {execution_id} was lost: {execution}"
        if execution.state is ExecutionState.COMPLETED:
            assert accepted, f"{execution_id} was paid for, and its node does not know it: {work}"
