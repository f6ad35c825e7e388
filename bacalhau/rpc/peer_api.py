"""The peer API: what strangers may call. Each call is bounded, and each envelope is opened before anyone hears of it.

The services know the wire and the limits; what a statement means is the port's (`PeerPort`), which the node provides.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bacalhau.model.auction import BidStanding
from bacalhau.model.cid import Cid, InvalidCid
from bacalhau.model.execution import ExecutionReport
from bacalhau.model.ledger import Receipt, SettlementNote
from bacalhau.model.market import Award, Bid, Decline, JobOffer, LeaseRenewal
from bacalhau.model.node import NodeRecord
from bacalhau.model.refusals import Refusal, RefusalReason, Refused, refused
from bacalhau.model.verification import ResultCommitment
from bacalhau.rpc import limits
from bacalhau.rpc.at_once import AtOnce
from bacalhau.rpc.paging import read_page
from bacalhau.rpc.receipts import answer_to_proto
from bacalhau.rpc.stalled import taken_within
from bacalhau.rpc.status import abort
from bacalhau.v1 import (
    block_service_pb2,
    block_service_pb2_grpc,
    compute_service_pb2,
    compute_service_pb2_grpc,
    envelope_pb2,
    peer_service_pb2,
    peer_service_pb2_grpc,
    requester_service_pb2,
    requester_service_pb2_grpc,
)
from bacalhau.wire import fields
from bacalhau.wire.auction import entry_to_proto
from bacalhau.wire.envelope import Opened, open_message
from bacalhau.wire.refusal import refusal_to_proto
from bacalhau.wire.seen import SeenStatements, Sighting
from bacalhau.wire.statements import Cancellation, LogRequest, OfferClosed, RevealRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    from grpc.aio import ServicerContext

    from bacalhau.market.bidding import Quote
    from bacalhau.model.auction import Clearing
    from bacalhau.rpc.receipts import ReceiptsAnswer
    from bacalhau.scheduler.history import ClearedBid

    SignedEnvelope = envelope_pb2.SignedEnvelope
    Context = ServicerContext[Any, Any]

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class ClearingPage:
    """A clearing, of how many of its offer, and a page of its bids. `sealed` is the clearing, signed."""

    clearing: Clearing
    sealed: SignedEnvelope
    clearings: int
    bids: list[ClearedBid]
    next_page_token: str


class PeerPort(Protocol):
    """What the node does with authenticated statements. Methods raise Refused."""

    node_id: str

    def now_us(self) -> int: ...
    def envelope_refused(self, refusal: Refusal) -> None:
        """A statement was refused as it arrived, whatever it says: forged, stale, for another node, repeated."""
        ...

    def own_record(self) -> SignedEnvelope: ...
    def live_records(self) -> Sequence[SignedEnvelope]: ...
    async def record_announced(self, opened: Opened[NodeRecord], envelope: SignedEnvelope) -> None: ...
    async def offers_received(self, offers: Sequence[Opened[JobOffer]]) -> None: ...
    async def bid_received(self, opened: Opened[Bid]) -> tuple[SignedEnvelope, SignedEnvelope | None]:
        """The acknowledgement, and the award where the bid won at once."""
        ...

    async def decline_received(self, opened: Opened[Decline]) -> SignedEnvelope: ...
    async def report_received(
        self, opened: Opened[ExecutionReport], blocks: Sequence[tuple[Cid, bytes]]
    ) -> None: ...
    async def commitment_received(self, opened: Opened[ResultCommitment]) -> None: ...
    async def renewal_received(self, opened: Opened[LeaseRenewal]) -> int: ...
    async def quote(self, opened: Opened[JobOffer]) -> Refusal | Quote: ...
    async def award_received(self, opened: Opened[Award]) -> None: ...
    async def receipts_received(
        self,
        receipts: Sequence[Opened[Receipt]],
        signed_before: Sequence[SignedEnvelope],
        note: SignedEnvelope | None,
    ) -> ReceiptsAnswer:
        """`signed_before` and `note` are as they came: they may be of anybody, and as old as they like."""
        ...

    async def note_received(self, opened: Opened[SettlementNote]) -> SignedEnvelope: ...
    async def offer_closed(self, opened: Opened[OfferClosed]) -> None: ...
    async def reveal_requested(self, opened: Opened[RevealRequest]) -> None: ...
    async def cancellation_received(self, opened: Opened[Cancellation]) -> None: ...
    def execution_logs(self, opened: Opened[LogRequest]) -> AsyncGenerator[tuple[int, bytes], None]: ...
    def blocks(
        self, cids: Sequence[Cid], *, recursive: bool
    ) -> AsyncGenerator[list[tuple[Cid, bytes]], None]: ...
    def clearing(self, offer_id: str, sequence: int, page_size: int, page_token: str) -> ClearingPage: ...


class Gate:
    """Opens envelopes and remembers them: a repeat gets the answer that the first got, and has no second effect."""

    def __init__(self, port: PeerPort) -> None:
        self._port = port
        self._seen: SeenStatements[Any] = SeenStatements()
        self._in_work: dict[tuple[str, str], asyncio.Future[None]] = {}
        """By sender and id: ends when the statement's handling has."""

    def open(self, message: SignedEnvelope, expect: type[A]) -> Opened[A]:  # type: ignore[type-var]
        try:
            return open_message(message, expect, now_us=self._port.now_us(), self_id=self._port.node_id)  # type: ignore[type-var]
        except Refused as error:
            self._port.envelope_refused(error.refusal)
            raise

    def _see(self, opened: Opened[Any]) -> tuple[Sighting, Any]:
        try:
            return self._seen.see(opened, now_us=self._port.now_us())
        except Refused as error:
            self._port.envelope_refused(error.refusal)
            raise

    async def answer(
        self, message: SignedEnvelope, expect: Any, context: Context, handle: Callable[[Any], Awaitable[A]]
    ) -> A:
        """The answer to a statement; ends the call where it is refused."""
        try:
            opened = self.open(message, expect)
            name = (opened.sender, opened.statement_id)
            while True:
                sighting, stored = self._see(opened)
                if sighting is not Sighting.IN_WORK:
                    break
                await asyncio.shield(self._in_work[name])
            if sighting is Sighting.ANSWERED:
                return stored  # type: ignore[no-any-return]
            self._in_work[name] = asyncio.get_running_loop().create_future()
            try:
                answer = await handle(opened)
            except BaseException:
                # Refused, failed or cut off: a repeat is to be handled anew.
                self._seen.forget(opened)
                raise
            finally:
                self._in_work.pop(name).set_result(None)
            self._seen.answer(opened, answer)
            return answer
        except Refused as error:
            await abort(context, error.refusal)


