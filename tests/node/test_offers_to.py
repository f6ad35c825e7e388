"""`serve --offers-to N`: so many of the live nodes are offered a job, and no others hear of it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from bacalhau.cli import serve
from bacalhau.cli.main import parser
from bacalhau.model.units import SECOND_US
from bacalhau.node import outbox
from bacalhau.node.main import settings_of
from bacalhau.node.network import p2p_installed
from bacalhau.v1 import job_pb2, job_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.node.live import all_of, client_of, running, until, wasm_job
from tests.parts import missing_part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bacalhau.node.node import Node

LIBP2P = {"p2p_listen": ("/ip4/127.0.0.1/tcp/0",)}


@contextlib.asynccontextmanager
async def requester_of(folder: Path, nodes: int, *, offers_to: int, **changes: Any) -> AsyncIterator[Node]:
    """A requester that runs nothing, and knows so many compute nodes that all take its jobs."""
    async with contextlib.AsyncExitStack() as stack:
        # Auctions close when all that were asked have answered; the window is for a busy machine.
        first = running(
            folder / "r",
            compute=False,
            engines=(),
            bid_window_us=20 * SECOND_US,
            offers_to=offers_to,
            **changes,
        )
        requester = await stack.enter_async_context(first)
        for number in range(nodes):
            joined = (*requester.p2p_addresses, requester.peer_address)[:1]
            node = running(folder / f"c{number}", requester=False, peers=joined, **changes)
            await stack.enter_async_context(node)
        await until(
            lambda: len(requester.driver.requester.live_nodes(requester.clock.now())) == nodes, "all are live"
        )
        yield requester


async def run(requester: Node) -> list[Any]:
    """Everything that happened to a job, which completes."""
    async with client_of(requester) as channel:
        jobs: Any = JobServiceStub(channel)
        job = (await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=wasm_job(requester)))).job
        answers = await all_of(jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job.id), timeout=60))
    assert answers[-1].job.state == job_pb2.JOB_STATE_COMPLETED, answers[-1].job
    return [event for answer in answers for event in answer.events]


def bidders(events: list[Any]) -> list[str]:
    return [event.node_id for event in events if event.type == job_pb2.JOB_EVENT_TYPE_BID_RECEIVED]


@pytest.mark.parametrize(
    ("flag", "offers_to"), [([], 0), (["--offers-to", "all"], 0), (["--offers-to", "20"], 20)]
)
def test_the_flag_is_the_setting(flag: list[str], offers_to: int) -> None:
    args = parser("serve").parse_args(["serve", *flag])
    serve._check(args)
    assert settings_of(args).offers_to == offers_to


@pytest.mark.parametrize("wrong", ["0", "-1", "some"])
def test_offers_to_nobody_are_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser("serve").parse_args(["serve", "--offers-to", wrong])
    assert f"{wrong!r} is no whole number from 1" in capsys.readouterr().err


async def test_each_job_is_offered_to_so_many_of_more_live_nodes_picked_anew(tmp_path: Path) -> None:
    seen = set()
    async with requester_of(tmp_path, 4, offers_to=2) as requester:
        for _ in range(10):
            events = await run(requester)
            offered = [e.message for e in events if e.type == job_pb2.JOB_EVENT_TYPE_OFFERED]
            assert offered == ["offered to 2 nodes"]
            assert len(bidders(events)) == len(set(bidders(events))) == 2
            seen.update(bidders(events))
    assert len(seen) > 2


@pytest.mark.parametrize(("offers_to", "asked"), [(2, 2), (0, 3)])
async def test_an_offer_to_some_is_not_gossiped_for_gossip_reaches_all(
    offers_to: int, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not p2p_installed():
        missing_part("libp2p", "pip install 'bacalhau[p2p]'")
    monkeypatch.setattr(outbox, "DIRECT_MAX", 1)  # that two are so many as to be gossiped to
    async with requester_of(tmp_path, 3, offers_to=offers_to, **LIBP2P) as requester:
        events = await run(requester)
        assert len(bidders(events)) == asked
        assert requester.network is not None
        published = requester.network.counts.published["offers"]
    assert (published == 0) is (offers_to > 0)
