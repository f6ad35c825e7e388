"""A recorded live run has the same effects again, byte for byte; and whatever differs is found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bacalhau.market import bidding, clearing
from bacalhau.model.frozen import replace
from bacalhau.model.refusals import Refusal
from bacalhau.simulation.replay import ReplayFailure, replay
from bacalhau.v1 import job_pb2, job_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.node.live import SLEEPER, all_of, client_of, running, until, wasm_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from bacalhau.market.clearing import SealedBid
    from bacalhau.model.market import JobOffer


async def record(folder: Path) -> tuple[Path, Path]:
    """Two nodes run jobs, one of them in two lives with work under way; their traces."""
    first_trace, second_trace = folder / "first.trace", folder / "second.trace"
    async with running(folder / "first", trace=first_trace, compute=False) as first:
        async with running(folder / "second", trace=second_trace, peers=(first.peer_address,)) as second:
            await until(
                lambda: second.node_id in first.membership.live_ids(), "the requester hears the compute node"
            )
            async with client_of(first) as channel:
                jobs = JobServiceStub(channel)
                for _ in range(8):
                    answer = await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=wasm_job(first)))
                    watched = jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=answer.job.id))
                    assert (await all_of(watched))[-1].job.state == job_pb2.JOB_STATE_COMPLETED
                sleeper = job_service_pb2.SubmitJobRequest(spec=wasm_job(first, SLEEPER))
                await jobs.SubmitJob(sleeper)
                await until(lambda: second.driver.compute.running_executions, "the program runs")
        async with running(folder / "second", trace=second_trace, peers=(first.peer_address,)):
            pass
    return first_trace, second_trace


async def test_live_nodes_replayed_have_the_same_effects_byte_for_byte(tmp_path: Path) -> None:
    first, second = (replay(path) for path in await record(tmp_path))
    assert first.lives == 1
    assert second.lives == 2
    assert first.steps > 20
    assert second.steps > 20


def dearer_clearing(offer: JobOffer, bids: Iterable[SealedBid], slots: int) -> list[clearing.Winner]:
    """A market that pays a microcredit more than was bid."""
    winners = clearing.clear(offer, bids, slots)
    return [replace(winner, price_microcredits=winner.price_microcredits + 1) for winner in winners]


def dearer_quote(*asked: Any) -> bidding.Quote | Refusal:
    """A node that asks a microcredit more than its prices say."""
    answer = bidding.quote(*asked)
    if isinstance(answer, Refusal):
        return answer
    return replace(answer, price_microcredits=answer.price_microcredits + 1)


@pytest.mark.parametrize(
    ("part", "other", "differs"),
    [
        ("auctions.clear", dearer_clearing, "AuctionCleared"),
        ("requester.bid_set_digest", lambda bids: clearing.bid_set_digest(bids)[::-1], "AuctionCleared"),
        ("offers.quote", dearer_quote, "SendBid"),
    ],
)
async def test_another_market_has_other_effects(
    part: str, other: Callable[..., Any], differs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the clearing, of what an award commits to, and of the bid: the first step that it decides differs."""
    requester_trace, compute_trace = await record(tmp_path)
    monkeypatch.setattr(f"bacalhau.scheduler.{part}", other)
    with pytest.raises(ReplayFailure, match="the effects are not those of the live node") as found:
        replay(compute_trace if part.startswith("offers") else requester_trace)
    assert differs in str(found.value)


def test_bytes_that_are_no_text_are_refused_by_their_line(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(b'{"format": 2, "node": "n"}\n\xff\xfe\n')
    with pytest.raises(ReplayFailure, match=f"{trace}:2: this is no JSON"):
        replay(trace)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({"format": 1, "node": "n"}, "has format 1"),
        (
            {"now": 1, "event": {"@": "PeerHeard", "node_id": "n"}, "ids": [], "effects": ""},
            "before the machines",
        ),
        ({"machines": {"requester": {"@": "Nobody"}, "compute": {}}}, "there is no Nobody in this version"),
    ],
)
def test_a_line_that_cannot_be_replayed_is_refused_by_its_number(
    line: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    begin = {"format": 2, "node": "n"}
    trace.write_text(json.dumps(begin) + "\n" + json.dumps(line) + "\n")
    with pytest.raises(ReplayFailure, match=complaint) as refused:
        replay(trace)
    assert f"{trace}:2" in str(refused.value)
