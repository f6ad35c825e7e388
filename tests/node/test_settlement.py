"""Trades between two live nodes of this process: both end with the same balance, and strangers change nothing."""

from __future__ import annotations

import contextlib
import functools
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from bacalhau.market.credit import CreditPolicy
from bacalhau.market.ledger import Ledger
from bacalhau.model.ledger import Balance, SettlementNote, TradeSide
from bacalhau.model.refusals import RefusalReason
from bacalhau.scheduler.records import ReceiptRecord
from bacalhau.v1 import compute_service_pb2, ledger_pb2, requester_service_pb2
from bacalhau.v1 import ledger_service_pb2 as pb
from bacalhau.v1.compute_service_pb2_grpc import ComputeServiceStub
from bacalhau.v1.job_service_pb2 import CancelJobRequest, SubmitJobRequest
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from bacalhau.v1.ledger_service_pb2_grpc import LedgerServiceStub
from bacalhau.v1.requester_service_pb2_grpc import RequesterServiceStub
from bacalhau.wire.envelope import SignedEnvelope
from bacalhau.wire.refusal import refusal_from_proto
from bacalhau.wire.signed_receipt import open_signed_receipt
from tests.builders import a_receipt
from tests.node.live import (
    HELLO,
    SLEEPER,
    Stranger,
    client_of,
    peer_channel,
    refusal_from,
    running,
    until,
    wasm_job,
)
from tests.node.test_metrics import scrape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bacalhau.node.node import Node
    from bacalhau.scheduler.history import StoredJob

PRICE = 1000


class Trade:
    """A requester that runs nothing, and a node that runs its jobs for 1000."""

    def __init__(self, requester: Node, worker: Node) -> None:
        self.requester = requester
        self.worker = worker

    async def begin(self, on: Node | None = None) -> str:
        node = on or self.requester
        async with client_of(node) as channel:
            request = SubmitJobRequest(spec=wasm_job(node, HELLO))
            return str((await JobServiceStub(channel).SubmitJob(request)).job.id)

    async def run(self) -> StoredJob:
        """A job, to its end and until both sides have signed its receipt."""
        job_id = await self.begin()
        await until(lambda: self.requester.jobs.job(job_id).state.ended, "the job has ended")
        await until(lambda: not self.requester.store.books().unsigned, "the receipt is signed")
        return self.requester.jobs.job(job_id)

    def owed(self) -> Balance:
        return self.requester.driver.requester.payables.balances.get(self.worker.node_id, Balance())

    def due(self) -> Balance:
        record = self.worker.driver.compute.receivables.records.get(self.requester.node_id)
        return record.balance if record is not None else Balance()

    def envelopes(self) -> list[bytes]:
        """What the requester signed, as the worker keeps it."""
        kept = [record.evidence for record in self.worker.store.receipts()[0]]
        return [evidence for evidence in reversed(kept) if evidence]


@contextlib.asynccontextmanager
async def trading(
    folder: Path, of_requester: dict[str, Any] | None = None, **of_worker: Any
) -> AsyncIterator[Trade]:
    async with (
        running(folder / "requester", compute=False, **(of_requester or {})) as requester,
        running(
            folder / "worker",
            requester=False,
            flat_price_microcredits=PRICE,
            peers=(requester.peer_address,),
            **of_worker,
        ) as worker,
    ):
        await until(
            lambda: any(peer.record.node_id == worker.node_id for peer in requester.membership.peers()),
            "they met",
        )
        yield Trade(requester, worker)


@pytest_asyncio.fixture
async def trade(tmp_path: Path) -> AsyncIterator[Trade]:
    async with trading(tmp_path) as both:
        yield both


async def test_metrics_tell_what_is_set_aside_owed_and_on_credit(tmp_path: Path) -> None:
    metrics: dict[str, Any] = {"metrics_port": 0}
    async with trading(tmp_path, metrics, **metrics) as trade:
        async with client_of(trade.requester) as channel:
            request = SubmitJobRequest(spec=wasm_job(trade.requester, SLEEPER))
            job_id = (await JobServiceStub(channel).SubmitJob(request)).job.id
            await until(lambda: trade.worker.driver.compute.running_executions, "it runs")
            owing, owed = await scrape(trade.requester), await scrape(trade.worker)
            assert owing("bacalhau_escrow_microcredits") == PRICE
            assert owed("bacalhau_unproven_exposure_microcredits") == PRICE
            assert (owed("bacalhau_unproven_limit_microcredits") or 0) > PRICE
            await JobServiceStub(channel).CancelJob(CancelJobRequest(job_id=job_id))
        await trade.run()
        owing, owed = await scrape(trade.requester), await scrape(trade.worker)
    assert owing("bacalhau_escrow_microcredits") == owed("bacalhau_disputed_microcredits") == 0
    pay = PRICE // 10
    assert owing("bacalhau_payable_microcredits") == owed("bacalhau_receivable_microcredits") == pay
    assert owed("bacalhau_unproven_exposure_microcredits") == pay


