"""The market between real nodes in this process: rules, quotes, price scripts, and audits from both sides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bacalhau.model.auction import AuctionTerms, ClearingRule, ScoringWeights
from bacalhau.model.refusals import RefusalReason
from bacalhau.model.units import SECOND_US
from bacalhau.rpc import limits
from bacalhau.v1 import auction_pb2, job_service_pb2, job_service_pb2_grpc
from bacalhau.v1 import market_service_pb2 as pb
from bacalhau.v1.market_service_pb2_grpc import MarketServiceStub
from tests.node.live import all_of, client_of, refusal_from, running, until, wasm_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bacalhau.node.node import Node
    from bacalhau.v1.job_pb2 import Job

UNIFORM = AuctionTerms(ClearingRule.UNIFORM_PRICE)


@contextlib.asynccontextmanager
async def network(
    folder: Path, *prices: int, own_price: int | None = None, **changes: Any
) -> AsyncIterator[list[Node]]:
    """A requester that runs nothing, unless it has a price of its own, and a compute node for each flat price."""
    async with contextlib.AsyncExitStack() as stack:
        own: dict[str, Any] = {"flat_price_microcredits": own_price}
        if own_price is None:
            own = {"compute": False, "engines": ()}
        # Auctions close when all have answered; the window is for a busy machine.
        first = running(folder / "r", bid_window_us=20 * SECOND_US, **own)
        requester = await stack.enter_async_context(first)
        nodes = [requester]
        for index, price in enumerate(prices):
            node = running(
                folder / f"c{index}",
                requester=False,
                peers=(requester.peer_address,),
                flat_price_microcredits=price,
                **changes,
            )
            nodes.append(await stack.enter_async_context(node))
        known = len(prices) + (own_price is not None)
        await until(
            lambda: len(requester.driver.requester.live_nodes(requester.clock.now())) == known, "all live"
        )
        yield nodes


async def run(node: Node, **changes: Any) -> Job:
    """The job when it has ended."""
    async with client_of(node) as channel:
        jobs: Any = job_service_pb2_grpc.JobServiceStub(channel)
        request = job_service_pb2.SubmitJobRequest(spec=wasm_job(node, **changes))
        job = (await jobs.SubmitJob(request)).job
        answers = await all_of(jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job.id), timeout=30))
        ended: Job = answers[-1].job
        return ended


async def audit(node: Node, job_id: str) -> Any:
    async with client_of(node) as channel:
        market: Any = MarketServiceStub(channel)
        return await market.AuditJob(pb.AuditJobRequest(job_id=job_id))


async def estimate(node: Node, **changes: Any) -> Any:
    async with client_of(node) as channel:
        jobs: Any = job_service_pb2_grpc.JobServiceStub(channel)
        return await jobs.EstimatePrice(job_service_pb2.EstimatePriceRequest(spec=wasm_job(node, **changes)))


def findings(answer: Any) -> list[list[str]]:
    return [list(clearing.findings) for clearing in answer.clearings]


async def all_acknowledged(nodes: list[Node], job_id: str) -> None:
    await until(lambda: all(node.store.own_bids(job_id)[0] for node in nodes), "every bid acknowledged")


async def test_a_uniform_price_auction_follows_for_its_requester_its_winner_and_its_losers(
    tmp_path: Path,
) -> None:
    async with network(tmp_path, 300, 100, 200) as (requester, *nodes):
        job = await run(requester, auction=UNIFORM, max_price_microcredits=1000)
        assert [e.price_microcredits for e in job.executions] == [200]
        assert job.executions[0].node_id == nodes[1].node_id
        await all_acknowledged(nodes, job.id)
        for node in (requester, *nodes):
            answer = await audit(node, job.id[:10])
            assert (answer.job_id, answer.requester_id) == (job.id, requester.node_id)
            assert [clearing.bids for clearing in answer.clearings] == [3]
            assert findings(answer) == [[]]


async def test_all_who_lost_are_told_that_the_offer_is_closed_the_requesters_own_node_too(
    tmp_path: Path,
) -> None:
    async with network(tmp_path, 200, 100, 300, own_price=400) as (requester, *nodes):
        job = await run(requester)
        assert job.executions[0].node_id == nodes[1].node_id
        losers = (requester, nodes[0], nodes[2])
        # The bids have expired in ten seconds; the offer itself would be remembered for an hour.
        await until(
            lambda: all(node.driver.compute.deadline() is None for node in losers), "the offer is forgotten"
        )


async def test_a_posted_price_is_paid_and_no_node_bids_less(tmp_path: Path) -> None:
    async with network(tmp_path, 300, 2000) as (requester, *_):
        terms = AuctionTerms(ClearingRule.POSTED_PRICE)
        job = await run(requester, auction=terms, max_price_microcredits=1000)
        assert [e.price_microcredits for e in job.executions] == [1000]
        async with client_of(requester) as channel:
            jobs: Any = job_service_pb2_grpc.JobServiceStub(channel)
            answers = (await jobs.ListBids(job_service_pb2.ListBidsRequest(job_id=job.id))).answers
        assert [a.price_microcredits for a in answers if a.HasField("price_microcredits")] == [1000]
        assert [a.refusal.reason for a in answers if a.HasField("refusal")] == [
            RefusalReason.PRICE_CEILING.value
        ]


async def test_a_scoring_auction_is_audited_with_its_weights(tmp_path: Path) -> None:
    async with network(tmp_path, 300, 200) as (requester, *nodes):
        terms = AuctionTerms(ClearingRule.SCORING, ScoringWeights(1, 2, 3))
        job = await run(requester, auction=terms)
        assert [e.price_microcredits for e in job.executions] == [200]
        await all_acknowledged(nodes, job.id)
        assert [findings(await audit(node, job.id)) for node in (requester, *nodes)] == [[[]]] * 3


async def test_a_bidder_that_gets_the_bids_page_by_page_audits_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network(tmp_path, 300, 100, 500, 200, 400) as (requester, *nodes):
        job = await run(requester, auction=UNIFORM, max_price_microcredits=1000)
        await all_acknowledged(nodes, job.id)
        monkeypatch.setattr(limits, "PEER_PAGE_SIZE_MAX", 2)
        link = await nodes[0].membership.link(requester.node_id)
        first = await link.get_clearing(job.executions[0].offer_id, 1, "")
        assert (len(first.bids), bool(first.next_page_token)) == (2, True)
        for node in nodes:
            answer = await audit(node, job.id)
            assert [clearing.bids for clearing in answer.clearings] == [5]
            assert findings(answer) == [[]]


# --- a requester that tampers with what it discloses: its journal is changed behind its back ---


def rewrite_clearing(node: Node, change: Any, job_id: str = "%") -> None:
    """Changes the stored clearing and bid set, as a requester might that wants to disclose something else."""
    database = sqlite3.connect(node.settings.data_dir / "journal.sqlite")
    clearing_bytes, bid_set_bytes = database.execute(
        "SELECT clearing, bid_set FROM clearings WHERE job_id LIKE ?", (job_id,)
    ).fetchone()
    clearing = auction_pb2.Clearing.FromString(clearing_bytes)
    bid_set = auction_pb2.BidSet.FromString(bid_set_bytes)
    change(clearing, bid_set)
    database.execute(
        "UPDATE clearings SET clearing = ?, bid_set = ? WHERE job_id LIKE ?",
        (clearing.SerializeToString(), bid_set.SerializeToString(), job_id),
    )
    database.commit()
    database.close()


async def test_bids_that_were_dropped_added_or_changed_are_found_by_both_sides(tmp_path: Path) -> None:
    async with network(tmp_path, 300, 100, 200) as (requester, *nodes):
        job = await run(requester, auction=UNIFORM, max_price_microcredits=1000)
        await all_acknowledged(nodes, job.id)
        journal = requester.settings.data_dir / "journal.sqlite"
        before = sqlite3.connect(journal)
        kept = before.execute("SELECT clearing, bid_set FROM clearings").fetchone()
        evidence = before.execute("SELECT node_id, evidence FROM answers ORDER BY node_id").fetchall()
        before.close()
        loser = next(node for node in nodes if node.settings.flat_price_microcredits == 200)

        def drop(_: Any, bid_set: Any) -> None:
            entries = [entry for entry in bid_set.entries if entry.node_id != loser.node_id]
            del bid_set.entries[:]
            bid_set.entries.extend(entries)

        rewrite_clearing(requester, drop)
        for node in (requester, loser):
            (found,) = findings(await audit(node, job.id))
            assert any("not those that the awards commit to" in reason for reason in found), found
        assert any("was left out" in reason for reason in found)

        restore(journal, kept)
        rewrite_clearing(
            requester, lambda clearing, _: setattr(clearing.awards[0], "price_microcredits", 100)
        )
        for node in (requester, loser):
            (found,) = findings(await audit(node, job.id))
            assert any("winner 1 should be" in reason for reason in found), found

        restore(journal, kept)
        swap_evidence(journal, evidence)
        for node in (requester, loser):
            (found,) = findings(await audit(node, job.id))
            assert any("comes with the envelope of bid" in reason for reason in found), found


async def test_a_winner_finds_that_its_award_said_otherwise_however_much_it_did_since(tmp_path: Path) -> None:
    async with network(tmp_path, 100) as (requester, winner):
        job, later = await run(requester), await run(requester)
        await all_acknowledged([winner], job.id)
        database = sqlite3.connect(winner.settings.data_dir / "journal.sqlite")
        (columns,) = database.execute("SELECT group_concat(name) FROM pragma_table_info('work')").fetchone()
        rest = columns.removeprefix("id,")
        with database:
            database.execute(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) "
                f"INSERT INTO work ({columns}) SELECT printf('e-%d', i), {rest} FROM work, n WHERE id = ?",
                (later.executions[0].id,),
            )
        database.close()
        rewrite_clearing(
            requester, lambda clearing, _: setattr(clearing.awards[0], "price_microcredits", 99), job.id
        )
        (found,) = findings(await audit(winner, job.id))
        assert (
            f"the award of {job.executions[0].id} is for 100 microcredits, the clearing says 99" in found
        ), found


def restore(journal: Path, kept: tuple[bytes, bytes]) -> None:
    database = sqlite3.connect(journal)
    database.execute("UPDATE clearings SET clearing = ?, bid_set = ?", kept)
    database.commit()
    database.close()


def swap_evidence(journal: Path, evidence: list[tuple[str, bytes]]) -> None:
    """Each bid comes with another's envelope: one was added in its place, and one changed."""
    database = sqlite3.connect(journal)
    for (node_id, _), (_, other) in zip(evidence, [*evidence[1:], evidence[0]], strict=True):
        database.execute("UPDATE answers SET evidence = ? WHERE node_id = ?", (other, node_id))
    database.commit()
    database.close()


