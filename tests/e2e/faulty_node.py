"""`bacalhau serve` with one fault, which its environment names; for tests of such a node, and of trades with it.

DIE_AT=before:STEP or after:STEP, of STEPS: it kills itself, as kill -9 would, at the first commit that holds the step;
"before" with the transaction still open, "after" with it on disk and nothing of what follows done. Where that commit
is the first of another step of the same side as well, nothing lies between the two to die in: it ends with NOT_APART.

NEVER_PAYS=1: its receipts never leave it.

WITHOUT_LIBP2P=1: libp2p is as if it were not installed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from bacalhau.cli.main import main
from bacalhau.model.execution import ExecutionState
from bacalhau.model.ledger import TradeSide, Transaction
from bacalhau.node.outbox import Outbox
from bacalhau.scheduler.effects import SendReceipts
from bacalhau.scheduler.records import ExecutionRecord, NoteRecord, ReceiptRecord, WorkRecord, WorkState
from bacalhau.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bacalhau.scheduler.effects import Send
    from bacalhau.scheduler.records import Write


def _execution(state: ExecutionState) -> Callable[[Write], bool]:
    return lambda write: isinstance(write, ExecutionRecord) and write.state is state


def _work(state: WorkState) -> Callable[[Write], bool]:
    return lambda write: isinstance(write, WorkRecord) and write.state is state


def _receipt(side: TradeSide, *, signed: bool) -> Callable[[Write], bool]:
    return lambda write: (
        isinstance(write, ReceiptRecord) and write.side is side and (write.evidence is not None) is signed
    )


STEPS: dict[str, Callable[[Write], bool]] = {
    "requester:awarded": _execution(ExecutionState.AWARDED),
    "requester:started": _execution(ExecutionState.RUNNING),
    "requester:reported": _execution(ExecutionState.REPORTED),
    "requester:accepted": _receipt(TradeSide.BUYING, signed=False),
    "requester:settled": _receipt(TradeSide.BUYING, signed=True),
    "requester:noted": lambda write: isinstance(write, NoteRecord),
    "compute:awarded": _work(WorkState.ACCEPTED),
    "compute:reported": _work(WorkState.REPORTED),
    "compute:taken": _work(WorkState.TAKEN),
    "compute:settled": _receipt(TradeSide.SELLING, signed=True),
    "compute:noted": lambda write: isinstance(write, Transaction) and not write.execution_id,
}

NOT_APART = 3
"""The exit code where steps of one side went to disk together: the cut that was asked for is not there."""


def dies_at(moment: str, step: str) -> None:
    """From now on, the first commit of the step is this process's last."""
    stage, commit = Store.stage, Store.commit_staged
    side = step.partition(":")[0]
    ahead = {name: holds for name, holds in STEPS.items() if name.startswith(side)}
    doomed = False

    def staged(self: Store, writes: Sequence[Write], **also: Any) -> bool:
        nonlocal doomed
        taken = [name for name, holds in ahead.items() if any(holds(write) for write in writes)]
        for name in taken:
            del ahead[name]
        doomed = doomed or step in taken
        if step in taken and len(taken) > 1:
            print("one commit, with nothing to die in between:", *taken, file=sys.stderr, flush=True)
            os._exit(NOT_APART)
        return stage(self, writes, **also)

    def committed(self: Store) -> None:
        if doomed and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self)
        if doomed:
            os.kill(os.getpid(), signal.SIGKILL)

    Store.stage = staged  # type: ignore[method-assign]
    Store.commit_staged = committed  # type: ignore[method-assign]


def never_pays() -> None:
    pass_on = Outbox.send

    def send(self: Outbox, send: Send) -> None:
        if not isinstance(send, SendReceipts):
            pass_on(self, send)

    Outbox.send = send  # type: ignore[method-assign]


if __name__ == "__main__":
    if "DIE_AT" in os.environ:
        moment, _, step = os.environ["DIE_AT"].partition(":")
        dies_at(moment, step)
    if "NEVER_PAYS" in os.environ:
        never_pays()
    if "WITHOUT_LIBP2P" in os.environ:
        sys.modules["libp2p"] = None  # type: ignore[assignment]
    main()
