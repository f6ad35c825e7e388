"""Records as rows, and rows as records: the only place that knows which column holds what."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bacalhau.model.execution import ExecutionPhase, ExecutionState
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.ledger import Balance, Posting, TradeSide, Transaction, TransactionKind
from bacalhau.model.reputation import Reputation, Role
from bacalhau.scheduler.records import (
    AnswerReceived,
    AuctionCleared,
    BidKept,
    ExecutionRecord,
    JobAccepted,
    JobChanged,
    JobHappening,
    NoteRecord,
    OfferMade,
    PayableRecord,
    ReceiptRecord,
    ReceivableRecord,
    WorkRecord,
    WorkState,
)
from bacalhau.store import encoding
from bacalhau.wire.job import spec_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bacalhau.scheduler.records import Write

Row = tuple[Any, ...]

JOB_COLUMNS: Final = (
    "id, spec, inputs, spec_digest, created_us, request_id, client, state, updated_us, failure, "
    "charged_microcredits, replicas"
)
HAPPENING_COLUMNS: Final = (
    "job_id, sequence, type, time_us, state, message, node_id, execution_id, price_microcredits, refusal, "
    "phase, fault"
)
EXECUTION_COLUMNS: Final = (
    "id, job_id, offer_id, bid_id, node_id, state, price_microcredits, charged_microcredits, "
    "created_us, updated_us, bid_set_digest, phase, attempt, report, failure, commitment, compared, payment, "
    "bond_microcredits, penalty_microcredits, late, committed_us, result"
)
WORK_COLUMNS: Final = (
    "id, requester_id, state, attempt, accepted_us, updated_us, award, report, refusal, commitment, "
    "revealed, paid_microcredits, receipt_sequence, result"
)
TRANSACTION_COLUMNS: Final = "kind, time_us, peer_id, execution_id, postings, request_id"
_BALANCE_COLUMNS: Final = "peer_id, sequence, charged_microcredits, note_sequence, settled_microcredits"
PAYABLE_COLUMNS: Final = _BALANCE_COLUMNS
RECEIVABLE_COLUMNS: Final = (
    f"{_BALANCE_COLUMNS}, disputed_microcredits, limit_microcredits, signed_note, unearned_microcredits"
)
RECEIPT_COLUMNS: Final = "side, peer_id, sequence, execution_id, time_us, receipt, evidence, refusal"


_COMPACT_JSON: Final = json.JSONEncoder(separators=(",", ":"))


def _accepted_row(record: JobAccepted) -> Row:
    return (
        record.id,
        spec_bytes(record.spec),
        encoding.inputs_bytes(record.inputs),
        record.spec_digest,
        record.created_us,
        record.request_id,
        record.client,
        JobState.PENDING.value,
        record.created_us,
        None,
        0,
        0,
    )


def _changed_row(record: JobChanged) -> Row:
    failure = encoding.fault_bytes(record.failure)
    charged, replicas = record.charged_microcredits, record.replicas
    return record.state.value, record.updated_us, failure, charged, replicas, record.id


def _happening_row(record: JobHappening) -> Row:
    return (
        record.job_id,
        record.sequence,
        record.type.value,
        record.time_us,
        record.state.value,
        encoding.text(record.message),
        record.node_id,
        record.execution_id,
        record.price_microcredits,
        encoding.refusal_bytes(record.refusal),
        None if record.phase is None else record.phase.value,
        encoding.fault_bytes(record.fault),
    )


def _offer_row(record: OfferMade) -> Row:
    return record.offer.id, record.offer.job_id, record.made_us, encoding.offer_bytes(record.offer)


def _answer_row(record: AnswerReceived) -> Row:
    return (
        record.job_id,
        record.offer_id,
        "" if record.bid is None else record.bid.id,
        record.node_id,
        record.received_us,
        encoding.bid_bytes(record.bid),
        encoding.refusal_bytes(record.refusal),
        record.evidence,
    )


def _clearing_row(record: AuctionCleared) -> Row:
    clearing = record.clearing
    return (
        clearing.job_id,
        clearing.offer_id,
        record.sequence,
        clearing.cleared_us,
        encoding.clearing_bytes(clearing),
        encoding.bid_set_bytes(record.bid_set),
    )


def _own_bid_row(record: BidKept) -> Row:
    return (
        record.offer_id,
        record.bid_id,
        record.job_id,
        record.requester_id,
        record.sent_us,
        record.price_microcredits,
        record.offer_envelope,
        record.bid_envelope,
        record.acknowledgement,
        encoding.refusal_bytes(record.refusal),
    )


def _execution_row(record: ExecutionRecord) -> Row:
    return (
        record.id,
        record.job_id,
        record.offer_id,
        record.bid_id,
        record.node_id,
        record.state.value,
        record.price_microcredits,
        record.charged_microcredits,
        record.created_us,
        record.updated_us,
        record.bid_set_digest,
        None if record.phase is None else record.phase.value,
        record.attempt,
        encoding.report_bytes(record.report),
        encoding.fault_bytes(record.failure),
        record.commitment,
        record.compared,
        encoding.payment_bytes(record.payment),
        record.bond_microcredits,
        record.penalty_microcredits,
        record.late,
        record.committed_us,
        encoding.result_bytes(record.report),
    )


def _work_row(record: WorkRecord) -> Row:
    return (
        record.id,
        record.requester_id,
        record.state.value,
        record.attempt,
        record.accepted_us,
        record.updated_us,
        encoding.award_bytes(record.award),
        encoding.report_bytes(record.report),
        encoding.refusal_bytes(record.refusal),
        record.commitment,
        int(record.revealed),
        record.paid_microcredits,
        record.receipt_sequence,
        encoding.result_bytes(record.report),
    )


def _reputation_row(record: Reputation) -> Row:
    return record.node_id, record.role.value, record.updated_us, encoding.reputation_bytes(record)


def _transaction_row(record: Transaction) -> Row:
    moves = [[posting.account, posting.amount_microcredits] for posting in record.postings]
    return (
        record.kind.value,
        record.time_us,
        record.peer_id,
        record.execution_id,
        _COMPACT_JSON.encode(moves),
        record.request_id,
    )


def _balance_row(peer_id: str, balance: Balance) -> Row:
    return (
        peer_id,
        balance.sequence,
        balance.charged_microcredits,
        balance.note_sequence,
        balance.settled_microcredits,
    )


def _payable_row(record: PayableRecord) -> Row:
    return _balance_row(record.peer_id, record.balance)


def _receivable_row(record: ReceivableRecord) -> Row:
    return (
        *_balance_row(record.peer_id, record.balance),
        record.disputed_microcredits,
        record.limit_microcredits,
        record.signed_note,
        record.unearned_microcredits,
    )


def _receipt_row(record: ReceiptRecord) -> Row:
    return (
        record.side.value,
        record.peer_id,
        record.receipt.sequence,
        record.receipt.execution_id,
        record.receipt.time_us,
        encoding.receipt_bytes(record.receipt),
        record.evidence,
        encoding.refusal_bytes(record.refusal),
    )


def _note_row(record: NoteRecord) -> Row:
    note = record.note
    peer_id = note.creditor_id if record.side is TradeSide.BUYING else note.debtor_id
    return record.side.value, peer_id, note.sequence, encoding.note_bytes(note), record.evidence


_UPSERT_EXECUTION: Final = (
    f"INSERT INTO executions ({EXECUTION_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) "
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, "
    "charged_microcredits = excluded.charged_microcredits, updated_us = excluded.updated_us, "
    "phase = excluded.phase, attempt = excluded.attempt, "
    "report = excluded.report, result = excluded.result, failure = excluded.failure, "
    "commitment = excluded.commitment, committed_us = excluded.committed_us, compared = excluded.compared, "
    "penalty_microcredits = excluded.penalty_microcredits, late = excluded.late"
)
_UPSERT_WORK: Final = (
    f"INSERT INTO work ({WORK_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) "
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, "
    "updated_us = excluded.updated_us, report = excluded.report, refusal = excluded.refusal, "
    "commitment = excluded.commitment, revealed = excluded.revealed, result = excluded.result, "
    "paid_microcredits = excluded.paid_microcredits, receipt_sequence = excluded.receipt_sequence"
)
_SET_REPUTATION: Final = (
    "INSERT OR REPLACE INTO reputations (node_id, role, updated_us, reputation) VALUES (?,?,?,?)"
)

_WRITES: Final[dict[type, tuple[str, Callable[[Any], Row]]]] = {
    JobAccepted: (f"INSERT INTO jobs ({JOB_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", _accepted_row),
    JobChanged: (
        "UPDATE jobs SET state = ?, updated_us = ?, failure = ?, charged_microcredits = ?, replicas = ? "
        "WHERE id = ?",
        _changed_row,
    ),
    JobHappening: (
        f"INSERT OR REPLACE INTO happenings ({HAPPENING_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        _happening_row,
    ),
    OfferMade: ("INSERT INTO offers (id, job_id, made_us, offer) VALUES (?,?,?,?)", _offer_row),
    AnswerReceived: (
        "INSERT OR REPLACE INTO answers "
        "(job_id, offer_id, bid_id, node_id, received_us, bid, refusal, evidence) VALUES (?,?,?,?,?,?,?,?)",
        _answer_row,
    ),
    AuctionCleared: (
        "INSERT INTO clearings (job_id, offer_id, sequence, cleared_us, clearing, bid_set) VALUES (?,?,?,?,?,?)",
        _clearing_row,
    ),
    BidKept: (
        "INSERT OR REPLACE INTO own_bids (offer_id, bid_id, job_id, requester_id, sent_us, price_microcredits, "
        "offer, bid, acknowledgement, refusal) VALUES (?,?,?,?,?,?,?,?,?,?)",
        _own_bid_row,
    ),
    ExecutionRecord: (_UPSERT_EXECUTION, _execution_row),
    WorkRecord: (_UPSERT_WORK, _work_row),
    Reputation: (_SET_REPUTATION, _reputation_row),
    Transaction: (
        f"INSERT INTO transactions ({TRANSACTION_COLUMNS}) VALUES (?,?,?,?,?,?)",
        _transaction_row,
    ),
    PayableRecord: (
        f"INSERT OR REPLACE INTO payables ({PAYABLE_COLUMNS}) VALUES (?,?,?,?,?)",
        _payable_row,
    ),
    ReceivableRecord: (
        f"INSERT OR REPLACE INTO receivables ({RECEIVABLE_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)",
        _receivable_row,
    ),
    ReceiptRecord: (
        f"INSERT OR REPLACE INTO receipts ({RECEIPT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",
        _receipt_row,
    ),
    NoteRecord: (
        "INSERT OR REPLACE INTO settlement_notes (side, peer_id, sequence, note, evidence) "
        "VALUES (?,?,?,?,?)",
        _note_row,
    ),
}
"""Statement and row of each record. A job is inserted before it is changed, hence the order; records of one
kind stay in theirs. What an execution or work never changes is not updated."""
_KEYS: Final[dict[type, Callable[[Any], object]]] = {
    ExecutionRecord: lambda record: record.id,
    WorkRecord: lambda record: record.id,
    JobChanged: lambda record: record.id,
    PayableRecord: lambda record: record.peer_id,
    ReceivableRecord: lambda record: record.peer_id,
    ReceiptRecord: lambda record: (record.side, record.peer_id, record.receipt.sequence),
}
"""What a record replaces the earlier one by. A turn often changes one several times: only the last is written."""
_LABELS: Final = "INSERT INTO job_labels (job_id, key, value) VALUES (?,?,?)"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows for one statement; `updates` where each has to meet a row that is there."""

    statement: str
    rows: list[Row]
    updates: bool = False


