"""What each Start of a machine becomes: programs that take their time, data that is fetched, questions that are
answered. One function for each kind of Start, in STARTS.

An execution fetches the inputs that its node does not hold, at the speed of the slower of the node's link and
the network's, and then runs for as long as its job says, at the speed of the node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bacalhau.market.bidding import Answers
from bacalhau.model.execution import ExecutionPhase, ExecutionReport, Fault, FaultKind, Usage
from bacalhau.model.units import SECOND_US
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.simulation.honesty import (
    Honesty,
    commitment_of,
    compared_of,
    reported_usage,
    result_of,
    sealed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bacalhau.model.cid import Cid
    from bacalhau.model.job import JobSpec
    from bacalhau.model.market import Award
    from bacalhau.model.resources import Resources
    from bacalhau.simulation.node import SimulatedNode
    from bacalhau.simulation.world import World

STOP_US = SECOND_US
"""Stopping a program takes up to so long."""
_NODE_FAULTS = (FaultKind.ENGINE_FAILED, FaultKind.INPUT_UNAVAILABLE, FaultKind.INVALID_TASK)


@dataclass(slots=True)
class Program:
    """Work in progress on a node's machine. One that `outlives` its node is found again after a crash."""

    job_id: str
    spec: JobSpec
    attempt: int
    resources: Resources
    outlives: bool
    report: ExecutionReport | None = None
    """How it ended, where that happened while its node was down."""


def missing_inputs(node: SimulatedNode, cids: Iterable[Cid]) -> tuple[int, int]:
    """Bytes and number of the inputs that are not on the node's disk."""
    missing = [cid for cid in cids if cid not in node.held]
    return sum(node.world.sizes.get(cid, 0) for cid in missing), len(missing)


def _told(spec: JobSpec) -> tuple[int, int]:
    """How long the program runs and how much it puts out: see Plan."""
    (_, run_us), (_, result_bytes) = spec.env
    return int(run_us), int(result_bytes)


def _ask_outside(world: World, node: SimulatedNode, start: fx.AskOutside) -> None:
    missing_bytes, missing = missing_inputs(node, (claimed.cid for claimed in start.offer.inputs))
    answers = Answers(missing_input_bytes=missing_bytes, missing_inputs=missing)
    world.loop.after(world.ask_us, _tell_answers, node, node.life, ev.AskAnswered(start.offer.id, answers))


def _tell_answers(node: SimulatedNode, life: int, event: ev.AskAnswered | ev.PriceAnswered) -> None:
    if node.lives(life):
        node.tell_compute(event)


def _ask_price(world: World, node: SimulatedNode, start: fx.AskPrice) -> None:
    """Simulated operators have no script of their own: the price stays what the strategy made it."""
    event = ev.PriceAnswered(start.offer.id, start.price_microcredits)
    world.loop.after(world.ask_us, _tell_answers, node, node.life, event)


# --- programs ---


def _start_execution(world: World, node: SimulatedNode, start: fx.StartExecution) -> None:
    compute, execution_id = node.compute, start.execution_id
    work = compute.work(execution_id) if compute is not None else None
    assert work is not None, execution_id
    assert execution_id not in node.programs, f"{execution_id} runs twice on {node.id}"
    award = work.award
    outlives = bool(world.random.getrandbits(1)) if world.programs_outlive else False
    program = Program(award.job_id, award.spec, start.attempt, award.spec.resources, outlives)
    node.programs[execution_id] = program
    if world.watch is not None:
        world.watch.started(node)
    missing_bytes, _ = missing_inputs(node, award.spec.contents())
    fetch_us = transfer_us(missing_bytes, node.profile.link_bytes_per_second)
    report, run_us = _outcome(world, node, execution_id, start.attempt, award, missing_bytes)
    if run_us is None:
        world.loop.after(fetch_us, _program_ended, node, program, report)
        return
    if fetch_us:
        world.loop.after(0, _enter_phase, node, program, execution_id, ExecutionPhase.FETCHING_INPUTS)
    world.loop.after(fetch_us, _run, node, program, execution_id)
    if world.recorder is not None:
        world.recorder.runs(node, execution_id, award.job_id, world.loop.now + fetch_us, run_us)
    world.loop.after(fetch_us + run_us, _program_ended, node, program, report)


