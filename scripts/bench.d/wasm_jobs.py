"""Warm WASM no-op jobs against no-op unary calls of the same client to the same node.

Client, requester and compute node are a process each where the latency is measured; the burst meets one hybrid node.
The client is one asyncio process with one channel, for calls and jobs alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from claims import CannotMeasure, Claim, Finding, Goal, Round
from nodes import Client, Node, run_command, running_node

from bacalhau.v1 import auction_pb2, job_pb2, resources_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODULE = Path(__file__).with_name("print_argument.wat")
AT_ONCE = 300
_CALLS_A_BLOCK = 100
_JOBS_A_BLOCK = 30
_CALLS_AT_ONCE = 2000
_WARM_UP = 20
_PEER_S = 30
_MIB = 1024 * 1024
_MAX_PRICE_MICROCREDITS = 50_000

LATENCY = Claim("WASM no-op job, submit to terminal state (p50)", "no-op unary call", "ms", Goal.AT_MOST, 25)
THROUGHPUT = Claim(
    f"{AT_ONCE} WASM jobs at once", "no-op unary calls, 16 in flight", "/s", Goal.AT_LEAST, 1 / 15
)
ADMISSION = Claim(
    f"SubmitJob answers to {AT_ONCE} at once", "no-op unary calls, 16 in flight", "/s", Goal.AT_LEAST, 1 / 10
)
MARKET_LATENCY = Claim(
    "WASM job with the whole market on (p50)", "the same job, plain nodes", "ms", Goal.AT_MOST, 1.1
)
MARKET_THROUGHPUT = Claim(
    f"{AT_ONCE} WASM jobs at once with the whole market on", "plain node", "/s", Goal.AT_LEAST, 0.9
)
CLAIMS = (LATENCY, THROUGHPUT, ADMISSION, MARKET_LATENCY, MARKET_THROUGHPUT)

_MARKET_OF_BOTH = ("--min-reputation", "0.1", "--metrics-port", "0")
_MARKET_OF_WORKERS = (
    *("--pricing", "utilisation", "--price-held-discount", "10", "--price-by-reputation"),
    *("--price-floor", "1", "--bond", "50"),
)
"""All that a node does not do unless it is asked to; a script for prices aside, which is a process for each bid."""


def measure(folder: Path, *, quick: bool) -> Iterator[Finding]:
    """Raises CannotMeasure where a job does not complete."""
    with _pair(folder / "pair") as requester:
        yield asyncio.run(_measure_latency(requester, 3 if quick else 10))
    with running_node(folder / "hybrid", "--limit-total-cpu", "64") as hybrid:
        yield from asyncio.run(_measure_burst(hybrid, 2 if quick else 7))
        market = (*_MARKET_OF_BOTH, *_MARKET_OF_WORKERS)
        with running_node(folder / "market", "--limit-total-cpu", "64", *market) as busy:
            yield asyncio.run(_measure_market_burst(busy, hybrid, 2 if quick else 7))
    with _pair(folder / "on", _MARKET_OF_BOTH, _MARKET_OF_WORKERS) as on, _pair(folder / "off") as off:
        yield asyncio.run(_measure_market(on, off, 3 if quick else 10))


@contextlib.contextmanager
def _pair(folder: Path, of_both: Sequence[str] = (), of_worker: Sequence[str] = ()) -> Iterator[Node]:
    """A requester with a compute node that joined it."""
    flags = ("--heartbeat", "500ms", *of_both)
    with running_node(folder / "requester", "--node-type", "requester", *flags) as requester:
        joining = ("--node-type", "compute", "--peer", requester.peer_address, "--limit-total-cpu", "64")
        with running_node(folder / "compute", *joining, *flags, *of_worker):
            yield requester


async def _measure_latency(requester: Node, rounds: int) -> Finding:
    finding = Finding(LATENCY)
    specs = _specs(_add_module(requester))

    async def calls_ms(client: Client) -> float:
        return statistics.median([await _timed_ms(client.call()) for _ in range(_CALLS_A_BLOCK)])

    async def jobs_ms(client: Client) -> float:
        return statistics.median([await _timed_ms(client.run(next(specs))) for _ in range(_JOBS_A_BLOCK)])

    async with Client(requester) as client:
        await _wait_for_peer(client)
        for _ in range(_WARM_UP):
            await client.call()
            await client.run(next(specs))
        for number in range(rounds):
            if number % 2:
                ours = await jobs_ms(client)
                theirs = await calls_ms(client)
            else:
                theirs = await calls_ms(client)
                ours = await jobs_ms(client)
            finding.rounds.append(Round(ours, theirs))
        finding.notes.append(await _beside_calls_in_turn(client, specs))
    return finding


async def _measure_market(on: Node, off: Node, rounds: int) -> Finding:
    """Job by job in turns."""
    finding = Finding(MARKET_LATENCY)
    specs, plain = _specs(_add_module(on), uniform=True), _specs(_add_module(off))
    async with Client(on) as ours, Client(off) as theirs:
        for client in (ours, theirs):
            await _wait_for_peer(client)
        for number in range(rounds + 1):
            taken: tuple[list[float], list[float]] = [], []
            for _ in range(_JOBS_A_BLOCK):
                taken[0].append(await _timed_ms(ours.run(next(specs))))
                taken[1].append(await _timed_ms(theirs.run(next(plain))))
            if number:  # the first warms up
                finding.rounds.append(Round(*map(statistics.median, taken)))
    return finding


async def _measure_market_burst(on: Node, off: Node, rounds: int) -> Finding:
    finding = Finding(MARKET_THROUGHPUT)
    specs, plain = _specs(_add_module(on), uniform=True), _specs(_add_module(off))
    async with Client(on) as ours, Client(off) as theirs:
        for _ in range(_WARM_UP):
            await ours.run(next(specs))
        for number in range(rounds):
            sides = [(ours, specs), (theirs, plain)]
            rates = {}
            for client, jobs in sides if number % 2 else reversed(sides):
                burst = await client.burst(list(itertools.islice(jobs, AT_ONCE)))
                rates[client] = burst.ended_a_second
            finding.rounds.append(Round(rates[ours], rates[theirs]))
    return finding


async def _beside_calls_in_turn(client: Client, specs: Iterator[job_pb2.JobSpec]) -> str:
    """A call in a row of calls finds the processor's caches full of just that call; a job never does. One call behind
    each job has it as a job has."""
    calls, jobs = [], []
    for _ in range(_CALLS_A_BLOCK):
        jobs.append(await _timed_ms(client.run(next(specs))))
        calls.append(await _timed_ms(client.call()))
    job_ms, call_ms = statistics.median(jobs), statistics.median(calls)
    return (
        f"beside calls made in turn with the jobs, not in a row: {job_ms / call_ms:.1f} "
        f"({job_ms:.1f} and {call_ms:.2f} ms)"
    )


async def _measure_burst(node: Node, rounds: int) -> list[Finding]:
    throughput, admission = Finding(THROUGHPUT), Finding(ADMISSION)
    specs = _specs(_add_module(node))
    spent: list[dict[str, float]] = []
    async with Client(node) as client:
        await client.calls_a_second(_CALLS_AT_ONCE // 4)
        for _ in range(_WARM_UP):
            await client.run(next(specs))
        for _ in range(rounds):
            # Calls before and after, for their rate is what varies most.
            rates = [await client.calls_a_second(_CALLS_AT_ONCE)]
            before = _cpu_seconds(node)
            burst = await client.burst(list(itertools.islice(specs, AT_ONCE)))
            after = _cpu_seconds(node)
            if burst.different_results != AT_ONCE:
                raise CannotMeasure(
                    f"{AT_ONCE} different jobs had {burst.different_results} different results"
                )
            rates.append(await client.calls_a_second(_CALLS_AT_ONCE))
            rate = statistics.harmonic_mean(rates)
            throughput.rounds.append(Round(burst.ended_a_second, rate))
            admission.rounds.append(Round(burst.answered_a_second, rate))
            spent.append({name: (after[name] - before[name]) / AT_ONCE * 1000 for name in after})
    middles = {name: statistics.median(one[name] for one in spent) for name in spent[0]}
    told = ", ".join(f"{name} {milliseconds:.1f}" for name, milliseconds in middles.items())
    throughput.notes.append(f"processor time, in milliseconds a job: {told}")
    return [throughput, admission]


def _cpu_seconds(node: Node) -> dict[str, float]:
    """Processor time so far of the node's own process, of its workers, and of this one."""
    process = psutil.Process(node.process_id)
    workers = [child.cpu_times() for child in process.children(recursive=True)]
    own, here = process.cpu_times(), psutil.Process().cpu_times()
    return {
        "node": own.user + own.system,
        "workers": sum(one.user + one.system for one in workers),
        "client": here.user + here.system,
    }


