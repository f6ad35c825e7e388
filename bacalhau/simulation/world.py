"""A simulated world: nodes, the network between them, and time. It drives the machines of live nodes.

All chance comes from generators of one seed, so that a seed is a story. Owns no scenario and measures nothing:
what a run is about is told by whoever makes the world (run.py for markets, stories.py for faults); a Recorder
hears what is written, a Watch checks every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Protocol

from bacalhau.model.frozen import replace
from bacalhau.model.units import SECOND_US
from bacalhau.scheduler import events as ev
from bacalhau.simulation import engine
from bacalhau.simulation.loop import EventLoop
from bacalhau.simulation.node import Crash, SimulatedNode
from bacalhau.simulation.profile import Machines
from bacalhau.simulation.weather import Weather

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from bacalhau.model.cid import Cid
    from bacalhau.model.job import JobSpec
    from bacalhau.model.market import ClaimedInput
    from bacalhau.model.refusals import Refusal
    from bacalhau.scheduler.compute import ComputeMachine
    from bacalhau.scheduler.effects import Effects
    from bacalhau.scheduler.events import ComputeEvent, RequesterEvent
    from bacalhau.scheduler.records import Write
    from bacalhau.scheduler.requester import RequesterMachine
    from bacalhau.simulation.profile import Profile

HEARTBEAT_US = 5 * SECOND_US
_STRAGGLING_US = 20 * SECOND_US
_DOWN_AFTER_CRASH_US = 40 * SECOND_US
_ID_BITS = 48
_ID_MASK = 2**_ID_BITS - 1
_ID_STEP = 0x9E3779B97F4B  # odd, so that counting in steps of it meets every id once


@dataclass(frozen=True, slots=True)
class Plan:
    """A job and what it will do: how long it runs on a node of speed 100, and how much it puts out. `inputs` with
    their true sizes."""

    spec: JobSpec
    run_us: int
    inputs: tuple[ClaimedInput, ...] = ()
    result_bytes: int = 0

    @property
    def told(self) -> JobSpec:
        """The spec as it is submitted: what the program will do stands in its environment, where only the
        simulated engine of its node looks."""
        return replace(
            self.spec, env=(("RUN_US", str(self.run_us)), ("RESULT_BYTES", str(self.result_bytes)))
        )


class Recorder(Protocol):
    """Hears what is committed and what runs."""

    def written(self, node: SimulatedNode, writes: Sequence[Write]) -> None: ...
    def runs(
        self, node: SimulatedNode, execution_id: str, job_id: str, from_us: int, run_us: int
    ) -> None: ...
    def begins(self, job_id: str) -> None: ...
    def ended(self, node: SimulatedNode, execution_id: str) -> None: ...


class Watch(Protocol):
    """Looks at every step of a machine, before it is committed, and at every program that starts. The event of a
    step is None where time has passed, or a node has restarted."""

    def stepped(
        self,
        node: SimulatedNode,
        machine: RequesterMachine | ComputeMachine,
        event: RequesterEvent | ComputeEvent | None,
        effects: Effects,
    ) -> None: ...
    def started(self, node: SimulatedNode) -> None: ...


@dataclass(slots=True)
class World:
    """See the module."""

    seed: int
    machines: Machines = field(default_factory=Machines)
    recorder: Recorder | None = None
    watch: Watch | None = None
    keep_ended: bool = False
    programs_outlive: bool = False
    heartbeat_us: int = HEARTBEAT_US
    ask_us: int = 0
    fetch_jitter_us: int = 0
    restores: bool = False
    """Nodes are restored from backups, and others give them back what they have forgotten."""
    loop: EventLoop = field(default_factory=EventLoop)
    random: Random = field(init=False)
    nodes: dict[str, SimulatedNode] = field(default_factory=dict)
    sizes: dict[Cid, int] = field(default_factory=dict)
    """Bytes of the data that jobs have named."""
    sent: dict[str, int] = field(init=False)
    weather: Weather = field(default_factory=Weather, init=False)
    """Changed by turn()."""
    calm: bool = field(default=True, init=False)
    """Every message arrives once."""
    prompt: bool = field(default=True, init=False)
    """A commit takes no time, and no node dies beside one."""
    _steady_us: int | None = field(default=0, init=False)
    """How long every message takes; None where chance has a part in it."""
    _requesters: list[SimulatedNode] = field(default_factory=list)
    _ids: int = 0
    _id_salt: int = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(f"world {self.seed}")
        self._id_salt = Random(f"ids {self.seed}").getrandbits(_ID_BITS)
        kinds = (
            "offer",
            "offer_closed",
            "cancellation",
            "award",
            "bid",
            "decline",
            "renewal",
            "report",
            "commitment",
            "reveal_request",
            "receipts",
            "note",
            "heartbeat",
        )
        self.sent = dict.fromkeys(kinds, 0)

    # --- what is told to it ---

    def turn(self, weather: Weather) -> None:
        """The weather from now on."""
        self.weather, self.calm = weather, weather.calm
        self.prompt = not (weather.commit_us or weather.crashes)
        self._steady_us = weather.latency_us if weather.calm and weather.jitter_us is None else None

    def add_node(self, id: str, profile: Profile) -> SimulatedNode:
        """A node, started; its heartbeats begin at once."""
        node = self.nodes[id] = SimulatedNode(self, id, len(self.nodes), profile)
        if profile.requester is not None:
            self._requesters.append(node)
        node.start()
        return node

    def begin_heartbeats(self, *, spread: bool = True) -> None:
        """Every node of the world announces itself, and then at every interval, each at its own time of it."""
        for node in self.nodes.values():
            if node.profile.compute is None:
                continue
            self._announce(node)
            offset_us = self.random.randrange(self.heartbeat_us) if spread else 0
            self.loop.after(self.heartbeat_us + offset_us, self._heartbeat, node)

    def submit(
        self,
        node_id: str,
        plan: Plan,
        *,
        job_id: str = "",
        answer: Callable[[Refusal | None], None] | None = None,
    ) -> str | None:
        """The job's id; None where the node is down or refuses. `answer` comes with the commit, if ever."""
        node = self.nodes[node_id]
        if not node.up:
            return None
        id = job_id or self.new_id("j")
        for claimed in plan.inputs:
            self.sizes[claimed.cid] = claimed.size_bytes
        event = ev.JobSubmitted(id, plan.told, plan.inputs, self.spec_digest(id))
        return id if node.tell_requester(event, answer) is None else None

    def cancel(self, node_id: str, job_id: str) -> None:
        """As its user would."""
        self.nodes[node_id].tell_requester(ev.JobCancelled(job_id))

    def settle(self, node_id: str, peer_id: str, amount_microcredits: int) -> None:
        """The operator of a node says that the peer has paid outside the system."""
        self.nodes[node_id].tell_compute(ev.SettlementRecorded(peer_id, amount_microcredits))

    def shut_down(self, node_id: str) -> None:
        """A graceful end: no new work, programs are stopped, then the process goes."""
        node = self.nodes[node_id]
        if not node.up or node.compute is None:
            return
        node.tell_compute(ev.ShutdownBegun())
        for execution_id in tuple(node.programs):
            engine.stop(self, node, execution_id)
        life = node.life
        self.loop.after(SECOND_US, lambda: node.crash() if node.life == life else None)

    def die(self, node: SimulatedNode) -> None:
        """The process is gone, and comes back after a while."""
        node.crash()
        self.loop.after(self.random.randrange(_DOWN_AFTER_CRASH_US), node.start)

    # --- for the nodes ---

    def new_id(self, prefix: str) -> str:
        """Ids are spread evenly, for ties end on them."""
        self._ids += 1
        return f"{prefix}-{(self._ids * _ID_STEP + self._id_salt) & _ID_MASK:012x}"

    def spec_digest(self, job_id: str) -> bytes:
        """What the job's serialised spec would hash to: only equality counts."""
        return job_id.encode()

    def may_crash(self, node: SimulatedNode) -> None:
        """Raises Crash where it does."""
        if self.random.randrange(1000) < self.weather.crashes:
            self.die(node)
            raise Crash

    def post(self, sender: SimulatedNode, deliver: Callable[..., object], *arguments: Any) -> None:
        """One message, which may be lost, repeated, late, and overtaken by others. `deliver` is called with the
        arguments, of which the receiver is the first, whether that is up or not."""
        loop, steady_us = self.loop, self._steady_us
        if steady_us is not None:
            loop.put(loop.now + steady_us, deliver, arguments)
            return
        if self.calm:
            loop.put(loop.now + self.weather.delay_us(self.random), deliver, arguments)
            return
        weather, chance = self.weather, self.random.randrange
        receiver: SimulatedNode = arguments[0]
        if (sender.id, receiver.id) in weather.partitioned or (receiver.id, sender.id) in weather.partitioned:
            return
        if weather.apart and (sender.id in weather.apart) is not (receiver.id in weather.apart):
            return
        if sender is not receiver and chance(1000) < weather.loss:
            return
        for _ in range(2 if chance(1000) < weather.duplication else 1):
            straggles = chance(1000) < weather.straggling
            delay_us = chance(_STRAGGLING_US) if straggles else weather.delay_us(self.random)
            loop.put(loop.now + delay_us, deliver, arguments)

    def post_to_all(
        self, sender: SimulatedNode, receivers: Sequence[SimulatedNode], event: ComputeEvent
    ) -> None:
        """The same event to the compute machine of each. Where all messages take equally long, one event of the loop
        brings it."""
        if self._steady_us is not None:
            self.loop.after(self._steady_us, _tell_each, receivers, event)
            return
        for receiver in receivers:
            self.post(sender, SimulatedNode.tell_compute, receiver, event)

    # --- heartbeats ---

    def _heartbeat(self, node: SimulatedNode) -> None:
        self._announce(node)
        self.loop.after(self.heartbeat_us, self._heartbeat, node)

    def _announce(self, node: SimulatedNode) -> None:
        if not node.up:
            return
        heard = ev.PeerHeard(node.id)
        self.sent["heartbeat"] += len(self._requesters)
        if self.calm:
            for requester in self._requesters:
                requester.tell_requester(heard)
            return
        for requester in self._requesters:
            if requester is node:
                node.tell_requester(heard)
            else:
                self.post(node, SimulatedNode.tell_requester, requester, heard)


def _tell_each(receivers: Sequence[SimulatedNode], event: ComputeEvent) -> None:
    for receiver in receivers:
        receiver.tell_compute(event)
