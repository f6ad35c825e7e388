"""MarketService: offers, bids, prices and audits, for clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bacalhau.model.refusals import Refused
from bacalhau.model.units import DAY_US
from bacalhau.rpc.paging import page_size
from bacalhau.rpc.status import abort
from bacalhau.v1 import market_service_pb2 as pb
from bacalhau.v1 import market_service_pb2_grpc
from bacalhau.wire import fields, limits
from bacalhau.wire.auction import clearing_to_proto
from bacalhau.wire.market import offer_to_proto
from bacalhau.wire.refusal import refusal_to_proto

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from bacalhau.market.audit import AuditedClearing
    from bacalhau.market.pricehistory import ClassPrices
    from bacalhau.scheduler.history import OfferSummary
    from bacalhau.scheduler.records import BidKept

    Context = ServicerContext[Any, Any]

PRICES_SINCE_DEFAULT_US = 7 * DAY_US


@dataclass(frozen=True, slots=True)
class JobAudit:
    """The clearings of a job, each with what is wrong with it."""

    job_id: str
    requester_id: str
    clearings: tuple[tuple[AuditedClearing, tuple[str, ...]], ...]


class MarketPort(Protocol):
    """What the node knows of the market. Methods raise Refused."""

    def offers(self, page_size: int, page_token: str) -> tuple[list[OfferSummary], str]: ...
    def own_bids(self, job_id: str, page_size: int, page_token: str) -> tuple[list[tuple[BidKept, int]], str]:
        """Each with its position by the requester's acknowledgement, 0 where that states none."""
        ...

    def prices(self, since_us: int) -> list[ClassPrices]: ...
    async def audit(self, job_id: str) -> JobAudit: ...


class MarketServicer(market_service_pb2_grpc.MarketServiceServicer):
    """See market_service.proto."""

    def __init__(self, port: MarketPort) -> None:
        self._port = port

    async def ListOffers(self, request: pb.ListOffersRequest, context: Context) -> pb.ListOffersResponse:
        try:
            offers, token = self._port.offers(page_size(request.page_size), request.page_token)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.ListOffersResponse(
            offers=[
                pb.MadeOffer(
                    offer=offer_to_proto(made.offer),
                    made_at=fields.timestamp(made.made_us),
                    bids=made.bids,
                    declines=made.declines,
                    awards=made.awards,
                )
                for made in offers
            ],
            next_page_token=token,
        )

    async def ListOwnBids(self, request: pb.ListOwnBidsRequest, context: Context) -> pb.ListOwnBidsResponse:
        try:
            bids, token = self._port.own_bids(
                request.job_id, page_size(request.page_size), request.page_token
            )
        except Refused as error:
            await abort(context, error.refusal)
        return pb.ListOwnBidsResponse(
            bids=[_own_bid_to_proto(bid, position) for bid, position in bids], next_page_token=token
        )

    async def GetPriceHistory(
        self, request: pb.GetPriceHistoryRequest, context: Context
    ) -> pb.GetPriceHistoryResponse:
        try:
            since_us = PRICES_SINCE_DEFAULT_US
            if request.HasField("since"):
                since_us = fields.duration_us(request.since, "since", low=1, high=limits.MAX_TIMESTAMP_US)
            prices = self._port.prices(since_us)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.GetPriceHistoryResponse(
            prices=[
                pb.ClassPrices(
                    day=fields.timestamp(one.day_us),
                    resource_class=one.resource_class,
                    engine=fields.number(one.engine),
                    executions=one.executions,
                    lowest_microcredits=one.lowest_microcredits,
                    median_microcredits=one.median_microcredits,
                    highest_microcredits=one.highest_microcredits,
                )
                for one in prices
            ]
        )

    async def AuditJob(self, request: pb.AuditJobRequest, context: Context) -> pb.AuditJobResponse:
        try:
            audit = await self._port.audit(request.job_id)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.AuditJobResponse(
            job_id=audit.job_id,
            requester_id=audit.requester_id,
            clearings=[
                pb.AuditedClearing(
                    clearing=clearing_to_proto(audited.clearing),
                    bids=len(audited.disclosed),
                    findings=findings,
                )
                for audited, findings in audit.clearings
            ],
        )


def _own_bid_to_proto(bid: BidKept, position: int) -> pb.OwnBid:
    message = pb.OwnBid(
        bid_id=bid.bid_id,
        offer_id=bid.offer_id,
        job_id=bid.job_id,
        requester_id=bid.requester_id,
        sent_at=fields.timestamp(bid.sent_us),
        price_microcredits=bid.price_microcredits,
        position=position,
    )
    if bid.refusal is not None:
        message.refusal.CopyFrom(refusal_to_proto(bid.refusal))
    return message
