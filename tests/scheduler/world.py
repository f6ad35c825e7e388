"""A small world in memory: real machines on nodes with journals, under a virtual clock and a network that may
lose, repeat, delay and reorder what is sent, and with nodes that crash and come back.

All chance comes from one seeded generator, so that a seed is a story. Each step of a machine is followed by
its own check() and by the journal's; what must hold once everything is settled is asserted by check_settled().
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bacalhau.market.bidding import Answers
from bacalhau.market.pricing import FlatPrice
from bacalhau.model.execution import ExecutionPhase, ExecutionReport, Fault, FaultKind, Usage
from bacalhau.model.job import SECOND_US, Engine
from bacalhau.model.ledger import TradeSide
from bacalhau.model.market import ClaimedInput
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.executions import answer_late_report
from bacalhau.scheduler.records import WorkState
from tests.builders import RESULT, SPEC_DIGEST, a_compute_config, a_policy
from tests.scheduler.agreement import at_rest, check_books, check_heard, check_room
from tests.scheduler.cheats import check_verdicts, commitment_of, compared_of, result_to_compare
from tests.scheduler.nodes import Crash, Honesty, Machines, Node, Program, Weather

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from bacalhau.model.job import JobSpec
    from bacalhau.model.refusals import Refusal
    from bacalhau.model.resources import Resources
    from bacalhau.scheduler.records import WorkRecord

HEARTBEAT_US = 5 * SECOND_US
RPC_TIMEOUT_US = 3 * SECOND_US
_STEPS_AT_ONE_INSTANT_MAX = 10_000
_UNDER_WAY_MAX = 5_000
"""Messages and timers at one time; a calm world of five nodes has some hundred."""


class World:
    """See the module. Every node is a hybrid: requester and compute node in one."""

    def __init__(self, random: Random, machines: Machines | None = None) -> None:
        self.random = random
        self.machines = machines or Machines()
        self.weather = Weather()
        self.now = 0
        self.nodes: dict[str, Node] = {}
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._ids = 0
        self.asked: set[str] = set()
        """Executions whose result was asked for."""

    # --- what a test tells it ---

    def add_node(
        self,
        id: str,
        capacity: Resources,
        price_microcredits: int,
        honesty: Honesty = Honesty.HONEST,
    ) -> None:
        self.nodes[id] = Node(id, capacity, price_microcredits)
        self.nodes[id].honesty = honesty
        self.start(id)
        self._heartbeat(id)

    def submit(self, node_id: str, spec: JobSpec) -> str | None:
        """The job's id, None where the node is down, crashed meanwhile, or refused."""
        job_id = self._id("j")
        node = self.nodes[node_id]
        if not node.up:
            return None
        inputs = tuple(ClaimedInput(cid, 0) for cid in spec.contents())
        event = ev.JobSubmitted(job_id, spec, inputs, SPEC_DIGEST)
        try:
            refusal = self._step_requester(node, event)
        except Crash:
            return None
        return None if refusal is not None else job_id

    def cancel(self, node_id: str, job_id: str) -> None:
        if self.nodes[node_id].up:
            self._tell_requester(self.nodes[node_id], ev.JobCancelled(job_id))

    def shut_down(self, node_id: str) -> None:
        """A graceful end: no new work, programs are stopped, then the process goes."""
        node = self.nodes[node_id]
        if not node.up:
            return
        self._tell_compute(node, ev.ShutdownBegun())
        for execution_id in tuple(node.programs):
            self._stop_program(node, execution_id)
        life = node.life
        self.after(SECOND_US, lambda: self.crash(node_id) if node.life == life else None)

    def crash(self, node_id: str) -> None:
        node = self.nodes[node_id]
        node.up = False
        node.programs = {id: program for id, program in node.programs.items() if program.outlives}

    def start(self, node_id: str) -> None:
        """Starts the node from what it has on disk."""
        node = self.nodes[node_id]
        if node.up:
            return
        node.up, node.life = True, node.life + 1
        machines, journal = self.machines, node.journal
        node.requester = machines.requester(replace(machines.requester_config, node_id=node.id), self._id)
        policy = a_policy(capacity=node.capacity, job_limit=node.capacity)
        node.compute = machines.compute(
            replace(a_compute_config(policy=policy), node_id=node.id, credit=machines.credit),
            FlatPrice(node.price_microcredits),
            self._id,
            (Engine.DOCKER, Engine.WASM),
        )
        works = journal.unsettled_works()
        wanted = [work.id for work in works if work.state is WorkState.ACCEPTED]
        node.programs = {id: program for id, program in node.programs.items() if id in wanted}
        try:
            jobs, executions = journal.open_jobs(), journal.executions_of_open_jobs()
            known, books = journal.reputations.values(), journal.books()
            self._apply(node, node.requester.restore(jobs, executions, known, books, now=self.now))
            self._apply(node, node.compute.restore(works, known, books, now=self.now))
        except Crash:
            return

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (self.now + delay_us, self._order, action))

    def run(self, until_us: int, *, done: Callable[[], bool] = lambda: False) -> None:
        """Lets time pass until then, or until `done`."""
        here = 0
        while self._queue and self._queue[0][0] <= until_us and not done():
            due, _, action = heapq.heappop(self._queue)
            here = here + 1 if due == self.now else 0
            assert here < _STEPS_AT_ONE_INSTANT_MAX, f"time stands still at {self.now}"
            assert len(self._queue) < _UNDER_WAY_MAX, f"messages breed messages at {self.now}"
            self.now = due
            action()
        if not done():
            self.now = max(self.now, until_us)

    # --- steps ---

    def _id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}-{self._ids}"

    def _heartbeat(self, node_id: str) -> None:
        node = self.nodes[node_id]
        if node.up:
            for other in self.nodes.values():
                if other is node:
                    self._tell_requester(node, ev.PeerHeard(node_id))
                else:
                    self._post(node, other, lambda to: self._tell_requester(to, ev.PeerHeard(node_id)))
        self.after(HEARTBEAT_US, lambda: self._heartbeat(node_id))

    def _tell_requester(self, node: Node, event: ev.RequesterEvent) -> None:
        try:
            self._step_requester(node, event)
        except Crash:
            return

    def _tell_compute(self, node: Node, event: ev.ComputeEvent) -> None:
        try:
            self._step_compute(node, event)
        except Crash:
            return

    def _step_requester(self, node: Node, event: ev.RequesterEvent) -> Refusal | None:
        if not node.up:
            raise Crash
        effects = node.requester.handle(event, now=self.now)
        self._apply(node, effects)
        return effects.refusal

    def _step_compute(self, node: Node, event: ev.ComputeEvent) -> Refusal | None:
        if not node.up:
            raise Crash
        effects = node.compute.handle(event, now=self.now)
        self._apply(node, effects)
        return effects.refusal

    def _apply(self, node: Node, effects: fx.Effects) -> None:
        """Commit, send, start; the process may die before each of them."""
        if effects.refusal is not None:
            assert (effects.sends, effects.starts) == ([], []), effects
        node.requester.check()
        node.compute.check()
        credit = node.compute.receivables.credit
        assert credit.unproven_exposure <= credit.unproven_limit, f"{node.id} gives more credit than it may"
        self._may_crash(node)
        node.journal.commit(effects.writes)
        self._may_crash(node)
        for send in effects.sends:
            self._send(node, send)
        for start in effects.starts:
            self._may_crash(node)
            self._start(node, start)
        self._arm(node)

    def _may_crash(self, node: Node) -> None:
        if self.weather.crash_in_step and self.random.randrange(1000) < self.weather.crash_in_step:
            self.crash(node.id)
            self.after(self.random.randrange(40 * SECOND_US), lambda: self.start(node.id))
            raise Crash

    def _arm(self, node: Node) -> None:
        dues = [due for due in (node.requester.deadline(), node.compute.deadline()) if due is not None]
        if dues:
            life, late_us = node.life, self.random.randrange(self.weather.late_wakes_us + 1)
            self.after(max(0, min(dues) - self.now) + late_us, lambda: self._expire(node, life))

    def _expire(self, node: Node, life: int) -> None:
        if not node.up or node.life != life:
            return
        try:
            for machine in (node.requester, node.compute):
                due = machine.deadline()
                if due is not None and due <= self.now:
                    self._apply(node, machine.expire(now=self.now))
        except Crash:
            return

    # --- the network ---

    def _post(self, sender: Node, receiver: Node, deliver: Callable[[Node], None]) -> None:
        """One message, which may be lost, repeated, late, and overtaken by others."""
        weather, chance = self.weather, self.random.randrange
        if (sender.id, receiver.id) in weather.partitioned or (receiver.id, sender.id) in weather.partitioned:
            return
        if sender is not receiver and chance(100) < weather.loss:
            return
        copies = 2 if chance(100) < weather.duplication else 1
        for _ in range(copies):
            delay_us = chance(20 * SECOND_US if chance(100) < weather.straggling else weather.delay_max_us)
            self.after(delay_us, lambda: deliver(receiver) if receiver.up else None)

    def _call(
        self,
        sender: Node,
        to: str,
        handle: Callable[[Node], Refusal | None],
        answer: Callable[[Refusal | None], None],
    ) -> None:
        """A request and its answer; either may be lost. The answer comes after the receiver has committed."""
        life = sender.life

        def deliver(receiver: Node) -> None:
            try:
                refusal = handle(receiver)
            except Crash:
                return
            self._post(receiver, sender, lambda back: answer(refusal) if back.life == life else None)

        self._post(sender, self.nodes[to], deliver)

    def _send(self, node: Node, send: fx.Send) -> None:
        match send:
            case fx.SendOffer(offer, to):
                received_offer = ev.OfferReceived(node.id, offer)
                for id in to:
                    self._post(node, self.nodes[id], lambda n: self._tell_compute(n, received_offer))
            case fx.SendBid(to=to, bid=bid):
                received = ev.BidReceived(node.id, bid, bid.id.encode(), issued_us=self.now)
                self._call(
                    node,
                    to,
                    lambda n: self._step_requester(n, received),
                    lambda no: self._tell_compute(node, ev.BidRefused(bid.offer_id, no)) if no else None,
                )
            case fx.SendDecline(to=to, decline=decline):
                declined = ev.DeclineReceived(node.id, decline, issued_us=self.now)
                self._post(node, self.nodes[to], lambda n: self._tell_requester(n, declined))
            case fx.SendOfferClosed(to=to, offer_id=offer_id):
                closed = ev.OfferClosedReceived(node.id, offer_id)
                self._post(node, self.nodes[to], lambda n: self._tell_compute(n, closed))
            case fx.SendCancellation(to=to, execution_id=execution_id):
                cancelled = ev.CancellationReceived(node.id, execution_id)
                self._post(node, self.nodes[to], lambda n: self._tell_compute(n, cancelled))
            case fx.SendAward():
                self._send_award(node, send)
            case fx.SendRenewal():
                self._send_renewal(node, send)
            case fx.SendReport(to=to, report=report):
                self._call(
                    node,
                    to,
                    lambda n: self._take_report(n, ev.ReportReceived(node.id, report)),
                    lambda no: self._tell_compute(node, ev.ReportAnswered(report.execution_id, no)),
                )
            case fx.SendCommitment(to=to, commitment=commitment):
                bound = ev.CommitmentReceived(node.id, commitment)
                self._call(
                    node,
                    to,
                    lambda n: self._step_requester(n, bound),
                    lambda no: self._tell_compute(node, ev.CommitmentAnswered(commitment.execution_id, no)),
                )
            case fx.SendRevealRequest(to=to, execution_id=execution_id):
                self._send_reveal_request(node, to, execution_id)
            case fx.SendReceipts():
                self._send_receipts(node, send)
            case fx.SendNote(to=to, note=note):
                self._call(
                    node,
                    to,
                    lambda n: self._step_requester(n, ev.NoteReceived(note)),
                    lambda no: self._tell_compute(node, ev.NoteSigned(note)) if no is None else None,
                )

    def _send_award(self, node: Node, send: fx.SendAward) -> None:
        id, life = send.award.execution_id, node.life

        def take(receiver: Node) -> Refusal | None:
            received = ev.AwardReceived(node.id, send.award, SPEC_DIGEST, self._ended(receiver, id))
            return self._step_compute(receiver, received)

        def answer(refusal: Refusal | None) -> None:
            event = ev.AwardConfirmed(id) if refusal is None else ev.AwardRefused(id, refusal)
            self._tell_requester(node, event)

        def give_up() -> None:
            if node.life == life:
                self._tell_requester(node, ev.AwardUnanswered(id))

        self._call(node, send.to, take, answer)
        if self.random.randrange(2):
            self.after(RPC_TIMEOUT_US, give_up)

    def _ended(self, node: Node, execution_id: str) -> WorkRecord | None:
        """As a driver does: work that the machine no longer holds is looked up on disk."""
        return node.journal.works.get(execution_id) if node.compute.work(execution_id) is None else None

    def _send_receipts(self, node: Node, send: fx.SendReceipts) -> None:
        signed: list[tuple[int, bytes]] = []

        def take(receiver: Node) -> Refusal | None:
            signed.clear()
            for receipt in send.receipts:
                ended = self._ended(receiver, receipt.execution_id)
                refusal = self._step_compute(receiver, ev.ReceiptReceived(receipt, b"evidence", ended))
                if refusal is not None:
                    return refusal
                side = TradeSide.BUYING if receiver is node else TradeSide.SELLING
                kept = receiver.journal.receipts[side, node.id, receipt.sequence]
                assert kept.receipt == receipt, f"{receiver.id} signs {receipt}, and took {kept}"
                signed.append((receipt.sequence, b"signed"))
            return None

        self._call(
            node,
            send.to,
            take,
            lambda no: self._tell_requester(node, ev.ReceiptsAnswered(send.to, tuple(signed), no)),
        )

    def settle(self, node_id: str, peer_id: str, amount: int) -> None:
        """The operator of a node says that the peer has paid outside the system."""
        if self.nodes[node_id].up:
            self._tell_compute(self.nodes[node_id], ev.SettlementRecorded(peer_id, amount))

    def _send_renewal(self, node: Node, send: fx.SendRenewal) -> None:
        id, sent_us = send.renewal.execution_id, self.now
        received = ev.RenewalReceived(node.id, send.renewal)
        lease_us = self.machines.requester_config.lease_us

        def answer(refusal: Refusal | None) -> None:
            event = (
                ev.LeaseRenewed(id, sent_us, lease_us) if refusal is None else ev.RenewalRefused(id, refusal)
            )
            self._tell_compute(node, event)

        self._call(node, send.to, lambda n: self._step_requester(n, received), answer)

    def _send_reveal_request(self, node: Node, to: str, execution_id: str) -> None:
        if execution_id not in self.asked:  # asked again, it may be that another has failed and was replaced
            self.asked.add(execution_id)
            job_id = node.journal.executions[execution_id].job_id
            open_ones = [e for e in node.journal.executions_of(job_id) if not e.state.ended]
            assert all(e.commitment for e in open_ones), f"{execution_id} is asked before all have committed"
        if self.nodes[to].honesty is Honesty.CONCEALS:
            return
        requested = ev.RevealRequested(node.id, execution_id)
        self._call(
            node,
            to,
            lambda n: self._step_compute(n, requested),
            lambda no: self._tell_requester(node, ev.RevealRefused(execution_id, no)) if no else None,
        )

    def _take_report(self, node: Node, event: ev.ReportReceived) -> Refusal | None:
        """As a driver does: what the machine no longer knows is looked up on disk."""
        refusal = self._step_requester(node, event)
        execution_id = event.report.execution_id
        if refusal is not None and node.requester.job_of(execution_id) is None:
            late = answer_late_report(node.journal.executions.get(execution_id), event)
            self._apply(node, late)
            return late.refusal
        return refusal

    # --- what a node does outside its machines ---

    def _start(self, node: Node, start: fx.Start) -> None:
        match start:
            case fx.FetchResult():
                life = node.life
                self.after(self.random.randrange(SECOND_US), lambda: self._fetch(node, life, start))
            case fx.AskOutside(offer):
                self.after(1000, lambda: self._tell_compute(node, ev.AskAnswered(offer.id, Answers())))
            case fx.StartExecution(execution_id, attempt):
                self._run_program(node, execution_id, attempt)
            case fx.ResumeExecution(execution_id):
                self._resume_program(node, execution_id)
            case fx.StopExecution(execution_id):
                self._stop_program(node, execution_id)

    def _fetch(self, node: Node, life: int, start: fx.FetchResult) -> None:
        if node.life != life:
            return
        if self.nodes[start.node_id].up and self.random.randrange(100) >= self.weather.loss:
            compared = None if start.verification is None else compared_of(start.result)
            self._tell_requester(node, ev.ResultFetched(start.execution_id, compared))
        else:
            self._tell_requester(node, ev.ResultUnavailable(start.execution_id, "no peer has the result"))

    def _run_program(self, node: Node, execution_id: str, attempt: int) -> None:
        work = node.compute.work(execution_id)
        assert work is not None, execution_id
        assert execution_id not in node.programs, f"{execution_id} runs twice on {node.id}"
        program = Program(attempt, work.award.spec.resources, outlives=bool(self.random.randrange(2)))
        node.programs[execution_id] = program
        check_room(node)
        for phase in (ExecutionPhase.PREPARING, ExecutionPhase.RUNNING):
            entered = partial(self._tell_compute, node, ev.PhaseEntered(execution_id, phase))
            self.after(self.random.randrange(SECOND_US), entered)
        took_us = self.random.choice((SECOND_US // 100, SECOND_US, 20 * SECOND_US, 100 * SECOND_US))
        report = ExecutionReport(execution_id, attempt, RESULT, 0, Usage(wall_us=took_us))
        if work.award.spec.verification.compares:
            report = result_to_compare(self, node, report)
        if self.random.randrange(100) < self.weather.node_faults:
            kind = self.random.choice(
                (FaultKind.ENGINE_FAILED, FaultKind.INPUT_UNAVAILABLE, FaultKind.INVALID_TASK)
            )
            report = ExecutionReport(execution_id, attempt, None, 0, Usage(), Fault(kind, "it failed"))
        self.after(took_us, lambda: self._program_ended(node, program, report))

    def _program_ended(self, node: Node, program: Program, report: ExecutionReport) -> None:
        if node.programs.get(report.execution_id) is not program:
            return
        if not node.up:
            program.report = report
            return
        del node.programs[report.execution_id]
        self._tell_compute(node, ev.ExecutionEnded(report, commitment_of(self, node, report)))

    def _resume_program(self, node: Node, execution_id: str) -> None:
        program = node.programs.get(execution_id)
        if program is None:
            self.after(1000, lambda: self._tell_compute(node, ev.ExecutionGone(execution_id)))
        elif program.report is not None:
            report = program.report
            self.after(1000, lambda: self._program_ended(node, program, report))

    def _stop_program(self, node: Node, execution_id: str) -> None:
        program = node.programs.get(execution_id)
        if program is None:
            return
        report = ExecutionReport(execution_id, program.attempt, None, 0, Usage(), cancelled=True)
        self.after(self.random.randrange(SECOND_US), lambda: self._program_ended(node, program, report))

    def settled(self) -> bool:
        """Every job has ended, every report was answered, and every receipt and note is signed by both."""
        return all(at_rest(node) for node in self.nodes.values())

    def check_settled(self) -> None:
        """After the faults have stopped: all is accounted for, and nothing is held any more."""
        for node in self.nodes.values():
            for id in node.journal.jobs:
                assert node.journal.state(id).ended, f"{id} never ended: {node.journal.history[id]}"
                node.journal.check_job(id)
            assert node.compute.capacity.free == node.capacity, f"{node.id} lost capacity"
            assert node.requester.deadline() is None, f"{node.id} waits for something that has ended"
            assert not node.programs, node.programs
            check_verdicts(self, node)
            for work in node.journal.works.values():
                assert work.state is WorkState.SETTLED, work
                check_heard(work, self.nodes[work.requester_id].journal.executions[work.id])
            check_books(node, self.nodes.values())
