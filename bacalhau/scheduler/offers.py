"""The offers that a compute node has heard of, and its bids: what may still become work.

    offer --screen--> declined for good
                 \\--> asked outside --> quote --> bid (soft reservation) --> taken by an award
                                     \\--> busy: declined for now, remembered, bid when capacity is free

An operator's price script is asked between the quote and the bid, with what the node would ask without it.

Owns the remembered offers and the soft reservations behind the bids. A bid that is not awarded within its
validity gives its capacity back; the offer is remembered without it until it closes, for the requester may
repeat it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bacalhau.market.bidding import Answers, Ask, busy, quote, screen
from bacalhau.market.clearing import most_paid
from bacalhau.market.payment import bond_microcredits
from bacalhau.market.pricing import Situation
from bacalhau.market.reputation import too_low
from bacalhau.model.market import Bid, Decline, JobOffer
from bacalhau.model.refusals import Refusal, RefusalReason
from bacalhau.scheduler.effects import AskOutside, AskPrice, Effects, SendBid, SendDecline, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.market.bidding import Quote
    from bacalhau.market.pricing import PricingStrategy
    from bacalhau.market.reputation import ReputationBook
    from bacalhau.model.job import Engine
    from bacalhau.scheduler import events as ev
    from bacalhau.scheduler.capacity import CapacityLedger
    from bacalhau.scheduler.config import ComputeConfig
    from bacalhau.scheduler.deadlines import Deadlines
    from bacalhau.scheduler.receivables import Receivables

_WAITING_SCAN_MAX = 200
"""Waiting offers looked at when capacity comes free: bounds the work of one step."""


@dataclass(slots=True)
class _Offer:
    """An offer that is being decided, waits for capacity, or has a bid standing."""

    requester_id: str
    offer: JobOffer
    closes_us: int
    envelope: bytes = b""
    missing_input_bytes: int = 0
    asking: bool = False
    """What a decision needs from outside was asked for, or the price was."""
    bid: Bid | None = None
    promised_microcredits: int = 0
    """What an award of the bid may come to, on credit while it stands."""


class Offers:
    """See the module. Shares the machine's capacity and its deadlines: "offer", with the offer's id, when it closes,
    or its bid expires before that. What a bid may be awarded at is on credit in `receivables` while it stands."""

    __slots__ = (
        "_book",
        "_capacity",
        "_closing",
        "_config",
        "_counts",
        "_deadlines",
        "_engines",
        "_full",
        "_ids",
        "_offers",
        "_pricing",
        "_receivables",
        "_waiting",
    )

    def __init__(
        self,
        config: ComputeConfig,
        pricing: PricingStrategy,
        ids: Callable[[str], str],
        engines: tuple[Engine, ...],
        capacity: CapacityLedger,
        deadlines: Deadlines[tuple[str, str]],
        book: ReputationBook,
        receivables: Receivables,
    ) -> None:
        self._config = config
        self._book = book
        self._pricing = pricing
        self._ids = ids
        self._engines = engines
        self._capacity = capacity
        self._deadlines = deadlines
        self._receivables = receivables
        self._closing = self._full = False
        self._offers: dict[str, _Offer] = {}
        """Oldest first."""
        self._counts: dict[str, int] = {}
        """By requester: how many of them are its own."""
        self._waiting: dict[str, None] = {}
        """Offers that were declined as BUSY, oldest first."""

    # --- deciding ---

    def received(self, event: ev.OfferReceived, now: int) -> Effects:
        offer, requester_id, config = event.offer, event.requester_id, self._config
        if self._closing or self._full:
            why = _SHUTTING_DOWN if self._closing else _STORAGE_FULL
            return _decline(requester_id, offer.id, why)
        known = self._offers.get(offer.id)
        if known is not None:
            return self._repeated(known, event, now)
        if config.min_reputation_ppm:
            score = self._book.score_ppm(requester_id, now)
            disliked = too_low(score, config.min_reputation_ppm)
            if disliked is not None:
                return _decline(requester_id, offer.id, disliked)
        verdict = screen(offer, config.policy, self._engines, None)
        if isinstance(verdict, Refusal):
            return _decline(requester_id, offer.id, verdict)
        open_for_us = offer.open_for_us if offer.open_for_us > 0 else 1
        entry = _Offer(requester_id, offer, now + open_for_us, event.evidence)
        if len(self._offers) < config.remembered_offers_max:
            return self._take_up(entry, verdict, now)
        return self._crowd_in(entry, verdict, now)

    def _crowd_in(self, entry: _Offer, verdict: Ask | None, now: int) -> Effects:
        """Where there is no room for all, each requester has its share: the newest offer of the one that has most here
        makes room for one that has fewer by two."""
        limit = self._config.remembered_offers_max
        message = f"this node holds {limit} open offers, its limit"
        refusal = Refusal(RefusalReason.LIMIT_REACHED, message, (("remembered_offers_max", limit),))
        counts, offers = self._counts, self._offers
        most = max(counts, key=lambda requester_id: (counts[requester_id], requester_id))
        if counts[most] <= counts.get(entry.requester_id, 0) + 1:
            return _decline(entry.requester_id, entry.offer.id, refusal)
        newest = next(id for id in reversed(offers) if offers[id].requester_id == most)
        effects = self._decline_for_good(newest, refusal, now)
        effects.add(self._take_up(entry, verdict, now))
        return effects

    def _take_up(self, entry: _Offer, verdict: Ask | None, now: int) -> Effects:
        offer, requester_id = entry.offer, entry.requester_id
        self._offers[offer.id] = entry
        self._counts[requester_id] = self._counts.get(requester_id, 0) + 1
        if verdict is None:
            effects = self._quote(entry, now)
        else:
            entry.asking = True
            effects = Effects(starts=[AskOutside(offer, verdict)])
        if entry.bid is None and offer.id in self._offers:
            self._deadlines.set(("offer", offer.id), entry.closes_us)
        return effects

    def _repeated(self, known: _Offer, event: ev.OfferReceived, now: int) -> Effects:
        """The requester may have lost the answer, or the bid may have expired."""
        if known.requester_id != event.requester_id or known.offer != event.offer:
            return refuse(
                Refusal(RefusalReason.ID_REUSED, f"offer {event.offer.id} came before with other content")
            )
        if known.bid is not None:
            return Effects(sends=[SendBid(known.requester_id, known.bid, known.offer.job_id, known.envelope)])
        return Effects() if known.asking else self._quote(known, now)

    def answered(self, event: ev.AskAnswered, now: int) -> Effects:
        entry = self._offers.get(event.offer_id)
        if entry is None or not entry.asking:
            return Effects()
        entry.asking = False
        entry.missing_input_bytes = event.answers.missing_input_bytes
        verdict = screen(entry.offer, self._config.policy, self._engines, event.answers)
        if isinstance(verdict, Refusal):
            return self._decline_for_good(event.offer_id, verdict, now)
        return self._quote(entry, now)

    def price_answered(self, event: ev.PriceAnswered, now: int) -> Effects:
        """The operator's script has named a price, for what was free when it was asked."""
        entry = self._offers.get(event.offer_id)
        if entry is None or not entry.asking:
            return Effects()
        entry.asking = False
        verdict = screen(entry.offer, self._config.policy, self._engines, Answers(entry.missing_input_bytes))
        if event.problem:
            verdict = Refusal(
                RefusalReason.PRICE_SCRIPT, f"this node's price script named no price: {event.problem}"
            )
        if isinstance(verdict, Refusal):
            return self._decline_for_good(event.offer_id, verdict, now)
        return self._answer(entry, self._price(entry, event.price_microcredits, now), now)

    def _quote(self, entry: _Offer, now: int) -> Effects:
        """Bids, asks for a price first, or declines; remembers the offer where the node is only busy."""
        if self._config.policy.price_script:
            free = self._capacity.free
            if entry.offer.resources.fits_in(free):
                return self._ask_price(entry, now)
            return self._answer(entry, busy(entry.offer, free), now)
        return self._answer(entry, self._price(entry, None, now), now)

    def _answer(self, entry: _Offer, answer: Refusal | Quote, now: int) -> Effects:
        if not isinstance(answer, Refusal):
            return Effects([], [self._bid(entry, answer, now)])
        if answer.reason is not RefusalReason.BUSY:
            return self._decline_for_good(entry.offer.id, answer, now)
        self._waiting[entry.offer.id] = None
        return _decline(entry.requester_id, entry.offer.id, answer)

    def _price(self, entry: _Offer, scripted_microcredits: int | None, now: int) -> Refusal | Quote:
        answer = quote(
            entry.offer,
            self._config.policy,
            self._pricing,
            self._capacity.free,
            entry.missing_input_bytes,
            self._book.score_ppm(entry.requester_id, now),
            scripted_microcredits,
        )
        if isinstance(answer, Refusal):
            return answer
        # An award that the credit does not bear would have to be refused, against this node's own word.
        most = most_paid(entry.offer, answer.price_microcredits)
        return self._receivables.refusal(entry.requester_id, most) or answer

    def _ask_price(self, entry: _Offer, now: int) -> Effects:
        entry.asking = True
        self._waiting.pop(entry.offer.id, None)
        ask = self.price_question(entry.requester_id, entry.offer, entry.missing_input_bytes, now)
        return Effects(starts=[ask])

    def price_question(
        self, requester_id: str, offer: JobOffer, missing_input_bytes: int, now: int
    ) -> AskPrice:
        free, capacity = self._capacity.free, self._config.policy.capacity
        score = self._book.score_ppm(requester_id, now)
        situation = Situation(free, capacity, missing_input_bytes, score)
        return AskPrice(requester_id, offer, situation, self._pricing.price(offer, situation))

    def appraise(
        self,
        requester_id: str,
        offer: JobOffer,
        answers: Answers | None,
        scripted_microcredits: int | None,
        now: int,
    ) -> Refusal | Ask | Quote:
        """What the node would answer to such an offer now; nothing is remembered or reserved."""
        if self._closing or self._full:
            return _SHUTTING_DOWN if self._closing else _STORAGE_FULL
        score = self._book.score_ppm(requester_id, now)
        verdict = too_low(score, self._config.min_reputation_ppm) or screen(
            offer, self._config.policy, self._engines, answers
        )
        if verdict is not None:
            return verdict
        missing_bytes = answers.missing_input_bytes if answers is not None else 0
        entry = _Offer(requester_id, offer, now, missing_input_bytes=missing_bytes)
        return self._price(entry, scripted_microcredits, now)

    def _bid(self, entry: _Offer, price: Quote, now: int) -> SendBid:
        offer, config, microcredits = entry.offer, self._config, price.price_microcredits
        offer_id, valid_for_us = offer.id, config.bid_valid_for_us
        if not self._capacity.reserve(offer_id, offer.resources):
            raise AssertionError(f"quoted {offer_id} without room for it")
        if self._waiting:
            self._waiting.pop(offer_id, None)
        bid = entry.bid = Bid(
            self._ids("b"),
            offer_id,
            microcredits,
            valid_for_us,
            price.start_delay_us,
            price.missing_input_bytes,
            bond_microcredits(microcredits, config.bond_permille),
        )
        promised = entry.promised_microcredits = most_paid(offer, microcredits)
        self._receivables.promise(entry.requester_id, promised)
        # Of two numbers an expression takes the smaller one at a tenth of what min() of CPython 3.11 costs.
        expires_us, closes_us = now + valid_for_us, entry.closes_us
        self._deadlines.set(("offer", offer_id), expires_us if expires_us < closes_us else closes_us)
        return SendBid(entry.requester_id, bid, offer.job_id, entry.envelope)

    def bid_for_waiting(self, now: int) -> Effects:
        """Capacity came free: bids on what was declined as busy, oldest first."""
        effects = Effects()
        if not self._waiting:
            return effects
        for offer_id in tuple(self._waiting)[:_WAITING_SCAN_MAX]:
            entry = self._offers[offer_id]
            if entry.offer.resources.fits_in(self._capacity.free):
                effects.add(self._quote(entry, now))
            if self._capacity.free.cpu_millicores == 0:
                break
        return effects

    # --- awards ---

    def find_bid(self, requester_id: str, offer_id: str, bid_id: str) -> tuple[JobOffer, Bid] | None:
        """The standing bid that an award names, and the offer that it answers."""
        entry = self._offers.get(offer_id)
        if entry is None or entry.bid is None or entry.requester_id != requester_id or entry.bid.id != bid_id:
            return None
        return entry.offer, entry.bid

    def take(self, offer_id: str, execution_id: str) -> None:
        """The bid was awarded: its reservation is the execution's from now on."""
        self._capacity.harden(offer_id, execution_id)
        entry = self._offers[offer_id]
        self._receivables.promise(entry.requester_id, -entry.promised_microcredits)
        self._drop(offer_id)
        self._deadlines.clear(("offer", offer_id))

    # --- what ends offers and bids ---

    def due(self, offer_id: str, now: int) -> Effects:
        """The offer closes, or its bid expires."""
        entry = self._offers[offer_id]
        if entry.bid is None or entry.closes_us <= now:
            return self.forget(offer_id, now)
        self._receivables.promise(entry.requester_id, -entry.promised_microcredits)
        entry.bid = None
        self._deadlines.set(("offer", offer_id), entry.closes_us)
        self._capacity.release(offer_id)
        return self.bid_for_waiting(now)

    def closed(self, requester_id: str, offer_id: str, now: int) -> Effects:
        entry = self._offers.get(offer_id)
        if entry is None or entry.requester_id != requester_id:
            return Effects()
        return self.forget(offer_id, now)

    def forget(self, offer_id: str, now: int) -> Effects:
        entry = self._drop(offer_id)
        if entry is None:
            return Effects()
        if self._waiting:
            self._waiting.pop(offer_id, None)
        self._deadlines.clear(("offer", offer_id))
        if entry.bid is not None and self._capacity.release(offer_id):
            self._receivables.promise(entry.requester_id, -entry.promised_microcredits)
            if self._waiting:
                return self.bid_for_waiting(now)
        return Effects()

    def _drop(self, offer_id: str) -> _Offer | None:
        entry = self._offers.pop(offer_id, None)
        if entry is not None:
            left = self._counts[entry.requester_id] - 1
            if left:
                self._counts[entry.requester_id] = left
            else:
                del self._counts[entry.requester_id]
        return entry

    def engines_changed(self, engines: tuple[Engine, ...], now: int) -> Effects:
        """Bids for an engine that answers no more are taken back; a decline withdraws a bid."""
        self._engines = engines
        effects = Effects()
        for offer_id, entry in tuple(self._offers.items()):
            if entry.offer.engine not in engines and not entry.asking and offer_id in self._offers:
                verdict = screen(entry.offer, self._config.policy, engines, None)
                if isinstance(verdict, Refusal):
                    effects.add(self._decline_for_good(offer_id, verdict, now))
        return effects

    def shut(self, now: int) -> Effects:
        """No new work is taken: every requester that waits for this node is told."""
        self._closing = True
        return self._decline_all(_SHUTTING_DOWN, now)

    def storage_changed(self, full: bool, now: int) -> Effects:
        """On a full disk bids are taken back; what was awarded goes on. The requesters ask again later."""
        self._full = full
        return self._decline_all(_STORAGE_FULL, now) if full else Effects()

    def _decline_all(self, refusal: Refusal, now: int) -> Effects:
        self._waiting.clear()
        effects = Effects()
        for offer_id in tuple(self._offers):
            effects.add(self._decline_for_good(offer_id, refusal, now))
        return effects

    def _decline_for_good(self, offer_id: str, refusal: Refusal, now: int) -> Effects:
        effects = _decline(self._offers[offer_id].requester_id, offer_id, refusal)
        effects.add(self.forget(offer_id, now))
        return effects

    @property
    def shutting(self) -> bool:
        return self._closing

    def promised(self) -> list[tuple[str, int]]:
        """What the bids that stand may come to: (requester, microcredits)."""
        bids = [entry for entry in self._offers.values() if entry.bid is not None]
        return [(entry.requester_id, entry.promised_microcredits) for entry in bids]

    def check(self) -> None:
        """Every soft reservation has a bid behind it, and the other way round."""
        bids = [id for id, entry in self._offers.items() if entry.bid is not None]
        assert sorted(self._capacity.keys(hard=False)) == sorted(bids), (
            self._capacity.keys(hard=False),
            bids,
        )
        assert len(self._offers) <= self._config.remembered_offers_max
        assert self._counts == Counter(entry.requester_id for entry in self._offers.values())
        for id in self._waiting:
            assert self._offers[id].bid is None, id
            assert not self._offers[id].asking, id
        for id, entry in self._offers.items():
            due = self._deadlines.get(("offer", id))
            assert due is not None, id
            assert due <= entry.closes_us, id
            assert due == entry.closes_us or entry.bid is not None, id
        for kind, key in self._deadlines.keys:
            assert kind != "offer" or key in self._offers, (kind, key)


_SHUTTING_DOWN = Refusal(RefusalReason.SHUTTING_DOWN, "this node is shutting down")
_STORAGE_FULL = Refusal(RefusalReason.STORAGE_FULL, "this node's disk is full")


def _decline(requester_id: str, offer_id: str, refusal: Refusal) -> Effects:
    return Effects(sends=[SendDecline(requester_id, Decline(offer_id, refusal))])
