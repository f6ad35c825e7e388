"""What each Send of a machine becomes at its receiver: the peer API of the simulated network.

One function for each kind of Send, in SENDS; those about money are in receipts.py. A request's answer leaves once the
receiver has committed, and it may be lost like any message; what the caller's earlier life asked for is not answered to
a later one.

Nothing is signed here, so bids are acknowledged by nothing but silence.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from bacalhau.model.frozen import replace
from bacalhau.model.refusals import RefusalReason
from bacalhau.scheduler import effects as fx
from bacalhau.scheduler import events as ev
from bacalhau.scheduler.executions import answer_late_report
from bacalhau.simulation import receipts
from bacalhau.simulation.honesty import Honesty

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.model.market import Bid
    from bacalhau.model.refusals import Refusal
    from bacalhau.simulation.node import SimulatedNode
    from bacalhau.simulation.world import World

AWARD_TIMEOUT_US = 3_000_000
"""A caller that has no answer to an award by then takes the node for unreachable."""


def _back_to_compute(receiver: SimulatedNode, life: int, event: ev.ComputeEvent) -> None:
    if receiver.lives(life):
        receiver.tell_compute(event)


def _back_to_requester(receiver: SimulatedNode, life: int, event: ev.RequesterEvent) -> None:
    if receiver.lives(life):
        receiver.tell_requester(event)


# --- what requesters send ---


def _send_offer(world: World, node: SimulatedNode, send: fx.SendOffer) -> None:
    nodes, event = world.nodes, ev.OfferReceived(node.id, send.offer)
    world.sent["offer"] += len(send.to)
    world.post_to_all(node, [nodes[id] for id in send.to], event)


def _send_offer_closed(world: World, node: SimulatedNode, send: fx.SendOfferClosed) -> None:
    nodes, event = world.nodes, ev.OfferClosedReceived(node.id, send.offer_id)
    world.sent["offer_closed"] += len(send.to)
    world.post_to_all(node, [nodes[id] for id in send.to], event)


def _send_cancellation(world: World, node: SimulatedNode, send: fx.SendCancellation) -> None:
    world.sent["cancellation"] += 1
    event = ev.CancellationReceived(node.id, send.execution_id)
    world.post_to_all(node, [world.nodes[send.to]], event)


def _send_award(world: World, node: SimulatedNode, send: fx.SendAward) -> None:
    world.sent["award"] += 1
    event = ev.AwardReceived(node.id, send.award, world.spec_digest(send.award.job_id))
    world.post(node, _take_award, world.nodes[send.to], node, node.life, event)
    if not world.calm or not world.nodes[send.to].up:
        execution_id = send.award.execution_id
        unanswered = ev.AwardUnanswered(execution_id)
        world.loop.after(AWARD_TIMEOUT_US, _back_to_requester, node, node.life, unanswered)


def _take_award(receiver: SimulatedNode, sender: SimulatedNode, life: int, event: ev.AwardReceived) -> None:
    execution_id = event.award.execution_id
    ended = receiver.ended_work(execution_id)
    if ended is not None:
        event = replace(event, ended=ended)
    receiver.tell_compute(event, partial(_answer_award, receiver, sender, life, execution_id))


def _answer_award(
    receiver: SimulatedNode, sender: SimulatedNode, life: int, execution_id: str, refusal: Refusal | None
) -> None:
    answer = ev.AwardConfirmed(execution_id) if refusal is None else ev.AwardRefused(execution_id, refusal)
    receiver.world.post(receiver, _back_to_requester, sender, life, answer)


# --- what compute nodes send ---


def _send_bid(world: World, node: SimulatedNode, send: fx.SendBid) -> None:
    world.sent["bid"] += 1
    world.post(node, _take_bid, world.nodes[send.to], node, node.life, world.loop.now, send.bid)


def _take_bid(receiver: SimulatedNode, sender: SimulatedNode, life: int, sent_us: int, bid: Bid) -> None:
    refusal = receiver.tell_requester(ev.BidReceived(sender.id, bid, bid.id.encode(), b"", sent_us))
    if refusal is not None:
        receiver.world.post(receiver, _back_to_compute, sender, life, ev.BidRefused(bid.offer_id, refusal))


def _send_decline(world: World, node: SimulatedNode, send: fx.SendDecline) -> None:
    world.sent["decline"] += 1
    event = ev.DeclineReceived(node.id, send.decline, issued_us=world.loop.now)
    world.post(node, _take_decline, world.nodes[send.to], event)


def _take_decline(receiver: SimulatedNode, event: ev.DeclineReceived) -> None:
    receiver.tell_requester(event)


def _send_renewal(world: World, node: SimulatedNode, send: fx.SendRenewal) -> None:
    world.sent["renewal"] += 1
    event = ev.RenewalReceived(node.id, send.renewal)
    world.post(node, _take_renewal, world.nodes[send.to], node, node.life, world.loop.now, event)


def _take_renewal(
    receiver: SimulatedNode, sender: SimulatedNode, life: int, sent_us: int, event: ev.RenewalReceived
) -> None:
    execution_id = event.renewal.execution_id
    receiver.tell_requester(event, partial(_answer_renewal, receiver, sender, life, sent_us, execution_id))


def _answer_renewal(
    receiver: SimulatedNode,
    sender: SimulatedNode,
    life: int,
    sent_us: int,
    execution_id: str,
    refusal: Refusal | None,
) -> None:
    config = receiver.profile.requester
    if refusal is not None:
        answer: ev.ComputeEvent = ev.RenewalRefused(execution_id, refusal)
    elif config is not None:
        answer = ev.LeaseRenewed(execution_id, sent_us, config.lease_us)
    receiver.world.post(receiver, _back_to_compute, sender, life, answer)


def _send_report(world: World, node: SimulatedNode, send: fx.SendReport) -> None:
    world.sent["report"] += 1
    world.post(
        node, _take_report, world.nodes[send.to], node, node.life, ev.ReportReceived(node.id, send.report)
    )


def _take_report(receiver: SimulatedNode, sender: SimulatedNode, life: int, event: ev.ReportReceived) -> None:
    receiver.tell_requester(event, partial(_answer_report, receiver, sender, life, event))


def _answer_report(
    receiver: SimulatedNode,
    sender: SimulatedNode,
    life: int,
    event: ev.ReportReceived,
    refusal: Refusal | None,
) -> None:
    """As a live driver does: what the machine no longer knows is looked up on disk."""
    execution_id = event.report.execution_id
    if refusal is not None and refusal.reason is RefusalReason.NOT_FOUND:
        late = answer_late_report(receiver.journal.executions.get(execution_id), event)
        receiver.take_late(late, partial(_post_answer, receiver, sender, life, execution_id))
    else:
        _post_answer(receiver, sender, life, execution_id, refusal)


def _post_answer(
    receiver: SimulatedNode, sender: SimulatedNode, life: int, execution_id: str, refusal: Refusal | None
) -> None:
    receiver.world.post(receiver, _back_to_compute, sender, life, ev.ReportAnswered(execution_id, refusal))


# --- results that are compared ---


def _send_commitment(world: World, node: SimulatedNode, send: fx.SendCommitment) -> None:
    world.sent["commitment"] += 1
    event = ev.CommitmentReceived(node.id, send.commitment)
    world.post(node, _take_commitment, world.nodes[send.to], node, node.life, event)


def _take_commitment(
    receiver: SimulatedNode, sender: SimulatedNode, life: int, event: ev.CommitmentReceived
) -> None:
    execution_id = event.commitment.execution_id
    receiver.tell_requester(event, partial(_answer_commitment, receiver, sender, life, execution_id))


def _answer_commitment(
    receiver: SimulatedNode, sender: SimulatedNode, life: int, execution_id: str, refusal: Refusal | None
) -> None:
    answer = ev.CommitmentAnswered(execution_id, refusal)
    receiver.world.post(receiver, _back_to_compute, sender, life, answer)


def _send_reveal_request(world: World, node: SimulatedNode, send: fx.SendRevealRequest) -> None:
    world.sent["reveal_request"] += 1
    event = ev.RevealRequested(node.id, send.execution_id)
    world.post(node, _take_reveal_request, world.nodes[send.to], node, node.life, event)


def _take_reveal_request(
    receiver: SimulatedNode, sender: SimulatedNode, life: int, event: ev.RevealRequested
) -> None:
    if receiver.profile.honesty is Honesty.CONCEALS:
        return
    refusal = receiver.tell_compute(event)
    if refusal is not None:
        answer = ev.RevealRefused(event.execution_id, refusal)
        receiver.world.post(receiver, _back_to_requester, sender, life, answer)


SENDS: dict[type, Callable[[World, SimulatedNode, Any], None]] = {
    fx.SendOffer: _send_offer,
    fx.SendAward: _send_award,
    fx.SendOfferClosed: _send_offer_closed,
    fx.SendCancellation: _send_cancellation,
    fx.SendBid: _send_bid,
    fx.SendDecline: _send_decline,
    fx.SendRenewal: _send_renewal,
    fx.SendReport: _send_report,
    fx.SendCommitment: _send_commitment,
    fx.SendRevealRequest: _send_reveal_request,
    fx.SendReceipts: receipts.send_receipts,
    fx.SendNote: receipts.send_note,
}
