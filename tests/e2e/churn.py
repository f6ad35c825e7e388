"""A network whose nodes are killed and start again at random while jobs run: every job ends, and none is paid twice, by
what the requesters say of the jobs and by the receipts that each node has.

As a command: `scripts/churn_check --nodes 20 --killed 10 --jobs 200`.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bacalhau.model.cid import Cid
from bacalhau.v1.ipfs_service_pb2_grpc import IpfsServiceStub
from bacalhau.v1.job_pb2 import JobState
from bacalhau.v1.job_service_pb2 import SubmitJobRequest
from bacalhau.v1.ledger_pb2 import TRADE_SIDE_BUYING, TRADE_SIDE_SELLING
from bacalhau.v1.ledger_service_pb2 import ListReceiptsRequest
from bacalhau.wire.job import spec_to_proto
from tests.e2e.nodes import Network, NodeProcess, wait_until
from tests.e2e.strangers import LISTEN, STARTING_AT_ONCE, STARTING_SECONDS
from tests.node.live import program, wasm_spec
from tests.rpc.served_ipfs import chunks, entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bacalhau.v1.job_pb2 import Job
    from bacalhau.v1.ledger_pb2 import StoredReceipt

FLAGS = (*LISTEN, "--disable-engine", "docker", "--bid-window", "2s", "--lease", "5s")
PROGRAM_SECONDS = 1.0
DOWN_FOR_JOBS = (2, 12)
"""How many jobs are submitted elsewhere before a killed node starts again: before its leases end, and after."""
SEEING_SECONDS = 60.0
ENDING_SECONDS = 240.0
SETTLING_SECONDS = 60.0


@dataclass(slots=True)
class Figures:
    """What has become of the jobs."""

    jobs: list[Job] = field(default_factory=list)
    killed: int = 0
    receipts: dict[str, list[StoredReceipt]] = field(default_factory=dict)
    """By node, when both sides had them all, or at the deadline."""
    took_s: float = 0.0
    """From the first submission to the end of the last job."""

    def in_state(self, name: str) -> int:
        return sum(job.state == JobState.Value(f"JOB_STATE_{name}") for job in self.jobs)

    @property
    def unended(self) -> int:
        return len(self.jobs) - sum(map(self.in_state, ("COMPLETED", "FAILED")))

    @property
    def paid_twice(self) -> int:
        return sum(len(_charges(job)) > 1 for job in self.jobs)

    @property
    def wrongly_charged(self) -> int:
        """Jobs that say another sum than their executions, or completed without a paid one."""
        completed = JobState.JOB_STATE_COMPLETED
        return sum(
            job.charged_microcredits != sum(_charges(job)) or (job.state == completed and not _charges(job))
            for job in self.jobs
        )

    @property
    def charged_microcredits(self) -> int:
        return sum(job.charged_microcredits for job in self.jobs)

    @property
    def receipted_twice(self) -> int:
        """Executions that more than one receipt was bought for, and those that more than one was sold for."""
        counts = Counter((one.side, one.receipt.execution_id) for one in self._all)
        return sum(count > 1 for count in counts.values())

    @property
    def bought_microcredits(self) -> int:
        """What requesters' receipts say in all."""
        return sum(one.receipt.pay_microcredits for one in self._all if one.side == TRADE_SIDE_BUYING)

    @property
    def sold_microcredits(self) -> int:
        """What the receipts of those who did the work say in all; of its own work a node keeps one, as its buyer."""
        return sum(
            one.receipt.pay_microcredits
            for one in self._all
            if one.side == TRADE_SIDE_SELLING or one.receipt.requester_id == one.receipt.node_id
        )

    @property
    def is_receipted(self) -> bool:
        """The receipts of both sides add up to what was charged."""
        return self.bought_microcredits == self.sold_microcredits == self.charged_microcredits

    @property
    def _all(self) -> Iterator[StoredReceipt]:
        return itertools.chain.from_iterable(self.receipts.values())

    @property
    def tried_again(self) -> int:
        return sum(len(job.executions) > 1 for job in self.jobs)


def _charges(job: Job) -> list[int]:
    return [e.charged_microcredits for e in job.executions if e.charged_microcredits]


