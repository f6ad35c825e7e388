"""Jobs and work to write: whole histories as the machines write them, and strategies for every record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from bacalhau.model.auction import ClearingRule
from bacalhau.model.cid import DAG_PB, RAW, Cid
from bacalhau.model.execution import ExecutionPhase, ExecutionReport, ExecutionState, Usage
from bacalhau.model.job import DockerTask, InputSource, JobEventType, JobSpec, JobState
from bacalhau.model.ledger import Balance, Posting, TradeSide, Transaction, TransactionKind
from bacalhau.model.market import Award, Bid, ClaimedInput, JobOffer
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.scheduler.records import (
    AnswerReceived,
    ExecutionRecord,
    JobAccepted,
    JobChanged,
    JobHappening,
    OfferMade,
    PayableRecord,
    ReceiptRecord,
    ReceivableRecord,
    WorkRecord,
    WorkState,
)
from tests.wire import strategies as wire

if TYPE_CHECKING:
    from bacalhau.scheduler.records import Write

SPEC = JobSpec(
    DockerTask("ubuntu", (), ("echo", "hello")),
    labels=(("team", "ocean"),),
    env=(("KEY", "a secret"),),
    inputs=(InputSource(Cid.of(RAW, b"input"), "/inputs"),),
)
CLAIMED = (ClaimedInput(Cid.of(RAW, b"input"), 5),)
DIGEST = bytes(range(32))
BUSY = Refusal(RefusalReason.BUSY, "asked 500 millicores, 0 free", (("cpu_millicores", 0),))


@dataclass(frozen=True, slots=True)
class History:
    """A job on one node from submission to completion: `steps` are its commits."""

    accepted: JobAccepted
    offer: JobOffer
    bid: Bid
    execution: ExecutionRecord
    work: WorkRecord
    result: Cid
    steps: tuple[tuple[Write, ...], ...]

    @property
    def id(self) -> str:
        return self.accepted.id

    def writes(self, steps: int | None = None) -> list[Write]:
        return [write for step in self.steps[:steps] for write in step]


def accepted(name: str, at_us: int, spec: JobSpec = SPEC) -> JobAccepted:
    return JobAccepted(f"j-{name}", spec, CLAIMED, DIGEST, at_us, "", "client")


def offered(name: str, spec: JobSpec) -> JobOffer:
    return JobOffer(
        f"o-{name}",
        f"j-{name}",
        spec.engine,
        spec.image_or_module,
        CLAIMED,
        spec.resources,
        spec.network,
        spec.timeouts.execution_us,
        (),
        spec.count,
        None,
        ClearingRule.FIRST_PRICE,
        1_000_000,
        3_600_000_000,
        DIGEST,
    )


def history(name: str, at_us: int = 1_000, spec: JobSpec = SPEC, result: bytes | None = None) -> History:
    """Commits: submitted, awarded, running, completed; each at one microsecond after the one before."""
    job = accepted(name, at_us, spec)
    offer = offered(name, spec)
    bid = Bid(f"b-{name}", offer.id, 7, 10_000_000)
    execution = ExecutionRecord(
        f"e-{name}",
        job.id,
        offer.id,
        bid.id,
        "node-1",
        ExecutionState.AWARDED,
        7,
        0,
        at_us + 1,
        at_us + 1,
        DIGEST,
    )
    cid = Cid.of(DAG_PB, name.encode() if result is None else result)
    report = ExecutionReport(execution.id, 1, cid, 0, Usage(1, 2, 3, 4, 5))
    award = Award(
        execution.id, job.id, offer.id, bid.id, 7, ClearingRule.FIRST_PRICE, DIGEST, spec, 30_000_000
    )
    work = WorkRecord(award, "requester", WorkState.ACCEPTED, 1, at_us + 1, at_us + 1)

    def happened(sequence: int, type: JobEventType, state: JobState, message: str = "") -> JobHappening:
        return JobHappening(job.id, sequence, type, at_us + sequence, state, message)

    done = replace(
        execution,
        state=ExecutionState.COMPLETED,
        charged_microcredits=7,
        updated_us=at_us + 3,
        report=report,
    )
    steps: tuple[tuple[Write, ...], ...] = (
        (
            job,
            happened(1, JobEventType.SUBMITTED, JobState.PENDING),
            OfferMade(offer, at_us),
            happened(2, JobEventType.OFFERED, JobState.PENDING, "offered to 2 nodes"),
        ),
        (
            AnswerReceived(offer.id, job.id, "node-2", at_us, None, BUSY, b"declined"),
            AnswerReceived(offer.id, job.id, "node-1", at_us + 1, bid, None, b"bid"),
            execution,
            JobChanged(job.id, JobState.RUNNING, at_us + 1, None, 0),
            happened(3, JobEventType.AWARDED, JobState.RUNNING),
            work,
        ),
        (
            replace(
                execution,
                state=ExecutionState.RUNNING,
                phase=ExecutionPhase.RUNNING,
                updated_us=at_us + 2,
            ),
            happened(4, JobEventType.AWARD_CONFIRMED, JobState.RUNNING),
        ),
        (
            replace(work, state=WorkState.SETTLED, updated_us=at_us + 3, report=report),
            done,
            JobChanged(job.id, JobState.COMPLETED, at_us + 3, None, 7),
            happened(5, JobEventType.COMPLETED, JobState.COMPLETED),
        ),
    )
    return History(job, offer, bid, done, work, cid, steps)


# --- strategies ---

times_us = st.integers(0, 2**62)
_job_states = st.sampled_from(JobState)
_evidence = st.binary(max_size=40)

jobs_accepted = st.builds(
    JobAccepted,
    id=wire.ids,
    spec=wire.specs(),
    inputs=st.lists(st.builds(ClaimedInput, wire.cids, wire.byte_counts), max_size=3).map(tuple),
    spec_digest=wire.digests,
    created_us=times_us,
    request_id=wire.names,
    client=wire.names,
)
jobs_changed = st.builds(
    JobChanged, wire.ids, _job_states, times_us, st.none() | wire.faults, wire.prices, st.integers(0, 100)
)
happenings = st.builds(
    JobHappening,
    wire.ids,
    st.integers(1, 2**62),
    st.sampled_from(JobEventType),
    times_us,
    _job_states,
    wire.messages,
    wire.names,
    wire.names,
    st.none() | wire.prices,
    st.none() | wire.refusals,
    st.none() | st.sampled_from(ExecutionPhase),
    st.none() | wire.faults,
)
executions = st.builds(
    ExecutionRecord,
    id=wire.ids,
    job_id=wire.ids,
    offer_id=wire.ids,
    bid_id=wire.ids,
    node_id=wire.node_ids,
    state=st.sampled_from(ExecutionState),
    price_microcredits=wire.prices,
    charged_microcredits=wire.prices,
    created_us=times_us,
    updated_us=times_us,
    bid_set_digest=wire.digests,
    phase=st.none() | st.sampled_from(ExecutionPhase),
    attempt=wire.attempts,
    report=st.none() | wire.reports,
    failure=st.none() | wire.faults,
    commitment=st.just(b"") | wire.digests,
    compared=st.just(b"") | wire.digests,
    payment=wire.payments,
    bond_microcredits=wire.prices,
    penalty_microcredits=wire.prices,
    late=st.booleans(),
    committed_us=st.integers(0, 2**60),
)
bids_received = st.builds(
    lambda job_id, node_id, at_us, bid, evidence: AnswerReceived(
        bid.offer_id, job_id, node_id, at_us, bid, None, evidence
    ),
    wire.ids,
    wire.node_ids,
    times_us,
    wire.bids,
    _evidence,
)
declines_received = st.builds(
    lambda job_id, node_id, at_us, decline, evidence: AnswerReceived(
        decline.offer_id, job_id, node_id, at_us, None, decline.refusal, evidence
    ),
    wire.ids,
    wire.node_ids,
    times_us,
    wire.declines,
    _evidence,
)
works = st.builds(
    WorkRecord,
    wire.awards,
    wire.node_ids,
    st.sampled_from(WorkState),
    wire.attempts,
    times_us,
    times_us,
    st.none() | wire.reports,
    st.none() | wire.refusals,
    st.just(b"") | wire.digests,
    st.booleans(),
    wire.prices,
    wire.sequences,
)
_balances = st.builds(Balance, wire.sequences, wire.balances, wire.sequences, wire.balances)
payables = st.builds(PayableRecord, wire.node_ids, _balances)
receivables = st.builds(
    ReceivableRecord,
    wire.node_ids,
    _balances,
    wire.prices,
    st.none() | wire.prices,
    wire.sequences,
    wire.prices,
)
receipts = st.builds(
    ReceiptRecord, st.sampled_from(TradeSide), wire.receipts, st.none() | _evidence, st.none() | wire.refusals
)
transactions = st.builds(
    Transaction,
    st.sampled_from(TransactionKind),
    times_us,
    wire.node_ids,
    wire.ids,
    st.lists(st.builds(Posting, wire.names, wire.balances), max_size=3).map(tuple),
)
