"""The auctions of a requester: who is live, what is offered to whom, and which bids and declines came.

Owns the open offers. Takes answers, ranks bids and says when an auction may go on waiting; what follows from
that (awards, the end of a job) is the machine's to do. Methods that answer an event return a Step: the job
that is to be advanced, None where nothing changed, and the effects so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bacalhau.market.clearing import SealedBid, clear
from bacalhau.market.reputation import too_low
from bacalhau.model.auction import REPUTATION_MAX_PERMILLE
from bacalhau.model.execution import ExecutionState, Fault, FaultKind
from bacalhau.model.job import JobEventType, JobState
from bacalhau.model.market import JobOffer
from bacalhau.model.refusals import PASSING, Refusal, RefusalReason
from bacalhau.model.units import PPM, SECOND_US
from bacalhau.scheduler.effects import Effects, SendOffer, SendOfferClosed, refuse
from bacalhau.scheduler.jobs import Auction, Job
from bacalhau.scheduler.liveness import LiveNodes
from bacalhau.scheduler.records import AnswerReceived, OfferMade

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.market.clearing import Winner
    from bacalhau.market.reputation import ReputationBook
    from bacalhau.model.job import JobSpec
    from bacalhau.model.market import ClaimedInput, PaymentTerms
    from bacalhau.scheduler import events as ev
    from bacalhau.scheduler.config import RequesterConfig
    from bacalhau.scheduler.deadlines import Deadlines

Step = tuple[Job | None, Effects]


class Auctions:
    """See the module. Shares the machine's deadlines: "auction", "reoffer" and "queue", each with the job's
    id."""

    def __init__(
        self,
        config: RequesterConfig,
        ids: Callable[[str], str],
        deadlines: Deadlines[tuple[str, str]],
        book: ReputationBook,
    ) -> None:
        self._config = config
        self._book = book
        self._ids = ids
        self._deadlines = deadlines
        self._jobs: dict[str, Job] = {}
        """By offer id: the job whose open auction it is."""
        self._closed_last: Auction | None = None  # the bid that ended it has still to be acknowledged
        self._nodes = LiveNodes(config.live_for_us)
        self._listening_until_us = 0

    # --- who is live ---

    def listen(self, now: int) -> None:
        """After a restart: until every live node had the time to be heard, none is missed."""
        self._listening_until_us = now + self._config.live_for_us

    def live(self, now: int) -> tuple[str, ...]:
        return self._nodes.all(now)

    def lost(self, node_id: str) -> None:
        """The node did not answer when it had to: it counts as live again when it is heard."""
        self._nodes.lose(node_id)

    def peer_heard(self, node_id: str, now: int) -> Effects:
        """A node that was not live hears of every open offer that it could take."""
        effects = Effects()
        if not self._nodes.hear(node_id, now):
            return effects
        for job in self._jobs.values():
            auction = job.auction
            if auction is None or not job.missing() or job.excludes(node_id):
                continue
            sample = self._sample_of(job)
            if sample and len(auction.awaiting) + len(auction.answers) >= sample:
                continue
            if self._disliked(node_id, now) is not None:
                continue
            if auction.unheard:
                auction.unheard = False
                if not auction.standing:
                    auction.closes_us = now + self._config.bid_window_us
                    self._deadlines.set(("auction", job.id), auction.closes_us)
            if node_id not in auction.bids:
                auction.awaiting[node_id] = 1
            effects.sends.append(SendOffer(auction.offer, (node_id,)))
        return effects

    def _candidates(self, job: Job, now: int) -> tuple[str, ...]:
        live = self.live(now)
        if not self._shuns_any(job):
            return live
        return tuple(node_id for node_id in live if not self._shuns(job, node_id, now))

    def _asked_next(self, job: Job, key: str, now: int) -> tuple[str, ...]:
        """Whom the offer goes to now; `key` determines the sample."""
        sample = self._sample_of(job)
        if not sample:
            return self._candidates(job, now)

        def excludes(node_id: str) -> bool:
            return self._shuns(job, node_id, now)

        shuns = excludes if self._shuns_any(job) else None
        return self._nodes.sample(sample, key, now, excludes=shuns)

    def _sample_of(self, job: Job) -> int:
        """How many nodes are asked at a time: fewer than it misses could never take it. 0 is all."""
        return self._config.offer_sample and max(self._config.offer_sample, job.missing())

    def _shuns_any(self, job: Job) -> bool:
        return bool(job.executions or job.faulted or self._config.min_reputation_ppm)

    def _shuns(self, job: Job, node_id: str, now: int) -> bool:
        return job.excludes(node_id) or self._disliked(node_id, now) is not None

    def _disliked(self, node_id: str, now: int) -> Refusal | None:
        """Why the node gets no award whatever it bids."""
        if not self._config.min_reputation_ppm:
            return None
        return too_low(self._book.score_ppm(node_id, now), self._config.min_reputation_ppm)

    # --- offers ---

    def open(self, job: Job, now: int) -> Effects:
        offer_id = self._ids("o")
        candidates = self._asked_next(job, offer_id, now)
        window_us, spec = self._config.bid_window_us, job.spec
        queue_us = max(self.queue_us(job), window_us)
        offer = offer_of(
            offer_id,
            job.id,
            spec,
            job.inputs,
            job.spec_digest,
            winners=job.missing(),
            bid_window_us=window_us,
            open_for_us=queue_us,
            payment=self._config.payment,
        )
        job.auction = Auction(
            offer,
            opened_us=now,
            closes_us=now + window_us,
            queue_until_us=now + queue_us,
            awaiting={node_id: 1 for node_id in candidates},
            unheard=not self._nodes.count(now),
        )
        self._jobs[offer.id] = job
        self._deadlines.set(("auction", job.id), job.auction.closes_us)
        effects = Effects(writes=[OfferMade(offer, now)])
        if candidates:
            message = "offered to 1 node" if len(candidates) == 1 else f"offered to {len(candidates)} nodes"
            effects.writes.append(job.happened(JobEventType.OFFERED, now, message))
            effects.sends.append(SendOffer(offer, candidates))
        return effects

    def awaited(self, offer_id: str) -> tuple[str, ...] | None:
        """The nodes that have not answered an offer; None where nothing is missing, or there is no such offer."""
        job = self._jobs.get(offer_id)
        if job is None or job.auction is None or not job.missing():
            return None
        return tuple(job.auction.awaiting)

    def queue_us(self, job: Job) -> int:
        queue_us = job.spec.timeouts.queue_us
        return self._config.queue_default_us if queue_us is None else queue_us

    def reoffer(self, job: Job, now: int) -> Effects:
        """The offer again to whoever has no bid standing, for a node may have lost it, or may be free by
        now."""
        auction = job.auction
        if auction is None or not job.missing():
            return Effects()
        auction.reoffers += 1
        auction.drop_expired_bids(now)
        asked = self._asked_next(job, f"{auction.offer.id} {auction.reoffers}", now)
        to = tuple(node_id for node_id in asked if node_id not in auction.bids)
        for node_id in to:
            if node_id in auction.awaiting:
                auction.awaiting[node_id] += 1
            elif self._config.offer_sample and node_id not in auction.answers:
                auction.awaiting[node_id] = 1
        return Effects(sends=[SendOffer(auction.offer, to)] if to else [])

    def stop_waiting(self, job: Job) -> None:
        """Nothing is missing: no deadline of the auction runs."""
        for kind in ("queue", "auction", "reoffer"):
            self._deadlines.clear((kind, job.id))

    def close(self, job: Job) -> list[SendOfferClosed]:
        """Ends the auction, and tells whoever may hold capacity or remember the offer for it."""
        auction = job.auction
        if auction is None:
            return []
        self.stop_waiting(job)
        job.auction, self._closed_last = None, auction
        del self._jobs[auction.offer.id]
        busy = [node_id for node_id, no in auction.declines.items() if no.reason is RefusalReason.BUSY]
        working = [execution.node_id for execution in job.held()]
        nodes = dict.fromkeys([*auction.acknowledged, *busy, *auction.awaiting])
        to = tuple([node_id for node_id in nodes if node_id not in working])
        return [SendOfferClosed(to, auction.offer.id)] if to else []

    # --- answers ---

    def bid_received(self, event: ev.BidReceived, now: int) -> Step:
        bid, node_id = event.bid, event.node_id
        job = self._jobs.get(bid.offer_id)
        auction = job.auction if job is not None else None
        if job is None or auction is None:
            return None, refuse(_no_bid_taken(bid.offer_id))
        if auction.declined_us and event.issued_us < auction.declined_us.get(node_id, 0):
            return None, Effects()  # its node has withdrawn it since, and that came first
        known = auction.acknowledged.get(node_id)
        step = None if known is None else self._known_bid(known, job, auction, event, now)
        if step is not None:
            return step
        refusal = self._bid_refusal(job, auction, event, now)
        if refusal is not None:
            return None, refuse(refusal)
        position = auction.acknowledged_bids = auction.acknowledged_bids + 1
        reputation = self.reputation_permille(node_id, now)
        sealed = SealedBid(node_id, bid, now, event.digest, position, reputation, event.issued_us)
        auction.bids[node_id] = auction.acknowledged[node_id] = sealed
        if auction.declines:
            auction.declines.pop(node_id, None)
        auction.awaiting.pop(node_id, None)
        answer = AnswerReceived(bid.offer_id, job.id, node_id, now, bid, None, event.evidence)
        happened = job.got_bid(node_id, bid.price_microcredits, now)
        # Until the auction is ready a bid more or less changes nothing of what the job does next.
        ready = auction.ready(now, job.missing())
        return job if ready else None, Effects([answer, happened])

    def _known_bid(
        self, known: SealedBid, job: Job, auction: Auction, event: ev.BidReceived, now: int
    ) -> Step | None:
        """A copy of the node's last bid, or of one before it, after which nothing changes; None for a new bid."""
        bid, node_id = event.bid, event.node_id
        awarded = any(e.bid_id == bid.id and e.node_id == node_id for e in job.executions.values())
        if known.bid != bid:
            return (None, Effects()) if awarded or known.issued_us > event.issued_us else None
        if node_id in auction.declines and event.issued_us <= auction.declined_us.get(node_id, -1):
            return None, Effects()  # its node has withdrawn it since
        auction.awaiting.pop(node_id, None)
        if known.expires_us > now and not awarded:
            auction.bids[node_id] = known
            auction.declines.pop(node_id, None)
        return job, Effects()

    def _bid_refusal(self, job: Job, auction: Auction, event: ev.BidReceived, now: int) -> Refusal | None:
        """Why a new bid is not taken; one that is counts among the answers of its node."""
        bid, node_id = event.bid, event.node_id
        if (job.executions or job.faulted) and job.excludes(node_id):
            return _no_bid_taken(bid.offer_id)
        disliked = self._disliked(node_id, now) if self._config.min_reputation_ppm else None
        if disliked is not None:
            return disliked
        price, ceiling = bid.price_microcredits, auction.offer.max_price_microcredits
        if price < 0:
            return Refusal(RefusalReason.MALFORMED, f"the bid of {price} is negative")
        if ceiling is not None and price > ceiling:
            message = f"the bid of {price} microcredits is above the offer's ceiling of {ceiling}"
            figures = (("price_microcredits", price), ("max_price_microcredits", ceiling))
            return Refusal(RefusalReason.PRICE_CEILING, message, figures)
        return self._count_answer(auction, node_id)

    def decline_received(self, event: ev.DeclineReceived, now: int) -> Step:
        node_id, refusal = event.node_id, event.decline.refusal
        job = self._jobs.get(event.decline.offer_id)
        auction = job.auction if job else None
        if job is None or auction is None:
            return None, Effects()
        if auction.declines.get(node_id) == refusal:
            # Word for word what it said before, and an answer all the same where the offer came again.
            auction.declined_us[node_id] = max(auction.declined_us.get(node_id, 0), event.issued_us)
            awaited = auction.awaiting.pop(node_id, None) is not None
            return job if awaited else None, Effects()
        standing = auction.bids.get(node_id)
        if standing is not None and standing.issued_us > event.issued_us:
            return None, Effects()  # overtaken by the bid that its node made after it
        repeated = node_id in auction.declines
        if not repeated:
            excess = self._count_answer(auction, node_id)
            if excess is not None:
                return None, refuse(excess)
        auction.bids.pop(node_id, None)
        auction.awaiting.pop(node_id, None)
        auction.declines[node_id] = refusal
        auction.declined_us[node_id] = max(auction.declined_us.get(node_id, 0), event.issued_us)
        effects = Effects()
        if not repeated:
            effects.writes = [
                AnswerReceived(auction.offer.id, job.id, node_id, now, None, refusal, event.evidence),
                job.happened(JobEventType.DECLINED, now, refusal.message, node_id=node_id, refusal=refusal),
            ]
        return job, effects

    def award_refused(self, job: Job, node_id: str, refusal: Refusal) -> Effects:
        """The winner took its bid back. One that only let it expire is asked again."""
        auction = job.auction
        if auction is None:
            return Effects()
        if refusal.reason is RefusalReason.BID_UNKNOWN:
            auction.awaiting.setdefault(node_id, 1)
            return Effects(sends=[SendOffer(auction.offer, (node_id,))])
        auction.declines[node_id] = refusal
        return Effects()

    def _count_answer(self, auction: Auction, node_id: str) -> Refusal | None:
        """Counts one more answer of the node, or refuses it: strangers may send as many as they like."""
        answers, config = auction.answers, self._config
        count = answers.get(node_id, 0)
        if count >= config.answers_per_node_max:
            name, limit = "answers_per_node_max", config.answers_per_node_max
        elif not count and len(answers) >= config.answers_per_offer_max:
            name, limit = "answers_per_offer_max", config.answers_per_offer_max
        else:
            answers[node_id] = count + 1
            return None
        message = f"offer {auction.offer.id} has had all the answers that it takes ({name} is {limit})"
        return Refusal(RefusalReason.LIMIT_REACHED, message, ((name, limit),))

    # --- clearing ---

    def clear(self, auction: Auction, slots: int, now: int) -> list[Winner]:
        """Who wins of the bids that stand."""
        auction.drop_expired_bids(now)
        return clear(auction.offer, auction.bids.values(), slots)

    def reputation_permille(self, node_id: str, now: int) -> int:
        """What a bid of the node counts with."""
        return self._book.score_ppm(node_id, now) * REPUTATION_MAX_PERMILLE // PPM

    def acknowledged(self, offer_id: str, node_id: str) -> SealedBid | None:
        """The node's last bid on an open offer, or on the one that was closed last, as it was acknowledged."""
        job = self._jobs.get(offer_id)
        auction = job.auction if job else self._closed_last
        return auction.acknowledged.get(node_id) if auction and auction.offer.id == offer_id else None

    def may_wait(self, job: Job, auction: Auction, now: int) -> bool:
        """Whether a node may still take what is missing."""
        if now < self._listening_until_us:
            return True
        if job.faulted and not self._candidates(job, now):
            return False
        if job.spec.timeouts.queue_us is not None:
            return True
        return self._hopeful(job, auction, now) or (
            not self._nodes.count(now) and now < self._grace_ends_us(auction)
        )

    def _grace_ends_us(self, auction: Auction) -> int:
        """Until then a first node is waited for, and one that was live to come back."""
        first_us = max(auction.opened_us, self._nodes.emptied_us) + self._config.no_node_grace_us
        heard_us = self._nodes.heard_us
        return first_us if heard_us is None else max(first_us, heard_us + self._config.restart_us)

    def _hopeful(self, job: Job, auction: Auction, now: int) -> bool:
        """A live node may still bid: it has not answered, was only busy, or was not in a sample yet."""
        sampled, shuns_any = bool(self._config.offer_sample), self._shuns_any(job)
        for node_id in self._nodes.unordered(now):
            if shuns_any and self._shuns(job, node_id, now):
                continue
            if sampled and node_id not in auction.awaiting and node_id not in auction.answers:
                return True
            asked, no = auction.awaiting.get(node_id), auction.declines.get(node_id)
            if asked is not None and asked < self._config.unanswered_offers_max:
                return True
            if no is not None and no.reason in PASSING:
                return True
        return False

    def queue(self, job: Job, auction: Auction, now: int) -> Effects:
        """The offer stands; it is repeated with growing pauses, and given up at the end of the queue
        timeout."""
        config = self._config
        if self._deadlines.get(("reoffer", job.id)) is None:
            pause_us = min(config.reoffer_us << min(auction.reoffers, 20), config.reoffer_max_us)
            self._deadlines.set(("reoffer", job.id), now + pause_us)
        live = self._nodes.count(now)
        grace_ends_us = 0 if live else self._grace_ends_us(auction)
        hope_ends_us = max(self._listening_until_us, grace_ends_us)
        if hope_ends_us > now:
            self._deadlines.set(("auction", job.id), hope_ends_us)
        effects = Effects()
        if job.state is JobState.PENDING:
            job.state = JobState.QUEUED
            effects.writes.append(job.changed(now))
        elif auction.queued:
            return effects
        auction.queued = True
        message = "no node can take it now" if live else "no compute node is live"
        effects.writes.append(job.happened(JobEventType.QUEUED, now, message))
        return effects

    # --- why nobody took it ---

    def timed_out(self, job: Job) -> Fault:
        waited_s = self.queue_us(job) // SECOND_US
        message = f"no node took the job within its queue timeout of {waited_s} seconds"
        if job.auction is not None and job.auction.declines:
            message += ": " + _summary(job.auction.declines)
        last = job.last_fault()
        if last is not None:
            message += f" (before that: {last.message})"
        return Fault(FaultKind.QUEUE_TIMEOUT, message)

    def nobody_left(self, job: Job, now: int) -> Fault:
        """The fault of the last node that tried, else why none did."""
        last = job.last_fault()
        if last is not None:
            tries = sum(1 for e in job.executions.values() if e.state is not ExecutionState.COMPLETED)
            tried = "1 try" if tries == 1 else f"{tries} tries"
            return Fault(last.kind, f"{last.message} (no other node is left after {tried})")
        live = self.live(now)
        if not live:
            message = (
                "no compute node is live: start one with `bacalhau serve`, or connect to one with --peer"
            )
        elif job.replicas > len(live):
            are = "is" if len(live) == 1 else "are"
            message = f"the job wants {job.replicas} nodes, only {len(live)} {are} live"
        else:
            message = f"no node can take the job ({len(live)} live)"
        auction = job.auction
        if auction is not None and auction.declines:
            message += ": " + _summary(auction.declines)
        if auction is not None and auction.awaiting and live:
            message += f"; {len(auction.awaiting)} did not answer"
        return Fault(FaultKind.NO_NODE, message)

    def check(self) -> None:
        for offer_id, job in self._jobs.items():
            assert job.auction is not None, job
            assert job.auction.offer.id == offer_id, job
            assert not job.state.ended, job