def _outcome(
    world: World, node: SimulatedNode, execution_id: str, attempt: int, award: Award, missing_bytes: int
) -> tuple[ExecutionReport, int | None]:
    """How it will end, and how long it runs; None where it does not run at all."""
    (planned_us, result_bytes), honesty = _told(award.spec), node.profile.honesty
    chance = world.weather.program_faults
    if honesty is Honesty.UNDERCUTS_AND_FAILS:
        fault = Fault(FaultKind.ENGINE_FAILED, "the engine does not answer")
        return ExecutionReport(execution_id, attempt, None, 0, Usage(), fault), None
    if honesty is Honesty.INVENTS_VERDICTS:
        fault = Fault(FaultKind.RESULT_REFUTED, "says the node itself")
        return ExecutionReport(execution_id, attempt, None, 0, Usage(), fault), None
    if chance and world.random.randrange(1000) < chance:
        fault = Fault(world.random.choice(_NODE_FAULTS), "it failed")
        return ExecutionReport(execution_id, attempt, None, 0, Usage(), fault), None
    run_us = max(1, planned_us * 100 // node.profile.speed_percent)
    limit_us, late = award.spec.timeouts.execution_us, None
    if run_us > limit_us:
        late = Fault(FaultKind.EXECUTION_TIMEOUT, f"the job ran longer than its {limit_us} microseconds")
        run_us = limit_us
    result = result_of(node, award.job_id)
    cpu_us = run_us * award.spec.resources.cpu_millicores // 1000
    used = Usage(run_us, cpu_us, award.spec.resources.memory_bytes, missing_bytes, result_bytes)
    return ExecutionReport(execution_id, attempt, result, 0, reported_usage(node, used), late), run_us


def transfer_us(size_bytes: int, bytes_per_second: int) -> int:
    """How long the link is busy with it; 0 bytes a second is a link that costs no time."""
    if not size_bytes or not bytes_per_second:
        return 0
    return -(-size_bytes * SECOND_US // bytes_per_second)


def _enter_phase(node: SimulatedNode, program: Program, execution_id: str, phase: ExecutionPhase) -> None:
    if node.up and node.programs.get(execution_id) is program:
        node.tell_compute(ev.PhaseEntered(execution_id, phase))


def _run(node: SimulatedNode, program: Program, execution_id: str) -> None:
    """The inputs are here, and stay; the program starts."""
    if node.programs.get(execution_id) is not program:
        return
    for cid in program.spec.contents():
        node.held[cid] = None
    if node.world.recorder is not None:
        node.world.recorder.begins(program.job_id)
    _enter_phase(node, program, execution_id, ExecutionPhase.RUNNING)


def _program_ended(node: SimulatedNode, program: Program, report: ExecutionReport) -> None:
    if node.programs.get(report.execution_id) is not program:
        return
    if not node.up:
        program.report = report
        return
    del node.programs[report.execution_id]
    job_id, commitment = program.job_id, None
    if program.spec.verification.compares and report.result is not None:
        report = sealed(node, report, job_id)
        commitment = commitment_of(node, report, job_id)
    if node.world.recorder is not None:
        node.world.recorder.ended(node, report.execution_id)
    node.tell_compute(ev.ExecutionEnded(report, commitment))


def _resume_execution(world: World, node: SimulatedNode, start: fx.ResumeExecution) -> None:
    program = node.programs.get(start.execution_id)
    if program is None:
        world.loop.after(1000, _tell_gone, node, node.life, ev.ExecutionGone(start.execution_id))
    elif program.report is not None:
        world.loop.after(1000, _program_ended, node, program, program.report)


def _tell_gone(node: SimulatedNode, life: int, event: ev.ExecutionGone) -> None:
    if node.lives(life):
        node.tell_compute(event)


def _stop_execution(world: World, node: SimulatedNode, start: fx.StopExecution) -> None:
    stop(world, node, start.execution_id)


def stop(world: World, node: SimulatedNode, execution_id: str) -> None:
    """The program is told to end, and does so soon."""
    program = node.programs.get(execution_id)
    if program is None:
        return
    report = ExecutionReport(execution_id, program.attempt, None, 0, Usage(), cancelled=True)
    world.loop.after(world.random.randrange(STOP_US), _program_ended, node, program, report)


# --- results ---


def _fetch_result(world: World, node: SimulatedNode, start: fx.FetchResult) -> None:
    execution = node.journal.executions.get(start.execution_id)
    report = execution.report if execution is not None else None
    speed = min(
        (
            s
            for s in (
                node.profile.link_bytes_per_second,
                world.nodes[start.node_id].profile.link_bytes_per_second,
            )
            if s
        ),
        default=0,
    )
    delay_us = transfer_us(report.usage.result_bytes if report is not None else 0, speed)
    if world.fetch_jitter_us:
        delay_us += world.random.randrange(world.fetch_jitter_us)
    world.loop.after(delay_us, _result_arrived, node, node.life, start)


def _result_arrived(node: SimulatedNode, life: int, start: fx.FetchResult) -> None:
    if not node.lives(life):
        return
    world = node.world
    lost = world.weather.loss and world.random.randrange(1000) < world.weather.loss
    if world.nodes[start.node_id].up and not lost:
        compared = None if start.verification is None else compared_of(start.result)
        node.tell_requester(ev.ResultFetched(start.execution_id, compared))
    else:
        node.tell_requester(ev.ResultUnavailable(start.execution_id, "no peer has the result"))


STARTS: dict[type, Callable[[World, SimulatedNode, Any], None]] = {
    fx.AskOutside: _ask_outside,
    fx.AskPrice: _ask_price,
    fx.StartExecution: _start_execution,
    fx.ResumeExecution: _resume_execution,
    fx.StopExecution: _stop_execution,
    fx.FetchResult: _fetch_result,
}
