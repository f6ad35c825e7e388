"""JobService of a real node: submission, reading, watching, output and cancelling, by stubs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest

from bacalhau.model.cid import DAG_PB, Cid
from bacalhau.model.job import Timeouts
from bacalhau.model.refusals import RefusalReason
from bacalhau.model.resources import Resources
from bacalhau.model.units import GIB, SECOND_US
from bacalhau.rpc.job_service import TAIL_LINES_MAX
from bacalhau.scheduler.events import ProgressMade
from bacalhau.v1 import job_pb2, job_service_pb2_grpc
from bacalhau.v1 import job_service_pb2 as pb
from bacalhau.v1.execution_pb2 import EXECUTION_PHASE_RUNNING, EXECUTION_STATE_COMPLETED
from tests.node.live import HELLO, SLEEPER, all_of, program, refusal_from, wasm_job
from tests.node.live import until as until_so

if TYPE_CHECKING:
    from bacalhau.node.node import Node

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMPLETED, CANCELLED = job_pb2.JOB_STATE_COMPLETED, job_pb2.JOB_STATE_CANCELLED


@pytest.fixture(scope="module")
def grpc_stub_cls() -> type:
    stub: type = job_service_pb2_grpc.JobServiceStub
    return stub


@pytest.fixture
def jobs(grpc_stub: Any) -> Any:
    return grpc_stub


async def submit(
    jobs: Any, node: Node, module: bytes = HELLO, *, request_id: str = "", **changes: Any
) -> str:
    request = pb.SubmitJobRequest(spec=wasm_job(node, module, **changes), request_id=request_id)
    return str((await jobs.SubmitJob(request)).job.id)


async def watch(jobs: Any, job_id: str, **rest: Any) -> list[job_pb2.JobEvent]:
    """The events that a journal keeps."""
    answers = await all_of(jobs.WatchJob(pb.WatchJobRequest(job_id=job_id, **rest), timeout=30))
    assert all(answer.events for answer in answers)
    return [event for answer in answers for event in answer.events if event.sequence]


async def ended(jobs: Any, job_id: str) -> job_pb2.Job:
    answers = await all_of(jobs.WatchJob(pb.WatchJobRequest(job_id=job_id), timeout=30))
    assert [answer.HasField("job") for answer in answers] == [False] * (len(answers) - 1) + [True]
    job: job_pb2.Job = answers[-1].job
    return job


async def until(jobs: Any, job_id: str, **fields: int) -> None:
    stream = jobs.WatchJob(pb.WatchJobRequest(job_id=job_id), timeout=30)
    async for answer in stream:
        for event in answer.events:
            if all(getattr(event, name) == value for name, value in fields.items()):
                stream.cancel()
                return
    raise AssertionError(f"it ended without {fields}")


async def until_running(jobs: Any, job_id: str) -> None:
    await until(jobs, job_id, phase=EXECUTION_PHASE_RUNNING)


async def cancel(jobs: Any, job_id: str) -> job_pb2.Job:
    job: job_pb2.Job = (await jobs.CancelJob(pb.CancelJobRequest(job_id=job_id, message="enough"))).job
    return job


async def logs(jobs: Any, job_id: str, **rest: Any) -> bytes:
    pieces = await all_of(jobs.StreamLogs(pb.StreamLogsRequest(job_id=job_id, **rest), timeout=30))
    return b"".join(piece.data for piece in pieces)


# --- submission ---


async def test_a_job_runs_to_its_result(jobs: Any, grpc_server: Node) -> None:
    accepted = (await jobs.SubmitJob(pb.SubmitJobRequest(spec=wasm_job(grpc_server)))).job
    assert accepted.state == job_pb2.JOB_STATE_PENDING
    assert accepted.requester_id == grpc_server.node_id
    job = await ended(jobs, accepted.id)
    assert job.state == COMPLETED, job
    [execution] = job.executions
    assert execution.state == EXECUTION_STATE_COMPLETED
    assert execution.node_id == grpc_server.node_id
    # It ran for a small part of its minute: the floor of a tenth is due, rounded up.
    assert job.charged_microcredits == -(-execution.price_microcredits // 10) > 0
    assert await logs(jobs, job.id) == b"Hello World\n"
    again = (await jobs.GetJob(pb.GetJobRequest(job_id=accepted.id))).job
    assert again.create_time == accepted.create_time
    assert again == job


async def test_a_repeated_request_id_gives_the_first_job(jobs: Any, grpc_server: Node) -> None:
    first = await submit(jobs, grpc_server, request_id="once")
    assert await submit(jobs, grpc_server, request_id="once") == first
    await ended(jobs, first)
    assert await submit(jobs, grpc_server, request_id="once") == first


async def test_submissions_at_once_with_one_request_id_make_one_job(jobs: Any, grpc_server: Node) -> None:
    ids = await asyncio.gather(*(submit(jobs, grpc_server, request_id="crowd") for _ in range(20)))
    assert len(set(ids)) == 1
    await ended(jobs, ids[0])


async def test_a_request_id_with_another_job_is_refused(jobs: Any, grpc_server: Node) -> None:
    results = await asyncio.gather(
        submit(jobs, grpc_server, request_id="taken"),
        refusal_from(submit(jobs, grpc_server, program("other\n"), request_id="taken")),
    )
    assert results[1].reason is RefusalReason.ID_REUSED
    refusal = await refusal_from(submit(jobs, grpc_server, program("third\n"), request_id="taken"))
    assert refusal.reason is RefusalReason.ID_REUSED
    await ended(jobs, results[0])


async def test_a_client_that_goes_away_while_it_submits_finds_its_job_by_the_request_id(
    jobs: Any, grpc_server: Node
) -> None:
    request = pb.SubmitJobRequest(spec=wasm_job(grpc_server), request_id="impatient")
    call = jobs.SubmitJob(request)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    job_id = await submit(jobs, grpc_server, request_id="impatient")
    assert (await ended(jobs, job_id)).state == COMPLETED


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("task", lambda spec: spec.ClearField("wasm")),
        ("count", lambda spec: setattr(spec, "count", -1)),
        ("module_cid", lambda spec: setattr(spec.wasm, "module_cid", "no-cid")),
        (
            "inputs[0].target",
            lambda spec: setattr(spec.inputs.add(cid=spec.wasm.module_cid), "target", "../up"),
        ),
    ],
)
async def test_a_bad_spec_is_refused_by_the_name_of_its_field(
    jobs: Any, grpc_server: Node, field: str, change: Any
) -> None:
    spec = wasm_job(grpc_server)
    change(spec)
    refusal = await refusal_from(jobs.SubmitJob(pb.SubmitJobRequest(spec=spec)))
    assert refusal.reason in (RefusalReason.MALFORMED, RefusalReason.UNSAFE_PATH), refusal
    assert field in refusal.message, refusal


async def test_a_request_id_that_is_too_long_is_refused(jobs: Any, grpc_server: Node) -> None:
    refusal = await refusal_from(submit(jobs, grpc_server, request_id="x" * 129))
    assert refusal.reason is RefusalReason.MALFORMED


async def test_an_input_that_nobody_has_is_refused_within_seconds_and_no_job_is_left(
    jobs: Any, grpc_server: Node
) -> None:
    absent = Cid.of(DAG_PB, b"nobody has this")
    call = submit(jobs, grpc_server, inputs=(absent,), name="lost-input")
    refusal = await asyncio.wait_for(refusal_from(call), 10)
    assert refusal.reason is RefusalReason.CONTENT_UNAVAILABLE
    assert f"no peer has CID {absent}" in refusal.message
    listed = (await jobs.ListJobs(pb.ListJobsRequest(page_size=1000))).jobs
    assert all(job.spec.name != "lost-input" for job in listed)


async def test_a_message_above_the_limit_is_refused_and_the_node_serves_on(
    jobs: Any, grpc_server: Node
) -> None:
    async with grpc.aio.insecure_channel(grpc_server.api_address) as channel:
        large: Any = channel.unary_unary("/bacalhau.v1.JobService/GetJob")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await large(bytes(17 * 1024 * 1024))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await jobs.ListJobs(pb.ListJobsRequest())


async def test_a_job_that_no_node_could_take_says_why_with_figures(jobs: Any, grpc_server: Node) -> None:
    huge = Resources(cpu_millicores=9000, memory_bytes=GIB, disk_bytes=GIB)
    job = await ended(jobs, await submit(jobs, grpc_server, resources=huge))
    assert job.state == job_pb2.JOB_STATE_FAILED
    answers = (await jobs.ListBids(pb.ListBidsRequest(job_id=job.id))).answers
    assert [answer.refusal.reason for answer in answers] == [RefusalReason.INFEASIBLE.value]
    assert ("asked_cpu_millicores", 9000) in [(f.name, f.value) for f in answers[0].refusal.figures]
    assert answers[0].refusal.message in job.failure.message


# --- watching ---


async def test_a_watcher_sees_how_far_a_long_phase_is_also_where_the_node_runs_the_job_itself(
    jobs: Any, grpc_server: Node
) -> None:
    job_id = await submit(jobs, grpc_server, SLEEPER)
    progress: list[job_pb2.JobEvent] = []
    async for response in jobs.WatchJob(pb.WatchJobRequest(job_id=job_id)):
        for event in response.events:
            if event.type == job_pb2.JOB_EVENT_TYPE_AWARD_CONFIRMED:
                told = ProgressMade(event.execution_id, done_bytes=3, total_bytes=8)
                grpc_server.driver.tell_compute(told)
            if event.type == job_pb2.JOB_EVENT_TYPE_PROGRESS:
                progress.append(event)
        if progress:
            break
    assert [(event.done_bytes, event.total_bytes) for event in progress] == [(3, 8)]
    assert progress[0].sequence == 0
    await cancel(jobs, job_id)


async def test_watching_gives_the_history_then_what_happens_and_closes_with_the_job(
    jobs: Any, grpc_server: Node
) -> None:
    job_id = await submit(jobs, grpc_server)
    kept = await watch(jobs, job_id)
    assert [event.sequence for event in kept] == list(range(1, len(kept) + 1))
    assert kept[0].type == job_pb2.JOB_EVENT_TYPE_SUBMITTED
    assert kept[-1].type == job_pb2.JOB_EVENT_TYPE_COMPLETED
    assert (await ended(jobs, job_id)).state == COMPLETED
    assert await watch(jobs, job_id) == kept
    assert await watch(jobs, job_id, history_only=True) == kept
    assert await watch(jobs, job_id, after_sequence=3) == kept[3:]
    assert await watch(jobs, job_id, after_sequence=10_000) == []


async def test_history_only_does_not_wait_for_a_running_job(jobs: Any, grpc_server: Node) -> None:
    job_id = await submit(jobs, grpc_server, SLEEPER)
    await until_running(jobs, job_id)
    history = await asyncio.wait_for(watch(jobs, job_id, history_only=True), 5)
    assert history[-1].phase == EXECUTION_PHASE_RUNNING
    await cancel(jobs, job_id)


async def test_a_watcher_that_resumes_misses_nothing_and_gets_nothing_twice(
    jobs: Any, grpc_server: Node
) -> None:
    job_id = await submit(jobs, grpc_server, program(sleep_s=0.3))
    sequences: list[int] = []
    closed = False
    while not closed:
        request = pb.WatchJobRequest(job_id=job_id, after_sequence=sequences[-1] if sequences else 0)
        stream = jobs.WatchJob(request, timeout=30)
        async for answer in stream:
            sequences += [event.sequence for event in answer.events if event.sequence]
            closed = answer.HasField("job")
            stream.cancel()
            break
    assert sequences == list(range(1, len(sequences) + 1))


async def test_two_watchers_see_the_same(jobs: Any, grpc_server: Node) -> None:
    job_id = await submit(jobs, grpc_server)
    first, second = await asyncio.gather(watch(jobs, job_id), watch(jobs, job_id))
    assert first == second


async def no_watchers(node: Node) -> None:
    """The streams of clients that have gone are ended by the server a moment later."""
    await until_so(lambda: not node.jobs._happenings._count, "nobody watches")


async def test_watchers_that_go_away_or_run_out_of_time_leave_nothing_behind(
    jobs: Any, grpc_server: Node
) -> None:
    job_id = await submit(jobs, grpc_server, SLEEPER)
    await until_running(jobs, job_id)
    streams = [jobs.WatchJob(pb.WatchJobRequest(job_id=job_id)) for _ in range(3)]
    streams += [jobs.StreamLogs(pb.StreamLogsRequest(job_id=job_id, follow=True)) for _ in range(3)]
    for stream in streams:
        await stream.read()
    assert grpc_server.jobs._happenings._count >= 6
    for stream in streams:
        stream.cancel()
    late = jobs.WatchJob(pb.WatchJobRequest(job_id=job_id), timeout=0.3)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await all_of(late)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await no_watchers(grpc_server)
    await cancel(jobs, job_id)


# --- lists and ids ---


async def test_lists_are_paged_filtered_and_ordered(jobs: Any, grpc_server: Node) -> None:
    ids = [await submit(jobs, grpc_server, labels=(("batch", "a"), (f"n{n}", ""))) for n in range(5)]
    for job_id in ids:
        await ended(jobs, job_id)

    async def listed(**rest: Any) -> tuple[list[str], str]:
        answer = await jobs.ListJobs(pb.ListJobsRequest(include_labels=["batch"], **rest))
        return [job.id for job in answer.jobs], answer.next_page_token

    assert (await listed())[0] == ids[::-1]
    assert (await listed(ascending=True))[0] == ids
    assert (await listed(order=pb.JOB_ORDER_ID, ascending=True))[0] == sorted(ids)
    assert (await listed(states=[COMPLETED]))[0] == ids[::-1]
    assert (await listed(states=[CANCELLED]))[0] == []
    assert (await listed(exclude_labels=["n0", "n1"]))[0] == ids[:1:-1]
    assert (await listed(id_filter=ids[2][:12]))[0] == [ids[2]]
    first, token = await listed(page_size=3)
    second, end = await listed(page_size=3, page_token=token)
    assert first + second == ids[::-1]
    assert end == ""
    for bad in ({"page_token": "?"}, {"page_size": -1}, {"states": [99]}, {"order": 9}):
        assert (await refusal_from(listed(**bad))).reason is RefusalReason.MALFORMED


async def test_short_ids_are_enough_where_they_are_clear(jobs: Any, grpc_server: Node) -> None:
    job_id = await submit(jobs, grpc_server)
    await submit(jobs, grpc_server)
    for short in (job_id, job_id[:12], job_id[2:12]):
        assert (await jobs.GetJob(pb.GetJobRequest(job_id=short))).job.id == job_id
    for short, reason in (
        ("j-", RefusalReason.AMBIGUOUS_ID),
        ("", RefusalReason.MALFORMED),
        ("j-zzzz", RefusalReason.NOT_FOUND),
    ):
        calls = (
            jobs.GetJob(pb.GetJobRequest(job_id=short)),
            jobs.CancelJob(pb.CancelJobRequest(job_id=short)),
            jobs.ListBids(pb.ListBidsRequest(job_id=short)),
            jobs.ListExecutions(pb.ListExecutionsRequest(job_id=short)),
            watch(jobs, short),
            logs(jobs, short),
        )
        for call in calls:
            assert (await refusal_from(call)).reason is reason


async def test_executions_and_bids_of_a_job_are_listed(jobs: Any, grpc_server: Node) -> None:
    job = await ended(jobs, await submit(jobs, grpc_server))
    executions = (await jobs.ListExecutions(pb.ListExecutionsRequest(job_id=job.id, page_size=1))).executions
    assert list(executions) == list(job.executions)
    [answer] = (await jobs.ListBids(pb.ListBidsRequest(job_id=job.id))).answers
    assert answer.won
    [execution] = job.executions
    assert (answer.node_id, answer.price_microcredits) == (grpc_server.node_id, execution.price_microcredits)
    refusal = await refusal_from(jobs.ListBids(pb.ListBidsRequest(job_id=job.id, page_token="x")))
    assert refusal.reason is RefusalReason.MALFORMED


# --- cancelling ---


async def test_a_running_job_is_cancelled_and_its_capacity_comes_back(jobs: Any, grpc_server: Node) -> None:
    job_id = await submit(jobs, grpc_server, SLEEPER)
    await until_running(jobs, job_id)
    watching = asyncio.ensure_future(ended(jobs, job_id))
    assert (await cancel(jobs, job_id)).state == CANCELLED
    assert (await watching).state == CANCELLED
    assert (await cancel(jobs, job_id)).state == CANCELLED
    await until_so(lambda: not grpc_server.driver.compute.running_executions, "nothing runs")
    assert grpc_server.views.self_view().free == grpc_server.capacity


async def test_a_job_is_cancelled_twice_at_once(jobs: Any, grpc_server: Node) -> None:
    job_id = await submit(jobs, grpc_server, SLEEPER)
    assert {job.state for job in await asyncio.gather(*(cancel(jobs, job_id) for _ in range(5)))} == {
        CANCELLED
    }


async def test_a_queued_job_is_cancelled(jobs: Any, grpc_server: Node) -> None:
    all_of_it = Resources(cpu_millicores=4000, memory_bytes=GIB, disk_bytes=GIB)
    holder = await submit(jobs, grpc_server, SLEEPER, resources=all_of_it)
    await until_running(jobs, holder)
    waiting = await submit(
        jobs, grpc_server, resources=all_of_it, timeouts=Timeouts(60 * SECOND_US, queue_us=60 * SECOND_US)
    )
    await until(jobs, waiting, type=job_pb2.JOB_EVENT_TYPE_QUEUED)
    assert (await cancel(jobs, waiting)).state == CANCELLED
    await cancel(jobs, holder)


async def test_a_job_that_has_completed_cannot_be_cancelled(jobs: Any, grpc_server: Node) -> None:
    job_id = await submit(jobs, grpc_server)
    await ended(jobs, job_id)
    refusal = await refusal_from(cancel(jobs, job_id))
    assert refusal.reason is RefusalReason.WRONG_STATE
    assert "completed" in refusal.message


# --- output ---


async def test_output_comes_while_the_program_still_sleeps(jobs: Any, grpc_server: Node) -> None:
    job_id = await submit(jobs, grpc_server, SLEEPER)
    stream = jobs.StreamLogs(pb.StreamLogsRequest(job_id=job_id, follow=True), timeout=30)
    assert (await stream.read()).data == b"before\n"
    assert await logs(jobs, job_id) == b"before\n"
    tail = jobs.StreamLogs(pb.StreamLogsRequest(job_id=job_id, follow=True, tail=1), timeout=30)
    assert (await tail.read()).data == b"before\n"
    await cancel(jobs, job_id)
    assert await stream.read() is grpc.aio.EOF
    assert await tail.read() is grpc.aio.EOF


async def test_following_goes_on_from_the_program_to_its_result_without_a_gap(
    jobs: Any, grpc_server: Node
) -> None:
    job_id = await submit(jobs, grpc_server, program("one\ntwo\n", sleep_s=0.3, then="three\n"))
    followed, last = await asyncio.gather(
        logs(jobs, job_id, follow=True), logs(jobs, job_id, follow=True, tail=1)
    )
    assert followed == b"one\ntwo\nthree\n"
    assert last.endswith(b"three\n")
    assert last in followed
    assert await logs(jobs, job_id) == followed
    assert await logs(jobs, job_id, tail=2) == b"two\nthree\n"


async def test_the_output_of_one_execution_is_asked_for_by_its_id(jobs: Any, grpc_server: Node) -> None:
    job = await ended(jobs, await submit(jobs, grpc_server))
    execution_id = job.executions[0].id
    assert await logs(jobs, job.id, execution_id=execution_id[:12]) == b"Hello World\n"
    assert await logs(jobs, job.id, execution_id=execution_id[2:12]) == b"Hello World\n"
    assert (await refusal_from(logs(jobs, job.id, execution_id="e-zz"))).reason is RefusalReason.NOT_FOUND


@pytest.mark.parametrize("tail", [-1, TAIL_LINES_MAX + 1])
async def test_a_tail_out_of_range_is_refused(jobs: Any, grpc_server: Node, tail: int) -> None:
    job_id = await submit(jobs, grpc_server)
    assert (await refusal_from(logs(jobs, job_id, tail=tail))).reason is RefusalReason.MALFORMED
