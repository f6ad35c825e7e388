"""Submits a job and stays with it: progress on stderr, its output as it comes, its exit code in the end.

Ctrl-C cancels the job, as it stops the program of an attached `docker run`; a second one leaves at once. A
terminal that is closed (SIGHUP), or SIGTERM, leaves the job running.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from bacalhau.cli.failures import INTERRUPTED, OK, SYSTEM_FAILURE, CommandFailure, NodeFailure
from bacalhau.cli.joblogs import JobLogs
from bacalhau.cli.progress import Progress
from bacalhau.cli.results import completed_executions, fetch_results
from bacalhau.model.quantities import format_price

if TYPE_CHECKING:
    import argparse

    from bacalhau.cli.connection import Node
    from bacalhau.v1.job_pb2 import Job, JobEvent, JobSpec
    from bacalhau.v1.job_service_pb2 import SubmitJobRequest

# A node that restarts is waited for so long; the job is on its disk.
RECONNECT_SECONDS = 30.0
RETRY_SECONDS = 0.3


def run_job(args: argparse.Namespace, draft: JobSpec) -> int:
    """What every verb that submits does with a job's draft: print it, or submit it and stay.

    Returns the exit code.
    """
    from bacalhau.cli.connection import Node

    if args.dry_run:
        from bacalhau.cli.jobfile_write import write_job_file

        print(write_job_file(draft), end="")
        return OK
    from bacalhau.cli.uploads import resolve
    from bacalhau.v1.job_service_pb2 import SubmitJobRequest

    node = Node.of(args)
    silent = args.quiet or args.id_only
    spec = resolve(node, draft, quiet=silent)
    request = SubmitJobRequest(spec=spec, request_id=args.request_id or os.urandom(16).hex())
    progress = Progress(quiet=silent, full_ids=args.node_details)
    job = _submit(node, request, progress)
    if args.id_only or args.detach or not args.wait:
        progress.say(f"submitted; follow it with: bacalhau logs -f {job.id}")
        print(job.id, flush=True)
        return OK
    progress.say(f"job {job.id}")
    try:
        return Follower(node, job, progress, args).follow()
    finally:
        progress.pause()  # whatever ends it, the terminal is as it was


def _submit(node: Node, request: SubmitJobRequest, progress: Progress) -> Job:
    """The job, accepted. A node that was there and goes away meanwhile may have it on disk already: it is waited for
    and asked again, and the request's id lets it be repeated without a second job. Raises CommandFailure."""
    absence = Absence(node, progress)
    while True:
        try:
            job: Job = node.call(node.jobs.SubmitJob, request).job
        except NodeFailure as failure:
            if not (failure.passing and node.has_answered):
                raise
            if not absence.wait("waiting for it, to submit the job again"):
                raise CommandFailure(
                    f"{failure}. The job may be on its disk: once it runs, the same command with "
                    f"--request-id {request.request_id} submits no second one"
                ) from failure
        else:
            return job


