"""Tells on stderr what happens to a job: lines on a pipe, a moving line on a terminal too."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from bacalhau.cli.names import enum_name, short_node
from bacalhau.model.quantities import format_price
from bacalhau.model.units import size_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from bacalhau.v1.job_pb2 import JobEvent

# A long phase says how far it is this often on a pipe.
PLAIN_INTERVAL_SECONDS = 5.0


class Progress:
    """Prints a job's events as they come; prints nothing where `quiet`."""

    def __init__(self, *, quiet: bool = False, full_ids: bool = False) -> None:
        self._quiet = quiet
        self._full_ids = full_ids
        self._live: RichProgress | None = None
        self._lock = threading.Lock()  # the program's output comes in threads
        self._terminal_taken = False  # by the program, which has written something
        self._terminal = not quiet and sys.stderr.isatty()
        self._phases: dict[str, int] = {}
        self._next = 0.0

    def say(self, text: str) -> None:
        """One line."""
        if self._quiet:
            return
        self.pause()
        print(text, file=sys.stderr, flush=True)

    def pause(self) -> None:
        """Takes the moving line away, before anybody else writes to the terminal."""
        with self._lock:
            self._stop()

    def give_way(self) -> None:
        """As pause, and it does not come back while a program runs: the terminal is the program's now."""
        with self._lock:
            self._terminal_taken = True
            self._stop()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, event: JobEvent) -> None:
        """Print an event."""
        from bacalhau.v1 import job_pb2

        if self._quiet:
            return
        if event.type == job_pb2.JOB_EVENT_TYPE_PROGRESS:
            self._show_figures(event)
        elif (line := self._line(event)) is not None:
            self.say(line)
            if event.type == job_pb2.JOB_EVENT_TYPE_PHASE_CHANGED and self._terminal:
                self._start(event)

    def _line(self, event: JobEvent) -> str | None:
        """The line for an event, or None where it says nothing new."""
        from bacalhau.v1 import job_pb2

        node = event.node_id if self._full_ids else short_node(event.node_id)
        price = f"{format_price(event.price_microcredits)} credits"
        match event.type:
            case job_pb2.JOB_EVENT_TYPE_SUBMITTED:
                return None  # the answer to SubmitJob said so
            case job_pb2.JOB_EVENT_TYPE_BID_RECEIVED:
                return f"bid: {node} asks {price}"
            case job_pb2.JOB_EVENT_TYPE_DECLINED:
                return f"declined: {node}: {refusal_text(event)}"
            case job_pb2.JOB_EVENT_TYPE_AWARDED:
                return f"winner: {node} for {price}"
            case job_pb2.JOB_EVENT_TYPE_AWARD_CONFIRMED:
                return None
            case job_pb2.JOB_EVENT_TYPE_COMMITTED:
                return f"committed: {node} has a result"
            case job_pb2.JOB_EVENT_TYPE_AWARD_REFUSED:
                return f"award refused: {node}: {refusal_text(event)}"
            case job_pb2.JOB_EVENT_TYPE_PHASE_CHANGED:
                if self._phases.get(event.execution_id) == event.phase:
                    return None
                self._phases[event.execution_id] = event.phase
                again = f" ({event.message})" if event.message else ""  # "attempt 2": its node restarted
                return f"{phase_text(event.phase)} on {node}{again}"
            case job_pb2.JOB_EVENT_TYPE_EXECUTION_FAILED:
                return f"failed on {node}: {event.fault.message or event.message}"
            case (
                job_pb2.JOB_EVENT_TYPE_COMPLETED
                | job_pb2.JOB_EVENT_TYPE_FAILED
                | job_pb2.JOB_EVENT_TYPE_CANCELLED
            ):
                return None  # the end of the command says so, with the result
            case (
                job_pb2.JOB_EVENT_TYPE_REPORTED
                | job_pb2.JOB_EVENT_TYPE_EXECUTION_COMPLETED
                | job_pb2.JOB_EVENT_TYPE_EXECUTION_CANCELLED
            ):
                return None
            case _:
                return event.message or enum_name(job_pb2.JobEventType, event.type)

    def _show_figures(self, event: JobEvent) -> None:
        if self._terminal:
            if self._live is None:
                self._start(event)
            if (live := self._live) is not None:  # a thread may take it away meanwhile
                total = event.total_bytes or None
                live.update(
                    live.task_ids[0], completed=event.done_bytes, total=total, figures=_figures(event)
                )
        elif (now := time.monotonic()) >= self._next:
            self._next = now + PLAIN_INTERVAL_SECONDS
            self.say(f"{phase_text(event.phase)}: {_figures(event)}")

    def _start(self, event: JobEvent) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        from bacalhau.v1.execution_pb2 import EXECUTION_PHASE_RUNNING

        running = event.phase == EXECUTION_PHASE_RUNNING
        bar = () if running else (BarColumn(bar_width=24), TextColumn("{task.fields[figures]}"))
        live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            *bar,
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.add_task(phase_text(event.phase), total=event.total_bytes or None, figures=_figures(event))
        with self._lock:
            self._stop()
            if not (running and self._terminal_taken):
                self._live = live
                live.start()


def phase_text(phase: int) -> str:
    """What a node is doing, for people."""
    from bacalhau.v1 import execution_pb2

    texts: dict[int, str] = {
        execution_pb2.EXECUTION_PHASE_FETCHING_INPUTS: "fetching inputs",
        execution_pb2.EXECUTION_PHASE_PREPARING: "preparing the program",
        execution_pb2.EXECUTION_PHASE_RUNNING: "running",
        execution_pb2.EXECUTION_PHASE_PUBLISHING: "storing the result",
    }
    return texts.get(phase, "working")


def refusal_text(event: JobEvent) -> str:
    """A refusal with its reason's name."""
    if not event.HasField("refusal"):
        return event.message
    return refusal_line(event.refusal)


def refusal_line(refusal: object) -> str:
    """A refusal as a sentence and the name of its reason."""
    from bacalhau.v1 import refusal_pb2

    assert isinstance(refusal, refusal_pb2.Refusal)
    try:
        name = refusal_pb2.RefusalReason.Name(refusal.reason).removeprefix("REFUSAL_REASON_")
    except ValueError:  # a newer node's reason
        name = str(refusal.reason)
    return f"{refusal.message} ({name})" if refusal.message else name


def _figures(event: JobEvent) -> str:
    if not event.done_bytes and not event.total_bytes:
        return ""
    done = size_text(event.done_bytes)
    return f"{done} of {size_text(event.total_bytes)}" if event.total_bytes else done
