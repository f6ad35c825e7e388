"""The peer API in the hands of strangers: what is forged, stale, repeated or garbage is refused and changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bacalhau.ipfs.importer import import_stream
from bacalhau.model.cid import DAG_PB, RAW, Cid
from bacalhau.model.execution import ExecutionPhase
from bacalhau.model.market import Bid, LeaseRenewal
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.units import SECOND_US
from bacalhau.model.verification import ResultCommitment
from bacalhau.rpc import limits
from bacalhau.rpc.peer_client import PeerLink, PeerUnreachable
from bacalhau.rpc.status import refusal_of
from bacalhau.rpc.tls import load_or_make
from bacalhau.v1 import (
    block_service_pb2,
    block_service_pb2_grpc,
    compute_service_pb2,
    compute_service_pb2_grpc,
    envelope_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    peer_service_pb2,
    peer_service_pb2_grpc,
    requester_service_pb2,
    requester_service_pb2_grpc,
)
from bacalhau.wire.envelope import DOMAIN, PAYLOAD_TYPE, SignedEnvelope, open_message, signing_input
from bacalhau.wire.statements import Acknowledgement, Cancellation, LogRequest, OfferClosed, RevealRequest
from tests.builders import a_bid, a_report, an_award, an_offer
from tests.node.live import SLEEPER, Stranger, all_of, peer_channel, refusal_from, running, until, wasm_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bacalhau.node.node import Node

pytestmark = pytest.mark.asyncio(loop_scope="module")
R = RefusalReason


@pytest.fixture(scope="module")
def grpc_stub_cls() -> type:
    stub: type = job_service_pb2_grpc.JobServiceStub
    return stub


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peers(grpc_server: Node) -> AsyncIterator[grpc.aio.Channel]:
    async with peer_channel(grpc_server) as channel:
        yield channel


def statements(channel: grpc.aio.Channel) -> dict[str, Any]:
    """Every RPC that takes an envelope, by name, as a function from the envelope to the call."""
    requester = requester_service_pb2_grpc.RequesterServiceStub(channel)
    compute = compute_service_pb2_grpc.ComputeServiceStub(channel)
    announce = peer_service_pb2_grpc.PeerServiceStub(channel).Announce
    return {
        "record": lambda e: announce(peer_service_pb2.AnnounceRequest(record=e)),
        "bid": lambda e: requester.SubmitBid(requester_service_pb2.SubmitBidRequest(bid=e)),
        "decline": lambda e: requester.SubmitDecline(requester_service_pb2.SubmitDeclineRequest(decline=e)),
        "report": lambda e: requester.ReportExecution(requester_service_pb2.ReportExecutionRequest(report=e)),
        "renewal": lambda e: requester.RenewLease(requester_service_pb2.RenewLeaseRequest(renewal=e)),
        "offer": lambda e: compute.ConsiderOffers(compute_service_pb2.ConsiderOffersRequest(offers=[e])),
        "award": lambda e: compute.Award(compute_service_pb2.AwardRequest(award=e)),
        "close": lambda e: compute.CloseOffer(compute_service_pb2.CloseOfferRequest(offer_closed=e)),
        "commitment": lambda e: requester.CommitResult(
            requester_service_pb2.CommitResultRequest(commitment=e)
        ),
        "reveal": lambda e: compute.RevealResult(compute_service_pb2.RevealResultRequest(reveal_request=e)),
        "cancel": lambda e: compute.CancelExecution(
            compute_service_pb2.CancelExecutionRequest(cancellation=e)
        ),
        "logs": lambda e: all_of(
            compute.StreamExecutionLogs(compute_service_pb2.StreamExecutionLogsRequest(log_request=e))
        ),
    }


REQUESTERS = ("bid", "decline", "report", "commitment", "renewal")
NAMES = ("record", *REQUESTERS, "offer", "award", "close", "reveal", "cancel", "logs")


def state_of(node: Node) -> object:
    """All that a refused call must leave as it was."""
    with contextlib.closing(sqlite3.connect(node.settings.data_dir / "journal.sqlite")) as journal:
        work = journal.execute("SELECT id FROM work ORDER BY id").fetchall()
    return (
        node.driver.requester.open_jobs,
        node.driver.compute.running_executions,
        node.driver.compute.capacity.free,
        [peer.record.node_id for peer in node.membership.peers()],
        work,
    )


def bid_of(stranger: Stranger, node: Node, **how: Any) -> SignedEnvelope:
    how = {"to": node.node_id, "at_us": node.clock.now(), **how}
    return stranger.seal(how.pop("body", a_bid()), **how)


# --- envelopes ---


async def refused_bid(peers: grpc.aio.Channel, node: Node, envelope: SignedEnvelope) -> RefusalReason:
    before = state_of(node)
    refusal = await refusal_from(statements(peers)["bid"](envelope))
    assert state_of(node) == before
    return refusal.reason


async def test_a_forged_envelope_is_refused(peers: grpc.aio.Channel, grpc_server: Node) -> None:
    stranger, other = Stranger(), Stranger()
    forged = bid_of(stranger, grpc_server)
    forged.public_key.data = bid_of(other, grpc_server).public_key.data
    assert await refused_bid(peers, grpc_server, forged) is R.BAD_SIGNATURE
    bent = bid_of(stranger, grpc_server)
    bent.signature = bytes(64)
    assert await refused_bid(peers, grpc_server, bent) is R.BAD_SIGNATURE


@pytest.mark.parametrize(("age_us", "reason"), [(200 * SECOND_US, R.STALE), (-60 * SECOND_US, R.STALE)])
async def test_an_envelope_of_another_time_is_refused(
    peers: grpc.aio.Channel, grpc_server: Node, age_us: int, reason: RefusalReason
) -> None:
    envelope = bid_of(Stranger(), grpc_server, at_us=grpc_server.clock.now() - age_us)
    assert await refused_bid(peers, grpc_server, envelope) is reason


async def test_an_envelope_for_another_node_is_refused(peers: grpc.aio.Channel, grpc_server: Node) -> None:
    other = Stranger().key.node_id
    envelope = bid_of(Stranger(), grpc_server, to=other)
    assert await refused_bid(peers, grpc_server, envelope) is R.WRONG_RECIPIENT


async def test_a_statement_of_another_kind_is_refused(peers: grpc.aio.Channel, grpc_server: Node) -> None:
    envelope = bid_of(Stranger(), grpc_server, body=OfferClosed("o-1"))
    assert await refused_bid(peers, grpc_server, envelope) is R.MALFORMED


async def test_an_envelope_above_the_limit_is_refused(peers: grpc.aio.Channel, grpc_server: Node) -> None:
    envelope = bid_of(Stranger(), grpc_server)
    envelope.payload = bytes(1024 * 1024 + 1)
    assert await refused_bid(peers, grpc_server, envelope) is R.TOO_LARGE
    envelope.payload = bytes(limits.PEER_MESSAGE_BYTES_MAX + 1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await statements(peers)["bid"](envelope)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_repeated_bid_gets_the_very_answer_of_the_first(
    peers: grpc.aio.Channel, grpc_server: Node
) -> None:
    stranger = Stranger()
    envelope = bid_of(stranger, grpc_server)
    answers = await asyncio.gather(*(statements(peers)["bid"](envelope) for _ in range(10)))
    answers.append(await statements(peers)["bid"](envelope))
    assert len({answer.SerializeToString() for answer in answers}) == 1
    opened = open_message(
        answers[0].acknowledgement,
        Acknowledgement,
        now_us=grpc_server.clock.now(),
        self_id=stranger.key.node_id,
    )
    assert opened.sender == grpc_server.node_id
    assert isinstance(opened.body.refusal, Refusal)
    assert opened.body.refusal.reason is R.OFFER_CLOSED


async def test_a_statement_id_with_other_content_is_refused(
    peers: grpc.aio.Channel, grpc_server: Node
) -> None:
    stranger = Stranger()
    await statements(peers)["bid"](bid_of(stranger, grpc_server, id="same"))
    other = bid_of(stranger, grpc_server, id="same", body=a_bid(price_microcredits=1))
    assert await refused_bid(peers, grpc_server, other) is R.ID_REUSED


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("report", a_report("e-unknown"), R.NOT_FOUND),
        ("renewal", LeaseRenewal("e-unknown", ExecutionPhase.RUNNING, 1), R.LEASE_ENDED),
        ("logs", LogRequest("e-unknown"), R.NOT_FOUND),
        ("commitment", ResultCommitment("e-unknown", 1, bytes(32)), R.NOT_FOUND),
        ("reveal", RevealRequest("e-unknown"), R.NOT_FOUND),
        ("award", replace(an_award(), bid_set_digest=bytes(32)), R.BID_UNKNOWN),
    ],
)
async def test_what_names_nothing_of_here_is_refused(
    peers: grpc.aio.Channel, grpc_server: Node, name: str, body: Any, reason: RefusalReason
) -> None:
    before = state_of(grpc_server)
    envelope = bid_of(Stranger(), grpc_server, body=body)
    assert (await refusal_from(statements(peers)[name](envelope))).reason is reason
    assert state_of(grpc_server) == before


async def test_an_execution_of_another_node_is_not_touched_by_a_stranger(
    peers: grpc.aio.Channel, grpc_server: Node, grpc_stub: Any
) -> None:
    request = job_service_pb2.SubmitJobRequest(spec=wasm_job(grpc_server, SLEEPER))
    job_id = (await grpc_stub.SubmitJob(request)).job.id
    follow = grpc_stub.StreamLogs(job_service_pb2.StreamLogsRequest(job_id=job_id, follow=True))
    assert (await follow.read()).data == b"before\n"
    [execution] = grpc_server.jobs.job(job_id).executions
    stranger = Stranger()
    for name, body in (
        ("report", a_report(execution.id)),
        ("renewal", LeaseRenewal(execution.id, ExecutionPhase.RUNNING, 1)),
        ("cancel", Cancellation(execution.id)),
        ("logs", LogRequest(execution.id, follow=True)),
        ("commitment", ResultCommitment(execution.id, 1, bytes(32))),
        ("reveal", RevealRequest(execution.id)),
        ("bid", Bid("b-x", execution.offer_id, 1, 60 * SECOND_US)),
    ):
        envelope = bid_of(stranger, grpc_server, body=body)
        if name == "bid":
            answer = await statements(peers)[name](envelope)
            now_us, self_id = grpc_server.clock.now(), stranger.key.node_id
            opened = open_message(answer.acknowledgement, Acknowledgement, now_us=now_us, self_id=self_id)
            assert opened.body.refusal is not None
        else:
            expected = R.LEASE_ENDED if name == "renewal" else R.NOT_FOUND
            assert (await refusal_from(statements(peers)[name](envelope))).reason is expected, name
    assert grpc_server.driver.compute.running_executions == 1
    await grpc_stub.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id))
    follow.cancel()
    await until(lambda: not grpc_server.driver.compute.running_executions, "it is stopped")


async def test_cancelling_what_is_not_here_has_no_effect(peers: grpc.aio.Channel, grpc_server: Node) -> None:
    before = state_of(grpc_server)
    await statements(peers)["cancel"](bid_of(Stranger(), grpc_server, body=Cancellation("e-unknown")))
    await statements(peers)["close"](bid_of(Stranger(), grpc_server, body=OfferClosed("o-unknown")))
    assert state_of(grpc_server) == before


# --- records ---


def record_of(stranger: Stranger, node: Node, **changes: Any) -> SignedEnvelope:
    fields = {"node_id": stranger.key.node_id, "addresses": ("127.0.0.1:9",)} | changes
    record = replace(node.membership.record, **fields)
    return stranger.seal(record, at_us=node.clock.now())


async def test_a_record_that_names_another_node_is_refused(
    peers: grpc.aio.Channel, grpc_server: Node
) -> None:
    before = state_of(grpc_server)
    for node_id in (grpc_server.node_id, Stranger().key.node_id):
        stranger = Stranger()
        envelope = stranger.seal(
            replace(grpc_server.membership.record, node_id=node_id), at_us=grpc_server.clock.now()
        )
        assert (await refusal_from(statements(peers)["record"](envelope))).reason is R.BAD_SIGNATURE
    assert state_of(grpc_server) == before


async def test_a_record_is_answered_by_the_record_of_this_node_and_an_older_one_changes_nothing(
    peers: grpc.aio.Channel, grpc_server: Node
) -> None:
    stranger = Stranger()
    answer = await statements(peers)["record"](record_of(stranger, grpc_server, sequence=7, version="new"))
    assert (
        open_message(answer.record, now_us=grpc_server.clock.now(), self_id="").sender == grpc_server.node_id
    )
    await statements(peers)["record"](record_of(stranger, grpc_server, sequence=6, version="old"))
    [known] = [p for p in grpc_server.membership.peers() if p.record.node_id == stranger.key.node_id]
    assert known.record.version == "new"


async def test_a_certificate_that_the_record_does_not_name_is_not_spoken_to(
    grpc_server: Node, tmp_path: Any
) -> None:
    stranger = Stranger()
    record = replace(
        grpc_server.membership.record,
        node_id=stranger.key.node_id,
        certificate_digest=load_or_make(tmp_path).digest,
    )
    envelope = stranger.seal(record, at_us=grpc_server.clock.now())
    opened = open_message(envelope, type(record), now_us=grpc_server.clock.now(), self_id="")
    grpc_server.membership.announced(opened, envelope, "announced")
    with pytest.raises(PeerUnreachable, match="another certificate"):
        await grpc_server.membership.link(stranger.key.node_id)


async def test_a_link_to_another_certificate_than_was_pinned_says_nothing(
    grpc_server: Node, tmp_path: Any
) -> None:
    link = PeerLink(grpc_server.peer_address, load_or_make(tmp_path).certificate_pem)
    with pytest.raises(PeerUnreachable):
        await link.get_peers()
    await link.close()


async def test_peers_are_given_by_page_and_bad_tokens_are_refused(peers: grpc.aio.Channel) -> None:
    stub = peer_service_pb2_grpc.PeerServiceStub(peers)
    assert len((await stub.GetPeers(peer_service_pb2.GetPeersRequest(page_size=1))).records) <= 1
    refusal = await refusal_from(stub.GetPeers(peer_service_pb2.GetPeersRequest(page_token="9" * 20)))
    assert refusal.reason is R.MALFORMED


# --- offers and clearing ---


async def test_more_offers_than_a_call_may_carry_are_refused(
    peers: grpc.aio.Channel, grpc_server: Node
) -> None:
    offer = Stranger().seal(an_offer(), at_us=grpc_server.clock.now())
    compute = compute_service_pb2_grpc.ComputeServiceStub(peers)
    request = compute_service_pb2.ConsiderOffersRequest(offers=[offer] * (limits.OFFERS_PER_CALL_MAX + 1))
    assert (await refusal_from(compute.ConsiderOffers(request))).reason is R.TOO_LARGE


async def test_bids_are_sealed_until_an_award_and_then_prove_it(
    peers: grpc.aio.Channel, grpc_server: Node, grpc_stub: Any
) -> None:
    stub = requester_service_pb2_grpc.RequesterServiceStub(peers)

    def clearing(offer_id: str) -> Any:
        return stub.GetClearing(requester_service_pb2.GetClearingRequest(offer_id=offer_id))

    assert (await refusal_from(clearing("o-none"))).reason is R.NOT_FOUND
    request = job_service_pb2.SubmitJobRequest(spec=wasm_job(grpc_server))
    job = (await grpc_stub.SubmitJob(request)).job
    await all_of(grpc_stub.WatchJob(job_service_pb2.WatchJobRequest(job_id=job.id)))
    [execution] = grpc_server.jobs.job(job.id).executions
    answer = await clearing(execution.offer_id)
    assert answer.bid_set_digest == execution.bid_set_digest
    opened = open_message(answer.bids[0], Bid, now_us=grpc_server.clock.now(), self_id=grpc_server.node_id)
    assert (opened.sender, opened.body.id) == (grpc_server.node_id, execution.bid_id)


# --- blocks ---


async def get_blocks(peers: grpc.aio.Channel, *cids: bytes, recursive: bool = False) -> list[list[Any]]:
    stub = block_service_pb2_grpc.BlockServiceStub(peers)
    request = block_service_pb2.GetBlocksRequest(cids=cids, recursive=recursive)
    return [list(answer.blocks) for answer in await all_of(stub.GetBlocks(request))]


async def test_blocks_that_are_not_here_are_left_out_and_garbage_is_refused(
    peers: grpc.aio.Channel, grpc_server: Node
) -> None:
    assert await get_blocks(peers, Cid.of(DAG_PB, b"absent").raw, recursive=True) == []
    for garbage in (b"", b"\xff" * 40, Cid.of(RAW, b"x").raw + b"more"):
        assert (await refusal_from(get_blocks(peers, garbage))).reason is R.MALFORMED
    cids = [Cid.of(RAW, bytes([n % 256, n // 256])).raw for n in range(limits.BLOCK_CIDS_PER_CALL_MAX + 1)]
    assert (await refusal_from(get_blocks(peers, *cids))).reason is R.TOO_LARGE


async def test_a_dag_is_sent_in_bounded_messages_each_block_once(
    peers: grpc.aio.Channel, grpc_server: Node
) -> None:
    content = [bytes([n % 251]) * 65_536 + n.to_bytes(4, "big") for n in range(100)]
    root = import_stream(grpc_server.blocks, content).cid
    batches = await get_blocks(peers, root.raw, root.raw, recursive=True)
    blocks = [block for batch in batches for block in batch]
    assert len({block.cid for block in blocks}) == len(blocks) > 20
    assert all(sum(len(block.data) for block in batch) < 2 * 1024 * 1024 + 65_536 for batch in batches)
    assert len(batches) > 3


async def test_streams_of_blocks_beyond_the_limit_are_refused_and_those_that_end_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLOCK_STREAMS_MAX", 2)
    content = Random(0)
    async with running(tmp_path) as node, peer_channel(node) as peers:
        root = import_stream(node.blocks, (content.randbytes(1024 * 1024) for _ in range(60))).cid
        stub = block_service_pb2_grpc.BlockServiceStub(peers)
        request = block_service_pb2.GetBlocksRequest(cids=[root.raw], recursive=True)
        stalled = [stub.GetBlocks(request) for _ in range(limits.BLOCK_STREAMS_MAX)]
        for stream in stalled:
            await stream.read()
        assert (await refusal_from(get_blocks(peers, root.raw))).reason is R.LIMIT_REACHED
        for stream in stalled:
            stream.cancel()
        for _ in range(500):
            if await blocks_or_refusal(peers, root):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("streams that have ended make no room")


async def blocks_or_refusal(peers: grpc.aio.Channel, root: Cid) -> bool:
    try:
        return bool(await get_blocks(peers, root.raw))
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        assert refusal is not None
        assert refusal.reason is R.LIMIT_REACHED
        return False


# --- anything at all ---

envelopes = st.one_of(
    st.builds(
        SignedEnvelope,
        public_key=st.builds(envelope_pb2.PublicKey, type=st.integers(0, 3), data=st.binary(max_size=40)),
        payload_type=st.one_of(st.just(b"/bacalhau/v1/statement"), st.binary(max_size=30)),
        payload=st.binary(max_size=300),
        signature=st.binary(max_size=70),
    ),
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(envelope=envelopes, payload=st.binary(max_size=300), is_signed=st.booleans())
async def test_garbage_in_an_envelope_is_refused_and_changes_nothing(
    peers: grpc.aio.Channel,
    grpc_server: Node,
    name: str,
    envelope: SignedEnvelope,
    payload: bytes,
    is_signed: bool,
) -> None:
    before = state_of(grpc_server)
    if is_signed:  # by a real key, so that what is inside is read
        key = Stranger().key
        envelope.public_key.type = envelope_pb2.KEY_TYPE_ED25519
        envelope.public_key.data = key.public_key
        envelope.payload_type, envelope.payload = PAYLOAD_TYPE, payload
        envelope.signature = key.sign(signing_input(DOMAIN, PAYLOAD_TYPE, payload))
    refusal = await refusal_from(statements(peers)[name](envelope))
    assert refusal.reason in (R.MALFORMED, R.BAD_SIGNATURE, R.TOO_LARGE), refusal
    assert state_of(grpc_server) == before
