"""What an award must be for a compute node to be bound by it: what was offered, and what the rule makes of its bid; and
what one gets that comes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.clearing import may_pay
from bacalhau.model.frozen import replace
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.scheduler.effects import Effects, refuse

if TYPE_CHECKING:
    from bacalhau.model.market import Award, Bid, JobOffer
    from bacalhau.scheduler import events as ev
    from bacalhau.scheduler.records import WorkRecord


def award_mismatch(offer: JobOffer, bid: Bid, event: ev.AwardReceived, lease_min_us: int) -> Refusal | None:
    """An award binds only to what was offered and bid."""
    award: Award = event.award
    if award.clearing_rule is not offer.clearing_rule:
        rule, offered = award.clearing_rule.name, offer.clearing_rule.name
        return Refusal(
            RefusalReason.MALFORMED, f"the award is by the rule {rule}, the offer was by {offered}"
        )
    if not may_pay(offer, bid, award.price_microcredits):
        return Refusal(
            RefusalReason.MALFORMED,
            "the award's price is not what the clearing rule makes of the bid",
            (("bid_microcredits", bid.price_microcredits), ("award_microcredits", award.price_microcredits)),
        )
    if award.lease_us < lease_min_us:
        return Refusal(
            RefusalReason.MALFORMED,
            f"the award's lease of {award.lease_us} microseconds is too short to be renewed",
            (("lease_us", award.lease_us), ("lease_min_us", lease_min_us)),
        )
    if award.job_id != offer.job_id or event.spec_digest != offer.spec_digest:
        return Refusal(RefusalReason.MALFORMED, "the award's job is not the one that the offer named")
    spec = award.spec
    matches = (
        spec.engine is offer.engine
        and spec.image_or_module == offer.image_or_module
        and spec.resources == offer.resources
        and spec.network is offer.network
        and spec.timeouts.execution_us == offer.execution_timeout_us
        and spec.constraints == offer.constraints
        and award.payment == offer.payment
        and award.bond_microcredits == bid.bond_microcredits
        and dict.fromkeys(spec.contents()).keys()
        == dict.fromkeys(claimed.cid for claimed in offer.inputs).keys()
    )
    if not matches:
        return Refusal(RefusalReason.MALFORMED, "the award's job asks for more or other than its offer said")
    return None


def answer_repeated_award(known: WorkRecord, event: ev.AwardReceived, *, called_off: bool) -> Effects:
    """To an award of work that is known, held or ended: nothing where it says the same again."""
    execution_id = event.award.execution_id
    # The lease is no part of what was agreed: a requester that restarted may grant terms of another length.
    award = replace(known.award, lease_us=event.award.lease_us)
    if award != event.award or known.requester_id != event.requester_id:
        return refuse(Refusal(RefusalReason.ID_REUSED, f"{execution_id} was awarded otherwise before"))
    if called_off:
        return refuse(Refusal(RefusalReason.LEASE_ENDED, f"{execution_id} was called off, and is stopped"))
    return Effects()
