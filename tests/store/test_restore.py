"""The store under the real machine: what a requester committed is enough for its successor to go on."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from bacalhau.model.execution import ExecutionState
from bacalhau.model.job import JobState
from bacalhau.model.market import Bid
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.effects import FetchResult, SendAward, SendReceipts
from bacalhau.scheduler.requester import RequesterConfig, RequesterMachine
from bacalhau.store.store import Store
from bacalhau.wire.identity import NodeKey
from tests.store import histories as h

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.scheduler.effects import Effects
    from bacalhau.scheduler.events import RequesterEvent


REQUESTER, NODE = NodeKey(bytes(32)).node_id, NodeKey(bytes(31) + b"1").node_id


def test_a_job_goes_on_over_a_restart_after_each_of_its_commits(tmp_path: Path) -> None:
    """At every step the machine is dropped and another takes up what the store holds."""
    path = tmp_path / "node.db"
    numbers = count()
    offers: list[str] = []

    def ids(prefix: str) -> str:
        made = f"{prefix}-{next(numbers)}"
        if prefix == "o":
            offers.append(made)
        return made

    def successor(now: int) -> tuple[Store, RequesterMachine, Effects]:
        store = Store(path)
        machine = RequesterMachine(RequesterConfig(node_id=REQUESTER), ids)
        effects = machine.restore(
            store.open_jobs(), store.open_executions(), store.reputations(), store.books(), now=now
        )
        store.commit(effects.writes)
        machine.check()
        return store, machine, effects

    def live(now: int, *events: RequesterEvent) -> Effects:
        """One life of the node: take up, handle the events, die."""
        store, machine, effects = successor(now)
        for event in events:
            answer = machine.handle(event, now=now)
            assert answer.refusal is None
            machine.check()
            store.commit(answer.writes)
            effects.add(answer)
        store.close()
        return effects

    live(1, ev.PeerHeard(NODE), ev.JobSubmitted("j-a", h.SPEC, h.CLAIMED, h.DIGEST, "r", "c"))
    store, machine, _ = successor(2)
    machine.handle(ev.PeerHeard(NODE), now=2)
    bid = ev.BidReceived(NODE, Bid("b-1", offers[-1], 7, 10_000_000), h.DIGEST, b"evidence")
    awarded = machine.handle(bid, now=3)
    store.commit(awarded.writes)
    store.close()
    (first,) = [send.award for send in awarded.sends if isinstance(send, SendAward)]

    # The award may not have arrived: it is sent again, the same one.
    again = live(4, ev.AwardConfirmed(first.execution_id))
    assert [send.award for send in again.sends if isinstance(send, SendAward)] == [first]
    done = h.history("x").execution.report
    assert done is not None
    done = replace(done, execution_id=first.execution_id)
    fetched = live(5, ev.ReportReceived(NODE, done))
    assert done.result is not None
    fetch = FetchResult(first.execution_id, NODE, done.result, h.SPEC.resources.disk_bytes)
    assert fetched.starts == [fetch]
    assert live(6).starts == [fetch]
    live(7, ev.ResultFetched(first.execution_id))
    unsigned = [send for send in live(8).sends if isinstance(send, SendReceipts)]
    assert [(send.to, len(send.receipts)) for send in unsigned] == [(NODE, 1)]
    live(8, ev.ReceiptsAnswered(NODE, ((1, b"signed"),)))

    store, machine, effects = successor(8)
    assert machine.open_jobs == 0
    assert (effects.writes, effects.sends, effects.starts) == ([], [], [])
    stored = store.job("j-a")
    assert stored is not None
    assert (stored.state, stored.changed.charged_microcredits) == (JobState.COMPLETED, 1)
    assert [one.state for one in stored.executions] == [ExecutionState.COMPLETED]
    sequences = [one.sequence for one in store.happenings("j-a")]
    assert sequences == list(range(1, len(sequences) + 1))
    assert [one.won for one in store.answers("j-a")[0]] == [True]
    store.close()
