"""Small results that come along with their report: taken only when they are all of it and true, and only from whom the
requester waits for; else the result is fetched as before."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bacalhau.ipfs import reader
from bacalhau.ipfs.blockstore import MemoryBlockStore
from bacalhau.ipfs.dag import find_missing, iter_dag
from bacalhau.ipfs.importer import import_files
from bacalhau.ipfs.packstore import PackBlockStore
from bacalhau.model.cid import DAG_PB, RAW, Cid
from bacalhau.model.execution import ExecutionState, FaultKind
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.refusals import RefusalReason
from bacalhau.node import recent as recent_module
from bacalhau.node import results
from bacalhau.node import small_results as small_results_module
from bacalhau.rpc import limits
from bacalhau.store.store import Store
from bacalhau.v1 import block_service_pb2, job_service_pb2, requester_service_pb2
from bacalhau.v1.job_service_pb2_grpc import JobServiceStub
from bacalhau.v1.requester_service_pb2_grpc import RequesterServiceStub
from bacalhau.wire.envelope import seal_message
from bacalhau.wire.identity import NodeKey
from tests.builders import a_report
from tests.node.live import (
    SLEEPER,
    Stranger,
    client_of,
    peer_channel,
    program,
    refusal_from,
    running,
    until,
    wasm_job,
)
from tests.wire import strategies as wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from pathlib import Path

    import pytest

    from bacalhau.model.execution import ExecutionReport
    from bacalhau.node.node import Node
    from bacalhau.scheduler.history import StoredJob
    from bacalhau.scheduler.records import ExecutionRecord

Blocks = list[tuple[Cid, bytes]]
SMALL_RESULT_BYTES = small_results_module.SMALL_RESULT_BYTES
EXTRA = (Cid.of(RAW, b"something else"), b"something else")


class Pair:
    """A requester that runs nothing, and a node that runs its jobs."""

    def __init__(self, requester: Node, worker: Node) -> None:
        self.requester = requester
        self.worker = worker
        self.asked = 0
        """How often the worker's BlockService was asked for blocks."""
        self.sent: list[Blocks] = []
        """The blocks that went along with each report."""
        self.change: Callable[[Blocks], Blocks] = list
        self.serves = True
        self._blocks = worker.serving.blocks
        self._small_blocks = worker.contents.small_results.blocks_of
        # Both are the real ones, watched; a worker that lies is one that changes what they say.
        worker.serving.blocks = self._serve  # type: ignore[method-assign]
        worker.contents.small_results.blocks_of = self._sent_along  # type: ignore[method-assign]

    async def _serve(
        self, cids: Sequence[Cid], *, recursive: bool
    ) -> AsyncGenerator[list[tuple[Cid, bytes]], None]:
        self.asked += 1
        if self.serves:
            async for batch in self._blocks(cids, recursive=recursive):
                yield batch

    def _sent_along(self, root: Cid) -> Blocks:
        sent = self.change(self._small_blocks(root))
        self.sent.append(sent)
        return sent

    async def submit(self, module: bytes) -> str:
        async with client_of(self.requester) as channel:
            request = job_service_pb2.SubmitJobRequest(spec=wasm_job(self.requester, module))
            return str((await JobServiceStub(channel).SubmitJob(request)).job.id)

    def job(self, job_id: str) -> StoredJob:
        return self.requester.jobs.job(job_id)

    async def run(self, module: bytes) -> ExecutionRecord:
        """The execution of a job that has completed."""
        job_id = await self.submit(module)
        await until(lambda: self.job(job_id).state.ended, "the job has ended")
        assert self.job(job_id).state is JobState.COMPLETED, self.job(job_id)
        return self.job(job_id).executions[-1]

    def result_of(self, execution: ExecutionRecord) -> Cid:
        assert execution.report is not None
        assert execution.report.result is not None
        return execution.report.result

    def assert_here(self, execution: ExecutionRecord, stdout: bytes) -> None:
        """The requester has all of the result, and it is right."""
        store, root = self.requester.blocks, self.result_of(execution)
        assert find_missing(store, root) is None
        assert all(cid.verify(block) for cid, block in iter_dag(store, root))
        assert b"".join(reader.read_file(store, reader.resolve(store, root, "stdout"))) == stdout

    async def report(self, report: ExecutionReport, blocks: Blocks, key: NodeKey | None = None) -> None:
        """A report in an envelope of its own, from the worker, or whoever has that key."""
        if key is None:
            key = NodeKey.load_or_create(self.worker.settings.data_dir / "node.key")
        sealed = seal_message(
            key, report,
            id=f"s-again-{len(self.sent)}-{len(blocks)}",
            issued_at_us=self.requester.clock.now(),
            valid_for_us=60_000_000,
            recipient=self.requester.node_id,
        )  # fmt: skip
        request = requester_service_pb2.ReportExecutionRequest(
            report=sealed,
            blocks=[block_service_pb2.Block(cid=cid.raw, data=data) for cid, data in blocks],
        )
        async with peer_channel(self.requester) as channel:
            await RequesterServiceStub(channel).ReportExecution(request)