def batches(writes: Sequence[Write]) -> list[Batch]:
    """The writes, grouped by statement, in the order in which the statements have to run."""
    grouped: dict[type, dict[object, Write]] = {kind: {} for kind in _WRITES}
    labels: list[Row] = []
    for write in writes:
        records = grouped[type(write)]
        key = _KEYS.get(type(write))
        records[len(records) if key is None else key(write)] = write
        if isinstance(write, JobAccepted):
            labels += [(write.id, name, value) for name, value in write.spec.labels]
    found = []
    for kind, records in grouped.items():
        if records:
            statement, row = _WRITES[kind]
            found.append(Batch(statement, [row(record) for record in records.values()], kind is JobChanged))
    if labels:
        found.append(Batch(_LABELS, labels))
    return found


# --- rows as records; each takes the columns named above ---


def accepted_of(row: Row) -> JobAccepted:
    id, spec, inputs, spec_digest, created_us, request_id, client = row[:7]
    return JobAccepted(
        id, encoding.spec_of(spec), encoding.inputs_of(inputs), spec_digest, created_us, request_id, client
    )


def changed_of(row: Row) -> JobChanged:
    state, updated_us, failure, charged, replicas = row[7:12]
    return JobChanged(row[0], JobState(state), updated_us, encoding.fault_of(failure), charged, replicas)


