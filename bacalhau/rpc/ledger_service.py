"""LedgerService: money, for clients. Translates and pages; what the books say the port knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.rpc.limits import PAGE_SIZE_MAX
from bacalhau.rpc.paging import page_size, read_page
from bacalhau.rpc.status import abort
from bacalhau.v1 import envelope_pb2, ledger_pb2, ledger_service_pb2_grpc
from bacalhau.v1 import ledger_service_pb2 as pb
from bacalhau.wire import fields
from bacalhau.wire.limits import MAX_PRICE_MICROCREDITS
from bacalhau.wire.node import node_id_from_proto
from bacalhau.wire.receipt import receipt_to_proto
from bacalhau.wire.signed_receipt import open_signed_receipt

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from bacalhau.model.ledger import Balance
    from bacalhau.scheduler.history import StoredTransaction
    from bacalhau.scheduler.records import ReceiptRecord

    Context = ServicerContext[Any, Any]

REQUEST_ID_CHARS_MAX = 128


@dataclass(frozen=True, slots=True)
class NodeBalance:
    """The node's own accounts, in microcredits."""

    spent: int
    escrow: int
    payable: int
    paid: int
    earned: int
    receivable: int
    received: int
    unproven_limit: int
    unproven_exposure: int


@dataclass(frozen=True, slots=True)
class PeerBalance:
    """Where the node stands with another; amounts in microcredits."""

    peer_id: str
    payable: Balance
    receivable: Balance
    unsigned_receipts: int
    committed: int
    disputed: int
    limit: int
    trusted: bool


class LedgerPort(Protocol):
    """What the node does for LedgerService. Methods raise Refused."""

    def node_balance(self) -> NodeBalance: ...
    def peer_balances(self) -> list[PeerBalance]: ...
    def transactions(
        self, peer_id: str, execution_id: str, page_size: int, page_token: str
    ) -> tuple[list[StoredTransaction], str]: ...
    def receipts(self, peer_id: str, page_size: int, page_token: str) -> tuple[list[ReceiptRecord], str]: ...
    def signed_receipt(self, execution_id: str) -> tuple[bytes, bytes]: ...
    async def trust(self, peer_id: str, limit_microcredits: int | None) -> PeerBalance: ...
    async def settle(self, peer_id: str, amount_microcredits: int, request_id: str) -> PeerBalance: ...


