"""Five nodes as processes, each with a pricing strategy of its own: what users see of the market, and audits."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import stat
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from bacalhau.model.market import Bid
from bacalhau.v1 import auction_pb2
from bacalhau.v1.envelope_pb2 import SignedEnvelope, Statement
from bacalhau.v1.execution_pb2 import EXECUTION_STATE_COMPLETED
from bacalhau.v1.job_pb2 import JobState
from bacalhau.v1.job_service_pb2 import ListJobsRequest, SubmitJobRequest
from bacalhau.v1.ledger_service_pb2 import GetBalanceRequest
from bacalhau.v1.market_service_pb2 import AuditJobRequest
from bacalhau.v1.market_service_pb2_grpc import MarketServiceStub
from tests.e2e.books import check_books, wait_agreed
from tests.e2e.nodes import wait_until
from tests.node.live import HELLO, Stranger

if TYPE_CHECKING:
    from pathlib import Path

    from bacalhau.v1.job_pb2 import Job
    from tests.e2e.nodes import Network, NodeProcess

JOBS = 200
UNIFORM = ("--auction", "uniform", "--max-price", "20000u", "--cpu", "0.1", "--timeout", "60")
Five = list["NodeProcess"]


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "hello.wat"
    path.write_bytes(HELLO)
    return path


@pytest.fixture(scope="module")
def five(shared_network: Network, tmp_path_factory: pytest.TempPathFactory) -> Five:
    """The first is the requester, too; all ask less than 20,000 microcredits for a small job of a minute."""
    script = tmp_path_factory.mktemp("script") / "price"
    script.write_text("#!/bin/sh\ncat > /dev/null\necho 250\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    quick = ("--heartbeat", "500ms", "--disable-engine", "docker")
    # Auctions close when all have answered; the window is for a busy machine.
    first = shared_network.start("flat", *quick, "--price-flat", "300", "--bid-window", "20s")
    others = [
        shared_network.node("linear", *quick, "--price-cpu-second", "20"),
        shared_network.node("utilisation", *quick, "--pricing", "utilisation"),
        shared_network.node("script", *quick, "--price-script", str(script)),
        shared_network.node("held", *quick, "--price-held-discount", "50", "--price-floor", "200"),
    ]
    shared_network.join(first, *others)
    return [first, *others]


def wait_bid_kept(node: NodeProcess, job_id: str) -> None:
    """Its bid was acknowledged, and that is on its disk."""
    wait_until(lambda: job_id in node.cli("market", "bids", "--wide").stdout, f"a bid on {job_id} is kept")


def newest_job(node: NodeProcess) -> str:
    return str(json.loads(node.cli("list", "-n", "1", "--output", "json").stdout)[0]["id"])


def test_a_price_is_quoted_and_what_it_says_comes_true(five: Five, hello: Path) -> None:
    first = five[0]
    words = (*UNIFORM, str(hello))
    quoted = json.loads(first.cli("price", "wasm", "--json", *words).stdout)
    assert len(quoted["quotes"]) == 5
    assert quoted["clearing_rule"] == "UniformPrice"
    done = first.cli("wasm", "run", *words)
    assert (done.returncode, done.stdout) == (0, "Hello World\n"), done.stderr
    job = first.describe(newest_job(first))
    assert job["Auction"] == {"Rule": "uniform"}
    assert len(job["Bids"]) == 5
    (execution,) = job["Executions"]
    prices = sorted(bid["PriceMicrocredits"] for bid in job["Bids"])
    assert execution["PriceMicrocredits"] == prices[1] == quoted["total_microcredits"]
    shown = first.cli("price", "wasm", *words)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[-1].endswith("credits for 1 of 1 executions, cleared by uniform")


def test_a_price_that_nobody_would_take_says_why(five: Five, hello: Path) -> None:
    done = five[0].cli("price", "wasm", "--max-price", "1u", str(hello))
    assert done.returncode == 125
    assert "the offer allows 1: raise --max-price" in done.stdout
    assert done.stdout.endswith("0 credits for 0 of 1 executions, cleared by first-price\n")


def test_the_market_is_listed_on_both_sides(five: Five, hello: Path) -> None:
    first, linear = five[0], five[1]
    job_id = first.submit("wasm", str(hello))
    first.wait_completed(job_id)
    offers = json.loads(first.cli("market", "offers", "-n", "1", "--output", "json").stdout)
    assert (offers[0]["offer"]["job_id"], offers[0]["bids"], offers[0]["awards"]) == (job_id, 5, 1)
    assert len(json.loads(first.cli("market", "bids", job_id, "--output", "json").stdout)) == 5
    wait_bid_kept(linear, job_id)
    own = json.loads(linear.cli("market", "bids", job_id, "--output", "json").stdout)
    assert [(bid["job_id"], bid["requester_id"]) for bid in own] == [(job_id, first.node_id)]
    prices = json.loads(first.cli("market", "prices", "--since", "1d", "--output", "json").stdout)
    assert {one["resource_class"] for one in prices} == {"small"}


def test_an_audit_ends_with_0_where_an_award_follows_and_with_1_where_it_does_not(
    five: Five, hello: Path
) -> None:
    first, *others = five
    done = first.cli("wasm", "run", *UNIFORM, str(hello))
    assert done.returncode == 0, done.stderr
    job_id = newest_job(first)
    for node in others:
        wait_bid_kept(node, job_id)
    for node in five:
        done = node.cli("market", "audit", job_id)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "  follows from the bids"), done.stdout
    alter_awards(first.folder / "journal.sqlite", job_id)
    for node in five:
        done = node.cli("market", "audit", job_id)
        assert done.returncode == 1, done.stdout
        assert "does not follow: winner 1 should be" in done.stdout
    assert first.cli("market", "audit", "j-00000000").returncode == 125


def alter_awards(journal: Path, job_id: str) -> None:
    """A requester that pays its winner one microcredit less than the rule says, in what it states."""
    database = sqlite3.connect(journal)
    query = "SELECT offer_id, clearing FROM clearings WHERE job_id = ?"
    for offer_id, data in database.execute(query, (job_id,)).fetchall():
        clearing = auction_pb2.Clearing.FromString(data)
        clearing.awards[0].price_microcredits -= 1
        database.execute(
            "UPDATE clearings SET clearing = ? WHERE offer_id = ?", (clearing.SerializeToString(), offer_id)
        )
    database.commit()
    database.close()


def drop(bid_set: Any, journal: sqlite3.Connection, job: Job) -> None:
    """A loser's bid was never there."""
    (loser, *_) = [entry for entry in bid_set.entries if entry.node_id != job.executions[0].node_id]
    bid_set.entries.remove(loser)


