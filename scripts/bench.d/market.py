"""The market's arithmetic, against the signatures that it comes with: clearing an auction, and deciding a bid."""

from __future__ import annotations

import time
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from claims import Claim, Finding, Goal, Round

from bacalhau.config import DEFAULT_TARIFF
from bacalhau.market.bidding import BiddingPolicy, Quote, quote, screen
from bacalhau.market.clearing import SealedBid, bid_set_digest, clear
from bacalhau.market.credit import Credit, CreditPolicy
from bacalhau.market.pricing import (
    HeldInputDiscount,
    LinearPrice,
    PriceFloor,
    ReputationPrice,
    UtilisationPrice,
)
from bacalhau.model.auction import BidStanding, ClearingRule, ScoringWeights
from bacalhau.model.cid import RAW, Cid
from bacalhau.model.job import Engine, NetworkMode
from bacalhau.model.market import Bid, ClaimedInput, JobOffer
from bacalhau.model.resources import DEFAULT_JOB_RESOURCES, Resources
from bacalhau.model.units import GIB, SECOND_US
from bacalhau.wire.identity import NodeKey, is_signed_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BIDS = 10_000
WINNERS = 100
_DECISIONS = 2_000
_SAMPLE = 500
"""Signatures that are verified, or made, in a round; the time of one is what counts."""

RULES = {
    rule: Claim(
        f"clearing {BIDS:,} bids, {rule.name.lower().replace('_', ' ')}",
        "verifying as many signatures",
        "ms",
        Goal.AT_MOST,
        1 / 10,
    )
    for rule in ClearingRule
}
DIGEST = Claim(f"the digest of {BIDS:,} bids", "verifying as many signatures", "ms", Goal.AT_MOST, 1 / 10)
DECISION = Claim("deciding a bid", "one signing", "µs", Goal.AT_MOST, 1)
CLAIMS = (*RULES.values(), DIGEST, DECISION)


def measure(_folder: Path, *, quick: bool) -> Iterator[Finding]:
    rounds = 3 if quick else 15
    key = NodeKey.generate()
    bids = _bids(Random(1))
    entries = [(sealed, BidStanding.STANDS) for sealed in bids]
    work: list[tuple[Claim, Callable[[], object]]] = [
        (claim, partial(clear, _offer(rule), bids, WINNERS)) for rule, claim in RULES.items()
    ]
    work.append((DIGEST, partial(bid_set_digest, entries)))
    for claim, ours in work:
        finding = Finding(claim)
        ours()
        for _ in range(rounds):
            verified = _seconds(partial(_verify, key, _SAMPLE)) * BIDS / _SAMPLE
            finding.rounds.append(Round(_seconds(ours) * 1e3, verified * 1e3))
        yield finding
    finding = Finding(DECISION)
    _decide(_DECISIONS)
    for _ in range(rounds):
        signed = _seconds(partial(_sign, key, _SAMPLE)) / _SAMPLE
        finding.rounds.append(Round(_seconds(partial(_decide, _DECISIONS)) / _DECISIONS * 1e6, signed * 1e6))
    yield finding


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _offer(rule: ClearingRule) -> JobOffer:
    return JobOffer(
        id="o-1",
        job_id="j-1",
        engine=Engine.DOCKER,
        image_or_module="ubuntu",
        inputs=(ClaimedInput(Cid.of(RAW, b"input"), GIB),),
        resources=DEFAULT_JOB_RESOURCES,
        network=NetworkMode.NONE,
        execution_timeout_us=1800 * SECOND_US,
        constraints=(),
        winners=WINNERS,
        max_price_microcredits=10**9,
        clearing_rule=rule,
        bid_window_us=SECOND_US,
        open_for_us=SECOND_US,
        spec_digest=b"",
        weights=ScoringWeights(10, 100, 1000),
    )


def _bids(random: Random) -> list[SealedBid]:
    """With ties: each price comes ten times or so."""
    return [
        SealedBid(
            f"node-{position}",
            Bid(
                f"b-{position}",
                "o-1",
                random.randrange(BIDS // 10),
                10 * SECOND_US,
                random.randrange(60 * SECOND_US),
                random.randrange(GIB),
            ),
            position,
            position.to_bytes(32),
            position,
            random.randrange(1001),
        )
        for position in random.sample(range(1, BIDS + 1), BIDS)
    ]


def _verify(key: NodeKey, count: int) -> None:
    """Payloads of the size of a bid's statement."""
    payload = bytes(220)
    signature = key.sign(payload)
    for _ in range(count):
        assert is_signed_by(key.public_key, payload, signature)


def _sign(key: NodeKey, count: int) -> None:
    payload = bytes(220)
    for _ in range(count):
        key.sign(payload)


def _decide(count: int) -> None:
    """From the offer to the price and the credit for it, with every pure strategy around the linear one."""
    capacity = Resources(16_000, 64 * GIB, 500 * GIB)
    policy = BiddingPolicy(capacity, capacity, labels=(("region", "eu"),))
    discounted = HeldInputDiscount(UtilisationPrice(LinearPrice(DEFAULT_TARIFF)), 100)
    pricing = PriceFloor(ReputationPrice(discounted), 5)
    credit = Credit(CreditPolicy(10**9, 10**9))
    credit.change("r-1", owed=1, committed=1, disputed=1)
    offer = _offer(ClearingRule.UNIFORM_PRICE)
    free = Resources(9_000, 20 * GIB, 400 * GIB)
    for _ in range(count):
        screen(offer, policy, (Engine.DOCKER, Engine.WASM), None)
        answer = quote(offer, policy, pricing, free, GIB // 2, requester_score_ppm=400_000)
        assert isinstance(answer, Quote)
        assert credit.refusal("r-1", answer.price_microcredits) is None