class LedgerServicer(ledger_service_pb2_grpc.LedgerServiceServicer):
    """See ledger_service.proto."""

    def __init__(self, port: LedgerPort) -> None:
        self._port = port

    async def GetBalance(self, request: pb.GetBalanceRequest, context: Context) -> pb.GetBalanceResponse:
        balance = self._port.node_balance()
        return pb.GetBalanceResponse(
            balance=ledger_pb2.NodeBalance(
                spent_microcredits=balance.spent,
                escrow_microcredits=balance.escrow,
                payable_microcredits=balance.payable,
                paid_microcredits=balance.paid,
                earned_microcredits=balance.earned,
                receivable_microcredits=balance.receivable,
                received_microcredits=balance.received,
                unproven_limit_microcredits=balance.unproven_limit,
                unproven_exposure_microcredits=balance.unproven_exposure,
            )
        )

    async def ListBalances(
        self, request: pb.ListBalancesRequest, context: Context
    ) -> pb.ListBalancesResponse:
        try:
            start, size = read_page(request.page_token, request.page_size, PAGE_SIZE_MAX, default=100)
        except Refused as error:
            await abort(context, error.refusal)
        balances = self._port.peer_balances()
        end = start + size
        return pb.ListBalancesResponse(
            balances=[_peer_to_proto(balance) for balance in balances[start:end]],
            next_page_token=str(end) if end < len(balances) else "",
        )

    async def ListTransactions(
        self, request: pb.ListTransactionsRequest, context: Context
    ) -> pb.ListTransactionsResponse:
        try:
            found, token = self._port.transactions(
                request.peer_id, request.execution_id, page_size(request.page_size), request.page_token
            )
        except Refused as error:
            await abort(context, error.refusal)
        return pb.ListTransactionsResponse(
            transactions=[_transaction_to_proto(stored) for stored in found], next_page_token=token
        )

    async def ListReceipts(
        self, request: pb.ListReceiptsRequest, context: Context
    ) -> pb.ListReceiptsResponse:
        try:
            found, token = self._port.receipts(
                request.peer_id, page_size(request.page_size), request.page_token
            )
        except Refused as error:
            await abort(context, error.refusal)
        return pb.ListReceiptsResponse(
            receipts=[_kept_to_proto(record) for record in found], next_page_token=token
        )

    async def GetReceipt(self, request: pb.GetReceiptRequest, context: Context) -> pb.GetReceiptResponse:
        try:
            if not request.execution_id:
                raise refused(RefusalReason.MALFORMED, "execution_id is empty")
            requester, node = self._port.signed_receipt(request.execution_id)
            receipt = open_signed_receipt(requester, node)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.GetReceiptResponse(
            receipt=ledger_pb2.SignedReceipt(
                requester=envelope_pb2.SignedEnvelope.FromString(requester),
                node=envelope_pb2.SignedEnvelope.FromString(node),
                receipt=receipt_to_proto(receipt),
            )
        )

    async def TrustPeer(self, request: pb.TrustPeerRequest, context: Context) -> pb.TrustPeerResponse:
        try:
            limit = None
            if request.HasField("limit_microcredits"):
                limit = fields.whole(
                    request.limit_microcredits, "limit_microcredits", 0, MAX_PRICE_MICROCREDITS
                )
            balance = await self._port.trust(node_id_from_proto(request.peer_id, "peer_id"), limit)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.TrustPeerResponse(balance=_peer_to_proto(balance))

    async def RecordSettlement(
        self, request: pb.RecordSettlementRequest, context: Context
    ) -> pb.RecordSettlementResponse:
        try:
            if len(request.request_id) > REQUEST_ID_CHARS_MAX:
                raise refused(
                    RefusalReason.MALFORMED, f"request_id has more than {REQUEST_ID_CHARS_MAX} characters"
                )
            peer_id = node_id_from_proto(request.peer_id, "peer_id")
            amount = fields.whole(
                request.amount_microcredits, "amount_microcredits", 1, MAX_PRICE_MICROCREDITS
            )
            balance = await self._port.settle(peer_id, amount, request.request_id)
        except Refused as error:
            await abort(context, error.refusal)
        return pb.RecordSettlementResponse(balance=_peer_to_proto(balance))


def _balance_to_proto(balance: Balance) -> ledger_pb2.DirectedBalance:
    return ledger_pb2.DirectedBalance(
        sequence=balance.sequence,
        charged_microcredits=balance.charged_microcredits,
        note_sequence=balance.note_sequence,
        settled_microcredits=balance.settled_microcredits,
    )


def _peer_to_proto(balance: PeerBalance) -> ledger_pb2.PeerBalance:
    return ledger_pb2.PeerBalance(
        peer_id=balance.peer_id,
        payable=_balance_to_proto(balance.payable),
        receivable=_balance_to_proto(balance.receivable),
        unsigned_receipts=balance.unsigned_receipts,
        committed_microcredits=balance.committed,
        disputed_microcredits=balance.disputed,
        limit_microcredits=balance.limit,
        trusted=balance.trusted,
    )


def _transaction_to_proto(stored: StoredTransaction) -> ledger_pb2.Transaction:
    transaction = stored.transaction
    return ledger_pb2.Transaction(
        id=stored.id,
        kind=fields.number(transaction.kind),
        time=fields.timestamp(transaction.time_us),
        peer_id=transaction.peer_id,
        execution_id=transaction.execution_id,
        postings=[
            ledger_pb2.Posting(account=posting.account, amount_microcredits=posting.amount_microcredits)
            for posting in transaction.postings
        ],
    )


def _kept_to_proto(record: ReceiptRecord) -> ledger_pb2.StoredReceipt:
    return ledger_pb2.StoredReceipt(
        side=fields.number(record.side),
        receipt=receipt_to_proto(record.receipt),
        complete=record.evidence is not None,
        refusal=record.refusal.message if record.refusal is not None else "",
    )
