"""Signed messages in wrong hands, on every call between peers that takes one: each is refused for its reason, changes
nothing, and is counted on the page that Prometheus reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from bacalhau.model.execution import ExecutionPhase
from bacalhau.model.ledger import SettlementNote
from bacalhau.model.market import Decline, LeaseRenewal
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.model.units import SECOND_US
from bacalhau.model.verification import ResultCommitment
from bacalhau.v1 import compute_service_pb2 as compute_pb
from bacalhau.v1 import peer_service_pb2 as peer_pb
from bacalhau.v1 import requester_service_pb2 as requester_pb
from bacalhau.v1.compute_service_pb2_grpc import ComputeServiceStub
from bacalhau.v1.peer_service_pb2_grpc import PeerServiceStub
from bacalhau.v1.requester_service_pb2_grpc import RequesterServiceStub
from bacalhau.wire.statements import Cancellation, LogRequest, OfferClosed, RevealRequest
from tests.builders import a_bid, a_receipt, a_report, an_award, an_offer
from tests.node.live import Stranger, all_of, peer_channel, refusal_from, running
from tests.node.test_metrics import scrape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bacalhau.node.node import Node
    from bacalhau.wire.envelope import SignedEnvelope

pytestmark = pytest.mark.asyncio(loop_scope="module")
R = RefusalReason


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    async with running(tmp_path_factory.mktemp("node"), metrics_port=0) as node:
        yield node


def receipt_of(stranger: Stranger, node: Node) -> Any:
    return replace(a_receipt(), requester_id=stranger.key.node_id, node_id=node.node_id)


def note_of(stranger: Stranger, node: Node) -> Any:
    return SettlementNote(stranger.key.node_id, node.node_id, 1, 5, 10**9)


def record_of(stranger: Stranger, node: Node) -> Any:
    return replace(node.membership.record, node_id=stranger.key.node_id)


BODIES: dict[str, Callable[[Stranger, Node], Any]] = {
    "Announce": record_of,
    "SubmitBid": lambda *_: a_bid(),
    "SubmitDecline": lambda *_: Decline("o-1", Refusal(R.INFEASIBLE, "too large")),
    "CommitResult": lambda *_: ResultCommitment("e-1", 1, bytes(32)),
    "ReportExecution": lambda *_: a_report("e-1"),
    "RenewLease": lambda *_: LeaseRenewal("e-1", ExecutionPhase.RUNNING, 1),
    "SignSettlement": note_of,
    "ConsiderOffers": lambda *_: replace(an_offer(), spec_digest=bytes(32)),
    "Quote": lambda *_: replace(an_offer(), spec_digest=bytes(32)),
    "Award": lambda *_: replace(an_award(), bid_set_digest=bytes(32)),
    "CloseOffer": lambda *_: OfferClosed("o-1"),
    "RevealResult": lambda *_: RevealRequest("e-1"),
    "CancelExecution": lambda *_: Cancellation("e-1"),
    "SignReceipts": receipt_of,
    "StreamExecutionLogs": lambda *_: LogRequest("e-1"),
}


def call(channel: Any, method: str, envelope: SignedEnvelope) -> Any:
    requester, compute = RequesterServiceStub(channel), ComputeServiceStub(channel)
    match method:
        case "Announce":
            return PeerServiceStub(channel).Announce(peer_pb.AnnounceRequest(record=envelope))
        case "SubmitBid":
            return requester.SubmitBid(requester_pb.SubmitBidRequest(bid=envelope))
        case "SubmitDecline":
            return requester.SubmitDecline(requester_pb.SubmitDeclineRequest(decline=envelope))
        case "CommitResult":
            return requester.CommitResult(requester_pb.CommitResultRequest(commitment=envelope))
        case "ReportExecution":
            return requester.ReportExecution(requester_pb.ReportExecutionRequest(report=envelope))
        case "RenewLease":
            return requester.RenewLease(requester_pb.RenewLeaseRequest(renewal=envelope))
        case "SignSettlement":
            return requester.SignSettlement(requester_pb.SignSettlementRequest(note=envelope))
        case "ConsiderOffers":
            return compute.ConsiderOffers(compute_pb.ConsiderOffersRequest(offers=[envelope]))
        case "Quote":
            return compute.Quote(compute_pb.QuoteRequest(offer=envelope))
        case "Award":
            return compute.Award(compute_pb.AwardRequest(award=envelope))
        case "CloseOffer":
            return compute.CloseOffer(compute_pb.CloseOfferRequest(offer_closed=envelope))
        case "RevealResult":
            return compute.RevealResult(compute_pb.RevealResultRequest(reveal_request=envelope))
        case "CancelExecution":
            return compute.CancelExecution(compute_pb.CancelExecutionRequest(cancellation=envelope))
        case "SignReceipts":
            return compute.SignReceipts(compute_pb.SignReceiptsRequest(receipts=[envelope]))
        case _:
            logs = compute_pb.StreamExecutionLogsRequest(log_request=envelope)
            return all_of(compute.StreamExecutionLogs(logs))


def forged(stranger: Stranger, body: Any, node: Node) -> SignedEnvelope:
    """In another's name."""
    envelope = stranger.seal(body, node.node_id, at_us=node.clock.now())
    envelope.public_key.data = Stranger().key.public_key
    return envelope