def add(bid_set: Any, journal: sqlite3.Connection, job: Job) -> None:
    """A bid of a fresh key, well signed, that would have been the price: made when the others were known."""
    shill, bid = Stranger(), Bid("b-shill", job.executions[0].offer_id, 251, 10_000_000)
    envelope = shill.seal(bid, job.requester_id, at_us=job.create_time.ToMicroseconds()).SerializeToString()
    journal.execute(
        "INSERT INTO answers (job_id, offer_id, bid_id, node_id, received_us, bid, evidence) "
        "SELECT job_id, offer_id, ?, ?, received_us, bid, ? FROM answers WHERE job_id = ? LIMIT 1",
        (bid.id, shill.key.node_id, envelope, job.id),
    )
    entry = bid_set.entries.add()
    entry.CopyFrom(bid_set.entries[0])
    entry.bid_id, entry.node_id, entry.position = bid.id, shill.key.node_id, 6


def change(bid_set: Any, journal: sqlite3.Connection, job: Job) -> None:
    """A loser asked for more than it did: one letter of its envelope is another."""
    (loser, *_) = [entry for entry in bid_set.entries if entry.node_id != job.executions[0].node_id]
    (evidence,) = journal.execute(
        "SELECT evidence FROM answers WHERE bid_id = ? AND node_id = ?", (loser.bid_id, loser.node_id)
    ).fetchone()
    envelope = SignedEnvelope.FromString(evidence)
    statement = Statement.FromString(envelope.payload)
    statement.bid.price_microcredits += 1
    envelope.payload = statement.SerializeToString(deterministic=True)
    journal.execute(
        "UPDATE answers SET evidence = ? WHERE bid_id = ? AND node_id = ?",
        (envelope.SerializeToString(), loser.bid_id, loser.node_id),
    )