@contextlib.asynccontextmanager
async def a_pair(folder: Path, **changes: Any) -> AsyncIterator[Pair]:
    async with (
        running(folder / "requester", compute=False, **changes) as requester,
        running(folder / "worker", peers=(requester.peer_address,)) as worker,
    ):
        await until(lambda: worker.node_id in requester.membership.live_ids(), "the worker is heard of")
        yield Pair(requester, worker)


async def test_a_small_result_comes_with_its_report_and_no_block_is_asked_for(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as pair:
        execution = await pair.run(program("small\n"))
        pair.assert_here(execution, b"small\n")
        assert [bool(blocks) for blocks in pair.sent] == [True]
        assert pair.asked == 0
        result = pair.result_of(execution)
    async with running(tmp_path / "requester") as later:
        assert find_missing(later.blocks, result) is None, "it is on disk"


async def test_nodes_keep_no_more_of_many_jobs_in_memory_than_their_bounds_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_results_module, "_REMEMBERED_MAX", 2)
    monkeypatch.setattr(recent_module, "JOBS_MAX", 2)
    async with a_pair(tmp_path) as pair:
        nodes = (pair.requester, pair.worker)
        for node in nodes:
            monkeypatch.setattr(node.blocks._recent, "_max_blocks", 4)
        for number in range(6):
            execution = await pair.run(program(f"{number}\n"))
            pair.assert_here(execution, b"%d\n" % number)
        assert [len(node.contents.small_results._whole) for node in nodes] == [2, 2]
        assert [len(node.blocks._recent._blocks) for node in nodes] == [4, 4]
        assert len(pair.requester._recent._jobs) == 2
        assert pair.asked == 0


async def test_a_large_result_is_fetched(tmp_path: Path) -> None:
    large = "x" * (SMALL_RESULT_BYTES + 1)
    async with a_pair(tmp_path) as pair:
        execution = await pair.run(program(large))
        pair.assert_here(execution, large.encode())
        assert pair.sent == [[]]
        assert pair.asked >= 1


def forged(blocks: Blocks) -> Blocks:
    """The output says something else, under the same CID."""
    return [(cid, block.replace(b"truth", b"a lie")) for cid, block in blocks]


async def test_blocks_that_are_missing_forged_or_too_many_are_not_taken_and_the_result_is_fetched(
    tmp_path: Path,
) -> None:
    padding = bytes(SMALL_RESULT_BYTES)
    lies: dict[str, Callable[[Blocks], Blocks]] = {
        "none": lambda blocks: [],
        "root missing": lambda blocks: blocks[1:],
        "leaf missing": lambda blocks: blocks[:-1],
        "forged": forged,
        "oversized": lambda blocks: [*blocks, (Cid.of(RAW, padding), padding)],
        "forged after the true one": lambda blocks: [*blocks, *((cid, b"a lie") for cid, _ in blocks)],
    }
    async with a_pair(tmp_path) as pair:
        for name, pair.change in lies.items():
            asked = pair.asked
            execution = await pair.run(program(f"truth {name}"))
            assert pair.asked > asked, name
            pair.assert_here(execution, f"truth {name}".encode())
            assert not pair.requester.blocks.has(Cid.of(RAW, padding))


async def test_blocks_that_do_not_belong_to_the_result_are_not_stored(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as pair:
        pair.change = lambda blocks: [EXTRA, *blocks, EXTRA]
        execution = await pair.run(program("with more\n"))
        pair.assert_here(execution, b"with more\n")
        assert pair.asked == 0
        assert not pair.requester.blocks.has(EXTRA[0])


async def test_a_forged_result_that_nobody_serves_is_no_result_and_nothing_of_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "ATTEMPTS", 1)
    async with a_pair(tmp_path) as pair:
        pair.change = forged
        pair.serves = False
        job_id = await pair.submit(program("truth"))
        await until(
            lambda: any(e.state is ExecutionState.FAILED for e in pair.job(job_id).executions),
            "the execution has failed",
        )
        history = pair.requester.store.happenings(job_id)
        faults = [entry.fault for entry in history if entry.type is JobEventType.EXECUTION_FAILED]
        assert [fault.kind for fault in faults if fault] == [FaultKind.RESULT_UNAVAILABLE]
        assert pair.job(job_id).charged_microcredits == 0
        for cid, _ in pair.sent[0]:
            assert not pair.requester.blocks.has(cid)