async def test_a_job_that_is_known_to_nobody_or_whose_requester_is_gone_cannot_be_audited(
    tmp_path: Path,
) -> None:
    async with network(tmp_path, 100) as (requester, node), client_of(node) as channel:
        market: Any = MarketServiceStub(channel)
        request = pb.AuditJobRequest(job_id="j-0000")
        assert (await refusal_from(market.AuditJob(request))).reason is RefusalReason.NOT_FOUND
        job = await run(requester)
        await all_acknowledged([node], job.id)
        await requester.stop()
        request = pb.AuditJobRequest(job_id=job.id)
        refusal = await refusal_from(market.AuditJob(request))
        assert refusal.reason is RefusalReason.CONTENT_UNAVAILABLE


# --- lists ---


async def test_offers_own_bids_and_prices_are_listed(tmp_path: Path) -> None:
    async with network(tmp_path, 100, 200) as (requester, *nodes):
        job = await run(requester)
        await all_acknowledged(nodes, job.id)
        async with client_of(requester) as channel:
            market: Any = MarketServiceStub(channel)
            (made,) = (await market.ListOffers(pb.ListOffersRequest())).offers
            (prices,) = (await market.GetPriceHistory(pb.GetPriceHistoryRequest())).prices
        assert (made.offer.job_id, made.bids, made.declines, made.awards) == (job.id, 2, 0, 1)
        # 100 microcredits for a minute.
        assert (prices.resource_class, prices.executions, prices.median_microcredits) == ("small", 1, 6000)
        async with client_of(nodes[0]) as channel:
            (bid,) = (await MarketServiceStub(channel).ListOwnBids(pb.ListOwnBidsRequest())).bids
        assert (bid.job_id, bid.requester_id, bid.price_microcredits) == (job.id, requester.node_id, 100)
        assert bid.position in (1, 2)