@pytest.mark.parametrize(
    ("alter", "found"),
    [
        (drop, "not those that the awards commit to"),
        (add, "not those that the awards commit to"),
        (change, "has no signed envelope"),
    ],
    ids=["dropped", "added", "changed"],
)
def test_a_bid_set_that_was_altered_on_disk_fails_the_audit_of_its_requester_and_of_every_bidder(
    five: Five, hello: Path, alter: Any, found: str
) -> None:
    first, *others = five
    job_id = first.submit("wasm", *UNIFORM, str(hello))
    job = first.wait_completed(job_id)
    for node in others:
        wait_bid_kept(node, job_id)
        assert node.cli("market", "audit", job_id).returncode == 0
    with contextlib.closing(sqlite3.connect(first.folder / "journal.sqlite")) as journal, journal:
        (data,) = journal.execute("SELECT bid_set FROM clearings WHERE job_id = ?", (job_id,)).fetchone()
        bid_set = auction_pb2.BidSet.FromString(data)
        alter(bid_set, journal, job)
        journal.execute(
            "UPDATE clearings SET bid_set = ? WHERE job_id = ?", (bid_set.SerializeToString(), job_id)
        )
    for node in five:
        done = node.cli("market", "audit", job_id)
        assert done.returncode == 1, done.stdout
        assert found in done.stdout, done.stdout


def test_two_hundred_jobs_under_every_rule_complete_each_award_follows_and_all_five_books_agree(
    five: Five, hello: Path
) -> None:
    first = five[0]
    added = first.cli("ipfs", "add", "-q", str(hello))
    module = added.stdout.split()[-1]
    answers = [first.jobs.SubmitJob.future(request(module, number), timeout=60) for number in range(JOBS)]
    jobs = [answer.result().job.id for answer in answers]
    market: Any = MarketServiceStub(first.channel)
    nodes: set[str] = set()
    for job_id in jobs:
        job = first.wait_ended(job_id)
        assert job.state == JobState.JOB_STATE_COMPLETED, job.failure
        nodes.update(execution.node_id for execution in job.executions)
        audit = market.AuditJob(AuditJobRequest(job_id=job_id), timeout=60)
        assert audit.clearings
        assert [list(clearing.findings) for clearing in audit.clearings if clearing.findings] == []
    assert len(nodes) > 1
    check_charged(first, five)
    for node in five:
        check_books(node)


def check_charged(requester: NodeProcess, workers: Five) -> None:
    """Each of them agrees with the requester on what all its jobs, these and those before, were charged for its
    work, and nothing is set aside any more."""
    charged: defaultdict[str, list[int]] = defaultdict(list)
    jobs = requester.jobs.ListJobs(ListJobsRequest(page_size=1000), timeout=60)
    assert not jobs.next_page_token
    for job in jobs.jobs:
        # Only these have a receipt: on a busy machine an award may be refused, for its bid has ended.
        (execution,) = [one for one in job.executions if one.state == EXECUTION_STATE_COMPLETED]
        charged[execution.node_id].append(execution.charged_microcredits)
    by_id = {worker.node_id: worker for worker in workers}
    for node_id, amounts in charged.items():
        agreed = wait_agreed(requester, by_id[node_id], receipts=len(amounts))
        assert agreed.charged_microcredits == sum(amounts)
    own = requester.ledger.GetBalance(GetBalanceRequest(), timeout=60).balance
    assert (own.payable_microcredits, own.escrow_microcredits) == (sum(map(sum, charged.values())), 0)


def request(module: str, number: int) -> SubmitJobRequest:
    """A small job of a minute; the rules take turns."""
    message = SubmitJobRequest()
    spec = message.spec
    spec.wasm.module_cid = module
    spec.resources.cpu_millicores, spec.resources.memory_bytes = 100, 1 << 26
    spec.resources.disk_bytes = 1 << 26
    spec.timeouts.execution.seconds = 60
    spec.max_price_microcredits = 20_000
    spec.auction.rule = 1 + number % 4  # type: ignore[assignment]
    if number % 4 == 2:
        spec.auction.weights.input_gib_microcredits = 1_000_000
    return message
