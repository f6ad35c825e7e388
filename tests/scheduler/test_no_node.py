"""Jobs while no compute node is live: how long one is waited for, and what their user hears."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.model.execution import FaultKind
from bacalhau.model.job import JobState
from bacalhau.model.refusals import RefusalReason
from bacalhau.scheduler import effects as fx
from tests.builders import a_spec
from tests.scheduler.driven import seconds

if TYPE_CHECKING:
    from tests.scheduler.driven import Requester


def test_a_job_with_no_live_node_waits_a_grace_and_then_says_so(requester: Requester) -> None:
    requester.submit(now=0)
    requester.expire(seconds(1))
    assert requester.state() is JobState.QUEUED
    assert requester.machine.deadline() == seconds(5)
    requester.expire(seconds(5))
    assert requester.failure().kind is FaultKind.NO_NODE
    assert "no compute node is live" in requester.failure().message


def test_a_job_waits_for_the_only_node_while_that_restarts(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=seconds(20))
    requester.expire(seconds(30))
    assert requester.state() is JobState.QUEUED
    requester.hear("n1", now=seconds(40))
    requester.bid("n1", now=seconds(40))
    assert requester.awards() == [("n1", 100)]


def test_a_node_that_does_not_come_back_is_waited_for_a_minute_since_it_was_heard(
    requester: Requester,
) -> None:
    requester.hear("n1")
    requester.submit(now=seconds(20))
    woken = []
    while (due := requester.machine.deadline()) is not None:
        requester.expire(due)
        woken.append(due)
    assert woken[-1] == seconds(60)
    assert "no compute node is live" in requester.failure().message


def test_a_node_that_was_gone_for_long_is_not_waited_for(requester: Requester) -> None:
    requester.hear("n1")
    requester.submit(now=seconds(600))
    requester.expire(seconds(601))
    assert requester.machine.deadline() == seconds(605)
    requester.expire(seconds(605))
    assert requester.failure().kind is FaultKind.NO_NODE


def test_after_a_pause_of_the_requester_in_which_all_nodes_fell_silent_they_are_waited_for(
    requester: Requester,
) -> None:
    """A machine that slept, or had no time for this process: what the nodes said meanwhile is not read yet."""
    requester.hear("n1")
    requester.submit(now=0)
    requester.decline("n1", RefusalReason.BUSY, now=10)
    woken = seconds(3600)
    requester.expire(woken)
    assert requester.state() is JobState.QUEUED
    requester.hear("n1", now=woken + seconds(4))
    assert requester.sent(fx.SendOffer)[-1].to == ("n1",)
    requester.bid("n1", now=woken + seconds(4))
    assert requester.awards() == [("n1", 100)]


def test_a_job_with_no_live_node_and_a_queue_timeout_sleeps_between_its_deadlines(
    requester: Requester,
) -> None:
    """It once woke each microsecond."""
    requester.submit(a_spec(queue_us=seconds(600)), now=0)
    wakes = 0
    while (due := requester.machine.deadline()) is not None:
        requester.expire(due)
        wakes += 1
    assert requester.failure().kind is FaultKind.QUEUE_TIMEOUT
    assert wakes < 30