def happening_of(row: Row) -> JobHappening:
    job_id, sequence, type, time_us, state, message, node_id, execution_id, price, refusal, phase, fault = row
    return JobHappening(
        job_id,
        sequence,
        JobEventType(type),
        time_us,
        JobState(state),
        message,
        node_id,
        execution_id,
        price,
        encoding.refusal_of(refusal),
        None if phase is None else ExecutionPhase(phase),
        encoding.fault_of(fault),
    )


def execution_of(row: Row) -> ExecutionRecord:
    id, job_id, offer_id, bid_id, node_id, state, price, charged, created_us, updated_us = row[:10]
    bid_set_digest, phase, attempt, report, failure, commitment, compared, payment = row[10:18]
    bond, penalty, late, committed_us = row[18:22]
    return ExecutionRecord(
        id,
        job_id,
        offer_id,
        bid_id,
        node_id,
        ExecutionState(state),
        price,
        charged,
        created_us,
        updated_us,
        bid_set_digest,
        None if phase is None else ExecutionPhase(phase),
        attempt,
        encoding.report_of(report),
        encoding.fault_of(failure),
        commitment,
        compared,
        encoding.payment_of(payment),
        bond,
        penalty,
        bool(late),
        committed_us,
    )


def work_of(row: Row) -> WorkRecord:
    _, requester_id, state, attempt, accepted_us, updated_us, award, report, refusal = row[:9]
    commitment, revealed, paid, receipt = row[9:13]
    return WorkRecord(
        encoding.award_of(award),
        requester_id,
        WorkState(state),
        attempt,
        accepted_us,
        updated_us,
        encoding.report_of(report),
        encoding.refusal_of(refusal),
        commitment,
        bool(revealed),
        paid,
        receipt,
    )


def transaction_of(row: Row) -> Transaction:
    kind, time_us, peer_id, execution_id, postings, request_id = row[:6]
    moves = tuple(Posting(account, amount) for account, amount in json.loads(postings))
    return Transaction(TransactionKind(kind), time_us, peer_id, execution_id, moves, request_id)


def payable_of(row: Row) -> PayableRecord:
    return PayableRecord(row[0], Balance(*row[1:5]))


def receivable_of(row: Row) -> ReceivableRecord:
    return ReceivableRecord(row[0], Balance(*row[1:5]), *row[5:9])


def receipt_of(row: Row) -> ReceiptRecord:
    side, receipt, evidence, refusal = row[0], *row[5:8]
    return ReceiptRecord(
        TradeSide(side), encoding.receipt_of(receipt), evidence, encoding.refusal_of(refusal)
    )


def note_of(row: Row) -> NoteRecord:
    side, note, evidence = row
    return NoteRecord(TradeSide(side), encoding.note_of(note), evidence)


def reputation_of(row: Row) -> Reputation:
    node_id, role, updated_us, reputation = row
    return encoding.reputation_of(reputation, node_id, Role(role), updated_us)