def offer_of(
    id: str,
    job_id: str,
    spec: JobSpec,
    inputs: tuple[ClaimedInput, ...],
    spec_digest: bytes,
    *,
    winners: int,
    bid_window_us: int,
    open_for_us: int,
    payment: PaymentTerms,
) -> JobOffer:
    """What compute nodes hear of a job."""
    return JobOffer(
        id=id,
        job_id=job_id,
        engine=spec.engine,
        image_or_module=spec.image_or_module,
        inputs=inputs,
        resources=spec.resources,
        network=spec.network,
        execution_timeout_us=spec.timeouts.execution_us,
        constraints=spec.constraints,
        winners=winners,
        max_price_microcredits=spec.max_price_microcredits,
        clearing_rule=spec.auction.rule,
        bid_window_us=bid_window_us,
        open_for_us=open_for_us,
        spec_digest=spec_digest,
        weights=spec.auction.weights,
        payment=payment,
    )


def _no_bid_taken(offer_id: str) -> Refusal:
    return Refusal(RefusalReason.OFFER_CLOSED, f"offer {offer_id} takes no bid from you")


def _summary(declines: dict[str, Refusal]) -> str:
    """The distinct reasons of the declines, each once, most common first."""
    counts: dict[str, int] = {}
    for refusal in declines.values():
        counts[refusal.message] = counts.get(refusal.message, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(f"{message} ({count} nodes)" if count > 1 else message for message, count in ordered[:5])
