"""`serve --trace`: every event is a line of JSON; a trace that cannot be written stops nothing."""

from __future__ import annotations

import json
import stat
import typing
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bacalhau.model.cid import Cid
from bacalhau.node.trace import Trace
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.effects import Effects
from bacalhau.scheduler.plain import from_plain, to_plain
from bacalhau.v1 import job_pb2, job_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from tests.builders import RESULT, a_bid, a_receipt, a_report, a_spec, an_award, an_offer
from tests.node.live import all_of, client_of, running, wasm_job
from tests.parts import missing_part

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = sorted(
    {*typing.get_args(ev.RequesterEvent), *typing.get_args(ev.ComputeEvent)}, key=lambda type: type.__name__
)


def samples() -> dict[str, Any]:
    """A value for each name that a field of an event has."""
    from bacalhau.market.bidding import Answers
    from bacalhau.model.execution import ExecutionPhase
    from bacalhau.model.job import Engine
    from bacalhau.model.ledger import SettlementNote
    from bacalhau.model.market import ClaimedInput, Decline, LeaseRenewal
    from bacalhau.model.refusals import Refusal, RefusalReason
    from bacalhau.model.verification import Compared, ResultCommitment
    from bacalhau.scheduler.records import WorkRecord, WorkState

    refusal = Refusal(RefusalReason.BUSY, "busy", (("free", 1),))
    return {
        "answers": Answers(1, 2, "no"),
        "award": an_award(),
        "acknowledgement": b"\xfeack",
        "bid": a_bid(),
        "bid_envelope": b"\xfebid",
        "commitment": ResultCommitment("e-1", 1, b"\xff"),
        "compared": Compared(b"\xff", -1),
        "decline": Decline("o-1", refusal),
        "digest": b"\x00\xff",
        "ended": WorkRecord(an_award(), "r1", WorkState.SETTLED, 1, 2, 3, a_report(), refusal),
        "engines": (Engine.WASM, Engine.DOCKER),
        "evidence": b"\xffraw",
        "full": True,
        "limit_microcredits": 7,
        "note": SettlementNote("n1", "r1", 1, 5, 6),
        "receipt": a_receipt(),
        "receipts": ((a_receipt(), b"\xff"),),
        "signed": ((1, b"\xff"),),
        "inputs": (ClaimedInput(RESULT, 7),),
        "offer": an_offer(),
        "offer_envelope": b"\xfeoffer",
        "phase": ExecutionPhase.RUNNING,
        "refusal": refusal,
        "renewal": LeaseRenewal("e-1", ExecutionPhase.RUNNING, 1),
        "report": a_report(),
        "spec": a_spec(),
        "spec_digest": b"\x01",
    }


def sample_of(event: type) -> Any:
    known = samples()
    values = {}
    for field in fields(event):
        plain = {"str": "naïve \ud800", "int": 2**53 + 1, "bool": True}.get(str(field.type))
        values[field.name] = known.get(field.name, plain)
        assert values[field.name] is not None, f"no sample for {event.__name__}.{field.name}: {field.type}"
    return event(**values)


def leaves(value: Any) -> Iterator[object]:
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_every_event_becomes_one_line_with_all_of_its_fields(event: type, tmp_path: Path) -> None:
    value = sample_of(event)
    trace = Trace(tmp_path / "trace", "n1")
    trace.event(value, 5, Effects())
    trace.close()
    _, line = (tmp_path / "trace").read_text("utf-8").splitlines()
    read = json.loads(line)
    assert read["now"] == 5
    assert read["event"]["@"] == event.__name__
    assert set(read["event"]) == {"@", *(field.name for field in fields(event))}
    assert from_plain(read["event"]) == value
    assert all(leaf is None or isinstance(leaf, (str, int)) for leaf in leaves(read))


def test_what_has_no_form_in_a_trace_is_a_bug_and_not_a_guess() -> None:
    for value in (1.5, {"a"}, object()):
        with pytest.raises(TypeError):
            to_plain(value)


def test_values_keep_what_they_are() -> None:
    class Colour(Enum):
        RED = 1

    assert to_plain((Colour.RED, b"\x01", Cid.parse(str(RESULT)), None, True)) == [
        {"enum": ["Colour", "RED"]},
        {"hex": "01"},
        {"cid": str(RESULT)},
        None,
        True,
    ]
    assert is_dataclass(RESULT)


def test_a_trace_that_cannot_be_written_ends_and_the_node_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    full = Path("/dev/full")
    if not full.exists():
        missing_part("/dev/full", "it comes with Linux")
    trace = Trace(full, "n1")
    for now in range(3):
        trace.event(ev.PeerHeard("n1"), now, Effects())
    trace.close()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_every_event_of_a_job_is_in_the_file_which_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    async with running(tmp_path / "node", trace=path) as node, client_of(node) as channel:
        jobs = JobServiceStub(channel)
        job_id = (await jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=wasm_job(node)))).job.id
        answers = await all_of(jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id)))
        assert answers[-1].job.state == job_pb2.JOB_STATE_COMPLETED
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    names = [line["event"]["@"] for line in lines if "event" in line]
    order = [
        "JobSubmitted",
        "OfferReceived",
        "BidReceived",
        "AwardReceived",
        "AwardConfirmed",
        "ExecutionEnded",
        "ReportReceived",
        "ResultFetched",
    ]
    assert [name for name in names if name in order] == order
    drawn = {id for line in lines for id in line.get("ids", ())}
    execution_id = answers[-1].job.executions[0].id
    assert execution_id in drawn
    times = [line["now"] for line in lines if "now" in line]
    assert times == sorted(times)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
