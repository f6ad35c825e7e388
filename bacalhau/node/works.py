"""Runs executions on this node: inputs in, program run, result out; and what the program writes, as it writes it.

One task an execution. It tells the compute machine each phase and how it ended; stopping an execution cancels its
task, and the engine stops the program before the task ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from bacalhau.ipfs.errors import IpfsError, NoPeerHas, StoreFull
from bacalhau.ipfs.fetch import FetchLimit, FetchLimits
from bacalhau.market.verification import SALT_BYTES, commitment_digest
from bacalhau.model.execution import ExecutionPhase, ExecutionReport, Fault, FaultKind, Usage
from bacalhau.model.job import Engine
from bacalhau.model.verification import ResultCommitment
from bacalhau.node.comparing import compare
from bacalhau.node.seals import SealingStore
from bacalhau.runtime.executor import EngineFault, Outcome, Run
from bacalhau.scheduler import events as ev

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from bacalhau.ipfs.blockstore import BlockStore
    from bacalhau.ipfs.layout import Imported
    from bacalhau.model.cid import Cid
    from bacalhau.model.job import JobSpec
    from bacalhau.node.contents import Contents
    from bacalhau.node.driver import Driver
    from bacalhau.node.serving import Serving
    from bacalhau.runtime.executor import Executor, Workspace
    from bacalhau.runtime.workspace import Workspaces
    from bacalhau.scheduler.records import WorkRecord

log = logging.getLogger(__name__)

T = TypeVar("T")

STDOUT, STDERR = 1, 2
_TAIL_PAUSE_S = 0.05
_TAIL_CHUNK_BYTES = 64 * 1024
_PROGRESS_PAUSE_S = 0.5
_REMOVAL_PAUSE_S = 0.2
_READERS_S = 10.0
"""So long a reader that does not read may keep the files of an execution that has ended."""


@dataclass(slots=True)
class _Live:
    """An execution that has a task. `workspace` is known before it is laid out, so that it goes however far that
    came; `ended` is set before it goes."""

    task: asyncio.Task[None]
    workspace: Workspace | None = None
    laid_out: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    left_empty: bool = False
    """Nothing is in the workspace's folders, so that they can serve again."""
    readers: int = 0
    unread: asyncio.Event = field(default_factory=asyncio.Event)


