"""An award goes back with the answer to the bid that won it, and by a call where no report of its work comes soon."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest.mock import patch

from bacalhau.model.execution import ExecutionReport
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.market import Award, Bid, JobOffer
from bacalhau.node import outbox
from bacalhau.node.inbound import Inbound
from bacalhau.node.outbox import Outbox
from bacalhau.node.signer import Signer
from bacalhau.rpc.peer_client import PeerLink
from bacalhau.v1 import job_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.builders import an_award
from tests.node.live import HELLO, Stranger, client_of, program, running, until, wasm_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from bacalhau.node.node import Node
    from bacalhau.scheduler import effects as fx
    from bacalhau.wire.envelope import Body, Opened, SignedEnvelope


@contextlib.asynccontextmanager
async def a_pair(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """A requester, and the only compute node that it knows."""
    async with (
        running(folder / "a", compute=False) as requester,
        running(folder / "b", peers=(requester.peer_address,), requester=False) as worker,
    ):
        await until(lambda: len(requester.membership.peers()) == 1, "the worker is known")
        yield requester, worker


@contextlib.contextmanager
def calls_of_award() -> Iterator[list[SignedEnvelope]]:
    """Awards that leave by a call of their own."""
    called: list[SignedEnvelope] = []
    award = PeerLink.award

    async def counted(link: PeerLink, envelope: SignedEnvelope) -> None:
        called.append(envelope)
        await award(link, envelope)

    with patch.object(PeerLink, "award", counted):
        yield called


async def run(node: Node, module: bytes) -> str:
    """The id of a job that has completed."""
    async with client_of(node) as channel:
        request = job_service_pb2.SubmitJobRequest(spec=wasm_job(node, module))
        job_id = str((await JobServiceStub(channel).SubmitJob(request)).job.id)
    await until(lambda: node.jobs.job(job_id).state.ended, "the job ends")
    assert node.jobs.job(job_id).state is JobState.COMPLETED
    return job_id


def happened(node: Node, job_id: str) -> list[JobEventType]:
    return [one.type for one in node.store.happenings(job_id)]


async def test_a_bid_leaves_before_the_call_that_brought_its_offer_is_answered(tmp_path: Path) -> None:
    order: list[str] = []
    submit, receive = PeerLink.submit_bid, Inbound.offers_received

    async def submitted(link: PeerLink, bid: SignedEnvelope) -> tuple[SignedEnvelope, SignedEnvelope | None]:
        order.append("bid")
        return await submit(link, bid)

    async def received(inbound: Inbound, offers: Sequence[Opened[JobOffer]]) -> None:
        await receive(inbound, offers)
        order.append("answer")

    with patch.object(PeerLink, "submit_bid", submitted), patch.object(Inbound, "offers_received", received):
        async with a_pair(tmp_path) as (requester, _):
            await run(requester, HELLO)
    assert order == ["bid", "answer"]


async def test_a_bid_that_wins_at_once_is_answered_by_its_award(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (requester, _):
        # However long the work takes here.
        with calls_of_award() as called, patch.object(outbox, "CALL_AFTER_S", 60):
            job_id = await run(requester, HELLO)
        assert called == []
        types = happened(requester, job_id)
        assert types.index(JobEventType.AWARDED) < types.index(JobEventType.AWARD_CONFIRMED)
        assert types.index(JobEventType.AWARD_CONFIRMED) < types.index(JobEventType.REPORTED)


async def test_award_and_report_are_signed_before_they_are_on_disk(tmp_path: Path) -> None:
    """What is not signed by then is signed in front of whoever waits."""
    late: list[type] = []
    waiting = False
    seal, make_ready = Signer.seal_message, Outbox.make_ready

    def sealed(signer: Signer, body: Body, recipient: str, **how: int) -> SignedEnvelope:
        if not waiting:
            late.append(type(body))
        return seal(signer, body, recipient, **how)

    def made_ready(sender: Outbox, send: fx.Send) -> None:
        nonlocal waiting
        waiting = True
        make_ready(sender, send)
        waiting = False

    with patch.object(Signer, "seal_message", sealed), patch.object(Outbox, "make_ready", made_ready):
        async with a_pair(tmp_path) as (requester, _):
            with patch.object(outbox, "CALL_AFTER_S", 60):
                await run(requester, HELLO)
    assert Bid in late
    assert Award not in late
    assert ExecutionReport not in late


async def test_work_that_takes_longer_is_confirmed_by_a_call_and_done_once(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (requester, worker):
        with calls_of_award() as called:
            job_id = await run(requester, program("a", sleep_s=0.5, then="b"))
        assert len(called) == 1
        assert happened(requester, job_id).count(JobEventType.AWARD_CONFIRMED) == 1
        [execution] = requester.jobs.job(job_id).executions
        work = worker.store.work(execution.id)
        assert work is not None
        assert (work.attempt, execution.attempt) == (1, 1)


async def test_an_award_that_is_lost_with_its_answer_comes_by_a_call(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as (requester, worker):
        with calls_of_award() as called, patch.object(worker._inbound, "prompt_award_received"):
            await run(requester, HELLO)
        assert len(called) == 1


async def test_what_is_no_award_of_the_requester_is_left_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        requester, other = Stranger(), Stranger()
        body = replace(an_award(), bid_set_digest=bytes(32))
        award = other.seal(body, node.node_id, at_us=node.clock.now())
        node._inbound.prompt_award_received(requester.key.node_id, award)
        award.public_key.data = requester.key.public_key
        node._inbound.prompt_award_received(requester.key.node_id, award)
        assert node.driver.compute.work(body.execution_id) is None
        assert dict(node._inbound.envelopes_refused) == {"BAD_SIGNATURE": 1}