class Absence:
    """Of a node that went away, and may come back."""

    def __init__(self, node: Node, progress: Progress) -> None:
        self._node = node
        self._progress = progress
        self._since: float | None = None

    def end(self) -> None:
        """It has answered."""
        self._since = None

    def wait(self, purpose: str) -> bool:
        """A little, before it is asked again; False where it was away for too long."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._progress.say(f"the node at {self._node.address} is gone; {purpose}")
        if now - self._since > RECONNECT_SECONDS:
            return False
        time.sleep(RETRY_SECONDS)
        return True


class Follower:
    """Stays with a submitted job until it ends."""

    def __init__(self, node: Node, job: Job, progress: Progress, args: argparse.Namespace) -> None:
        self._node = node
        self._job = job
        self._progress = progress
        self._args = args
        self._logs = JobLogs(node, job.id, progress, count=job.spec.count)
        self._sequence = 0
        self._absence = Absence(node, progress)
        self._deadline = time.monotonic() + args.wait_timeout_secs if args.wait_timeout_secs else None

    def follow(self) -> int:
        """Until the job ends. Returns its exit code. Raises CommandFailure, NodeFailure."""
        interrupted = False
        while True:
            try:
                ended = self._watch()
                break
            except KeyboardInterrupt:
                if interrupted:
                    return INTERRUPTED
                interrupted = True
                self._cancel()
        self._finish(ended)
        if interrupted and not _completed(ended):
            self._progress.say(f"job {self._job.id} is cancelled")
            return INTERRUPTED
        return self._report(ended)

    def _watch(self) -> Job:
        """Read events until the job has ended; asks again where the node went away."""
        from bacalhau.v1.job_service_pb2 import WatchJobRequest

        while True:
            request = WatchJobRequest(job_id=self._job.id, after_sequence=self._sequence)
            remaining = None if self._deadline is None else max(0.01, self._deadline - time.monotonic())
            stream = self._node.jobs.WatchJob(request, metadata=self._node.metadata, timeout=remaining)
            try:
                for answer in self._node.read(stream):
                    self._absence.end()
                    for event in answer.events:
                        self._take(event)
                    if answer.HasField("job"):
                        job: Job = answer.job
                        return job
            except NodeFailure as failure:
                self._check_deadline()
                if not failure.passing:
                    raise
                self._wait_for_node(failure)
            except KeyboardInterrupt:
                stream.cancel()
                raise

    def _take(self, event: JobEvent) -> None:
        from bacalhau.v1 import job_pb2

        if event.sequence:
            self._sequence = event.sequence
        self._progress.show(event)
        match event.type:
            case job_pb2.JOB_EVENT_TYPE_AWARD_CONFIRMED | job_pb2.JOB_EVENT_TYPE_PHASE_CHANGED:
                self._logs.start(event.execution_id)
            case (
                job_pb2.JOB_EVENT_TYPE_AWARD_REFUSED
                | job_pb2.JOB_EVENT_TYPE_EXECUTION_FAILED
                | job_pb2.JOB_EVENT_TYPE_EXECUTION_CANCELLED
            ):
                self._logs.abandon(event.execution_id)

    def _check_deadline(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._logs.stop()
            raise CommandFailure(
                f"job {self._job.id} has not ended after {self._args.wait_timeout_secs} seconds and goes on: "
                f"follow it with `bacalhau logs -f {self._job.id}`, or stop it with `bacalhau cancel "
                f"{self._job.id}`"
            )

    def _wait_for_node(self, failure: NodeFailure) -> None:
        if not self._absence.wait("waiting for it, for it has the job on disk"):
            self._logs.stop()
            raise CommandFailure(
                f"{failure}. Job {self._job.id} goes on when its node does: `bacalhau describe "
                f"{self._job.id}`"
            ) from failure

    def _cancel(self) -> None:
        from bacalhau.v1.job_service_pb2 import CancelJobRequest

        self._progress.say(f"\ncancelling job {self._job.id}; Ctrl-C again to leave at once")
        try:
            self._node.call(
                self._node.jobs.CancelJob, CancelJobRequest(job_id=self._job.id, message="Ctrl-C"), timeout=10
            )
        except NodeFailure as failure:
            # It may have ended in the meantime, which the events will say.
            self._progress.say(f"it could not be cancelled: {failure}")

    def _finish(self, job: Job) -> None:
        from bacalhau.v1.execution_pb2 import EXECUTION_STATE_COMPLETED

        self._logs.finish(
            {
                execution.id: execution.report.result_cid
                for execution in job.executions
                if execution.state == EXECUTION_STATE_COMPLETED
            }
        )
        self._progress.pause()

    def _report(self, job: Job) -> int:
        """Say how the job ended, fetch its result where asked, and return its exit code."""
        from bacalhau.v1.job_pb2 import JOB_STATE_CANCELLED

        if not _completed(job):
            if job.state == JOB_STATE_CANCELLED:
                print(f"bacalhau: job {job.id} was cancelled", file=sys.stderr)
                return SYSTEM_FAILURE
            print(f"bacalhau: job {job.id} failed: {_failure_text(job)}", file=sys.stderr)
            return SYSTEM_FAILURE
        reports = completed_executions(job)
        for execution in reports:
            self._progress.say(f"result {execution.report.result_cid}")
        self._progress.say(f"price {format_price(job.charged_microcredits)} credits")
        if self._args.download:
            fetch_results(self._node, job, self._args)
        elif reports:
            self._progress.say(f"fetch it with: bacalhau get {job.id}")
        if self._logs.lost is not None:
            print(
                f"bacalhau: the output could not be written here: {self._logs.lost.strerror}; the result has all of "
                f"it: bacalhau get {job.id}",
                file=sys.stderr,
            )
            return exit_code(job) or SYSTEM_FAILURE
        return exit_code(job)


def exit_code(job: Job) -> int:
    """The first exit code of a completed job that is not 0, as a process can have it."""
    codes = [execution.report.exit_code for execution in completed_executions(job)]
    code = next((code for code in codes if code), OK)
    return code & 0xFF or (SYSTEM_FAILURE if code else OK)


def _completed(job: Job) -> bool:
    from bacalhau.v1.job_pb2 import JOB_STATE_COMPLETED

    return job.state == JOB_STATE_COMPLETED


def _failure_text(job: Job) -> str:
    from bacalhau.v1.execution_pb2 import FaultKind

    name = FaultKind.Name(job.failure.kind).removeprefix("FAULT_KIND_") if job.failure.kind else ""
    text = job.failure.message or "the node gave no reason"
    return f"{text} ({name})" if name else text