async def test_after_each_trade_both_sides_have_the_same_balance_and_the_same_receipt(trade: Trade) -> None:
    for number in (1, 2):
        job = await trade.run()
        (execution,) = job.executions
        assert (execution.price_microcredits, execution.charged_microcredits) == (PRICE, PRICE // 10)
        assert trade.owed() == trade.due() == Balance(number, number * PRICE // 10)
        work = trade.worker.store.work(execution.id)
        assert work is not None
        assert (work.paid_microcredits, work.receipt_sequence) == (PRICE // 10, number)
        for node in (trade.requester, trade.worker):
            async with client_of(node) as channel:
                request = pb.GetReceiptRequest(execution_id=execution.id[:20])
                signed = (await LedgerServiceStub(channel).GetReceipt(request)).receipt
            receipt = open_signed_receipt(
                signed.requester.SerializeToString(), signed.node.SerializeToString()
            )
            assert (receipt.execution_id, receipt.pay_microcredits) == (execution.id, PRICE // 10)
            assert (receipt.sequence, receipt.node_id) == (number, trade.worker.node_id)


async def test_history_on_disk_replays_to_the_books_in_memory(trade: Trade) -> None:
    await trade.run()
    await trade.run()
    for node in (trade.requester, trade.worker):
        replayed = Ledger()
        for stored in reversed(node.store.transactions()[0]):
            replayed.post(stored.transaction)
        held = {
            **node.driver.requester.payables.ledger.balances,
            **node.driver.compute.receivables.ledger.balances,
        }
        assert replayed.balances == held
        assert replayed.total("") == 0


async def test_own_work_is_settled_with_the_job_and_signed_when_it_is_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path / "node", flat_price_microcredits=PRICE) as node:
        both = Trade(node, node)
        job = await both.run()
        assert both.owed() == both.due() == Balance(1, PRICE // 10)
        async with client_of(node) as channel:
            request = pb.GetReceiptRequest(execution_id=job.executions[0].id)
            signed = (await LedgerServiceStub(channel).GetReceipt(request)).receipt
        receipt = open_signed_receipt(signed.requester.SerializeToString(), signed.node.SerializeToString())
        assert receipt.requester_id == receipt.node_id == node.node_id


async def test_the_same_receipt_again_and_again_is_answered_and_counts_once(trade: Trade) -> None:
    await trade.run()
    await trade.run()
    first, second = (SignedEnvelope.FromString(raw) for raw in trade.envelopes())
    before = trade.due()
    async with peer_channel(trade.worker) as channel:
        stub = ComputeServiceStub(channel)
        for receipts in ([first], [second, first], [first, first, second]):
            request = compute_service_pb2.SignReceiptsRequest(receipts=receipts)
            answer = await stub.SignReceipts(request)
            assert len(answer.receipts) == len(receipts)
            assert not answer.HasField("refusal")
    assert trade.due() == trade.owed() == before


async def test_receipts_that_are_not_of_their_sender_or_hold_no_sums_are_refused(trade: Trade) -> None:
    await trade.run()
    stranger = Stranger()
    right = a_receipt(requester_id=stranger.key.node_id, node_id=trade.worker.node_id)
    theirs = trade.worker.store.receipt(TradeSide.SELLING, trade.requester.node_id, 1)
    assert theirs is not None
    async with peer_channel(trade.worker) as channel:
        stub = ComputeServiceStub(channel)
        for receipt, reason in (
            (replace(right, execution_id=theirs.receipt.execution_id), RefusalReason.NOT_FOUND),
            (theirs.receipt, RefusalReason.MALFORMED),
            (replace(right, node_id=trade.requester.node_id), RefusalReason.MALFORMED),
            (replace(right, pay_microcredits=11), RefusalReason.MALFORMED),
            (replace(right, sequence=2), RefusalReason.WRONG_STATE),
        ):
            now = trade.worker.clock.now()
            envelope = stranger.seal(receipt, trade.worker.node_id, at_us=now)
            answer = await stub.SignReceipts(compute_service_pb2.SignReceiptsRequest(receipts=[envelope]))
            assert list(answer.receipts) == []
            assert refusal_from_proto(answer.refusal).reason is reason
        forged = SignedEnvelope.FromString(trade.envelopes()[0])
        forged.signature = bytes(64)
        refusal = await refusal_from(
            stub.SignReceipts(compute_service_pb2.SignReceiptsRequest(receipts=[forged]))
        )
        assert refusal.reason is RefusalReason.BAD_SIGNATURE
        many = compute_service_pb2.SignReceiptsRequest(receipts=[forged] * 101)
        assert (await refusal_from(stub.SignReceipts(many))).reason is RefusalReason.TOO_LARGE
    assert trade.due() == trade.owed()


async def test_receipts_that_contradict_the_work_are_signed_one_after_the_other(trade: Trade) -> None:
    """What a requester signs that it owes is taken; that it says so of nothing counts against nobody else's credit."""
    stranger, unproven = Stranger(), trade.worker.driver.compute.receivables.credit.unproven_exposure
    async with peer_channel(trade.worker) as channel:
        stub, now = ComputeServiceStub(channel), trade.worker.clock.now()
        for sequence in (1, 2):
            receipt = a_receipt(
                requester_id=stranger.key.node_id, node_id=trade.worker.node_id, sequence=sequence
            )
            receipt = replace(receipt, execution_id=f"e-{sequence}", balance_microcredits=10 * sequence)
            envelope = stranger.seal(receipt, trade.worker.node_id, at_us=now)
            answer = await stub.SignReceipts(compute_service_pb2.SignReceiptsRequest(receipts=[envelope]))
            signed = open_signed_receipt(envelope.SerializeToString(), answer.receipts[0].SerializeToString())
            assert signed == receipt
    receivables = trade.worker.driver.compute.receivables
    assert receivables.records[stranger.key.node_id].balance == Balance(2, 20)
    assert receivables.credit.unproven_exposure == unproven


async def test_another_receipt_under_a_number_that_is_taken_is_refused(trade: Trade) -> None:
    """The requester's own key signs it: it changes its mind about what it owes."""
    await trade.run()
    kept = trade.worker.store.receipt(TradeSide.SELLING, trade.requester.node_id, 1)
    assert kept is not None
    liar = Stranger()
    liar.key = trade.requester._key
    changed = replace(kept.receipt, exit_code=9)
    async with peer_channel(trade.worker) as channel:
        envelope = liar.seal(changed, trade.worker.node_id, at_us=trade.worker.clock.now(), id="s-liar")
        answer = await ComputeServiceStub(channel).SignReceipts(
            compute_service_pb2.SignReceiptsRequest(receipts=[envelope])
        )
    assert refusal_from_proto(answer.refusal).reason is RefusalReason.ID_REUSED


async def test_a_node_takes_nothing_back_that_it_did_not_sign_itself(trade: Trade) -> None:
    await trade.run()
    stranger, worker = Stranger(), trade.worker
    before, now = trade.due(), worker.clock.now()
    receipt = a_receipt(requester_id=stranger.key.node_id, node_id=worker.node_id)
    other = replace(receipt, exit_code=1)
    seal = functools.partial(stranger.seal, at_us=now)
    own = Stranger()
    own.key = worker._key
    right = seal(receipt, worker.node_id)
    stolen = SettlementNote(worker.node_id, stranger.key.node_id, 1, 10**6, now)
    async with peer_channel(worker) as channel:
        stub = ComputeServiceStub(channel)
        for request, reason in (
            ({"signed_before": [seal(receipt, worker.node_id)]}, RefusalReason.BAD_SIGNATURE),
            ({"signed_before": [own.seal(other, stranger.key.node_id, at_us=now)]}, RefusalReason.MALFORMED),
            ({"signed_before": [seal(receipt, worker.node_id)] * 2}, RefusalReason.MALFORMED),
            ({"note": seal(stolen, worker.node_id)}, RefusalReason.BAD_SIGNATURE),
        ):
            call = stub.SignReceipts(compute_service_pb2.SignReceiptsRequest(receipts=[right], **request))
            assert (await refusal_from(call)).reason is reason
    records = worker.driver.compute.receivables.records
    assert records[stranger.key.node_id].balance.settled_microcredits == 0
    assert trade.due() == before


@pytest.mark.parametrize("signed_by", ["stranger", "requester"])
async def test_a_requester_takes_nothing_back_that_it_did_not_sign_or_that_pays_twice(
    trade: Trade, signed_by: str
) -> None:
    """Its node says that both have signed a second receipt: of nothing that was done, or once more of the first."""
    await trade.run()
    worker, requester = trade.worker, trade.requester
    liar, first = Stranger(), worker.store.receipt(TradeSide.SELLING, requester.node_id, 1)
    assert first is not None
    forged = replace(first.receipt, sequence=2, balance_microcredits=200)
    if signed_by == "stranger":
        forged = replace(forged, execution_id="e-none")
    else:
        liar.key = requester._key
    evidence = liar.seal(forged, worker.node_id, at_us=worker.clock.now(), id="s-liar").SerializeToString()
    record = replace(worker.driver.compute.receivables.records[requester.node_id], balance=Balance(2, 200))
    worker.driver.compute.receivables._records[requester.node_id] = record
    worker.store.commit([record, ReceiptRecord(TradeSide.SELLING, forged, evidence)])
    job_id = await trade.begin()
    await until(lambda: requester.jobs.job(job_id).state.ended, "the job has ended")

    def refused() -> bool:
        (kept,) = requester.store.books().unsigned
        return kept.refusal is not None and kept.refusal.reason is RefusalReason.ID_REUSED

    await until(refused, "the node has answered")
    assert trade.owed() == Balance(2, 200)
    (kept,) = requester.store.books().unsigned
    assert kept.receipt.execution_id == requester.jobs.job(job_id).executions[0].id
    requester.driver.requester.payables.check(())


@pytest.mark.parametrize("restored", ["requester", "worker"])
async def test_a_note_that_one_side_has_forgotten_comes_back_with_the_next_receipt(
    tmp_path: Path, restored: str
) -> None:
    """The backup is older than the settlement, and not older than the last receipt."""
    async with trading(tmp_path) as trade:
        await trade.run()
    shutil.copytree(tmp_path / restored, tmp_path / "backup")
    async with trading(tmp_path) as trade:
        request = pb.RecordSettlementRequest(
            peer_id=trade.requester.node_id, amount_microcredits=60, request_id="q-1"
        )
        async with client_of(trade.worker) as channel:
            await LedgerServiceStub(channel).RecordSettlement(request)
        await until(lambda: trade.worker.store.books().receivables[0].signed_note == 1, "both have the note")
    shutil.rmtree(tmp_path / restored)
    (tmp_path / "backup").rename(tmp_path / restored)
    async with trading(tmp_path) as trade:
        await trade.run()
        await until(lambda: trade.owed() == trade.due() == Balance(2, 200, 1, 60), "the balances are equal")
        await until(lambda: trade.worker.store.books().receivables[0].signed_note == 1, "both have signed it")
        trade.requester.driver.requester.payables.check(())
        trade.worker.driver.compute.receivables.check(())


async def test_a_settlement_reaches_the_debtor_and_is_recorded_once_for_one_request(trade: Trade) -> None:
    await trade.run()
    request = pb.RecordSettlementRequest(
        peer_id=trade.requester.node_id, amount_microcredits=60, request_id="q-1"
    )
    async with client_of(trade.worker) as channel:
        stub = LedgerServiceStub(channel)
        for _ in range(2):
            balance = (await stub.RecordSettlement(request)).balance
            assert (balance.receivable.settled_microcredits, balance.receivable.note_sequence) == (60, 1)
        request.amount_microcredits = 61
        assert (await refusal_from(stub.RecordSettlement(request))).reason is RefusalReason.ID_REUSED
    await until(lambda: trade.owed().note_sequence == 1, "the debtor has the note")
    await until(
        lambda: trade.worker.driver.compute.receivables.records[trade.requester.node_id].signed_note == 1,
        "the creditor has its signature",
    )
    assert trade.owed() == trade.due() == Balance(1, 100, 1, 60)
    async with peer_channel(trade.requester) as channel:
        stranger = Stranger()
        note = requester_service_pb2.SignSettlementRequest(
            note=stranger.seal(
                _note(stranger.key.node_id, trade.requester.node_id),
                trade.requester.node_id,
                at_us=trade.requester.clock.now(),
            )
        )
        refusal = await refusal_from(RequesterServiceStub(channel).SignSettlement(note))
        assert refusal.reason is RefusalReason.MALFORMED


def _note(creditor_id: str, debtor_id: str) -> SettlementNote:
    return SettlementNote(creditor_id, debtor_id, 1, 5, 10**9)


async def test_who_has_no_credit_left_gets_no_work_until_its_debt_is_settled_or_it_is_trusted(
    tmp_path: Path,
) -> None:
    async with trading(tmp_path, credit=CreditPolicy(PRICE + 50, PRICE + 50)) as trade:
        await trade.run()
        job_id = await trade.begin()

        def declined() -> bool:
            answers, _ = trade.requester.jobs.answers(job_id, 0, "")
            return any(
                answer.refusal is not None and answer.refusal.reason is RefusalReason.CREDIT_LIMIT
                for answer in answers
            )

        await until(declined, "the node declines for want of credit")
        assert not trade.requester.jobs.job(job_id).state.ended
        async with client_of(trade.worker) as channel:
            stub = LedgerServiceStub(channel)
            peer_id = trade.requester.node_id
            await stub.TrustPeer(pb.TrustPeerRequest(peer_id=peer_id, limit_microcredits=2 * PRICE))
            await until(lambda: trade.requester.jobs.job(job_id).state.ended, "the job goes on")
            listed = (await stub.ListBalances(pb.ListBalancesRequest())).balances
        assert [(one.peer_id, one.limit_microcredits, one.trusted) for one in listed] == [
            (peer_id, 2 * PRICE, True)
        ]


async def test_lists_and_balances_say_what_the_books_do(trade: Trade) -> None:
    await trade.run()
    await trade.run()
    async with client_of(trade.requester) as channel:
        stub = LedgerServiceStub(channel)
        own = (await stub.GetBalance(pb.GetBalanceRequest())).balance
        assert (own.spent_microcredits, own.payable_microcredits, own.escrow_microcredits) == (-200, 200, 0)
        first = await stub.ListTransactions(pb.ListTransactionsRequest(page_size=3))
        rest = await stub.ListTransactions(
            pb.ListTransactionsRequest(page_size=3, page_token=first.next_page_token)
        )
        assert rest.next_page_token == ""
        kinds = [one.kind for one in (*first.transactions, *rest.transactions)]
        escrow, payment = ledger_pb2.TRANSACTION_KIND_ESCROW, ledger_pb2.TRANSACTION_KIND_PAYMENT
        assert kinds == [payment, escrow, payment, escrow]
        receipts = (await stub.ListReceipts(pb.ListReceiptsRequest())).receipts
        assert [(one.side, one.receipt.sequence, one.complete) for one in receipts] == [
            (ledger_pb2.TRADE_SIDE_BUYING, 2, True),
            (ledger_pb2.TRADE_SIDE_BUYING, 1, True),
        ]
        for call, reason in (
            (stub.GetReceipt(pb.GetReceiptRequest(execution_id="e-none")), RefusalReason.NOT_FOUND),
            (stub.GetReceipt(pb.GetReceiptRequest()), RefusalReason.MALFORMED),
            (stub.GetReceipt(pb.GetReceiptRequest(execution_id="e-")), RefusalReason.AMBIGUOUS_ID),
            (stub.ListReceipts(pb.ListReceiptsRequest(page_token="x")), RefusalReason.MALFORMED),
            (stub.TrustPeer(pb.TrustPeerRequest(peer_id="nobody")), RefusalReason.MALFORMED),
            (
                stub.RecordSettlement(
                    pb.RecordSettlementRequest(peer_id=trade.requester.node_id, amount_microcredits=5)
                ),
                RefusalReason.MALFORMED,
            ),
            (
                stub.RecordSettlement(
                    pb.RecordSettlementRequest(peer_id=trade.worker.node_id, amount_microcredits=5)
                ),
                RefusalReason.NOT_FOUND,
            ),
        ):
            assert (await refusal_from(call)).reason is reason
    async with client_of(trade.worker) as channel:
        own = (await LedgerServiceStub(channel).GetBalance(pb.GetBalanceRequest())).balance
        assert (own.earned_microcredits, own.receivable_microcredits) == (200, 200)
        assert own.unproven_exposure_microcredits == 200


@pytest.mark.parametrize("restarted", ["requester", "worker"])
async def test_a_restart_of_either_side_changes_no_balance(tmp_path: Path, restarted: str) -> None:
    async with trading(tmp_path) as trade:
        await trade.run()
        before = trade.owed()
        folder = getattr(trade, restarted).settings.data_dir
        await getattr(trade, restarted).stop()
        async with running(folder) as again:
            payables, receivables = again.driver.requester.payables, again.driver.compute.receivables
            if restarted == "requester":
                assert payables.balances == {trade.worker.node_id: before}
            else:
                assert receivables.records[trade.requester.node_id].balance == before
            payables.check(())
            receivables.check(())