class PeerServicer(peer_service_pb2_grpc.PeerServiceServicer):
    """Who is there."""

    def __init__(self, port: PeerPort, gate: Gate) -> None:
        self._port = port
        self._gate = gate

    async def Announce(
        self, request: peer_service_pb2.AnnounceRequest, context: Context
    ) -> peer_service_pb2.AnnounceResponse:
        # A record is a heartbeat: the same envelope comes again and again, so it is not remembered as a statement.
        try:
            opened = self._gate.open(request.record, NodeRecord)
            await self._port.record_announced(opened, request.record)
        except Refused as error:
            await abort(context, error.refusal)
        return peer_service_pb2.AnnounceResponse(record=self._port.own_record())

    async def GetPeers(
        self, request: peer_service_pb2.GetPeersRequest, context: Context
    ) -> peer_service_pb2.GetPeersResponse:
        records = self._port.live_records()
        try:
            start, size = read_page(request.page_token, request.page_size, limits.PEER_PAGE_SIZE_MAX)
        except Refused as error:
            await abort(context, error.refusal)
        end = start + size
        return peer_service_pb2.GetPeersResponse(
            records=records[start:end], next_page_token=str(end) if end < len(records) else ""
        )


class RequesterServicer(requester_service_pb2_grpc.RequesterServiceServicer):
    """What compute nodes say to this requester."""

    def __init__(self, port: PeerPort, gate: Gate) -> None:
        self._port = port
        self._gate = gate

    async def SubmitBid(
        self, request: requester_service_pb2.SubmitBidRequest, context: Context
    ) -> requester_service_pb2.SubmitBidResponse:
        award: SignedEnvelope | None = None

        async def handle(opened: Opened[Bid]) -> SignedEnvelope:
            nonlocal award
            acknowledgement, award = await self._port.bid_received(opened)
            return acknowledgement

        acknowledgement = await self._gate.answer(request.bid, Bid, context, handle)
        # The award is not remembered for a repeat of the call: it may be large, and comes by a call as well.
        return requester_service_pb2.SubmitBidResponse(acknowledgement=acknowledgement, award=award)

    async def SubmitDecline(
        self, request: requester_service_pb2.SubmitDeclineRequest, context: Context
    ) -> requester_service_pb2.SubmitDeclineResponse:
        async def handle(opened: Opened[Decline]) -> requester_service_pb2.SubmitDeclineResponse:
            acknowledgement = await self._port.decline_received(opened)
            return requester_service_pb2.SubmitDeclineResponse(acknowledgement=acknowledgement)

        return await self._gate.answer(request.decline, Decline, context, handle)

    async def ReportExecution(
        self, request: requester_service_pb2.ReportExecutionRequest, context: Context
    ) -> requester_service_pb2.ReportExecutionResponse:
        async def handle(opened: Opened[ExecutionReport]) -> requester_service_pb2.ReportExecutionResponse:
            blocks = [(_cid(block.cid), block.data) for block in request.blocks]
            await self._port.report_received(opened, blocks)
            return requester_service_pb2.ReportExecutionResponse()

        return await self._gate.answer(request.report, ExecutionReport, context, handle)

    async def CommitResult(
        self, request: requester_service_pb2.CommitResultRequest, context: Context
    ) -> requester_service_pb2.CommitResultResponse:
        async def handle(opened: Opened[ResultCommitment]) -> requester_service_pb2.CommitResultResponse:
            await self._port.commitment_received(opened)
            return requester_service_pb2.CommitResultResponse()

        return await self._gate.answer(request.commitment, ResultCommitment, context, handle)

    async def RenewLease(
        self, request: requester_service_pb2.RenewLeaseRequest, context: Context
    ) -> requester_service_pb2.RenewLeaseResponse:
        async def handle(opened: Opened[LeaseRenewal]) -> requester_service_pb2.RenewLeaseResponse:
            lease_us = await self._port.renewal_received(opened)
            return requester_service_pb2.RenewLeaseResponse(lease=fields.duration(lease_us))

        return await self._gate.answer(request.renewal, LeaseRenewal, context, handle)

    async def SignSettlement(
        self, request: requester_service_pb2.SignSettlementRequest, context: Context
    ) -> requester_service_pb2.SignSettlementResponse:
        # Not remembered as a statement: its sequence tells a repeat, and for longer.
        try:
            note = await self._port.note_received(self._gate.open(request.note, SettlementNote))
        except Refused as error:
            await abort(context, error.refusal)
        return requester_service_pb2.SignSettlementResponse(note=note)

    async def GetClearing(
        self, request: requester_service_pb2.GetClearingRequest, context: Context
    ) -> requester_service_pb2.GetClearingResponse:
        try:
            _, size = read_page("", request.page_size, limits.PEER_PAGE_SIZE_MAX)
            page = self._port.clearing(request.offer_id, request.sequence, size, request.page_token)
        except Refused as error:
            await abort(context, error.refusal)
        return requester_service_pb2.GetClearingResponse(
            bids=[envelope_pb2.SignedEnvelope.FromString(bid.evidence) for bid in page.bids],
            next_page_token=page.next_page_token,
            bid_set_digest=page.clearing.bid_set_digest,
            disclosures=[_disclosed(bid) for bid in page.bids],
            clearing=page.sealed,
            clearings=page.clearings,
        )


