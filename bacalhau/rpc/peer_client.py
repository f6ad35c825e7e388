"""Calls to another node's peer API, over TLS with the certificate that its signed record pins."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc
import grpc.aio

from bacalhau.market.bidding import Quote
from bacalhau.model.cid import Cid, InvalidCid
from bacalhau.model.refusals import Refused
from bacalhau.model.units import DAY_US
from bacalhau.rpc.limits import CHANNEL_OPTIONS, PEER_PAGE_SIZE_MAX
from bacalhau.rpc.receipts import answer_from_proto
from bacalhau.rpc.status import refusal_of
from bacalhau.rpc.tls import SERVER_NAME, certificate_digest
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
from bacalhau.wire import fields, limits
from bacalhau.wire.refusal import refusal_from_proto
from bacalhau.wire.resources import price_from_proto

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bacalhau.model.refusals import Refusal
    from bacalhau.rpc.receipts import ReceiptsAnswer

    SignedEnvelope = envelope_pb2.SignedEnvelope
    T_co = TypeVar("T_co", covariant=True)

    class _Call(Protocol[T_co]):
        def __call__(self, request: Any, *, timeout: float) -> Any: ...


R = TypeVar("R")

CALL_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0


class PeerUnreachable(Exception):
    """Nobody answered, or not in time; the message names the address and says what happened."""


class PeerLink:
    """A connection to one node. Every call raises Refused for a refusal and PeerUnreachable for a fault."""

    def __init__(self, address: str, certificate_pem: bytes) -> None:
        self.address = address
        self.certificate_digest = certificate_digest(certificate_pem)
        self._channel = grpc.aio.secure_channel(
            address,
            grpc.ssl_channel_credentials(root_certificates=certificate_pem),
            options=[("grpc.ssl_target_name_override", SERVER_NAME), *CHANNEL_OPTIONS],
        )
        self._peers = peer_service_pb2_grpc.PeerServiceStub(self._channel)
        self._requester = requester_service_pb2_grpc.RequesterServiceStub(self._channel)
        self._compute = compute_service_pb2_grpc.ComputeServiceStub(self._channel)
        self._blocks = block_service_pb2_grpc.BlockServiceStub(self._channel)

    @classmethod
    async def open(cls, address: str, timeout_s: float = CONNECT_TIMEOUT_S) -> PeerLink:
        """Connects to HOST:PORT. Python's gRPC cannot skip the check of a certificate, so the one that is served
        is taken as its own root; the caller then compares its digest with the node's signed record."""
        host, _, port = address.rpartition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            async with asyncio.timeout(timeout_s):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
        except TimeoutError as error:
            raise PeerUnreachable(f"no node answers at {address} within {timeout_s:g} seconds") from error
        except (OSError, ValueError, OverflowError) as error:
            raise PeerUnreachable(f"no node answers at {address}: {error}") from error
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return cls(address, ssl.DER_cert_to_PEM_cert(certificate).encode("ascii"))

    async def close(self) -> None:
        await self._channel.close()

    # --- PeerService ---

    async def announce(self, record: SignedEnvelope) -> SignedEnvelope:
        request = peer_service_pb2.AnnounceRequest(record=record)
        response = await self._call(self._peers.Announce, request)
        return response.record  # type: ignore[no-any-return]

    async def get_peers(self, records_max: int = PEER_PAGE_SIZE_MAX) -> list[SignedEnvelope]:
        """The records that the node knows, page by page, so many at most. One whose pages are small is asked no more
        often for it."""
        records: list[SignedEnvelope] = []
        token = ""
        for _ in range(-(-records_max // PEER_PAGE_SIZE_MAX)):
            request = peer_service_pb2.GetPeersRequest(page_token=token)
            response = await self._call(self._peers.GetPeers, request)
            records += response.records
            token = response.next_page_token
            if not token:
                break
        return records[:records_max]

    # --- RequesterService ---

    async def submit_bid(self, bid: SignedEnvelope) -> tuple[SignedEnvelope, SignedEnvelope | None]:
        """The acknowledgement, and the award where the bid won at once."""
        answer = await self._call(self._requester.SubmitBid, requester_service_pb2.SubmitBidRequest(bid=bid))
        return answer.acknowledgement, answer.award if answer.HasField("award") else None

    async def submit_decline(self, decline: SignedEnvelope) -> SignedEnvelope:
        request = requester_service_pb2.SubmitDeclineRequest(decline=decline)
        return (await self._call(self._requester.SubmitDecline, request)).acknowledgement  # type: ignore[no-any-return]

    async def report_execution(
        self, report: SignedEnvelope, blocks: Sequence[tuple[Cid, bytes]] = ()
    ) -> None:
        """The report, with every block of the result where that is small."""
        request = requester_service_pb2.ReportExecutionRequest(
            report=report,
            blocks=[block_service_pb2.Block(cid=cid.raw, data=data) for cid, data in blocks],
        )
        await self._call(self._requester.ReportExecution, request)

    async def commit_result(self, commitment: SignedEnvelope) -> None:
        request = requester_service_pb2.CommitResultRequest(commitment=commitment)
        await self._call(self._requester.CommitResult, request)

    async def renew_lease(self, renewal: SignedEnvelope) -> int:
        """The new term in microseconds."""
        request = requester_service_pb2.RenewLeaseRequest(renewal=renewal)
        response = await self._call(self._requester.RenewLease, request)
        return fields.duration_us(response.lease, "lease", low=1, high=DAY_US)

    async def get_clearing(
        self, offer_id: str, sequence: int, page_token: str
    ) -> requester_service_pb2.GetClearingResponse:
        """A page of a clearing as the requester discloses it; whoever reads it checks every part."""
        request = requester_service_pb2.GetClearingRequest(
            offer_id=offer_id, sequence=sequence, page_token=page_token
        )
        return await self._call(self._requester.GetClearing, request)  # type: ignore[no-any-return]

    # --- ComputeService ---

    async def consider_offers(self, offers: Sequence[SignedEnvelope]) -> None:
        request = compute_service_pb2.ConsiderOffersRequest(offers=offers)
        await self._call(self._compute.ConsiderOffers, request)

    async def quote(self, offer: SignedEnvelope) -> Refusal | Quote:
        """What the node would answer to the offer: its refusal is not raised."""
        answer = await self._call(self._compute.Quote, compute_service_pb2.QuoteRequest(offer=offer))
        if answer.HasField("refusal"):
            return refusal_from_proto(answer.refusal)
        return Quote(
            price_from_proto(answer.price_microcredits, "price_microcredits"),
            fields.duration_us(answer.start_delay, "start_delay", low=0, high=limits.MAX_TIMEOUT_US),
            fields.whole(answer.missing_input_bytes, "missing_input_bytes", 0, limits.MAX_BYTES),
        )

    async def award(self, award: SignedEnvelope) -> None:
        await self._call(self._compute.Award, compute_service_pb2.AwardRequest(award=award))

    async def sign_receipts(
        self,
        receipts: Sequence[SignedEnvelope],
        signed_before: Sequence[bytes] = (),
        note: bytes = b"",
    ) -> ReceiptsAnswer:
        """`signed_before`: the node's own envelopes of the same receipts, where it has signed and forgotten them, and
        `note` of the last settlement note that is known of it."""
        request = compute_service_pb2.SignReceiptsRequest(
            receipts=receipts,
            signed_before=[envelope_pb2.SignedEnvelope.FromString(raw) for raw in signed_before],
            note=envelope_pb2.SignedEnvelope.FromString(note) if note else None,
        )
        return answer_from_proto(await self._call(self._compute.SignReceipts, request))

    async def sign_settlement(self, note: SignedEnvelope) -> SignedEnvelope:
        request = requester_service_pb2.SignSettlementRequest(note=note)
        return (await self._call(self._requester.SignSettlement, request)).note  # type: ignore[no-any-return]

    async def close_offer(self, offer_closed: SignedEnvelope) -> None:
        request = compute_service_pb2.CloseOfferRequest(offer_closed=offer_closed)
        await self._call(self._compute.CloseOffer, request)

    async def reveal_result(self, reveal_request: SignedEnvelope) -> None:
        request = compute_service_pb2.RevealResultRequest(reveal_request=reveal_request)
        await self._call(self._compute.RevealResult, request)

    async def cancel_execution(self, cancellation: SignedEnvelope) -> None:
        request = compute_service_pb2.CancelExecutionRequest(cancellation=cancellation)
        await self._call(self._compute.CancelExecution, request)

    async def stream_execution_logs(self, log_request: SignedEnvelope) -> AsyncIterator[tuple[int, bytes]]:
        """Pieces of output as (LogStream number, bytes)."""
        request = compute_service_pb2.StreamExecutionLogsRequest(log_request=log_request)
        try:
            async for piece in self._compute.StreamExecutionLogs(request):
                yield piece.stream, piece.data
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from error

    # --- BlockService ---

    @property
    def name(self) -> str:
        return self.address

    async def get_blocks(self, cids: Sequence[Cid], *, recursive: bool) -> AsyncIterator[tuple[Cid, bytes]]:
        """Blocks as the node sends them; the caller verifies each."""
        request = block_service_pb2.GetBlocksRequest(cids=[cid.raw for cid in cids], recursive=recursive)
        try:
            async for response in self._blocks.GetBlocks(request):
                for block in response.blocks:
                    yield Cid.from_raw(block.cid), block.data
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from error
        except InvalidCid as error:
            raise PeerUnreachable(f"{self.address} sent what is no CID: {error}") from error

    async def _call(self, method: _Call[Any], request: Any) -> Any:
        try:
            return await method(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from error

    def _failure(self, error: grpc.aio.AioRpcError) -> Refused | PeerUnreachable:
        refusal = refusal_of(error)
        if refusal is not None:
            return Refused(refusal)
        return PeerUnreachable(f"{self.address} did not answer: {error.code().name}: {error.details()}")
