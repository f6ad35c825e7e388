"""An offer that is lost on its way is made again until its bid window ends."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

from bacalhau.model.job import JobState
from bacalhau.rpc.peer_client import PeerLink
from bacalhau.v1 import job_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.node.live import client_of, running, until, wasm_job
from tests.p2p.hosts import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bacalhau.wire.envelope import SignedEnvelope

LOST = 3


async def test_a_few_nodes_get_an_offer_again_and_again_though_calls_and_gossip_are_lost(
    tmp_path: Path,
) -> None:
    consider = PeerLink.consider_offers
    called: list[int] = []

    async def lossy(link: PeerLink, offers: Sequence[SignedEnvelope]) -> None:
        called.append(len(offers))
        if len(called) > LOST:
            await consider(link, offers)

    async with (
        running(tmp_path / "a", compute=False, p2p_listen=(LOOPBACK,), bid_window_us=60_000_000) as requester,
        running(tmp_path / "b", peers=(requester.peer_address,), requester=False),
    ):
        await until(lambda: len(requester.membership.peers()) == 1, "the worker is known")
        network = requester.membership.network
        assert network is not None
        with (
            patch.object(PeerLink, "consider_offers", lossy),
            patch.object(network, "publish_offers", lambda _: None),
        ):
            async with client_of(requester) as channel:
                request = job_service_pb2.SubmitJobRequest(spec=wasm_job(requester))
                job_id = str((await JobServiceStub(channel).SubmitJob(request)).job.id)
            await until(lambda: requester.jobs.job(job_id).state.ended, "the job ends", 30)
        assert requester.jobs.job(job_id).state is JobState.COMPLETED
        assert len(called) == LOST + 1