def _disclosed(bid: ClearedBid) -> requester_service_pb2.DisclosedBid:
    message = requester_service_pb2.DisclosedBid(entry=entry_to_proto(bid.entry))
    if bid.entry.standing is BidStanding.WITHDRAWN and bid.decline_evidence:
        message.decline.CopyFrom(envelope_pb2.SignedEnvelope.FromString(bid.decline_evidence))
    return message


class ComputeServicer(compute_service_pb2_grpc.ComputeServiceServicer):
    """What requesters say to this compute node."""

    def __init__(self, port: PeerPort, gate: Gate) -> None:
        self._port = port
        self._streams = AtOnce("streams of output", limits.LOG_STREAMS_MAX, limits.LOG_STREAMS_PER_NODE_MAX)
        self._quotes = AtOnce("quotes", limits.QUOTES_AT_ONCE_MAX)
        self._gate = gate

    async def ConsiderOffers(
        self, request: compute_service_pb2.ConsiderOffersRequest, context: Context
    ) -> compute_service_pb2.ConsiderOffersResponse:
        try:
            if len(request.offers) > limits.OFFERS_PER_CALL_MAX:
                raise refused(
                    RefusalReason.TOO_LARGE,
                    f"at most {limits.OFFERS_PER_CALL_MAX} offers a call",
                    offers=len(request.offers),
                )
            await self._port.offers_received(self._readable(request.offers))
        except Refused as error:
            await abort(context, error.refusal)
        return compute_service_pb2.ConsiderOffersResponse()

    def _readable(self, envelopes: Sequence[SignedEnvelope]) -> list[Opened[JobOffer]]:
        """Offers are repeated on purpose, so they are not remembered as statements; the machine knows them. One
        that is refused does not spoil the others of its call."""
        opened: list[Opened[JobOffer]] = []
        first_refused: Refused | None = None
        for envelope in envelopes:
            try:
                opened.append(self._gate.open(envelope, JobOffer))
            except Refused as error:
                first_refused = first_refused or error
        if first_refused is not None and not opened:
            raise first_refused
        return opened

    async def Quote(
        self, request: compute_service_pb2.QuoteRequest, context: Context
    ) -> compute_service_pb2.QuoteResponse:
        try:
            opened = self._gate.open(request.offer, JobOffer)
            with self._quotes.one():
                answer = await self._port.quote(opened)
        except Refused as error:
            await abort(context, error.refusal)
        if isinstance(answer, Refusal):
            return compute_service_pb2.QuoteResponse(refusal=refusal_to_proto(answer))
        return compute_service_pb2.QuoteResponse(
            price_microcredits=answer.price_microcredits,
            start_delay=fields.duration(answer.start_delay_us),
            missing_input_bytes=answer.missing_input_bytes,
        )

    async def Award(
        self, request: compute_service_pb2.AwardRequest, context: Context
    ) -> compute_service_pb2.AwardResponse:
        async def handle(opened: Opened[Award]) -> compute_service_pb2.AwardResponse:
            await self._port.award_received(opened)
            return compute_service_pb2.AwardResponse()

        return await self._gate.answer(request.award, Award, context, handle)

    async def CloseOffer(
        self, request: compute_service_pb2.CloseOfferRequest, context: Context
    ) -> compute_service_pb2.CloseOfferResponse:
        async def handle(opened: Opened[OfferClosed]) -> compute_service_pb2.CloseOfferResponse:
            await self._port.offer_closed(opened)
            return compute_service_pb2.CloseOfferResponse()

        return await self._gate.answer(request.offer_closed, OfferClosed, context, handle)

    async def RevealResult(
        self, request: compute_service_pb2.RevealResultRequest, context: Context
    ) -> compute_service_pb2.RevealResultResponse:
        async def handle(opened: Opened[RevealRequest]) -> compute_service_pb2.RevealResultResponse:
            await self._port.reveal_requested(opened)
            return compute_service_pb2.RevealResultResponse()

        return await self._gate.answer(request.reveal_request, RevealRequest, context, handle)

    async def CancelExecution(
        self, request: compute_service_pb2.CancelExecutionRequest, context: Context
    ) -> compute_service_pb2.CancelExecutionResponse:
        async def handle(opened: Opened[Cancellation]) -> compute_service_pb2.CancelExecutionResponse:
            await self._port.cancellation_received(opened)
            return compute_service_pb2.CancelExecutionResponse()

        return await self._gate.answer(request.cancellation, Cancellation, context, handle)

    async def SignReceipts(
        self, request: compute_service_pb2.SignReceiptsRequest, context: Context
    ) -> compute_service_pb2.SignReceiptsResponse:
        # Not remembered as statements: their sequence tells a repeat, and for longer.
        try:
            if len(request.receipts) > limits.RECEIPTS_PER_CALL_MAX:
                raise refused(
                    RefusalReason.TOO_LARGE,
                    f"at most {limits.RECEIPTS_PER_CALL_MAX} receipts a call",
                    receipts=len(request.receipts),
                )
            if request.signed_before and len(request.signed_before) != len(request.receipts):
                raise fields.malformed("signed_before", "must be one for each receipt, or none")
            opened = [self._gate.open(envelope, Receipt) for envelope in request.receipts]
            note = request.note if request.HasField("note") else None
            answer = await self._port.receipts_received(opened, request.signed_before, note)
        except Refused as error:
            await abort(context, error.refusal)
        return answer_to_proto(answer)

    async def StreamExecutionLogs(
        self, request: compute_service_pb2.StreamExecutionLogsRequest, context: Context
    ) -> AsyncIterator[compute_service_pb2.StreamExecutionLogsResponse]:
        try:
            opened = self._gate.open(request.log_request, LogRequest)
            with self._streams.one(opened.sender):
                pieces = self._port.execution_logs(opened)
                async with contextlib.aclosing(pieces):
                    async for stream, data in pieces:
                        yield compute_service_pb2.StreamExecutionLogsResponse(stream=stream, data=data)  # type: ignore[arg-type]
        except Refused as error:
            await abort(context, error.refusal)