def _add_module(node: Node) -> str:
    return run_command(node, "ipfs", "add", "-Q", str(MODULE))


def _specs(module_cid: str, *, uniform: bool = False) -> Iterator[job_pb2.JobSpec]:
    """Jobs without end, each with an argument and so an output of its own; under the first or the uniform price."""
    rule = auction_pb2.CLEARING_RULE_UNIFORM_PRICE if uniform else auction_pb2.CLEARING_RULE_FIRST_PRICE
    for number in itertools.count():
        yield job_pb2.JobSpec(
            wasm=job_pb2.WasmTask(module_cid=module_cid, arguments=[f"output {number}"]),
            outputs=[job_pb2.OutputPath(name="outputs", path="/outputs")],
            resources=resources_pb2.Resources(
                cpu_millicores=100, memory_bytes=64 * _MIB, disk_bytes=64 * _MIB
            ),
            auction=auction_pb2.AuctionTerms(rule=rule),
            max_price_microcredits=_MAX_PRICE_MICROCREDITS if uniform else None,
        )


async def _timed_ms(work: object) -> float:
    start = time.perf_counter()
    await work  # type: ignore[misc]
    return (time.perf_counter() - start) * 1000


async def _wait_for_peer(client: Client) -> None:
    deadline = time.monotonic() + _PEER_S
    while not await client.live_peers():
        if time.monotonic() > deadline:
            raise CannotMeasure("the nodes did not find each other")
        await asyncio.sleep(0.05)
