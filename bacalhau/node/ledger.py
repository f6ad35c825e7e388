"""The node's books as clients see them, and what its operator decides about them: the port of LedgerService."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bacalhau.market import ledger as books
from bacalhau.model.ledger import Balance, TradeSide
from bacalhau.model.refusals import RefusalReason, Refused, refused
from bacalhau.rpc.ledger_service import NodeBalance, PeerBalance
from bacalhau.scheduler.events import PeerTrusted, SettlementRecorded

if TYPE_CHECKING:
    from bacalhau.node.driver import Driver
    from bacalhau.node.signer import Signer
    from bacalhau.scheduler.history import StoredTransaction
    from bacalhau.scheduler.records import ReceiptRecord
    from bacalhau.store.store import Store


class LedgerViews:
    """See the module."""

    def __init__(self, signer: Signer, driver: Driver, store: Store) -> None:
        self._signer = signer
        self._driver = driver
        self._store = store
        self._settling = asyncio.Lock()
        """One settlement at a time, so that a hasty repeat finds the first."""

    # --- views ---

    def node_balance(self) -> NodeBalance:
        buying, selling = self._driver.requester.payables.ledger, self._driver.compute.receivables.ledger
        credit = self._driver.compute.receivables.credit
        return NodeBalance(
            spent=buying.balance(books.SPENT),
            escrow=buying.total(books.escrow("")),
            payable=buying.total(books.payable("")),
            paid=buying.balance(books.PAID),
            earned=selling.balance(books.EARNED),
            receivable=-selling.total(books.receivable("")),
            received=-selling.balance(books.RECEIVED),
            unproven_limit=credit.unproven_limit,
            unproven_exposure=credit.unproven_exposure,
        )

    def peer_balances(self) -> list[PeerBalance]:
        payables, receivables = self._driver.requester.payables, self._driver.compute.receivables
        peers = {*payables.balances, *receivables.records, *receivables.credit}
        return [self._peer_balance(peer_id) for peer_id in sorted(peers)]

    def _peer_balance(self, peer_id: str) -> PeerBalance:
        payables, receivables = self._driver.requester.payables, self._driver.compute.receivables
        record = receivables.records.get(peer_id)
        return PeerBalance(
            peer_id,
            payable=payables.balances.get(peer_id, Balance()),
            receivable=record.balance if record is not None else Balance(),
            unsigned_receipts=payables.unsigned(peer_id),
            committed=receivables.credit.committed(peer_id),
            disputed=record.disputed_microcredits if record is not None else 0,
            limit=receivables.credit.limit(peer_id),
            trusted=record is not None and record.limit_microcredits is not None,
        )

    def transactions(
        self, peer_id: str, execution_id: str, page_size: int, page_token: str
    ) -> tuple[list[StoredTransaction], str]:
        return self._store.transactions(peer_id, execution_id, page_size=page_size, page_token=page_token)

    def receipts(self, peer_id: str, page_size: int, page_token: str) -> tuple[list[ReceiptRecord], str]:
        return self._store.receipts(peer_id, page_size=page_size, page_token=page_token)

    def signed_receipt(self, execution_id: str) -> tuple[bytes, bytes]:
        """The envelopes of requester and node. Raises Refused: NOT_FOUND, AMBIGUOUS_ID, WRONG_STATE."""
        found = self._store.match_receipts(execution_id, limit=2)
        if not found:
            raise refused(
                RefusalReason.NOT_FOUND,
                f"no receipt of {execution_id} here: `bacalhau ledger receipts` shows those that are",
            )
        record = found[0]
        if len(found) > 1 and record.receipt.execution_id != execution_id:
            raise refused(
                RefusalReason.AMBIGUOUS_ID, f"{execution_id} could be one of several: give more of the id"
            )
        if record.evidence is None:
            why = f": {record.refusal.message}" if record.refusal is not None else " yet"
            raise refused(RefusalReason.WRONG_STATE, f"the other side has not signed this receipt{why}")
        receipt = record.receipt
        # What this node signs is not kept: its key makes it again. Own work has it on both sides.
        if record.side is TradeSide.BUYING:
            return self._signer.seal(receipt, receipt.node_id), record.evidence or self._signer.seal(
                receipt, receipt.requester_id
            )
        return record.evidence, self._signer.seal(receipt, receipt.requester_id)

    # --- what the operator decides ---

    async def trust(self, peer_id: str, limit_microcredits: int | None) -> PeerBalance:
        self._check_other(peer_id)
        await self._driver.ask_compute(PeerTrusted(peer_id, limit_microcredits))
        return self._peer_balance(peer_id)

    async def settle(self, peer_id: str, amount_microcredits: int, request_id: str) -> PeerBalance:
        """Idempotent by request id."""
        self._check_other(peer_id)
        async with self._settling:
            known = await asyncio.to_thread(self._store.transaction_by_request, request_id)
            if known is None:
                event = SettlementRecorded(peer_id, amount_microcredits, request_id)
                refusal = await self._driver.ask_compute(event)
                if refusal is not None:
                    raise Refused(refusal)
            elif known.transaction != books.settlement_received(
                peer_id, amount_microcredits, known.transaction.time_us, request_id
            ):
                raise refused(
                    RefusalReason.ID_REUSED,
                    f"request_id {request_id} came before with another settlement: use a new one",
                )
        return self._peer_balance(peer_id)

    def _check_other(self, peer_id: str) -> None:
        if peer_id == self._signer.node_id:
            raise refused(RefusalReason.MALFORMED, "this node owes itself nothing: peer_id is its own")