class BlockServicer(block_service_pb2_grpc.BlockServiceServicer):
    """Blocks, for other nodes: whoever knows a CID may read what is below it, if it is here."""

    def __init__(self, port: PeerPort) -> None:
        self._port = port
        self._streams = AtOnce(
            "streams of blocks", limits.BLOCK_STREAMS_MAX, limits.BLOCK_STREAMS_PER_HOST_MAX
        )

    async def GetBlocks(
        self, request: block_service_pb2.GetBlocksRequest, context: Context
    ) -> AsyncIterator[block_service_pb2.GetBlocksResponse]:
        try:
            if len(request.cids) > limits.BLOCK_CIDS_PER_CALL_MAX:
                raise refused(
                    RefusalReason.TOO_LARGE, f"at most {limits.BLOCK_CIDS_PER_CALL_MAX} CIDs a call"
                )
            cids = [_cid(raw) for raw in request.cids]
            with self._streams.one(context.peer().rpartition(":")[0]):
                batches = self._port.blocks(cids, recursive=request.recursive)
                async with contextlib.aclosing(batches):
                    async for batch in batches:
                        with taken_within(limits.BLOCK_STALL_S, context.peer()):
                            yield block_service_pb2.GetBlocksResponse(
                                blocks=[
                                    block_service_pb2.Block(cid=cid.raw, data=data) for cid, data in batch
                                ]
                            )
        except Refused as error:
            await abort(context, error.refusal)


def _cid(raw: bytes) -> Cid:
    try:
        return Cid.from_raw(raw)
    except InvalidCid as error:
        raise refused(RefusalReason.MALFORMED, str(error)) from error
