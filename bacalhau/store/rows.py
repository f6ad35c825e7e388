"""Records as rows, and rows as records: the only place that knows which column holds what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bacalhau.model.execution import ExecutionPhase, ExecutionState
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.reputation import Reputation, Role
from bacalhau.scheduler.records import (
    AnswerReceived,
    AuctionCleared,
    BidKept,
    ExecutionRecord,
    JobAccepted,
    JobChanged,
    JobHappening,
    OfferMade,
    WorkRecord,
    WorkState,
)
from bacalhau.store import encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bacalhau.scheduler.records import Write

Row = tuple[Any, ...]

JOB_COLUMNS: Final = (
    "id, spec, inputs, spec_digest, created_us, request_id, client, state, updated_us, failure, "
    "charged_microcredits"
)
HAPPENING_COLUMNS: Final = (
    "job_id, sequence, type, time_us, state, message, node_id, execution_id, price_microcredits, refusal, "
    "phase, fault"
)
EXECUTION_COLUMNS: Final = (
    "id, job_id, offer_id, bid_id, node_id, state, price_microcredits, charged_microcredits, "
    "created_us, updated_us, bid_set_digest, phase, attempt, report, failure, commitment, compared, result"
)
WORK_COLUMNS: Final = (
    "id, requester_id, state, attempt, accepted_us, updated_us, award, report, refusal, commitment, "
    "revealed, result"
)


def _accepted_row(record: JobAccepted) -> Row:
    return (
        record.id,
        encoding.spec_bytes(record.spec),
        encoding.inputs_bytes(record.inputs),
        record.spec_digest,
        record.created_us,
        record.request_id,
        record.client,
        JobState.PENDING.value,
        record.created_us,
        None,
        0,
    )


def _changed_row(record: JobChanged) -> Row:
    failure = encoding.fault_bytes(record.failure)
    return record.state.value, record.updated_us, failure, record.charged_microcredits, record.id


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
        encoding.result_bytes(record.report),
    )


def _reputation_row(record: Reputation) -> Row:
    return record.node_id, record.role.value, record.updated_us, encoding.reputation_bytes(record)


_UPSERT_EXECUTION: Final = (
    f"INSERT INTO executions ({EXECUTION_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) "
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, "
    "charged_microcredits = excluded.charged_microcredits, updated_us = excluded.updated_us, "
    "phase = excluded.phase, attempt = excluded.attempt, "
    "report = excluded.report, result = excluded.result, failure = excluded.failure, "
    "commitment = excluded.commitment, compared = excluded.compared"
)
_UPSERT_WORK: Final = (
    f"INSERT INTO work ({WORK_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?) "
    "ON CONFLICT (id) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, "
    "updated_us = excluded.updated_us, report = excluded.report, refusal = excluded.refusal, "
    "commitment = excluded.commitment, revealed = excluded.revealed, result = excluded.result"
)
_SET_REPUTATION: Final = (
    "INSERT OR REPLACE INTO reputations (node_id, role, updated_us, reputation) VALUES (?,?,?,?)"
)

_WRITES: Final[dict[type, tuple[str, Callable[[Any], Row]]]] = {
    JobAccepted: (f"INSERT INTO jobs ({JOB_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)", _accepted_row),
    JobChanged: (
        "UPDATE jobs SET state = ?, updated_us = ?, failure = ?, charged_microcredits = ? WHERE id = ?",
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
}
"""Statement and row of each record. A job is inserted before it is changed, hence the order; records of one
kind stay in theirs, so that the last one of a key wins. What an execution or work never changes is not
updated."""
_LABELS: Final = "INSERT INTO job_labels (job_id, key, value) VALUES (?,?,?)"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows for one statement; `updates` where each has to meet a row that is there."""

    statement: str
    rows: list[Row]
    updates: bool = False


def batches(writes: Sequence[Write]) -> list[Batch]:
    """The writes, grouped by statement, in the order in which the statements have to run."""
    grouped: dict[type, list[Row]] = {kind: [] for kind in _WRITES}
    labels: list[Row] = []
    for write in writes:
        kind = type(write)
        grouped[kind].append(_WRITES[kind][1](write))
        if isinstance(write, JobAccepted):
            labels += [(write.id, key, value) for key, value in write.spec.labels]
    found = [Batch(_WRITES[kind][0], rows, kind is JobChanged) for kind, rows in grouped.items() if rows]
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
    state, updated_us, failure, charged_microcredits = row[7:11]
    return JobChanged(row[0], JobState(state), updated_us, encoding.fault_of(failure), charged_microcredits)


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
    bid_set_digest, phase, attempt, report, failure, commitment, compared = row[10:17]
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
    )


def work_of(row: Row) -> WorkRecord:
    _, requester_id, state, attempt, accepted_us, updated_us, award, report, refusal = row[:9]
    commitment, revealed = row[9:11]
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
    )


def reputation_of(row: Row) -> Reputation:
    node_id, role, updated_us, reputation = row
    return encoding.reputation_of(reputation, node_id, Role(role), updated_us)