def altered(stranger: Stranger, body: Any, node: Node) -> SignedEnvelope:
    """One letter of what was signed; it is as readable as before."""
    envelope = stranger.seal(body, node.node_id, at_us=node.clock.now(), id="s-first")
    envelope.payload = envelope.payload.replace(b"s-first", b"s-First")
    return envelope


def expired(stranger: Stranger, body: Any, node: Node) -> SignedEnvelope:
    """Replayed after its time: it was valid for a minute, ten minutes ago."""
    return stranger.seal(body, node.node_id, at_us=node.clock.now() - 600 * SECOND_US)


def for_another(stranger: Stranger, body: Any, node: Node) -> SignedEnvelope:
    """Replayed to a node that it was not meant for."""
    return stranger.seal(body, Stranger().key.node_id, at_us=node.clock.now())


@pytest.mark.parametrize("method", BODIES)
@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (forged, R.BAD_SIGNATURE),
        (altered, R.BAD_SIGNATURE),
        (expired, R.STALE),
        (for_another, R.WRONG_RECIPIENT),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_wrong_envelope_is_refused_for_its_reason_and_counted(
    node: Node, method: str, wrong: Any, reason: RefusalReason
) -> None:
    stranger = Stranger()
    body = BODIES[method](stranger, node)
    before = await scrape(node)
    async with peer_channel(node) as channel:
        refusal = await refusal_from(call(channel, method, wrong(stranger, body, node)))
    after = await scrape(node)
    assert refusal.reason is reason
    name = "bacalhau_envelopes_refused_total"
    counted = (after(name, reason=reason.name) or 0) - (before(name, reason=reason.name) or 0)
    assert counted == 1
    for gauge in ("bacalhau_open_jobs", "bacalhau_running_executions"):
        assert before(gauge) == after(gauge) == 0


async def test_an_identical_repeat_is_answered_as_before_and_another_content_under_its_id_is_refused(
    node: Node,
) -> None:
    stranger = Stranger()
    first = stranger.seal(a_bid(), node.node_id, at_us=node.clock.now(), id="s-same")
    other = stranger.seal(a_bid(price_microcredits=1), node.node_id, at_us=node.clock.now(), id="s-same")
    before = await scrape(node)
    async with peer_channel(node) as channel:
        answers = [await call(channel, "SubmitBid", first) for _ in range(3)]
        refusal = await refusal_from(call(channel, "SubmitBid", other))
    after = await scrape(node)
    assert len({answer.SerializeToString() for answer in answers}) == 1
    assert refusal.reason is R.ID_REUSED
    name = "bacalhau_envelopes_refused_total"
    assert (after(name, reason="ID_REUSED") or 0) - (before(name, reason="ID_REUSED") or 0) == 1