class Works:
    """See the module."""

    def __init__(
        self,
        driver: Driver,
        executors: Mapping[Engine, Executor],
        workspaces: Workspaces,
        contents: Contents,
        serving: Serving,
        node_id: str,
    ) -> None:
        self._driver = driver
        self._node_id = node_id
        self._executors = executors
        self._workspaces = workspaces
        self._contents = contents
        self._serving = serving
        self._live: dict[str, _Live] = {}
        self._closing = False
        self._done: list[tuple[Workspace, bool]] = []
        """Workspaces that nobody needs any more."""
        self._removing: asyncio.Task[None] | None = None

    # --- started by the machine ---

    def start(self, execution_id: str, attempt: int, *, resume: bool = False) -> None:
        record = self._driver.compute.work(execution_id)
        if record is None or execution_id in self._live or self._closing:
            return
        task = asyncio.get_running_loop().create_task(self._execute(record, attempt, resume))
        self._live[execution_id] = _Live(task)

    def stop(self, execution_id: str) -> None:
        live = self._live.get(execution_id)
        if live is not None:
            live.task.cancel()
        else:
            self._report_stopped(execution_id)

    def shut(self) -> None:
        """The node is about to end, engines first: what fails from here on fails for that, and is not reported."""
        self._closing = True

    async def close(self) -> None:
        """Stops what runs. Nothing is reported: after a restart each of them is a new attempt."""
        self._closing = True
        tasks = [live.task for live in self._live.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._removing is not None:
            self._removing.cancel()
            await asyncio.gather(self._removing, return_exceptions=True)
        await asyncio.to_thread(_remove_all, self._workspaces, self._done)

    def _report_stopped(self, execution_id: str) -> None:
        record = self._driver.compute.work(execution_id)
        if record is not None:
            report = ExecutionReport(execution_id, record.attempt, None, 0, Usage(), cancelled=True)
            self._driver.tell_compute(ev.ExecutionEnded(report))

    # --- one execution ---

    async def _execute(self, record: WorkRecord, attempt: int, resume: bool) -> None:
        live = self._live[record.id]
        try:
            ended = await self._attempt(record, attempt, resume, live)
        except asyncio.CancelledError:
            self._leave(record.id, live)
            if self._closing:
                raise
            self._report_stopped(record.id)
            await self._clean_up(live)
            return
        except Exception as bug:
            # A bug in the node must not leave the job without an end: it is reported, and tried elsewhere.
            log.exception("execution %s failed in an unforeseen way", record.id)
            fault = Fault(FaultKind.ENGINE_FAILED, f"the node failed: {type(bug).__name__}: {bug}")
            ended = ev.ExecutionEnded(ExecutionReport(record.id, attempt, None, 0, Usage(), fault))
        self._leave(record.id, live)
        if self._closing and (ended is None or ended.report.fault is not None):
            return  # the engine was closed under it: the next start takes it up
        event: ev.ComputeEvent = ev.ExecutionGone(record.id) if ended is None else ended
        await self._driver.ask_compute(event)
        await self._clean_up(live)

    def _leave(self, execution_id: str, live: _Live) -> None:
        """From here on nothing is written; another attempt may start under the same id."""
        del self._live[execution_id]
        live.ended.set()
        live.laid_out.set()

    async def _clean_up(self, live: _Live) -> None:
        # Readers have the files open; one that came too late finds the output in the result.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READERS_S):
                while live.readers:
                    live.unread.clear()
                    await live.unread.wait()
        if live.workspace is not None:
            self._done.append((live.workspace, live.left_empty))
            if self._removing is None:
                self._removing = asyncio.get_running_loop().create_task(self._remove_done())

    async def _remove_done(self) -> None:
        """Removes workspaces some at a time: by the hundred, a thread for each costs more than the removal."""
        try:
            while self._done:
                await asyncio.sleep(_REMOVAL_PAUSE_S)
                done, self._done = self._done, []
                await asyncio.to_thread(_remove_all, self._workspaces, done)
        finally:
            self._removing = None

    async def _attempt(
        self, record: WorkRecord, attempt: int, resume: bool, live: _Live
    ) -> ev.ExecutionEnded | None:
        """How it ended; None where there was nothing to resume."""
        spec = record.award.spec
        fetched_bytes = 0
        try:
            executor = self._executor(spec.engine)
            if resume:
                run = self._laid_out(live, record, attempt, self._workspaces.locate(record.id, attempt, spec))
                resumed = await executor.resume(run)
                if resumed is None:
                    return None
                outcome = resumed
            else:
                live.workspace = self._workspaces.locate(record.id, attempt, spec)
                # Short jobs come by the hundred: where little is to do, a thread costs more than doing it here.
                workspace = self._workspaces.materialise_at_once(
                    self._contents.store, record.id, attempt, spec
                )
                if workspace is None:
                    fetched_bytes = await self._fetch_contents(record)
                    workspace = await _in_thread(
                        lambda stop: self._workspaces.materialise(
                            self._contents.store, record.id, attempt, spec, stop
                        )
                    )
                run = self._laid_out(live, record, attempt, workspace)
                self._enter(record.id, ExecutionPhase.PREPARING)
                await executor.prepare(run, self._progress(record.id))
                self._enter(record.id, ExecutionPhase.RUNNING)
                outcome = await executor.run(run)
        except EngineFault as error:
            usage = Usage(fetched_bytes=fetched_bytes)
            return ev.ExecutionEnded(ExecutionReport(record.id, attempt, None, 0, usage, error.fault))
        live.ended.set()
        self._enter(record.id, ExecutionPhase.PUBLISHING)
        return await self._publish(live, run, outcome, fetched_bytes)

    def _executor(self, engine: Engine) -> Executor:
        executor = self._executors.get(engine)
        if executor is None:  # it was taken away between two lives of the node
            message = f"this node does not run {engine.name.lower()} jobs any more"
            raise EngineFault(Fault(FaultKind.ENGINE_FAILED, message))
        return executor

    def _laid_out(self, live: _Live, record: WorkRecord, attempt: int, workspace: Workspace) -> Run:
        live.workspace = workspace
        live.laid_out.set()
        return Run(record.id, attempt, record.award.spec, workspace)

    def _enter(self, execution_id: str, phase: ExecutionPhase) -> None:
        self._driver.tell_compute(ev.PhaseEntered(execution_id, phase))

    async def _publish(
        self, live: _Live, run: Run, outcome: Outcome, fetched_bytes: int
    ) -> ev.ExecutionEnded:
        """What was written is published also where the program was stopped at a limit. A result that is compared is
        stored under seal."""
        fault = outcome.fault
        sealed = run.spec.verification.compares and fault is None
        store: BlockStore = self._contents.store
        if sealed:
            store = SealingStore(store, self._serving.seals, run.execution_id)
        result: Cid | None = None
        result_bytes = 0
        try:
            imported = None if sealed else self._publish_at_once(run, outcome.exit_code)
            # A container may have changed the folders themselves; a WASM program cannot.
            live.left_empty = imported is not None and run.spec.engine is Engine.WASM
            if imported is None:
                imported = await _in_thread(
                    lambda stop: self._workspaces.publish(store, run, outcome.exit_code, stop)
                )
            result, result_bytes = imported.cid, imported.size_bytes
            if not sealed:
                self._serving.provide(imported.cid)
        except EngineFault as error:
            fault = fault or error.fault
        usage = replace(outcome.usage, fetched_bytes=fetched_bytes, result_bytes=result_bytes)
        report = ExecutionReport(run.execution_id, run.attempt, result, outcome.exit_code, usage, fault)
        if not sealed or result is None:
            return ev.ExecutionEnded(report)
        return await self._bound(run, report, result)

    async def _bound(self, run: Run, report: ExecutionReport, result: Cid) -> ev.ExecutionEnded:
        """With a commitment to the result, and the salt that will open it."""
        compared = await asyncio.to_thread(compare, self._contents.store, result, run.spec.verification)
        salt = os.urandom(SALT_BYTES)
        digest = commitment_digest(salt, compared.digest, run.execution_id, self._node_id)
        commitment = ResultCommitment(run.execution_id, run.attempt, digest)
        return ev.ExecutionEnded(replace(report, salt=salt), commitment)

    def _publish_at_once(self, run: Run, exit_code: int) -> Imported | None:
        """A result so small that it goes to disk with the step that reports it."""
        published = self._workspaces.publish_at_once(run, exit_code)
        if published is None:
            return None
        imported, blocks = published
        self._driver.keep((cid, bytes(block)) for cid, block in blocks)
        self._contents.small_results.remember(imported.cid)
        return imported

    async def _fetch_contents(self, record: WorkRecord) -> int:
        """Inputs and modules, from the requester first; at most what the job's disk allows. Returns bytes."""
        spec = record.award.spec
        fetched_bytes = 0
        progress = self._progress(record.id)
        total_bytes = 0
        for cid in spec.contents():
            try:
                fetched = await self._contents.fetch(
                    cid,
                    first=(record.requester_id,),
                    limits=FetchLimits(max_bytes=_fetch_limit_bytes(spec)),
                    progress=lambda _blocks, done_bytes: progress(done_bytes, total_bytes),
                )
            except NoPeerHas as error:
                raise EngineFault(Fault(FaultKind.INPUT_UNAVAILABLE, str(error))) from error
            except FetchLimit as error:
                message = f"{error}: the job's disk allowance is too small for it, raise it with --disk"
                raise EngineFault(Fault(FaultKind.INPUT_TOO_LARGE, message)) from error
            except StoreFull as error:
                raise EngineFault(Fault(FaultKind.STORAGE_FULL, str(error))) from error
            except IpfsError as error:
                raise EngineFault(Fault(FaultKind.INPUT_UNAVAILABLE, f"{cid}: {error}")) from error
            if fetched is not None:
                fetched_bytes += fetched.block_bytes
        return fetched_bytes

    def _progress(self, execution_id: str) -> _Throttle:
        return _Throttle(self._driver, execution_id)

    # --- output, live ---

    async def output(self, execution_id: str, *, follow: bool) -> AsyncGenerator[tuple[int, bytes], None]:
        """What a running execution writes, from its start, as (STDOUT or STDERR, bytes); with `follow` until it
        ends. Nothing where it does not run here."""
        live = self._live.get(execution_id)
        if live is None:
            return
        live.readers += 1
        try:
            if follow:
                await live.laid_out.wait()
            if live.workspace is not None:
                async with contextlib.aclosing(_tail(live, live.workspace, follow)) as pieces:
                    async for piece in pieces:
                        yield piece
        finally:
            live.readers -= 1
            live.unread.set()


class _Throttle:
    """Progress of a long phase, from any thread, told a few times a second."""

    def __init__(self, driver: Driver, execution_id: str) -> None:
        self._driver = driver
        self._execution_id = execution_id
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time() + _PROGRESS_PAUSE_S

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        now = self._loop.time()
        if now >= self._next:
            self._next = now + _PROGRESS_PAUSE_S
            event = ev.ProgressMade(self._execution_id, done_bytes, total_bytes)
            self._loop.call_soon_threadsafe(self._driver.tell_compute, event)


async def _in_thread(work: Callable[[threading.Event], T]) -> T:
    """What `work` returns. Cancelling this sets the event and waits for the end of the thread: nothing is written to
    the disk any more once the end of an execution is reported, and its resources are free."""
    stop = threading.Event()
    thread = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.gather(thread, return_exceptions=True)
        raise


async def _tail(live: _Live, workspace: Workspace, follow: bool) -> AsyncGenerator[tuple[int, bytes], None]:
    files: dict[int, int] = {}
    paths = {STDOUT: workspace.stdout, STDERR: workspace.stderr}
    try:
        while True:
            ended = live.ended.is_set()
            for stream, path in paths.items():
                if stream not in files:
                    try:
                        files[stream] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    except FileNotFoundError:
                        continue
                while data := os.read(files[stream], _TAIL_CHUNK_BYTES):
                    yield stream, data
            if ended or not follow:
                return
            try:
                async with asyncio.timeout(_TAIL_PAUSE_S):
                    await live.ended.wait()
            except TimeoutError:
                continue
    finally:
        for descriptor in files.values():
            os.close(descriptor)


def _fetch_limit_bytes(spec: JobSpec) -> int:
    """Blocks weigh a little more than the content that has to fit the job's disk."""
    return spec.resources.disk_bytes + spec.resources.disk_bytes // 16 + 1024 * 1024


def _remove_all(workspaces: Workspaces, done: list[tuple[Workspace, bool]]) -> None:
    for workspace, left_empty in done:
        if left_empty:
            workspaces.put_aside(workspace)
        else:
            workspaces.remove(workspace)