async def test_blocks_from_a_stranger_are_refused_with_the_report_and_not_stored(tmp_path: Path) -> None:
    async with a_pair(tmp_path) as pair:
        job_id = await pair.submit(SLEEPER)
        await until(lambda: pair.job(job_id).executions, "the job is awarded")
        execution = pair.job(job_id).executions[0]
        result = import_files(gathered := MemoryBlockStore(), {"stdout": b"a lie", "exitCode": b"0"}).cid
        blocks = list(iter_dag(gathered, result))
        before = pair.requester.blocks.stored_bytes
        # One that the worker runs, by another node; and one that nobody runs, by the worker and another.
        for execution_id, key in (
            (execution.id, Stranger().key),
            ("e-nobody", Stranger().key),
            ("e-nobody", None),
        ):
            refusal = await refusal_from(pair.report(a_report(execution_id, result=result), blocks, key))
            assert refusal.reason is RefusalReason.NOT_FOUND
        assert pair.requester.blocks.stored_bytes == before
        assert not pair.requester.blocks.has(result)
        assert not pair.requester.contents.small_results.remembers(result)
        await pair.requester.jobs.cancel(job_id, "")
        # One of the worker's, of which nothing is awaited any more.
        refusal = await refusal_from(pair.report(a_report(execution.id, result=result), blocks))
        assert refusal.reason is RefusalReason.LEASE_ENDED
        assert pair.requester.blocks.stored_bytes == before


async def test_a_repeated_report_is_answered_as_the_first_and_its_blocks_change_nothing(
    tmp_path: Path,
) -> None:
    async with a_pair(tmp_path) as pair:
        execution = await pair.run(program("once\n"))
        report, requester = execution.report, pair.requester
        assert report is not None
        before = requester.blocks.stored_bytes
        history = requester.store.happenings(execution.job_id)
        await pair.report(report, pair.sent[0])
        await pair.report(report, [*pair.sent[0], EXTRA])
        assert requester.blocks.stored_bytes == before
        assert requester.store.happenings(execution.job_id) == history
        assert pair.job(execution.job_id).executions == (execution,)
        # Also when the result is gone: who repeats a report cannot fill the disk.
        requester.blocks.delete_many([cid.multihash for cid, _ in pair.sent[0]])
        await pair.report(report, pair.sent[0][:1])
        assert not any(requester.blocks.has(cid) for cid, _ in pair.sent[0])


async def test_blocks_of_a_repeat_are_not_taken_while_the_result_of_the_first_is_fetched(
    tmp_path: Path,
) -> None:
    async with a_pair(tmp_path) as pair:
        pair.change = forged
        pair.serves = False
        job_id = await pair.submit(program("truth"))
        await until(lambda: pair.asked, "the result is asked for")
        (execution,) = pair.job(job_id).executions
        assert execution.state is ExecutionState.REPORTED
        assert execution.report is not None
        result = pair.result_of(execution)
        await pair.report(execution.report, list(iter_dag(pair.worker.blocks, result)))
        assert not pair.requester.contents.small_results.remembers(result)
        assert not pair.requester.blocks.has(result)
        assert pair.job(job_id).executions == (execution,)
        pair.serves = True
        await until(lambda: pair.job(job_id).state.ended, "the result is fetched after all")
        pair.assert_here(pair.job(job_id).executions[0], b"truth")


async def test_a_block_whose_cid_is_garbage_refuses_the_report_and_does_not_break_the_node(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, compute=False) as node, peer_channel(node) as channel:
        stranger = Stranger()
        for raw in (b"", b"\xff" * 40, b"\x01"):
            request = requester_service_pb2.ReportExecutionRequest(
                report=stranger.seal(a_report(), node.node_id, at_us=node.clock.now()),
                blocks=[block_service_pb2.Block(cid=raw, data=b"x")],
            )
            refusal = await refusal_from(RequesterServiceStub(channel).ReportExecution(request))
            assert refusal.reason is RefusalReason.MALFORMED
        assert node.blocks.stored_bytes == 0
        assert not node.failed.done()


async def test_a_result_that_was_collected_is_not_taken_for_one_that_is_here(tmp_path: Path) -> None:
    """It was here once; the next job has the same, and this time it does not come along."""
    async with a_pair(tmp_path, keep_results_us=1, gc_grace_us=1) as pair:
        first = await pair.run(program("same\n"))
        pair.requester.blocks.sync()  # what is collected was there before the collection began
        await pair.requester.upkeep()
        assert not pair.requester.blocks.has(pair.result_of(first))
        pair.change = lambda blocks: []
        second = await pair.run(program("same\n"))
        assert pair.result_of(second) == pair.result_of(first)
        pair.assert_here(second, b"same\n")
        assert pair.asked >= 1


