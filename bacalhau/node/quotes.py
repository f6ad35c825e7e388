"""Quotes: what this node would answer to an offer, and what the network would charge for a job, binding nobody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bacalhau.market.bidding import Answers, Ask, Quote
from bacalhau.market.clearing import SealedBid, clear
from bacalhau.model.market import Bid
from bacalhau.model.refusals import Refusal, RefusalReason, Refused
from bacalhau.model.units import SECOND_US
from bacalhau.rpc.job_service import Estimate, Quoted
from bacalhau.rpc.peer_client import PeerUnreachable
from bacalhau.scheduler.auctions import offer_of
from bacalhau.wire.job import spec_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from bacalhau.model.job import JobSpec
    from bacalhau.model.market import JobOffer, PaymentTerms
    from bacalhau.node.asks import Asks
    from bacalhau.node.contents import Contents
    from bacalhau.node.driver import Driver
    from bacalhau.node.membership import Membership
    from bacalhau.node.signer import Signer

_BID_WINDOW_US = SECOND_US
_ASKED_AT_ONCE = 64


class Quotes:
    """See the module. `ids` gives a new id with the prefix it is called with."""

    def __init__(
        self,
        signer: Signer,
        driver: Driver,
        membership: Membership,
        contents: Contents,
        asks: Asks,
        ids: Callable[[str], str],
        payment: PaymentTerms,
    ) -> None:
        self._signer = signer
        self._driver = driver
        self._membership = membership
        self._contents = contents
        self._asks = asks
        self._ids = ids
        self._payment = payment

    async def quote(self, requester_id: str, offer: JobOffer) -> Refusal | Quote:
        """As a bid is decided: what has to be asked outside is, the operator's programs too."""
        compute, now = self._driver.compute, self._driver.clock.now
        verdict = compute.appraise(requester_id, offer, None, now=now())
        answers = Answers()
        if isinstance(verdict, Ask):
            answers = await self._asks.answers(offer, verdict)
            verdict = compute.appraise(requester_id, offer, answers, now=now())
        if isinstance(verdict, Ask):
            raise AssertionError(f"asked again for what was answered: {verdict}")
        question = compute.price_question(requester_id, offer, answers.missing_input_bytes, now=now())
        above = isinstance(verdict, Refusal) and verdict.reason is not RefusalReason.PRICE_CEILING
        if question is None or above:
            return verdict
        price = await self._asks.price(question)
        if isinstance(price, str):
            return Refusal(RefusalReason.PRICE_SCRIPT, f"this node's price script named no price: {price}")
        final = compute.appraise(requester_id, offer, answers, now=now(), scripted_microcredits=price)
        if isinstance(final, Ask):
            raise AssertionError(f"asked again for what was answered: {final}")
        return final

    async def estimate(self, spec: JobSpec) -> Estimate:
        """Quotes of every live node, cleared by the job's rule. Raises Refused(CONTENT_UNAVAILABLE) where an input is
        nowhere."""
        inputs = tuple([await self._contents.claim(cid) for cid in dict.fromkeys(spec.contents())])
        offer = offer_of(
            self._ids("o"),
            self._ids("j"),
            spec,
            inputs,
            spec_digest(spec),
            winners=spec.count,
            bid_window_us=_BID_WINDOW_US,
            open_for_us=_BID_WINDOW_US,
            payment=self._payment,
        )
        nodes = self._driver.requester.live_nodes(self._driver.clock.now())
        at_once = asyncio.Semaphore(_ASKED_AT_ONCE)
        answers = await asyncio.gather(*(self._ask(node_id, offer, at_once) for node_id in nodes))
        return estimate_of(offer, dict(zip(nodes, answers, strict=True)), self._reputation)

    def _reputation(self, node_id: str) -> int:
        return self._driver.requester.reputation_permille(node_id, self._driver.clock.now())

    async def _ask(self, node_id: str, offer: JobOffer, at_once: asyncio.Semaphore) -> Quote | Refusal | str:
        if node_id == self._signer.node_id:
            return await self.quote(node_id, offer)
        async with at_once:
            return await self._ask_peer(node_id, offer)

    async def _ask_peer(self, node_id: str, offer: JobOffer) -> Quote | Refusal | str:
        sealed = self._signer.seal_message(offer, "")
        try:
            link = await self._membership.link(node_id)
            return await link.quote(sealed)
        except Refused as error:
            return error.refusal
        except PeerUnreachable as failure:
            return str(failure)


def estimate_of(
    offer: JobOffer, answers: dict[str, Quote | Refusal | str], reputation_permille: Callable[[str], int]
) -> Estimate:
    """The answers in the order of Estimate, with what each winner would be paid."""
    quotes = {node_id: answer for node_id, answer in answers.items() if isinstance(answer, Quote)}
    bids = [
        SealedBid(
            node_id,
            Bid(
                node_id,
                offer.id,
                quote.price_microcredits,
                _BID_WINDOW_US,
                quote.start_delay_us,
                quote.missing_input_bytes,
            ),
            0,
            b"",
            position,
            reputation_permille(node_id),
        )
        for position, (node_id, quote) in enumerate(quotes.items(), start=1)
    ]
    winners = clear(offer, bids, offer.winners)
    won = [winner.sealed.node_id for winner in winners]
    losers = sorted(
        (node_id for node_id in quotes if node_id not in won),
        key=lambda node_id: (quotes[node_id].price_microcredits, node_id),
    )
    rest = sorted(node_id for node_id in answers if node_id not in quotes)
    return Estimate(
        (
            *(Quoted(w.sealed.node_id, quotes[w.sealed.node_id], w.price_microcredits) for w in winners),
            *(Quoted(node_id, answers[node_id]) for node_id in (*losers, *rest)),
        )
    )