def run(network: Network, *, nodes: int, killed: int, jobs: int, per_second: float, seed: int) -> Figures:
    """Submits each job to one of the nodes that run. `killed` of them, drawn by `seed`, are killed once each, at
    moments that are spread over the submissions, and start again. The first, whom all others join, is not."""
    draw = random.Random(seed)
    members = _start(network, nodes)
    modules = {node.node_id: _add_module(node) for node in members}
    deaths = dict(
        zip(sorted(draw.sample(range(1, jobs), killed)), draw.sample(members[1:], killed), strict=True)
    )
    births: list[tuple[int, NodeProcess]] = []
    submitted: list[tuple[NodeProcess, str]] = []
    begun = time.monotonic()
    for number in range(jobs):
        if number in deaths:
            deaths[number].kill()
            births.append((number + draw.randint(*DOWN_FOR_JOBS), deaths[number]))
        for birth in [birth for birth in births if birth[0] <= number]:
            births.remove(birth)
            birth[1].begin()
        requester = draw.choice([node for node in members if node.is_ready])
        spec = spec_to_proto(wasm_spec(modules[requester.node_id]))
        answer = requester.jobs.SubmitJob(SubmitJobRequest(spec=spec), timeout=30)
        submitted.append((requester, answer.job.id))
        time.sleep(1 / per_second)
    for _, node in births:
        node.begin()
    for node in members:
        node.wait_ready(STARTING_SECONDS)
    figures = Figures(killed=killed)
    deadline = time.monotonic() + ENDING_SECONDS
    figures.jobs = [_ended(node, job_id, deadline) for node, job_id in submitted]
    figures.took_s = time.monotonic() - begun
    deadline = time.monotonic() + SETTLING_SECONDS
    while not figures.is_receipted and time.monotonic() < deadline:
        time.sleep(0.2)
        figures.receipts = {node.node_id: list(_receipts(node)) for node in members}
    return figures


def _receipts(node: NodeProcess) -> Iterator[StoredReceipt]:
    request = ListReceiptsRequest(page_size=1000)
    while True:
        page = node.ledger.ListReceipts(request, timeout=30)
        yield from page.receipts
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _ended(requester: NodeProcess, job_id: str, deadline: float) -> Job:
    """The job as it is when it has ended, or at the deadline."""
    while True:
        job = requester.job(job_id)
        ended = job.state in (JobState.JOB_STATE_COMPLETED, JobState.JOB_STATE_FAILED)
        if ended or time.monotonic() > deadline:
            return job
        time.sleep(0.2)


def _start(network: Network, count: int) -> Sequence[NodeProcess]:
    first = network.start("n0", *FLAGS)
    others = [network.node(f"n{number}", *FLAGS, "--peer", first.p2p_address) for number in range(1, count)]
    for batch in range(0, len(others), STARTING_AT_ONCE):
        for node in others[batch : batch + STARTING_AT_ONCE]:
            node.begin()
        for node in others[batch : batch + STARTING_AT_ONCE]:
            node.wait_ready(STARTING_SECONDS)
    members = [first, *others]
    wanted = {node.node_id for node in members}
    for node in members:
        wait_until(lambda node=node: wanted <= node.live_ids(), "it sees all", SEEING_SECONDS)  # type: ignore[misc]
    return members


def _add_module(node: NodeProcess) -> Cid:
    def requests() -> Iterator[object]:
        yield entry("")
        yield from chunks(program(sleep_s=PROGRAM_SECONDS))

    return Cid.parse(IpfsServiceStub(node.channel).Add(requests(), timeout=30).cid)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--killed", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--per-second", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        network = Network(Path(folder))
        try:
            figures = run(
                network,
                nodes=args.nodes,
                killed=args.killed,
                jobs=args.jobs,
                per_second=args.per_second,
                seed=args.seed,
            )
        finally:
            network.end()
    print(
        f"{args.killed} of {args.nodes} nodes were killed and started again during {args.jobs} jobs "
        f"({figures.took_s:.0f} s)"
    )
    print(
        f"completed {figures.in_state('COMPLETED')}, failed {figures.in_state('FAILED')}, "
        f"not ended {figures.unended}; on more than one node {figures.tried_again}"
    )
    print(f"paid twice: {figures.paid_twice}; charged wrongly: {figures.wrongly_charged}")
    print(
        f"charged {figures.charged_microcredits}u; by receipts bought for {figures.bought_microcredits}u "
        f"and sold for {figures.sold_microcredits}u; receipted twice: {figures.receipted_twice}"
    )
    for job in figures.jobs:
        if job.state == JobState.JOB_STATE_FAILED:
            print(f"  {job.id}: {job.failure.message}")
    wrong = figures.unended or figures.paid_twice or figures.wrongly_charged or figures.receipted_twice
    return 1 if wrong or not figures.is_receipted else 0


if __name__ == "__main__":
    sys.exit(main())