async def test_a_full_report_is_far_below_the_message_limit(tmp_path: Path) -> None:
    """The result that sends most is many small blocks: each costs its CID beside its bytes."""
    store = MemoryBlockStore()
    files = {f"f{number:04}": number.to_bytes(2, "big") for number in range(900)}
    root = import_files(store, files).cid
    async with running(tmp_path) as node:
        node.blocks.put_many(iter_dag(store, root))
        blocks = node.contents.small_results.blocks_of(root)
        assert len(blocks) > 900
        assert sum(len(block) for _, block in blocks) <= SMALL_RESULT_BYTES
        request = requester_service_pb2.ReportExecutionRequest(
            blocks=[block_service_pb2.Block(cid=cid.raw, data=data) for cid, data in blocks]
        )
        assert request.ByteSize() < limits.PEER_MESSAGE_BYTES_MAX // 4
        assert dict(node.contents.small_results.accepted(root, blocks)) == dict(blocks)


# --- what is taken, for whatever is sent ---

_changes = st.lists(
    st.sampled_from(["drop", "flip", "grow", "extra", "repeat", "turn round", "large"]), max_size=3
)


async def test_whatever_is_sent_only_the_whole_result_is_taken_and_nothing_else(tmp_path: Path) -> None:
    files = st.dictionaries(st.sampled_from("abcd"), st.binary(max_size=30), min_size=1)

    async with running(tmp_path, compute=False) as node:

        @settings(max_examples=150, deadline=None)
        @given(files=files, changes=_changes, at=st.integers(0, 20))
        def check(files: dict[str, bytes], changes: list[str], at: int) -> None:
            store = MemoryBlockStore()
            root = import_files(store, files).cid
            whole = dict(iter_dag(store, root))
            sent = list(whole.items())
            for change in changes:
                sent = changed(sent, change, at)
            taken = node.contents.small_results.accepted(root, sent)
            said = dict(sent)
            is_true = all(said.get(cid) == block for cid, block in whole.items())
            fits = sum(map(len, said.values())) <= SMALL_RESULT_BYTES
            assert dict(taken) == (whole if is_true and fits else {})
            assert len(taken) == len(dict(taken))

        check()
        assert node.blocks.stored_bytes == 0


def changed(sent: Blocks, change: str, at: int) -> Blocks:
    if not sent:
        return sent
    at %= len(sent)
    cid, block = sent[at]
    match change:
        case "drop":
            return sent[:at] + sent[at + 1 :]
        case "flip":
            return [*sent[:at], (cid, bytes([block[0] ^ 1]) + block[1:] if block else b"x"), *sent[at + 1 :]]
        case "grow":
            return [*sent[:at], (cid, block + b"x"), *sent[at + 1 :]]
        case "extra":
            return [*sent[:at], EXTRA, *sent[at:]]
        case "repeat":
            return sent + sent
        case "turn round":
            return sent[::-1]
        case _:
            large = bytes(SMALL_RESULT_BYTES)
            return [*sent, (Cid.of(RAW, large), large)]


async def test_a_result_that_is_no_dag_or_one_that_cannot_be_checked_is_not_taken(tmp_path: Path) -> None:
    blocks = st.binary(max_size=60)

    async with running(tmp_path, compute=False) as node:

        @settings(max_examples=150, deadline=None)
        @given(root=wire.cids, block=blocks, codec=st.sampled_from([RAW, DAG_PB, 0x71, 0x55AA]))
        def check(root: Cid, block: bytes, codec: int) -> None:
            accept = node.contents.small_results.accepted
            own = Cid(1, codec, Cid.of(RAW, block).multihash)
            assert dict(accept(own, [(own, block)])) in ({}, {own: block})
            if root.multihash != own.multihash:
                assert accept(root, [(root, block)]) in ([], [(root, block)])
                if accept(root, [(root, block)]):
                    assert root.verify(block)

        check()


# --- a node that dies ---


async def test_a_result_that_only_the_journal_has_is_in_the_block_store_after_a_restart(
    tmp_path: Path,
) -> None:
    """A node that is killed within seconds of a job's end leaves such."""
    cid, block = EXTRA
    with contextlib.closing(Store(tmp_path / "journal.sqlite")) as journal:
        journal.stage((), blocks=[EXTRA])
        journal.commit_staged()
    async with running(tmp_path) as node:
        assert node.blocks.get(cid) == block
        assert node.store.small_blocks() == []
    with contextlib.closing(PackBlockStore(tmp_path / "blocks")) as stored:
        assert stored.get(cid) == block