# --- quotes ---


async def test_an_estimate_is_cleared_by_the_rule_and_binds_nobody(tmp_path: Path) -> None:
    async with network(tmp_path, 300, 100, 2000) as (requester, *nodes):
        answer = await estimate(requester, auction=UNIFORM, max_price_microcredits=1000)
        assert [quote.node_id for quote in answer.quotes] == [
            nodes[1].node_id,
            nodes[0].node_id,
            nodes[2].node_id,
        ]
        assert answer.quotes[0].paid_microcredits == answer.total_microcredits == 300
        assert not answer.quotes[1].HasField("paid_microcredits")
        assert answer.quotes[2].refusal.reason == RefusalReason.PRICE_CEILING.value
        for node in nodes:
            assert node.driver.compute.capacity.free == node.capacity
        job = await run(requester, auction=UNIFORM, max_price_microcredits=1000)
        assert [e.price_microcredits for e in job.executions] == [300]


async def test_an_estimate_asks_no_more_than_the_job_would_be_offered_to(tmp_path: Path) -> None:
    async with network(tmp_path) as (requester,):
        answer = await estimate(requester)
        assert (len(answer.quotes), answer.wanted, answer.total_microcredits) == (0, 1, 0)


# --- price scripts ---


def script(folder: Path, body: str) -> str:
    """A program of the operator; what it got on stdin is beside it."""
    path = folder / "price"
    path.write_text(f"#!/bin/sh\ncat > '{folder}/asked.json'\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


async def test_a_script_names_the_price_and_is_told_what_the_node_would_ask(tmp_path: Path) -> None:
    command = script(tmp_path, "echo 42")
    async with network(tmp_path, 100, price_script=command) as (requester, node):
        job = await run(requester)
        assert [e.price_microcredits for e in job.executions] == [42]
        asked = json.loads((tmp_path / "asked.json").read_text())
        assert asked["requester_id"] == requester.node_id
        assert (asked["node_id"], asked["job_id"]) == (node.node_id, job.id)
        assert (asked["engine"], asked["price_microcredits"]) == ("wasm", 100)
        assert asked["resources"]["cpu_millicores"] == 100
        assert asked["capacity"]["cpu_millicores"] == asked["free"]["cpu_millicores"] == 4000
        (module,) = asked["inputs"]
        assert (module["held_bytes"], module["missing_bytes"] > 0) == (0, True)


async def test_no_script_goes_below_the_floor(tmp_path: Path) -> None:
    command = script(tmp_path, "echo 1")
    async with network(tmp_path, 100, price_script=command, price_floor_microcredits=7) as (requester, _):
        assert (await estimate(requester)).total_microcredits == 7
        job = await run(requester)
        assert [e.price_microcredits for e in job.executions] == [7]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo much", "it printed 'much', which is no whole number of microcredits"),
        ("echo 1.5", "it printed '1.5', which is no whole number of microcredits"),
        ("echo -1", "it printed '-1', which is no whole number of microcredits"),
        ("echo 9999999999999999", "more than a bid can ask"),
        ("echo 5; echo broken >&2; exit 3", "exit code 3: broken"),
        ("true", "it printed '', which is no whole number of microcredits"),
        ("sleep 60", "it gave no answer within 0.5 seconds"),
    ],
)
async def test_a_script_that_names_no_price_means_no_bid_with_its_reason(
    tmp_path: Path, body: str, said: str
) -> None:
    command = script(tmp_path, body)
    settings: dict[str, Any] = {"price_script": command, "probe_timeout_us": 500_000}
    async with network(tmp_path, 100, **settings) as (requester, _):
        job = await run(requester)
        assert "this node's price script named no price: " in job.failure.message
        assert said in job.failure.message
        (quote,) = (await estimate(requester)).quotes
        assert quote.refusal.reason == RefusalReason.PRICE_SCRIPT.value
        assert said in quote.refusal.message


async def test_a_script_may_ask_less_than_a_ceiling_that_the_node_itself_would_not_meet(
    tmp_path: Path,
) -> None:
    command = script(tmp_path, "echo 5")
    async with network(tmp_path, 100, price_script=command) as (requester, _):
        assert (await estimate(requester, max_price_microcredits=10)).total_microcredits == 5
        job = await run(requester, max_price_microcredits=10)
        assert [e.price_microcredits for e in job.executions] == [5]


async def test_a_busy_node_asks_its_script_again_when_it_is_free(tmp_path: Path) -> None:
    """Four jobs of 1.5 cores on four cores: two run, two wait, and all are priced by the script."""
    command = script(tmp_path, "echo 9")
    async with network(tmp_path, 100, price_script=command) as (requester, node):
        large = replace(node.capacity, cpu_millicores=1500, memory_bytes=1 << 26, disk_bytes=1 << 26)
        jobs = await asyncio.gather(*(run(requester, resources=large) for _ in range(4)))
        assert [[e.price_microcredits for e in job.executions] for job in jobs] == [[9]] * 4
